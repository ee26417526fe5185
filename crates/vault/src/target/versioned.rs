//! A bucket with versions and locks in memory, for tests and simulations, and somebody who has the
//! same credentials and means ill.
//!
//! It keeps the rules of Object Lock: whatever is put under a name that is taken is another version,
//! a delete by name only hides, a version goes for good when it is named, and not while it is locked.
//! As a [`Target`] it is what [`S3Target`](super::S3Target) is in a bucket with locks: the first
//! version is the object.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stillpoint_model::{ByteCount, ByteRange, Env, ErrorKind, Timestamp};

use super::{Disturbed, ListEntry, ListPage, ObjectLock, ObjectName, Target, TargetError};

/// What is under a name, the oldest first.
type Versions = Vec<Version>;

/// A target in memory that keeps versions and locks.
pub struct VersionedTarget {
    env: Arc<dyn Env>,
    /// Whether a locked version stays.
    enforces: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    names: BTreeMap<ObjectName, Versions>,
    next: u64,
    /// How often a lock was set or lengthened.
    locked: usize,
}

#[derive(Clone)]
struct Version {
    id: u64,
    /// None hides what is below.
    bytes: Option<Vec<u8>>,
    until: Option<Timestamp>,
}

impl Version {
    fn is_locked(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until > now)
    }
}

impl VersionedTarget {
    /// An empty one that enforces its locks.
    pub fn new(env: Arc<dyn Env>) -> Self {
        Self {
            env,
            enforces: true,
            state: Mutex::default(),
        }
    }

    /// An empty one that says yes to every lock and deletes what is locked, as some servers do.
    pub fn ignoring_locks(env: Arc<dyn Env>) -> Self {
        Self {
            enforces: false,
            ..Self::new(env)
        }
    }

    /// Every name that has something to read, sorted.
    pub fn names(&self) -> Vec<ObjectName> {
        let state = self.lock();
        let kept = |versions: &Versions| first_of(versions).is_some();
        let names = state.names.iter().filter(|(_, versions)| kept(versions));
        names.map(|(name, _)| name.clone()).collect()
    }

    /// How many versions and markers there are in all.
    pub fn versions(&self) -> usize {
        self.lock().names.values().map(Vec::len).sum()
    }

    /// How often a lock was set or lengthened.
    pub fn lockings(&self) -> usize {
        self.lock().locked
    }

    /// Takes all locks away, as it is when objects were brought from another bucket.
    pub fn forget_locks(&self) {
        for version in self.lock().names.values_mut().flatten() {
            version.until = None;
        }
    }

    /// What somebody does who has the credentials: a delete by name.
    pub fn hide(&self, name: &ObjectName) {
        self.lock().add(name, None);
    }

    /// What a disk does below the server: a byte of every version is another.
    pub fn rot(&self, name: &ObjectName) {
        let mut state = self.lock();
        let versions = state.names.get_mut(name).into_iter().flatten();
        for bytes in versions.filter_map(|version| version.bytes.as_mut()) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
    }

    /// What somebody does who has the credentials: a put over what is there.
    pub fn put_over(&self, name: &ObjectName, bytes: &[u8]) {
        self.lock().add(name, Some(bytes.to_vec()));
    }

    /// What somebody does who has the credentials: a put over what is there, locked in its turn.
    pub fn put_over_locked(&self, name: &ObjectName, bytes: &[u8], until: Timestamp) {
        let mut state = self.lock();
        state.add(name, Some(bytes.to_vec()));
        if let Some(top) = state.names.get_mut(name).and_then(|all| all.last_mut()) {
            top.until = Some(until);
        }
    }

    /// What somebody does who has the credentials: deletes every version that is not locked. Says
    /// whether nothing is left.
    pub fn purge(&self, name: &ObjectName) -> bool {
        let now = self.env.now();
        let mut state = self.lock();
        let Some(versions) = state.names.get_mut(name) else {
            return true;
        };
        versions.retain(|version| self.enforces && version.is_locked(now));
        let is_empty = versions.is_empty();
        state.names.retain(|_, versions| !versions.is_empty());
        is_empty
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(
        &self,
        action: &'static str,
        name: &ObjectName,
        read: impl FnOnce(&Version, &[u8]) -> T,
    ) -> Result<T, TargetError> {
        let state = self.lock();
        let found = state.names.get(name).and_then(|all| first_of(all));
        let found = found.and_then(|version| Some((version, version.bytes.as_deref()?)));
        let missing = || TargetError::new(action, name, ErrorKind::NotFound);
        found
            .map(|(version, bytes)| read(version, bytes))
            .ok_or_else(missing)
    }
}

impl State {
    fn add(&mut self, name: &ObjectName, bytes: Option<Vec<u8>>) {
        let id = self.next;
        self.next += 1;
        let version = Version {
            id,
            bytes,
            until: None,
        };
        self.names.entry(name.clone()).or_default().push(version);
    }
}

/// The object: the first that can be read.
fn first_of(versions: &Versions) -> Option<&Version> {
    versions.iter().find(|version| version.bytes.is_some())
}

fn length(bytes: &[u8]) -> ByteCount {
    ByteCount::new(bytes.len() as u64)
}

impl Target for VersionedTarget {
    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), TargetError> {
        let mut state = self.lock();
        if state
            .names
            .get(name)
            .is_some_and(|all| first_of(all).is_some())
        {
            return Err(TargetError::new("put", name, ErrorKind::Conflict));
        }
        state.add(name, Some(bytes.to_vec()));
        Ok(())
    }

