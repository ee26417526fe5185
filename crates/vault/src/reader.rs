//! Reading any part of a backup, as if it were a disk.
//!
//! ```text
//!  offset ─> leaf of 64 MiB ─> extent ─> frame ─> proven chunks ─> bytes
//!             │ none: zeros    │ none: zeros
//!             └──────── cache ────────┘
//! ```
//!
//! What was read lately is in a [`ReadCache`], which any number of readers may share: backups share
//! their frames, so reading a second one costs what differs. Memory is bounded by the cache and by
//! one frame for each call that is under way.
//!
//! Every node is proven against its hash and every chunk against its id. What is damaged fails the
//! calls that touch it, and no others. A read of a part does not prove the whole: that is what a
//! restore does.
//!
//! A reader may be open for weeks. Where it finds damage, or that something is gone, it looks whether the
//! backup was renewed since, and goes on with the successor's tree if it was.

mod cache;
mod difference;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stillpoint_model::id::{BackupId, VolumeId};
use stillpoint_model::{ByteCount, ByteRange};

pub use cache::ReadCache;
use cache::{Key, Value};

use crate::buffers::Aligned;
use crate::fetch::FrameReader;
use crate::format::CHUNK_LEN;
use crate::format::manifest::Manifest;
use crate::format::tree::{
    Extent, FrameLoc, Interior, LEAF_CHUNKS, LEAF_LEVEL, Leaf, NodeRef, chunks_at, directory_place,
};
use crate::{Error, Vault};

const CHUNK: u64 = CHUNK_LEN as u64;
const LEAF: u64 = LEAF_CHUNKS as u64 * CHUNK;

/// After it was looked in vain whether a backup was renewed, it is not looked again for so long.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// One backup, open for reading. All calls block; all may be made from several threads.
#[derive(Clone, Debug)]
pub struct BackupReader {
    vault: Vault,
    backup: BackupId,
    /// As it was when it was opened.
    manifest: Arc<Manifest>,
    tree: Arc<Mutex<Tree>>,
    cache: Arc<ReadCache>,
}

/// By which tree it is read now.
#[derive(Debug)]
struct Tree {
    root: Option<NodeRef>,
    /// When it was last looked whether there is another.
    looked: Option<Duration>,
}

impl Vault {
    /// Opens a backup for reading. Deleted ones can be read until they are collected.
    pub fn open_backup(
        &self,
        volume: VolumeId,
        backup: BackupId,
        cache: &Arc<ReadCache>,
    ) -> Result<BackupReader, Error> {
        let manifest = self.current(volume, backup)?;
        let tree = Tree {
            root: manifest.root,
            looked: None,
        };
        Ok(BackupReader {
            vault: self.clone(),
            backup,
            manifest: Arc::new(manifest),
            tree: Arc::new(Mutex::new(tree)),
            cache: Arc::clone(cache),
        })
    }
}

impl BackupReader {
    /// The volume's size.
    pub fn size(&self) -> ByteCount {
        self.manifest.size
    }

