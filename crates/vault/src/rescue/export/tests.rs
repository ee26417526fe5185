//! An image that was exported is the disk that was backed up, to QEMU's own tools.

use std::fs;
use std::path::Path;
use std::process::Command;

use stillpoint_model::progress::NullMonitor;

use super::{DiskFormat, export_to_file, export_to_pipe};
use crate::rescue::qcow2::Layout;
use crate::tests::support::{Bench, CHUNK, Disk};
use crate::{BackupInfo, Error};

/// A backup of a volume with data here and there, in more than one L2 table.
fn furnished() -> (Bench, Disk, BackupInfo) {
    let bench = Bench::new(11);
    let mut disk = Disk::new((600 << 20) + 512);
    let last = disk.size / CHUNK;
    for chunk in (0..9).chain([11, 100, 4095, 4096, 30_000, 35_000, last]) {
        disk.fill(chunk, chunk + 1);
    }
    let backup = bench.back_up(&disk, None, None).backup_id;
    let info = bench.vault.describe(bench.volume, backup).unwrap();
    (bench, disk, info)
}

fn assert_holds(raw: &[u8], disk: &Disk) {
    assert_eq!(raw.len() as u64, disk.size);
    let mut sound = 0;
    for (chunk, bytes) in (0..).zip(raw.chunks(1 << 14)) {
        match disk.chunks.get(&chunk) {
            Some(data) => assert!(data[..bytes.len()] == *bytes, "chunk {chunk}"),
            None => assert!(bytes.iter().all(|&byte| byte == 0), "chunk {chunk}"),
        }
        sound += 1;
    }
    assert_eq!(sound, disk.size.div_ceil(CHUNK));
}

fn qemu_img(arguments: &[&str], paths: &[&Path]) {
    let ended = Command::new("qemu-img")
        .args(arguments)
        .args(paths)
        .output();
    let ended = ended.unwrap();
    assert!(ended.status.success(), "{arguments:?}: {ended:?}");
}

#[test]
fn a_qcow2_file_is_sound_and_holds_the_disk() {
    let (bench, disk, info) = furnished();
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    let done = export_to_file(&bench.vault, &info, DiskFormat::Qcow2, &image, &NullMonitor);
    assert_eq!(done.unwrap().provisioned.get(), disk.size);
    qemu_img(&["check", "-q", "-f", "qcow2"], &[&image]);
    let raw = folder.path().join("raw");
    qemu_img(&["convert", "-f", "qcow2", "-O", "raw"], &[&image, &raw]);
    assert_holds(&fs::read(&raw).unwrap(), &disk);
    let len = fs::metadata(&image).unwrap().len();
    assert!(len < 4 << 20, "{len} bytes");
}

#[test]
fn what_goes_into_a_pipe_is_what_goes_into_a_file() {
    let (bench, disk, info) = furnished();
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    export_to_file(&bench.vault, &info, DiskFormat::Qcow2, &image, &NullMonitor).unwrap();
    let piped = |format| {
        let mut bytes = vec![];
        export_to_pipe(&bench.vault, &info, format, &mut bytes, &NullMonitor).unwrap();
        bytes
    };
    assert!(piped(DiskFormat::Qcow2) == fs::read(&image).unwrap());
    assert_holds(&piped(DiskFormat::Raw), &disk);
}

#[test]
fn damage_leaves_no_file() {
    let (bench, _, info) = furnished();
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    for name in bench.target.names() {
        if name.as_str().contains("/packs/") && !name.as_str().contains("/8000") {
            bench.target.tamper(&name, |bytes| bytes[500] ^= 1);
        }
    }
    for format in [DiskFormat::Raw, DiskFormat::Qcow2] {
        let failed = export_to_file(&bench.vault, &info, format, &image, &NullMonitor);
        assert!(matches!(failed, Err(Error::Corrupt { .. })), "{failed:?}");
        assert!(!image.exists());
    }
}

#[test]
fn a_volume_that_qcow2_cannot_hold_is_refused() {
    let size = |tib: u64| stillpoint_model::ByteCount::new(tib << 40);
    assert!(Layout::new(size(2048), []).is_some());
    assert!(Layout::new(size(2049), []).is_none());
}
