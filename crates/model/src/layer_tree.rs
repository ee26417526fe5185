//! The tree of layers in a pool, and the planner of everything that changes it.
//!
//! A layer is one immutable or active file; all but the tips of volumes are sealed. What a
//! volume, a snapshot or a backup in the making refers to is a *name* on a layer:
//!
//! ```text
//!        base  <- snapshot s1
//!        /   \
//!      l2     l3  <- tip of a clone
//!      |
//!      l4  <- tip of the volume, capture of a backup on l2
//! ```
//!
//! What is asked ([`Request`]) becomes a list of [`Step`]s or a typed [`Refusal`]. A driver
//! executes the steps in order and applies each to its tree once it is durable.
//!
//! - One [`Step::PutRecord`] per volume makes a request happen: a crash before it leaves layers
//!   that nobody names, a crash after it only clean-up.
//! - A layer is owned by the volume whose tip it was made as, and every name on a layer is its
//!   owner's. A volume's record is there before its first layer and until its last is gone
//!   ([`LayerTree::is_spent`]). So a layer whose owner has no record never comes from a crash: the
//!   record was lost, and nobody may call the layer garbage ([`Inconsistency::NoRecord`]).
//! - A layer is sealed by being no tip any more; nothing here ever writes below a tip.
//! - A request that was done before gives a plan without steps, so that repeating it is harmless.
//! - Names go at once; the space between two names comes back by merging, when there is time
//!   ([`LayerTree::merge_candidates`]).
//!
//! It leaves out what is inside a layer: data moves only in a merge, which the driver does.

mod plan;
mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::{BackupId, LayerId, SnapshotId, VolumeId};
use crate::{ByteCount, ErrorKind};

pub use plan::{FreshLayers, Plan, Request};
pub use record::{SnapshotCause, SnapshotRecord, VolumeOrigin, VolumeRecord};

/// One file of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The volume whose record tells whether it is needed.
    pub owner: VolumeId,
    /// What it shows where it holds nothing itself.
    pub parent: Option<LayerId>,
    /// Its virtual size.
    pub size: ByteCount,
    /// Bytes that it occupies itself.
    pub allocated: ByteCount,
}

/// Who refers to a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerName {
    /// A volume writes to it.
    Tip(VolumeId),
    /// A snapshot is what it shows.
    Snapshot(SnapshotId),
    /// A snapshot that was taken before something was overwritten is what it shows.
    Safety(SnapshotId),
    /// A backup of a volume reads it, or the volume's next backup compares with it.
    Capture(VolumeId, BackupId),
}

/// One thing for a driver to do, durable before the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make an empty layer.
    CreateLayer {
        /// The new layer.
        layer: LayerId,
        /// The volume that it is made for.
        owner: VolumeId,
        /// What it shows until it is written.
        parent: Option<LayerId>,
        /// Its virtual size.
        size: ByteCount,
    },
    /// Make a tip's virtual size larger; what is new reads as zeros.
    GrowLayer {
        /// The tip.
        layer: LayerId,
        /// Its new size.
        size: ByteCount,
    },
    /// Make a layer another volume's, atomically.
    OwnLayer {
        /// The layer.
        layer: LayerId,
        /// Its new owner.
        owner: VolumeId,
    },
    /// Replace a volume's record, atomically.
    PutRecord {
        /// The volume.
        volume: VolumeId,
        /// Its new record.
        record: VolumeRecord,
    },
    /// Remove a volume's record, atomically, once all of its layers are durably gone.
    RemoveRecord {
        /// The volume.
        volume: VolumeId,
    },
    /// Protect a layer against writes from now on.
    SealLayer {
        /// The layer.
        layer: LayerId,
    },
    /// Remove a layer that has neither name nor child.
    RemoveLayer {
        /// The layer.
        layer: LayerId,
    },
    /// The parent's and the child's content are one layer, under the child's id.
    JoinLayers {
        /// The layer that is no more.
        parent: LayerId,
        /// The layer that holds both.
        child: LayerId,
        /// What it occupies now.
        allocated: ByteCount,
    },
}

/// Which way data moves in a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The child's data down into the parent, which takes the child's place.
    Commit,
    /// The parent's data up into the child, where the child holds nothing itself.
    Stream,
}

