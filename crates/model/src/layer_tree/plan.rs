//! From what is asked to the steps that do it.

use std::collections::BTreeSet;

use super::{
    FreshLayers, LayerName, LayerTree, Refusal, Request, SnapshotCause, SnapshotRecord, Step,
    VolumeOrigin, VolumeRecord,
};
use crate::ByteCount;
use crate::id::{BackupId, LayerId, SnapshotId, VolumeId};
use crate::task::CloneSource;

/// What to do, in this order. Without steps it was done before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do.
    pub steps: Vec<Step>,
}

impl Plan {
    fn done() -> Self {
        Self::default()
    }
}

impl LayerTree {
    /// The steps that do what is asked.
    pub fn plan(&self, request: &Request, fresh: FreshLayers) -> Result<Plan, Refusal> {
        match *request {
            Request::CreateVolume { volume, size } => self.plan_create(volume, size, fresh),
            Request::AnnounceVolume { volume, origin } => self.plan_announce(volume, origin),
            Request::AdoptLayer {
                volume,
                layer,
                origin,
            } => self.plan_adopt(volume, layer, origin),
            Request::Resize { volume, size } => self.plan_resize(volume, size),
            Request::Clone { source, volume } => self.plan_clone(source, volume, fresh),
            Request::Snapshot { volume, snapshot } => self.plan_snapshot(volume, snapshot, fresh),
            Request::RollBack {
                volume,
                snapshot,
                safety,
            } => self.plan_roll_back(volume, snapshot, safety, fresh),
            Request::Switch {
                volume,
                staged,
                safety,
            } => self.plan_switch(volume, staged, safety),
            Request::Capture {
                volume,
                backup,
                snapshot,
            } => self.plan_capture(volume, backup, snapshot, fresh),
            Request::SettleCapture { volume, backup } => self.plan_settle(volume, backup),
            Request::ReleaseCapture { volume, backup } => self.plan_release(volume, backup),
            Request::DropSnapshot { snapshot } => Ok(self.plan_drop_snapshot(snapshot)),
            Request::DeleteVolume { volume } => self.plan_delete_volume(volume),
        }
    }

    /// Whether a new volume may be made: `Ok(false)` when the same was made before.
    pub fn may_make(&self, volume: VolumeId, origin: VolumeOrigin) -> Result<bool, Refusal> {
        match self.known(volume)? {
            None => Ok(true),
            Some(record) if record.is_empty() => Ok(true),
            Some(record) if record.tip.is_some() && record.origin == origin => Ok(false),
            Some(_) => Err(Refusal::VolumeExists(volume)),
        }
    }

    fn plan_announce(&self, volume: VolumeId, origin: VolumeOrigin) -> Result<Plan, Refusal> {
        if !self.may_make(volume, origin)? {
            return Ok(Plan::done());
        }
        Ok(Plan {
            steps: self.steps_to_announce(volume, origin),
        })
    }

    /// The record that explains the layers of a volume before it is made.
    pub(super) fn steps_to_announce(&self, volume: VolumeId, origin: VolumeOrigin) -> Vec<Step> {
        if self.record(volume).is_some() {
            return Vec::new();
        }
        let record = VolumeRecord::intent(origin);
        vec![Step::PutRecord { volume, record }]
    }

    fn plan_create(
        &self,
        volume: VolumeId,
        size: ByteCount,
        fresh: FreshLayers,
    ) -> Result<Plan, Refusal> {
        let origin = VolumeOrigin::Empty { size };
        if !self.may_make(volume, origin)? {
            return Ok(Plan::done());
        }
        let layer = fresh.first;
        let record = VolumeRecord::new(origin, layer);
        let mut steps = self.steps_to_announce(volume, origin);
        steps.push(Step::CreateLayer {
            layer,
            owner: volume,
            parent: None,
            size,
        });
        steps.push(Step::PutRecord { volume, record });
        Ok(Plan { steps })
    }

