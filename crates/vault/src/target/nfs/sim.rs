//! An NFS in memory that misbehaves as real ones do: answers get lost and requests are sent again,
//! handles get stale, clients remember what is not so any more.
//!
//! Two clients of one server: the one under test, whose memory and faults are simulated, and
//! another, which changes things behind its back.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use stillpoint_model::ByteRange;

use super::mount::{FileId, Mount};

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is done, its answer gets lost, and the request that is sent again finds it done.
    AnswerLost,
    /// The handle is stale; nothing is done.
    Stale,
    /// The server does not answer in time, and nothing was done.
    TimedOut,
    /// The server does not answer in time, and yet it was done.
    TimedOutAfter,
}

#[derive(Default)]
struct State {
    /// The directories but the root.
    dirs: BTreeSet<String>,
    files: BTreeMap<String, (u64, Arc<Vec<u8>>)>,
    /// Names that the client remembers as absent.
    absent: BTreeSet<String>,
    /// Names that the client remembers although another deleted them.
    remembered: BTreeSet<String>,
    inodes: u64,
    calls: u64,
    fault: Option<(u64, Fault)>,
    unmounted: bool,
}

/// The client under test. Cloning gives a second handle on the same one.
#[derive(Clone, Default)]
pub struct SimMount(Arc<Mutex<State>>);

impl SimMount {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Has `fault` happen at the `nth` call from now, counted from zero.
    pub fn fail_at(&self, nth: u64, fault: Fault) {
        let mut state = self.lock();
        state.fault = Some((state.calls + nth, fault));
    }

    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Every file, for looking at what is left.
    pub fn files(&self) -> Vec<String> {
        self.lock().files.keys().cloned().collect()
    }

    pub fn dirs(&self) -> Vec<String> {
        self.lock().dirs.iter().cloned().collect()
    }

    pub fn unmount(&self) {
        self.lock().unmounted = true;
    }

    /// Another client makes a file, after this one saw that it was not there.
    pub fn other_creates(&self, path: &str, bytes: &[u8]) {
        let mut state = self.lock();
        let mut dir = path;
        while let Some((parent, _)) = dir.rsplit_once('/') {
            state.dirs.insert(parent.to_owned());
            dir = parent;
        }
        state.inodes += 1;
        let inode = state.inodes;
        let bytes = Arc::new(bytes.to_vec());
        state.files.insert(path.to_owned(), (inode, bytes));
        state.absent.insert(path.to_owned());
    }

    /// Another client deletes a file that this one remembers.
    pub fn other_deletes(&self, path: &str) {
        let mut state = self.lock();
        state.files.remove(path);
        state.remembered.insert(path.to_owned());
    }

    /// Counts a call, and does it as the fault says. `again` is the answer of a request that finds
    /// its own work done.
    fn call<T>(
        &self,
        act: impl FnOnce(&mut State) -> io::Result<T>,
        again: Option<io::ErrorKind>,
    ) -> io::Result<T> {
        let mut state = self.lock();
        let now = state.calls;
        state.calls += 1;
        let fault = state.fault.filter(|(at, _)| *at == now);
        match fault.map(|(_, fault)| fault) {
            None => act(&mut state),
            Some(Fault::Stale) => Err(io::ErrorKind::StaleNetworkFileHandle.into()),
            Some(Fault::TimedOut) => Err(rustix::io::Errno::IO.into()),
            Some(Fault::TimedOutAfter) => {
                act(&mut state)?;
                Err(rustix::io::Errno::IO.into())
            }
            Some(Fault::AnswerLost) => {
                let done = act(&mut state)?;
                match again {
                    Some(kind) => Err(kind.into()),
                    None => Ok(done),
                }
            }
        }
    }
}

impl State {
    fn has_parent(&self, path: &str) -> io::Result<()> {
        match path.rsplit_once('/') {
            Some((dir, _)) if !self.dirs.contains(dir) => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(()),
        }
    }

