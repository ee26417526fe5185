//! What a pool asks of the folder.

use std::fs;
use std::io;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use stillpoint_model::ByteCount;
use stillpoint_model::id::{LayerId, PoolId, VolumeId};
use stillpoint_model::layer_tree::{Direction, Layer, VolumeRecord};

use super::record::{record_name, record_volume};
use super::{NEW, NewFile, Opened, Qcow2Driver, SEALED, WRITABLE, damaged, layer_io, set_mode};
use crate::driver::{Found, Join, LayerMap, LayerWriter, LiveStorage, Run};
use crate::qcow2::direct::{self, Output};
use crate::qcow2::disk;
use crate::qcow2::header::{CLUSTER_SIZE, Header, L1_ENTRIES, ReadError};
use crate::qcow2::lock;
use crate::qcow2::map::Map;
use crate::qcow2::writer::{Piece, Writer};
use crate::{Capabilities, Driver, Error};

/// Bytes that a layer occupies before anything is written to it, at least.
const EMPTY_BYTES: u64 = 3 * 4096;
/// The largest volume: what one cluster of L1 entries reaches.
const MAX_SIZE: u64 = L1_ENTRIES as u64 * (CLUSTER_SIZE / 16) * CLUSTER_SIZE;

impl Qcow2Driver {
    /// Reads one layer's header. When the file took its child's place in a merge and a crash
    /// came before the rename, renames it.
    fn load_layer(&self, layer: LayerId) -> Result<Option<Layer>, Error> {
        let opened = self.open_checked(layer, false)?;
        if opened.identity.layer != layer {
            return self.finish_rename(layer, &opened).map(|()| None);
        }
        Ok(Some(Layer {
            owner: opened.identity.owner,
            parent: opened.identity.parent,
            size: ByteCount::new(opened.header.size),
            allocated: allocated(opened.blocks),
        }))
    }

    fn finish_rename(&self, parent: LayerId, opened: &Opened) -> Result<(), Error> {
        let child = opened.identity.layer;
        let foreign = Error::ForeignLayer {
            layer: parent,
            reason: "it is another layer",
        };
        let replaced = self.open_own(child, false).map_err(|_| foreign)?;
        if replaced.identity.parent != Some(parent) {
            let reason = "it is another layer";
            return Err(Error::ForeignLayer {
                layer: parent,
                reason,
            });
        }
        let permissions = replaced
            .file
            .metadata()
            .map(|metadata| metadata.permissions());
        permissions
            .and_then(|permissions| disk::set_file_mode(&opened.file, permissions))
            .and_then(|()| disk::rename(&self.layer_path(parent), &self.layer_path(child)))
            .map_err(|e| layer_io(child, e))?;
        self.sync_folder("layers")
    }

    fn load_layers(&self, found: &mut Found) -> Result<(), Error> {
        let located = self.locate(&found.records)?;
        for file in &located.left {
            self.drop_file(*file)?;
        }
        let mut renamed = Vec::new();
        for layer in &located.layers {
            match self.load_layer(*layer) {
                Ok(Some(read)) => {
                    found.layers.insert(*layer, read);
                }
                Ok(None) => renamed.push(*layer),
                Err(error @ (Error::Io { .. } | Error::Full)) => return Err(error),
                Err(error) => found.damaged.push(error),
            }
        }
        if renamed.is_empty() {
            return Ok(());
        }
        // What was read before the renames may be out of date: a child has another parent now.
        found.layers.clear();
        found.damaged.clear();
        for layer in located.layers.iter().filter(|l| !renamed.contains(l)) {
            match self.load_layer(*layer) {
                Ok(read) => found.layers.extend(read.map(|read| (*layer, read))),
                Err(error) => found.damaged.push(error),
            }
        }
        Ok(())
    }

    pub(super) fn load_records(&self, found: &mut Found) -> Result<(), Error> {
        let names = self.names("volumes")?;
        for volume in names.iter().filter_map(|name| record_volume(name)) {
            match self.read_record(volume) {
                Ok(record) => drop(found.records.insert(volume, record)),
                Err(error) => found.damaged.push(error),
            }
        }
        Ok(())
    }

