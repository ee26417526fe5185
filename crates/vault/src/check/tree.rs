//! Walking trees: which bad objects a subtree needs.

use std::collections::BTreeSet;

use super::{Check, CheckLevel, PackState, Scan, describe};
use crate::Error;
use crate::format::FANOUT;
use crate::format::tree::{LEAF_CHUNKS, LEAF_LEVEL, Leaf, NodeRef};
use crate::target::ObjectName;

impl Check<'_> {
    /// The bad objects that a subtree needs. Each node is walked once.
    pub(super) fn node(
        &mut self,
        level: u8,
        index: u64,
        at: &NodeRef,
    ) -> Result<BTreeSet<ObjectName>, Error> {
        let place = (at.pack, at.spot.offset);
        if let Some(bad) = self.nodes.get(&place) {
            return Ok(bad.clone());
        }
        let mut bad = BTreeSet::new();
        let read = if level == LEAF_LEVEL {
            self.vault
                .leaf(at, index)
                .and_then(|leaf| self.leaf(&leaf, at, &mut bad))
        } else {
            self.vault.interior(at, level, index).and_then(|node| {
                for (child, number) in node.children.iter().zip(0_u64..) {
                    if let Some(child) = child {
                        bad.append(&mut self.node(level - 1, index * 64 + number, child)?);
                    }
                }
                Ok(())
            })
        };
        if let Err(error) = read {
            if !error.is_of_one_object() {
                return Err(error);
            }
            let name = self.vault.names.pack(at.pack);
            self.note(name.clone(), describe(&error), None);
            bad.insert(name);
        }
        self.nodes.insert(place, bad.clone());
        Ok(bad)
    }

    /// The bad packs that a leaf needs; when there is none, whether its chunks are what it says.
    fn leaf(
        &mut self,
        leaf: &Leaf,
        at: &NodeRef,
        bad: &mut BTreeSet<ObjectName>,
    ) -> Result<(), Error> {
        for frame in &leaf.frames {
            let name = self.vault.names.pack(frame.pack);
            let what = match self.packs.get(&frame.pack) {
                None => "it is missing",
                Some(state) if state.len != u64::from(frame.pack_len) => "it has the wrong length",
                Some(PackState {
                    scan: Scan::Damaged(sound),
                    ..
                }) if !sound.contains(&frame.spot) => "a frame that a backup needs is damaged",
                Some(_) => continue,
            };
            self.note(name.clone(), what, None);
            self.vault.quarantine(frame.pack);
            let still_whole = self
                .packs
                .get(&frame.pack)
                .is_some_and(|state| match &state.scan {
                    Scan::Damaged(sound) => sound.contains(&frame.spot),
                    Scan::Sound | Scan::NotYet => state.len >= frame.spot.end(),
                });
            if !still_whole {
                bad.insert(name);
            }
        }
        if self.level == CheckLevel::Decrypt && bad.is_empty() {
            self.positions(leaf, at)?;
        }
        Ok(())
    }

    /// Proves that the chunks that a leaf names hash to its spans.
    fn positions(&mut self, leaf: &Leaf, at: &NodeRef) -> Result<(), Error> {
        let hasher = &self.vault.keys.hasher;
        let mut ids = vec![None; LEAF_CHUNKS];
        let wrong = || Error::Corrupt {
            object: self.vault.names.pack(at.pack),
            what: "a leaf names other chunks than it hashes",
        };
        for extent in &leaf.extents {
            let frame = leaf
                .frames
                .get(usize::from(extent.frame))
                .ok_or_else(wrong)?;
            let known = self.headers.ids(self.vault, frame)?;
            for step in 0..extent.count {
                let id = known
                    .get(usize::from(extent.slot + step))
                    .ok_or_else(wrong)?;
                ids[usize::from(extent.first + step)] = Some(*id);
            }
        }
        let zero = hasher.zero(0);
        for (span, ids) in leaf.spans.iter().zip(ids.chunks_exact(FANOUT)) {
            let all_zero = ids.iter().all(Option::is_none);
            let hash = (!all_zero).then(|| hasher.node(1, ids.iter().map(|id| id.unwrap_or(zero))));
            if hash != *span {
                return Err(wrong());
            }
        }
        Ok(())
    }
}
