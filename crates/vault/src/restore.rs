//! Bringing a backup back.
//!
//! ```text
//!  walker                  workers                        caller's thread
//!  leaves, by position ─>  fetch, decrypt,          ─>    write, zeros; then flush, read all
//!                          decompress, prove chunks       of it back, and compare
//! ```
//!
//! Buffers go round: a frame's plain bytes come back to the workers once they are written.
//!
//! Success is said only after the bytes that the sink reads back hash to what the manifest says.
//! Cancelled or failed, the sink holds a part of the volume; nothing in the vault changed.

mod compare;

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use stillpoint_model::id::{BackupId, VolumeId};
use stillpoint_model::progress::Monitor;
use stillpoint_model::{ByteCount, ByteRange};

use crate::buffers::Buffers;
use crate::fetch::{FrameReader, TreeVisitor, first_chunk_of_leaf};
use crate::format::manifest::Manifest;
use crate::format::tree::{FrameLoc, Leaf, NodeRef};
use crate::format::{CHUNK_LEN, ContentHash};
use crate::volume::VolumeWriter;
use crate::{Error, Vault};

const CHUNK: u64 = CHUNK_LEN as u64;

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
struct Job {
    frame: FrameLoc,
    to: Vec<(u64, u16, u16)>,
}

enum Event {
    Data(Vec<(u64, u16, u16)>, Vec<u8>),
    Zeros(ByteRange),
    Failed(Error),
}

impl Vault {
    /// Writes a backup to a sink of at least its size, and compares what was written.
    ///
    /// Progress counts the volume twice: once for writing, once for comparing.
    /// `Mismatch` when what is read back is not what was backed up.
    pub fn restore(
        &self,
        volume: VolumeId,
        backup: BackupId,
        sink: &mut dyn VolumeWriter,
        monitor: &dyn Monitor,
    ) -> Result<RestoreReport, Error> {
        let manifest = self.manifest(volume, backup)?;
        let size = manifest.size.get();
        let written = self.write_out(&manifest, sink, monitor)?;
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
        sink: &mut dyn VolumeWriter,
        monitor: &dyn Monitor,
    ) -> Result<ByteCount, Error> {
        let size = manifest.size.get();
        let workers = self.tuning.workers.clamp(1, 16);
        let plain = Buffers::default();
        std::thread::scope(|scope| {
            let plain = &plain;
            let (jobs, to_fetch) = sync_channel::<Job>(workers);
            let (events, arrived) = sync_channel::<Event>(workers);
            let to_fetch = Arc::new(Mutex::new(to_fetch));
            for _ in 0..workers {
                let (from, to) = (to_fetch.clone(), events.clone());
                scope.spawn(move || self.fetch_all(&from, plain, &to));
            }
            let zeros = !sink.is_fresh();
            scope.spawn(move || {
                let mut planner = Planner {
                    size,
                    next: 0,
                    jobs,
                    zeros,
                    events,
                };
                let walked = match &manifest.root {
                    Some(root) => self.walk_tree(manifest.level(), 0, root, &mut planner),
                    None => Ok(()),
                };
                if let Err(error) = walked.and_then(|()| planner.zeros_until(size)) {
                    drop(planner.events.send(Event::Failed(error)));
                }
            });
            let mut drain = Drain {
                sink,
                plain,
                size,
                written: 0,
                done: 0,
                monitor,
            };
            drain.run(&arrived)?;
            Ok(ByteCount::new(drain.written))
        })
    }

    fn fetch_all(&self, from: &Mutex<Receiver<Job>>, plain: &Buffers, to: &SyncSender<Event>) {
        let mut frames = match FrameReader::new(self) {
            Ok(frames) => frames,
            Err(error) => return drop(to.send(Event::Failed(error))),
        };
        loop {
            let next = from.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = next else { return };
            let mut buffer = plain.take();
            let event = match frames.read(&job.frame, &mut buffer) {
                Ok(()) => Event::Data(job.to, buffer),
                Err(error) => Event::Failed(error),
            };
            if to.send(event).is_err() {
                return;
            }
        }
    }
}

/// Turns leaves into jobs and gaps into zeros.
struct Planner {
    size: u64,
    next: u64,
    jobs: SyncSender<Job>,
    zeros: bool,
    events: SyncSender<Event>,
}

/// The other end is gone, and has the error that made it go.
const GONE: Error = Error::Cancelled;

impl Planner {
    /// Everything from where the last extent ended until `end` is zeros.
    fn zeros_until(&mut self, end: u64) -> Result<(), Error> {
        let (start, end) = (self.next, end.min(self.size));
        self.next = start.max(end);
        if !self.zeros || start >= end {
            return Ok(());
        }
        self.events
            .send(Event::Zeros(ByteRange::new(start, end - start)))
            .map_err(|_| GONE)
    }
}

impl TreeVisitor for Planner {
    fn leaf(&mut self, index: u64, _at: &NodeRef, leaf: Leaf) -> Result<(), Error> {
        let base = first_chunk_of_leaf(index);
        let mut jobs: Vec<Job> = leaf
            .frames
            .iter()
            .map(|frame| Job {
                frame: *frame,
                to: vec![],
            })
            .collect();
        for extent in &leaf.extents {
            let first = base + u64::from(extent.first);
            self.zeros_until(first * CHUNK)?;
            self.next = (first + u64::from(extent.count)) * CHUNK;
            if let Some(job) = jobs.get_mut(usize::from(extent.frame)) {
                job.to.push((first, extent.slot, extent.count));
            }
        }
        for job in jobs.into_iter().filter(|job| !job.to.is_empty()) {
            self.jobs.send(job).map_err(|_| GONE)?;
        }
        Ok(())
    }
}

/// Writes what arrives.
struct Drain<'a> {
    sink: &'a mut dyn VolumeWriter,
    /// Where emptied buffers go.
    plain: &'a Buffers,
    size: u64,
    written: u64,
    done: u64,
    monitor: &'a dyn Monitor,
}

impl Drain<'_> {
    fn run(&mut self, arrived: &Receiver<Event>) -> Result<(), Error> {
        while let Ok(event) = arrived.recv() {
            let done = match event {
                Event::Failed(error) => return Err(error),
                Event::Zeros(range) => {
                    self.sink.write_zeros(range).map_err(|source| Error::Sink {
                        offset: range.offset,
                        source,
                    })?;
                    range.len
                }
                Event::Data(to, plain) => {
                    let before = self.written;
                    for (first, slot, count) in to {
                        self.write(&plain, first, slot, count)?;
                    }
                    self.plain.give(plain);
                    self.written - before
                }
            };
            self.done += done;
            let total = ByteCount::new(2 * self.size);
            self.monitor
                .progress(ByteCount::new(self.done), Some(total));
            if self.monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
        }
        Ok(())
    }

    fn write(&mut self, plain: &[u8], first: u64, slot: u16, count: u16) -> Result<(), Error> {
        let offset = first * CHUNK;
        let start = usize::from(slot) * CHUNK_LEN;
        let len = usize::from(count) * CHUNK_LEN;
        // The last chunk of a volume may reach past its end, with zeros.
        let room = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let data = plain
            .get(start..start + len)
            .ok_or(Error::Internal("a frame has fewer chunks than a leaf says"))?;
        let data = &data[..len.min(room)];
        self.written += data.len() as u64;
        self.sink
            .write_at(offset, data)
            .map_err(|source| Error::Sink { offset, source })
    }
}
