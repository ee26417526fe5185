//! Packs: frames of chunks, one after the other, and a directory of them at the end.

use std::collections::HashMap;

use stillpoint_model::id::RunId;

use super::hash::{ChunkId, Hasher};
use super::names::IdBytes;
use super::object::{Class, HEADER_LEN, Header, ObjectKey, Segment, TAG_LEN};
use super::wire::{Malformed, Reader, Writer};
use super::{CHUNK_LEN, MAX_FRAME_CHUNKS};
use crate::Error;
use crate::buffers::Aligned;

/// The largest pack that is read.
pub(crate) const MAX_PACK_LEN: u64 = 64 << 20;
/// Numbers of tree packs start here; below are packs of chunks.
pub(crate) const FIRST_TREE_SEQ: u32 = 0x8000_0000;

const PREFIX_LEN: usize = 8;
const FRAME_HEADER_LEN: usize = 8;
const MAX_SEALED_HEADER: usize = FRAME_HEADER_LEN + 32 * MAX_FRAME_CHUNKS + TAG_LEN;
/// The most bytes that hold a frame's prefix and header.
pub(crate) const MAX_FRAME_HEAD: usize = PREFIX_LEN + MAX_SEALED_HEADER;
const MAX_SEALED_BODY: usize = MAX_FRAME_CHUNKS * CHUNK_LEN + TAG_LEN;
/// The longest frame.
pub(crate) const MAX_FRAME_LEN: usize = MAX_FRAME_HEAD + MAX_SEALED_BODY;
/// The most frames in a pack.
const MAX_FRAMES: usize = 1 << 16;
const DIRECTORY_ITEM: usize = 16;
const FOOTER_LEN: usize = 4;

/// The name of a pack: the run that wrote it, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PackId {
    pub run: RunId,
    pub seq: u32,
}

impl PackId {
    /// Length of its bytes.
    pub(crate) const LEN: usize = 20;

    pub(crate) fn write(self, w: &mut Writer) {
        w.raw(&self.run.to_bytes()).u32(self.seq);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            run: RunId::of_bytes(r.array()?),
            seq: r.u32()?,
        })
    }

    pub(crate) fn is_tree(self) -> bool {
        self.seq >= FIRST_TREE_SEQ
    }

    /// Its header, which holds nothing that the name does not say: whoever knows the name can
    /// open a part of the pack without fetching its start.
    pub(crate) fn header(self, vault: [u8; 16]) -> Header {
        let class = if self.is_tree() {
            Class::TreePack
        } else {
            Class::Pack
        };
        Header {
            seq: self.seq,
            ..Header::new(class, vault, self.run.to_bytes(), [0; 16])
        }
    }
}

/// How a frame's chunks are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    /// As they are.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
}

/// Where a frame is in its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Spot {
    pub offset: u32,
    pub len: u32,
}

impl Spot {
    pub(crate) fn end(self) -> u64 {
        u64::from(self.offset) + u64::from(self.len)
    }
}

/// Puts frames together to a pack.
pub(crate) struct PackBuilder {
    key: ObjectKey,
    bytes: Vec<u8>,
    spots: Vec<Spot>,
}

impl PackBuilder {
    /// Starts a pack in `bytes`, whose content goes.
    pub(crate) fn new(key: ObjectKey, header: &Header, mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        bytes.extend_from_slice(&header.encode());
        Self {
            key,
            bytes,
            spots: vec![],
        }
    }

    /// Seals a frame onto the end.
    pub(crate) fn push(
        &mut self,
        ids: &[ChunkId],
        codec: Codec,
        body: &[u8],
    ) -> Result<Spot, Malformed> {
        let offset = self.bytes.len();
        let mut w = Writer::default();
        w.u8(codec as u8)
            .u8(0)
            .u16(u16::try_from(ids.len()).unwrap_or(u16::MAX))
            .u32(0);
        for id in ids {
            w.raw(id);
        }
        let mut head = w.finish();
        let prefix = {
            let mut w = Writer::default();
            w.count(head.len() + TAG_LEN).count(body.len() + TAG_LEN);
            w.finish()
        };
        let head_at = offset + PREFIX_LEN;
        self.key
            .seal(Segment::FrameHeader, head_at as u64, &prefix, &mut head)?;
        self.bytes.extend_from_slice(&prefix);
        self.bytes.append(&mut head);
        let body_at = self.bytes.len();
        self.bytes.extend_from_slice(body);
        self.key
            .seal_tail(Segment::FrameBody, &prefix, &mut self.bytes, body_at)?;
        let spot = Spot {
            offset: small(offset)?,
            len: small(self.bytes.len() - offset)?,
        };
        self.spots.push(spot);
        Ok(spot)
    }

