//! What proves that a volume holds the bytes it should.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use crate::process::run;

/// The BLAKE3 hash of everything `reader` gives, holes read as the zeros they are.
///
/// # Panics
/// When reading fails.
#[track_caller]
pub fn whole_volume_hash(mut reader: impl Read) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer).expect("read the volume") {
            0 => return hasher.finalize(),
            n => hasher.update(&buffer[..n]),
        };
    }
}

/// [`whole_volume_hash`] of a raw file or device.
///
/// # Panics
/// When it cannot be read.
#[track_caller]
pub fn file_hash(path: &Path) -> blake3::Hash {
    whole_volume_hash(File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

/// Checks the ext4 file system in a raw file or device, changing nothing: every structure, even
/// when the file system says it is clean.
///
/// # Panics
/// With what e2fsck found.
#[track_caller]
pub fn check_ext4(path: &Path) {
    run(Command::new("e2fsck").args(["-f", "-n"]).arg(path));
}
