//! A [`Pool`] of any [`Driver`]: the tree, the execution of plans, readers against merges.
//!
//! **Execution.** Plans come from `model::layer_tree`; their steps run one after the other with
//! the tree locked, each durable before the next. They are metadata and cost a few syncs. When a
//! step fails, nobody guesses how far it came: the tree counts as stale and is read anew from the
//! storage, exactly as after a crash, before anything else happens.
//!
//! **Readers and merges.** A reader pins the layers of its chain. A merge needs its two layers
//! unpinned; a reader that wants them makes it give way at its next batch. So content never moves
//! under a reader. A pinned layer is not removed either: it stays as a merge candidate.
//!
//! **Open volumes.** What a [host](crate::live::LiveHost) has open is switched, merged and grown by
//! it (`live`, `live_merge`); everything else about such a volume is as for any other, and what
//! would pull its layers away is refused.
//!
//! **Filled later.** A volume may be in use before it is whole (`fill`): then it is opened over a
//! reader of its backup, and can be filled and deleted; nothing else.
//!
//! **Doubt.** While the storage holds anything that cannot be read, or layers of a volume whose
//! record is gone, no layer counts as garbage. A record goes with the last layer of its volume,
//! and comes before the first.

mod describe;
mod fill;
mod live;
mod live_merge;
mod merge;
mod pinned;
mod places;
mod restore;
mod shared;

use std::sync::{Arc, PoisonError};

use stillpoint_model::id::{BackupId, LayerId, PoolId, SnapshotId, VolumeId};
use stillpoint_model::item::FreezePolicy;
use stillpoint_model::layer_tree::{
    FillSource, Filling, LayerTree, MergeCandidate, Purpose, Refusal, Request, VolumeOrigin,
};
use stillpoint_model::progress::Monitor;
use stillpoint_model::task::CloneSource;
use stillpoint_model::{ByteCount, ByteRange, Env};

use self::fill::Base;
use self::live::points_of;
use self::pinned::Pinned;
use self::restore::Restore;
use self::shared::{Shared, State};
use crate::chain;
use crate::image::Image;
use crate::live::{LiveHost, SwitchAll};
use crate::{
    Capabilities, Driver, Error, FillOutcome, Hold, ImageSource, LayerReader, MergeOutcome, Orphan,
    Pool, RestoreWriter, SECTOR_SIZE, Sealed, Usage, VolumeInfo,
};

/// A pool made of a driver.
pub struct LayerPool<D> {
    shared: Arc<Shared<D>>,
}

impl<D: Driver> LayerPool<D> {
    /// Opens the pool: reads its tree from the storage and completes what a crash cut off.
    /// Damaged volumes do not keep the others from being used.
    pub fn open(driver: D, env: Arc<dyn Env>) -> Result<Self, Error> {
        let shared = Arc::new(Shared::new(driver, env));
        drop(shared.lock()?);
        Ok(Self { shared })
    }

    /// From now on a volume that this host has open is captured, merged and grown by it.
    pub fn connect(&self, host: Arc<dyn LiveHost>) {
        let mut connected = self
            .shared
            .host
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *connected = Some(host);
    }

    /// What the pool's storage holds that cannot be trusted, in words for an operator.
    pub fn damage(&self) -> Result<Vec<String>, Error> {
        let state = self.shared.lock()?;
        let inconsistent = state
            .tree
            .inconsistencies()
            .into_iter()
            .map(|i| i.to_string());
        Ok(state.damaged.iter().cloned().chain(inconsistent).collect())
    }

    /// Whether a reader waits for a layer that is being merged.
    #[cfg(any(test, feature = "conformance"))]
    pub(crate) fn is_wanted(&self, layer: LayerId) -> bool {
        self.shared.lock_as_is().is_wanted(layer)
    }

    fn live_tip(&self, state: &State, volume: VolumeId) -> Result<LayerId, Error> {
        let tip = state.tree.live_tip(volume)?;
        self.shared.check_chain(state, tip)?;
        Ok(tip)
    }

