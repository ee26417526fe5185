//! The memory of machines, as files beside a pool's layers.
//!
//! ```text
//! FOLDER/<instance snapshot>.memory     what the hypervisor wrote
//!        <instance snapshot>.json       how long that is, its hash, what the machine was like
//! ```
//!
//! The second is the commit point: it is written, whole, after the first was flushed and read back.
//! Without it there is no memory of that name, and the file goes the next time that anybody asks for
//! one of that name, or deletes it.
//!
//! What the hypervisor wrote is never looked into here, nor is what the machine was like.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stillpoint_model::id::InstanceSnapshotId;
use stillpoint_model::progress::Monitor;
use stillpoint_model::{ByteCount, ErrorKind};

/// How much is read at a time.
const PIECE: usize = 1 << 20;

/// What can go wrong with a machine's memory.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// There is none of this name.
    #[error("there is no memory of {0}")]
    Missing(InstanceSnapshotId),
    /// It is not what was written.
    #[error("the memory of {id} is damaged: {what}")]
    Damaged {
        /// The instance snapshot.
        id: InstanceSnapshotId,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Somebody asked to stop.
    #[error("it was cancelled")]
    Cancelled,
    /// A file.
    #[error("{doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl MemoryError {
    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing(_) => ErrorKind::NotFound,
            Self::Damaged { .. } => ErrorKind::Corrupt,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::Full
            }
            Self::Io { .. } => ErrorKind::Internal,
        }
    }
}

/// What is known of a memory that is whole.
#[derive(Serialize, Deserialize)]
struct Record {
    size: ByteCount,
    hash: String,
    machine: Value,
}

/// A folder with the memory of machines.
pub struct MemoryFolder {
    path: PathBuf,
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> MemoryError + 'a {
    move |source| MemoryError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

fn remove(path: &Path) -> Result<(), MemoryError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("removing", path)(error))
        }
        _ => Ok(()),
    }
}

impl MemoryFolder {
    /// Opens the folder, making it if need be.
    pub fn open(path: &Path) -> Result<Self, MemoryError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(failed("making", path))?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    fn file(&self, id: InstanceSnapshotId) -> PathBuf {
        self.path.join(format!("{id}.memory"))
    }

    fn record_file(&self, id: InstanceSnapshotId) -> PathBuf {
        self.path.join(format!("{id}.json"))
    }

    /// Whether there is a memory of this name.
    pub fn holds(&self, id: InstanceSnapshotId) -> bool {
        self.record_file(id).exists()
    }

    /// An empty file for a hypervisor to write to. What was begun before under this name goes.
    pub fn begin(&self, id: InstanceSnapshotId) -> Result<File, MemoryError> {
        self.remove(id)?;
        let path = self.file(id);
        let made = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        made.map_err(failed("making", &path))
    }

    /// Makes what was written the memory of this name, once it is on the disk.
    pub fn commit(
        &self,
        id: InstanceSnapshotId,
        file: &File,
        machine: Value,
    ) -> Result<ByteCount, MemoryError> {
        let path = self.file(id);
        file.sync_all().map_err(failed("flushing", &path))?;
        let (size, hash) = self.read_back(id, &|| Ok(()))?;
        let record = Record {
            size,
            hash,
            machine,
        };
        let text = serde_json::to_vec(&record).map_err(io::Error::other);
        let (new, record_file) = (self.path.join(format!("{id}.new")), self.record_file(id));
        let written = text.and_then(|text| {
            let mut file = File::create(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, &record_file)?;
            File::open(&self.path)?.sync_all()
        });
        written.map_err(failed("writing", &record_file))?;
        Ok(size)
    }

