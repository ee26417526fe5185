//! Layers in files that were other layers'.
//!
//! A merge of layers that another process has open leaves files as they are; the record of the
//! layer's owner says which file it is in and what it stands on. Once nobody has the file open it
//! is settled:
//!
//! ```text
//! header says the layer, its owner, its parent -> the file takes the layer's name -> record
//! ```
//!
//! A crash between two of them is seen by the names: while the record has a placement, the layer
//! is in the file that it names, or, if that is gone, in the one with its own name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::{PoisonError, RwLock};

use stillpoint_model::ByteCount;
use stillpoint_model::id::{LayerId, VolumeId};
use stillpoint_model::layer_tree::{Layer, Placement, VolumeRecord};

use super::driver::{allocated, node_name};
use super::{Opened, Qcow2Driver, WRITABLE, file_layer, file_name, layer_io, set_mode};
use crate::Error;
use crate::driver::LiveStorage;
use crate::qcow2::{disk, lock};

/// Which layers are in which files, as the records say.
#[derive(Debug, Default)]
pub(super) struct Places(RwLock<BTreeMap<LayerId, (VolumeId, Placement)>>);

impl Places {
    pub(super) fn get(&self, layer: LayerId) -> Option<(VolumeId, Placement)> {
        let places = self.0.read().unwrap_or_else(PoisonError::into_inner);
        places.get(&layer).copied()
    }

    pub(super) fn file_of(&self, layer: LayerId) -> LayerId {
        self.get(layer).map_or(layer, |(_, place)| place.file)
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut BTreeMap<LayerId, (VolumeId, Placement)>) -> T,
    ) -> T {
        let mut places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut places)
    }
}

/// What the files of a folder are.
#[derive(Debug, Default)]
pub(super) struct Located {
    /// The layers that have a file, placed or not.
    pub(super) layers: BTreeSet<LayerId>,
    /// The files that a merge left and no layer is in.
    pub(super) left: BTreeSet<LayerId>,
}

impl Qcow2Driver {
    /// Takes the placements from these records, and finds out what each file is.
    pub(super) fn locate(
        &self,
        records: &BTreeMap<VolumeId, VolumeRecord>,
    ) -> Result<Located, Error> {
        let names = self.names("layers")?;
        let files: BTreeSet<LayerId> = names.iter().filter_map(|name| file_layer(name)).collect();
        let all = || {
            records.iter().flat_map(|(volume, record)| {
                let placed = record.placed.iter();
                placed.map(|(layer, place)| (*layer, (*volume, *place)))
            })
        };
        let gone: BTreeSet<LayerId> = all().map(|(_, (_, place))| place.took).collect();
        let mut places = BTreeMap::new();
        for (layer, (volume, mut place)) in all().filter(|(layer, _)| !gone.contains(layer)) {
            if !files.contains(&place.file) && files.contains(&layer) {
                place.file = layer;
            }
            if files.contains(&place.file) {
                places.insert(layer, (volume, place));
            }
        }
        let mut found = Located {
            layers: files,
            left: BTreeSet::new(),
        };
        for (_, place) in places.values() {
            found.layers.remove(&place.file);
            found.left.insert(place.left);
        }
        for (_, place) in places.values() {
            found.left.remove(&place.file);
        }
        found.left.retain(|file| found.layers.remove(file));
        found.layers.extend(places.keys());
        self.places.change(|known| *known = places);
        Ok(found)
    }

    /// Takes the placements of one volume from its new record.
    pub(super) fn place(&self, volume: VolumeId, record: Option<&VolumeRecord>) {
        let placed = record.map(|record| record.placed.clone());
        let placed = placed.unwrap_or_default();
        let gone: BTreeSet<LayerId> = placed.values().map(|place| place.took).collect();
        let is_there = |file: LayerId| self.file_path(file).exists();
        self.places.change(|places| {
            places.retain(|layer, (owner, _)| *owner != volume && !gone.contains(layer));
            for (layer, mut place) in placed {
                // It was settled, and the record does not say so yet.
                if !is_there(place.file) && is_there(layer) {
                    place.file = layer;
                }
                if !gone.contains(&layer) {
                    places.insert(layer, (volume, place));
                }
            }
        });
    }

    fn rewrite(
        &self,
        opened: &Opened,
        layer: LayerId,
        owner: VolumeId,
        parent: Option<LayerId>,
    ) -> Result<(), Error> {
        let mut header = opened.header.clone();
        header.identity = Some(self.identity(layer, owner, parent));
        self.write_header(opened, &header)
    }
}

impl LiveStorage for Qcow2Driver {
    fn node(&self, volume: VolumeId, layer: LayerId) -> String {
        node_name('q', volume, self.places.file_of(layer))
    }

    fn file_of(&self, layer: LayerId) -> LayerId {
        self.places.file_of(layer)
    }

    fn backing_name(&self, layer: LayerId) -> String {
        file_name(self.places.file_of(layer))
    }

    fn is_open(&self, layer: LayerId) -> Result<bool, Error> {
        let file = self.open_file(layer, false)?;
        lock::is_open(&file).map_err(|e| layer_io(layer, e))
    }

    fn inspect(&self, layer: LayerId) -> Result<Layer, Error> {
        let opened = self.open_own(layer, false)?;
        Ok(Layer {
            owner: opened.identity.owner,
            parent: opened.identity.parent,
            size: ByteCount::new(opened.header.size),
            allocated: allocated(opened.blocks),
        })
    }

    fn unseal(&self, layer: LayerId) -> Result<(), Error> {
        set_mode(&self.layer_path(layer), WRITABLE).map_err(|e| layer_io(layer, e))
    }

    fn sync(&self, layer: LayerId) -> Result<(), Error> {
        let file = self.open_file(layer, false)?;
        disk::sync_data(&file).map_err(|e| layer_io(layer, e))?;
        self.sync_folder("layers")
    }

    fn drop_file(&self, file: LayerId) -> Result<(), Error> {
        match disk::remove(&self.file_path(file)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(layer_io(file, e)),
            _ => self.sync_folder("layers"),
        }
    }

    fn settle(
        &self,
        layer: LayerId,
        owner: VolumeId,
        parent: Option<LayerId>,
    ) -> Result<(), Error> {
        let path = self.layer_path(layer);
        let mode = fs::metadata(&path).map_err(|e| layer_io(layer, e))?;
        let mode = mode.permissions().mode() & 0o777;
        let opened = self.open_exclusive(layer);
        let settled = opened.and_then(|opened| {
            self.rewrite(&opened, layer, owner, parent)?;
            disk::set_file_mode(&opened.file, Permissions::from_mode(mode))
                .map_err(|e| layer_io(layer, e))
        });
        if let Err(error) = settled {
            // The mode protects against mistakes alone.
            let _protection_only = set_mode(&path, mode);
            return Err(error);
        }
        if self.places.file_of(layer) != layer {
            let own = self.file_path(layer);
            disk::rename(&path, &own).map_err(|e| layer_io(layer, e))?;
            self.places.change(|places| {
                if let Some((_, place)) = places.get_mut(&layer) {
                    place.file = layer;
                }
            });
            self.sync_folder("layers")?;
        }
        Ok(())
    }
}
