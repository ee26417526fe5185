//! What is different while somebody has a volume open.
//!
//! Whoever runs a guest goes through its chain of layers on its own; a change happens there first
//! and is recorded afterwards, so a crash may come in between:
//!
//! ```text
//!            prepare            the host switches           seal
//! tip = l1 ----------> tip = l1 ------------------> (asked) -----> tip = l2, l1 has the name
//!                      pending = l2                    \
//!                                                       `--------> tip = l1, l2 is removed
//!                                                        not switched: call off
//! ```
//!
//! The record says what is under way ([`Pending`], [`Joining`]) before it begins, so that nobody
//! has to guess afterwards; what became of it is found out by facts, which is not this module's
//! part.
//!
//! While a file is open elsewhere, its header and its name are not ours to change. So a merge that
//! was done there is recorded as a [`Placement`]: the layer is in that file and stands on that
//! layer, whatever the file's own header says. It is one record, and so the commit point. Once
//! nobody has the file open, header and name are made to say the same, and the placement goes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::{LayerTree, Refusal, SnapshotCause, SnapshotRecord, Step, VolumeOrigin, VolumeRecord};
use crate::id::{BackupId, LayerId, SnapshotId, VolumeId};
use crate::item::Consistency;
use crate::task::CloneSource;

/// What the sealed layer will be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A snapshot.
    Snapshot(SnapshotId),
    /// What a backup reads.
    Capture(BackupId),
    /// Nothing: it becomes immutable so that it can be merged, or copied.
    Rotation,
}

/// An overlay that a host is about to switch to, or did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The empty layer on the tip.
    pub layer: LayerId,
    /// What the tip will be called when it is sealed.
    pub purpose: Purpose,
    /// All volumes that switch at the same instant, this one too, with their overlays: one
    /// switched means all switched.
    pub together: BTreeMap<VolumeId, LayerId>,
}

/// A merge that a host was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joining {
    /// The layer without a name.
    pub parent: LayerId,
    /// Its only child.
    pub child: LayerId,
}

/// Where a layer is and what it stands on, whatever the header of the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The layer whose file it was at first.
    pub file: LayerId,
    /// What it stands on.
    pub parent: Option<LayerId>,
    /// The layer that it was merged with, which is no more, wherever that was placed.
    pub took: LayerId,
    /// The file that is not needed any more.
    pub left: LayerId,
}

impl LayerTree {
    /// Puts an empty overlay on a volume's tip and records that a host will switch to it.
    pub fn plan_prepare(&self, volume: VolumeId, pending: Pending) -> Result<Plan, Refusal> {
        let (record, tip) = self.live(volume)?;
        if record.pending.is_some() {
            return Err(Refusal::Undecided(volume));
        }
        let mut record = record.clone();
        let layer = pending.layer;
        record.pending = Some(pending);
        Ok(Plan {
            steps: vec![
                Step::CreateLayer {
                    layer,
                    owner: volume,
                    parent: Some(tip),
                    size: self.size(tip),
                },
                Step::PutRecord { volume, record },
            ],
        })
    }

    /// The host switched: the overlay is the tip, and what was the tip has its name and promises
    /// what the host said.
    pub fn plan_seal(&self, volume: VolumeId, consistency: Consistency) -> Result<Plan, Refusal> {
        let (record, tip) = self.live(volume)?;
        let mut record = record.clone();
        let Some(pending) = record.pending.take() else {
            return Ok(Plan::default());
        };
        let cause = SnapshotCause::Asked;
        match pending.purpose {
            Purpose::Snapshot(snapshot) => {
                let taken = SnapshotRecord { layer: tip, cause };
                record.snapshots.insert(snapshot, taken);
            }
            Purpose::Capture(backup) => drop(record.captures.insert(backup, tip)),
            Purpose::Rotation => {}
        }
        record.tip = Some(pending.layer);
        record.promises.insert(tip, consistency);
        let record = record.without_spent_promises();
        Ok(Plan {
            steps: vec![
                Step::PutRecord { volume, record },
                Step::SealLayer { layer: tip },
            ],
        })
    }

    /// The host did not switch: the overlay goes.
    pub fn plan_call_off(&self, volume: VolumeId) -> Result<Plan, Refusal> {
        let (record, _) = self.live(volume)?;
        let mut record = record.clone();
        let Some(pending) = record.pending.take() else {
            return Ok(Plan::default());
        };
        let layer = pending.layer;
        Ok(Plan {
            steps: vec![
                Step::PutRecord { volume, record },
                Step::RemoveLayer { layer },
            ],
        })
    }

    /// Makes a volume that starts as a copy of what an open volume showed when its tip was last
    /// put on a sealed layer.
    pub fn plan_clone_below(
        &self,
        source: VolumeId,
        volume: VolumeId,
        tip: LayerId,
    ) -> Result<Plan, Refusal> {
        let origin = VolumeOrigin::Clone(CloneSource::Volume(source));
        if !self.may_make(volume, origin)? {
            return Ok(Plan::default());
        }
        let (_, above) = self.live(source)?;
        let base = self.layer(above).and_then(|layer| layer.parent);
        let base = base.ok_or(Refusal::NoLayer(above))?;
        let mut steps = self.steps_to_announce(volume, origin);
        steps.push(Step::CreateLayer {
            layer: tip,
            owner: volume,
            parent: Some(base),
            size: self.size(base),
        });
        let record = VolumeRecord::new(origin, tip);
        steps.push(Step::PutRecord { volume, record });
        Ok(Plan { steps })
    }

    /// Records, or forgets, the merge that a host does in a volume's chain.
    pub fn plan_joining(
        &self,
        volume: VolumeId,
        joining: Option<Joining>,
    ) -> Result<Plan, Refusal> {
        let Some(record) = self.known(volume)? else {
            return Ok(Plan::default());
        };
        if record.joining == joining {
            return Ok(Plan::default());
        }
        let record = VolumeRecord {
            joining,
            ..record.clone()
        };
        Ok(Plan {
            steps: vec![Step::PutRecord { volume, record }],
        })
    }

    /// Records where a layer is, or that its header and its name say it by now.
    pub fn plan_placement(
        &self,
        layer: LayerId,
        placement: Option<Placement>,
    ) -> Result<Plan, Refusal> {
        let owner = self.layer(layer).map(|layer| layer.owner);
        let owner = owner.ok_or(Refusal::NoLayer(layer))?;
        let mut record = self.known(owner)?.ok_or(Refusal::NoVolume(owner))?.clone();
        match placement {
            Some(placement) => drop(record.placed.insert(layer, placement)),
            None => drop(record.placed.remove(&layer)),
        }
        Ok(Plan {
            steps: vec![Step::PutRecord {
                volume: owner,
                record,
            }],
        })
    }

    /// The volumes that write through a layer.
    pub fn volumes_on(&self, layer: LayerId) -> Vec<VolumeId> {
        let mut found = Vec::new();
        let mut next = vec![layer];
        let mut left = self.layers.len();
        while let Some(id) = next.pop() {
            let tips = self.names(id).filter_map(|name| match name {
                super::LayerName::Tip(volume) => Some(volume),
                _ => None,
            });
            found.extend(tips);
            if left == 0 {
                break;
            }
            left -= 1;
            next.extend(self.children(id));
        }
        found
    }
}
