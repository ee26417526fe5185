//! Putting the new tree together, sharing every node that is the parent's.
//!
//! The visit gives steps in the order of positions: open a node, child, child, ..., close it. A
//! leaf may wait for packs to be confirmed; steps behind it wait with it.

use std::collections::VecDeque;

use stillpoint_model::ByteCount;
use stillpoint_model::id::RunId;

use super::FrameAt;
use crate::format::hash::Hash;
use crate::format::object::{HEADER_LEN, ObjectKey};
use crate::format::pack::{FIRST_TREE_SEQ, PackId, Spot, finish_pack};
use crate::format::sums::Sum;
use crate::format::tree::{
    Extent, FrameLoc, Interior, LEAF_LEVEL, Leaf, NodeRef, directory_place, encode_interior,
    encode_leaf, seal_node,
};
use crate::vault::damaged;
use crate::{Error, Vault};

/// A tree pack is full at this length.
const TREE_PACK_LEN: usize = 2 << 20;

/// As [`Extent`].
pub(super) type PendingExtent = Extent;

/// A leaf whose frames may not be stored yet.
pub(super) struct PendingLeaf {
    pub index: u64,
    pub old: Option<NodeRef>,
    pub frames: Vec<FrameAt>,
    pub extents: Vec<PendingExtent>,
    pub spans: Vec<Option<Hash>>,
}

struct OpenNode {
    level: u8,
    index: u64,
    old: Option<(NodeRef, Interior)>,
    children: Vec<Option<NodeRef>>,
}

enum Step {
    Open(OpenNode),
    Child(Option<NodeRef>),
    Leaf(PendingLeaf),
    Close,
}

/// A tree pack being filled.
struct TreePack {
    id: PackId,
    key: ObjectKey,
    bytes: Vec<u8>,
    items: Vec<(Spot, u64)>,
}

pub(super) struct TreeWriter<'a> {
    vault: &'a Vault,
    run_id: RunId,
    steps: VecDeque<Step>,
    stack: Vec<OpenNode>,
    root: Option<NodeRef>,
    pack: Option<TreePack>,
    next_seq: u32,
    stored: ByteCount,
    /// What the packs hash to that were put.
    sums: Vec<Sum>,
}

impl<'a> TreeWriter<'a> {
    pub(super) fn new(vault: &'a Vault, run_id: RunId) -> Self {
        Self {
            vault,
            run_id,
            steps: VecDeque::new(),
            stack: vec![],
            root: None,
            pack: None,
            next_seq: FIRST_TREE_SEQ,
            stored: ByteCount::ZERO,
            sums: vec![],
        }
    }

    /// The following children are of this node, which the parent has as `old`.
    pub(super) fn open(&mut self, level: u8, index: u64, old: Option<NodeRef>, node: Interior) {
        let old = old.map(|at| (at, node));
        self.steps.push_back(Step::Open(OpenNode {
            level,
            index,
            old,
            children: vec![],
        }));
    }

    /// The next child: the parent's, or zeros.
    pub(super) fn child(&mut self, child: Option<NodeRef>) {
        self.steps.push_back(Step::Child(child));
    }

    /// The next child, a changed leaf.
    pub(super) fn leaf(&mut self, leaf: PendingLeaf) {
        self.steps.push_back(Step::Leaf(leaf));
    }

    /// The node has all its children.
    pub(super) fn close(&mut self) {
        self.steps.push_back(Step::Close);
    }

    /// Does the steps that need not wait.
    pub(super) fn advance(
        &mut self,
        own_frame: &dyn Fn(u64) -> Option<FrameLoc>,
    ) -> Result<(), Error> {
        while let Some(step) = self.steps.pop_front() {
            match step {
                Step::Open(node) => self.stack.push(node),
                Step::Child(child) => self.add(child),
                Step::Leaf(leaf) => match resolve(&leaf, own_frame) {
                    Some(frames) => self.close_leaf(leaf, frames)?,
                    None => {
                        self.steps.push_front(Step::Leaf(leaf));
                        return Ok(());
                    }
                },
                Step::Close => self.close_interior()?,
            }
        }
        Ok(())
    }

    fn add(&mut self, child: Option<NodeRef>) {
        match self.stack.last_mut() {
            Some(node) => node.children.push(child),
            None => self.root = child,
        }
    }

