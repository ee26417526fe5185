//! What a step makes of the tree, with both directions of every link.

use std::collections::{BTreeMap, BTreeSet};

use super::{Layer, LayerTree, Step, VolumeRecord};
use crate::ByteCount;
use crate::id::{LayerId, VolumeId};

impl LayerTree {
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

    pub(super) fn insert_layer(&mut self, id: LayerId, layer: Layer) {
        self.remove_layer(id);
        if let Some(parent) = layer.parent {
            self.children.entry(parent).or_default().insert(id);
        }
        *self.owned.entry(layer.owner).or_default() += 1;
        self.layers.insert(id, layer);
    }

    pub(super) fn remove_layer(&mut self, id: LayerId) {
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

    pub(super) fn join_layers(&mut self, parent: LayerId, child: LayerId, allocated: ByteCount) {
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

    pub(super) fn put_record(&mut self, volume: VolumeId, record: VolumeRecord) {
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
    pub(super) fn retire_staged(&mut self, volume: VolumeId) {
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

    pub(super) fn remove_record(&mut self, volume: VolumeId) {
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
}

fn remove_link<T: Ord>(links: &mut BTreeMap<LayerId, BTreeSet<T>>, layer: LayerId, linked: &T) {
    if let Some(set) = links.get_mut(&layer) {
        set.remove(linked);
        if set.is_empty() {
            links.remove(&layer);
        }
    }
}