    /// What was removed before must not come back after a loss of power and stand on a layer that
    /// is no more: the names are synced first.
    fn join_down(&self, join: &Join) -> Result<(), Error> {
        self.sync_folder("layers")?;
        let parent = self.open_exclusive(join.parent)?;
        let child = self.open_exclusive(join.child)?;
        let mut header = parent.header.clone();
        header.identity = Some(self.identity(join.child, join.owner, join.grandparent));
        header.size = join.size.get();
        self.write_header(&parent, &header)?;
        let mode = if join.sealed { SEALED } else { WRITABLE };
        let (from, to) = (self.layer_path(join.parent), self.layer_path(join.child));
        set_mode(&from, mode)
            .and_then(|()| disk::rename(&from, &to))
            .map_err(|e| layer_io(join.child, e))?;
        drop(child);
        self.sync_folder("layers")
    }

    fn join_up(&self, join: &Join) -> Result<(), Error> {
        self.sync_folder("layers")?;
        let child = self.open_exclusive(join.child)?;
        let mut header = child.header.clone();
        header.identity = Some(self.identity(join.child, join.owner, join.grandparent));
        self.write_header(&child, &header)?;
        let mode = if join.sealed { SEALED } else { WRITABLE };
        set_mode(&self.layer_path(join.child), mode).map_err(|e| layer_io(join.child, e))?;
        self.remove_layer(join.parent)
    }
}