    fn plan_adopt(
        &self,
        volume: VolumeId,
        layer: LayerId,
        origin: VolumeOrigin,
    ) -> Result<Plan, Refusal> {
        if !self.may_make(volume, origin)? {
            return Ok(Plan::done());
        }
        let record = VolumeRecord::new(origin, layer);
        Ok(Plan {
            steps: vec![Step::PutRecord { volume, record }],
        })
    }

    fn plan_resize(&self, volume: VolumeId, size: ByteCount) -> Result<Plan, Refusal> {
        let (_, tip) = self.live(volume)?;
        let now = self.size(tip);
        if size < now {
            return Err(Refusal::NotLarger { volume, size: now });
        }
        if size == now {
            return Ok(Plan::done());
        }
        Ok(Plan {
            steps: vec![Step::GrowLayer { layer: tip, size }],
        })
    }

    fn plan_clone(
        &self,
        source: CloneSource,
        volume: VolumeId,
        fresh: FreshLayers,
    ) -> Result<Plan, Refusal> {
        let origin = VolumeOrigin::Clone(source);
        if !self.may_make(volume, origin)? {
            return Ok(Plan::done());
        }
        let tip = fresh.first;
        let record = VolumeRecord::new(origin, tip);
        let (base, mut steps) = match source {
            CloneSource::Snapshot(snapshot) => (self.snapshot_layer(snapshot)?, Vec::new()),
            CloneSource::Volume(source) => {
                let (record, base) = self.live(source)?;
                (
                    base,
                    self.steps_to_seal(source, base, record.clone(), fresh.second),
                )
            }
        };
        steps.extend(self.steps_to_announce(volume, origin));
        steps.push(Step::CreateLayer {
            layer: tip,
            owner: volume,
            parent: Some(base),
            size: self.size(base),
        });
        steps.push(Step::PutRecord { volume, record });
        Ok(Plan { steps })
    }

    fn plan_snapshot(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        fresh: FreshLayers,
    ) -> Result<Plan, Refusal> {
        let cause = SnapshotCause::Asked;
        if self.is_snapshot_of(volume, snapshot, cause)? {
            return Ok(Plan::done());
        }
        let (record, tip) = self.live(volume)?;
        let mut record = record.clone();
        record
            .snapshots
            .insert(snapshot, SnapshotRecord { layer: tip, cause });
        Ok(Plan {
            steps: self.steps_to_seal(volume, tip, record, fresh.first),
        })
    }

    fn plan_roll_back(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        safety: SnapshotId,
        fresh: FreshLayers,
    ) -> Result<Plan, Refusal> {
        let cause = SnapshotCause::BeforeRollBack { to: snapshot };
        if self.is_snapshot_of(volume, safety, cause)? {
            return Ok(Plan::done());
        }
        let (record, old_tip) = self.live(volume)?;
        let base = self.snapshot_layer(snapshot)?;
        if !record.snapshots.contains_key(&snapshot) {
            return Err(Refusal::SnapshotOfOther { snapshot, volume });
        }
        let mut record = record.clone();
        record.tip = Some(fresh.first);
        record.snapshots.insert(
            safety,
            SnapshotRecord {
                layer: old_tip,
                cause,
            },
        );
        let size = self.size(base);
        Ok(Plan {
            steps: vec![
                Step::CreateLayer {
                    layer: fresh.first,
                    owner: volume,
                    parent: Some(base),
                    size,
                },
                Step::PutRecord { volume, record },
                Step::SealLayer { layer: old_tip },
            ],
        })
    }