/// A layer that no name needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeCandidate {
    /// It has no child: it can go.
    Remove {
        /// The layer.
        layer: LayerId,
    },
    /// It has one child: the two can be one.
    Merge {
        /// The layer without a name.
        parent: LayerId,
        /// Its only child.
        child: LayerId,
        /// Which way fewer bytes move.
        direction: Direction,
        /// How many that are, at most.
        bytes: ByteCount,
    },
}

impl MergeCandidate {
    /// How many bytes move, at most.
    pub const fn bytes(&self) -> ByteCount {
        match self {
            Self::Remove { .. } => ByteCount::ZERO,
            Self::Merge { bytes, .. } => *bytes,
        }
    }
}

/// Why something cannot be done to the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such volume, or only snapshots are left of it.
    #[error("there is no volume {0}")]
    NoVolume(VolumeId),
    /// There are layers of the volume and no record that says what they are.
    #[error("the record of volume {0} is lost, its layers are there")]
    RecordLost(VolumeId),
    /// The volume exists and was made of something else.
    #[error("volume {0} exists and was made differently")]
    VolumeExists(VolumeId),
    /// There is no such snapshot.
    #[error("there is no snapshot {0}")]
    NoSnapshot(SnapshotId),
    /// The snapshot exists and is another one.
    #[error("snapshot {0} exists and was made differently")]
    SnapshotExists(SnapshotId),
    /// The snapshot belongs to another volume.
    #[error("snapshot {snapshot} is not one of volume {volume}")]
    SnapshotOfOther {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The volume that it should be of.
        volume: VolumeId,
    },
    /// The backup's capture exists and shows another layer.
    #[error("volume {volume} has another capture for backup {backup}")]
    CaptureExists {
        /// The volume.
        volume: VolumeId,
        /// The backup.
        backup: BackupId,
    },
    /// A volume does not become smaller.
    #[error("volume {volume} has {size} and does not become smaller")]
    NotLarger {
        /// The volume.
        volume: VolumeId,
        /// Its size.
        size: ByteCount,
    },
    /// A volume cannot be given its own content.
    #[error("volume {0} cannot be switched to itself")]
    SameVolume(VolumeId),
}

impl Refusal {
    /// What a caller must do about it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NoVolume(_) | Self::NoSnapshot(_) => ErrorKind::NotFound,
            Self::RecordLost(_) => ErrorKind::Corrupt,
            Self::VolumeExists(_) | Self::SnapshotExists(_) | Self::CaptureExists { .. } => {
                ErrorKind::Conflict
            }
            Self::SnapshotOfOther { .. } | Self::NotLarger { .. } | Self::SameVolume(_) => {
                ErrorKind::Invalid
            }
        }
    }
}

/// What does not fit together in what a pool recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistency {
    /// A layer's parent is not there.
    #[error("layer {layer} stands on layer {parent}, which is not there")]
    NoParent {
        /// The layer.
        layer: LayerId,
        /// Its parent.
        parent: LayerId,
    },
    /// Layers stand on each other in a circle.
    #[error("layer {0} stands on itself")]
    Circle(LayerId),
    /// A name refers to a layer that is not there.
    #[error("volume {volume} refers to layer {layer}, which is not there")]
    NoLayer {
        /// The volume whose record has the name.
        volume: VolumeId,
        /// The layer.
        layer: LayerId,
    },
    /// A volume owns layers and has no record that could be read.
    #[error("volume {volume} has no readable record, and {layers} layers that it may need")]
    NoRecord {
        /// The volume.
        volume: VolumeId,
        /// How many layers it owns.
        layers: usize,
    },
    /// Something stands on a layer that a volume writes to.
    #[error("volume {volume} writes to layer {layer}, which others need unchanged")]
    SharedTip {
        /// The volume.
        volume: VolumeId,
        /// Its tip.
        layer: LayerId,
    },
}

/// The layers of a pool and the records of its volumes, with both directions of every link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerTree {
    layers: BTreeMap<LayerId, Layer>,
    volumes: BTreeMap<VolumeId, VolumeRecord>,
    children: BTreeMap<LayerId, BTreeSet<LayerId>>,
    names: BTreeMap<LayerId, BTreeSet<LayerName>>,
    snapshots: BTreeMap<SnapshotId, VolumeId>,
    /// How many layers a volume owns; none with zero.
    owned: BTreeMap<VolumeId, usize>,
}

