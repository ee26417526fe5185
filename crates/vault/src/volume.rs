//! What the vault reads from and writes to.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use stillpoint_model::{ByteCount, ByteRange};

/// The frozen content of a volume.
pub trait VolumeReader {
    /// Its size.
    fn size(&self) -> ByteCount;

    /// Fills `buf` from `offset`. Never asked beyond the size.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// The first range at or after `offset` that may hold something else than zeros; none when
    /// only zeros follow. It may start before `offset`. What is between is not read.
    fn next_data(&self, offset: u64) -> io::Result<Option<ByteRange>> {
        let size = self.size().get();
        Ok((offset < size).then(|| ByteRange::new(offset, size - offset)))
    }
}

/// A volume that a restore writes. It has at least the backup's size. Called from several threads;
/// what they write does not overlap.
pub trait VolumeWriter: Sync {
    /// Data will be written to all of a range, in parts and in any order: room may be made at once,
    /// which is quicker than piece by piece and keeps neighbours together. Reads as before.
    fn reserve(&self, _range: ByteRange) -> io::Result<()> {
        Ok(())
    }

    /// Writes `data` at `offset`.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Makes a range read as zeros, by writing or by discarding.
    fn write_zeros(&self, range: ByteRange) -> io::Result<()>;

    /// Makes everything written durable.
    fn flush(&self) -> io::Result<()>;

    /// Reads back what is there now, after the flush.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Whether the volume was made for this restore and reads as zeros where nothing was written.
    fn is_fresh(&self) -> bool {
        false
    }

    /// As [`VolumeReader::next_data`], of what is there now, without an end at the size: none
    /// says that only zeros follow.
    fn next_data(&self, offset: u64) -> io::Result<Option<ByteRange>> {
        Ok(Some(ByteRange::new(offset, u64::MAX - offset)))
    }
}

/// A file or a block device as the frozen content of a volume.
#[derive(Debug)]
pub struct ReadAt {
    file: File,
    size: ByteCount,
}

impl ReadAt {
    /// The first `size` bytes of a file, which nobody writes meanwhile.
    pub fn new(file: File, size: ByteCount) -> Self {
        Self { file, size }
    }
}

impl VolumeReader for ReadAt {
    fn size(&self) -> ByteCount {
        self.size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<ByteRange>> {
        Ok(next_extent(&self.file, offset)?.filter(|range| range.offset < self.size.get()))
    }
}

/// The next range of a file that is no hole.
pub(crate) fn next_extent(file: &File, offset: u64) -> io::Result<Option<ByteRange>> {
    use rustix::fs::{SeekFrom, seek};
    let start = match seek(file, SeekFrom::Data(offset)) {
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        other => other?,
    };
    let end = seek(file, SeekFrom::Hole(start))?;
    Ok(Some(ByteRange::new(start, end.saturating_sub(start))))
}
