//! What differs between two backups, from their trees alone.
//!
//! Subtrees with the same hash are the same and are not looked into, so that the cost follows what
//! differs and not the size. In a leaf that differs, chunks at the same place of the same frame are
//! the same; any other may differ.

use std::sync::Arc;

use stillpoint_model::ByteRange;

use super::{BackupReader, CHUNK, LEAF, child_of};
use crate::Error;
use crate::format::tree::{FrameLoc, LEAF_CHUNKS, LEAF_LEVEL, Leaf, NodeRef};

/// Chunks of a span, the part of a leaf that has a hash of its own.
const SPAN_CHUNKS: usize = 64;

impl BackupReader {
    /// Ranges outside of which this backup and another one of the same vault are the same; sorted,
    /// apart from each other, within this one's size.
    pub fn differs_from(&self, other: &Self) -> Result<Vec<ByteRange>, Error> {
        if self.vault.id() != other.vault.id() {
            return Err(Error::Invalid("the backups are in different vaults"));
        }
        let mut found = Found::default();
        let top = self.manifest.level().max(other.manifest.level());
        let roots = (self.root(), other.root());
        self.compare(other, (top, 0), roots, &mut found)?;
        Ok(found.within(self.manifest.size.get()))
    }

    fn compare(
        &self,
        other: &Self,
        (level, index): (u8, u64),
        (mine, theirs): (Option<NodeRef>, Option<NodeRef>),
        found: &mut Found,
    ) -> Result<(), Error> {
        // Above the top of the smaller tree a node stands for that tree's root.
        let real = self.manifest.level().min(other.manifest.level()) >= level;
        if real && mine.map(|node| node.hash) == theirs.map(|node| node.hash) {
            return Ok(());
        }
        if level == LEAF_LEVEL {
            let leaf =
                |of: &Self, at: Option<NodeRef>| at.map(|at| of.leaf_at(&at, index)).transpose();
            let (mine, theirs) = (leaf(self, mine)?, leaf(other, theirs)?);
            found.leaf(index, mine.as_ref(), theirs.as_ref());
            return Ok(());
        }
        let mine = self.below(level, index, mine)?;
        let theirs = other.below(level, index, theirs)?;
        for (number, pair) in (0..64).zip(mine.into_iter().zip(theirs)) {
            if pair != (None, None) {
                self.compare(other, (level - 1, index * 64 + number), pair, found)?;
            }
        }
        Ok(())
    }

    /// The 64 nodes below one, also where this tree does not reach so high.
    fn below(
        &self,
        level: u8,
        index: u64,
        node: Option<NodeRef>,
    ) -> Result<Vec<Option<NodeRef>>, Error> {
        let mut below = vec![None; 64];
        if level > self.manifest.level() {
            below[0] = node;
        } else if let Some(at) = node {
            let interior = self.interior(&at, level, index)?;
            for (number, place) in (0..).zip(&mut below) {
                *place = child_of(&interior, number);
            }
        }
        Ok(below)
    }
}

/// Differing chunks, in order.
#[derive(Default)]
struct Found {
    ranges: Vec<(u64, u64)>,
}

impl Found {
    fn leaf(&mut self, index: u64, mine: Option<&Arc<Leaf>>, theirs: Option<&Arc<Leaf>>) {
        let span = |leaf: Option<&Arc<Leaf>>, at: usize| {
            leaf.and_then(|leaf| leaf.spans.get(at).copied().flatten())
        };
        let (places, others) = (places(mine), places(theirs));
        let first = index * (LEAF / CHUNK);
        for chunk in 0..LEAF_CHUNKS {
            let at = chunk / SPAN_CHUNKS;
            if span(mine, at) != span(theirs, at) && places[chunk] != others[chunk] {
                self.chunk(first + chunk as u64);
            }
        }
    }

    fn chunk(&mut self, chunk: u64) {
        match self.ranges.last_mut() {
            Some((_, end)) if *end == chunk => *end += 1,
            _ => self.ranges.push((chunk, chunk + 1)),
        }
    }

    fn within(self, size: u64) -> Vec<ByteRange> {
        let bytes = |(start, end): (u64, u64)| {
            let (start, end) = (start * CHUNK, (end * CHUNK).min(size));
            (start < end).then(|| ByteRange::new(start, end - start))
        };
        self.ranges.into_iter().filter_map(bytes).collect()
    }
}

/// Where each chunk of a leaf is; none for zeros.
fn places(leaf: Option<&Arc<Leaf>>) -> Vec<Option<(FrameLoc, u16)>> {
    let mut places = vec![None; LEAF_CHUNKS];
    let Some(leaf) = leaf else {
        return places;
    };
    for extent in &leaf.extents {
        let frame = leaf.frames.get(usize::from(extent.frame)).copied();
        let slots = extent.slot..extent.slot.saturating_add(extent.count);
        let chunks = places.iter_mut().skip(usize::from(extent.first));
        for (place, slot) in chunks.zip(slots) {
            *place = frame.map(|frame| (frame, slot));
        }
    }
    places
}
