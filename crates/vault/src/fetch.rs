//! Reading manifests, nodes and frames.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use stillpoint_model::ByteRange;
use stillpoint_model::id::{BackupId, VolumeId};

use crate::buffers::Aligned;
use crate::format::CHUNK_LEN;
use crate::format::hash::ChunkId;
use crate::format::manifest::{MAX_MANIFEST_LEN, Manifest};
use crate::format::names::IdBytes;
use crate::format::object::{Class, ObjectKey};
use crate::format::pack::{FrameOpener, MAX_FRAME_HEAD, PackId, Spot, open_frame_header};
use crate::format::tree::{
    FrameLoc, Interior, LEAF_LEVEL, Leaf, MAX_NODE_LEN, NodeRef, chunks_at, open_interior,
    open_leaf,
};
use crate::format::wire::Malformed;
use crate::vault::damaged;
use crate::{Error, Vault};

impl Vault {
    /// Reads a manifest.
    pub(crate) fn manifest(&self, volume: VolumeId, backup: BackupId) -> Result<Manifest, Error> {
        let name = self.names.manifest(volume, backup);
        let mut body = self.read_object(
            &name,
            Class::Manifest,
            backup.to_bytes(),
            0,
            MAX_MANIFEST_LEN,
        );
        if let Err(Error::Corrupt { .. }) = &body
            && self.read_void(volume, backup).is_ok()
        {
            body = Err(Error::BackupNotFound(backup));
        }
        let body = body.map_err(|error| match error.is_missing() {
            true => Error::BackupNotFound(backup),
            false => error,
        })?;
        let manifest = Manifest::decode(&body).map_err(|what| damaged(&name, what))?;
        if manifest.volume_id != volume {
            return Err(damaged(&name, Malformed::Wrong("it is of another volume")));
        }
        Ok(manifest)
    }

    /// The key of a pack, which its name gives.
    fn pack_key(&self, pack: PackId) -> Result<ObjectKey, Error> {
        self.keys
            .object(&pack.header(self.keys.vault))
            .map_err(|what| damaged(&self.names.pack(pack), what))
    }

    /// Reads and opens a part of a pack; marks the pack when that shows damage.
    fn open_part<T>(
        &self,
        pack: PackId,
        spot: Spot,
        max: usize,
        open: impl FnOnce(&ObjectKey, &mut [u8]) -> Result<T, Malformed>,
    ) -> Result<T, Error> {
        let read = || {
            let (key, mut sealed) = (self.pack_key(pack)?, vec![]);
            self.part(pack, spot, max, &mut sealed)?;
            open(&key, &mut sealed).map_err(|what| damaged(&self.names.pack(pack), what))
        };
        self.watched(pack, read())
    }

    fn part(&self, pack: PackId, spot: Spot, max: usize, into: &mut Vec<u8>) -> Result<(), Error> {
        let name = self.names.pack(pack);
        if spot.len as usize > max {
            return Err(damaged(&name, Malformed::Wrong("a part of it is too long")));
        }
        let range = ByteRange::new(spot.offset.into(), spot.len.into());
        Ok(self.target.get_into(&name, range, into)?)
    }

    pub(crate) fn leaf(&self, at: &NodeRef, index: u64) -> Result<Leaf, Error> {
        self.open_part(at.pack, at.spot, MAX_NODE_LEN, |key, sealed| {
            open_leaf(key, &self.keys.hasher, at, index, sealed)
        })
    }

    pub(crate) fn interior(&self, at: &NodeRef, level: u8, index: u64) -> Result<Interior, Error> {
        self.open_part(at.pack, at.spot, MAX_NODE_LEN, |key, sealed| {
            open_interior(key, &self.keys.hasher, at, level, index, sealed)
        })
    }

    /// The ids of a frame's chunks.
    pub(crate) fn frame_ids(&self, at: &FrameLoc) -> Result<Vec<ChunkId>, Error> {
        let head_len = at
            .spot
            .len
            .min(u32::try_from(MAX_FRAME_HEAD).unwrap_or(u32::MAX));
        let head = Spot {
            len: head_len,
            ..at.spot
        };
        self.open_part(at.pack, head, MAX_FRAME_HEAD, |key, bytes| {
            open_frame_header(key, at.spot, bytes).map(|header| header.ids)
        })
    }

