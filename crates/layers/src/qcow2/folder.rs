//! A pool that is a folder of qcow2 files.
//!
//! ```text
//! pool.json                 the version of this layout and the pool's id
//! lock                      held by the one process that has the pool open
//! reserve                   space that records may use when nothing else is left
//! layers/{layer}.qcow2      one layer; sealed ones are mode 0400
//! volumes/{volume}.json     one volume's record, with a checksum
//! *.new                     a file in the making; left by a crash, nobody needs it
//! ```
//!
//! A file gets its name when all of it is durable. A record is replaced by a rename, which is the
//! commit point of every change to a volume.
//!
//! While another process has files open, their names and headers stay: a record may place a layer
//! in a file that was another's, until nobody has it open (`places`).
//!
//! A merge downwards ends with the parent's file taking the child's name: its header says so
//! first, in one sector. [`load`](Driver::load) finishes a rename that a crash cut off.

mod driver;
mod inspect;
mod places;
mod record;

pub use inspect::Inspection;

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stillpoint_model::id::{LayerId, PoolId, VolumeId};

use super::disk;
use super::header::{Header, Identity, ReadError, file_layer, file_name};
use super::lock;
use super::writer::write_empty;
use crate::Error;
use places::Places;

/// What is kept for records when the storage is full.
const RESERVE_BYTES: u64 = 1 << 20;
const SEALED: u32 = 0o400;
const WRITABLE: u32 = 0o600;
const NEW: &str = ".new";

/// The driver of a folder.
pub struct Qcow2Driver {
    path: PathBuf,
    id: PoolId,
    /// Which layers are in files that were others'.
    places: Places,
    /// Held open for its lock.
    _lock: File,
}

/// What `pool.json` says.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolFile {
    format: u32,
    pool: PoolId,
}

