//! Hashing what a sink holds now, as a backup's tree is hashed.
//!
//! The caller's thread goes through the tree down to the level above the leaves; workers ask where
//! data is in a leaf, read it span by span, and hash it. Spans without data cost nothing. The
//! caller compares one value at the end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use stillpoint_model::progress::Monitor;
use stillpoint_model::{ByteCount, ByteRange};

use crate::buffers::Aligned;
use crate::crew::work_on;
use crate::format::hash::{Hash, is_zero};
use crate::format::manifest::chunks_of;
use crate::format::tree::{LEAF_LEVEL, chunks_at, top_level};
use crate::format::{CHUNK_LEN, ContentHash, FANOUT};
use crate::volume::VolumeWriter;
use crate::{Error, Vault};

const CHUNK: u64 = CHUNK_LEN as u64;
const SPAN_LEN: usize = FANOUT * CHUNK_LEN;
const SPAN: u64 = SPAN_LEN as u64;

/// The content hash of the first `size` bytes of a sink. Progress goes from `size` to twice that.
pub(super) fn hash_of(
    vault: &Vault,
    sink: &dyn VolumeWriter,
    size: ByteCount,
    monitor: &dyn Monitor,
) -> Result<ContentHash, Error> {
    let reading = Reading {
        vault,
        sink,
        size: size.get(),
        done: AtomicU64::new(0),
        monitor,
    };
    let level = top_level(chunks_of(size));
    let top = match level {
        LEAF_LEVEL => reading.leaves(0, 1)?[0],
        _ => reading.node(level, 0, &mut DataCursor::default())?,
    };
    Ok(vault.keys.hasher.content(size.get(), level, top))
}

struct Reading<'a> {
    vault: &'a Vault,
    sink: &'a dyn VolumeWriter,
    size: u64,
    done: AtomicU64,
    monitor: &'a dyn Monitor,
}

impl Reading<'_> {
    /// The hash of a node above the leaves.
    fn node(&self, level: u8, index: u64, data: &mut DataCursor) -> Result<Hash, Error> {
        let hasher = &self.vault.keys.hasher;
        let len = chunks_at(level) * CHUNK;
        let start = index * len;
        if start >= self.size || !data.has(self.sink, start, len)? {
            self.advance(len.min(self.size.saturating_sub(start)))?;
            return Ok(hasher.zero(level));
        }
        let first = index * FANOUT as u64;
        let children = match level - 1 {
            LEAF_LEVEL => self.leaves(first, FANOUT)?,
            below => (first..first + FANOUT as u64)
                .map(|child| self.node(below, child, data))
                .collect::<Result<_, _>>()?,
        };
        Ok(hasher.node(level, children.into_iter()))
    }

    /// The hashes of neighbouring leaves, made by all workers.
    fn leaves(&self, first: u64, count: usize) -> Result<Vec<Hash>, Error> {
        let zero = self.vault.keys.hasher.zero(LEAF_LEVEL);
        let hashes = Mutex::new(vec![zero; count]);
        let make = || {
            let (mut buffer, hashes) = (Aligned::default(), &hashes);
            Ok(move |number: usize| {
                let hash = self.leaf(first + number as u64, &mut buffer)?;
                hashes.lock().unwrap_or_else(PoisonError::into_inner)[number] = hash;
                Ok(())
            })
        };
        work_on(self.vault.tuning.movers(), make, |jobs| {
            (0..count).try_for_each(|number| jobs.send(number))
        })?;
        Ok(hashes.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn leaf(&self, index: u64, buffer: &mut Aligned) -> Result<Hash, Error> {
        let hasher = &self.vault.keys.hasher;
        let mut hashes = [hasher.zero(1); FANOUT];
        let (mut data, start) = (DataCursor::default(), index * FANOUT as u64 * SPAN);
        for (hash, at) in hashes.iter_mut().zip((start..).step_by(SPAN_LEN)) {
            if at >= self.size {
                break;
            }
            if data.has(self.sink, at, SPAN)? {
                *hash = self.span(at, buffer.room(SPAN_LEN))?;
            }
            self.advance(SPAN.min(self.size - at))?;
        }
        Ok(hasher.node(LEAF_LEVEL, hashes.into_iter()))
    }

    /// Reads and hashes a span; past the end of the volume it is zeros.
    fn span(&self, start: u64, room: &mut [u8]) -> Result<Hash, Error> {
        let hasher = &self.vault.keys.hasher;
        let len = SPAN.min(self.size - start);
        let (part, rest) = room.split_at_mut(usize::try_from(len).unwrap_or(0));
        rest.fill(0);
        self.sink
            .read_at(start, part)
            .map_err(|source| Error::Sink {
                offset: start,
                source,
            })?;
        let ids = room
            .chunks_exact(CHUNK_LEN)
            .map(|chunk| match is_zero(chunk) {
                true => hasher.zero(0),
                false => hasher.chunk(chunk),
            });
        Ok(hasher.node(1, ids))
    }

    fn advance(&self, bytes: u64) -> Result<(), Error> {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let done = ByteCount::new(self.size + done.min(self.size));
        let total = ByteCount::new(2 * self.size);
        self.monitor.progress(done, Some(total));
        if self.monitor.is_cancelled() {
            return Err(Error::Cancelled);
        }
        Ok(())
    }
}

/// Remembers the sink's last answer about where data is. Asked in rising order.
#[derive(Default)]
struct DataCursor(Option<ByteRange>);

impl DataCursor {
    fn has(&mut self, sink: &dyn VolumeWriter, start: u64, len: u64) -> Result<bool, Error> {
        let known = self.0.filter(|range| range.end() > start);
        let range = match known {
            Some(range) => Some(range),
            None => sink.next_data(start).map_err(|source| Error::Sink {
                offset: start,
                source,
            })?,
        };
        // None ever follows: remember it as a range that starts at the end of everything.
        let range = range.unwrap_or(ByteRange::new(u64::MAX - 1, 1));
        self.0 = Some(range);
        Ok(range.offset < start.saturating_add(len))
    }
}
