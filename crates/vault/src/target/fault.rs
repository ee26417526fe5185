//! A target that fails on purpose, so that tests can crash a vault at every call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use stillpoint_model::{ByteCount, ByteRange, ErrorKind, Timestamp};

use super::{Disturbed, ListPage, ObjectLock, ObjectName, Target, TargetError};

/// What happens at the chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call fails and changes nothing; the next ones work.
    FailBefore,
    /// The call takes effect and is reported as failed; the next ones work.
    FailAfter,
    /// The call and all after it fail and change nothing: the process died before it.
    CrashBefore,
    /// The call takes effect, then it and all after it fail: the process died after it.
    CrashAfter,
    /// The call and all after it that would store something find no space left but what deletes
    /// gave back since.
    FullFrom,
}

/// Passes calls on to another target, counts them, and fails at the N-th.
pub struct FaultTarget {
    inner: Arc<dyn Target>,
    fault: Option<(u64, Fault)>,
    calls: AtomicU64,
    down: AtomicBool,
    /// Bytes that deletes gave back on a full target.
    room: AtomicU64,
}

impl FaultTarget {
    /// Counts calls only.
    pub fn counting(inner: Arc<dyn Target>) -> Self {
        Self {
            inner,
            fault: None,
            calls: AtomicU64::new(0),
            down: AtomicBool::new(false),
            room: AtomicU64::new(0),
        }
    }

    /// Has `fault` happen at the `nth` call, counted from zero.
    pub fn new(inner: Arc<dyn Target>, nth: u64, fault: Fault) -> Self {
        Self {
            fault: Some((nth, fault)),
            ..Self::counting(inner)
        }
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Whether deletes gave back room for so many bytes, which are taken then.
    fn takes(&self, len: u64) -> bool {
        let take = |room: u64| room.checked_sub(len);
        self.room
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
            .is_ok()
    }

    fn call<T>(
        &self,
        action: &'static str,
        name: &str,
        stores: Option<u64>,
        run: impl FnOnce() -> Result<T, TargetError>,
    ) -> Result<T, TargetError> {
        let now = self.calls.fetch_add(1, Ordering::SeqCst);
        let failed = || TargetError::new(action, name, ErrorKind::Retry);
        if self.down.load(Ordering::SeqCst) {
            return Err(failed());
        }
        match self.fault {
            Some((nth, Fault::FullFrom)) if now >= nth => match stores {
                Some(len) if !self.takes(len) => {
                    Err(TargetError::new(action, name, ErrorKind::Full))
                }
                _ => run(),
            },
            Some((nth, fault)) if now == nth => match fault {
                Fault::FailBefore => Err(failed()),
                Fault::FailAfter => run().and(Err(failed())),
                Fault::CrashBefore => {
                    self.down.store(true, Ordering::SeqCst);
                    Err(failed())
                }
                Fault::CrashAfter => {
                    self.down.store(true, Ordering::SeqCst);
                    run().and(Err(failed()))
                }
                Fault::FullFrom => run(),
            },
            _ => run(),
        }
    }
}

impl Target for FaultTarget {
    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), TargetError> {
        self.call("put", name.as_str(), Some(bytes.len() as u64), || {
            self.inner.put_new(name, bytes)
        })
    }

    fn get(&self, name: &ObjectName, range: ByteRange) -> Result<Vec<u8>, TargetError> {
        self.call("get", name.as_str(), None, || self.inner.get(name, range))
    }

    fn get_into(
        &self,
        name: &ObjectName,
        range: ByteRange,
        into: &mut Vec<u8>,
    ) -> Result<(), TargetError> {
        self.call("get", name.as_str(), None, || {
            self.inner.get_into(name, range, into)
        })
    }

    fn can_fill_up(&self) -> bool {
        self.inner.can_fill_up()
    }

    fn head(&self, name: &ObjectName) -> Result<ByteCount, TargetError> {
        self.call("head", name.as_str(), None, || self.inner.head(name))
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, TargetError> {
        self.call("list", prefix, None, || {
            self.inner.list(prefix, after, limit)
        })
    }

    fn delete(&self, name: &ObjectName) -> Result<(), TargetError> {
        self.call("delete", name.as_str(), None, || {
            let len = self.inner.head(name).map_or(0, ByteCount::get);
            self.inner.delete(name)?;
            self.room.fetch_add(len, Ordering::SeqCst);
            Ok(())
        })
    }

    fn abandon(&self, prefix: &str) -> Result<(), TargetError> {
        self.call("abandon", prefix, None, || self.inner.abandon(prefix))
    }

    fn object_lock(&self) -> Result<ObjectLock, TargetError> {
        self.call("look up locks of", "", None, || self.inner.object_lock())
    }

    fn locks(&self) -> bool {
        self.inner.locks()
    }

    fn lock_until(&self, name: &ObjectName, until: Timestamp) -> Result<(), TargetError> {
        self.call("lock", name.as_str(), None, || {
            self.inner.lock_until(name, until)
        })
    }

    fn locked_until(&self, name: &ObjectName) -> Result<Option<Timestamp>, TargetError> {
        self.call("look up the lock of", name.as_str(), None, || {
            self.inner.locked_until(name)
        })
    }

    fn disturbed(&self, prefix: &str) -> Result<Vec<Disturbed>, TargetError> {
        self.call("list", prefix, None, || self.inner.disturbed(prefix))
    }

    fn get_version(
        &self,
        name: &ObjectName,
        version: &str,
        most: u64,
    ) -> Result<Vec<u8>, TargetError> {
        self.call("get", name.as_str(), None, || {
            self.inner.get_version(name, version, most)
        })
    }

    fn keep_version(&self, name: &ObjectName, version: &str) -> Result<(), TargetError> {
        self.call("keep", name.as_str(), None, || {
            self.inner.keep_version(name, version)
        })
    }
}
