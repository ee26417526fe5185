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

mod apply;
mod filling;
mod live;
mod plan;
mod record;
mod request;
mod step;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::ByteCount;
use crate::id::{LayerId, SnapshotId, VolumeId};

pub use filling::{FillSource, Filling};
pub use live::{Joining, Pending, Placement, Purpose};
pub use plan::Plan;
pub use record::{SnapshotCause, SnapshotRecord, VolumeOrigin, VolumeRecord};
pub use request::{FreshLayers, Request};
pub use step::{Direction, Inconsistency, Layer, LayerName, MergeCandidate, Refusal, Step};

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

    /// Whether a name refers to the layer or to anything that stands on it. An overlay that a
    /// host is to switch to needs the tip to be just what it is: a tip.
    fn is_needed(&self, layer: LayerId) -> bool {
        let mut seen: BTreeSet<LayerId> = BTreeSet::new();
        let mut next = vec![layer];
        while let Some(id) = next.pop() {
            let mut names = self.names(id);
            if names.any(|name| !matches!(name, LayerName::Pending(_))) {
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
