//! Reading and writing files past the system's page cache.
//!
//! What a backup moves is moved once. In the page cache it would push out what the machine works
//! with, and cost more processor time than all of the encryption: a page has to be found, cleared
//! and copied to for each 4 KiB. And what is read back after a restore comes from the device.
//!
//! A file system that cannot do this, and a part that is not of whole blocks, goes the usual way.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::buffers::{Aligned, Buffers};

/// What offsets, lengths and addresses are multiples of; every device's blocks divide it.
pub(crate) const BLOCK: usize = 4096;
/// Below this, going past the page cache gains nothing.
const WORTH_IT: usize = 256 << 10;
/// How much goes at a time when the caller's memory is not aligned.
const PIECE: usize = 1 << 20;

/// Has a file's reads and writes go past the page cache from now on, or not; gives whether they do.
fn set_direct(file: &File, on: bool) -> bool {
    let set = || {
        let flags = fcntl_getfl(file.as_fd())?;
        let flags = match on {
            true => flags | OFlags::DIRECT,
            false => flags - OFlags::DIRECT,
        };
        fcntl_setfl(file.as_fd(), flags)
    };
    set().is_ok() && on
}

/// Writes a new file's content from its start. Not durable yet.
pub(crate) fn write_new(file: &File, bytes: &[u8], spare: &Buffers<Aligned>) -> io::Result<()> {
    let whole = bytes.len() / BLOCK * BLOCK;
    let mut done = 0;
    if bytes.len() >= WORTH_IT && set_direct(file, true) {
        done = match write_blocks(file, &bytes[..whole], 0, spare) {
            Ok(()) => whole,
            Err(error) if is_refused(&error) => 0,
            Err(error) => return Err(error),
        };
        set_direct(file, false);
    }
    file.write_all_at(&bytes[done..], done as u64)
}

/// Reads exactly `into.len()` bytes from `offset` on.
pub(crate) fn read(
    file: &File,
    into: &mut [u8],
    offset: u64,
    spare: &Buffers<Aligned>,
) -> io::Result<()> {
    if into.len() >= WORTH_IT && set_direct(file, true) {
        let done = read_blocks(file, into, offset, spare);
        set_direct(file, false);
        match done {
            Err(error) if is_refused(&error) => {}
            other => return other,
        }
    }
    file.read_exact_at(into, offset)
}

/// Writes whole blocks to a file that is open for that.
fn write_blocks(
    file: &File,
    bytes: &[u8],
    offset: u64,
    spare: &Buffers<Aligned>,
) -> io::Result<()> {
    if is_aligned(bytes) {
        return file.write_all_at(bytes, offset);
    }
    let mut piece = spare.take();
    let mut at = offset;
    for part in bytes.chunks(PIECE) {
        let copy = &mut piece.room(PIECE)[..part.len()];
        copy.copy_from_slice(part);
        file.write_all_at(copy, at)?;
        at += part.len() as u64;
    }
    spare.give(piece);
    Ok(())
}

