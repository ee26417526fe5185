//! The threads behind the reading: compress, compare and pack; upload.
//!
//! Buffers go round. At most `workers` + 2 frames and `uploads` + 1 packs are there at a time.
//! Packs reach the target in any order: whoever waits for one waits for its confirmation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvError, SyncSender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::Scope;
use std::time::Duration;

use stillpoint_model::Env;
use stillpoint_model::id::RunId;

use super::Numbered;
use crate::buffers::Buffers;
use crate::format::hash::ChunkId;
use crate::format::pack::{Codec, FIRST_TREE_SEQ, MAX_FRAME_LEN, PackBuilder, PackId};
use crate::format::sums::Sum;
use crate::format::{CHUNK_LEN, MAX_FRAME_CHUNKS};
use crate::vault::damaged;
use crate::{Error, Vault};

/// What a pack may be longer than it should: its last frame and its directory.
const PACK_SLACK: usize = MAX_FRAME_LEN + (64 << 10);

/// Chunks to compress together.
struct Frame {
    number: u64,
    ids: Arc<Vec<ChunkId>>,
    plain: Vec<u8>,
}

struct FullPack {
    pack: PackId,
    bytes: Vec<u8>,
    frames: Vec<Numbered>,
}

/// A pack is durably in the target.
pub(super) struct PackConfirmed {
    pub pack: PackId,
    pub len: u32,
    /// What it hashes to.
    pub sum: Sum,
    pub frames: Vec<Numbered>,
}

type Outcome<T> = Result<T, Error>;

/// The caller's end of the pipeline. Dropping it ends the threads.
pub(super) struct Feed<'a> {
    frames: Option<SyncSender<Frame>>,
    confirmed: Receiver<Outcome<PackConfirmed>>,
    failed: Option<Error>,
    /// Buffers of frames, which come back from the workers.
    plain: Arc<Buffers>,
    stalls: Arc<Stalls<'a>>,
}

/// How long the pipeline stood still because the target was not ready for the next pack.
pub(super) struct Stalls<'a> {
    env: &'a dyn Env,
    micros: AtomicU64,
}

impl Stalls<'_> {
    /// Does something that ends when the target is ready.
    fn waiting<T>(&self, wait: impl FnOnce() -> T) -> T {
        let start = self.env.monotonic();
        let result = wait();
        let waited = self.env.monotonic().saturating_sub(start);
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        result
    }
}

/// Starts the threads of one run.
pub(super) fn start<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    vault: &'env Vault,
    run_id: RunId,
) -> Feed<'env> {
    let workers = vault.tuning.workers();
    let (frames, to_compress) = sync_channel::<Frame>(1);
    let (full, to_upload) = sync_channel::<Outcome<FullPack>>(0);
    let (events, confirmed) = channel();
    let to_compress = Arc::new(Mutex::new(to_compress));
    let (plain, packs) = (Arc::new(Buffers::default()), Arc::new(Buffers::default()));
    let to_upload = Arc::new(Mutex::new(to_upload));
    let stalls = Arc::new(Stalls {
        env: &*vault.env,
        micros: AtomicU64::new(0),
    });
    let packer = Packer {
        vault,
        run_id,
        workers,
        next: 0,
        seq: 0,
        open: None,
        buffers: packs.clone(),
        to: Some(full),
        stalls: stalls.clone(),
    };
    let line = Arc::new(Line {
        packer: Mutex::new(packer),
        turned: Condvar::new(),
    });
    for _ in 0..workers {
        let (from, line, plain) = (to_compress.clone(), line.clone(), plain.clone());
        scope.spawn(move || compress_all(&from, &line, &plain, vault.tuning.zstd_level));
    }
    for _ in 0..vault.tuning.uploads.clamp(1, 16) {
        let (from, packs, events) = (to_upload.clone(), packs.clone(), events.clone());
        scope.spawn(move || upload_all(vault, &from, &packs, &events));
    }
    Feed {
        frames: Some(frames),
        confirmed,
        failed: None,
        plain,
        stalls,
    }
}

