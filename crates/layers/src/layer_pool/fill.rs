//! Volumes that are in use before they are whole.
//!
//! ```text
//! open_filling   a guest's machine opens the tip over a reader of the backup
//! fill_base      the base is written, whoever has the volume open: nobody has that file
//! end_fill       whoever has it open goes on with the base instead of the reader; the record
//! ```
//!
//! The base shows what the reader shows, so the exchange is no change to anybody, and a crash on
//! either side of the record is none: either the exchange is found done, also by whoever wants to fill
//! the base again, which a machine reads then; or it is done again. Whoever
//! opens a volume over a reader keeps a [`Pins`] until its machine is seen to have it open; until then
//! the fill does not end, so no machine is left with a reader that nobody serves any more.
//!
//! Filling that is cut off begins anew: the base gets the same content at the same places.

use std::sync::Arc;

use serde_json::Value;
use stillpoint_model::id::{LayerId, VolumeId};
use stillpoint_model::layer_tree::{FillSource, FreshLayers};
use stillpoint_model::{ByteCount, ByteRange};

use super::live::{Switching, open_chain};
use super::pinned::Pins;
use super::shared::{Shared, State};
use crate::{Driver, Error, FillOutcome, LayerWriter, RestoreWriter, VolumeInfo};

impl<D: Driver> Shared<D> {
    /// Makes a volume that shows a backup.
    pub(super) fn begin_fill(
        &self,
        volume: VolumeId,
        size: ByteCount,
        source: FillSource,
    ) -> Result<(), Error> {
        let mut state = self.lock_volumes(&[volume])?;
        let fresh = FreshLayers {
            first: self.fresh_layer(),
            second: self.fresh_layer(),
        };
        let plan = state.tree.plan_begin_fill(volume, size, source, fresh)?;
        self.steps(&mut state, &plan.steps)
    }

    /// The graph of a volume over a reader, and what keeps its fill from ending meanwhile. One that
    /// became whole meanwhile has its own graph.
    pub(super) fn open_filling(
        self: &Arc<Self>,
        volume: VolumeId,
        reader: &Value,
    ) -> Result<(Value, Pins<D>), Error> {
        let mut state = self.lock_volumes(&[volume])?;
        let tip = state.tree.live_tip(volume)?;
        self.check_chain(&state, tip)?;
        let graph = match state.tree.filling(volume) {
            None => self.driver.block_graph(volume, &state.tree.chain(tip))?,
            Some(_) => {
                let mut graph = self.driver.block_graph(volume, &[tip])?;
                graph["backing"] = reader.clone();
                graph
            }
        };
        let pins = Pins::new(self, &mut state, vec![tip]);
        Ok((graph, pins))
    }

    /// The base is whole and was compared: the volume stands on it from now on.
    pub(super) fn end_fill(&self, volume: VolumeId) -> Result<FillOutcome, Error> {
        let (tip, base) = {
            let mut state = self.lock_volumes(&[volume])?;
            let tip = state.tree.live_tip(volume)?;
            let Some(filling) = state.tree.filling(volume) else {
                return Ok(FillOutcome::Whole);
            };
            if state.is_used(tip) || state.is_used(filling.base) {
                return Ok(FillOutcome::GaveWay);
            }
            state.switching.insert(volume);
            (tip, filling.base)
        };
        let _marked = Switching {
            shared: self,
            volumes: vec![volume],
        };
        self.stand_on(volume, tip, base)?;
        let mut state = self.lock()?;
        let plan = state.tree.plan_end_fill(volume)?;
        self.steps(&mut state, &plan.steps)?;
        Ok(FillOutcome::Whole)
    }

    /// Whether whoever has a volume open went over to its base, and the process that had it do so did not
    /// live to record it. Nobody else ever opens a base.
    fn is_exchanged(&self, volume: VolumeId) -> Result<bool, Error> {
        let filling = self.lock_volumes(&[volume])?.tree.filling(volume);
        let base = filling.ok_or(Error::NotFilling(volume))?.base;
        let Some((host, storage)) = self.live() else {
            return Ok(false);
        };
        let base = storage.node(volume, base);
        let chain = open_chain(&host, volume)?;
        Ok(chain.is_some_and(|chain| chain.contains(&base)))
    }