    /// Walks a tree by position: `on_leaf` for each leaf that is not all zeros. `on_node` sees
    /// every node before it is read and says whether to go into it.
    pub(crate) fn walk_tree(
        &self,
        level: u8,
        index: u64,
        at: &NodeRef,
        visit: &mut dyn TreeVisitor,
    ) -> Result<(), Error> {
        if !visit.enter(level, index, at)? {
            return Ok(());
        }
        if level == LEAF_LEVEL {
            return match self.leaf(at, index) {
                Ok(leaf) => visit.leaf(index, at, leaf),
                Err(error) => visit.unreadable(level, index, error),
            };
        }
        let node = match self.interior(at, level, index) {
            Ok(node) => node,
            Err(error) => return visit.unreadable(level, index, error),
        };
        for (child, number) in node.children.iter().zip(0_u64..) {
            if let Some(child) = child {
                self.walk_tree(level - 1, index * 64 + number, child, visit)?;
            }
        }
        Ok(())
    }
}

/// What a walk does with what it meets.
pub(crate) trait TreeVisitor {
    /// A node before it is read: whether to go into it.
    fn enter(&mut self, _level: u8, _index: u64, _at: &NodeRef) -> Result<bool, Error> {
        Ok(true)
    }

    /// A leaf.
    fn leaf(&mut self, index: u64, at: &NodeRef, leaf: Leaf) -> Result<(), Error>;

    /// A node that could not be read: what to do about it.
    fn unreadable(&mut self, _level: u8, _index: u64, error: Error) -> Result<(), Error> {
        Err(error)
    }
}

/// The number of a leaf's first chunk in the volume.
pub(crate) fn first_chunk_of_leaf(index: u64) -> u64 {
    index * chunks_at(LEAF_LEVEL)
}

/// Reads frames one after the other, with room that is used again.
pub(crate) struct FrameReader<'a> {
    vault: &'a Vault,
    opener: FrameOpener,
    /// A part of a pack, and where it starts there.
    sealed: Vec<u8>,
    from: u32,
    key: Option<(PackId, ObjectKey)>,
}

impl<'a> FrameReader<'a> {
    pub(crate) fn new(vault: &'a Vault) -> Result<Self, Error> {
        Ok(Self {
            vault,
            opener: FrameOpener::new()?,
            sealed: vec![],
            from: 0,
            key: None,
        })
    }

    /// Fetches the part of a pack from one frame to another, both included.
    pub(crate) fn fetch(&mut self, first: &FrameLoc, last: &FrameLoc) -> Result<(), Error> {
        let (vault, pack) = (self.vault, first.pack);
        if self.key.as_ref().is_none_or(|(known, _)| *known != pack) {
            self.key = Some((pack, vault.pack_key(pack)?));
        }
        let (start, end) = (u64::from(first.spot.offset), last.spot.end());
        let range = ByteRange::new(start, end.saturating_sub(start));
        self.from = first.spot.offset;
        let got = vault
            .target
            .get_into(&vault.names.pack(pack), range, &mut self.sealed);
        vault.watched(pack, got.map_err(Error::from))
    }

    /// Opens a frame of the part that was fetched; gives its chunks, each proven. Once each.
    pub(crate) fn open<'b>(
        &mut self,
        at: &FrameLoc,
        plain: &'b mut Aligned,
    ) -> Result<&'b [u8], Error> {
        let opened = self.open_unwatched(at, plain);
        let len = self.vault.watched(at.pack, opened)?;
        Ok(plain.room(len))
    }

    fn open_unwatched(&mut self, at: &FrameLoc, plain: &mut Aligned) -> Result<usize, Error> {
        let vault = self.vault;
        let missing = Error::Internal("a frame was opened that was not fetched");
        let Some((_, key)) = self.key.as_ref().filter(|(pack, _)| *pack == at.pack) else {
            return Err(missing);
        };
        let start = at.spot.offset.checked_sub(self.from).map(|at| at as usize);
        let frame = start
            .and_then(|start| self.sealed.get_mut(start..start + at.spot.len as usize))
            .ok_or(missing)?;
        self.opener
            .open(key, &vault.keys.hasher, at.spot, frame, plain)
            .map(|header| header.ids.len() * CHUNK_LEN)
            .map_err(|what| damaged(&vault.names.pack(at.pack), what))
    }
}

/// How many frame headers are kept.
const HEADERS_KEPT: usize = 1024;

/// Headers of frames that were read lately: at most 2 MiB of them.
#[derive(Default)]
pub(crate) struct HeaderCache {
    known: HashMap<(PackId, u32), Arc<Vec<ChunkId>>>,
    order: VecDeque<(PackId, u32)>,
}

impl HeaderCache {
    /// The ids of a frame's chunks.
    pub(crate) fn ids(&mut self, vault: &Vault, at: &FrameLoc) -> Result<Arc<Vec<ChunkId>>, Error> {
        let place = (at.pack, at.spot.offset);
        if let Some(ids) = self.known.get(&place) {
            return Ok(ids.clone());
        }
        let ids = Arc::new(vault.frame_ids(at)?);
        if self.order.len() == HEADERS_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(place);
        self.known.insert(place, ids.clone());
        Ok(ids)
    }
}