    /// Does what is asked to a volume whose tip nobody else has open. The layer that it will
    /// stand on must be whole; what is left behind need not be, so that a damaged volume can be
    /// put back to what is not.
    fn change(
        &self,
        volume: VolumeId,
        request: &Request,
        base: impl Fn(&LayerTree) -> Option<LayerId>,
    ) -> Result<VolumeInfo, Error> {
        self.shared.check_closed(volume)?;
        let mut state = self.shared.lock_volumes(&[volume])?;
        if let Some(base) = base(&state.tree) {
            self.shared.check_chain(&state, base)?;
        }
        if let Some(tip) = state.tree.tip(volume)
            && state.tree.layer(tip).is_some()
        {
            self.shared.driver.check_unused(tip)?;
        }
        self.shared.settle_places(&mut state)?;
        self.shared.execute(&mut state, request)?;
        self.volume_info(&mut state, volume)
    }

    fn check_size(&self, size: ByteCount) -> Result<(), Error> {
        let reason = if size == ByteCount::ZERO {
            "it holds nothing"
        } else if !size.is_multiple_of(SECTOR_SIZE) {
            "it is no multiple of 512 bytes"
        } else if size > self.shared.driver.capabilities().max_volume_size {
            "it is larger than this pool's volumes can be"
        } else {
            return Ok(());
        };
        Err(Error::BadSize { size, reason })
    }

    fn restore_of(
        &self,
        volume: VolumeId,
        size: ByteCount,
        origin: VolumeOrigin,
    ) -> Result<Restore<D>, Error> {
        self.check_size(size)?;
        let mut state = self.shared.lock()?;
        if !state.tree.may_make(volume, origin)? {
            return Err(Refusal::VolumeExists(volume).into());
        }
        Restore::begin(&self.shared, &mut state, volume, size, origin)
    }
}

impl<D: Driver> Pool for LayerPool<D> {
    fn id(&self) -> PoolId {
        self.shared.driver.id()
    }

    fn capabilities(&self) -> Capabilities {
        let known = self.shared.driver.capabilities();
        Capabilities {
            live_capture: known.live_capture || self.shared.live().is_some(),
            ..known
        }
    }

    fn volume(&self, volume: VolumeId) -> Result<VolumeInfo, Error> {
        let mut state = self.shared.lock()?;
        self.volume_info(&mut state, volume)
    }

    fn snapshot_layer(&self, snapshot: SnapshotId) -> Result<LayerId, Error> {
        let state = self.shared.lock()?;
        let (_, record) = state
            .tree
            .snapshot(snapshot)
            .ok_or(Refusal::NoSnapshot(snapshot))?;
        Ok(record.layer)
    }

    fn captured_layer(&self, volume: VolumeId, backup: BackupId) -> Result<LayerId, Error> {
        let state = self.shared.lock()?;
        let record = state.tree.known(volume)?;
        record
            .ok_or(Refusal::NoVolume(volume))?
            .captures
            .get(&backup)
            .copied()
            .ok_or(Error::NoCapture { volume, backup })
    }

    fn create_volume(&self, volume: VolumeId, size: ByteCount) -> Result<VolumeInfo, Error> {
        self.check_size(size)?;
        self.change(volume, &Request::CreateVolume { volume, size }, |tree| {
            tree.tip(volume)
        })
    }

    fn import(
        &self,
        volume: VolumeId,
        source: &ImageSource,
        max_size: ByteCount,
        monitor: &dyn Monitor,
    ) -> Result<VolumeInfo, Error> {
        let origin = VolumeOrigin::Image;
        {
            let mut state = self.shared.lock()?;
            if !state.tree.may_make(volume, origin)? {
                return self.volume_info(&mut state, volume);
            }
        }
        let image = Image::open(source, max_size)?;
        let restore = self.restore_of(volume, image.size(), origin)?;
        image.copy_to(&restore, monitor)?;
        Box::new(restore).finish()
    }

    fn resize(&self, volume: VolumeId, size: ByteCount) -> Result<VolumeInfo, Error> {
        self.check_size(size)?;
        if self.shared.resize_open(volume, size)? {
            let mut state = self.shared.lock()?;
            return self.volume_info(&mut state, volume);
        }
        self.change(volume, &Request::Resize { volume, size }, |tree| {
            tree.tip(volume)
        })
    }

