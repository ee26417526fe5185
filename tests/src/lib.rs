//! What end-to-end tests, the demo and the benchmarks stand on: a real Debian disk, volumes
//! mounted through their qcow2 layers, the real server as a process, a real browser.
//!
//! Everything here needs root (loop devices, mounts) and the packages of `scripts/deps test`.
//! Whatever a test starts or mounts is owned by a value that ends it when dropped, a panic
//! included. A test that was killed leaves mounts behind: the next one reaps them.
//!
//! A harness reports by panicking, with the command, its output and what was waited for: the
//! reader of a failed test has nothing else.
//!
//! **Invariant:** nothing waits for time to pass. Waiting is for a line, an answer or a
//! condition, with a deadline that fails the test.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a harness fails its test by panicking, and says why on stderr"
)]

use std::path::{Path, PathBuf};

pub mod browser;
pub mod bucket;
pub mod debian;
pub mod export;
pub mod folder;
pub mod guest;
pub mod guest_shell;
pub mod hash;
pub mod journal;
pub mod ledger;
pub mod leftovers;
pub mod lossy;
pub mod machine;
pub mod mount;
pub mod person;
pub mod pool;
pub mod process;
pub mod server;
pub mod storage_daemon;
pub mod visitor;
pub mod wait;

/// The folder for what is costly to make and cheap to keep, outside of version control: real
/// disk space, unlike a temporary folder that may be in memory.
///
/// # Panics
/// When it cannot be made.
#[track_caller]
pub fn cache_folder() -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the repository");
    let cache = repository.join(".cache");
    std::fs::create_dir_all(&cache).expect("create .cache");
    cache
}

/// A folder for whole volumes that are looked at once: in memory where that can be, since nobody
/// needs them on a disk.
///
/// # Panics
/// When it cannot be made.
#[track_caller]
pub fn scratch_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() {
        memory.to_owned()
    } else {
        cache_folder()
    };
    tempfile::Builder::new()
        .prefix("stillpoint-scratch.")
        .tempdir_in(place)
        .expect("a folder")
}