impl Driver for Qcow2Driver {
    fn id(&self) -> PoolId {
        self.id
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "qcow2",
            live_capture: false,
            max_volume_size: ByteCount::new(MAX_SIZE),
        }
    }

    fn load(&self) -> Result<Found, Error> {
        let mut found = Found::default();
        self.load_records(&mut found)?;
        let damaged = std::mem::take(&mut found.damaged);
        self.load_layers(&mut found)?;
        found.damaged.extend(damaged);
        Ok(found)
    }

    fn create_layer(
        &self,
        layer: LayerId,
        owner: VolumeId,
        parent: Option<LayerId>,
        size: ByteCount,
    ) -> Result<(), Error> {
        let header = Header::new(size.get(), self.identity(layer, owner, parent));
        let (file, new) = self.begin_file(layer, &header)?;
        disk::sync_all(&file).map_err(|e| layer_io(layer, e))?;
        self.name_file(new, layer)
    }

    fn own_layer(&self, layer: LayerId, owner: VolumeId) -> Result<(), Error> {
        let opened = self.open_exclusive(layer)?;
        let mut header = opened.header.clone();
        header.identity = Some(self.identity(layer, owner, opened.identity.parent));
        self.write_header(&opened, &header)
    }

    fn grow_layer(&self, layer: LayerId, size: ByteCount) -> Result<(), Error> {
        let opened = self.open_exclusive(layer)?;
        let mut header = opened.header.clone();
        header.size = size.get();
        self.write_header(&opened, &header)
    }

    fn seal_layer(&self, layer: LayerId) -> Result<(), Error> {
        // What a process wrote and never synced before it ended is part of the point in time.
        let file = self.open_file(layer, false)?;
        disk::sync_data(&file).map_err(|e| layer_io(layer, e))?;
        set_mode(&self.layer_path(layer), SEALED).map_err(|e| layer_io(layer, e))
    }

    fn remove_layer(&self, layer: LayerId) -> Result<(), Error> {
        match disk::remove(&self.layer_path(layer)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(layer_io(layer, e)),
            _ => {
                self.fill_reserve();
                Ok(())
            }
        }
    }

    fn put_record(&self, volume: VolumeId, record: &VolumeRecord) -> Result<(), Error> {
        self.write_record(volume, record)?;
        self.place(volume, Some(record));
        Ok(())
    }

    fn remove_record(&self, volume: VolumeId) -> Result<(), Error> {
        self.sync_folder("layers")?;
        match disk::remove(&self.path.join("volumes").join(record_name(volume))) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("removing a record", e)),
            _ => {
                self.place(volume, None);
                self.sync_folder("volumes")
            }
        }
    }

    fn allocated(&self, layer: LayerId) -> Result<ByteCount, Error> {
        use std::os::unix::fs::MetadataExt;
        match fs::metadata(self.layer_path(layer)) {
            Ok(metadata) => Ok(allocated(metadata.blocks())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::LayerMissing(layer)),
            Err(e) => Err(layer_io(layer, e)),
        }
    }

    fn check_unused(&self, layer: LayerId) -> Result<(), Error> {
        let file = self.open_file(layer, false)?;
        match lock::has_writer(&file).map_err(|e| layer_io(layer, e))? {
            true => Err(Error::LayerInUse(layer)),
            false => Ok(()),
        }
    }

    fn open_layer(
        &self,
        layer: LayerId,
        parent: Option<LayerId>,
    ) -> Result<Box<dyn LayerMap>, Error> {
        let opened = self.open_own(layer, false)?;
        if opened.identity.parent != parent {
            return Err(Error::ForeignLayer {
                layer,
                reason: "it stands on another layer",
            });
        }
        let direct = direct::reopen(&opened.file, fs::File::options().read(true));
        let map = Map::open(opened.file, opened.len, opened.header);
        let map = map.map_err(|e| damaged(layer, e))?;
        Ok(Box::new(LayerFile {
            layer,
            map: map.reading_past_cache(direct),
        }))
    }

    fn begin_layer(
        &self,
        layer: LayerId,
        owner: VolumeId,
        size: ByteCount,
    ) -> Result<Box<dyn LayerWriter>, Error> {
        let header = Header::new(size.get(), self.identity(layer, owner, None));
        let (file, new) = self.begin_file(layer, &header)?;
        let folder = fs::File::open(self.path.join("layers")).map_err(|e| layer_io(layer, e))?;
        let target = NewLayer {
            new,
            path: self.layer_path(layer),
            folder,
        };
        let output = Output::new(&file).map_err(|e| layer_io(layer, e))?;
        Ok(Box::new(LayerFileWriter {
            layer,
            writer: Mutex::new(Writer::new_layer(file, &header)),
            new: Some((output, target)),
        }))
    }

    fn reopen_layer(&self, layer: LayerId, size: ByteCount) -> Result<Box<dyn LayerWriter>, Error> {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(self.layer_path(layer)).map_err(|e| layer_io(layer, e))?;
        let mode = mode.permissions().mode() & 0o777;
        let opened = self.open_exclusive(layer)?;
        let size = size.get().max(opened.header.size);
        let writer = Writer::existing(opened.file, &opened.header, size, mode);
        let writer = writer.map_err(|e| damaged(layer, e))?;
        Ok(Box::new(LayerFileWriter {
            layer,
            writer: Mutex::new(writer),
            new: None,
        }))
    }

    fn join_layers(&self, join: &Join) -> Result<(), Error> {
        match join.direction {
            Direction::Commit => self.join_down(join),
            Direction::Stream => self.join_up(join),
        }
    }

    fn unfinished(&self) -> Result<Vec<(Option<LayerId>, String)>, Error> {
        let layers = self.names("layers")?.into_iter().filter_map(|name| {
            let layer = name
                .strip_suffix(NEW)?
                .strip_suffix(".qcow2")?
                .parse()
                .ok()?;
            Some((Some(layer), name))
        });
        let records = self.names("volumes")?.into_iter().filter_map(|name| {
            record_volume(name.strip_suffix(NEW)?)?;
            Some((None, name))
        });
        Ok(layers.chain(records).collect())
    }

    fn remove_unfinished(&self, name: &str) -> Result<(), Error> {
        let known = self.unfinished()?;
        let Some((layer, name)) = known.into_iter().find(|(_, known)| known == name) else {
            return Ok(());
        };
        let folder = if layer.is_some() { "layers" } else { "volumes" };
        match disk::remove(&self.path.join(folder).join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("removing an unfinished file", e))
            }
            _ => Ok(()),
        }
    }

    fn space(&self) -> Result<(ByteCount, ByteCount), Error> {
        let space = rustix::fs::statvfs(&self.path)
            .map_err(|e| Error::io("asking for free space", e.into()))?;
        let bytes = |blocks: u64| ByteCount::new(blocks.saturating_mul(space.f_frsize));
        Ok((bytes(space.f_blocks), bytes(space.f_bavail)))
    }

    fn block_graph(&self, volume: VolumeId, chain: &[LayerId]) -> Result<Value, Error> {
        let root = self
            .path
            .canonicalize()
            .map_err(|e| Error::io("finding the pool", e))?;
        let mut below = Value::Null;
        for (index, layer) in chain.iter().enumerate().rev() {
            let id = self.file_of(*layer);
            let file = root.join("layers").join(super::file_name(id));
            let is_tip = index == 0;
            // A sealed layer's file is opened for writing only while a merge needs it.
            below = json!({
                "driver": "qcow2",
                "node-name": node_name('q', volume, id),
                "read-only": !is_tip,
                "discard": "unmap",
                "file": {
                    "driver": "file",
                    "node-name": node_name('f', volume, id),
                    "filename": file.to_string_lossy(),
                    "auto-read-only": !is_tip,
                    "discard": "unmap",
                },
                "backing": below,
            });
        }
        Ok(below)
    }

    fn live(&self) -> Option<&dyn LiveStorage> {
        Some(self)
    }
}