    fn close_leaf(&mut self, pending: PendingLeaf, frames: Vec<FrameLoc>) -> Result<(), Error> {
        let PendingLeaf {
            index,
            old,
            extents,
            spans,
            ..
        } = pending;
        let leaf = Leaf {
            frames,
            extents,
            spans,
        };
        if leaf.extents.is_empty() {
            self.add(None);
            return Ok(());
        }
        let hash = leaf.hash(&self.vault.keys.hasher);
        let child = match old {
            Some(old) if old.hash == hash => old,
            _ => {
                let (pack, spot) = self.store(LEAF_LEVEL, index, encode_leaf(&leaf))?;
                NodeRef {
                    hash,
                    chunks: leaf.chunks(),
                    pack,
                    spot,
                }
            }
        };
        self.add(Some(child));
        Ok(())
    }

    fn close_interior(&mut self) -> Result<(), Error> {
        let Some(OpenNode {
            level,
            index,
            old,
            children,
        }) = self.stack.pop()
        else {
            return Err(Error::Internal("a node was closed that was not open"));
        };
        let node = Interior { children };
        let child = match old {
            _ if node.children.iter().all(Option::is_none) => None,
            Some((at, before)) if before == node => Some(at),
            _ => Some(self.store_interior(level, index, &node)?),
        };
        self.add(child);
        Ok(())
    }

    /// Stores an interior node.
    pub(super) fn store_interior(
        &mut self,
        level: u8,
        index: u64,
        node: &Interior,
    ) -> Result<NodeRef, Error> {
        let hash = node.hash(&self.vault.keys.hasher, level);
        let (pack, spot) = self.store(level, index, encode_interior(node))?;
        Ok(NodeRef {
            hash,
            chunks: node.chunks(),
            pack,
            spot,
        })
    }

    fn store(&mut self, level: u8, index: u64, node: Vec<u8>) -> Result<(PackId, Spot), Error> {
        let mut open = match self.pack.take() {
            Some(open) => open,
            None => self.new_pack()?,
        };
        let name = self.vault.names.pack(open.id);
        let offset = open.bytes.len();
        let mut sealed = seal_node(&open.key, offset as u64, level, index, node)
            .map_err(|what| damaged(&name, what))?;
        let number = |len| u32::try_from(len).map_err(|_| Error::Internal("a pack is too long"));
        let spot = Spot {
            offset: number(offset)?,
            len: number(sealed.len())?,
        };
        open.bytes.append(&mut sealed);
        open.items.push((spot, directory_place(level, index)));
        let id = open.id;
        let full = open.bytes.len() >= TREE_PACK_LEN;
        self.pack = Some(open);
        if full {
            self.flush()?;
        }
        Ok((id, spot))
    }

    fn new_pack(&mut self) -> Result<TreePack, Error> {
        let id = PackId {
            run: self.run_id,
            seq: self.next_seq,
        };
        self.next_seq += 1;
        let header = id.header(self.vault.keys.vault);
        let key = self
            .vault
            .keys
            .object(&header)
            .map_err(|what| damaged(&self.vault.names.pack(id), what))?;
        let bytes = header.encode().to_vec();
        debug_assert_eq!(bytes.len(), HEADER_LEN);
        Ok(TreePack {
            id,
            key,
            bytes,
            items: vec![],
        })
    }

    fn flush(&mut self) -> Result<(), Error> {
        let Some(TreePack {
            id,
            key,
            bytes,
            items,
        }) = self.pack.take()
        else {
            return Ok(());
        };
        let name = self.vault.names.pack(id);
        let pack = finish_pack(&key, bytes, &items).map_err(|what| damaged(&name, what))?;
        self.vault.target.put_new(&name, &pack)?;
        self.sums
            .push(Sum::of(id.seq, &pack).map_err(|what| damaged(&name, what))?);
        self.stored += ByteCount::new(pack.len() as u64);
        Ok(())
    }

    /// What the tree packs hash to that were put since this was asked.
    pub(super) fn take_sums(&mut self) -> Vec<Sum> {
        std::mem::take(&mut self.sums)
    }

    /// The last tree pack; gives the root and the bytes of all of them.
    pub(super) fn finish(&mut self) -> Result<(Option<NodeRef>, ByteCount), Error> {
        if !self.steps.is_empty() || !self.stack.is_empty() {
            return Err(Error::Internal("the tree is not complete"));
        }
        self.flush()?;
        Ok((self.root, self.stored))
    }
}

/// The places of all frames of a leaf, once they are known.
fn resolve(
    leaf: &PendingLeaf,
    own_frame: &dyn Fn(u64) -> Option<FrameLoc>,
) -> Option<Vec<FrameLoc>> {
    leaf.frames
        .iter()
        .map(|at| match at {
            FrameAt::Known(loc) => Some(*loc),
            FrameAt::Own(number) => own_frame(*number),
        })
        .collect()
}
