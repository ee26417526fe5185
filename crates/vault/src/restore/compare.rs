//! Hashing what a sink holds now, as a backup's tree is hashed.
//!
//! The caller's thread asks where data is and reads it, span by span; two threads hash. Spans
//! without data cost nothing. The caller compares one value at the end.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use stillpoint_model::progress::Monitor;
use stillpoint_model::{ByteCount, ByteRange};

use crate::format::hash::{Hash, Hasher, is_zero};
use crate::format::manifest::chunks_of;
use crate::format::tree::{LEAF_LEVEL, chunks_at, top_level};
use crate::format::{CHUNK_LEN, ContentHash, FANOUT};
use crate::volume::VolumeWriter;
use crate::{Error, Vault};

const CHUNK: u64 = CHUNK_LEN as u64;
const SPAN: u64 = (FANOUT * CHUNK_LEN) as u64;

/// A span's number in its leaf, and its bytes.
type Span = (usize, Vec<u8>);
/// The same with its hash; the buffer comes back.
type Hashed = (usize, Hash, Vec<u8>);

/// The content hash of the first `size` bytes of a sink. Progress goes from `size` to twice that.
pub(super) fn hash_of(
    vault: &Vault,
    sink: &mut dyn VolumeWriter,
    size: ByteCount,
    monitor: &dyn Monitor,
) -> Result<ContentHash, Error> {
    let hasher = &vault.keys.hasher;
    let workers = vault.tuning.workers.clamp(1, 16);
    let (spans, to_hash) = sync_channel::<Span>(1);
    let (done, hashed) = sync_channel::<Hashed>(workers + 1);
    let to_hash = Mutex::new(to_hash);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (from, to) = (&to_hash, done.clone());
            scope.spawn(move || hash_spans(hasher, from, &to));
        }
        // What this holds goes first, and the threads end with it.
        let mut reading = Reading {
            hasher,
            sink,
            size: size.get(),
            data: None,
            spans,
            hashed,
            in_flight: 0,
            // One being filled, one waiting, one in each worker.
            spare: vec![vec![]; workers + 2],
            monitor,
        };
        let level = top_level(chunks_of(size));
        let top = reading.node(level, 0)?;
        Ok(hasher.content(size.get(), level, top))
    })
}

fn hash_spans(hasher: &Hasher, from: &Mutex<Receiver<Span>>, to: &SyncSender<Hashed>) {
    loop {
        let next = from.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, bytes)) = next else { return };
        let ids = bytes
            .chunks_exact(CHUNK_LEN)
            .map(|chunk| match is_zero(chunk) {
                true => hasher.zero(0),
                false => hasher.chunk(chunk),
            });
        let hash = hasher.node(1, ids);
        if to.send((number, hash, bytes)).is_err() {
            return;
        }
    }
}

/// The caller's thread.
struct Reading<'a> {
    hasher: &'a Hasher,
    sink: &'a mut dyn VolumeWriter,
    size: u64,
    /// The sink's last answer about where data is.
    data: Option<ByteRange>,
    spans: SyncSender<Span>,
    hashed: Receiver<Hashed>,
    in_flight: usize,
    spare: Vec<Vec<u8>>,
    monitor: &'a dyn Monitor,
}

impl Reading<'_> {
    fn node(&mut self, level: u8, index: u64) -> Result<Hash, Error> {
        let len = chunks_at(level) * CHUNK;
        let start = index * len;
        if start >= self.size || !self.has_data(start, len)? {
            return Ok(self.hasher.zero(level));
        }
        if level == LEAF_LEVEL {
            return self.leaf(start);
        }
        let mut children = Vec::with_capacity(FANOUT);
        for child in 0..FANOUT as u64 {
            children.push(self.node(level - 1, index * FANOUT as u64 + child)?);
        }
        Ok(self.hasher.node(level, children.into_iter()))
    }

    fn leaf(&mut self, start: u64) -> Result<Hash, Error> {
        let mut hashes = [self.hasher.zero(1); FANOUT];
        for (number, at) in (start..)
            .step_by(FANOUT * CHUNK_LEN)
            .take(FANOUT)
            .enumerate()
        {
            if at >= self.size || !self.has_data(at, SPAN)? {
                continue;
            }
            let mut buffer = match self.spare.pop() {
                Some(buffer) => buffer,
                None => self.take_hashed(&mut hashes)?,
            };
            self.read(at, &mut buffer)?;
            self.spans.send((number, buffer)).map_err(|_| LOST)?;
            self.in_flight += 1;
        }
        while self.in_flight > 0 {
            let buffer = self.take_hashed(&mut hashes)?;
            self.spare.push(buffer);
        }
        Ok(self.hasher.node(LEAF_LEVEL, hashes.into_iter()))
    }

    /// Waits for a hash; gives the buffer that it was made from.
    fn take_hashed(&mut self, hashes: &mut [Hash; FANOUT]) -> Result<Vec<u8>, Error> {
        let (number, hash, buffer) = self.hashed.recv().map_err(|_| LOST)?;
        hashes[number] = hash;
        self.in_flight -= 1;
        Ok(buffer)
    }

    /// Fills a buffer with a span; past the end of the volume it is zeros.
    fn read(&mut self, start: u64, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let len = SPAN.min(self.size - start);
        buffer.resize(FANOUT * CHUNK_LEN, 0);
        let (part, rest) = buffer.split_at_mut(usize::try_from(len).unwrap_or(0));
        rest.fill(0);
        self.sink
            .read_at(start, part)
            .map_err(|source| Error::Sink {
                offset: start,
                source,
            })?;
        let done = ByteCount::new(self.size + start + len);
        self.monitor
            .progress(done, Some(ByteCount::new(2 * self.size)));
        if self.monitor.is_cancelled() {
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    fn has_data(&mut self, start: u64, len: u64) -> Result<bool, Error> {
        let known = self.data.filter(|range| range.end() > start);
        let range = match known {
            Some(range) => Some(range),
            None => self.sink.next_data(start).map_err(|source| Error::Sink {
                offset: start,
                source,
            })?,
        };
        // None ever follows: remember it as a range that starts at the end of everything.
        let range = range.unwrap_or(ByteRange::new(u64::MAX - 1, 1));
        self.data = Some(range);
        Ok(range.offset < start.saturating_add(len))
    }
}

const LOST: Error = Error::Internal("a hashing thread died");