/// A layer, open for reading.
struct LayerFile {
    layer: LayerId,
    map: Map,
}

impl LayerMap for LayerFile {
    fn size(&self) -> ByteCount {
        ByteCount::new(self.map.header.size)
    }

    fn run_at(&self, offset: u64) -> Result<Run, Error> {
        self.map.run_at(offset).map_err(|e| damaged(self.layer, e))
    }

    fn read_data(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        self.map
            .read_data(offset, buf)
            .map_err(|e| damaged(self.layer, e))
    }
}

/// A layer, open for writing.
struct LayerFileWriter {
    layer: LayerId,
    writer: Mutex<Writer>,
    /// Of a new layer: where its data goes, and what becomes of it.
    new: Option<(Output, NewLayer)>,
}

impl LayerFileWriter {
    fn with_writer<T>(
        &self,
        run: impl FnOnce(&mut Writer) -> Result<T, ReadError>,
    ) -> Result<T, Error> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        run(&mut writer).map_err(|e| damaged(self.layer, e))
    }
}

struct NewLayer {
    new: NewFile,
    path: std::path::PathBuf,
    folder: fs::File,
}

impl LayerWriter for LayerFileWriter {
    fn reserve(&self, offset: u64, len: u64) -> Result<(), Error> {
        let Some((output, _)) = &self.new else {
            return Ok(());
        };
        let room = self.with_writer(|writer| writer.reserve(offset, len))?;
        output.allocate(room).map_err(|e| layer_io(self.layer, e))
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let is_whole = (data.len() as u64).is_multiple_of(crate::BLOCK_SIZE);
        let Some((output, _)) = self.new.as_ref().filter(|_| is_whole) else {
            return self.with_writer(|writer| writer.write_at(offset, data));
        };
        for Piece { from, len, host } in
            self.with_writer(|writer| writer.place(offset, data.len()))?
        {
            output
                .write(&data[from..from + len], host)
                .map_err(|e| layer_io(self.layer, e))?;
        }
        Ok(())
    }

    fn zero_at(&self, offset: u64, len: u64) -> Result<(), Error> {
        self.with_writer(|writer| writer.zero_at(offset, len))
    }

    fn finish(self: Box<Self>) -> Result<(), Error> {
        let Self { layer, writer, new } = *self;
        let writer = writer.into_inner().unwrap_or_else(PoisonError::into_inner);
        writer.finish().map_err(|e| damaged(layer, e))?;
        let Some((
            _,
            NewLayer {
                mut new,
                path,
                folder,
            },
        )) = new
        else {
            return Ok(());
        };
        disk::rename(&new.path, &path).map_err(|e| layer_io(layer, e))?;
        new.is_done = true;
        disk::sync_all(&folder).map_err(|e| layer_io(layer, e))
    }
}

pub(super) fn allocated(blocks: u64) -> ByteCount {
    ByteCount::new((blocks * 512).saturating_sub(EMPTY_BYTES))
}

/// A name for a node of QEMU's block graph, which has at most 31 characters. One machine may have
/// several volumes on one layer, so it tells of both.
pub(super) fn node_name(kind: char, volume: VolumeId, file: LayerId) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(volume.as_uuid().as_bytes());
    hasher.update(file.as_uuid().as_bytes());
    let hash = hasher.finalize().to_hex();
    format!("{kind}{}", hash.get(..30).unwrap_or_default())
}