    fn get(&self, name: &ObjectName, range: ByteRange) -> Result<Vec<u8>, TargetError> {
        let part = self.read("get", name, |_, bytes| {
            let start = usize::try_from(range.offset).ok()?;
            let end = usize::try_from(range.end()).ok()?;
            bytes.get(start..end).map(<[u8]>::to_vec)
        })?;
        part.ok_or_else(|| TargetError::new("get", name, ErrorKind::Corrupt))
    }

    /// A part is read of whatever lies on top, as a bucket gives it, if that is not hidden.
    fn get_into(
        &self,
        name: &ObjectName,
        range: ByteRange,
        into: &mut Vec<u8>,
    ) -> Result<(), TargetError> {
        let top = self
            .lock()
            .names
            .get(name)
            .and_then(|all| all.last().cloned());
        *into = match top.and_then(|version| version.bytes) {
            None => self.get(name, range)?,
            Some(bytes) => {
                let start = usize::try_from(range.offset).ok();
                let end = usize::try_from(range.end()).ok();
                let part = start
                    .zip(end)
                    .and_then(|(start, end)| bytes.get(start..end));
                let cut = || TargetError::new("get", name, ErrorKind::Corrupt);
                part.ok_or_else(cut)?.to_vec()
            }
        };
        Ok(())
    }

    fn head(&self, name: &ObjectName) -> Result<ByteCount, TargetError> {
        self.read("head", name, |_, bytes| length(bytes))
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, TargetError> {
        let state = self.lock();
        let is_wanted =
            |name: &str| name.starts_with(prefix) && after.is_none_or(|after| name > after);
        let mut found = state.names.iter().filter_map(|(name, versions)| {
            let bytes = first_of(versions)?.bytes.as_ref()?;
            is_wanted(name.as_str()).then(|| ListEntry {
                name: name.clone(),
                len: length(bytes),
            })
        });
        let entries = found.by_ref().take(limit).collect();
        let more = found.next().is_some();
        Ok(ListPage { entries, more })
    }

    fn delete(&self, name: &ObjectName) -> Result<(), TargetError> {
        match self.purge(name) {
            true => Ok(()),
            false => Err(TargetError::new("delete", name, ErrorKind::Conflict)),
        }
    }

    fn object_lock(&self) -> Result<ObjectLock, TargetError> {
        Ok(ObjectLock::Available)
    }

    fn locks(&self) -> bool {
        true
    }

    fn lock_until(&self, name: &ObjectName, until: Timestamp) -> Result<(), TargetError> {
        let mut state = self.lock();
        let versions = state.names.get_mut(name);
        let first = versions.and_then(|all| all.iter_mut().find(|v| v.bytes.is_some()));
        let missing = || TargetError::new("lock", name, ErrorKind::NotFound);
        let first = first.ok_or_else(missing)?;
        if first.until.is_none_or(|now| now < until) {
            first.until = Some(until);
            state.locked += 1;
        }
        Ok(())
    }

    fn locked_until(&self, name: &ObjectName) -> Result<Option<Timestamp>, TargetError> {
        self.read("look up the lock of", name, |version, _| version.until)
    }

    fn disturbed(&self, prefix: &str) -> Result<Vec<Disturbed>, TargetError> {
        let state = self.lock();
        let under = state.names.iter();
        let under = under.filter(|(name, all)| name.as_str().starts_with(prefix) && all.len() > 1);
        let readable = |all: &Versions| {
            let readable = all.iter().filter(|version| version.bytes.is_some());
            readable.map(|version| version.id.to_string()).collect()
        };
        Ok(under
            .map(|(name, all)| Disturbed {
                name: name.clone(),
                versions: readable(all),
            })
            .collect())
    }

    fn get_version(
        &self,
        name: &ObjectName,
        version: &str,
        most: u64,
    ) -> Result<Vec<u8>, TargetError> {
        let state = self.lock();
        let mut all = state.names.get(name).into_iter().flatten();
        let found = all.find(|it| it.id.to_string() == version);
        let found = found.and_then(|version| version.bytes.clone());
        let missing = || TargetError::new("get", name, ErrorKind::NotFound);
        let bytes = found.ok_or_else(missing)?;
        match bytes.len() as u64 <= most {
            true => Ok(bytes),
            false => Err(TargetError::new("get", name, ErrorKind::Corrupt)),
        }
    }

    fn keep_version(&self, name: &ObjectName, version: &str) -> Result<(), TargetError> {
        let now = self.env.now();
        let mut state = self.lock();
        let versions = state.names.entry(name.clone()).or_default();
        let is_kept = |it: &Version| it.id.to_string() == version;
        versions.retain(|it| is_kept(it) || it.is_locked(now));
        let bytes = match first_of(versions) {
            Some(first) if is_kept(first) => first.bytes.clone(),
            _ => return Err(TargetError::new("keep", name, ErrorKind::Conflict)),
        };
        if !versions.last().is_some_and(is_kept) {
            state.add(name, bytes);
        }
        Ok(())
    }
}