impl Feed<'_> {
    /// An empty buffer for a frame.
    pub(super) fn buffer(&self) -> Vec<u8> {
        let mut buffer = self.plain.take();
        buffer.clear();
        buffer.reserve_exact(MAX_FRAME_CHUNKS * CHUNK_LEN);
        buffer
    }

    /// Sends a frame on its way; waits while the pipeline is full.
    pub(super) fn send(
        &mut self,
        number: u64,
        ids: Arc<Vec<ChunkId>>,
        plain: Vec<u8>,
    ) -> Result<(), Error> {
        let sent = match &self.frames {
            Some(frames) => frames.send(Frame { number, ids, plain }).is_ok(),
            None => false,
        };
        if sent {
            Ok(())
        } else {
            Err(Error::Internal("the pipeline ended early"))
        }
    }

    /// Nothing more comes.
    pub(super) fn close(&mut self) {
        self.frames = None;
    }

    /// A pack that was confirmed meanwhile.
    pub(super) fn try_confirmed(&mut self) -> Result<Option<PackConfirmed>, Error> {
        match self.confirmed.try_recv() {
            Ok(outcome) => outcome.map(Some),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => Ok(None),
        }
    }

    /// The next confirmed pack; none when all are.
    pub(super) fn wait_confirmed(&mut self) -> Result<Option<PackConfirmed>, Error> {
        match self.stalls.waiting(|| self.confirmed.recv()) {
            Ok(outcome) => outcome.map(Some),
            Err(RecvError) => Ok(None),
        }
    }

    /// How long the target was waited for.
    pub(super) fn waited(&self) -> Duration {
        Duration::from_micros(self.stalls.micros.load(Ordering::Relaxed))
    }

    /// Ends the pipeline and gives the error that ended it, if one did.
    pub(super) fn failure(&mut self) -> Option<Error> {
        self.frames = None;
        while let Ok(outcome) = self.confirmed.recv() {
            if let Err(error) = outcome {
                self.failed.get_or_insert(error);
            }
        }
        self.failed.take()
    }
}

fn compress_all(from: &Mutex<Receiver<Frame>>, line: &Line<'_>, plain: &Buffers, level: i32) {
    let _leaving = Leaving(line);
    let mut press = match Press::new(level) {
        Ok(press) => press,
        Err(_) => return line.fail(Error::Compressor),
    };
    loop {
        let next = from.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(frame) = next else { return };
        let pressed = press.compress(&frame.plain);
        if line.take_turn(&frame, pressed).is_err() {
            return;
        }
        plain.give(frame.plain);
    }
}

/// A compressor with the room that it works in.
struct Press {
    compressor: zstd::bulk::Compressor<'static>,
    decompressor: zstd::bulk::Decompressor<'static>,
    body: Vec<u8>,
    again: Vec<u8>,
}

impl Press {
    fn new(level: i32) -> std::io::Result<Self> {
        let plain_len = MAX_FRAME_CHUNKS * CHUNK_LEN;
        Ok(Self {
            compressor: zstd::bulk::Compressor::new(level)?,
            decompressor: zstd::bulk::Decompressor::new()?,
            // What is longer than its input is not wanted, and need not fit.
            body: Vec::with_capacity(plain_len),
            again: Vec::with_capacity(plain_len),
        })
    }

    /// Compresses chunks and proves that they decompress to what they were. What does not shrink
    /// by one part in 32 is kept as it is: reading it back costs less.
    fn compress<'a>(&'a mut self, plain: &'a [u8]) -> Outcome<(Codec, &'a [u8])> {
        self.body.clear();
        let fits = self
            .compressor
            .compress_to_buffer(plain, &mut self.body)
            .is_ok();
        if !fits || self.body.len() > plain.len() - plain.len() / 32 {
            return Ok((Codec::Raw, plain));
        }
        self.again.clear();
        let decoded = self
            .decompressor
            .decompress_to_buffer(&self.body, &mut self.again);
        if decoded.is_err() || self.again != plain {
            return Err(Error::Compressor);
        }
        Ok((Codec::Zstd, &self.body))
    }
}

/// Where the workers line up, so that frames get into packs in the order of their numbers and
/// neighbours stay neighbours. A worker packs what it compressed when its turn comes; there is no
/// frame in between. The last worker to leave sends the last pack.
struct Line<'a> {
    packer: Mutex<Packer<'a>>,
    turned: Condvar,
}

/// The pipeline ends: somebody has said why.
struct Stopped;

