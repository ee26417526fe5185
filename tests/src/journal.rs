//! A guest that writes to the file systems of two disks in lock-step, and what copies of them show.
//! What it does is in `tests/guests/journal.sh`.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use stillpoint_model::ByteCount;

use crate::debian::{guest_with, script};
use crate::process::run;

/// Makes a raw disk that boots the guest. Its data disks are to be its second and its third.
///
/// # Panics
/// When it cannot be made.
#[track_caller]
pub fn make_root(disk: &Path) {
    let work = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/journal.sh");
    guest_with(&work, disk, &[]);
}

/// Makes a raw data disk: an empty file system.
///
/// # Panics
/// When it cannot be made.
#[track_caller]
pub fn make_data(disk: &Path, size: ByteCount) {
    let made = File::create(disk).and_then(|file| file.set_len(size.get()));
    made.unwrap_or_else(|error| panic!("{}: {error}", disk.display()));
    run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(disk));
}

/// How many steps a raw copy of a data disk shows, once what its file system's journal holds is
/// replayed.
///
/// # Panics
/// When it is not whole then, or the steps are not.
#[track_caller]
pub fn steps(copy: &Path) -> u64 {
    let output = run(Command::new(script("check-journal")).arg(copy));
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().expect("a number of steps")
}
