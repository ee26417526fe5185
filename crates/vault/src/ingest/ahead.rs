//! Nodes of the parent, read before they are visited.
//!
//! A visit goes from one node to the next and compares; where each of them takes its time to come,
//! the next ones of the same level are asked for together with the first.

use std::collections::HashMap;

use super::Ingest;
use crate::Error;
use crate::crew::side_by_side;
use crate::fetch::{Node, Position};
use crate::format::pack::PackId;
use crate::format::tree::{Interior, LEAF_LEVEL, Leaf, NodeRef, chunks_at};

/// What was read and not visited yet, by level and place: at most as many of each level as the
/// target answers at once.
#[derive(Default)]
pub(super) struct Ahead(HashMap<(u8, PackId, u32), Result<Node, Error>>);

impl Ahead {
    fn has(&self, at: &Position) -> bool {
        let (pack, offset) = at.place();
        self.0.contains_key(&(at.level, pack, offset))
    }

    fn take(&mut self, level: u8, at: &NodeRef) -> Option<Result<Node, Error>> {
        self.0.remove(&(level, at.pack, at.spot.offset))
    }
}

impl Ingest<'_> {
    /// Reads the first of some neighbouring nodes, and the next ones that will be visited, unless
    /// the first was read before.
    pub(super) fn read_ahead(&mut self, level: u8, first: u64, nodes: &[Option<NodeRef>]) {
        let width = self.vault.width();
        let next = nodes.iter().zip(first..).filter_map(|(node, index)| {
            let len = chunks_at(level);
            let (start, end) = (index * len, (index + 1) * len);
            let visited = start < self.chunks && self.changed.touches(start, end);
            let node = (*node).filter(|_| visited)?;
            Some(Position { level, index, node })
        });
        let next: Vec<Position> = next.take(width).collect();
        let is_first = |at: &Position| at.index == first && !self.ahead.has(at);
        if next.len() < 2 || !next.first().is_some_and(is_first) {
            return;
        }
        let read = side_by_side(width, &next, |at| self.vault.node(at));
        // What was read and not visited will not be: it turned out to be zeros.
        let ahead = &mut self.ahead.0;
        ahead.retain(|(of, ..), _| *of != level);
        for (at, node) in next.into_iter().zip(read) {
            let (pack, offset) = at.place();
            ahead.insert((level, pack, offset), node);
        }
    }

    pub(super) fn interior_of_parent(
        &mut self,
        at: &NodeRef,
        level: u8,
        index: u64,
    ) -> Result<Interior, Error> {
        match self.ahead.take(level, at) {
            Some(Ok(Node::Interior(node))) => Ok(node),
            Some(Err(error)) => Err(error),
            _ => self.vault.interior(at, level, index),
        }
    }

    pub(super) fn leaf_of_parent(&mut self, at: &NodeRef, index: u64) -> Result<Leaf, Error> {
        match self.ahead.take(LEAF_LEVEL, at) {
            Some(Ok(Node::Leaf(leaf))) => Ok(leaf),
            Some(Err(error)) => Err(error),
            _ => self.vault.leaf(at, index),
        }
    }
}