impl<'a> Line<'a> {
    fn lock(&self) -> MutexGuard<'_, Packer<'a>> {
        self.packer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is this frame's turn, and packs it.
    fn take_turn(&self, frame: &Frame, pressed: Outcome<(Codec, &[u8])>) -> Result<(), Stopped> {
        let others_first =
            |packer: &mut Packer<'_>| packer.to.is_some() && packer.next != frame.number;
        let mut packer = self
            .turned
            .wait_while(self.lock(), others_first)
            .unwrap_or_else(PoisonError::into_inner);
        let packed = pressed
            .map_err(Some)
            .and_then(|(codec, body)| packer.push(frame, codec, body));
        packer.next += 1;
        let done = packer.settle(packed);
        drop(packer);
        self.turned.notify_all();
        done
    }

    /// Ends the pipeline with an error.
    fn fail(&self, error: Error) {
        drop(self.lock().settle(Err(Some(error))));
        self.turned.notify_all();
    }

    /// A worker leaves. One that panicked will never take its turn.
    fn leave(&self) {
        let mut packer = self.lock();
        packer.workers -= 1;
        if std::thread::panicking() {
            packer.to = None;
        } else if packer.workers == 0 {
            let flushed = packer.flush();
            drop(packer.settle(flushed));
            packer.to = None;
        }
        drop(packer);
        self.turned.notify_all();
    }
}

struct Leaving<'a, 'b>(&'a Line<'b>);

impl Drop for Leaving<'_, '_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

struct Packer<'a> {
    vault: &'a Vault,
    run_id: RunId,
    /// How many have not left yet.
    workers: usize,
    /// The number of the frame whose turn it is.
    next: u64,
    seq: u32,
    open: Option<(PackId, PackBuilder, Vec<Numbered>)>,
    buffers: Arc<Buffers>,
    /// None when the pipeline ends.
    to: Option<SyncSender<Outcome<FullPack>>>,
    stalls: Arc<Stalls<'a>>,
}

/// None when the other end is gone, which knows why.
type Stop = Option<Error>;

impl Packer<'_> {
    /// Passes an error on, and lets nothing follow it.
    fn settle(&mut self, packed: Result<(), Stop>) -> Result<(), Stopped> {
        if let Err(stop) = packed {
            if let (Some(to), Some(error)) = (self.to.take(), stop) {
                drop(to.send(Err(error)));
            }
            self.to = None;
        }
        if self.to.is_some() {
            Ok(())
        } else {
            Err(Stopped)
        }
    }

    fn push(&mut self, frame: &Frame, codec: Codec, body: &[u8]) -> Result<(), Stop> {
        if self.to.is_none() {
            return Err(None);
        }
        let (pack, mut builder, mut frames) = match self.open.take() {
            Some(open) => open,
            None => self.new_pack()?,
        };
        let spot = builder
            .push(&frame.ids, codec, body)
            .map_err(|what| Some(damaged(&self.vault.names.pack(pack), what)))?;
        frames.push((frame.number, spot));
        let full = builder.len() >= self.vault.tuning.pack_len;
        self.open = Some((pack, builder, frames));
        if full { self.flush() } else { Ok(()) }
    }

    fn new_pack(&mut self) -> Result<(PackId, PackBuilder, Vec<Numbered>), Stop> {
        let pack = PackId {
            run: self.run_id,
            seq: self.seq,
        };
        if pack.seq >= FIRST_TREE_SEQ {
            return Err(Some(Error::Internal("too many packs in one run")));
        }
        self.seq += 1;
        let header = pack.header(self.vault.keys.vault);
        let key = self.vault.keys.object(&header);
        let key = key.map_err(|what| Some(damaged(&self.vault.names.pack(pack), what)))?;
        let mut bytes = self.buffers.take();
        bytes.clear();
        bytes.reserve_exact(self.vault.tuning.pack_len + PACK_SLACK);
        Ok((pack, PackBuilder::new(key, &header, bytes), vec![]))
    }

    fn flush(&mut self) -> Result<(), Stop> {
        let (Some(to), Some((pack, builder, frames))) = (&self.to, self.open.take()) else {
            return Ok(());
        };
        let bytes = builder
            .finish()
            .map_err(|what| Some(damaged(&self.vault.names.pack(pack), what)))?;
        let full = FullPack {
            pack,
            bytes,
            frames,
        };
        let sent = self.stalls.waiting(|| to.send(Ok(full)));
        sent.map_err(|_| None)
    }
}

fn upload_all(
    vault: &Vault,
    from: &Mutex<Receiver<Outcome<FullPack>>>,
    buffers: &Buffers,
    events: &mpsc::Sender<Outcome<PackConfirmed>>,
) {
    loop {
        let next = from.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(pack) = next else { return };
        let outcome = pack.and_then(|full| upload(vault, full, buffers));
        let failed = outcome.is_err();
        if events.send(outcome).is_err() || failed {
            return;
        }
    }
}

fn upload(vault: &Vault, full: FullPack, buffers: &Buffers) -> Outcome<PackConfirmed> {
    let FullPack {
        pack,
        bytes,
        frames,
    } = full;
    let sum = Sum::of(pack.seq, &bytes).map_err(|what| damaged(&vault.names.pack(pack), what))?;
    let (bytes, put) = vault.target.put_buffer(&vault.names.pack(pack), bytes);
    put?;
    buffers.give(bytes);
    Ok(PackConfirmed {
        pack,
        len: sum.len,
        sum,
        frames,
    })
}
