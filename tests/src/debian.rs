//! Real disks, made by scripts that people can run, too.

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
    let output = run(&mut Command::new(script("debian-disk")));
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

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../scripts")
        .join(name)
}