    /// How long the pack would be if it ended here.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + 4 + DIRECTORY_ITEM * self.spots.len() + TAG_LEN + FOOTER_LEN
    }

    /// Appends the directory and gives the whole pack.
    pub(crate) fn finish(self) -> Result<Vec<u8>, Malformed> {
        let items: Vec<(Spot, u64)> = self.spots.into_iter().map(|spot| (spot, 0)).collect();
        finish_pack(&self.key, self.bytes, &items)
    }
}

/// Appends a directory to the frames or nodes of a pack.
pub(crate) fn finish_pack(
    key: &ObjectKey,
    mut bytes: Vec<u8>,
    items: &[(Spot, u64)],
) -> Result<Vec<u8>, Malformed> {
    let mut w = Writer::default();
    w.count(items.len());
    for (spot, place) in items {
        w.u32(spot.offset).u32(spot.len).u64(*place);
    }
    let mut directory = w.finish();
    key.seal(Segment::Directory, bytes.len() as u64, &[], &mut directory)?;
    let len = small(directory.len())?;
    bytes.append(&mut directory);
    bytes.extend_from_slice(&len.to_le_bytes());
    Ok(bytes)
}

fn small(len: usize) -> Result<u32, Malformed> {
    u32::try_from(len).map_err(|_| Malformed::Wrong("it would be too long"))
}

/// Reads the directory from a whole pack.
pub(crate) fn directory(key: &ObjectKey, pack: &[u8]) -> Result<Vec<(Spot, u64)>, Malformed> {
    let short = Malformed::Wrong("it ends too early");
    let (rest, footer) = pack.split_last_chunk::<FOOTER_LEN>().ok_or(short)?;
    let len = usize::try_from(u32::from_le_bytes(*footer)).map_err(|_| short)?;
    let at = rest
        .len()
        .checked_sub(len)
        .filter(|&at| at >= HEADER_LEN)
        .ok_or(short)?;
    let mut sealed = rest[at..].to_vec();
    let plain = key.open(Segment::Directory, at as u64, &[], &mut sealed)?;
    let mut r = Reader::new(plain);
    let count = r.count(MAX_FRAMES, DIRECTORY_ITEM)?;
    let mut spots = Vec::with_capacity(count);
    let mut end = HEADER_LEN as u64;
    for _ in 0..count {
        let spot = Spot {
            offset: r.u32()?,
            len: r.u32()?,
        };
        if u64::from(spot.offset) != end {
            return Err(Malformed::Wrong("its frames do not follow each other"));
        }
        end = spot.end();
        spots.push((spot, r.u64()?));
    }
    r.finish()?;
    if end != at as u64 {
        return Err(Malformed::Wrong("its frames do not fill it"));
    }
    Ok(spots)
}

/// What a frame's header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub codec: Codec,
    pub ids: Vec<ChunkId>,
    prefix: [u8; PREFIX_LEN],
    body_at: usize,
    body_len: usize,
}

/// Opens a frame's header. `bytes` starts at the frame and holds at least its header.
pub(crate) fn open_frame_header(
    key: &ObjectKey,
    spot: Spot,
    bytes: &[u8],
) -> Result<FrameHeader, Malformed> {
    let mut r = Reader::new(bytes);
    let prefix: [u8; PREFIX_LEN] = r.array()?;
    let mut lens = Reader::new(&prefix);
    let wrong = Malformed::Wrong("a frame has the wrong length");
    let head_len = usize::try_from(lens.u32()?).map_err(|_| wrong)?;
    let body_len = usize::try_from(lens.u32()?).map_err(|_| wrong)?;
    if head_len > MAX_SEALED_HEADER || body_len > MAX_SEALED_BODY {
        return Err(wrong);
    }
    if Some(PREFIX_LEN + head_len + body_len) != usize::try_from(spot.len).ok() {
        return Err(wrong);
    }
    let mut sealed = r.take(head_len)?.to_vec();
    let at = u64::from(spot.offset) + PREFIX_LEN as u64;
    let plain = key.open(Segment::FrameHeader, at, &prefix, &mut sealed)?;
    let mut r = Reader::new(plain);
    let codec = match r.u8()? {
        0 => Codec::Raw,
        1 => Codec::Zstd,
        _ => return Err(Malformed::Unknown("the compression of a frame")),
    };
    r.zeros(1)?;
    let count = usize::from(r.u16()?);
    r.zeros(4)?;
    if count == 0 || count > MAX_FRAME_CHUNKS {
        return Err(Malformed::Wrong("a frame has a wrong number of chunks"));
    }
    let ids = (0..count).map(|_| r.array()).collect::<Result<_, _>>()?;
    r.finish()?;
    Ok(FrameHeader {
        codec,
        ids,
        prefix,
        body_at: PREFIX_LEN + head_len,
        body_len,
    })
}

