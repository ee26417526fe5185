//! Backups as files: a folder in which each backup is a read-only raw disk.
//!
//! ```text
//!  reader of DIR/ID.raw ─> kernel ─> FUSE ─> BackupReader ─> cache ─> target
//! ```
//!
//! Nothing is unpacked anywhere. A read fetches the frames that it touches, proves them, and keeps
//! them in one cache for all files, which bounds the memory. A file is named by the backup's id; its
//! size is the volume's and its time that of the backup. `SEEK_DATA` and `SEEK_HOLE` know where
//! the zeros are, so tools that copy sparsely do.
//!
//! What cannot be read is an I/O error for whoever reads it, and a sentence for whoever mounted it:
//! one for each file and cause, not one for each of the kernel's attempts.
//!
//! A process that is killed leaves a mount behind that says "not connected" until `umount`.
//!
//! **Invariant:** nothing is ever written, neither to the folder nor to the target.

mod files;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fuser::{Config, MountOption, Session, SessionUnmounter};
use rustix::mount::UnmountFlags;
use stillpoint_model::ErrorKind;
use stillpoint_vault::{BackupInfo, ReadCache, Vault};

use files::{Disk, Files};

/// How many reads are served at the same time.
const THREADS: usize = 4;

/// Why backups could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system did not let us mount.
    #[error("cannot mount at {dir}")]
    Mount {
        /// Where.
        dir: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The kernel ended the conversation.
    #[error("the mount at {dir} broke off")]
    Session {
        /// Where.
        dir: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl Error {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        let (Self::Mount { source, .. } | Self::Session { source, .. }) = self;
        match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::Invalid,
        }
    }
}

/// Hears, once for each file and cause, what could not be read.
pub type OnTrouble = Box<dyn Fn(&str) + Send + Sync>;

/// Backups that are mounted. Dropping it unmounts.
pub struct Mounted {
    session: Session<Files>,
    dir: PathBuf,
}

/// Ends a mount from another thread.
pub struct Unmounter {
    session: SessionUnmounter,
    dir: PathBuf,
}

/// What came of asking a mount to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmount {
    /// It is gone.
    Gone,
    /// The folder is free; whoever has a file open may go on reading it, and then it ends.
    InUse,
}

impl std::fmt::Debug for Mounted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mounted({})", self.dir.display())
    }
}

impl Mounted {
    /// Mounts backups in an existing folder. What they read shares `cache`.
    ///
    /// Only the user who mounts may look into it.
    pub fn new(
        backups: Vec<(Vault, BackupInfo)>,
        dir: &Path,
        cache: &Arc<ReadCache>,
        on_trouble: OnTrouble,
    ) -> Result<Self, Error> {
        let disks = backups
            .into_iter()
            .map(|(vault, info)| Disk::new(vault, info, Arc::clone(cache)))
            .collect();
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::RO,
            MountOption::FSName("stillpoint".into()),
            MountOption::Subtype("stillpoint".into()),
            MountOption::DefaultPermissions,
            MountOption::NoDev,
            MountOption::NoSuid,
            MountOption::NoExec,
        ];
        config.n_threads = Some(THREADS);
        let failed = |source| Error::Mount {
            dir: dir.to_owned(),
            source,
        };
        let dir = dir.canonicalize().map_err(failed)?;
        let session = Session::new(Files::new(disks, on_trouble), &dir, &config);
        let session = session.map_err(failed)?;
        Ok(Self { session, dir })
    }

    /// What ends it.
    pub fn unmounter(&mut self) -> Unmounter {
        Unmounter {
            session: self.session.unmount_callable(),
            dir: self.dir.clone(),
        }
    }

    /// Serves reads until somebody unmounts it, by the [`Unmounter`] or with `umount`.
    pub fn serve(self) -> Result<(), Error> {
        let dir = self.dir;
        self.session
            .run()
            .map_err(|source| Error::Session { dir, source })
    }
}

impl Unmounter {
    /// Unmounts. When files are still open, the folder is freed and they are served to the end.
    pub fn unmount(&mut self) -> Result<Unmount, Error> {
        match self.session.unmount() {
            Ok(()) => Ok(Unmount::Gone),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {
                let detached = rustix::mount::unmount(&self.dir, UnmountFlags::DETACH);
                detached
                    .map(|()| Unmount::InUse)
                    .map_err(|error| self.failed(error.into()))
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Session {
            dir: self.dir.clone(),
            source,
        }
    }
}

impl std::fmt::Debug for Unmounter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Unmounter({})", self.dir.display())
    }
}