    fn clone_volume(&self, source: CloneSource, volume: VolumeId) -> Result<VolumeInfo, Error> {
        let mut state = match source {
            CloneSource::Volume(source) => {
                if self.shared.clone_open(source, volume)? {
                    let mut state = self.shared.lock()?;
                    return self.volume_info(&mut state, volume);
                }
                self.shared.lock_volumes(&[source])?
            }
            CloneSource::Snapshot(_) => self.shared.lock()?,
        };
        self.shared.check_free(&state, volume)?;
        let origin = VolumeOrigin::Clone(source);
        if state.tree.may_make(volume, origin)? {
            let base = match source {
                CloneSource::Volume(source) => state.tree.tip(source),
                CloneSource::Snapshot(snapshot) => state.tree.snapshot(snapshot).map(|s| s.1.layer),
            };
            if let Some(base) = base {
                self.shared.check_chain(&state, base)?;
                self.shared.driver.check_unused(base)?;
            }
            self.shared
                .execute(&mut state, &Request::Clone { source, volume })?;
        }
        self.volume_info(&mut state, volume)
    }

    fn delete_volume(&self, volume: VolumeId) -> Result<(), Error> {
        self.shared.check_closed(volume)?;
        let mut state = self.shared.lock_volumes(&[volume])?;
        if let Some(tip) = state.tree.tip(volume)
            && state.tree.layer(tip).is_some()
        {
            self.shared.driver.check_unused(tip)?;
        }
        self.shared
            .execute(&mut state, &Request::DeleteVolume { volume })
    }

    fn snapshot(&self, volume: VolumeId, snapshot: SnapshotId) -> Result<Sealed, Error> {
        let sealed = self.snapshot_together(&[(volume, snapshot)], FreezePolicy::Skip)?;
        let one = sealed.into_iter().next();
        one.ok_or_else(|| Refusal::NoSnapshot(snapshot).into())
    }

    fn snapshot_together(
        &self,
        set: &[(VolumeId, SnapshotId)],
        freeze: FreezePolicy,
    ) -> Result<Vec<Sealed>, Error> {
        self.shared.seal_together(&points_of(set), freeze)?;
        self.sealed_snapshots(set)
    }

    fn snapshot_by(
        &self,
        set: &[(VolumeId, SnapshotId)],
        switch: SwitchAll<'_>,
    ) -> Result<Vec<Sealed>, Error> {
        self.shared.seal_by(&points_of(set), switch)?;
        self.sealed_snapshots(set)
    }

    fn verify_snapshot(&self, snapshot: SnapshotId, monitor: &dyn Monitor) -> Result<(), Error> {
        let layer = self.snapshot_layer(snapshot)?;
        let pinned = Pinned::open(&self.shared, layer)?;
        pinned.chain.verify(|| match monitor.is_cancelled() {
            true => Err(Error::Cancelled),
            false => Ok(()),
        })
    }

    fn delete_snapshot(&self, snapshot: SnapshotId) -> Result<(), Error> {
        let mut state = self.shared.lock()?;
        self.shared
            .execute(&mut state, &Request::DropSnapshot { snapshot })
    }

    fn roll_back(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        safety: SnapshotId,
    ) -> Result<VolumeInfo, Error> {
        let request = Request::RollBack {
            volume,
            snapshot,
            safety,
        };
        self.change(volume, &request, |tree| {
            tree.snapshot(snapshot).map(|(_, s)| s.layer)
        })
    }

    fn switch(
        &self,
        volume: VolumeId,
        staged: VolumeId,
        safety: SnapshotId,
    ) -> Result<VolumeInfo, Error> {
        let request = Request::Switch {
            volume,
            staged,
            safety,
        };
        self.change(volume, &request, |tree| tree.tip(staged))
    }

    fn capture(
        &self,
        volume: VolumeId,
        backup: BackupId,
        snapshot: Option<SnapshotId>,
        freeze: FreezePolicy,
    ) -> Result<Sealed, Error> {
        let mut state = self.shared.lock()?;
        let record = state.tree.record(volume);
        let is_known = record.is_some_and(|record| record.captures.contains_key(&backup));
        if is_known || snapshot.is_some() {
            let request = Request::Capture {
                volume,
                backup,
                snapshot,
            };
            self.shared.execute(&mut state, &request)?;
        } else {
            drop(state);
            let purpose = Purpose::Capture(backup);
            self.shared.seal_together(&[(volume, purpose)], freeze)?;
            state = self.shared.lock()?;
        }
        let record = state.tree.record(volume).ok_or(Refusal::NoVolume(volume))?;
        let layer = *record
            .captures
            .get(&backup)
            .ok_or(Error::NoCapture { volume, backup })?;
        self.shared.check_chain(&state, layer)?;
        self.sealed(&mut state, volume, layer)
    }

