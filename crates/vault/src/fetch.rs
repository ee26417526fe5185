//! Reading manifests, nodes and frames.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use stillpoint_model::id::{BackupId, VolumeId};
use stillpoint_model::{ByteRange, ErrorKind};

use crate::buffers::Aligned;
use crate::crew::side_by_side;
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

    /// The length of a pack; none without it.
    pub(crate) fn pack_len(&self, pack: PackId) -> Result<Option<u64>, Error> {
        match self.target.head(&self.names.pack(pack)) {
            Ok(len) => Ok(Some(len.get())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
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

    /// A node, whichever it is.
    pub(crate) fn node(&self, at: &Position) -> Result<Node, Error> {
        match at.level {
            LEAF_LEVEL => self.leaf(&at.node, at.index).map(Node::Leaf),
            level => {
                let node = self.interior(&at.node, level, at.index);
                node.map(Node::Interior)
            }
        }
    }

    /// Walks one tree: see [`Vault::walk_trees`].
    pub(crate) fn walk_tree(
        &self,
        level: u8,
        root: &NodeRef,
        visit: &mut dyn TreeVisitor,
    ) -> Result<(), Error> {
        self.walk_trees([Position::root(level, *root)], visit)
    }

    /// Walks trees by position, one after the other. The visitor hears of every node before it is
    /// read and says whether to go into it, and then of what was read in it.
    ///
    /// As many nodes as the target answers at once are read ahead, of the same level or of the next
    /// tree: what one level has is known only when the one above it was read.
    pub(crate) fn walk_trees(
        &self,
        roots: impl IntoIterator<Item = Position>,
        visit: &mut dyn TreeVisitor,
    ) -> Result<(), Error> {
        let mut ahead: VecDeque<Step> = roots.into_iter().map(Step::Enter).collect();
        loop {
            while let Some(Step::Visit(..)) = ahead.front() {
                if let Some(Step::Visit(at, leaf)) = ahead.pop_front() {
                    match leaf {
                        Ok(leaf) => visit.leaf(&at, leaf)?,
                        Err(error) => visit.unreadable(&at, error)?,
                    }
                }
            }
            if ahead.is_empty() {
                return Ok(());
            }
            let next = self.read_next(&mut ahead, visit)?;
            next.into_iter()
                .rev()
                .for_each(|step| ahead.push_front(step));
        }
    }

    /// Reads the first nodes that are entered; gives the steps that take their place.
    fn read_next(
        &self,
        ahead: &mut VecDeque<Step>,
        visit: &mut dyn TreeVisitor,
    ) -> Result<Vec<Step>, Error> {
        let width = self.width();
        // What was read before stays where it is between the others.
        let (mut batch, mut taken) = (vec![], vec![]);
        while batch.len() < width {
            match ahead.pop_front() {
                Some(Step::Enter(at)) if visit.enter(&at)? => {
                    batch.push(at);
                    taken.push(None);
                }
                Some(Step::Enter(_)) => {}
                Some(read) => taken.push(Some(read)),
                None => break,
            }
        }
        let nodes = side_by_side(width, &batch, |at| self.node(at));
        let mut read = batch.into_iter().zip(nodes);
        let mut steps = vec![];
        for step in taken {
            match step {
                Some(step) => steps.push(step),
                None => match read.next() {
                    Some((at, Ok(Node::Leaf(leaf)))) => steps.push(Step::Visit(at, Ok(leaf))),
                    Some((at, Ok(Node::Interior(node)))) => {
                        visit.interior(&at, &node);
                        steps.extend(at.children(&node).map(Step::Enter));
                    }
                    Some((at, Err(error))) => steps.push(Step::Visit(at, Err(error))),
                    None => {}
                },
            }
        }
        Ok(steps)
    }
}

/// A node and where it is in its tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub level: u8,
    /// Its number in its level.
    pub index: u64,
    pub node: NodeRef,
}

impl Position {
    /// The root of a tree.
    pub(crate) fn root(level: u8, node: NodeRef) -> Self {
        Self {
            level,
            index: 0,
            node,
        }
    }

    /// The place of a node that is stored: whoever shares it has it at the same one.
    pub(crate) fn place(&self) -> (PackId, u32) {
        (self.node.pack, self.node.spot.offset)
    }

    /// The children of a node here that are not all zeros.
    pub(crate) fn children(&self, node: &Interior) -> impl Iterator<Item = Self> {
        let (level, first) = (self.level.saturating_sub(1), self.index * 64);
        let child = move |(node, number): (&Option<NodeRef>, u64)| {
            Some(Self {
                level,
                index: first + number,
                node: (*node)?,
            })
        };
        node.children.iter().zip(0..).filter_map(child)
    }
}

impl Manifest {
    /// Where its tree begins, if it holds anything but zeros.
    pub(crate) fn top(&self) -> Option<Position> {
        self.root.map(|root| Position::root(self.level(), root))
    }
}

/// A node that was read.
#[derive(Debug)]
pub(crate) enum Node {
    Leaf(Leaf),
    Interior(Interior),
}

/// What is to do next in a walk.
enum Step {
    /// Ask the visitor, and read it.
    Enter(Position),
    /// Have the visitor see a leaf, or what cannot be read.
    Visit(Position, Result<Leaf, Error>),
}

/// What a walk does with what it meets.
pub(crate) trait TreeVisitor {
    /// A node before it is read: whether to go into it.
    fn enter(&mut self, _at: &Position) -> Result<bool, Error> {
        Ok(true)
    }

    /// A node above the leaves, before its children.
    fn interior(&mut self, _at: &Position, _node: &Interior) {}

    /// A leaf.
    fn leaf(&mut self, at: &Position, leaf: Leaf) -> Result<(), Error>;

    /// A node that could not be read: what to do about it.
    fn unreadable(&mut self, _at: &Position, error: Error) -> Result<(), Error> {
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

/// How many frame headers are kept by default: at most 2 MiB of them.
const HEADERS_KEPT: usize = 1024;

/// Headers of frames that were read lately.
pub(crate) struct HeaderCache {
    most: usize,
    known: HashMap<(PackId, u32), Arc<Vec<ChunkId>>>,
    order: VecDeque<(PackId, u32)>,
}

impl Default for HeaderCache {
    fn default() -> Self {
        Self::with_room(HEADERS_KEPT)
    }
}

impl HeaderCache {
    /// Keeps so many headers, of at most 2 KiB each.
    pub(crate) fn with_room(most: usize) -> Self {
        Self {
            most,
            known: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// The ids of a frame's chunks.
    pub(crate) fn ids(&mut self, vault: &Vault, at: &FrameLoc) -> Result<Arc<Vec<ChunkId>>, Error> {
        if let Some(ids) = self.known.get(&(at.pack, at.spot.offset)) {
            return Ok(ids.clone());
        }
        let ids = Arc::new(vault.frame_ids(at)?);
        self.keep(at.pack, at.spot, ids.clone());
        Ok(ids)
    }

    /// Whether a frame's header need not be read.
    pub(crate) fn knows(&self, at: &FrameLoc) -> bool {
        self.known.contains_key(&(at.pack, at.spot.offset))
    }

    /// Takes in a header that somebody read and proved.
    pub(crate) fn keep(&mut self, pack: PackId, spot: Spot, ids: Arc<Vec<ChunkId>>) {
        let place = (pack, spot.offset);
        if self.known.insert(place, ids).is_some() {
            return;
        }
        self.order.push_back(place);
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Reads headers that will be asked for, as many at once as the target answers. What cannot
    /// be read now fails whoever asks for it.
    pub(crate) fn fetch(&mut self, vault: &Vault, frames: impl Iterator<Item = FrameLoc>) {
        let width = vault.width();
        if width == 1 {
            return;
        }
        let mut seen = HashSet::new();
        let missing: Vec<FrameLoc> = frames
            .filter(|at| !self.knows(at) && seen.insert((at.pack, at.spot.offset)))
            .take(self.most / 2)
            .collect();
        let read = side_by_side(width, &missing, |at| vault.frame_ids(at));
        for (at, ids) in missing.iter().zip(read) {
            if let Ok(ids) = ids {
                self.keep(at.pack, at.spot, Arc::new(ids));
            }
        }
    }
}