/// Reads any range from a file that is open for whole blocks only.
fn read_blocks(
    file: &File,
    into: &mut [u8],
    offset: u64,
    spare: &Buffers<Aligned>,
) -> io::Result<()> {
    let block = BLOCK as u64;
    if is_aligned(into) && into.len().is_multiple_of(BLOCK) && offset.is_multiple_of(block) {
        return file.read_exact_at(into, offset);
    }
    let mut piece = spare.take();
    let mut at = offset / block * block;
    let mut skip = usize::try_from(offset - at).unwrap_or(0);
    let mut rest = into;
    while !rest.is_empty() {
        let len = (skip + rest.len()).next_multiple_of(BLOCK).min(PIECE);
        let room = &mut piece.room(PIECE)[..len];
        let got = read_up_to(file, room, at)?;
        let part = got.saturating_sub(skip).min(rest.len());
        if part == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (now, later) = rest.split_at_mut(part);
        now.copy_from_slice(&room[skip..skip + part]);
        rest = later;
        at += len as u64;
        skip = 0;
        if got < len && !rest.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    spare.give(piece);
    Ok(())
}

/// Reads until `room` is full or the file ends, which may be inside a block.
fn read_up_to(file: &File, room: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < room.len() {
        match file.read_at(&mut room[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(len) => got += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        // Only the end of a file is not a whole block.
        if !got.is_multiple_of(BLOCK) {
            break;
        }
    }
    Ok(got)
}

fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().align_offset(BLOCK) == 0
}

/// Whether the file system has second thoughts about whole blocks.
fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
}

/// A file of which parts are read and written in any order, by several threads.
#[derive(Debug)]
pub(crate) struct DirectFile {
    /// For what is not of whole blocks, and for everything where `direct` is none.
    file: File,
    direct: Option<File>,
    spare: Buffers<Aligned>,
}

impl DirectFile {
    /// Uses two descriptors of one file, the second of which it is free to change.
    pub(crate) fn new(file: File, second: File) -> Self {
        let direct = set_direct(&second, true).then_some(second);
        Self {
            file,
            direct,
            spare: Buffers::default(),
        }
    }

    /// The file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Writes all of `bytes` at `offset`.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let whole = bytes.len() / BLOCK * BLOCK;
        if let Some(direct) = &self.direct
            && whole > 0
            && offset.is_multiple_of(BLOCK as u64)
        {
            match write_blocks(direct, &bytes[..whole], offset, &self.spare) {
                Ok(()) => {
                    return self
                        .file
                        .write_all_at(&bytes[whole..], offset + whole as u64);
                }
                Err(error) if is_refused(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.file.write_all_at(bytes, offset)
    }

    /// Fills `into` from `offset`.
    pub(crate) fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        if let Some(direct) = &self.direct {
            match read_blocks(direct, into, offset, &self.spare) {
                Err(error) if is_refused(&error) => {}
                other => return other,
            }
        }
        self.file.read_exact_at(into, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(len: usize) -> Vec<u8> {
        (0..=250).cycle().take(len).collect()
    }

    #[test]
    fn any_length_is_written_and_any_range_read() {
        let (dir, spare) = (tempfile::tempdir().unwrap(), Buffers::default());
        for len in [0, 1, BLOCK, WORTH_IT, WORTH_IT + 1, 3 * PIECE + BLOCK + 7] {
            let (path, bytes) = (dir.path().join("file"), pattern(len));
            write_new(&File::create(&path).unwrap(), &bytes, &spare).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
            let file = File::open(&path).unwrap();
            for (from, to) in [(0, len), (len / 3, len), (7.min(len), len - len / 4)] {
                let mut got = vec![0; to - from];
                read(&file, &mut got, from as u64, &spare).unwrap();
                assert_eq!(got, bytes[from..to]);
            }
        }
    }

    #[test]
    fn reading_past_the_end_is_an_error() {
        let (dir, spare) = (tempfile::tempdir().unwrap(), Buffers::default());
        let path = dir.path().join("file");
        std::fs::write(&path, pattern(WORTH_IT + 5)).unwrap();
        let file = File::open(&path).unwrap();
        let mut got = vec![0; WORTH_IT];
        assert!(read(&file, &mut got, 6, &spare).is_err());
        assert!(read(&file, &mut got, 5, &spare).is_ok());
    }

    #[test]
    fn parts_are_written_in_any_order_and_seen_at_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().read(true).write(true).open(file.path());
        let direct = DirectFile::new(open().unwrap(), open().unwrap());
        let bytes = pattern(2 * PIECE + 100);
        direct.write_at(&bytes[PIECE..], PIECE as u64).unwrap();
        direct.write_at(&bytes[..PIECE], 0).unwrap();
        let mut got = vec![0; bytes.len() - 3];
        direct.read_at(&mut got, 3).unwrap();
        assert_eq!(got, bytes[3..]);
    }
}