impl Qcow2Driver {
    /// Opens the pool in a folder, or makes one with this id when the folder is empty or
    /// missing.
    pub fn open(path: &Path, id: PoolId) -> Result<Self, Error> {
        for folder in [path.to_owned(), path.join("layers"), path.join("volumes")] {
            make_folder(&folder)?;
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(WRITABLE)
            .open(path.join("lock"))
            .map_err(|e| Error::io("opening the pool's lock", e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::PoolInUse(path.to_owned())),
            Err(TryLockError::Error(e)) => return Err(Error::io("locking the pool", e)),
        }
        let driver = Self {
            path: path.to_owned(),
            id,
            places: Places::default(),
            _lock: lock,
        };
        driver.check_pool_file()?;
        driver.fill_reserve();
        Ok(driver)
    }

    fn check_pool_file(&self) -> Result<(), Error> {
        let path = self.path.join("pool.json");
        let not_a_pool = |reason: String| Error::NotAPool {
            path: self.path.clone(),
            reason,
        };
        match fs::read(&path) {
            Ok(bytes) => {
                let found: PoolFile =
                    serde_json::from_slice(&bytes).map_err(|e| not_a_pool(e.to_string()))?;
                if found.format != 1 {
                    return Err(not_a_pool(format!("its format is {}", found.format)));
                }
                if found.pool != self.id {
                    return Err(not_a_pool(format!("it is pool {}", found.pool)));
                }
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if self
                    .names("layers")?
                    .iter()
                    .any(|name| name.ends_with(".qcow2"))
                {
                    return Err(not_a_pool("it has layers and no pool.json".to_owned()));
                }
                let file = PoolFile {
                    format: 1,
                    pool: self.id,
                };
                let bytes = serde_json::to_vec(&file).map_err(|e| not_a_pool(e.to_string()))?;
                self.replace(&path, &bytes)
            }
            Err(e) => Err(Error::io("reading pool.json", e)),
        }
    }

    fn layer_path(&self, layer: LayerId) -> PathBuf {
        self.file_path(self.places.file_of(layer))
    }

    /// The path of a file, by the layer whose it was at first.
    fn file_path(&self, file: LayerId) -> PathBuf {
        self.path.join("layers").join(file_name(file))
    }

    fn new_layer_path(&self, layer: LayerId) -> PathBuf {
        self.path.join("layers").join(file_name(layer) + NEW)
    }

    fn names(&self, folder: &str) -> Result<Vec<String>, Error> {
        let action = || format!("listing {folder}");
        let entries = fs::read_dir(self.path.join(folder)).map_err(|e| Error::io(action(), e))?;
        entries
            .map(|entry| entry.map(|entry| entry.file_name().into_string()))
            .filter_map(|name| match name {
                Ok(Ok(name)) => Some(Ok(name)),
                Ok(Err(_)) => None,
                Err(e) => Some(Err(Error::io(action(), e))),
            })
            .collect()
    }

    fn sync_folder(&self, folder: &str) -> Result<(), Error> {
        File::open(self.path.join(folder))
            .and_then(|folder| disk::sync_all(&folder))
            .map_err(|e| Error::io(format!("syncing {folder}"), e))
    }

    fn identity(&self, layer: LayerId, owner: VolumeId, parent: Option<LayerId>) -> Identity {
        Identity {
            pool: self.id,
            layer,
            parent,
            owner,
        }
    }

    fn open_file(&self, layer: LayerId, writable: bool) -> Result<File, Error> {
        File::options()
            .read(true)
            .write(writable)
            .open(self.layer_path(layer))
            .map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => Error::LayerMissing(layer),
                _ => Error::io(format!("opening layer {layer}"), e),
            })
    }

    /// Opens a layer's file and checks that it is that layer.
    fn open_checked(&self, layer: LayerId, writable: bool) -> Result<Opened, Error> {
        let file = self.open_file(layer, writable)?;
        let metadata = file.metadata().map_err(|e| layer_io(layer, e))?;
        let header = Header::read(&file, metadata.len()).map_err(|e| damaged(layer, e))?;
        let foreign = |reason| Err(Error::ForeignLayer { layer, reason });
        let Some(identity) = header.identity else {
            return foreign("it does not say whose it is");
        };
        if identity.pool != self.id {
            return foreign("it is of another pool");
        }
        // Whoever merged the layer while it was open has written another name; what it stands on
        // is never taken from there.
        let is_layer = |name: &[u8]| {
            std::str::from_utf8(name)
                .ok()
                .and_then(file_layer)
                .is_some()
        };
        if !header.backing_name.as_deref().is_none_or(is_layer) {
            return foreign("it names a file below it that is no layer");
        }
        let identity = match self.places.get(layer) {
            Some((owner, place)) if [layer, place.file].contains(&identity.layer) => {
                self.identity(layer, owner, place.parent)
            }
            _ => identity,
        };
        Ok(Opened {
            file,
            len: metadata.len(),
            blocks: metadata.blocks(),
            header,
            identity,
        })
    }

    /// Opens a layer's file, which must not be another's by now.
    fn open_own(&self, layer: LayerId, writable: bool) -> Result<Opened, Error> {
        let opened = self.open_checked(layer, writable)?;
        if opened.identity.layer != layer {
            return Err(Error::ForeignLayer {
                layer,
                reason: "it is another layer",
            });
        }
        Ok(opened)
    }

    fn open_exclusive(&self, layer: LayerId) -> Result<Opened, Error> {
        set_mode(&self.layer_path(layer), WRITABLE).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::LayerMissing(layer),
            _ => layer_io(layer, e),
        })?;
        let opened = self.open_own(layer, true)?;
        if !lock::keep_out(&opened.file).map_err(|e| layer_io(layer, e))? {
            return Err(Error::LayerInUse(layer));
        }
        Ok(opened)
    }

    fn begin_file(&self, layer: LayerId, header: &Header) -> Result<(File, NewFile), Error> {
        let path = self.new_layer_path(layer);
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        let file = disk::create(options.mode(WRITABLE), &path).map_err(|e| layer_io(layer, e))?;
        let new = NewFile {
            path,
            is_done: false,
        };
        write_empty(&file, header).map_err(|e| damaged(layer, e))?;
        Ok((file, new))
    }

    /// Gives a file whose content is durable its name, durably.
    fn name_file(&self, mut new: NewFile, layer: LayerId) -> Result<(), Error> {
        disk::rename(&new.path, &self.layer_path(layer)).map_err(|e| layer_io(layer, e))?;
        new.is_done = true;
        self.sync_folder("layers")
    }

    /// Writes the first sector of a layer anew, durably.
    fn write_header(&self, opened: &Opened, header: &Header) -> Result<(), Error> {
        let layer = opened.identity.layer;
        let sector = header
            .encode()
            .map_err(|reason| Error::LayerDamaged { layer, reason })?;
        disk::write(&opened.file, &sector, 0)
            .and_then(|()| disk::sync_data(&opened.file))
            .map_err(|e| layer_io(layer, e))
    }

    /// Replaces a small file atomically; uses the reserve when the storage is full.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let attempt = || replace_file(path, bytes).map_err(|e| Error::io("writing a record", e));
        match attempt() {
            Err(Error::Full) => {
                let reserve = File::options().write(true).open(self.path.join("reserve"));
                reserve
                    .and_then(|file| disk::set_len(&file, 0))
                    .map_err(|_| Error::Full)?;
                attempt()
            }
            other => other,
        }
    }

    /// Takes the reserve's space back if there is any. It is no error when there is none.
    fn fill_reserve(&self) {
        let filled = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(WRITABLE)
            .open(self.path.join("reserve"))
            .and_then(|file| {
                let empty = rustix::fs::FallocateFlags::empty();
                Ok(rustix::fs::fallocate(&file, empty, 0, RESERVE_BYTES)?)
            });
        if let Err(error) = filled {
            tracing::warn!(pool = %self.id, %error, "no reserve could be kept");
        }
    }
}

/// A layer's file, open, with what its header says.
struct Opened {
    file: File,
    len: u64,
    /// Units of 512 bytes that it occupies.
    blocks: u64,
    header: Header,
    identity: Identity,
}

/// A file in the making, removed unless it gets its name.
struct NewFile {
    path: PathBuf,
    is_done: bool,
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_done {
            // What stays is an orphan, and is reaped as one.
            let _tidying_only = disk::remove(&self.path);
        }
    }
}

fn layer_io(layer: LayerId, error: io::Error) -> Error {
    Error::io(format!("working on layer {layer}"), error)
}

fn damaged(layer: LayerId, error: ReadError) -> Error {
    match error {
        ReadError::Io(error) => layer_io(layer, error),
        ReadError::Format(reason) => Error::LayerDamaged { layer, reason },
    }
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    disk::set_mode(path, Permissions::from_mode(mode))
}

fn make_folder(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| Error::io("making the pool's folders", e))
}

/// Writes beside the file, syncs, renames, syncs the folder.
fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(NEW);
    let mut new = NewFile {
        path: name.into(),
        is_done: false,
    };
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    let file = disk::create(options.mode(WRITABLE), &new.path)?;
    disk::write(&file, bytes, 0)?;
    disk::sync_all(&file)?;
    disk::rename(&new.path, path)?;
    new.is_done = true;
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    disk::sync_all(&File::open(folder)?)
}
