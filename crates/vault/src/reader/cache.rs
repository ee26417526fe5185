//! What readers read lately, up to so many bytes.
//!
//! Whoever misses reads; whoever wants the same meanwhile waits for that instead of reading it,
//! too. A read that fails is forgotten, so the next caller tries again. What goes first is what
//! nobody asked for the longest; whoever still uses it keeps it alive.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stillpoint_model::ByteCount;

use crate::Error;
use crate::format::CHUNK_LEN;
use crate::format::pack::{PackId, Spot};
use crate::format::tree::{Extent, FrameLoc, Interior, Leaf, NodeRef};

/// What a small value costs besides what it holds.
const OVERHEAD: usize = 256;

/// A part of a pack, and what it is read as: a node's place, or zero for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pack: PackId,
    spot: Spot,
    place: u64,
}

impl Key {
    pub(super) fn of(pack: PackId, spot: Spot, place: u64) -> Self {
        Self { pack, spot, place }
    }
}

/// Something that was read and proven.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Frame(Arc<Vec<u8>>),
    Leaf(Arc<Leaf>),
    Interior(Arc<Interior>),
}

impl Value {
    /// About how much memory it takes, in bytes.
    fn weight(&self) -> usize {
        let held = match self {
            Self::Frame(chunks) => chunks.len(),
            Self::Leaf(leaf) => {
                leaf.frames.len() * size_of::<FrameLoc>()
                    + leaf.extents.len() * size_of::<Extent>()
                    + leaf.spans.len() * size_of::<Option<[u8; 32]>>()
            }
            Self::Interior(node) => node.children.len() * size_of::<Option<NodeRef>>(),
        };
        held + OVERHEAD
    }
}

/// A value that is there, or is being read by whoever holds the lock.
type Slot = Arc<Mutex<Option<Value>>>;

/// What backups were read lately, for any number of readers of any number of vaults.
#[derive(Debug)]
pub struct ReadCache {
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Key, Entry>,
    /// By when it was last asked for.
    order: BTreeMap<u64, Key>,
    clock: u64,
    weight: usize,
}

#[derive(Debug)]
struct Entry {
    slot: Slot,
    used: u64,
    /// Zero while it is being read.
    weight: usize,
}

impl ReadCache {
    /// A cache that keeps at most so many bytes, and at least one frame.
    pub fn new(capacity: ByteCount) -> Arc<Self> {
        let most = usize::try_from(capacity.get()).unwrap_or(usize::MAX);
        Arc::new(Self {
            most: most.max(crate::format::MAX_FRAME_CHUNKS * CHUNK_LEN + OVERHEAD),
            inner: Mutex::default(),
        })
    }

    /// What is under a key, read if it is not there.
    pub(super) fn get(
        &self,
        key: Key,
        read: impl FnOnce() -> Result<Value, Error>,
    ) -> Result<Value, Error> {
        let slot = self.lock().touch(key);
        let mut value = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = &*value {
            return Ok(value.clone());
        }
        match read() {
            Ok(found) => {
                *value = Some(found.clone());
                self.lock().weigh(key, &slot, found.weight(), self.most);
                Ok(found)
            }
            Err(error) => {
                self.lock().forget(key, &slot);
                Err(error)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The slot of a key, now the one that was asked for last.
    fn touch(&mut self, key: Key) -> Slot {
        self.clock += 1;
        let now = self.clock;
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            slot: Slot::default(),
            used: now,
            weight: 0,
        });
        self.order.remove(&entry.used);
        entry.used = now;
        self.order.insert(now, key);
        Arc::clone(&entry.slot)
    }

    /// Notes how much a slot holds now, and lets go of what was not asked for the longest.
    fn weigh(&mut self, key: Key, slot: &Slot, weight: usize, most: usize) {
        match self.entries.get_mut(&key) {
            Some(entry) if Arc::ptr_eq(&entry.slot, slot) => {
                self.weight += weight;
                entry.weight = weight;
            }
            // It was let go while it was being read.
            _ => return,
        }
        while self.weight > most {
            let Some((_, oldest)) = self.order.pop_first() else {
                return;
            };
            if let Some(gone) = self.entries.remove(&oldest) {
                self.weight -= gone.weight;
            }
        }
    }

    fn forget(&mut self, key: Key, slot: &Slot) {
        let same = |entry: &Entry| Arc::ptr_eq(&entry.slot, slot);
        if self.entries.get(&key).is_some_and(same)
            && let Some(gone) = self.entries.remove(&key)
        {
            self.order.remove(&gone.used);
            self.weight -= gone.weight;
        }
    }
}
