//! Writing the content of a volume that does not exist yet.

use std::sync::Arc;

use stillpoint_model::id::{LayerId, VolumeId};
use stillpoint_model::layer_tree::{Request, Step, VolumeOrigin};
use stillpoint_model::{ByteCount, ByteRange};

use super::shared::{Shared, State};
use crate::{BLOCK_SIZE, Driver, Error, LayerWriter, RestoreWriter, VolumeInfo};

/// A volume in the making. Dropped before `finish` it is none.
pub(super) struct Restore<D: Driver> {
    shared: Arc<Shared<D>>,
    writer: Option<Box<dyn LayerWriter>>,
    volume: VolumeId,
    layer: LayerId,
    size: ByteCount,
    origin: VolumeOrigin,
}

impl<D: Driver> Restore<D> {
    pub(super) fn begin(
        shared: &Arc<Shared<D>>,
        state: &mut State,
        volume: VolumeId,
        size: ByteCount,
        origin: VolumeOrigin,
    ) -> Result<Self, Error> {
        shared.check_free(state, volume)?;
        let layer = shared.fresh_layer();
        let writer = Some(shared.driver.begin_layer(layer, volume, size)?);
        state.making.insert(volume, layer);
        Ok(Self {
            shared: Arc::clone(shared),
            writer,
            volume,
            layer,
            size,
            origin,
        })
    }

    fn check_range(&self, offset: u64, len: u64) -> Result<(), Error> {
        let size = self.size.get();
        let end = offset.checked_add(len).filter(|end| *end <= size);
        let is_aligned = offset.is_multiple_of(BLOCK_SIZE)
            && end.is_some_and(|end| end.is_multiple_of(BLOCK_SIZE) || end == size);
        if is_aligned {
            Ok(())
        } else {
            Err(Error::OutOfBounds {
                offset,
                len,
                size: self.size,
            })
        }
    }

    fn writer(&self) -> Result<&dyn LayerWriter, Error> {
        self.writer.as_deref().ok_or(Error::NoLayer(self.layer))
    }
}

impl<D: Driver> RestoreWriter for Restore<D> {
    fn reserve(&self, range: ByteRange) -> Result<(), Error> {
        self.check_range(range.offset, range.len)?;
        self.writer()?.reserve(range.offset, range.len)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.check_range(offset, data.len() as u64)?;
        self.writer()?.write_at(offset, data)
    }

    fn zero_at(&self, range: ByteRange) -> Result<(), Error> {
        self.check_range(range.offset, range.len)?;
        self.writer()?.zero_at(range.offset, range.len)
    }

    fn finish(mut self: Box<Self>) -> Result<VolumeInfo, Error> {
        let writer = self.writer.take().ok_or(Error::NoLayer(self.layer))?;
        let shared = Arc::clone(&self.shared);
        let (volume, layer, size, origin) = (self.volume, self.layer, self.size, self.origin);
        let announced = Request::AnnounceVolume { volume, origin };
        shared.execute(&mut *shared.lock()?, &announced)?;
        if let Err(error) = writer.finish() {
            shared.mark_stale(&mut shared.lock_as_is());
            return Err(error);
        }
        let mut state = shared.lock()?;
        state.tree.apply(&Step::CreateLayer {
            layer,
            owner: volume,
            parent: None,
            size,
        });
        shared.measure(&mut state, layer)?;
        shared.execute(
            &mut state,
            &Request::AdoptLayer {
                volume,
                layer,
                origin,
            },
        )?;
        let used = state.tree.used(layer);
        Ok(VolumeInfo {
            tip: layer,
            size,
            used,
        })
    }
}

impl<D: Driver> Drop for Restore<D> {
    fn drop(&mut self) {
        self.writer = None;
        self.shared.lock_as_is().making.remove(&self.volume);
    }
}
