//! Objects as files in a directory of another machine, mounted over NFS.
//!
//! A network file system answers twice, late, from memory, or with a handle that means nothing any
//! more. What a local directory may rely on does not hold, and each rule here answers one case:
//!
//! | what happens | rule |
//! |---|---|
//! | there are no unnamed files | a put writes `.NAME.N.part` in the root, fsyncs it, links it to its name |
//! | a request is sent again because its answer got lost, and now finds its own work done | `EEXIST` of a link is a conflict only when the name leads to another file; `ENOENT` of an unlink or rmdir and `EEXIST` of a mkdir are success |
//! | the client remembers that a name was not there | an absence counts only after the attributes of its directories were fetched from the server (`statx` with `AT_STATX_FORCE_SYNC`), and so does a listing |
//! | the client remembers attributes of a file that another machine deleted | lengths are asked of an opened file: opening asks the server |
//! | a handle got stale (`ESTALE`) | the name is looked up again, a few times |
//! | a file that is open here was deleted here: it is `.nfs…` until it is closed | such names are nobody's objects and keep their directory until then; [`Target::abandon`] removes what dead clients left |
//! | writing is put off, and its errors with it | nothing counts before fsync said so |
//! | nothing is mounted | opening refuses; so does every call once the directory is on another device |
//!
//! `hard` mounts wait for a server that is away, and so do we; on `soft` ones its timeouts come as
//! `EIO`, which asks to try again. Directories are durable when the server answered.

mod mount;

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use stillpoint_model::{ByteCount, ByteRange, ErrorKind};

use super::local::part_base;
use super::walk::{Tree, list_page};
use super::{ListPage, ObjectName, Target, TargetError};
use crate::error::kind_of_io;
use mount::{FileId, KernelMount, Mount};

pub use mount::Unmounted;

/// How often a put starts over because somebody else removed the directory under it.
const PUT_ATTEMPTS: usize = 64;
/// How often a stale handle is answered with another look at the name.
const STALE_ATTEMPTS: usize = 8;

/// A mounted directory of another machine.
pub struct NfsTarget {
    mount: Box<dyn Mount>,
    root: PathBuf,
    /// Tells the parts of this process apart.
    parts: AtomicU64,
}

impl std::fmt::Debug for NfsTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NfsTarget({})", self.root.display())
    }
}

