//! Where objects are kept: the few things a vault asks of a directory, an NFS mount or a bucket.
//!
//! A target stores immutable objects under names. It promises four things, which [`probe`]
//! tries before a target is used and the conformance suite tries harder:
//!
//! - [`Target::put_new`] stores the whole object or nothing, durably, and never replaces one:
//!   of several at once exactly one wins;
//! - what was put is read back and listed at once, by everybody;
//! - a listing names every object that was there throughout it;
//! - a deleted object is gone at once.
//!
//! It promises nothing about times, link counts or order of arrival, and nobody asks.

mod fault;
mod local;
mod memory;
mod name;
mod nfs;
mod probe;
mod s3;
mod versioned;
mod walk;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

use std::{fmt, io};

use stillpoint_model::{ByteCount, ByteRange, ErrorKind, Timestamp};

pub use fault::{Fault, FaultTarget};
pub use local::LocalTarget;
pub use memory::MemoryTarget;
pub use name::{InvalidName, ObjectName};
pub use nfs::{NfsTarget, Unmounted};
pub use probe::{Fitness, probe, probe_locks};
pub use s3::{CredentialSource, CredentialsError, InvalidBucket, S3Settings, S3Target};
pub use versioned::VersionedTarget;

use crate::error::kind_of_io;

/// A store of immutable objects. All calls block; all may be made from several threads.
pub trait Target: Send + Sync {
    /// Stores a new object. `Conflict` when the name is taken, whatever it holds.
    /// After any other error the object may or may not be there.
    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), TargetError>;

    /// As [`Target::put_new`] of a large object; gives the buffer back, with anything in it.
    fn put_buffer(&self, name: &ObjectName, bytes: Vec<u8>) -> (Vec<u8>, Result<(), TargetError>) {
        let put = self.put_new(name, &bytes);
        (bytes, put)
    }

    /// Reads exactly `range` of an object; `NotFound` without the object, `Corrupt` when it ends
    /// before the range does.
    fn get(&self, name: &ObjectName, range: ByteRange) -> Result<Vec<u8>, TargetError>;

    /// As [`Target::get`], into a buffer that was used before; what was in it goes.
    fn get_into(
        &self,
        name: &ObjectName,
        range: ByteRange,
        into: &mut Vec<u8>,
    ) -> Result<(), TargetError> {
        *into = self.get(name, range)?;
        Ok(())
    }

    /// Reads a whole object; `Corrupt` when it is longer than `most` bytes.
    fn get_whole(&self, name: &ObjectName, most: u64) -> Result<Vec<u8>, TargetError> {
        let len = self.head(name)?.get();
        if len > most {
            return Err(TargetError::new("get", name, ErrorKind::Corrupt));
        }
        self.get(name, ByteRange::new(0, len))
    }

    /// Whether an object is there.
    fn has(&self, name: &ObjectName) -> Result<bool, TargetError> {
        match self.head(name) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How many requests are best under way at once. One where an answer comes as fast as another
    /// thread would.
    fn width(&self) -> usize {
        1
    }

    /// The length of an object.
    fn head(&self, name: &ObjectName) -> Result<ByteCount, TargetError>;

    /// At most `limit` objects whose names start with `prefix` and sort after `after`, by name in
    /// byte order. A prefix is empty or ends with `/`.
    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, TargetError>;

    /// Removes an object. Removing what is not there is no error.
    fn delete(&self, name: &ObjectName) -> Result<(), TargetError>;

    /// Whether it can run out of room, so that it needs a reserve.
    fn can_fill_up(&self) -> bool {
        false
    }

    /// Drops what interrupted puts under a prefix left behind, where that can happen. The caller
    /// knows that nobody puts anything there.
    fn abandon(&self, _prefix: &str) -> Result<(), TargetError> {
        Ok(())
    }

    /// Whether objects can be locked here, so that nobody deletes them before their time.
    fn object_lock(&self) -> Result<ObjectLock, TargetError> {
        Ok(ObjectLock::Absent)
    }

    /// Whether what is to stay is locked here, because somebody asked for that.
    ///
    /// Then a name means the first thing that was put under it and is still there. What others put
    /// over it later, or that they hid it, changes nothing, but for reads of a part.
    fn locks(&self) -> bool {
        false
    }

    /// Locks an object until a time, and makes sure of that; never shortens a lock. `Unsupported`
    /// where nothing is locked. Until then [`Target::delete`] is refused with `Conflict`.
    fn lock_until(&self, name: &ObjectName, _until: Timestamp) -> Result<(), TargetError> {
        Err(TargetError::new("lock", name, ErrorKind::Unsupported))
    }

    /// Until when an object is locked, if it is or was.
    fn locked_until(&self, _name: &ObjectName) -> Result<Option<Timestamp>, TargetError> {
        Ok(None)
    }

    /// Names under a prefix with more than one version, or with something that hides them. Nothing of
    /// ours makes any that last.
    fn disturbed(&self, _prefix: &str) -> Result<Vec<Disturbed>, TargetError> {
        Ok(vec![])
    }

    /// Reads a whole version of an object; `Corrupt` when it is longer than `most` bytes.
    fn get_version(
        &self,
        name: &ObjectName,
        _version: &str,
        _most: u64,
    ) -> Result<Vec<u8>, TargetError> {
        Err(TargetError::new("get", name, ErrorKind::Unsupported))
    }

    /// Makes a version the one that everybody reads: removes all others, as far as their locks let
    /// it, and what hides it; puts it anew above those that stay. `Conflict` when an older one stays.
    fn keep_version(&self, name: &ObjectName, _version: &str) -> Result<(), TargetError> {
        Err(TargetError::new("keep", name, ErrorKind::Unsupported))
    }

    /// Puts, under a name that is free, an object whose bytes are not those that were announced,
    /// and says whether that is refused. None where nothing lies between that could alter them.
    fn refuses_altered_bodies(&self, _name: &ObjectName) -> Result<Option<bool>, TargetError> {
        Ok(None)
    }
}

