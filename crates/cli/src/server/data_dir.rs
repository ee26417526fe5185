//! The data folder: everything that the embedded server keeps.
//!
//! ```text
//! DIR/                 0700
//!   lock               held while a server runs; names its process
//!   stillpoint.db      the store (with its -wal and -shm)
//!   database.vault     which vault of the target has the copies of the store
//!   pool/              layers of the qcow2 pool
//!   target/            vaults of the local backup target
//!   target.chosen      which backup target this installation has
//!   uploads/           images on their way in
//!   machines/          what runs: sockets, consoles; machines outlive the server
//!   readers/           what reads backups for guests: sockets and logs; they outlive it, too
//!   keys/root.key      0600; made once, never overwritten
//!   credentials        0600; passwords made at the first start
//! ```
//!
//! **Invariant:** one server at a time. The lock is the kernel's, so that it ends with the
//! process, however that ends; the number in it only serves the error message.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::failure::{Exit, Failure, Result};
use crate::private_file::PRIVATE_FILE;
#[cfg(test)]
use crate::private_file::write_once;

const PRIVATE_FOLDER: u32 = 0o700;

/// The data folder, locked until this is dropped.
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Opens the folder, creates what is missing, and locks it.
    pub fn open(path: &Path) -> Result<Self> {
        create_folder(path)?;
        // Layers and keys are named by absolute paths, wherever the server was started.
        let path = fs::canonicalize(path)
            .map_err(|error| Failure::file(format_args!("open {}", path.display()), &error))?;
        let lock = lock(&path)?;
        let dir = Self { path, _lock: lock };
        for folder in [
            dir.pool(),
            dir.target(),
            dir.uploads(),
            dir.path.join("keys"),
        ] {
            create_folder(&folder)?;
        }
        Ok(dir)
    }

    /// The folder itself, by its real path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The store's file.
    pub fn database(&self) -> PathBuf {
        self.path.join("stillpoint.db")
    }

    /// The folder of the qcow2 pool.
    pub fn pool(&self) -> PathBuf {
        self.path.join("pool")
    }

    /// Where the memory of machines is that were captured with it.
    pub fn memories(&self) -> PathBuf {
        self.pool().join("memory")
    }

    /// The folder of the local backup target.
    pub fn target(&self) -> PathBuf {
        target_in(&self.path)
    }

    /// Which backup target was chosen.
    pub fn target_note(&self) -> PathBuf {
        self.path.join("target.chosen")
    }

    /// Which second target was chosen.
    pub fn second_target_note(&self) -> PathBuf {
        self.path.join("second_target.chosen")
    }

    /// Which vault has the copies of the store.
    pub fn database_vault(&self) -> PathBuf {
        self.path.join("database.vault")
    }

    /// Where images wait to be imported.
    pub fn uploads(&self) -> PathBuf {
        self.path.join("uploads")
    }

    /// Where machines have their sockets.
    pub fn machines(&self) -> PathBuf {
        self.path.join("machines")
    }

    /// Where those have their sockets that read backups for guests.
    pub fn readers(&self) -> PathBuf {
        self.path.join("readers")
    }

    /// The root key.
    pub fn root_key(&self) -> PathBuf {
        root_key_in(&self.path)
    }

    /// The passwords that were made at the first start.
    pub fn credentials(&self) -> PathBuf {
        self.path.join("credentials")
    }
}

/// The folder of the local backup target, in a data folder that somebody else has open.
pub fn target_in(data: &Path) -> PathBuf {
    data.join("target")
}

/// The root key of a data folder that somebody else has open.
pub fn root_key_in(data: &Path) -> PathBuf {
    data.join("keys/root.key")
}

fn create_folder(path: &Path) -> Result<()> {
    let create = || -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE_FOLDER)
            .create(path)?;
        fs::set_permissions(path, Permissions::from_mode(PRIVATE_FOLDER))
    };
    create().map_err(|error| Failure::file(format_args!("create {}", path.display()), &error))
}

fn lock(data: &Path) -> Result<File> {
    let path = data.join("lock");
    let failed = |error: &io::Error| Failure::file(format_args!("lock {}", path.display()), error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE_FILE)
        .open(&path)
        .map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use(data, &mut file)),
        Err(TryLockError::Error(error)) => return Err(failed(&error)),
    }
    let note = |file: &mut File| {
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())
    };
    note(&mut file).map_err(|error| failed(&error))?;
    Ok(file)
}

fn in_use(data: &Path, lock: &mut File) -> Failure {
    let mut process = String::new();
    let known = lock.read_to_string(&mut process).is_ok() && !process.trim().is_empty();
    let by = if known {
        format!(" (process {})", process.trim())
    } else {
        String::new()
    };
    let text = format!("another server{by} already runs on {}", data.display());
    Failure::new(Exit::Other, "data_in_use", text)
        .hint("stop that server first, or choose another folder with --data")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = DataDir::open(&folder.path().join("data")).expect("the first");
        let refusal = DataDir::open(&first.path)
            .err()
            .expect("a refusal")
            .to_string();
        assert!(
            refusal.contains(&format!("process {}", std::process::id())),
            "{refusal}"
        );
        drop(first);
        assert!(DataDir::open(&folder.path().join("data")).is_ok());
    }

    #[test]
    fn nobody_else_may_look_into_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = DataDir::open(&folder.path().join("data")).expect("a data folder");
        let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode(&data.path), 0o700);
        assert!(write_once(&data.root_key(), b"k").expect("written"));
        assert_eq!(mode(&data.root_key()), 0o600);
    }
}
