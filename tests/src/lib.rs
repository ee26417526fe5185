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

pub mod browser;
pub mod debian;
pub mod hash;
pub mod mount;
pub mod process;
pub mod server;
pub mod storage_daemon;
pub mod wait;
