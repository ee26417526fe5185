//! Images that somebody uploaded: read with suspicion, as what they were declared to be.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use stillpoint_model::progress::Monitor;
use stillpoint_model::task::ImageFormat;
use stillpoint_model::{ByteCount, ByteRange};

use crate::chain::Chain;
use crate::driver::{Holds, LayerMap, Run};
use crate::qcow2::{self, FormatError};
use crate::{BLOCK_SIZE, Error, ImageSource, RestoreWriter, SECTOR_SIZE};

/// How much is read at once, in bytes.
const PIECE: usize = 1 << 20;

/// An image, opened and found harmless.
pub(crate) struct Image {
    content: Chain,
    size: ByteCount,
}

impl Image {
    /// Opens what was declared, refusing what is too large, names other files, or is not what
    /// it was declared to be.
    pub(crate) fn open(source: &ImageSource, max_size: ByteCount) -> Result<Self, Error> {
        // Not blocking: a named pipe must not keep the task waiting for its other end.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let file = File::options()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(&source.path)
            .map_err(Error::ImageUnreadable)?;
        let metadata = file.metadata().map_err(Error::ImageUnreadable)?;
        if !metadata.is_file() {
            return Err(Error::ImageRefused(FormatError::NotAFile));
        }
        let map: Box<dyn LayerMap> = match source.format {
            ImageFormat::Raw => Box::new(RawImage::open(file, metadata.len())?),
            ImageFormat::Qcow2 => Box::new(qcow2::Upload::open(file)?),
        };
        let size = ByteCount::new(map.size().get().next_multiple_of(SECTOR_SIZE));
        if size > max_size {
            return Err(Error::ImageTooLarge {
                size,
                max: max_size,
            });
        }
        Ok(Self {
            content: Chain::new(vec![map]),
            size,
        })
    }

    /// The size of the disk in it, in whole sectors.
    pub(crate) fn size(&self) -> ByteCount {
        self.size
    }

    /// Writes everything that is not zero.
    pub(crate) fn copy_to(
        &self,
        target: &dyn RestoreWriter,
        monitor: &dyn Monitor,
    ) -> Result<(), Error> {
        let mut buffer = vec![0; PIECE];
        let end = self.content.size().get();
        let mut offset = 0;
        while offset < end {
            if monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            monitor.progress(ByteCount::new(offset), Some(self.size));
            offset += match self.content.extent_at(offset)? {
                Some(extent) if !extent.data && extent.range.len >= BLOCK_SIZE => {
                    whole_blocks(extent.range)
                }
                _ => self.copy_piece(offset, &mut buffer, target)?,
            };
        }
        monitor.progress(self.size, Some(self.size));
        Ok(())
    }

    /// Copies one piece block by block, leaving out those that are zero; how long it was.
    fn copy_piece(
        &self,
        offset: u64,
        buffer: &mut [u8],
        target: &dyn RestoreWriter,
    ) -> Result<u64, Error> {
        let end = self.content.size().get();
        let len = (end - offset).min(buffer.len() as u64);
        let padded = len.next_multiple_of(SECTOR_SIZE);
        let (Ok(len_here), Ok(padded_here)) = (usize::try_from(len), usize::try_from(padded))
        else {
            return Err(Error::OutOfBounds {
                offset,
                len,
                size: self.size,
            });
        };
        let buffer = buffer.get_mut(..padded_here).unwrap_or_default();
        let (content, tail) = buffer.split_at_mut(len_here.min(buffer.len()));
        self.content.read_at(offset, content)?;
        tail.fill(0);
        for range in nonzero_ranges(buffer) {
            let at = offset + range.start as u64;
            target.write_at(at, &buffer[range])?;
        }
        Ok(len)
    }
}

/// How much of a range ends on a block, so that the next read begins on one.
fn whole_blocks(range: ByteRange) -> u64 {
    range.len - range.len % BLOCK_SIZE
}

/// The stretches of blocks that hold something else than zeros.
fn nonzero_ranges(buffer: &[u8]) -> Vec<std::ops::Range<usize>> {
    let block = usize::try_from(BLOCK_SIZE).unwrap_or(usize::MAX);
    let mut found: Vec<std::ops::Range<usize>> = Vec::new();
    for (index, piece) in buffer.chunks(block).enumerate() {
        if piece.iter().all(|byte| *byte == 0) {
            continue;
        }
        let start = index * block;
        let end = start + piece.len();
        match found.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => found.push(start..end),
        }
    }
    found
}

/// The bytes of a disk, one after the other.
struct RawImage {
    file: File,
    size: u64,
}

impl RawImage {
    fn open(file: File, size: u64) -> Result<Self, Error> {
        let mut magic = [0; 4];
        if size >= 4 {
            file.read_exact_at(&mut magic, 0)
                .map_err(Error::ImageUnreadable)?;
        }
        if magic == qcow2::MAGIC {
            return Err(Error::ImageRefused(FormatError::NotRaw));
        }
        Ok(Self { file, size })
    }
}

impl LayerMap for RawImage {
    fn size(&self) -> ByteCount {
        ByteCount::new(self.size)
    }

    fn run_at(&self, offset: u64) -> Result<Run, Error> {
        use rustix::fs::SeekFrom;
        use rustix::io::Errno;
        let rest = self.size - offset;
        let data = match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) => data,
            Err(Errno::NXIO) => {
                return Ok(Run {
                    len: rest,
                    holds: Holds::Zeros,
                });
            }
            Err(_) => {
                return Ok(Run {
                    len: rest,
                    holds: Holds::Data,
                });
            }
        };
        if data > offset {
            return Ok(Run {
                len: rest.min(data - offset),
                holds: Holds::Zeros,
            });
        }
        let hole = rustix::fs::seek(&self.file, SeekFrom::Hole(offset)).unwrap_or(self.size);
        Ok(Run {
            len: rest.min(hole.saturating_sub(offset)).max(1),
            holds: Holds::Data,
        })
    }

    fn read_data(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        self.file
            .read_exact_at(buf, offset)
            .map_err(Error::ImageUnreadable)
    }
}