    fn settle_capture(&self, volume: VolumeId, backup: BackupId) -> Result<(), Error> {
        let mut state = self.shared.lock()?;
        self.shared
            .execute(&mut state, &Request::SettleCapture { volume, backup })
    }

    fn release_capture(&self, volume: VolumeId, backup: BackupId) -> Result<(), Error> {
        let mut state = self.shared.lock()?;
        self.shared
            .execute(&mut state, &Request::ReleaseCapture { volume, backup })
    }

    fn open_layer(&self, layer: LayerId) -> Result<Box<dyn LayerReader>, Error> {
        Ok(Box::new(Pinned::open(&self.shared, layer)?))
    }

    fn changed_extents(&self, from: Option<LayerId>, to: LayerId) -> Result<Vec<ByteRange>, Error> {
        let pinned = Pinned::open(&self.shared, to)?;
        let Some(from) = from else {
            return chain::data(&pinned.chain);
        };
        let _other = Pinned::open(&self.shared, from)?;
        let between = {
            let state = self.shared.lock()?;
            self.shared
                .open_maps(&state, &state.tree.layers_between(from, to))?
        };
        chain::changed(&between, pinned.chain.size())
    }

    fn begin_restore(
        &self,
        volume: VolumeId,
        size: ByteCount,
    ) -> Result<Box<dyn RestoreWriter>, Error> {
        Ok(Box::new(self.restore_of(
            volume,
            size,
            VolumeOrigin::Restore,
        )?))
    }

    fn merge_candidates(&self) -> Vec<MergeCandidate> {
        self.shared.merge_candidates().unwrap_or_default()
    }

    fn merge(
        &self,
        candidate: &MergeCandidate,
        monitor: &dyn Monitor,
    ) -> Result<MergeOutcome, Error> {
        self.shared.merge(candidate, monitor)
    }

    fn tree(&self) -> LayerTree {
        self.shared
            .lock()
            .map(|state| state.tree.clone())
            .unwrap_or_default()
    }

    fn orphans(&self) -> Result<Vec<Orphan>, Error> {
        self.shared.orphans()
    }

    fn reap(&self, orphans: &[Orphan]) -> Result<u32, Error> {
        self.shared.reap(orphans)
    }

    fn usage(&self) -> Result<Usage, Error> {
        let mut state = self.shared.lock()?;
        let (capacity, free) = self.shared.driver.space()?;
        let ids: Vec<LayerId> = state.tree.layers().map(|(id, _)| id).collect();
        for id in &ids {
            self.shared.measure(&mut state, *id)?;
        }
        let layers = state
            .tree
            .layers()
            .map(|(id, layer)| (id, layer.allocated))
            .collect();
        Ok(Usage {
            capacity,
            free,
            layers,
        })
    }

    fn block_graph(&self, volume: VolumeId) -> Result<serde_json::Value, Error> {
        let state = self.shared.lock_volumes(&[volume])?;
        let tip = self.live_tip(&state, volume)?;
        state.tree.check_whole(volume)?;
        let chain = state.tree.chain(tip);
        self.shared.driver.block_graph(volume, &chain)
    }

    fn begin_fill(
        &self,
        volume: VolumeId,
        size: ByteCount,
        source: FillSource,
    ) -> Result<VolumeInfo, Error> {
        self.check_size(size)?;
        self.shared.begin_fill(volume, size, source)?;
        self.volume(volume)
    }

    fn filling(&self, volume: VolumeId) -> Result<Option<Filling>, Error> {
        Ok(self.shared.lock()?.tree.filling(volume))
    }

    fn open_filling(
        &self,
        volume: VolumeId,
        reader: &serde_json::Value,
    ) -> Result<(serde_json::Value, Box<dyn Hold>), Error> {
        let (graph, pins) = self.shared.open_filling(volume, reader)?;
        Ok((graph, Box::new(pins)))
    }

    fn fill_base(&self, volume: VolumeId) -> Result<Option<Box<dyn RestoreWriter>>, Error> {
        Base::open(&self.shared, volume)
    }

    fn end_fill(&self, volume: VolumeId) -> Result<FillOutcome, Error> {
        self.shared.end_fill(volume)
    }
}