    /// Length and hash of a file, from the disk as far as that can be had.
    fn read_back(
        &self,
        id: InstanceSnapshotId,
        go_on: &dyn Fn() -> Result<(), MemoryError>,
    ) -> Result<(ByteCount, String), MemoryError> {
        let path = self.file(id);
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let what = "its file is missing";
                return Err(MemoryError::Damaged { id, what });
            }
            opened => opened.map_err(failed("opening", &path))?,
        };
        // What is in the page cache says nothing of the disk. A hint: nothing depends on it.
        let _kept_in_memory = fadvise(&file, 0, None, Advice::DontNeed);
        let (mut hasher, mut size) = (blake3::Hasher::new(), 0);
        let mut piece = vec![0; PIECE];
        loop {
            go_on()?;
            let read = file.read(&mut piece).map_err(failed("reading", &path))?;
            if read == 0 {
                break;
            }
            hasher.update(piece.get(..read).unwrap_or_default());
            size += u64::try_from(read).unwrap_or(u64::MAX);
        }
        Ok((ByteCount::new(size), hasher.finalize().to_hex().to_string()))
    }

    fn record(&self, id: InstanceSnapshotId) -> Result<Record, MemoryError> {
        let path = self.record_file(id);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(MemoryError::Missing(id));
            }
            read => read.map_err(failed("reading", &path))?,
        };
        let what = "its record is not readable";
        serde_json::from_slice(&text).map_err(|_| MemoryError::Damaged { id, what })
    }

    /// Proves that a memory is what was written; its length.
    pub fn verify(
        &self,
        id: InstanceSnapshotId,
        monitor: &dyn Monitor,
    ) -> Result<ByteCount, MemoryError> {
        let record = self.record(id)?;
        let read = self.read_back(id, &|| match monitor.is_cancelled() {
            true => Err(MemoryError::Cancelled),
            false => Ok(()),
        })?;
        if read != (record.size, record.hash) {
            let what = "it does not hold what was written";
            return Err(MemoryError::Damaged { id, what });
        }
        Ok(read.0)
    }

    /// A memory to go on from, and what the machine was like.
    pub fn read(&self, id: InstanceSnapshotId) -> Result<(File, Value), MemoryError> {
        let (record, path) = (self.record(id)?, self.file(id));
        let file = File::open(&path).map_err(failed("opening", &path))?;
        Ok((file, record.machine))
    }

    /// Removes a memory, or what was begun of one.
    pub fn remove(&self, id: InstanceSnapshotId) -> Result<(), MemoryError> {
        remove(&self.record_file(id))?;
        remove(&self.path.join(format!("{id}.new")))?;
        remove(&self.file(id))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use stillpoint_env::SimEnv;
    use stillpoint_model::progress::NullMonitor;

    use super::*;

    struct Scene {
        scratch: tempfile::TempDir,
        folder: MemoryFolder,
        id: InstanceSnapshotId,
    }

    fn scene() -> Scene {
        let scratch = tempfile::tempdir().unwrap();
        let folder = MemoryFolder::open(&scratch.path().join("memory")).unwrap();
        let id = InstanceSnapshotId::generate(&SimEnv::new(1));
        Scene {
            scratch,
            folder,
            id,
        }
    }

    fn written(scene: &Scene) -> File {
        let file = scene.folder.begin(scene.id).unwrap();
        file.write_all_at(b"what the guest knew", 0).unwrap();
        file
    }

    #[test]
    fn a_memory_is_there_once_it_is_whole() {
        let scene = scene();
        let file = written(&scene);
        assert!(!scene.folder.holds(scene.id));
        let verified = scene.folder.verify(scene.id, &NullMonitor).unwrap_err();
        assert_eq!(verified.kind(), ErrorKind::NotFound);
        let size = scene.folder.commit(scene.id, &file, "like this".into());
        assert_eq!(size.unwrap(), ByteCount::new(19));
        assert!(scene.folder.holds(scene.id));
        scene.folder.verify(scene.id, &NullMonitor).unwrap();
        let (_, machine) = scene.folder.read(scene.id).unwrap();
        assert_eq!(machine, Value::from("like this"));
    }

    #[test]
    fn a_memory_that_changed_is_damaged() {
        let scene = scene();
        let file = written(&scene);
        let committed = scene.folder.commit(scene.id, &file, Value::Null);
        committed.unwrap();
        file.write_all_at(b"W", 0).unwrap();
        let verified = scene.folder.verify(scene.id, &NullMonitor).unwrap_err();
        assert_eq!(verified.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn nothing_is_left_of_one_that_was_removed() {
        let scene = scene();
        let file = written(&scene);
        let committed = scene.folder.commit(scene.id, &file, Value::Null);
        committed.unwrap();
        for _ in 0..2 {
            scene.folder.remove(scene.id).unwrap();
        }
        let left = fs::read_dir(scene.scratch.path().join("memory")).unwrap();
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn one_that_was_begun_is_begun_anew() {
        let scene = scene();
        drop(written(&scene));
        let file = scene.folder.begin(scene.id).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
    }
}