/// Opens frames one after the other with one decompressor.
pub(crate) struct FrameOpener {
    decompressor: zstd::bulk::Decompressor<'static>,
}

impl FrameOpener {
    pub(crate) fn new() -> Result<Self, Error> {
        let decompressor = zstd::bulk::Decompressor::new()
            .map_err(|_| Error::Internal("no memory for a decompressor"))?;
        Ok(Self { decompressor })
    }

    /// Opens a whole frame into the start of `plain`: decrypts, decompresses, and proves every
    /// chunk against its id.
    pub(crate) fn open(
        &mut self,
        key: &ObjectKey,
        hasher: &Hasher,
        spot: Spot,
        frame: &mut [u8],
        plain: &mut Aligned,
    ) -> Result<FrameHeader, Malformed> {
        let header = open_frame_header(key, spot, frame)?;
        let end = header.body_at + header.body_len;
        let sealed = frame
            .get_mut(header.body_at..end)
            .ok_or(Malformed::Wrong("it ends too early"))?;
        let at = u64::from(spot.offset) + header.body_at as u64;
        let body = key.open(Segment::FrameBody, at, &header.prefix, sealed)?;
        // It never decompresses beyond the room there is.
        let room = plain.room(MAX_FRAME_CHUNKS * CHUNK_LEN);
        let len = match header.codec {
            Codec::Raw => copy_into(body, room)?,
            Codec::Zstd => self
                .decompressor
                .decompress_to_buffer(body, room)
                .map_err(|_| Malformed::Wrong("a frame does not decompress"))?,
        };
        if len != header.ids.len() * CHUNK_LEN {
            return Err(Malformed::Wrong("a frame has the wrong length"));
        }
        let mut all = room[..len].chunks_exact(CHUNK_LEN).zip(&header.ids);
        if all.any(|(chunk, id)| hasher.chunk(chunk) != *id) {
            return Err(Malformed::Wrong("a chunk is not what its id says"));
        }
        Ok(header)
    }
}

fn copy_into(body: &[u8], room: &mut [u8]) -> Result<usize, Malformed> {
    let room = room
        .get_mut(..body.len())
        .ok_or(Malformed::Wrong("a frame has the wrong length"))?;
    room.copy_from_slice(body);
    Ok(body.len())
}

/// Looks through a whole pack and gives its sound frames with the ids of their chunks. The error
/// says what else is wrong with it, if anything.
pub(crate) fn scan(
    opener: &mut FrameOpener,
    key: &ObjectKey,
    hasher: &Hasher,
    wanted: &Header,
    pack: &mut [u8],
    plain: &mut Aligned,
) -> (HashMap<Spot, Vec<ChunkId>>, Result<(), Malformed>) {
    let mut verdict = Header::expect(pack, wanted).and_then(|header| {
        if header == *wanted {
            Ok(())
        } else {
            Err(Malformed::Wrong("its header is damaged"))
        }
    });
    let spots = match directory(key, pack) {
        Ok(items) => items.into_iter().map(|(spot, _)| spot).collect(),
        Err(error) => {
            verdict = verdict.and(Err(error));
            walk(pack)
        }
    };
    let mut sound = HashMap::with_capacity(spots.len());
    for spot in spots {
        let range = usize::try_from(spot.offset)
            .ok()
            .zip(usize::try_from(spot.end()).ok());
        let frame = range.and_then(|(start, end)| pack.get_mut(start..end));
        let frame = frame.ok_or(Malformed::Wrong("it ends too early"));
        match frame.and_then(|frame| opener.open(key, hasher, spot, frame, plain)) {
            Ok(header) => drop(sound.insert(spot, header.ids)),
            Err(error) => verdict = verdict.and(Err(error)),
        }
    }
    (sound, verdict)
}

/// The frames by their prefixes alone, for a pack whose directory is gone. May give nonsense.
fn walk(pack: &[u8]) -> Vec<Spot> {
    let mut spots = vec![];
    let mut offset = HEADER_LEN;
    while spots.len() < MAX_FRAMES {
        let Some(prefix) = pack.get(offset..offset + PREFIX_LEN) else {
            break;
        };
        let mut r = Reader::new(prefix);
        let (Ok(head), Ok(body)) = (r.u32(), r.u32()) else {
            break;
        };
        let len = PREFIX_LEN as u64 + u64::from(head) + u64::from(body);
        let Ok(len) = usize::try_from(len) else { break };
        if len > MAX_FRAME_LEN || offset + len > pack.len() {
            break;
        }
        let (Ok(at), Ok(short)) = (small(offset), small(len)) else {
            break;
        };
        spots.push(Spot {
            offset: at,
            len: short,
        });
        offset += len;
    }
    spots
}
