//! Images made to hurt whoever reads them.

use std::fs;
use std::path::Path;
use std::process::Command;

use stillpoint_model::progress::NullMonitor;
use stillpoint_model::task::ImageFormat;
use stillpoint_model::{ByteCount, ErrorKind};

use super::{Bench, run};
use crate::driver::LayerMap;
use crate::qcow2::{FormatError, Upload};
use crate::{Error, ImageSource, LayerPool, Pool};

fn import(
    bench: &Bench,
    pool: &LayerPool<crate::qcow2::Qcow2Driver>,
    path: &Path,
    format: ImageFormat,
) -> Result<(), Error> {
    let source = ImageSource {
        path: path.to_owned(),
        format,
    };
    pool.import(
        bench.volume(),
        &source,
        ByteCount::from_mib(64),
        &NullMonitor,
    )
    .map(drop)
}

/// A qcow2 image of 4 MiB with something in it.
fn image(bench: &Bench, options: &[&str]) -> std::path::PathBuf {
    let path = bench.path("image.qcow2");
    let mut create = Command::new("qemu-img");
    run(create
        .args(["create", "-q", "-f", "qcow2"])
        .args(options)
        .arg(&path)
        .arg("4M"));
    let mut write = Command::new("qemu-io");
    run(write
        .args(["-f", "qcow2", "-c", "write -P 5 1M 1M"])
        .arg(&path));
    path
}

fn patched(bench: &Bench, offset: usize, bytes: &[u8]) -> std::path::PathBuf {
    let path = image(bench, &[]);
    let mut content = fs::read(&path).unwrap();
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
    fs::write(&path, content).unwrap();
    path
}

