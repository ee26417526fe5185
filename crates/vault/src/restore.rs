//! Bringing a backup back.
//!
//! ```text
//!  caller's thread            workers
//!  leaves, by position;  ─>   fetch frames that lie together, decrypt, decompress,
//!  zeros in between           prove each chunk, write it where it belongs
//!                        then flush, read all of it back, and compare
//! ```
//!
//! Nothing waits for its turn: frames are written in the order in which they arrive. A worker waits
//! for the target or the disk most of its time, so there are more than compress. What one needs
//! (some 4 MiB) it makes once, so memory is bounded by their number.
//!
//! Success is said only after the bytes that the sink reads back hash to what the manifest says.
//! Cancelled or failed, the sink holds a part of the volume; nothing in the vault changed.

mod compare;

use std::sync::atomic::{AtomicU64, Ordering};

use stillpoint_model::id::{BackupId, VolumeId};
use stillpoint_model::progress::Monitor;
use stillpoint_model::{ByteCount, ByteRange};

use crate::buffers::Aligned;
use crate::crew::{Jobs, work_on};
use crate::fetch::{FrameReader, Position, TreeVisitor, first_chunk_of_leaf};
use crate::format::manifest::Manifest;
use crate::format::tree::{Extent, FrameLoc, Leaf};
use crate::format::{CHUNK_LEN, ContentHash};
use crate::volume::VolumeWriter;
use crate::{Error, Vault};

const CHUNK: u64 = CHUNK_LEN as u64;
/// Frames of one pack are fetched together up to this length,
const TOGETHER: u64 = 2 << 20;
/// when no more than this lies between two of them.
const GAP: u64 = 64 << 10;

/// The most workers where frames are mostly waited for: 4 MiB for each.
const MAX_WAITING: usize = 8;

/// What a restore came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoreReport {
    /// The volume's size.
    pub provisioned: ByteCount,
    /// Bytes of data that were written, zeros apart.
    pub written: ByteCount,
    /// The hash over the whole volume, as the backup has it and as it was read back.
    pub content_hash: ContentHash,
}

/// A frame, and where in the volume its chunks go: first chunk, slot, count.
struct Part {
    frame: FrameLoc,
    to: Vec<(u64, u16, u16)>,
}

/// Frames of one pack that lie together, by offset.
type Job = Vec<Part>;

impl Vault {
    /// Writes a backup to a sink of at least its size, and compares what was written.
    ///
    /// Progress counts the volume twice: once for writing, once for comparing.
    /// `Mismatch` when what is read back is not what was backed up.
    pub fn restore(
        &self,
        volume: VolumeId,
        backup: BackupId,
        sink: &dyn VolumeWriter,
        monitor: &dyn Monitor,
    ) -> Result<RestoreReport, Error> {
        let mut manifest = self.current(volume, backup)?;
        loop {
            let error = match self.restore_by(&manifest, backup, sink, monitor) {
                Err(error) if error.is_damage() => error,
                other => return other,
            };
            // A long restore may outlive the tree that it began with.
            match self.current(volume, backup) {
                Ok(now)
                    if now.root != manifest.root && now.content_hash == manifest.content_hash =>
                {
                    tracing::info!(%backup, %error, "restored anew, by a successor");
                    manifest = now;
                }
                _ => return Err(error),
            }
        }
    }

    fn restore_by(
        &self,
        manifest: &Manifest,
        backup: BackupId,
        sink: &dyn VolumeWriter,
        monitor: &dyn Monitor,
    ) -> Result<RestoreReport, Error> {
        let size = manifest.size.get();
        let written = self.write_out(manifest, sink, monitor)?;
        sink.flush()
            .map_err(|source| Error::Sink { offset: 0, source })?;
        if compare::hash_of(self, sink, manifest.size, monitor)? != manifest.content_hash {
            return Err(Error::Mismatch(backup));
        }
        monitor.progress(ByteCount::new(2 * size), Some(ByteCount::new(2 * size)));
        Ok(RestoreReport {
            provisioned: manifest.size,
            written,
            content_hash: manifest.content_hash,
        })
    }

    fn write_out(
        &self,
        manifest: &Manifest,
        sink: &dyn VolumeWriter,
        monitor: &dyn Monitor,
    ) -> Result<ByteCount, Error> {
        let drain = Drain {
            sink,
            size: manifest.size.get(),
            written: AtomicU64::new(0),
            done: AtomicU64::new(0),
            monitor,
        };
        let make = || {
            let (mut frames, mut plain) = (FrameReader::new(self)?, Aligned::default());
            let drain = &drain;
            Ok(move |job: Job| drain.write_all(&mut frames, &mut plain, &job))
        };
        let workers = self.tuning.movers().max(self.width().min(MAX_WAITING));
        work_on(workers, make, |jobs| {
            let mut planner = Planner {
                next: 0,
                jobs,
                drain: &drain,
            };
            if let Some(root) = &manifest.root {
                self.walk_tree(manifest.level(), root, &mut planner)?;
            }
            planner.zeros_until(drain.size)
        })?;
        Ok(ByteCount::new(drain.written.into_inner()))
    }
}

