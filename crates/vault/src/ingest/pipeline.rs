//! The threads behind the reading: compress and compare, pack, upload.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvError, SyncSender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::Scope;

use stillpoint_model::id::RunId;

use super::Numbered;
use crate::format::hash::ChunkId;
use crate::format::pack::{Codec, FIRST_TREE_SEQ, PackBuilder, PackId};
use crate::format::{CHUNK_LEN, MAX_FRAME_CHUNKS};
use crate::vault::damaged;
use crate::{Error, Vault};

/// Chunks to compress together.
struct Frame {
    number: u64,
    ids: Arc<Vec<ChunkId>>,
    plain: Vec<u8>,
}

struct Compressed {
    number: u64,
    ids: Arc<Vec<ChunkId>>,
    codec: Codec,
    body: Vec<u8>,
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
    pub frames: Vec<Numbered>,
}

type Outcome<T> = Result<T, Error>;

/// The caller's end of the pipeline. Dropping it ends the threads.
pub(super) struct Feed {
    frames: Option<SyncSender<Frame>>,
    confirmed: Receiver<Outcome<PackConfirmed>>,
    failed: Option<Error>,
}

/// Starts the threads of one run.
pub(super) fn start<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    vault: &'env Vault,
    run_id: RunId,
) -> Feed {
    let workers = vault.tuning.workers.clamp(1, 16);
    let (frames, to_compress) = sync_channel::<Frame>(workers);
    let (compressed, to_pack) = sync_channel::<Outcome<Compressed>>(workers);
    let (full, to_upload) = sync_channel::<Outcome<FullPack>>(0);
    let (events, confirmed) = channel();
    let to_compress = Arc::new(Mutex::new(to_compress));
    for _ in 0..workers {
        let (from, to) = (to_compress.clone(), compressed.clone());
        scope.spawn(move || compress_all(&from, &to, vault.tuning.zstd_level));
    }
    scope.spawn(move || {
        let mut packer = Packer {
            vault,
            run_id,
            seq: 0,
            open: None,
            to: full,
        };
        if let Err(Some(error)) = packer.pack_all(&to_pack) {
            drop(packer.to.send(Err(error)));
        }
    });
    scope.spawn(move || upload_all(vault, &to_upload, &events));
    Feed {
        frames: Some(frames),
        confirmed,
        failed: None,
    }
}

impl Feed {
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
        match self.confirmed.recv() {
            Ok(outcome) => outcome.map(Some),
            Err(RecvError) => Ok(None),
        }
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

fn compress_all(from: &Mutex<Receiver<Frame>>, to: &SyncSender<Outcome<Compressed>>, level: i32) {
    let mut press = match Press::new(level) {
        Ok(press) => press,
        Err(_) => return drop(to.send(Err(Error::Compressor))),
    };
    loop {
        let next = from.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(frame) = next else { return };
        if to.send(press.compress(frame)).is_err() {
            return;
        }
    }
}

/// A compressor with the room that it works in, so that only what it made is handed on.
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

    /// Compresses a frame and proves that it decompresses to what it was. What does not shrink by
    /// one part in 32 is kept as it is: reading it back costs less.
    fn compress(&mut self, frame: Frame) -> Outcome<Compressed> {
        let Frame { number, ids, plain } = frame;
        self.body.clear();
        let fits = self
            .compressor
            .compress_to_buffer(&plain, &mut self.body)
            .is_ok();
        if !fits || self.body.len() > plain.len() - plain.len() / 32 {
            return Ok(Compressed {
                number,
                ids,
                codec: Codec::Raw,
                body: plain,
            });
        }
        self.again.clear();
        let decoded = self
            .decompressor
            .decompress_to_buffer(&self.body, &mut self.again);
        if decoded.is_err() || self.again != plain {
            return Err(Error::Compressor);
        }
        Ok(Compressed {
            number,
            ids,
            codec: Codec::Zstd,
            body: self.body.to_vec(),
        })
    }
}

struct Packer<'a> {
    vault: &'a Vault,
    run_id: RunId,
    seq: u32,
    open: Option<(PackId, PackBuilder, Vec<Numbered>)>,
    to: SyncSender<Outcome<FullPack>>,
}

/// None when the other end is gone, which knows why.
type Stop = Option<Error>;

impl Packer<'_> {
    /// Packs frames in the order of their numbers, so that neighbours stay neighbours.
    fn pack_all(&mut self, from: &Receiver<Outcome<Compressed>>) -> Result<(), Stop> {
        let mut early = BTreeMap::new();
        let mut next = 0;
        while let Ok(frame) = from.recv() {
            let frame = frame.map_err(Some)?;
            early.insert(frame.number, frame);
            while let Some(frame) = early.remove(&next) {
                next += 1;
                self.push(frame)?;
            }
        }
        self.flush()
    }

    fn push(&mut self, frame: Compressed) -> Result<(), Stop> {
        let at = |pack| self.vault.names.pack(pack);
        let (pack, mut builder, mut frames) = match self.open.take() {
            Some(open) => open,
            None => {
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
                let key = key.map_err(|what| Some(damaged(&at(pack), what)))?;
                let capacity = self.vault.tuning.pack_len + (2 << 20);
                (pack, PackBuilder::new(key, &header, capacity), vec![])
            }
        };
        let spot = builder
            .push(&frame.ids, frame.codec, frame.body)
            .map_err(|what| Some(damaged(&at(pack), what)))?;
        frames.push((frame.number, spot));
        let full = builder.len() >= self.vault.tuning.pack_len;
        self.open = Some((pack, builder, frames));
        if full { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Stop> {
        let Some((pack, builder, frames)) = self.open.take() else {
            return Ok(());
        };
        let bytes = builder
            .finish()
            .map_err(|what| Some(damaged(&self.vault.names.pack(pack), what)))?;
        self.to
            .send(Ok(FullPack {
                pack,
                bytes,
                frames,
            }))
            .map_err(|_| None)
    }
}

fn upload_all(
    vault: &Vault,
    from: &Receiver<Outcome<FullPack>>,
    events: &mpsc::Sender<Outcome<PackConfirmed>>,
) {
    while let Ok(pack) = from.recv() {
        let outcome = pack.and_then(
            |FullPack {
                 pack,
                 bytes,
                 frames,
             }| {
                vault.target.put_new(&vault.names.pack(pack), &bytes)?;
                let len = u32::try_from(bytes.len())
                    .map_err(|_| Error::Internal("a pack is too long"))?;
                Ok(PackConfirmed { pack, len, frames })
            },
        );
        let failed = outcome.is_err();
        if events.send(outcome).is_err() || failed {
            return;
        }
    }
}