impl NfsTarget {
    /// Uses a directory on a mounted NFS. `Unsupported` when nothing is mounted there, or in a
    /// way that breaks what is promised; the cause says how to mount it.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, TargetError> {
        let root = root.into();
        let name = root.display().to_string();
        let mount =
            KernelMount::open(&root).map_err(|error| match error.downcast::<Unmounted>() {
                Ok(why) => {
                    let why = io::Error::other(why);
                    TargetError::with_cause("open", &name, ErrorKind::Unsupported, why)
                }
                Err(error) => failed("open", &name, error),
            })?;
        Ok(Self::on(Box::new(mount), root))
    }

    /// Whether a directory is on a mounted NFS.
    pub fn is_mounted(root: &Path) -> bool {
        mount::is_nfs(root).unwrap_or(false)
    }

    fn on(mount: Box<dyn Mount>, root: PathBuf) -> Self {
        Self {
            mount,
            root,
            parts: AtomicU64::new(0),
        }
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> io::Result<()> {
        self.mount.is_there()?;
        let path = name.as_str();
        let (part, id) = self.write_part(name, bytes)?;
        let placed = self.place(&part, id, path);
        // A part that stays is a second name of an object or of nothing; `abandon` removes it.
        if let Err(error) = unless_gone(self.mount.unlink(&part)) {
            tracing::warn!(part, %error, "a part of a put is left");
        }
        placed?;
        for dir in dirs_of(path) {
            self.mount.sync_dir(dir)?;
        }
        Ok(())
    }

    /// Links a part to its name, in a directory that is made if need be.
    fn place(&self, part: &str, id: FileId, path: &str) -> io::Result<()> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for _ in 0..PUT_ATTEMPTS {
            self.make_dirs(path)?;
            let Err(error) = self.mount.link(part, path) else {
                return Ok(());
            };
            let leads_to = self.mount.open_id(path);
            let taken = error.kind() == io::ErrorKind::AlreadyExists;
            match leads_to {
                // It was done; only the answer got lost.
                Ok(there) if there == id => return Ok(()),
                Ok(_) if taken => return Err(error),
                // What took the name is gone again, or its directory was.
                Err(gone) if taken && is_gone(&gone) => self.refresh(path)?,
                _ if is_gone(&error) => self.refresh(path)?,
                _ => return Err(error),
            }
            last = error;
        }
        Err(last)
    }

    /// Makes the directories of a file.
    fn make_dirs(&self, path: &str) -> io::Result<()> {
        for dir in dirs_of(path).rev().filter(|dir| !dir.is_empty()) {
            match self.mount.mkdir(dir) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                // Its parent went away: the link fails, too, and all begins anew.
                Err(error) if is_gone(&error) => return Ok(()),
                other => other?,
            }
        }
        Ok(())
    }

    fn write_part(&self, name: &ObjectName, bytes: &[u8]) -> io::Result<(String, FileId)> {
        let base = part_base(name.as_str());
        loop {
            let number = self.parts.fetch_add(1, Ordering::Relaxed);
            let part = format!("{base}.{number}.part");
            match self.mount.write_new(&part, bytes) {
                Ok(id) => return Ok((part, id)),
                // Another process's, or a create that was sent twice.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    if let Err(error) = unless_gone(self.mount.unlink(&part)) {
                        tracing::warn!(part, %error, "a part of a put is left");
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Has the server say what is in the directories of a file, from the root down.
    fn refresh(&self, path: &str) -> io::Result<()> {
        self.mount.is_there()?;
        let dirs: Vec<_> = dirs_of(path).collect();
        for dir in dirs.into_iter().rev() {
            match self.mount.refresh(dir) {
                Err(error) if is_gone(&error) && !dir.is_empty() => return Ok(()),
                other => other?,
            }
        }
        Ok(())
    }

    /// Does something with a file. That it is not there is believed the second time, after the
    /// server was asked.
    fn with<T>(&self, path: &str, mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let mut absent = false;
        for _ in 1..STALE_ATTEMPTS {
            match act() {
                Err(error) if is_stale(&error) => self.refresh(path)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !absent => {
                    absent = true;
                    self.refresh(path)?;
                }
                other => return other,
            }
        }
        act()
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.with(path, || self.mount.unlink(path))
            .or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
        self.remove_dirs(path)
    }

    /// Removes the directories of a file as far as they are empty.
    fn remove_dirs(&self, path: &str) -> io::Result<()> {
        for dir in dirs_of(path) {
            if dir.is_empty() {
                return self.mount.sync_dir(dir);
            }
            match self.mount.rmdir(dir) {
                Ok(()) => {}
                Err(error) if is_gone(&error) => {}
                // Somebody has something in it.
                Err(_) => {
                    return match self.mount.sync_dir(dir) {
                        Err(error) if is_gone(&error) => Ok(()),
                        other => other,
                    };
                }
            }
        }
        Ok(())
    }

    /// Removes what dead puts and dead clients left under a prefix.
    fn tidy(&self, prefix: &str) -> io::Result<()> {
        self.mount.is_there()?;
        self.mount.refresh("")?;
        let base = part_base(prefix);
        for name in self.mount.read_dir("")? {
            if name.starts_with(&base) && name.ends_with(".part") {
                unless_gone(self.mount.unlink(&name))?;
            }
        }
        let Some(names) = self.children(prefix)? else {
            return Ok(());
        };
        for name in names.iter().filter(|name| name.starts_with(".nfs")) {
            unless_gone(self.mount.unlink(&format!("{prefix}{name}")))?;
        }
        self.remove_dirs(&format!("{prefix}x"))
    }
}

impl Tree for NfsTarget {
    fn children(&self, dir: &str) -> io::Result<Option<Vec<String>>> {
        let path = format!("{dir}x");
        let read = || {
            self.refresh(&path)?;
            self.mount.read_dir(dir.trim_end_matches('/'))
        };
        match self.with(&path, read) {
            // A missing mount must never look like an empty target.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !dir.is_empty() => {
                self.mount.is_there()?;
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    fn file_len(&self, path: &str) -> io::Result<Option<u64>> {
        match self.with(path, || self.mount.open_len(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }
}

impl Target for NfsTarget {
    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), TargetError> {
        self.put(name, bytes)
            .map_err(|error| failed("put", name.as_str(), error))
    }

    fn get(&self, name: &ObjectName, range: ByteRange) -> Result<Vec<u8>, TargetError> {
        let mut bytes = vec![];
        self.get_into(name, range, &mut bytes)?;
        Ok(bytes)
    }

    fn get_into(
        &self,
        name: &ObjectName,
        range: ByteRange,
        into: &mut Vec<u8>,
    ) -> Result<(), TargetError> {
        let path = name.as_str();
        self.with(path, || self.mount.read(path, range, into))
            .map_err(|error| failed("get", path, error))
    }

    fn can_fill_up(&self) -> bool {
        true
    }

    fn head(&self, name: &ObjectName) -> Result<ByteCount, TargetError> {
        let path = name.as_str();
        self.with(path, || self.mount.open_len(path))
            .map(ByteCount::new)
            .map_err(|error| failed("head", path, error))
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, TargetError> {
        list_page(self, prefix, after, limit).map_err(|error| failed("list", prefix, error))
    }

    fn delete(&self, name: &ObjectName) -> Result<(), TargetError> {
        self.mount
            .is_there()
            .and_then(|()| self.remove(name.as_str()))
            .map_err(|error| failed("delete", name.as_str(), error))
    }

    fn abandon(&self, prefix: &str) -> Result<(), TargetError> {
        self.tidy(prefix)
            .map_err(|error| failed("abandon", prefix, error))
    }
}

/// The directories of a file, the innermost first, the root (empty) last.
fn dirs_of(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    let slashes: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
    let inner = slashes.into_iter().rev().map(|at| &path[..at]);
    let all: Vec<&str> = inner.chain([""]).collect();
    all.into_iter()
}

fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if is_gone(&error) => Ok(()),
        other => other,
    }
}

/// Whether something was not there, or not any more.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || is_stale(error)
}

fn is_stale(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::StaleNetworkFileHandle
}

/// What a failure of the network asks for.
fn failed(action: &'static str, name: &str, error: io::Error) -> TargetError {
    let io = rustix::io::Errno::IO;
    let kind = match rustix::io::Errno::from_io_error(&error) {
        Some(errno) if errno == io => ErrorKind::Retry,
        _ if is_stale(&error) => ErrorKind::Retry,
        _ => kind_of_io(&error),
    };
    TargetError::with_cause(action, name, kind, error)
}