    /// What the client finds under a name, with what it remembers.
    fn look_up(&self, path: &str) -> io::Result<&(u64, Arc<Vec<u8>>)> {
        if self.remembered.contains(path) && !self.files.contains_key(path) {
            return Err(io::ErrorKind::StaleNetworkFileHandle.into());
        }
        let found = self.files.get(path).filter(|_| !self.absent.contains(path));
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn children(&self, dir: &str) -> impl Iterator<Item = String> {
        let prefix = if dir.is_empty() {
            String::new()
        } else {
            format!("{dir}/")
        };
        let of = |path: &String, slash: &str| {
            let name = path.strip_prefix(&prefix)?;
            (!name.contains('/')).then(|| format!("{name}{slash}"))
        };
        let files = self
            .files
            .keys()
            .filter(|path| !self.absent.contains(*path));
        let files = files.filter_map(|path| of(path, ""));
        let dirs = self.dirs.iter().filter_map(|path| of(path, "/"));
        files.chain(dirs).collect::<Vec<_>>().into_iter()
    }
}

impl Mount for SimMount {
    fn is_there(&self) -> io::Result<()> {
        match self.lock().unmounted {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(()),
        }
    }

    fn write_new(&self, path: &str, bytes: &[u8]) -> io::Result<FileId> {
        let write = |state: &mut State| {
            if state.files.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.inodes += 1;
            let inode = state.inodes;
            let bytes = Arc::new(bytes.to_vec());
            state.files.insert(path.to_owned(), (inode, bytes));
            Ok(FileId { device: 1, inode })
        };
        // An exclusive create carries a verifier, so that the server knows it again.
        self.call(write, None)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let link = |state: &mut State| {
            state.has_parent(to)?;
            if state.files.contains_key(to) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let file = state
                .files
                .get(from)
                .ok_or(io::ErrorKind::NotFound)?
                .clone();
            state.files.insert(to.to_owned(), file);
            state.absent.remove(to);
            state.remembered.remove(to);
            Ok(())
        };
        self.call(link, Some(io::ErrorKind::AlreadyExists))
    }

    fn open_id(&self, path: &str) -> io::Result<FileId> {
        let open = |state: &mut State| {
            let (inode, _) = *state.look_up(path)?;
            Ok(FileId { device: 1, inode })
        };
        self.call(open, None)
    }

    fn open_len(&self, path: &str) -> io::Result<u64> {
        self.call(|state| Ok(state.look_up(path)?.1.len() as u64), None)
    }

    fn read(&self, path: &str, range: ByteRange, into: &mut Vec<u8>) -> io::Result<()> {
        let bytes = self.call(|state| Ok(state.look_up(path)?.1.clone()), None)?;
        let start = usize::try_from(range.offset).unwrap_or(usize::MAX);
        let end = usize::try_from(range.end()).unwrap_or(usize::MAX);
        let part = bytes.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.clear();
        into.extend_from_slice(part);
        Ok(())
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        let unlink = |state: &mut State| {
            state.look_up(path)?;
            state.files.remove(path);
            Ok(())
        };
        self.call(unlink, Some(io::ErrorKind::NotFound))
    }

    fn mkdir(&self, path: &str) -> io::Result<()> {
        let mkdir = |state: &mut State| {
            state.has_parent(path)?;
            match state.dirs.insert(path.to_owned()) {
                true => Ok(()),
                false => Err(io::ErrorKind::AlreadyExists.into()),
            }
        };
        self.call(mkdir, Some(io::ErrorKind::AlreadyExists))
    }

    fn rmdir(&self, path: &str) -> io::Result<()> {
        let rmdir = |state: &mut State| {
            let below = format!("{path}/");
            let full = state.files.keys().chain(&state.dirs);
            if full.into_iter().any(|other| other.starts_with(&below)) {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            match state.dirs.remove(path) {
                true => Ok(()),
                false => Err(io::ErrorKind::NotFound.into()),
            }
        };
        self.call(rmdir, Some(io::ErrorKind::NotFound))
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        let sync = |state: &mut State| match path.is_empty() || state.dirs.contains(path) {
            true => Ok(()),
            false => Err(io::ErrorKind::NotFound.into()),
        };
        self.call(sync, None)
    }

    fn read_dir(&self, path: &str) -> io::Result<Vec<String>> {
        let read = |state: &mut State| match path.is_empty() || state.dirs.contains(path) {
            true => Ok(state.children(path).collect()),
            false => Err(io::ErrorKind::NotFound.into()),
        };
        self.call(read, None)
    }

    fn refresh(&self, path: &str) -> io::Result<()> {
        let refresh = |state: &mut State| {
            if !path.is_empty() && !state.dirs.contains(path) {
                return Err(io::ErrorKind::NotFound.into());
            }
            let inside = |name: &String| name.rsplit_once('/').map_or("", |(dir, _)| dir) == path;
            state.absent.retain(|name| !inside(name));
            state.remembered.retain(|name| !inside(name));
            Ok(())
        };
        self.call(refresh, None)
    }
}
