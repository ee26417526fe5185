//! One leaf: reading what changed in 64 MiB, and what became of each chunk.

use std::collections::HashSet;

use super::tree::{PendingExtent, PendingLeaf};
use super::{FrameAt, Ingest};
use crate::Error;
use crate::fetch::first_chunk_of_leaf;
use crate::format::hash::{ChunkId, Hash, is_zero};
use crate::format::pack::PackId;
use crate::format::tree::{LEAF_CHUNKS, Leaf, NodeRef};
use crate::format::{CHUNK_LEN, FANOUT, MAX_FRAME_CHUNKS};

const CHUNK: u64 = CHUNK_LEN as u64;

/// A chunk's place: the number of its frame in the table, and the slot there.
type Place = Option<(u16, u16)>;

/// A leaf being made: the parent's, with changes.
struct Draft {
    frames: Vec<FrameAt>,
    places: Vec<Place>,
    spans: Vec<Option<Hash>>,
    /// Spans of which some chunks are to be stored anew: the parent's cannot be relied on.
    mended: Vec<bool>,
    changed: bool,
}

impl Draft {
    /// As the parent has it, without what is in packs that cannot be used.
    fn new(old: Option<&Leaf>, unusable: &HashSet<PackId>) -> Self {
        let mut draft = Self {
            frames: vec![],
            places: vec![None; LEAF_CHUNKS],
            spans: vec![None; FANOUT],
            mended: vec![false; FANOUT],
            changed: false,
        };
        if let Some(old) = old {
            draft.frames = old.frames.iter().copied().map(FrameAt::Known).collect();
            draft.spans.clone_from(&old.spans);
            for extent in &old.extents {
                for step in 0..extent.count {
                    let chunk = usize::from(extent.first + step);
                    let usable = match old.frames.get(usize::from(extent.frame)) {
                        Some(frame) => !unusable.contains(&frame.pack),
                        None => false,
                    };
                    draft.places[chunk] = usable.then_some((extent.frame, extent.slot + step));
                    draft.mended[chunk / FANOUT] |= !usable;
                }
            }
        }
        draft
    }

    fn put(&mut self, chunk: usize, found: Option<(FrameAt, u16)>) {
        self.changed = true;
        self.places[chunk] = found.map(|(at, slot)| {
            // Neighbours mostly share a frame: it is the last one, or close to it.
            let number = self
                .frames
                .iter()
                .rposition(|known| *known == at)
                .unwrap_or_else(|| {
                    self.frames.push(at);
                    self.frames.len() - 1
                });
            (u16::try_from(number).unwrap_or(u16::MAX), slot)
        });
    }

    /// The leaf as extents, with only the frames that are still used.
    fn finish(self, index: u64, old: Option<NodeRef>) -> PendingLeaf {
        let mut renumbered: Vec<Option<u16>> = vec![None; self.frames.len()];
        let mut frames = vec![];
        let mut extents: Vec<PendingExtent> = vec![];
        for (chunk, place) in (0_u16..).zip(&self.places) {
            let Some((frame, slot)) = *place else {
                continue;
            };
            let number = *renumbered[usize::from(frame)].get_or_insert_with(|| {
                frames.push(self.frames[usize::from(frame)]);
                u16::try_from(frames.len() - 1).unwrap_or(u16::MAX)
            });
            match extents.last_mut() {
                Some(last)
                    if last.frame == number
                        && last.first + last.count == chunk
                        && last.slot + last.count == slot =>
                {
                    last.count += 1;
                }
                _ => extents.push(PendingExtent {
                    first: chunk,
                    count: 1,
                    frame: number,
                    slot,
                }),
            }
        }
        PendingLeaf {
            index,
            old,
            frames,
            extents,
            spans: self.spans,
        }
    }
}