/// Where to write what, and how the reader must answer.
type Lie = (&'static str, usize, Vec<u8>, FormatError);

fn lies() -> Vec<Lie> {
    let far = (1u64 << 60).to_be_bytes();
    vec![
        ("magic", 0, vec![0], FormatError::BadMagic),
        ("version", 4, vec![0, 0, 0, 9], FormatError::Version(9)),
        (
            "cluster bits",
            20,
            vec![0, 0, 0, 40],
            FormatError::Header("the cluster size"),
        ),
        (
            "disk size",
            24,
            vec![0; 8],
            FormatError::Header("the size of the disk"),
        ),
        ("encryption", 32, vec![0, 0, 0, 1], FormatError::Encrypted),
        (
            "L1 length",
            36,
            vec![0xff; 4],
            FormatError::Header("the length of its L1 table"),
        ),
        (
            "L1 too short",
            36,
            vec![0; 4],
            FormatError::Header("the length of its L1 table"),
        ),
        (
            "snapshots",
            60,
            vec![0, 0, 0, 1],
            FormatError::InternalSnapshots,
        ),
        ("dirty", 79, vec![1], FormatError::Dirty),
        ("corrupt", 79, vec![2], FormatError::MarkedCorrupt),
        ("data file", 79, vec![4], FormatError::DataFile),
        ("features", 72, vec![0x80], FormatError::Features(1 << 63)),
        (
            "L1 place",
            40,
            far.to_vec(),
            FormatError::OutsideFile {
                what: "L1 table",
                offset: 1 << 60,
            },
        ),
        (
            "L1 over header",
            40,
            vec![0; 8],
            FormatError::Overlap {
                what: "L1 table",
                offset: 0,
            },
        ),
        (
            "refcounts unaligned",
            55,
            vec![1],
            FormatError::Unaligned {
                what: "refcount table",
                offset: 0x1_0001,
            },
        ),
    ]
}

#[test]
fn each_lie_of_a_header_has_its_reason() {
    let bench = Bench::new(21);
    let pool = bench.open();
    for (name, offset, bytes, reason) in lies() {
        let path = patched(&bench, offset, &bytes);
        match import(&bench, &pool, &path, ImageFormat::Qcow2) {
            Err(Error::ImageRefused(found)) => assert_eq!(found, reason, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!(pool.tree().layers().count(), 0, "nothing was made");
    assert_eq!(pool.orphans().unwrap(), []);
}

#[test]
fn images_that_lead_elsewhere_are_refused() {
    let bench = Bench::new(22);
    let pool = bench.open();
    let secret = bench.path("secret");
    fs::write(&secret, vec![7; 4 << 20]).unwrap();
    let path = image(&bench, &["-F", "raw", "-b", secret.to_str().unwrap()]);
    let refused = import(&bench, &pool, &path, ImageFormat::Qcow2);
    assert!(matches!(
        refused,
        Err(Error::ImageRefused(FormatError::BackingFile))
    ));
    let data = format!("data_file={}", bench.path("data").display());
    let path = image(&bench, &["-o", &data]);
    let refused = import(&bench, &pool, &path, ImageFormat::Qcow2);
    assert!(matches!(
        refused,
        Err(Error::ImageRefused(FormatError::DataFile))
    ));
    let link = bench.path("link");
    std::os::unix::fs::symlink(&secret, &link).unwrap();
    let refused = import(&bench, &pool, &link, ImageFormat::Raw);
    assert!(matches!(refused, Err(Error::ImageUnreadable(_))));
    run(Command::new("mkfifo").arg(bench.path("pipe")));
    let refused = import(&bench, &pool, &bench.path("pipe"), ImageFormat::Raw);
    assert!(matches!(
        refused,
        Err(Error::ImageRefused(FormatError::NotAFile))
    ));
}

#[test]
fn what_was_declared_counts() {
    let bench = Bench::new(23);
    let pool = bench.open();
    let path = image(&bench, &[]);
    let refused = import(&bench, &pool, &path, ImageFormat::Raw);
    assert!(matches!(
        refused,
        Err(Error::ImageRefused(FormatError::NotRaw))
    ));
    fs::write(&path, vec![1; 1 << 20]).unwrap();
    let refused = import(&bench, &pool, &path, ImageFormat::Qcow2);
    assert!(matches!(
        refused,
        Err(Error::ImageRefused(FormatError::BadMagic))
    ));
    fs::write(&path, []).unwrap();
    for format in [ImageFormat::Raw, ImageFormat::Qcow2] {
        let refused = import(&bench, &pool, &path, format);
        assert_eq!(
            refused.map_err(|e| e.kind()),
            Err(ErrorKind::Invalid),
            "{format}"
        );
    }
}

#[test]
fn a_small_image_with_a_huge_disk_is_refused_before_anything_is_written() {
    let bench = Bench::new(24);
    let pool = bench.open();
    let path = bench.path("huge.qcow2");
    let mut create = Command::new("qemu-img");
    run(create
        .args(["create", "-q", "-f", "qcow2"])
        .arg(&path)
        .arg("100T"));
    let refused = import(&bench, &pool, &path, ImageFormat::Qcow2);
    assert!(matches!(refused, Err(Error::ImageTooLarge { .. })));
}

#[test]
fn a_truncated_image_leaves_no_volume() {
    let bench = Bench::new(25);
    let pool = bench.open();
    let path = image(&bench, &[]);
    let len = fs::metadata(&path).unwrap().len();
    for cut in [10, 100, 70_000, 200_000, len - (1 << 19)] {
        let path = image(&bench, &[]);
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(cut)
            .unwrap();
        let refused = import(&bench, &pool, &path, ImageFormat::Qcow2);
        assert_eq!(
            refused.map_err(|e| e.kind()),
            Err(ErrorKind::Invalid),
            "{cut}"
        );
    }
    assert_eq!(pool.tree().records().count(), 0);
    assert_eq!(pool.orphans().unwrap(), []);
}

/// Where the first L2 table of an image is, and its cluster size.
fn first_table(content: &[u8]) -> (usize, usize) {
    let number = |at: usize| u64::from_be_bytes(content[at..at + 8].try_into().unwrap());
    let l1 = usize::try_from(number(40)).unwrap();
    let l2 = usize::try_from(number(l1) & 0x00ff_ffff_ffff_fe00).unwrap();
    (
        l2,
        1 << u32::from_be_bytes(content[20..24].try_into().unwrap()),
    )
}

#[test]
fn a_cluster_that_is_used_twice_is_refused() {
    let bench = Bench::new(27);
    let pool = bench.open();
    let path = image(&bench, &[]);
    let mut content = fs::read(&path).unwrap();
    let (l2, cluster) = first_table(&content);
    // What stands at 1 MiB of the disk is to stand at its start, too.
    let used = l2 + (1 << 20) / cluster * 8;
    let entry: [u8; 8] = content[used..used + 8].try_into().unwrap();
    content[l2..l2 + 8].copy_from_slice(&entry);
    fs::write(&path, content).unwrap();
    let refused = import(&bench, &pool, &path, ImageFormat::Qcow2);
    let offset = u64::from_be_bytes(entry) & 0x00ff_ffff_ffff_fe00;
    let what = "data";
    assert!(
        matches!(refused, Err(Error::ImageRefused(FormatError::Overlap { what: w, offset: o }))
            if w == what && o == offset),
        "{refused:?}"
    );
    assert_eq!(pool.tree().records().count(), 0);
}

/// A compressed image of 4 GiB whose only cluster is used for all of it.
fn bomb(bench: &Bench) -> std::path::PathBuf {
    let (raw, path) = (bench.path("bomb.raw"), bench.path("bomb.qcow2"));
    fs::write(&raw, vec![5; 64 << 10]).unwrap();
    run(Command::new("truncate").args(["-s", "4G"]).arg(&raw));
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-c", "-f", "raw", "-O", "qcow2"]);
    run(convert
        .args(["-o", "cluster_size=64k"])
        .arg(&raw)
        .arg(&path));
    let mut content = fs::read(&path).unwrap();
    let (l2, cluster) = first_table(&content);
    let entry: [u8; 8] = content[l2..l2 + 8].try_into().unwrap();
    let l1 = usize::try_from(u64::from_be_bytes(content[40..48].try_into().unwrap())).unwrap();
    // Eight tables of 512 MiB each, one after the other behind the end.
    content.resize(content.len().next_multiple_of(cluster), 0);
    for table in 0..8 {
        let place = content.len();
        content.extend(entry.repeat(cluster / 8));
        let named = (place as u64 | 1 << 63).to_be_bytes();
        content[l1 + table * 8..l1 + table * 8 + 8].copy_from_slice(&named);
    }
    fs::write(&path, content).unwrap();
    path
}

#[test]
fn a_compressed_bomb_is_refused_before_anything_is_written() {
    let bench = Bench::new(28);
    let pool = bench.open();
    let path = bomb(&bench);
    assert!(fs::metadata(&path).unwrap().len() < 2 << 20);
    let source = ImageSource {
        path,
        format: ImageFormat::Qcow2,
    };
    let max = ByteCount::from_gib(1 << 10);
    let refused = pool.import(bench.volume(), &source, max, &NullMonitor);
    assert!(
        matches!(
            refused,
            Err(Error::ImageRefused(FormatError::Unpacks { unpacked, .. })) if unpacked == 4 << 30
        ),
        "{refused:?}"
    );
    assert_eq!(pool.tree().records().count(), 0);
    assert_eq!(pool.orphans().unwrap(), []);
}

/// Opens whatever it is and reads what it says to hold, up to a bound.
fn read_all(path: &Path) -> Result<u64, Error> {
    const ENOUGH: u64 = 16 << 20;
    let upload = Upload::open(fs::File::open(path).unwrap())?;
    let mut buffer = vec![0; 1 << 16];
    let (mut offset, mut steps) = (0, 0);
    while offset < upload.size().get().min(ENOUGH) && steps < 10_000 {
        let run = upload.run_at(offset)?;
        assert!(run.len > 0 && offset + run.len <= upload.size().get());
        let len = usize::try_from(run.len).unwrap().min(buffer.len());
        if run.holds == crate::driver::Holds::Data {
            upload.read_data(offset, &mut buffer[..len])?;
            offset += len as u64;
        } else {
            offset += run.len;
        }
        steps += 1;
    }
    Ok(offset)
}

#[test]
fn random_damage_never_panics() {
    let bench = Bench::new(26);
    let kinds: [&[&str]; 3] = [
        &[],
        &["-o", "extended_l2=on,cluster_size=16k"],
        &["-o", "cluster_size=512"],
    ];
    let mut refused = 0;
    for options in kinds {
        let path = image(&bench, options);
        let packed = bench.path("packed.qcow2");
        let mut convert = Command::new("qemu-img");
        convert
            .args(["convert", "-c", "-f", "qcow2", "-O", "qcow2"])
            .args(options);
        run(convert.arg(&path).arg(&packed));
        for original in [fs::read(&path).unwrap(), fs::read(&packed).unwrap()] {
            // Headers and tables stand in the first clusters; data is not parsed.
            let tables = original.len().min(400_000) as u64;
            for round in 0..400 {
                let mut content = original.clone();
                for _ in 0..1 + bench.below(4) {
                    let bound = if round % 2 == 0 { 112 } else { tables };
                    let at = usize::try_from(bench.below(bound)).unwrap();
                    content[at] = u8::try_from(bench.below(256)).unwrap();
                }
                if bench.below(10) == 0 {
                    content.truncate(usize::try_from(bench.below(tables)).unwrap());
                }
                let victim = bench.path("victim");
                fs::write(&victim, content).unwrap();
                refused += u32::from(read_all(&victim).is_err());
            }
        }
    }
    assert!(refused > 200, "{refused} of 2400 were refused");
}
