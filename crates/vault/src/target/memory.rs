//! Objects in memory: a full citizen, for tests and simulations.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use stillpoint_model::{ByteCount, ByteRange, ErrorKind};

use super::{ListEntry, ListPage, ObjectName, Target, TargetError};

/// A target that lives as long as the process.
#[derive(Debug, Default)]
pub struct MemoryTarget {
    objects: Mutex<BTreeMap<ObjectName, Vec<u8>>>,
}

impl MemoryTarget {
    /// An empty target.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every name in it, sorted.
    pub fn names(&self) -> Vec<ObjectName> {
        self.lock().keys().cloned().collect()
    }

    /// Changes an object's bytes behind everybody's back, as rot does. False without the object.
    pub fn tamper(&self, name: &ObjectName, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.lock().get_mut(name).map(change).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectName, Vec<u8>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target for MemoryTarget {
    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), TargetError> {
        let mut objects = self.lock();
        if objects.contains_key(name) {
            return Err(TargetError::new("put", name, ErrorKind::Conflict));
        }
        objects.insert(name.clone(), bytes.to_vec());
        Ok(())
    }

    fn get(&self, name: &ObjectName, range: ByteRange) -> Result<Vec<u8>, TargetError> {
        let objects = self.lock();
        let bytes = objects
            .get(name)
            .ok_or_else(|| TargetError::new("get", name, ErrorKind::NotFound))?;
        let part = usize::try_from(range.offset)
            .ok()
            .zip(usize::try_from(range.end()).ok())
            .and_then(|(start, end)| bytes.get(start..end));
        part.map(<[u8]>::to_vec)
            .ok_or_else(|| TargetError::new("get", name, ErrorKind::Corrupt))
    }

    /// As a directory does, so that what keeps a reserve is tried here, too.
    fn can_fill_up(&self) -> bool {
        true
    }

    fn head(&self, name: &ObjectName) -> Result<ByteCount, TargetError> {
        self.lock()
            .get(name)
            .map(|bytes| length(bytes))
            .ok_or_else(|| TargetError::new("head", name, ErrorKind::NotFound))
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, TargetError> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(ObjectName::made(after.to_owned())),
            _ if prefix.is_empty() => Bound::Unbounded,
            _ => Bound::Included(ObjectName::made(prefix.trim_end_matches('/').to_owned())),
        };
        let objects = self.lock();
        let mut found = objects
            .range((start, Bound::Unbounded))
            .skip_while(|(name, _)| name.as_str() < prefix)
            .take_while(|(name, _)| name.as_str().starts_with(prefix));
        let entries = found
            .by_ref()
            .take(limit)
            .map(|(name, bytes)| ListEntry {
                name: name.clone(),
                len: length(bytes),
            })
            .collect();
        Ok(ListPage {
            entries,
            more: found.next().is_some(),
        })
    }

    fn delete(&self, name: &ObjectName) -> Result<(), TargetError> {
        self.lock().remove(name);
        Ok(())
    }
}

fn length(bytes: &[u8]) -> ByteCount {
    ByteCount::new(bytes.len() as u64)
}
