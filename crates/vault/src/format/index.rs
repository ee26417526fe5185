//! Index objects: which frame may hold a chunk.
//!
//! An index is a cache. It holds the first 8 bytes of each chunk's id, which is enough to find a
//! candidate; the frame's header has the whole id and decides.

use stillpoint_model::id::{BackupId, VolumeId};

use super::MAX_FRAME_CHUNKS;
use super::hash::ChunkId;
use super::names::IdBytes;
use super::pack::Spot;
use super::wire::{Malformed, Reader, Writer};

/// The longest index object that is read.
pub(crate) const MAX_INDEX_LEN: u64 = 16 << 20;
const MAX_PACKS: usize = 1 << 16;
const MAX_FRAMES: usize = 1 << 20;

/// The part of a chunk's id that an index holds.
pub(crate) fn prefix_of(id: &ChunkId) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&id[..8]);
    u64::from_le_bytes(first)
}

/// One frame of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexFrame {
    pub spot: Spot,
    pub prefixes: Vec<u64>,
}

/// One pack of an index; its run is the index's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexPack {
    pub seq: u32,
    pub len: u32,
    pub frames: Vec<IndexFrame>,
}

/// An index object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    /// The backup whose manifest commits the run.
    pub volume_id: VolumeId,
    pub backup_id: BackupId,
    pub packs: Vec<IndexPack>,
}

impl Index {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.raw(&self.volume_id.to_bytes())
            .raw(&self.backup_id.to_bytes());
        w.count(self.packs.len());
        for pack in &self.packs {
            w.u32(pack.seq).u32(pack.len).count(pack.frames.len());
            for frame in &pack.frames {
                w.u32(frame.spot.offset)
                    .u32(frame.spot.len)
                    .count(frame.prefixes.len());
                for &prefix in &frame.prefixes {
                    w.u64(prefix);
                }
            }
        }
        w.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let volume_id = VolumeId::of_bytes(r.array()?);
        let backup_id = BackupId::of_bytes(r.array()?);
        let packs = r.count(MAX_PACKS, 12)?;
        let packs = (0..packs)
            .map(|_| read_pack(&mut r))
            .collect::<Result<_, _>>()?;
        r.finish()?;
        Ok(Self {
            volume_id,
            backup_id,
            packs,
        })
    }
}

fn read_pack(r: &mut Reader<'_>) -> Result<IndexPack, Malformed> {
    let (seq, len) = (r.u32()?, r.u32()?);
    let frames = r.count(MAX_FRAMES, 12)?;
    let frames = (0..frames)
        .map(|_| {
            let spot = Spot {
                offset: r.u32()?,
                len: r.u32()?,
            };
            if spot.end() > u64::from(len) {
                return Err(Malformed::Wrong("a frame is outside its pack"));
            }
            let count = r.count(MAX_FRAME_CHUNKS, 8)?;
            let prefixes = (0..count).map(|_| r.u64()).collect::<Result<_, _>>()?;
            Ok(IndexFrame { spot, prefixes })
        })
        .collect::<Result<_, _>>()?;
    Ok(IndexPack { seq, len, frames })
}