    fn plan_switch(
        &self,
        volume: VolumeId,
        staged: VolumeId,
        safety: SnapshotId,
    ) -> Result<Plan, Refusal> {
        if volume == staged {
            return Err(Refusal::SameVolume(volume));
        }
        let cause = SnapshotCause::BeforeSwitch { staged };
        if self.is_snapshot_of(volume, safety, cause)? {
            return Ok(Plan::done());
        }
        let (record, old_tip) = self.live(volume)?;
        let (staged_record, new_tip) = self.live(staged)?;
        let mut record = record.clone();
        record.tip = Some(new_tip);
        record.snapshots.insert(
            safety,
            SnapshotRecord {
                layer: old_tip,
                cause,
            },
        );
        let left = staged_record.without_volume();
        Ok(Plan {
            steps: vec![
                Step::PutRecord { volume, record },
                Step::OwnLayer {
                    layer: new_tip,
                    owner: volume,
                },
                Step::PutRecord {
                    volume: staged,
                    record: left,
                },
                Step::SealLayer { layer: old_tip },
            ],
        })
    }

    fn plan_capture(
        &self,
        volume: VolumeId,
        backup: BackupId,
        snapshot: Option<SnapshotId>,
        fresh: FreshLayers,
    ) -> Result<Plan, Refusal> {
        let asked = snapshot
            .map(|snapshot| self.snapshot_layer(snapshot))
            .transpose();
        let record = self.known(volume)?.ok_or(Refusal::NoVolume(volume))?;
        if let Some(captured) = record.captures.get(&backup) {
            return match asked {
                Ok(Some(layer)) if layer != *captured => {
                    Err(Refusal::CaptureExists { volume, backup })
                }
                _ => Ok(Plan::done()),
            };
        }
        let asked = asked?;
        if let Some(snapshot) = snapshot
            && !record.snapshots.contains_key(&snapshot)
        {
            return Err(Refusal::SnapshotOfOther { snapshot, volume });
        }
        let mut record = record.clone();
        if let Some(layer) = asked {
            record.captures.insert(backup, layer);
            return Ok(Plan {
                steps: vec![Step::PutRecord { volume, record }],
            });
        }
        let (_, tip) = self.live(volume)?;
        record.captures.insert(backup, tip);
        Ok(Plan {
            steps: self.steps_to_seal(volume, tip, record, fresh.first),
        })
    }

    fn plan_settle(&self, volume: VolumeId, backup: BackupId) -> Result<Plan, Refusal> {
        let Some(record) = self.known(volume)? else {
            return Ok(Plan::done());
        };
        if !record.captures.contains_key(&backup) || record.captures.len() == 1 {
            return Ok(Plan::done());
        }
        let mut left = record.clone();
        left.captures.retain(|id, _| *id == backup);
        Ok(self.plan_replace(volume, record, left))
    }

    fn plan_release(&self, volume: VolumeId, backup: BackupId) -> Result<Plan, Refusal> {
        let Some(record) = self.known(volume)? else {
            return Ok(Plan::done());
        };
        let mut left = record.clone();
        if left.captures.remove(&backup).is_none() {
            return Ok(Plan::done());
        }
        Ok(self.plan_replace(volume, record, left))
    }

    fn plan_drop_snapshot(&self, snapshot: SnapshotId) -> Plan {
        let Some((volume, _)) = self.snapshot(snapshot) else {
            return Plan::done();
        };
        let Some(record) = self.record(volume) else {
            return Plan::done();
        };
        let mut left = record.clone();
        left.snapshots.remove(&snapshot);
        self.plan_replace(volume, record, left)
    }

    fn plan_delete_volume(&self, volume: VolumeId) -> Result<Plan, Refusal> {
        let Some(record) = self.known(volume)? else {
            return Ok(Plan::done());
        };
        let left = record.without_volume();
        if left == *record {
            return Ok(Plan::done());
        }
        Ok(self.plan_replace(volume, record, left))
    }

