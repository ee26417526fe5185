//! Data of layers past the system's page cache, where memory and place allow.
//!
//! What is restored is used later if at all, and what is read back to be compared has to come from
//! the device. In the page cache it would push out what machines work with.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;
use stillpoint_model::ByteRange;

use super::disk;

/// What places, lengths and addresses are multiples of.
const BLOCK: usize = 4096;

/// A new layer's file, which several threads write in any order.
pub(super) struct Output {
    file: File,
    /// Past the page cache; none where the file system cannot.
    direct: Option<File>,
}

impl Output {
    /// For an open file.
    pub(super) fn new(file: &File) -> io::Result<Self> {
        Ok(Self {
            file: file.try_clone()?,
            direct: reopen(file, File::options().write(true)),
        })
    }

    /// Gives a stretch of the file its blocks.
    pub(super) fn allocate(&self, range: ByteRange) -> io::Result<()> {
        match range.is_empty() {
            true => Ok(()),
            false => disk::allocate(&self.file, range.offset, range.len),
        }
    }

    /// Writes data. Not durable yet.
    pub(super) fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        if let Some(direct) = self.direct.as_ref().filter(|_| is_aligned(data, offset)) {
            match disk::write(direct, data, offset) {
                // The file system has second thoughts about whole blocks.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                other => return other,
            }
        }
        disk::write(&self.file, data, offset)
    }
}

/// Opens an open file once more, past the page cache, whatever its name is by now; none where the
/// file system cannot.
pub(super) fn reopen(file: &File, options: &mut OpenOptions) -> Option<File> {
    let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
    options.custom_flags(libc::O_DIRECT).open(itself).ok()
}

/// Whether memory, length and place are what such a file asks for.
pub(super) fn is_aligned(data: &[u8], offset: u64) -> bool {
    data.as_ptr().align_offset(BLOCK) == 0
        && data.len().is_multiple_of(BLOCK)
        && offset.is_multiple_of(BLOCK as u64)
}
