//! Walking trees: which bad objects a subtree needs.

use std::collections::BTreeSet;
use std::collections::hash_map::Entry;

use super::{Check, CheckLevel, PackState, Scan, describe};
use crate::Error;
use crate::fetch::{Position, TreeVisitor};
use crate::format::FANOUT;
use crate::format::pack::PackId;
use crate::format::tree::{Interior, LEAF_CHUNKS, Leaf, NodeRef};
use crate::target::ObjectName;

/// What is known of a node that was walked.
#[derive(Default)]
pub(super) struct Judged {
    /// The bad objects that it needs: all of them, once what is below is in here, too.
    bad: BTreeSet<ObjectName>,
    /// Its children whose bad objects are not in here yet.
    below: Vec<(PackId, u32)>,
}

/// Each node is walked once, whoever shares it.
impl TreeVisitor for Check<'_> {
    fn enter(&mut self, at: &Position) -> Result<bool, Error> {
        match self.nodes.entry(at.place()) {
            Entry::Occupied(_) => Ok(false),
            Entry::Vacant(unknown) => {
                unknown.insert(Judged::default());
                Ok(true)
            }
        }
    }

    fn interior(&mut self, at: &Position, node: &Interior) {
        let below = at.children(node).map(|child| child.place());
        self.nodes.entry(at.place()).or_default().below = below.collect();
    }

    fn leaf(&mut self, at: &Position, leaf: Leaf) -> Result<(), Error> {
        let mut bad = BTreeSet::new();
        let judged = self.judge_leaf(&leaf, &at.node, &mut bad);
        self.nodes
            .entry(at.place())
            .or_default()
            .bad
            .append(&mut bad);
        match judged {
            Ok(()) => Ok(()),
            Err(error) => self.unreadable(at, error),
        }
    }

    fn unreadable(&mut self, at: &Position, error: Error) -> Result<(), Error> {
        if !error.is_of_one_object() {
            return Err(error);
        }
        let name = self.vault.names.pack(at.node.pack);
        self.note(name.clone(), describe(&error), None);
        self.nodes.entry(at.place()).or_default().bad.insert(name);
        Ok(())
    }
}

impl Check<'_> {
    /// The bad objects that a subtree needs that was walked.
    pub(super) fn under(&mut self, place: (PackId, u32)) -> BTreeSet<ObjectName> {
        let Some(node) = self.nodes.get_mut(&place) else {
            return BTreeSet::new();
        };
        let below = std::mem::take(&mut node.below);
        let mut bad = node.bad.clone();
        if below.is_empty() {
            return bad;
        }
        for child in below {
            bad.append(&mut self.under(child));
        }
        if let Some(node) = self.nodes.get_mut(&place) {
            node.bad.clone_from(&bad);
        }
        bad
    }

    /// The bad packs that a leaf needs; when there is none, whether its chunks are what it says.
    fn judge_leaf(
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
        self.headers.fetch(self.vault, leaf.frames.iter().copied());
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
