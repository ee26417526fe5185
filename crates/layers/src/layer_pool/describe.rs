//! What a pool says of a volume, and of a point in time.

use stillpoint_model::ByteCount;
use stillpoint_model::id::{LayerId, SnapshotId, VolumeId};
use stillpoint_model::item::Consistency;
use stillpoint_model::layer_tree::Refusal;

use super::LayerPool;
use super::shared::State;
use crate::{Driver, Error, Sealed, VolumeInfo};

impl<D: Driver> LayerPool<D> {
    pub(super) fn volume_info(
        &self,
        state: &mut State,
        volume: VolumeId,
    ) -> Result<VolumeInfo, Error> {
        let tip = self.live_tip(state, volume)?;
        self.shared.measure(state, tip)?;
        let size = state
            .tree
            .layer(tip)
            .map_or(ByteCount::ZERO, |layer| layer.size);
        Ok(VolumeInfo {
            tip,
            size,
            used: state.tree.used(tip).min(size),
        })
    }

    /// What a sealed layer is, with the volume's tip of now.
    pub(super) fn sealed(
        &self,
        state: &mut State,
        volume: VolumeId,
        layer: LayerId,
    ) -> Result<Sealed, Error> {
        self.shared.measure(state, layer)?;
        let sealed = *state.tree.layer(layer).ok_or(Error::LayerMissing(layer))?;
        // What layers occupy includes their tables and what later layers hide: an upper bound.
        let used = state.tree.used(layer).min(sealed.size);
        let record = state.tree.record(volume);
        Ok(Sealed {
            layer,
            tip: record.and_then(|record| record.tip).unwrap_or(layer),
            size: sealed.size,
            used,
            changed: sealed.allocated.min(sealed.size),
            consistency: record.map_or(Consistency::Stopped, |record| record.promise(layer)),
        })
    }

    pub(super) fn sealed_snapshots(
        &self,
        set: &[(VolumeId, SnapshotId)],
    ) -> Result<Vec<Sealed>, Error> {
        let sealed = set.iter().map(|(volume, snapshot)| {
            let mut state = self.shared.lock()?;
            let found = state.tree.snapshot(*snapshot);
            let layer = found.ok_or(Refusal::NoSnapshot(*snapshot))?.1.layer;
            self.sealed(&mut state, *volume, layer)
        });
        sealed.collect()
    }
}