    /// Fills `buf` from `offset`; zeros cost no look at the target. `Invalid` beyond the end.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.manifest.size.get()) {
            return Err(Error::Invalid("a read beyond the end of the volume"));
        }
        self.by_its_tree(|root| self.read_by(root, offset, buf))
    }

    fn read_by(&self, root: Option<NodeRef>, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        let (mut at, mut rest) = (offset, buf);
        while !rest.is_empty() {
            let within = at % LEAF;
            let room = usize::try_from(LEAF - within).unwrap_or(usize::MAX);
            let (part, after) = rest.split_at_mut(room.min(rest.len()));
            match self.leaf(root, at / LEAF)? {
                Some(leaf) => self.read_in_leaf(&leaf, within, part)?,
                None => part.fill(0),
            }
            at += part.len() as u64;
            rest = after;
        }
        Ok(())
    }

    /// The next range at or after `offset` that may hold something else than zeros; none when
    /// only zeros follow. Ranges may touch.
    pub fn next_data(&self, offset: u64) -> Result<Option<ByteRange>, Error> {
        self.by_its_tree(|root| self.next_data_by(root, offset))
    }

    fn next_data_by(&self, root: Option<NodeRef>, offset: u64) -> Result<Option<ByteRange>, Error> {
        let Some(root) = root else {
            return Ok(None);
        };
        let mut from = offset;
        while let Some((index, leaf)) =
            self.leaf_from(self.manifest.level(), 0, &root, from / LEAF)?
        {
            let start = index * LEAF;
            from = from.max(start);
            let next = extents_from(&leaf, from - start).next();
            if let Some(extent) = next {
                let (first, end) = span_of(extent);
                let first = from.max(start + first);
                let end = self.manifest.size.get().min(start + end);
                return Ok((first < end).then(|| ByteRange::new(first, end - first)));
            }
            from = start + LEAF;
        }
        Ok(None)
    }

    /// The frame and the slot of the chunk at a place; none for zeros.
    pub(crate) fn place_of(&self, offset: u64) -> Result<Option<(FrameLoc, usize)>, Error> {
        let Some(leaf) = self.leaf(self.root(), offset / LEAF)? else {
            return Ok(None);
        };
        let within = offset % LEAF;
        let extent = extents_from(&leaf, within).next();
        let holds = |extent: &&Extent| span_of(extent).0 <= within;
        let Some(extent) = extent.filter(holds) else {
            return Ok(None);
        };
        let step = (within - span_of(extent).0) / CHUNK;
        let slot = usize::from(extent.slot) + usize::try_from(step).unwrap_or(usize::MAX);
        let frame = leaf.frames.get(usize::from(extent.frame)).copied();
        Ok(frame.map(|frame| (frame, slot)))
    }

    fn lock(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn root(&self) -> Option<NodeRef> {
        self.lock().root
    }

    /// Does something by the tree, and again when that showed damage and there is another tree.
    fn by_its_tree<T>(
        &self,
        mut read: impl FnMut(Option<NodeRef>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let root = self.root();
        match read(root) {
            Err(error) if error.is_damage() && self.is_renewed_since(root) => {
                tracing::info!(backup = %self.backup, %error, "read by a successor from now on");
                read(self.root())
            }
            other => other,
        }
    }

    /// Whether there is another tree than this one, which holds the same.
    fn is_renewed_since(&self, root: Option<NodeRef>) -> bool {
        let mut tree = self.lock();
        if tree.root != root {
            return true;
        }
        let now = self.vault.env.monotonic();
        let is_recent = |looked| now.saturating_sub(looked) < LOOK_AGAIN;
        if tree.looked.is_some_and(is_recent) {
            return false;
        }
        tree.looked = Some(now);
        match self.vault.current(self.manifest.volume_id, self.backup) {
            Ok(now) if now.content_hash == self.manifest.content_hash => tree.root = now.root,
            Ok(_) | Err(_) => {}
        }
        tree.root != root
    }

    fn read_in_leaf(&self, leaf: &Leaf, within: u64, buf: &mut [u8]) -> Result<(), Error> {
        let until = within + buf.len() as u64;
        // What is before is done.
        let mut done = within;
        for extent in extents_from(leaf, within) {
            let (first, end) = span_of(extent);
            if first >= until {
                break;
            }
            let (start, end) = (first.max(within), end.min(until));
            let place = |at: u64| usize::try_from(at - within).unwrap_or(usize::MAX);
            buf[place(done)..place(start)].fill(0);
            let frame = leaf
                .frames
                .get(usize::from(extent.frame))
                .ok_or(Error::Internal("an extent is in no frame"))?;
            let plain = self.frame(frame)?;
            let from = usize::from(extent.slot) * CHUNK_LEN
                + usize::try_from(start - first).unwrap_or(usize::MAX);
            let part = &mut buf[place(start)..place(end)];
            let data = plain
                .get(from..from + part.len())
                .ok_or(Error::Internal("a frame has fewer chunks than a leaf says"))?;
            part.copy_from_slice(data);
            done = end;
        }
        buf[usize::try_from(done - within).unwrap_or(usize::MAX)..].fill(0);
        Ok(())
    }

    /// A leaf by its number; none for zeros.
    fn leaf(&self, root: Option<NodeRef>, index: u64) -> Result<Option<Arc<Leaf>>, Error> {
        let Some(mut at) = root else {
            return Ok(None);
        };
        for level in (LEAF_LEVEL + 1..=self.manifest.level()).rev() {
            let node = self.interior(&at, level, index / leaves_at(level))?;
            let child = index / leaves_at(level - 1) % 64;
            match child_of(&node, child) {
                Some(child) => at = child,
                None => return Ok(None),
            }
        }
        self.leaf_at(&at, index).map(Some)
    }

    /// The first leaf that is not all zeros and has at least the number `from`, under a node.
    fn leaf_from(
        &self,
        level: u8,
        index: u64,
        at: &NodeRef,
        from: u64,
    ) -> Result<Option<(u64, Arc<Leaf>)>, Error> {
        if level == LEAF_LEVEL {
            return match index >= from {
                true => Ok(Some((index, self.leaf_at(at, index)?))),
                false => Ok(None),
            };
        }
        let node = self.interior(at, level, index)?;
        let below = leaves_at(level - 1);
        for child in index * 64..index * 64 + 64 {
            if (child + 1) * below <= from {
                continue;
            }
            if let Some(at) = child_of(&node, child % 64)
                && let Some(found) = self.leaf_from(level - 1, child, &at, from)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn leaf_at(&self, at: &NodeRef, index: u64) -> Result<Arc<Leaf>, Error> {
        let key = Key::of(at.pack, at.spot, directory_place(LEAF_LEVEL, index));
        let read = || Ok(Value::Leaf(Arc::new(self.vault.leaf(at, index)?)));
        match self.cache.get(key, read)? {
            Value::Leaf(leaf) => Ok(leaf),
            _ => Err(MIXED_UP),
        }
    }

    fn interior(&self, at: &NodeRef, level: u8, index: u64) -> Result<Arc<Interior>, Error> {
        let key = Key::of(at.pack, at.spot, directory_place(level, index));
        let read = || {
            let node = self.vault.interior(at, level, index)?;
            Ok(Value::Interior(Arc::new(node)))
        };
        match self.cache.get(key, read)? {
            Value::Interior(node) => Ok(node),
            _ => Err(MIXED_UP),
        }
    }

    /// The chunks of a frame, each proven when it was read.
    fn frame(&self, at: &FrameLoc) -> Result<Arc<Vec<u8>>, Error> {
        let read = || {
            let mut frames = FrameReader::new(&self.vault)?;
            frames.fetch(at, at)?;
            let mut plain = Aligned::default();
            let chunks = frames.open(at, &mut plain)?.to_vec();
            Ok(Value::Frame(Arc::new(chunks)))
        };
        match self.cache.get(Key::of(at.pack, at.spot, 0), read)? {
            Value::Frame(chunks) => Ok(chunks),
            _ => Err(MIXED_UP),
        }
    }
}

const MIXED_UP: Error = Error::Internal("the cache holds something else under a name");

/// How many leaves are under a node of this level.
fn leaves_at(level: u8) -> u64 {
    chunks_at(level - LEAF_LEVEL)
}

fn child_of(node: &Interior, number: u64) -> Option<NodeRef> {
    let number = usize::try_from(number).ok()?;
    node.children.get(number).copied().flatten()
}

/// The extents of a leaf that end after an offset in it.
fn extents_from(leaf: &Leaf, within: u64) -> impl Iterator<Item = &Extent> {
    let after = leaf
        .extents
        .partition_point(|extent| span_of(extent).1 <= within);
    leaf.extents[after..].iter()
}

/// Where in its leaf an extent starts and ends, in bytes.
fn span_of(extent: &Extent) -> (u64, u64) {
    let first = u64::from(extent.first) * CHUNK;
    (first, first + u64::from(extent.count) * CHUNK)
}

#[cfg(test)]
mod tests;
