//! Real disks, and what runs them, from scripts that people can run, too.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::run;

/// A raw, sparse image of a Debian system with more than 300 MB of files: read it, copy it,
/// never write it. Built on the first call on a machine (about 20 s, needs the apt mirror) and
/// kept in `.cache/` until the recipe changes.
///
/// # Panics
/// When it cannot be built.
#[track_caller]
pub fn debian_disk() -> PathBuf {
    path_from("debian-disk")
}

/// A raw image of a small guest that boots, has the guest agent, and says `<host> is up` on its
/// console: read it, copy it, never write it. Kept in `.cache/`.
///
/// # Panics
/// When it cannot be built.
#[track_caller]
pub fn small_guest() -> PathBuf {
    path_from("small-guest")
}

/// Makes a raw disk of the small guest that also runs `program`, with `files` in its `/opt`.
///
/// # Panics
/// When it cannot be made.
#[track_caller]
pub fn guest_with(program: &Path, disk: &Path, files: &[PathBuf]) {
    run(Command::new(script("guest-with"))
        .arg(program)
        .arg(disk)
        .args(files));
}

/// Where the root file system begins in the disk of the small guest.
pub const ROOT_OFFSET: u64 = 33 << 20;

/// Runs these commands of `debugfs` on the root file system in a raw disk of the small guest.
/// Answers the lines that it printed, without the commands themselves.
///
/// # Panics
/// When it cannot be run. It ends well whatever its commands did.
#[track_caller]
pub fn debugfs(disk: &Path, commands: &str) -> String {
    // It stands where a user's search path may not lead.
    let known = ["/usr/sbin/debugfs", "/sbin/debugfs"].map(PathBuf::from);
    let found = known.into_iter().find(|path| path.exists());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("commands");
    std::fs::write(&file, commands).expect("write the commands");
    let mut debugfs = Command::new(found.unwrap_or_else(|| "debugfs".into()));
    debugfs.args(["-w", "-f"]).arg(&file);
    let image = format!("{}?offset={ROOT_OFFSET}", disk.display());
    let printed = run(debugfs.arg(image)).stdout;
    let printed = String::from_utf8_lossy(&printed).into_owned();
    let answers = printed
        .lines()
        .filter(|line| !line.starts_with("debugfs: "));
    answers.collect::<Vec<_>>().join("\n")
}

/// A raw image of a disk with PostgreSQL and an empty database, for a guest that runs
/// `tests/guests/database.sh`: read it, copy it, never write it. Kept in `.cache/`.
///
/// # Panics
/// When it cannot be built.
#[track_caller]
pub fn database_disk() -> PathBuf {
    path_from("database-disk")
}

/// The QEMU that runs guests.
///
/// # Panics
/// When there is none to be had.
#[track_caller]
pub fn qemu() -> PathBuf {
    path_from("qemu")
}

/// The path that a script prints.
#[track_caller]
fn path_from(name: &str) -> PathBuf {
    let output = run(&mut Command::new(script(name)));
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end())
}

/// Makes a raw image of 256 MiB with the files of a few Debian packages, about 60 MB.
///
/// # Panics
/// When it cannot be made.
#[track_caller]
pub fn make_small_disk(image: &Path) {
    run(Command::new(script("small-disk")).arg(image));
}

pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../scripts")
        .join(name)
}
