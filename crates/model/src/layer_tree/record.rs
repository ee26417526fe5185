//! What a pool records about one volume, in one piece: the commit point of every change.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::LayerName;
use super::filling::Filling;
use super::live::{Joining, Pending, Placement};
use crate::ByteCount;
use crate::id::{BackupId, LayerId, SnapshotId, VolumeId};
use crate::item::Consistency;
use crate::task::CloneSource;

/// What a volume was made of, so that making it again can be told from making another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeOrigin {
    /// Of nothing, with this size.
    Empty {
        /// The size at first.
        size: ByteCount,
    },
    /// Of an uploaded image.
    Image,
    /// Of a snapshot or another volume.
    Clone(CloneSource),
    /// Of a backup.
    Restore,
}

/// Why a snapshot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotCause {
    /// Somebody asked for it.
    Asked,
    /// The volume was put back to another snapshot.
    BeforeRollBack {
        /// That snapshot.
        to: SnapshotId,
    },
    /// The volume was given the content of a staged one.
    BeforeSwitch {
        /// The staged volume.
        staged: VolumeId,
    },
}

/// A snapshot, as its volume's record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// The sealed layer that shows it.
    pub layer: LayerId,
    /// Why it was taken.
    pub cause: SnapshotCause,
}

/// What a pool records about one volume. It is there without a tip while the volume is being
/// made, and after its deletion for as long as there are snapshots or layers of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// What it was made of.
    pub origin: VolumeOrigin,
    /// The layer that takes its writes; none before it was made and once it was deleted.
    pub tip: Option<LayerId>,
    /// Its snapshots.
    pub snapshots: BTreeMap<SnapshotId, SnapshotRecord>,
    /// The layers that its backups read or compare with.
    pub captures: BTreeMap<BackupId, LayerId>,
    /// The overlay that whoever has the volume open is about to switch to, or did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
    /// The merge that whoever has the volume open was asked to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joining: Option<Joining>,
    /// Where layers of the volume are, while their headers and names say otherwise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub placed: BTreeMap<LayerId, Placement>,
    /// What the content of its snapshots and captures promises, where that is less than
    /// [`Consistency::Stopped`]: they were sealed while somebody had the volume open.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub promises: BTreeMap<LayerId, Consistency>,
    /// What it stands on and shows until it is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filling: Option<Filling>,
}

impl VolumeRecord {
    /// Of a new volume.
    pub fn new(origin: VolumeOrigin, tip: LayerId) -> Self {
        Self {
            tip: Some(tip),
            ..Self::intent(origin)
        }
    }

    /// Of a volume that is about to be made.
    pub(super) const fn intent(origin: VolumeOrigin) -> Self {
        Self {
            origin,
            tip: None,
            snapshots: BTreeMap::new(),
            captures: BTreeMap::new(),
            pending: None,
            joining: None,
            placed: BTreeMap::new(),
            promises: BTreeMap::new(),
            filling: None,
        }
    }

    /// What stays when the volume goes: its snapshots.
    pub(super) fn without_volume(&self) -> Self {
        let left = Self {
            tip: None,
            captures: BTreeMap::new(),
            filling: None,
            ..self.clone()
        };
        left.without_spent_promises()
    }

    /// Without what was promised of layers that no snapshot and no capture of it needs any more.
    pub(super) fn without_spent_promises(mut self) -> Self {
        let snapshots = self.snapshots.values().map(|snapshot| snapshot.layer);
        let named: BTreeSet<LayerId> = snapshots.chain(self.captures.values().copied()).collect();
        self.promises.retain(|layer, _| named.contains(layer));
        self
    }

    /// What the content of one of its snapshots or captures promises.
    pub fn promise(&self, layer: LayerId) -> Consistency {
        let known = self.promises.get(&layer).copied();
        known.unwrap_or(Consistency::Stopped)
    }

    /// Whether it names no layer.
    pub fn is_empty(&self) -> bool {
        self.tip.is_none() && self.snapshots.is_empty() && self.captures.is_empty()
    }

    /// Whether it says what only a version that knows of open volumes understands.
    pub fn is_live(&self) -> bool {
        self.pending.is_some()
            || self.joining.is_some()
            || !self.placed.is_empty()
            || !self.promises.is_empty()
    }

    /// The names that it gives to layers.
    pub fn names(&self, volume: VolumeId) -> impl Iterator<Item = (LayerName, LayerId)> + '_ {
        let tip = self.tip.map(|layer| (LayerName::Tip(volume), layer));
        let snapshots = self.snapshots.iter().map(|(id, snapshot)| {
            let name = match snapshot.cause {
                SnapshotCause::Asked => LayerName::Snapshot(*id),
                SnapshotCause::BeforeRollBack { .. } | SnapshotCause::BeforeSwitch { .. } => {
                    LayerName::Safety(*id)
                }
            };
            (name, snapshot.layer)
        });
        let captures = self
            .captures
            .iter()
            .map(move |(backup, layer)| (LayerName::Capture(volume, *backup), *layer));
        let pending = self.pending.as_ref();
        let pending = pending.map(|pending| (LayerName::Pending(volume), pending.layer));
        let filling = self.filling.as_ref();
        let filling = filling.map(|filling| (LayerName::Filling(volume), filling.base));
        let named = tip.into_iter().chain(snapshots).chain(captures);
        named.chain(pending).chain(filling)
    }

    /// The staged volumes whose content this volume was given.
    pub(super) fn staged_volumes(&self) -> impl Iterator<Item = VolumeId> + '_ {
        self.snapshots
            .values()
            .filter_map(|snapshot| match snapshot.cause {
                SnapshotCause::BeforeSwitch { staged } => Some(staged),
                SnapshotCause::Asked | SnapshotCause::BeforeRollBack { .. } => None,
            })
    }
}
