//! One leaf: reading what changed in 64 MiB, and what became of each chunk.

use std::collections::HashSet;

use super::tree::{PendingExtent, PendingLeaf};
use super::{FrameAt, Ingest};
use crate::Error;
use crate::fetch::first_chunk_of_leaf;
use crate::format::hash::{ChunkId, Hash, is_zero};
use crate::format::pack::PackId;
use crate::format::tree::{FrameLoc, LEAF_CHUNKS, Leaf, NodeRef};
use crate::format::{CHUNK_LEN, FANOUT, MAX_FRAME_CHUNKS};

const CHUNK: u64 = CHUNK_LEN as u64;

const SPAN_LEN: usize = FANOUT * CHUNK_LEN;
/// The most spans that are looked at together,
const MAX_TOGETHER: usize = 16;
/// and the most chunks that are read for that: 8 MiB.
const MAX_READ: u64 = 512;

/// What is in the changed chunks of a span now.
struct Look {
    span: usize,
    /// Its first chunk.
    start: u64,
    /// Where in the buffer the chunks are that may have changed; none for the others.
    room: Vec<Option<usize>>,
    /// Their ids; none for zeros.
    ids: Vec<Option<ChunkId>>,
}

impl Look {
    /// Whether all of it was looked at.
    fn is_whole(&self) -> bool {
        self.room.iter().all(Option::is_some)
    }

    /// The chunks that are others than these.
    fn differing<'a>(&'a self, old: &'a [Option<ChunkId>]) -> impl Iterator<Item = &'a ChunkId> {
        let both = self.ids.iter().zip(old).zip(&self.room);
        both.filter_map(|((new, old), room)| new.as_ref().filter(|_| room.is_some() && new != old))
    }
}

/// What the parent has in a span.
struct Old {
    ids: Vec<Option<ChunkId>>,
    /// Whether the span is stored anew even if it is the same.
    differs: bool,
}

