//! Reading manifests, nodes and frames.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use stillpoint_model::ByteRange;
use stillpoint_model::id::{BackupId, VolumeId};

use crate::format::hash::ChunkId;
use crate::format::manifest::{MAX_MANIFEST_LEN, Manifest};
use crate::format::names::IdBytes;
use crate::format::object::Class;
use crate::format::pack::{
    MAX_FRAME_HEAD, MAX_FRAME_LEN, PackId, Spot, open_frame, open_frame_header,
};
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

    fn part(&self, pack: PackId, spot: Spot, max: usize) -> Result<Vec<u8>, Error> {
        let name = self.names.pack(pack);
        if spot.len as usize > max {
            return Err(damaged(&name, Malformed::Wrong("a part of it is too long")));
        }
        Ok(self
            .target
            .get(&name, ByteRange::new(spot.offset.into(), spot.len.into()))?)
    }

    pub(crate) fn leaf(&self, at: &NodeRef, index: u64) -> Result<Leaf, Error> {
        let mut sealed = self.part(at.pack, at.spot, MAX_NODE_LEN)?;
        self.keys
            .object(&at.pack.header(self.keys.vault))
            .and_then(|key| open_leaf(&key, &self.keys.hasher, at, index, &mut sealed))
            .map_err(|what| damaged(&self.names.pack(at.pack), what))
    }

    pub(crate) fn interior(&self, at: &NodeRef, level: u8, index: u64) -> Result<Interior, Error> {
        let mut sealed = self.part(at.pack, at.spot, MAX_NODE_LEN)?;
        self.keys
            .object(&at.pack.header(self.keys.vault))
            .and_then(|key| open_interior(&key, &self.keys.hasher, at, level, index, &mut sealed))
            .map_err(|what| damaged(&self.names.pack(at.pack), what))
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
        let bytes = self.part(at.pack, head, MAX_FRAME_HEAD)?;
        self.keys
            .object(&at.pack.header(self.keys.vault))
            .and_then(|key| open_frame_header(&key, at.spot, &bytes))
            .map(|header| header.ids)
            .map_err(|what| damaged(&self.names.pack(at.pack), what))
    }

    /// A frame's chunks, each proven.
    pub(crate) fn frame(&self, at: &FrameLoc) -> Result<Vec<u8>, Error> {
        let mut sealed = self.part(at.pack, at.spot, MAX_FRAME_LEN)?;
        self.keys
            .object(&at.pack.header(self.keys.vault))
            .and_then(|key| open_frame(&key, &self.keys.hasher, at.spot, &mut sealed))
            .map(|(_, plain)| plain)
            .map_err(|what| damaged(&self.names.pack(at.pack), what))
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
                Err(error) => visit.unreadable(at, error),
            };
        }
        let node = match self.interior(at, level, index) {
            Ok(node) => node,
            Err(error) => return visit.unreadable(at, error),
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
    fn unreadable(&mut self, _at: &NodeRef, error: Error) -> Result<(), Error> {
        Err(error)
    }
}

/// The number of a leaf's first chunk in the volume.
pub(crate) fn first_chunk_of_leaf(index: u64) -> u64 {
    index * chunks_at(LEAF_LEVEL)
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
