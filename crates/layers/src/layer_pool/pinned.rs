//! Readers, and the layers that stay because of them.

use std::sync::Arc;

use stillpoint_model::ByteCount;
use stillpoint_model::id::LayerId;

use super::live_merge::tip_of;
use super::shared::{Shared, State};
use crate::chain::Chain;
use crate::{Driver, Error, Extent, Hold, LayerReader};

/// An open chain whose layers stay as long as it lives.
pub(super) struct Pinned<D: Driver> {
    pub(super) chain: Chain,
    _pins: Pins<D>,
}

/// Layers that stay as they are as long as this lives.
pub(super) struct Pins<D: Driver> {
    layers: Vec<LayerId>,
    shared: Arc<Shared<D>>,
}

impl<D: Driver> Pins<D> {
    pub(super) fn new(shared: &Arc<Shared<D>>, state: &mut State, layers: Vec<LayerId>) -> Self {
        for layer in &layers {
            *state.pins.entry(*layer).or_default() += 1;
        }
        Self {
            layers,
            shared: Arc::clone(shared),
        }
    }
}

impl<D: Driver> Hold for Pins<D> {}

impl<D: Driver> Pinned<D> {
    pub(super) fn open(shared: &Arc<Shared<D>>, layer: LayerId) -> Result<Self, Error> {
        let mut state = shared.lock_unmerged(|tree| tree.chain(layer))?;
        if state.tree.layer(layer).is_none() && state.damaged.is_empty() {
            let named = state.tree.names(layer).next().is_some();
            return Err(if named {
                Error::LayerMissing(layer)
            } else {
                Error::NoLayer(layer)
            });
        }
        shared.check_chain(&state, layer)?;
        if let Some(volume) = tip_of(&state, layer) {
            state.tree.check_whole(volume)?;
            shared.driver.check_unused(layer)?;
        }
        let layers = state.tree.chain(layer);
        let chain = Chain::new(shared.open_maps(&state, &layers)?);
        let pins = Pins::new(shared, &mut state, layers);
        Ok(Self { chain, _pins: pins })
    }
}

impl<D: Driver> Drop for Pins<D> {
    fn drop(&mut self) {
        let mut state = self.shared.lock_as_is();
        for layer in &self.layers {
            if let Some(count) = state.pins.get_mut(layer) {
                *count -= 1;
                if *count == 0 {
                    state.pins.remove(layer);
                }
            }
        }
    }
}

impl<D: Driver> LayerReader for Pinned<D> {
    fn size(&self) -> ByteCount {
        self.chain.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        self.chain.read_at(offset, buf)
    }

    fn extent_at(&self, offset: u64) -> Result<Option<Extent>, Error> {
        self.chain.extent_at(offset)
    }
}