    /// Whoever has the volume open goes on with the base below its tip.
    fn stand_on(&self, volume: VolumeId, tip: LayerId, base: LayerId) -> Result<(), Error> {
        let open = match self.live() {
            None => None,
            Some((host, storage)) => open_chain(&host, volume)?.map(|chain| (host, storage, chain)),
        };
        let Some((host, storage, chain)) = open else {
            // A machine that nobody knows of may have it.
            return self.driver.check_unused(tip);
        };
        let [top, below] = [tip, base].map(|layer| storage.node(volume, layer));
        if chain.first() != Some(&top) {
            let reason = "it writes to another layer than the tip".to_owned();
            return Err(Error::Host { volume, reason });
        }
        if chain.contains(&below) {
            return Ok(());
        }
        let graph = self.driver.block_graph(volume, &[tip, base])?;
        let rebased = host.rebase(volume, &top, &graph["backing"]);
        rebased.map_err(|error| Error::host(volume, error))
    }
}

/// The base of a volume, open for writing. While it lives, nobody else reads or writes it.
pub(super) struct Base<D: Driver> {
    shared: Arc<Shared<D>>,
    writer: Option<Box<dyn LayerWriter>>,
    layer: LayerId,
    size: ByteCount,
}

impl<D: Driver> Base<D> {
    /// None when it was whole before, and a machine reads it.
    pub(super) fn open(
        shared: &Arc<Shared<D>>,
        volume: VolumeId,
    ) -> Result<Option<Box<dyn RestoreWriter>>, Error> {
        if shared.is_exchanged(volume)? {
            return Ok(None);
        }
        let mut state = shared.lock_volumes(&[volume])?;
        let filling = state.tree.filling(volume);
        let layer = filling.ok_or(Error::NotFilling(volume))?.base;
        if state.is_used(layer) {
            return Err(Error::InTheMaking(volume));
        }
        let size = state.tree.layer(layer).ok_or(Error::NoLayer(layer))?.size;
        shared.check_chain(&state, layer)?;
        let writer = shared.driver.reopen_layer(layer, size)?;
        state.merging.insert(layer);
        Ok(Some(Box::new(Self {
            shared: Arc::clone(shared),
            writer: Some(writer),
            layer,
            size,
        })))
    }

    fn writer(&self, offset: u64, len: u64) -> Result<&dyn LayerWriter, Error> {
        let end = offset.checked_add(len);
        if end.is_none_or(|end| end > self.size.get()) {
            return Err(Error::OutOfBounds {
                offset,
                len,
                size: self.size,
            });
        }
        self.writer.as_deref().ok_or(Error::NoLayer(self.layer))
    }
}

impl<D: Driver> RestoreWriter for Base<D> {
    fn reserve(&self, range: ByteRange) -> Result<(), Error> {
        self.writer(range.offset, range.len)?
            .reserve(range.offset, range.len)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.writer(offset, data.len() as u64)?
            .write_at(offset, data)
    }

    fn zero_at(&self, range: ByteRange) -> Result<(), Error> {
        self.writer(range.offset, range.len)?
            .zero_at(range.offset, range.len)
    }

    fn finish(mut self: Box<Self>) -> Result<VolumeInfo, Error> {
        let writer = self.writer.take().ok_or(Error::NoLayer(self.layer))?;
        writer.finish()?;
        let used = self.shared.driver.allocated(self.layer)?;
        let set = |state: &mut State| state.tree.set_allocated(self.layer, used);
        set(&mut self.shared.lock_as_is());
        Ok(VolumeInfo {
            tip: self.layer,
            size: self.size,
            used,
        })
    }
}

impl<D: Driver> Drop for Base<D> {
    fn drop(&mut self) {
        self.writer = None;
        let layers = [self.layer; 2];
        self.shared.end_merge(&mut self.shared.lock_as_is(), layers);
    }
}