/// Turns leaves into jobs, and gaps into zeros.
struct Planner<'a> {
    next: u64,
    jobs: &'a Jobs<Job>,
    drain: &'a Drain<'a>,
}

impl Planner<'_> {
    /// Everything from where the last extent ended until `end` is zeros.
    fn zeros_until(&mut self, end: u64) -> Result<(), Error> {
        let (start, end) = (self.next, end.min(self.drain.size));
        self.next = start.max(end);
        if start >= end || self.drain.sink.is_fresh() {
            return Ok(());
        }
        self.drain.zeros(ByteRange::new(start, end - start))
    }
}

impl TreeVisitor for Planner<'_> {
    fn leaf(&mut self, at: &Position, leaf: Leaf) -> Result<(), Error> {
        let base = first_chunk_of_leaf(at.index);
        self.drain.reserve(base, &leaf.extents)?;
        let mut parts: Vec<Part> = leaf
            .frames
            .iter()
            .map(|frame| Part {
                frame: *frame,
                to: vec![],
            })
            .collect();
        for extent in &leaf.extents {
            let first = base + u64::from(extent.first);
            self.zeros_until(first * CHUNK)?;
            self.next = (first + u64::from(extent.count)) * CHUNK;
            if let Some(part) = parts.get_mut(usize::from(extent.frame)) {
                part.to.push((first, extent.slot, extent.count));
            }
        }
        parts.retain(|part| !part.to.is_empty());
        parts.sort_by_key(|part| (part.frame.pack, part.frame.spot.offset));
        for job in together(parts) {
            self.jobs.send(job)?;
        }
        Ok(())
    }
}

/// Cuts sorted frames where they do not lie together.
fn together(parts: Vec<Part>) -> Vec<Job> {
    let mut jobs: Vec<Job> = vec![];
    for part in parts {
        match jobs.last_mut() {
            Some(job) if belongs(job, &part) => job.push(part),
            _ => jobs.push(vec![part]),
        }
    }
    jobs
}

fn belongs(job: &[Part], part: &Part) -> bool {
    let (Some(first), Some(last)) = (job.first(), job.last()) else {
        return false;
    };
    let offset = u64::from(part.frame.spot.offset);
    last.frame.pack == part.frame.pack
        && last.frame.pack_len == part.frame.pack_len
        && offset >= last.frame.spot.end()
        && offset - last.frame.spot.end() <= GAP
        && part.frame.spot.end() - u64::from(first.frame.spot.offset) <= TOGETHER
}

/// Where everything goes, from all workers.
struct Drain<'a> {
    sink: &'a dyn VolumeWriter,
    size: u64,
    written: AtomicU64,
    done: AtomicU64,
    monitor: &'a dyn Monitor,
}

impl Drain<'_> {
    /// Makes room for extents, neighbours together: they are in frames that arrive in any order.
    fn reserve(&self, base: u64, extents: &[Extent]) -> Result<(), Error> {
        let touches = |one: &Extent, next: &Extent| one.first + one.count == next.first;
        for run in extents.chunk_by(touches) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                continue;
            };
            let offset = (base + u64::from(first.first)) * CHUNK;
            let end = (base + u64::from(last.first + last.count)) * CHUNK;
            let len = end.min(self.size).saturating_sub(offset);
            self.sink
                .reserve(ByteRange::new(offset, len))
                .map_err(|source| Error::Sink { offset, source })?;
        }
        Ok(())
    }

    fn write_all(
        &self,
        frames: &mut FrameReader<'_>,
        plain: &mut Aligned,
        job: &[Part],
    ) -> Result<(), Error> {
        let (Some(first), Some(last)) = (job.first(), job.last()) else {
            return Ok(());
        };
        frames.fetch(&first.frame, &last.frame)?;
        for part in job {
            let chunks = frames.open(&part.frame, plain)?;
            let mut written = 0;
            for (first, slot, count) in &part.to {
                written += self.write(chunks, *first, *slot, *count)?;
            }
            self.written.fetch_add(written, Ordering::Relaxed);
            self.advance(written)?;
        }
        Ok(())
    }

    fn write(&self, plain: &[u8], first: u64, slot: u16, count: u16) -> Result<u64, Error> {
        let offset = first * CHUNK;
        let start = usize::from(slot) * CHUNK_LEN;
        let len = usize::from(count) * CHUNK_LEN;
        // The last chunk of a volume may reach past its end, with zeros.
        let room = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let data = plain
            .get(start..start + len)
            .ok_or(Error::Internal("a frame has fewer chunks than a leaf says"))?;
        let data = &data[..len.min(room)];
        self.sink
            .write_at(offset, data)
            .map_err(|source| Error::Sink { offset, source })?;
        Ok(data.len() as u64)
    }

    fn zeros(&self, range: ByteRange) -> Result<(), Error> {
        self.sink.write_zeros(range).map_err(|source| Error::Sink {
            offset: range.offset,
            source,
        })?;
        self.advance(range.len)
    }

    fn advance(&self, bytes: u64) -> Result<(), Error> {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let total = ByteCount::new(2 * self.size);
        self.monitor.progress(ByteCount::new(done), Some(total));
        if self.monitor.is_cancelled() {
            return Err(Error::Cancelled);
        }
        Ok(())
    }
}