/// The slots in a span of chunks of the volume.
fn slots(from: u64, to: u64, start: u64) -> std::ops::Range<usize> {
    let slot = |chunk: u64| usize::try_from(chunk.saturating_sub(start)).unwrap_or(FANOUT);
    slot(from)..slot(to).min(FANOUT)
}

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

    /// The frames of the parent that a span is in, neighbours once.
    fn frames_of(&self, span: usize) -> impl Iterator<Item = FrameLoc> {
        let base = span * FANOUT;
        let mut last = None;
        let places = self.places[base..base + FANOUT].iter().flatten();
        places.filter_map(move |(frame, _)| {
            if last.replace(*frame) == Some(*frame) {
                return None;
            }
            match self.frames.get(usize::from(*frame)) {
                Some(FrameAt::Known(loc)) => Some(*loc),
                _ => None,
            }
        })
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
        let leaf = match old.map(|old| self.leaf_of_parent(&old, index)) {
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
        self.visit_spans(&mut draft, first)?;
        if draft.changed {
            // What was mended hashes as before, and must not become the parent's node again.
            let old = old.filter(|_| !draft.mended.contains(&true));
            self.tree.leaf(draft.finish(index, old));
        } else {
            self.tree.child(old);
        }
        self.settle()
    }

    /// Visits the spans that a changed range touches, as many together as the target answers at
    /// once: what each of them asks it is asked for all of them.
    fn visit_spans(&mut self, draft: &mut Draft, first: u64) -> Result<(), Error> {
        let start = |span: usize| first + (span * FANOUT) as u64;
        let touched = |span: &usize| self.changed.touches(start(*span), start(span + 1));
        let touched: Vec<usize> = (0..FANOUT).filter(touched).collect();
        let whole = |span: &&usize| self.changed.covers(start(**span), start(**span + 1));
        let shown = touched.iter().filter(whole);
        let frames = shown.flat_map(|span| draft.frames_of(*span));
        self.dedup.look_for(self.vault, frames);
        let most = match self.vault.width() {
            1 => 1,
            _ => MAX_TOGETHER,
        };
        let (mut together, mut read) = (vec![], 0);
        for span in touched {
            let chunks = self.changed.count_within(start(span), start(span + 1));
            if together.len() == most || (!together.is_empty() && read + chunks > MAX_READ) {
                self.visit_together(draft, first, &together)?;
                together.clear();
                read = 0;
            }
            together.push(span);
            read += chunks;
        }
        self.visit_together(draft, first, &together)
    }

    fn visit_together(
        &mut self,
        draft: &mut Draft,
        first: u64,
        spans: &[usize],
    ) -> Result<(), Error> {
        let (mut looks, mut used) = (vec![], 0);
        for &span in spans {
            let look = self.look(span, first + (span * FANOUT) as u64, &mut used)?;
            if !self.is_as_before(draft, &look) {
                looks.push(look);
            }
        }
        let frames = looks.iter().flat_map(|look| draft.frames_of(look.span));
        self.headers.fetch(self.vault, frames);
        let mut olds = vec![];
        for look in &mut looks {
            olds.push(self.old(draft, look, &mut used)?);
        }
        let differing = looks.iter().zip(&olds);
        let differing = differing.flat_map(|(look, old)| look.differing(&old.ids));
        self.dedup.fetch(self.vault, &mut self.headers, differing)?;
        for (look, old) in looks.iter().zip(olds) {
            self.renew(draft, look, old)?;
        }
        Ok(())
    }

    /// Reads the changed chunks of a span into the buffer, behind what is used of it.
    fn look(&mut self, span: usize, start: u64, used: &mut usize) -> Result<Look, Error> {
        let mut look = Look {
            span,
            start,
            room: vec![None; FANOUT],
            ids: vec![None; FANOUT],
        };
        let (mut at, end) = (start, start + FANOUT as u64);
        while let Some((from, to)) = self.changed.next_within(at, end) {
            at = to;
            for room in &mut look.room[slots(from, to, start)] {
                *room = Some(*used);
                *used += CHUNK_LEN;
            }
            // Chunks past the end of the volume are zeros.
            let (mut done, limit) = (from, to.min(self.chunks.max(from)));
            while let Some(data) = self.data.next_within(self.source, done, limit)? {
                self.read(&mut look, data)?;
                done = data.1;
            }
            self.advance((limit - from) * CHUNK)?;
        }
        Ok(look)
    }

    /// Reads chunks that have data.
    fn read(&mut self, look: &mut Look, (from, to): (u64, u64)) -> Result<(), Error> {
        let (offset, slots) = (from * CHUNK, slots(from, to, look.start));
        let want = (to * CHUNK).min(self.size.get()).saturating_sub(offset);
        let begin = look.room[slots.start].unwrap_or_default();
        let end = begin + slots.len() * CHUNK_LEN;
        if self.read_buf.len() < end {
            self.read_buf.resize(end.next_multiple_of(SPAN_LEN), 0);
        }
        let room = &mut self.read_buf[begin..end];
        let (part, rest) = room.split_at_mut(usize::try_from(want).unwrap_or(0));
        rest.fill(0);
        self.source
            .read_at(offset, part)
            .map_err(|source| Error::Source { offset, source })?;
        self.bytes_read += want;
        for (id, data) in look.ids[slots].iter_mut().zip(room.chunks_exact(CHUNK_LEN)) {
            *id = (!is_zero(data)).then(|| self.vault.keys.hasher.chunk(data));
        }
        Ok(())
    }

    /// Whether all of a span was read and hashes to what the parent has, in packs that are there.
    /// Then nothing needs to be known of its chunks one by one.
    fn is_as_before(&mut self, draft: &Draft, look: &Look) -> bool {
        if draft.mended[look.span] || !look.is_whole() {
            return false;
        }
        let Some(before) = draft.spans[look.span] else {
            return look.ids.iter().all(Option::is_none);
        };
        if self.span_hash(&look.ids) != Some(before) {
            return false;
        }
        let mut frames = draft.frames_of(look.span);
        frames.all(|frame| self.dedup.is_there(self.vault, &frame))
    }

    /// What the parent has in a span. What cannot be read of it is read from the volume, all of it.
    fn old(&mut self, draft: &mut Draft, look: &mut Look, used: &mut usize) -> Result<Old, Error> {
        let (base, start) = (look.span * FANOUT, look.start);
        let differs = draft.mended[look.span];
        draft.changed |= differs;
        match self.old_ids(draft, base) {
            Ok(ids) => Ok(Old { ids, differs }),
            Err(error) => {
                self.distrust(start, start + FANOUT as u64, error)?;
                draft.places[base..base + FANOUT].fill(None);
                draft.spans[look.span] = None;
                draft.mended[look.span] = true;
                draft.changed = true;
                if !look.is_whole() {
                    *look = self.look(look.span, start, used)?;
                }
                let ids = vec![None; FANOUT];
                Ok(Old { ids, differs: true })
            }
        }
    }

    /// Puts the chunks of a span that differ into the draft, stores those that are new, and hashes
    /// the span anew.
    fn renew(&mut self, draft: &mut Draft, look: &Look, old: Old) -> Result<(), Error> {
        let Old {
            mut ids,
            mut differs,
        } = old;
        let buf = std::mem::take(&mut self.read_buf);
        for (slot, chunk) in (0..FANOUT).zip(look.start..) {
            let id = look.ids[slot];
            let Some(room) = look.room[slot].filter(|_| id != ids[slot]) else {
                continue;
            };
            ids[slot] = id;
            let place = match &id {
                Some(id) => {
                    let data = &buf[room..room + CHUNK_LEN];
                    Some(self.place(id, data)?)
                }
                None => None,
            };
            draft.put(look.span * FANOUT + slot, place);
            self.note_difference(chunk);
            differs = true;
        }
        self.read_buf = buf;
        if differs {
            draft.spans[look.span] = self.span_hash(&ids);
        }
        Ok(())
    }

    /// The hash of a span; none for zeros.
    fn span_hash(&self, ids: &[Option<ChunkId>]) -> Option<Hash> {
        let hasher = &self.vault.keys.hasher;
        let zero = hasher.zero(0);
        let all_zero = ids.iter().all(Option::is_none);
        let hash = || hasher.node(1, ids.iter().map(|id| id.unwrap_or(zero)));
        (!all_zero).then(hash)
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
