//! Volumes of a pool as the vault reads and writes them.

use std::io;
use std::sync::{PoisonError, RwLock};

use stillpoint_layers::{BLOCK_SIZE, LayerReader, Pool, RestoreWriter};
use stillpoint_model::id::VolumeId;
use stillpoint_model::{ByteCount, ByteRange, ErrorKind};
use stillpoint_vault::{VolumeReader, VolumeWriter};

/// A captured layer as the vault reads it.
pub(super) struct Source(pub Box<dyn LayerReader>);

impl VolumeReader for Source {
    fn size(&self) -> ByteCount {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buf).map_err(io_error)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<ByteRange>> {
        next_data(&*self.0, offset)
    }
}

fn next_data(reader: &dyn LayerReader, mut offset: u64) -> io::Result<Option<ByteRange>> {
    while let Some(extent) = reader.extent_at(offset).map_err(io_error)? {
        if extent.data {
            return Ok(Some(extent.range));
        }
        offset = extent.range.end();
    }
    Ok(None)
}

/// A volume in the making as the vault writes it, and then reads it back, from several threads at
/// once.
pub struct Sink<'a> {
    pool: &'a dyn Pool,
    volume: VolumeId,
    size: ByteCount,
    state: RwLock<SinkState<'a>>,
}

enum SinkState<'a> {
    Writing(Box<dyn RestoreWriter + 'a>),
    Reading(Box<dyn LayerReader>),
    Broken,
}

impl<'a> Sink<'a> {
    /// What `writer` makes of a volume of `size` in `pool`.
    pub fn new(
        pool: &'a dyn Pool,
        volume: VolumeId,
        size: ByteCount,
        writer: Box<dyn RestoreWriter + 'a>,
    ) -> Self {
        Self {
            pool,
            volume,
            size,
            state: RwLock::new(SinkState::Writing(writer)),
        }
    }

    /// Makes the volume durable and opens it to be compared.
    pub fn finish(&self) -> Result<(), stillpoint_layers::Error> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, SinkState::Broken) {
            SinkState::Writing(writer) => {
                let info = writer.finish()?;
                *state = SinkState::Reading(self.pool.open_layer(info.tip)?);
            }
            other => *state = other,
        }
        Ok(())
    }

    fn with_writer(
        &self,
        write: impl FnOnce(&dyn RestoreWriter) -> Result<(), stillpoint_layers::Error>,
    ) -> io::Result<()> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            SinkState::Writing(writer) => write(&**writer).map_err(io_error),
            SinkState::Reading(_) | SinkState::Broken => Err(io::Error::other(format!(
                "volume {} is finished",
                self.volume
            ))),
        }
    }

    fn with_reader<T>(
        &self,
        read: impl FnOnce(&dyn LayerReader) -> io::Result<T>,
    ) -> io::Result<T> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            SinkState::Reading(reader) => read(&**reader),
            SinkState::Writing(_) | SinkState::Broken => Err(io::Error::other(format!(
                "volume {} cannot be read",
                self.volume
            ))),
        }
    }
}

impl VolumeWriter for Sink<'_> {
    fn reserve(&self, range: ByteRange) -> io::Result<()> {
        self.with_writer(|writer| writer.reserve(range))
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        debug_assert!(
            offset.is_multiple_of(BLOCK_SIZE),
            "the vault writes whole chunks"
        );
        // The last chunk of a volume may reach past its end.
        let room = self.size.get().saturating_sub(offset);
        let len = usize::try_from(room).unwrap_or(usize::MAX).min(data.len());
        self.with_writer(|writer| writer.write_at(offset, &data[..len]))
    }

    fn write_zeros(&self, range: ByteRange) -> io::Result<()> {
        self.with_writer(|writer| writer.zero_at(range))
    }

    fn flush(&self) -> io::Result<()> {
        self.finish().map_err(io_error)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.with_reader(|reader| reader.read_at(offset, buf).map_err(io_error))
    }

    fn is_fresh(&self) -> bool {
        true
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<ByteRange>> {
        self.with_reader(|reader| next_data(reader, offset))
    }
}

/// A pool's error for the vault, which tells kinds apart by what the system would have said.
fn io_error(error: stillpoint_layers::Error) -> io::Error {
    let kind = match error.kind() {
        ErrorKind::Full => io::ErrorKind::StorageFull,
        ErrorKind::Corrupt => io::ErrorKind::InvalidData,
        ErrorKind::Retry => io::ErrorKind::TimedOut,
        ErrorKind::Unsupported => io::ErrorKind::Unsupported,
        ErrorKind::NotFound => io::ErrorKind::NotFound,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