/// Whether a target can keep its objects from being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectLock {
    /// It can.
    Available,
    /// It locks whatever is put, for a time of its own: nothing can be tidied there.
    Always,
    /// It cannot.
    Absent,
    /// It does not say: the credentials may not ask.
    Unknown,
}

/// How objects are locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// For everybody who has no right to bypass it.
    Governance,
    /// For everybody, the owner of the bucket included.
    Compliance,
}

impl LockMode {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Governance => "governance",
            Self::Compliance => "compliance",
        }
    }
}

/// A name that somebody put something else under, or hid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disturbed {
    /// The name.
    pub name: ObjectName,
    /// What can be read of it, the first that was put first.
    pub versions: Vec<String>,
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// Its name.
    pub name: ObjectName,
    /// Its length.
    pub len: ByteCount,
}

/// A part of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// The objects, by name.
    pub entries: Vec<ListEntry>,
    /// Whether there may be more after the last of them.
    pub more: bool,
}

/// An error of a target: what was tried, on what, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{action} {name}: {kind}")]
pub struct TargetError {
    action: &'static str,
    name: String,
    kind: ErrorKind,
    #[source]
    source: Option<io::Error>,
}

impl TargetError {
    /// An error without a cause from the system.
    pub fn new(action: &'static str, name: &(impl fmt::Display + ?Sized), kind: ErrorKind) -> Self {
        Self {
            action,
            name: name.to_string(),
            kind,
            source: None,
        }
    }

    /// An error from the system.
    pub fn from_io(
        action: &'static str,
        name: &(impl fmt::Display + ?Sized),
        source: io::Error,
    ) -> Self {
        Self {
            action,
            name: name.to_string(),
            kind: kind_of_io(&source),
            source: Some(source),
        }
    }

    /// An error with a cause that says more than the system's kind of it.
    pub fn with_cause(
        action: &'static str,
        name: &(impl fmt::Display + ?Sized),
        kind: ErrorKind,
        cause: io::Error,
    ) -> Self {
        Self {
            action,
            name: name.to_string(),
            kind,
            source: Some(cause),
        }
    }

    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// How many names one call of a listing asks for.
const PAGE: usize = 1000;

/// Calls `visit` for every object under a prefix, by name, page by page.
pub(crate) fn list_each<E: From<TargetError>>(
    target: &dyn Target,
    prefix: &str,
    mut visit: impl FnMut(ListEntry) -> Result<(), E>,
) -> Result<(), E> {
    let mut after: Option<String> = None;
    loop {
        let page = target.list(prefix, after.as_deref(), PAGE)?;
        let last = page.entries.last().map(|entry| entry.name.to_string());
        for entry in page.entries {
            visit(entry)?;
        }
        match last {
            Some(last) if page.more => after = Some(last),
            _ => return Ok(()),
        }
    }
}