impl LayerTree {
    /// The tree of these layers and records. A switch that a crash cut off counts as done: the
    /// staged volume's record loses its tip.
    pub fn new(
        layers: impl IntoIterator<Item = (LayerId, Layer)>,
        volumes: impl IntoIterator<Item = (VolumeId, VolumeRecord)>,
    ) -> Self {
        let mut tree = Self::default();
        for (id, layer) in layers {
            tree.insert_layer(id, layer);
        }
        for (id, record) in volumes {
            tree.put_record(id, record);
        }
        let all: Vec<VolumeId> = tree.volumes.keys().copied().collect();
        for volume in all {
            tree.retire_staged(volume);
        }
        tree
    }

    /// One layer.
    pub fn layer(&self, layer: LayerId) -> Option<&Layer> {
        self.layers.get(&layer)
    }

    /// All layers, by id.
    pub fn layers(&self) -> impl Iterator<Item = (LayerId, &Layer)> {
        self.layers.iter().map(|(id, layer)| (*id, layer))
    }

    /// One volume's record.
    pub fn record(&self, volume: VolumeId) -> Option<&VolumeRecord> {
        self.volumes.get(&volume)
    }

    /// All records, by volume.
    pub fn records(&self) -> impl Iterator<Item = (VolumeId, &VolumeRecord)> {
        self.volumes.iter().map(|(id, record)| (*id, record))
    }

    /// Whether a record has nothing left to tell: it names no layer, and no layer is its
    /// volume's. It is to be removed, unless the volume is just being made.
    pub fn is_spent(&self, volume: VolumeId) -> bool {
        let owns_layers = self.owned.contains_key(&volume);
        !owns_layers && self.record(volume).is_some_and(VolumeRecord::is_empty)
    }

    /// Whether a volume has layers and no record: it was lost, or cannot be read.
    pub fn is_record_lost(&self, volume: VolumeId) -> bool {
        self.owned.contains_key(&volume) && !self.volumes.contains_key(&volume)
    }

    /// What a switch that was cut off after its commit point left to do.
    pub fn repairs(&self) -> Vec<Step> {
        let tips = self.volumes.iter().filter_map(|(volume, record)| {
            let layer = record.tip?;
            let is_other = self.layers.get(&layer)?.owner != *volume;
            let is_shared = self.names(layer).count() > 1;
            (is_other && !is_shared).then_some(Step::OwnLayer {
                layer,
                owner: *volume,
            })
        });
        tips.collect()
    }

    /// The layer that takes a volume's writes.
    pub fn tip(&self, volume: VolumeId) -> Option<LayerId> {
        self.volumes.get(&volume)?.tip
    }

    /// The volume that a snapshot is of, and what is recorded about it.
    pub fn snapshot(&self, snapshot: SnapshotId) -> Option<(VolumeId, &SnapshotRecord)> {
        let volume = *self.snapshots.get(&snapshot)?;
        let record = self.volumes.get(&volume)?.snapshots.get(&snapshot)?;
        Some((volume, record))
    }

