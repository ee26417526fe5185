//! A new raw file as what a restore writes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use stillpoint_model::{ByteCount, ByteRange};

use crate::CHUNK_LEN;
use crate::direct::DirectFile;
use crate::format::MAX_FRAME_CHUNKS;
use crate::volume::{VolumeWriter, next_extent};

/// A sparse file that did not exist before. It is written and read back past the page cache.
#[derive(Debug)]
pub struct RawFile(DirectFile);

impl RawFile {
    /// Makes a file of `size` that reads as zeros. `AlreadyExists` when it is there.
    pub fn create(path: &Path, size: ByteCount) -> io::Result<Self> {
        let open = |new| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(new).open(path)
        };
        let file = open(true)?;
        file.set_len(size.get())?;
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        File::open(dir)?.sync_all()?;
        Ok(Self(DirectFile::new(file, open(false)?)))
    }
}

impl VolumeWriter for RawFile {
    /// Writes past the page cache into a hole go one at a time, those into reserved blocks side by
    /// side.
    fn reserve(&self, range: ByteRange) -> io::Result<()> {
        let keep = FallocateFlags::KEEP_SIZE;
        match fallocate(self.0.file(), keep, range.offset, range.len) {
            Err(Errno::OPNOTSUPP) => Ok(()),
            other => Ok(other?),
        }
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(data, offset)
    }

    fn write_zeros(&self, range: ByteRange) -> io::Result<()> {
        let zeros = vec![0; MAX_FRAME_CHUNKS * CHUNK_LEN];
        let mut at = range.offset;
        while at < range.end() {
            let len = usize::try_from(range.end() - at)
                .unwrap_or(usize::MAX)
                .min(zeros.len());
            self.0.file().write_all_at(&zeros[..len], at)?;
            at += len as u64;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.0.file().sync_all()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_at(buf, offset)
    }

    fn is_fresh(&self) -> bool {
        true
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<ByteRange>> {
        next_extent(self.0.file(), offset)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_is_reserved_has_room_and_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.raw");
        let file = RawFile::create(&path, ByteCount::from_mib(64)).unwrap();
        file.reserve(ByteRange::new(8 << 20, 4 << 20)).unwrap();
        let room = || std::fs::metadata(&path).unwrap().blocks() * 512;
        assert!((4 << 20..8 << 20).contains(&room()), "{} bytes", room());
        assert_eq!(file.next_data(0).unwrap(), None);
        let mut got = vec![1; CHUNK_LEN];
        file.read_at(9 << 20, &mut got).unwrap();
        assert_eq!(got, vec![0; CHUNK_LEN]);

        file.write_at(9 << 20, &[7; CHUNK_LEN]).unwrap();
        file.read_at(9 << 20, &mut got).unwrap();
        assert_eq!(got, vec![7; CHUNK_LEN]);
        let data = file.next_data(0).unwrap();
        assert_eq!(data, Some(ByteRange::new(9 << 20, CHUNK_LEN as u64)));
        assert!((4 << 20..8 << 20).contains(&room()), "{} bytes", room());
    }
}
