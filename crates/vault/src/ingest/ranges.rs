//! What to look at: changed ranges in chunks, and where the source has data.

use stillpoint_model::{ByteCount, ByteRange};

use crate::Error;
use crate::format::CHUNK_LEN;
use crate::format::manifest::chunks_of;
use crate::volume::VolumeReader;

const CHUNK: u64 = CHUNK_LEN as u64;

/// The chunks that may differ from the parent: sorted half-open ranges, or everything.
pub(super) struct ChunkRanges(Option<Vec<(u64, u64)>>);

impl ChunkRanges {
    /// Rounds the changed ranges out to chunks. When the size changed, everything from the end
    /// of the smaller volume on counts as changed.
    pub(super) fn new(
        changed: Option<&[ByteRange]>,
        size: ByteCount,
        old_size: Option<ByteCount>,
    ) -> Self {
        let Some(changed) = changed else {
            return Self(None);
        };
        let limit = chunks_of(size);
        let mut ranges: Vec<(u64, u64)> = changed
            .iter()
            .filter(|range| !range.is_empty())
            .map(|range| (range.offset / CHUNK, range.end().div_ceil(CHUNK).min(limit)))
            .collect();
        if let Some(old) = old_size.filter(|old| *old != size) {
            ranges.push((old.min(size).get() / CHUNK, u64::MAX));
        }
        ranges.retain(|(start, end)| start < end);
        ranges.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        Self(Some(merged))
    }

    /// Has chunks `start..end` count as changed, too.
    pub(super) fn insert(&mut self, start: u64, end: u64) {
        let Some(ranges) = &mut self.0 else { return };
        let first = ranges.partition_point(|&(_, to)| to < start);
        let after = ranges.partition_point(|&(from, _)| from <= end);
        let from = ranges.get(first).map_or(start, |range| range.0.min(start));
        let to = ranges[..after].last().map_or(end, |range| range.1.max(end));
        ranges.splice(first..after.max(first), [(from, to)]);
    }

    /// How much there is to look at; none for everything.
    pub(super) fn bytes(&self) -> Option<ByteCount> {
        let ranges = self.0.as_ref()?;
        let chunks = ranges
            .iter()
            .filter(|(_, end)| *end < u64::MAX)
            .map(|(a, b)| b - a);
        Some(ByteCount::new(chunks.sum::<u64>().saturating_mul(CHUNK)))
    }

    fn first_ending_after(&self, start: u64) -> Option<(u64, u64)> {
        match &self.0 {
            None => Some((0, u64::MAX)),
            Some(ranges) => ranges
                .get(ranges.partition_point(|&(_, end)| end <= start))
                .copied(),
        }
    }

    /// Whether any chunk of `start..end` may differ.
    pub(super) fn touches(&self, start: u64, end: u64) -> bool {
        self.first_ending_after(start)
            .is_some_and(|(from, _)| from < end)
    }

    /// Whether every chunk of `start..end` may differ.
    pub(super) fn covers(&self, start: u64, end: u64) -> bool {
        self.first_ending_after(start)
            .is_some_and(|(from, to)| from <= start && to >= end)
    }

    /// How many chunks of `start..end` may differ.
    pub(super) fn count_within(&self, start: u64, end: u64) -> u64 {
        let (mut at, mut count) = (start, 0);
        while let Some((from, to)) = self.next_within(at, end) {
            count += to - from;
            at = to;
        }
        count
    }

    /// The first changed range within `start..end`.
    pub(super) fn next_within(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        let (from, to) = self.first_ending_after(start)?;
        let (from, to) = (from.max(start), to.min(end));
        (from < to).then_some((from, to))
    }
}

/// How many of the places that change tracking missed are named.
const MISSED_NAMED: usize = 16;

/// What differs from the parent although change tracking did not say so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// Bytes in such chunks.
    pub bytes: ByteCount,
    /// Where the first of them are.
    pub first: Vec<ByteRange>,
}

impl Missed {
    fn add(&mut self, chunk: u64) {
        self.bytes += ByteCount::new(CHUNK);
        let (at, room) = (chunk * CHUNK, self.first.len() < MISSED_NAMED);
        match self.first.last_mut() {
            Some(last) if last.end() == at => last.len += CHUNK,
            _ if room => self.first.push(ByteRange::new(at, CHUNK)),
            _ => {}
        }
    }
}

/// Compares what differs with what change tracking said.
pub(super) struct Proving {
    claimed: ChunkRanges,
    missed: Missed,
}

impl Proving {
    pub(super) fn new(claimed: ChunkRanges) -> Self {
        Self {
            claimed,
            missed: Missed::default(),
        }
    }

    /// Of these chunks the parent cannot be read: that they differ says nothing.
    pub(super) fn excuse(&mut self, start: u64, end: u64) {
        self.claimed.insert(start, end);
    }

    /// Whether a difference anywhere in these chunks was to be expected.
    pub(super) fn expects(&self, start: u64, end: u64) -> bool {
        self.claimed.covers(start, end)
    }

    /// A chunk differs.
    pub(super) fn differs(&mut self, chunk: u64) {
        if !self.claimed.touches(chunk, chunk + 1) {
            self.missed.add(chunk);
        }
    }

    pub(super) fn finish(self) -> Missed {
        self.missed
    }
}

/// Remembers the source's last answer, so that it is asked once per range of data.
#[derive(Default)]
pub(super) struct DataCursor {
    /// The chunks that may hold data, from where it was asked on.
    last: Option<(u64, u64)>,
    asked_from: u64,
    ended: bool,
}

impl DataCursor {
    /// Whether chunks `start..end` may hold something else than zeros. Asked in rising order.
    pub(super) fn any(
        &mut self,
        source: &dyn VolumeReader,
        start: u64,
        end: u64,
    ) -> Result<bool, Error> {
        Ok(self.next_within(source, start, end)?.is_some())
    }

    /// The first range within `start..end` that may hold data.
    pub(super) fn next_within(
        &mut self,
        source: &dyn VolumeReader,
        start: u64,
        end: u64,
    ) -> Result<Option<(u64, u64)>, Error> {
        let usable =
            start >= self.asked_from && (self.ended || self.last.is_some_and(|(_, to)| to > start));
        if !usable {
            let offset = start * CHUNK;
            let answer = source
                .next_data(offset)
                .map_err(|source| Error::Source { offset, source })?;
            self.asked_from = start;
            self.ended = answer.is_none();
            // A source that answers with a range before the question has nothing to skip.
            self.last = answer.map(|range| {
                let from = range.offset / CHUNK;
                (from, range.end().div_ceil(CHUNK).max(start + 1))
            });
        }
        let Some((from, to)) = self.last else {
            return Ok(None);
        };
        let (from, to) = (from.max(start), to.min(end));
        Ok((from < to).then_some((from, to)))
    }
}
