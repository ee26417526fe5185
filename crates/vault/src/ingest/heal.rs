//! Not sharing what is known to be damaged.
//!
//! A parent may rest on a pack that failed verification. What it has there counts as changed, so
//! that it is read from the volume and stored anew, and no node that names such a pack, or lies in
//! one, becomes a node of the new backup. Without any mark none of this costs anything.

use std::collections::HashSet;

use super::Ingest;
use super::ranges::{ChunkRanges, Proving};
use crate::Error;
use crate::fetch::{Position, TreeVisitor, first_chunk_of_leaf};
use crate::format::pack::PackId;
use crate::format::tree::{Leaf, NodeRef, chunks_at};

impl Ingest<'_> {
    /// Has everything that the parent keeps in unusable packs count as changed.
    pub(super) fn mend(&mut self, level: u8, root: &NodeRef) -> Result<(), Error> {
        if self.unusable.is_empty() {
            return Ok(());
        }
        let mut damage = Damage {
            chunks: self.chunks,
            unusable: &self.unusable,
            changed: &mut self.changed,
            proving: self.proving.as_mut(),
        };
        self.vault.walk_tree(level, root, &mut damage)?;
        self.total = self.changed.bytes().or(self.total);
        Ok(())
    }

    /// A node of the parent, unless it lies in a pack that cannot be used.
    pub(super) fn shareable(&self, old: Option<NodeRef>) -> Option<NodeRef> {
        old.filter(|old| !self.unusable.contains(&old.pack))
    }
}

struct Damage<'a> {
    /// How many the volume has.
    chunks: u64,
    unusable: &'a HashSet<PackId>,
    changed: &'a mut ChunkRanges,
    proving: Option<&'a mut Proving>,
}

impl Damage<'_> {
    /// These chunks are read from the volume, and differ from nothing that can be relied on.
    fn renew(&mut self, start: u64, end: u64) {
        let end = end.min(self.chunks);
        if start >= end {
            return;
        }
        self.changed.insert(start, end);
        if let Some(proving) = &mut self.proving {
            proving.excuse(start, end);
        }
    }
}

impl TreeVisitor for Damage<'_> {
    fn enter(&mut self, at: &Position) -> Result<bool, Error> {
        if self.unusable.contains(&at.node.pack) {
            // One chunk brings the visit here; it finds out whether the node can be read.
            let first = at.index * chunks_at(at.level);
            self.changed.insert(first, first + 1);
        }
        Ok(true)
    }

    fn leaf(&mut self, at: &Position, leaf: Leaf) -> Result<(), Error> {
        let base = first_chunk_of_leaf(at.index);
        for extent in &leaf.extents {
            let frame = leaf.frames.get(usize::from(extent.frame));
            if frame.is_none_or(|frame| self.unusable.contains(&frame.pack)) {
                let first = base + u64::from(extent.first);
                self.renew(first, first + u64::from(extent.count));
            }
        }
        Ok(())
    }

    fn unreadable(&mut self, at: &Position, error: Error) -> Result<(), Error> {
        if !error.is_of_one_object() {
            return Err(error);
        }
        let first = at.index * chunks_at(at.level);
        self.renew(first, first + chunks_at(at.level));
        Ok(())
    }
}
