//! The data of a new layer on its way into its file, from several threads.
//!
//! It goes past the system's page cache where memory and place allow: what is restored is used later
//! if at all, and what is read back to be compared comes from the device.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;
use stillpoint_model::ByteRange;

use super::disk;

/// What places, lengths and addresses are multiples of.
const BLOCK: usize = 4096;

/// A file that is written in any order.
pub(super) struct Output {
    file: File,
    /// Past the page cache; none where the file system cannot.
    direct: Option<File>,
}

impl Output {
    /// For an open file, and where it is.
    pub(super) fn new(file: &File, path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        options.write(true).custom_flags(libc::O_DIRECT);
        Ok(Self {
            file: file.try_clone()?,
            direct: options.open(path).ok(),
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

fn is_aligned(data: &[u8], offset: u64) -> bool {
    data.as_ptr().align_offset(BLOCK) == 0
        && data.len().is_multiple_of(BLOCK)
        && offset.is_multiple_of(BLOCK as u64)
}
