//! Writing a backup as a disk image: raw or qcow2, to a new file or into a pipe.
//!
//! A file is compared whole with the backup before it counts, as in any restore. What goes into a
//! pipe cannot be read back: there every chunk is proven as it is read, and no more is promised.

use std::io::{self, Write};
use std::path::Path;

use stillpoint_model::progress::Monitor;
use stillpoint_model::{ByteCount, ByteRange};

use super::qcow2::{Layout, Qcow2File};
use crate::raw_file::RawFile;
use crate::volume::VolumeWriter;
use crate::{BackupInfo, BackupReader, Error, ReadCache, RestoreReport, Vault};

/// How much of a backup is read at once on its way into a pipe.
const PIECE: u64 = 1 << 20;
/// What the reader of a pipe's backup may keep.
const CACHE: ByteCount = ByteCount::from_mib(16);

/// The format of a disk image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFormat {
    /// The bytes of the disk, one after the other.
    Raw,
    /// QEMU's, without what is zeros.
    Qcow2,
}

/// Writes a backup to a new file, compares it, and makes it durable. An existing file is never
/// touched; after a failure the new one is removed.
pub fn export_to_file(
    vault: &Vault,
    info: &BackupInfo,
    format: DiskFormat,
    path: &Path,
    monitor: &dyn Monitor,
) -> Result<RestoreReport, Error> {
    let failed = |source| Error::Sink { offset: 0, source };
    let file: Box<dyn VolumeWriter> = match format {
        DiskFormat::Raw => Box::new(RawFile::create(path, info.provisioned).map_err(failed)?),
        DiskFormat::Qcow2 => {
            let layout = layout(&open(vault, info)?)?;
            Box::new(Qcow2File::create(path, layout).map_err(failed)?)
        }
    };
    let restored = vault.restore(info.volume_id, info.backup_id, &*file, monitor);
    if restored.is_err()
        && let Err(error) = std::fs::remove_file(path)
    {
        tracing::warn!(path = %path.display(), %error, "a partly restored file is left");
    }
    restored
}

/// Writes a backup into a pipe.
pub fn export_to_pipe(
    vault: &Vault,
    info: &BackupInfo,
    format: DiskFormat,
    out: &mut dyn Write,
    monitor: &dyn Monitor,
) -> Result<(), Error> {
    let reader = open(vault, info)?;
    let size = reader.size().get();
    let mut pipe = Pipe {
        reader: &reader,
        out,
        size,
        piece: vec![],
        monitor,
    };
    match format {
        DiskFormat::Raw => pipe.copy(ByteRange::new(0, size))?,
        DiskFormat::Qcow2 => {
            let layout = layout(&reader)?;
            let mut tables = io::BufWriter::with_capacity(1 << 20, &mut *pipe.out);
            let written = layout.write_tables(&mut tables);
            written.and_then(|()| tables.flush()).map_err(sink(0))?;
            drop(tables);
            layout.data().try_for_each(|range| pipe.copy(range))?;
        }
    }
    pipe.out.flush().map_err(sink(size))
}

fn open(vault: &Vault, info: &BackupInfo) -> Result<BackupReader, Error> {
    vault.open_backup(info.volume_id, info.backup_id, &ReadCache::new(CACHE))
}

fn layout(reader: &BackupReader) -> Result<Layout, Error> {
    let (mut ranges, mut from) = (vec![], 0);
    while let Some(range) = reader.next_data(from)? {
        from = range.end();
        ranges.push(range);
    }
    Layout::new(reader.size(), ranges).ok_or(Error::Invalid("the volume is too large for qcow2"))
}

fn sink(offset: u64) -> impl Fn(io::Error) -> Error {
    move |source| Error::Sink { offset, source }
}

/// A backup on its way into a pipe.
struct Pipe<'a> {
    reader: &'a BackupReader,
    out: &'a mut dyn Write,
    size: u64,
    piece: Vec<u8>,
    monitor: &'a dyn Monitor,
}

impl Pipe<'_> {
    /// Copies a range; what is past the end of the volume is zeros.
    fn copy(&mut self, range: ByteRange) -> Result<(), Error> {
        let mut at = range.offset;
        while at < range.end() {
            if self.monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let len = PIECE.min(range.end() - at);
            self.piece.clear();
            self.piece.resize(usize::try_from(len).unwrap_or(0), 0);
            let there = usize::try_from(len.min(self.size - at)).unwrap_or(0);
            self.reader.read_at(at, &mut self.piece[..there])?;
            self.out.write_all(&self.piece).map_err(sink(at))?;
            at += len;
            let (done, total) = (ByteCount::new(at.min(self.size)), ByteCount::new(self.size));
            self.monitor.progress(done, Some(total));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