    /// Who refers to a layer.
    pub fn names(&self, layer: LayerId) -> impl Iterator<Item = LayerName> + '_ {
        self.names.get(&layer).into_iter().flatten().copied()
    }

    /// The layers that stand on this one.
    pub fn children(&self, layer: LayerId) -> impl Iterator<Item = LayerId> + '_ {
        self.children.get(&layer).into_iter().flatten().copied()
    }

    /// Whether nothing may write to it any more.
    pub fn is_sealed(&self, layer: LayerId) -> bool {
        !self
            .names(layer)
            .any(|name| matches!(name, LayerName::Tip(_)))
    }

    /// The layer and everything below it, the layer first; it ends where something is missing.
    pub fn chain(&self, layer: LayerId) -> Vec<LayerId> {
        let mut chain = Vec::new();
        let mut next = self.layers.contains_key(&layer).then_some(layer);
        while let Some(id) = next {
            if chain.len() >= self.layers.len() {
                break;
            }
            chain.push(id);
            let parent = self.layers.get(&id).and_then(|layer| layer.parent);
            next = parent.filter(|parent| self.layers.contains_key(parent));
        }
        chain
    }

    /// The layers whose data may differ between two layers: those above the youngest layer
    /// that both stand on.
    pub fn layers_between(&self, from: LayerId, to: LayerId) -> Vec<LayerId> {
        let below_from: BTreeSet<LayerId> = self.chain(from).into_iter().collect();
        let to_chain = self.chain(to);
        let above: Vec<LayerId> = to_chain
            .iter()
            .copied()
            .take_while(|id| !below_from.contains(id))
            .collect();
        let common = to_chain.get(above.len()).copied();
        let from_above = self
            .chain(from)
            .into_iter()
            .take_while(|id| Some(*id) != common);
        above.into_iter().chain(from_above).collect()
    }

    /// Bytes occupied by a layer and everything below it.
    pub fn used(&self, layer: LayerId) -> ByteCount {
        self.chain(layer)
            .iter()
            .filter_map(|id| self.layers.get(id))
            .map(|layer| layer.allocated)
            .sum()
    }

    /// The layers that no name needs, the least work first: those without a child can go, those
    /// with one child can merge with it.
    pub fn merge_candidates(&self) -> Vec<MergeCandidate> {
        let mut found: Vec<MergeCandidate> = self
            .layers
            .keys()
            .filter_map(|layer| self.merge_candidate(*layer))
            .collect();
        found.sort_by_key(|candidate| (candidate.bytes(), *candidate));
        found
    }

    /// What could be done about one layer, if no name needs it.
    pub fn merge_candidate(&self, layer: LayerId) -> Option<MergeCandidate> {
        let parent = self.layers.get(&layer)?;
        if self.names(layer).next().is_some() {
            return None;
        }
        let mut children = self.children(layer);
        let Some(child) = children.next() else {
            return Some(MergeCandidate::Remove { layer });
        };
        if children.next().is_some() {
            return None;
        }
        let moved_down = self.layers.get(&child)?.allocated;
        let (direction, bytes) = if moved_down <= parent.allocated {
            (Direction::Commit, moved_down)
        } else {
            (Direction::Stream, parent.allocated)
        };
        Some(MergeCandidate::Merge {
            parent: layer,
            child,
            direction,
            bytes,
        })
    }

    /// Everything that does not fit together; empty for a whole pool.
    pub fn inconsistencies(&self) -> Vec<Inconsistency> {
        let mut found = Vec::new();
        for (id, layer) in &self.layers {
            if let Some(parent) = layer.parent
                && !self.layers.contains_key(&parent)
            {
                found.push(Inconsistency::NoParent { layer: *id, parent });
            }
        }
        found.extend(self.circles().into_iter().map(Inconsistency::Circle));
        let owners = self.owned.iter();
        let lost = owners.filter(|(volume, _)| !self.volumes.contains_key(volume));
        found.extend(lost.map(|(volume, layers)| Inconsistency::NoRecord {
            volume: *volume,
            layers: *layers,
        }));
        for (volume, record) in &self.volumes {
            for (_, layer) in record.names(*volume) {
                if !self.layers.contains_key(&layer) {
                    found.push(Inconsistency::NoLayer {
                        volume: *volume,
                        layer,
                    });
                }
            }
            if let Some(tip) = record.tip
                && (self.names(tip).count() > 1
                    || self.children(tip).any(|child| self.is_needed(child)))
            {
                found.push(Inconsistency::SharedTip {
                    volume: *volume,
                    layer: tip,
                });
            }
        }
        found
    }

    /// Records what a step did.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::CreateLayer {
                layer,
                owner,
                parent,
                size,
            } => {
                let new = Layer {
                    owner: *owner,
                    parent: *parent,
                    size: *size,
                    allocated: ByteCount::ZERO,
                };
                self.insert_layer(*layer, new);
            }
            Step::GrowLayer { layer, size } => {
                if let Some(layer) = self.layers.get_mut(layer) {
                    layer.size = *size;
                }
            }
            Step::OwnLayer { layer, owner } => {
                if let Some(found) = self.layers.get(layer).copied() {
                    let owner = *owner;
                    self.insert_layer(*layer, Layer { owner, ..found });
                }
            }
            Step::PutRecord { volume, record } => {
                self.put_record(*volume, record.clone());
                self.retire_staged(*volume);
            }
            Step::RemoveRecord { volume } => self.remove_record(*volume),
            Step::SealLayer { .. } => {}
            Step::RemoveLayer { layer } => self.remove_layer(*layer),
            Step::JoinLayers {
                parent,
                child,
                allocated,
            } => {
                self.join_layers(*parent, *child, *allocated);
            }
        }
    }

    /// Records what a layer occupies by now.
    pub fn set_allocated(&mut self, layer: LayerId, allocated: ByteCount) {
        if let Some(layer) = self.layers.get_mut(&layer) {
            layer.allocated = allocated;
        }
    }

    fn insert_layer(&mut self, id: LayerId, layer: Layer) {
        self.remove_layer(id);
        if let Some(parent) = layer.parent {
            self.children.entry(parent).or_default().insert(id);
        }
        *self.owned.entry(layer.owner).or_default() += 1;
        self.layers.insert(id, layer);
    }

    fn remove_layer(&mut self, id: LayerId) {
        let Some(layer) = self.layers.remove(&id) else {
            return;
        };
        if let Some(parent) = layer.parent {
            remove_link(&mut self.children, parent, &id);
        }
        if let Some(count) = self.owned.get_mut(&layer.owner) {
            *count -= 1;
            if *count == 0 {
                self.owned.remove(&layer.owner);
            }
        }
    }

    fn join_layers(&mut self, parent: LayerId, child: LayerId, allocated: ByteCount) {
        let (Some(lower), Some(upper)) = (self.layers.get(&parent), self.layers.get(&child)) else {
            return;
        };
        let joined = Layer {
            owner: upper.owner,
            parent: lower.parent,
            size: upper.size,
            allocated,
        };
        self.remove_layer(parent);
        self.insert_layer(child, joined);
    }

    fn put_record(&mut self, volume: VolumeId, record: VolumeRecord) {
        self.remove_record(volume);
        for (name, layer) in record.names(volume) {
            self.names.entry(layer).or_default().insert(name);
        }
        for snapshot in record.snapshots.keys() {
            self.snapshots.insert(*snapshot, volume);
        }
        self.volumes.insert(volume, record);
    }

    /// Takes the tip from a staged volume whose content this volume was given: the volume's
    /// record alone is the commit point of a switch.
    fn retire_staged(&mut self, volume: VolumeId) {
        let Some(record) = self.volumes.get(&volume) else {
            return;
        };
        let Some(tip) = record.tip else {
            return;
        };
        let staged: Vec<VolumeId> = record.staged_volumes().collect();
        for staged in staged {
            if let Some(record) = self.volumes.get(&staged)
                && record.tip == Some(tip)
            {
                let deleted = record.without_volume();
                self.put_record(staged, deleted);
            }
        }
    }

    fn remove_record(&mut self, volume: VolumeId) {
        let Some(record) = self.volumes.remove(&volume) else {
            return;
        };
        for (name, layer) in record.names(volume) {
            remove_link(&mut self.names, layer, &name);
        }
        for snapshot in record.snapshots.keys() {
            self.snapshots.remove(snapshot);
        }
    }

    /// Whether a name refers to the layer or to anything that stands on it.
    fn is_needed(&self, layer: LayerId) -> bool {
        let mut seen: BTreeSet<LayerId> = BTreeSet::new();
        let mut next = vec![layer];
        while let Some(id) = next.pop() {
            if self.names(id).next().is_some() {
                return true;
            }
            if seen.insert(id) {
                next.extend(self.children(id));
            }
        }
        false
    }

    /// The layers that are not reached from any root.
    fn circles(&self) -> Vec<LayerId> {
        let mut reached: BTreeSet<LayerId> = BTreeSet::new();
        let is_root = |layer: &Layer| layer.parent.is_none_or(|p| !self.layers.contains_key(&p));
        let mut next: Vec<LayerId> = self
            .layers
            .iter()
            .filter(|(_, layer)| is_root(layer))
            .map(|(id, _)| *id)
            .collect();
        while let Some(id) = next.pop() {
            if reached.insert(id) {
                next.extend(self.children(id));
            }
        }
        self.layers
            .keys()
            .filter(|id| !reached.contains(id))
            .copied()
            .collect()
    }
}

fn remove_link<T: Ord>(links: &mut BTreeMap<LayerId, BTreeSet<T>>, layer: LayerId, linked: &T) {
    if let Some(set) = links.get_mut(&layer) {
        set.remove(linked);
        if set.is_empty() {
            links.remove(&layer);
        }
    }
}