impl Ingest<'_> {
    pub(super) fn visit_leaf(&mut self, index: u64, old: Option<NodeRef>) -> Result<(), Error> {
        let first = first_chunk_of_leaf(index);
        let leaf = match old.map(|old| self.vault.leaf(&old, index)) {
            Some(Ok(leaf)) => Some(leaf),
            Some(Err(error)) => {
                self.distrust(first, first + LEAF_CHUNKS as u64, error)?;
                None
            }
            None => None,
        };
        let mut draft = Draft::new(leaf.as_ref(), &self.unusable);
        let readable = old.filter(|_| leaf.is_some());
        let old = self.shareable(readable);
        // A leaf that can be read, in a pack that cannot be used, is stored again as it is.
        draft.changed |= old != readable;
        drop(leaf);
        for span in 0..FANOUT {
            let start = first + (span * FANOUT) as u64;
            if self.changed.touches(start, start + FANOUT as u64) {
                self.visit_span(&mut draft, span, start)?;
            }
        }
        if draft.changed {
            // What was mended hashes as before, and must not become the parent's node again.
            let old = old.filter(|_| !draft.mended.contains(&true));
            self.tree.leaf(draft.finish(index, old));
        } else {
            self.tree.child(old);
        }
        self.settle()
    }

    /// Looks at the changed chunks of one span, and hashes it anew when one differs.
    fn visit_span(&mut self, draft: &mut Draft, span: usize, start: u64) -> Result<(), Error> {
        let base = span * FANOUT;
        let mut differs = draft.mended[span];
        draft.changed |= differs;
        let mut ids = match self.old_ids(draft, base) {
            Ok(ids) => ids,
            Err(error) => {
                self.distrust(start, start + FANOUT as u64, error)?;
                draft.places[base..base + FANOUT].fill(None);
                draft.spans[span] = None;
                draft.mended[span] = true;
                draft.changed = true;
                differs = true;
                vec![None; FANOUT]
            }
        };
        let mut at = start;
        let end = start + FANOUT as u64;
        while let Some((from, to)) = self.changed.next_within(at, end) {
            at = to;
            let mut done = from;
            // Chunks past the end of the volume are zeros.
            let limit = to.min(self.chunks.max(from));
            while let Some((data_from, data_to)) =
                self.data.next_within(self.source, done, limit)?
            {
                differs |= self.clear(draft, &mut ids, base, (done, data_from), start);
                differs |= self.store(draft, &mut ids, base, (data_from, data_to), start)?;
                done = data_to;
            }
            differs |= self.clear(draft, &mut ids, base, (done, to), start);
            self.advance((to - from) * CHUNK)?;
        }
        if differs {
            let hasher = &self.vault.keys.hasher;
            let zero = hasher.zero(0);
            let all_zero = ids.iter().all(Option::is_none);
            let hash = || hasher.node(1, ids.iter().map(|id| id.unwrap_or(zero)));
            draft.spans[span] = (!all_zero).then(hash);
        }
        Ok(())
    }

    /// The ids of a span's chunks as the parent has them.
    fn old_ids(&mut self, draft: &Draft, base: usize) -> Result<Vec<Option<ChunkId>>, Error> {
        let mut ids = vec![None; FANOUT];
        for (id, place) in ids.iter_mut().zip(&draft.places[base..base + FANOUT]) {
            let Some((frame, slot)) = *place else {
                continue;
            };
            let Some(FrameAt::Known(loc)) = draft.frames.get(usize::from(frame)).copied() else {
                return Err(Error::Internal("a span was visited twice"));
            };
            let header = self.headers.ids(self.vault, &loc)?;
            *id = header.get(usize::from(slot)).copied();
            if id.is_none() {
                let object = self.vault.names.pack(loc.pack);
                return Err(Error::Corrupt {
                    object,
                    what: "a frame has too few chunks",
                });
            }
        }
        Ok(ids)
    }

    /// Chunks that are zeros now.
    fn clear(
        &mut self,
        draft: &mut Draft,
        ids: &mut [Option<ChunkId>],
        base: usize,
        (from, to): (u64, u64),
        start: u64,
    ) -> bool {
        let mut differs = false;
        for chunk in from..to {
            let slot = usize::try_from(chunk - start).unwrap_or(0);
            if ids[slot].take().is_some() {
                draft.put(base + slot, None);
                self.note_difference(chunk);
                differs = true;
            }
        }
        differs
    }

    /// Chunks that have data now: reads them, and stores those that differ and are new.
    fn store(
        &mut self,
        draft: &mut Draft,
        ids: &mut [Option<ChunkId>],
        base: usize,
        (from, to): (u64, u64),
        start: u64,
    ) -> Result<bool, Error> {
        let offset = from * CHUNK;
        let want = (to * CHUNK).min(self.size.get()).saturating_sub(offset);
        let count = usize::try_from(to - from).unwrap_or(0);
        let mut buf = std::mem::take(&mut self.read_buf);
        buf.resize(count * CHUNK_LEN, 0);
        let (part, rest) = buf.split_at_mut(usize::try_from(want).unwrap_or(0));
        rest.fill(0);
        self.source
            .read_at(offset, part)
            .map_err(|source| Error::Source { offset, source })?;
        self.bytes_read += want;
        let mut differs = false;
        for (chunk, data) in (from..to).zip(buf.chunks_exact(CHUNK_LEN)) {
            let slot = usize::try_from(chunk - start).unwrap_or(0);
            let id = (!is_zero(data)).then(|| self.vault.keys.hasher.chunk(data));
            if id == ids[slot] {
                continue;
            }
            ids[slot] = id;
            let place = match &id {
                Some(id) => Some(self.place(id, data)?),
                None => None,
            };
            draft.put(base + slot, place);
            self.note_difference(chunk);
            differs = true;
        }
        self.read_buf = buf;
        Ok(differs)
    }

    /// Where a chunk is: where it was found, or in the frame that is being filled.
    fn place(&mut self, id: &ChunkId, data: &[u8]) -> Result<(FrameAt, u16), Error> {
        if let Some(found) = self.dedup.find(self.vault, &mut self.headers, id)? {
            return Ok(found);
        }
        if self.open_frame.capacity() == 0 {
            self.open_frame = self.feed.buffer();
        }
        let place = self.dedup.add_own(id);
        self.open_frame.extend_from_slice(data);
        if self.open_frame.len() == MAX_FRAME_CHUNKS * CHUNK_LEN {
            self.send_frame()?;
        }
        Ok(place)
    }

    /// Sends the frame that is being filled on its way.
    pub(super) fn send_frame(&mut self) -> Result<(), Error> {
        if self.open_frame.is_empty() {
            return Ok(());
        }
        let (number, ids) = self.dedup.sent();
        self.feed
            .send(number, ids, std::mem::take(&mut self.open_frame))
    }
}
