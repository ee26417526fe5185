//! Files are made to say what the records say.
//!
//! A merge that was done elsewhere leaves a placement in a record (`live_merge`). Once nobody has
//! the file open, its header and its name are put right and the placement goes. It is upkeep: done
//! when the pool is opened, before something else is done to a closed volume, and when merges are
//! looked for.

use stillpoint_model::id::{LayerId, VolumeId};
use stillpoint_model::layer_tree::Step;

use super::shared::{Shared, State};
use crate::{Driver, Error};

impl<D: Driver> Shared<D> {
    /// Makes headers and names of files say what the records say, where nobody has them open.
    pub(super) fn settle_places(&self, state: &mut State) -> Result<(), Error> {
        let Some(live) = self.driver.live().filter(|_| !state.is_in_doubt) else {
            return Ok(());
        };
        let placed: Vec<(VolumeId, LayerId)> = state
            .tree
            .records()
            .flat_map(|(volume, record)| record.placed.keys().map(move |layer| (volume, *layer)))
            .collect();
        for (volume, layer) in placed {
            let Some(found) = state
                .tree
                .layer(layer)
                .filter(|l| l.owner == volume)
                .copied()
            else {
                self.forget_placement(state, volume, layer)?;
                continue;
            };
            if state.is_used(layer) || live.is_open(layer)? || self.is_known_open(state, layer) {
                continue;
            }
            let had_other_name = live.file_of(layer) != layer;
            let settled = |shared: &Self| settle_one(shared, layer, found.owner, found.parent);
            if !self.or_stale(state, settled)? {
                continue;
            }
            let children: Vec<LayerId> = state.tree.children(layer).collect();
            for child in children.into_iter().filter(|_| had_other_name) {
                let Some(found) = state.tree.layer(child).copied() else {
                    continue;
                };
                if !state.is_used(child) {
                    let settled =
                        |shared: &Self| settle_one(shared, child, found.owner, found.parent);
                    self.or_stale(state, settled)?;
                }
            }
            self.forget_placement(state, volume, layer)?;
        }
        Ok(())
    }

    /// Whether a host has a chain with this layer open, or does not say.
    pub(super) fn is_known_open(&self, state: &State, layer: LayerId) -> bool {
        let Some((host, _)) = self.live() else {
            return false;
        };
        let mut volumes = state.tree.volumes_on(layer).into_iter();
        volumes.any(|volume| !matches!(host.open_chain(volume), Ok(None)))
    }

    fn forget_placement(
        &self,
        state: &mut State,
        volume: VolumeId,
        layer: LayerId,
    ) -> Result<(), Error> {
        let Some(record) = state.tree.record(volume) else {
            return Ok(());
        };
        let mut record = record.clone();
        record.placed.remove(&layer);
        self.step(state, &Step::PutRecord { volume, record })
    }
}

/// Settles one file; false when somebody has it open.
fn settle_one<D: Driver>(
    shared: &Shared<D>,
    layer: LayerId,
    owner: VolumeId,
    parent: Option<LayerId>,
) -> Result<bool, Error> {
    let Some(live) = shared.driver.live() else {
        return Ok(false);
    };
    match live.settle(layer, owner, parent) {
        Ok(()) => Ok(true),
        Err(Error::LayerInUse(_)) => Ok(false),
        Err(error) => Err(error),
    }
}