    /// Stores what is left of a record, then removes the layers that nobody needs any more.
    fn plan_replace(&self, volume: VolumeId, old: &VolumeRecord, left: VolumeRecord) -> Plan {
        let kept: BTreeSet<LayerName> = left.names(volume).map(|(name, _)| name).collect();
        let dropped: Vec<(LayerName, LayerId)> = old
            .names(volume)
            .filter(|(name, _)| !kept.contains(name))
            .collect();
        let record = left.without_spent_promises();
        let mut steps = vec![Step::PutRecord { volume, record }];
        let unneeded = self.unneeded_without(&dropped);
        steps.extend(
            unneeded
                .into_iter()
                .map(|layer| Step::RemoveLayer { layer }),
        );
        Plan { steps }
    }

    /// The layers that have neither name nor child once these names are gone, children first.
    fn unneeded_without(&self, dropped: &[(LayerName, LayerId)]) -> Vec<LayerId> {
        let names: BTreeSet<LayerName> = dropped.iter().map(|(name, _)| *name).collect();
        let mut gone: Vec<LayerId> = Vec::new();
        let mut starts: Vec<LayerId> = dropped.iter().map(|(_, layer)| *layer).collect();
        while let Some(layer) = starts.pop() {
            let is_needed = gone.contains(&layer)
                || !self.layers.contains_key(&layer)
                || self.names(layer).any(|name| !names.contains(&name))
                || self.children(layer).any(|child| !gone.contains(&child));
            if !is_needed {
                gone.push(layer);
                starts.extend(self.layers.get(&layer).and_then(|layer| layer.parent));
            }
        }
        gone
    }

    /// Puts an empty tip on `tip` and records it with everything else in `record`.
    fn steps_to_seal(
        &self,
        volume: VolumeId,
        tip: LayerId,
        mut record: VolumeRecord,
        new_tip: LayerId,
    ) -> Vec<Step> {
        record.tip = Some(new_tip);
        vec![
            Step::CreateLayer {
                layer: new_tip,
                owner: volume,
                parent: Some(tip),
                size: self.size(tip),
            },
            Step::PutRecord { volume, record },
            Step::SealLayer { layer: tip },
        ]
    }

    /// Whether the snapshot exists for this very reason.
    fn is_snapshot_of(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        cause: SnapshotCause,
    ) -> Result<bool, Refusal> {
        match self.snapshot(snapshot) {
            None => Ok(false),
            Some((owner, record)) if owner == volume && record.cause == cause => Ok(true),
            Some(_) => Err(Refusal::SnapshotExists(snapshot)),
        }
    }

    /// A volume's record, if the pool knows the volume; refused when the record was lost.
    pub fn known(&self, volume: VolumeId) -> Result<Option<&VolumeRecord>, Refusal> {
        if self.is_record_lost(volume) {
            return Err(Refusal::RecordLost(volume));
        }
        Ok(self.record(volume))
    }

    /// The layer that takes a volume's writes; refused when the volume does not exist.
    pub fn live_tip(&self, volume: VolumeId) -> Result<LayerId, Refusal> {
        self.record_and_tip(volume).map(|(_, tip)| tip)
    }

    /// The record and the tip of a volume that is whole.
    pub(super) fn live(&self, volume: VolumeId) -> Result<(&VolumeRecord, LayerId), Refusal> {
        let found = self.record_and_tip(volume)?;
        self.check_whole(volume)?;
        Ok(found)
    }

    fn record_and_tip(&self, volume: VolumeId) -> Result<(&VolumeRecord, LayerId), Refusal> {
        let record = self.known(volume)?.ok_or(Refusal::NoVolume(volume))?;
        let tip = record.tip.ok_or(Refusal::NoVolume(volume))?;
        Ok((record, tip))
    }

    fn snapshot_layer(&self, snapshot: SnapshotId) -> Result<LayerId, Refusal> {
        self.snapshot(snapshot)
            .map(|(_, record)| record.layer)
            .ok_or(Refusal::NoSnapshot(snapshot))
    }

    pub(super) fn size(&self, layer: LayerId) -> ByteCount {
        self.layer(layer)
            .map_or(ByteCount::ZERO, |layer| layer.size)
    }
}
