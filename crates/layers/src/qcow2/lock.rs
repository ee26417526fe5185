//! QEMU's locks on image files, so that nothing offline touches what a machine has open.
//!
//! QEMU says what it does to a file by shared locks on single bytes, of the kind that belongs to
//! an open file description: byte 100 + n for each permission n that it uses, byte 200 + n for
//! each that it lets nobody else use (`raw_apply_lock_bytes` in QEMU's `block/file-posix.c`).

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

const USED: i64 = 100;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;
/// From the first byte that says something to the last.
const ALL_LEN: i64 = 200;

/// Whether another process may write to the file.
pub(super) fn has_writer(file: &File) -> io::Result<bool> {
    Ok(is_locked(file, USED + WRITE)? || is_locked(file, USED + RESIZE)?)
}

/// Whether any QEMU has the file open.
pub(super) fn is_open(file: &File) -> io::Result<bool> {
    let mut lock = exclusive(USED, ALL_LEN);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

/// Keeps every QEMU out for as long as the file is open; false when one has it open.
pub(super) fn keep_out(file: &File) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&exclusive(USED, ALL_LEN))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn is_locked(file: &File, byte: i64) -> io::Result<bool> {
    let mut lock = exclusive(byte, 1);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

fn exclusive(start: i64, len: i64) -> libc::flock {
    libc::flock {
        l_type: i16::try_from(libc::F_WRLCK).unwrap_or_default(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: start,
        l_len: len,
        l_pid: 0,
    }
}
