//! The tree of a backup: leaves that say where the chunks of 64 MiB are, and interior nodes.
//!
//! A node is stored once and shared by every backup in which its part of the volume is the same.

use super::FANOUT;
use super::hash::{Hash, Hasher};
use super::object::{Header, ObjectKey, Segment, TAG_LEN};
use super::pack::{PackId, Spot, directory};
use super::wire::{Malformed, Reader, Writer};

/// The level of leaves: 0 are chunks, 1 are spans.
pub(crate) const LEAF_LEVEL: u8 = 2;
/// The highest level of a tree.
pub(crate) const MAX_LEVEL: u8 = 7;
/// Chunks under a leaf.
pub(crate) const LEAF_CHUNKS: usize = FANOUT * FANOUT;

const RUN_LEN: usize = 8;
const FRAME_LEN: usize = 10;
const PACK_LEN: usize = PackId::LEN + 4;
const CHILD_LEN: usize = 50;
const MAX_LEAF: usize =
    16 + LEAF_CHUNKS * (RUN_LEN + FRAME_LEN + PACK_LEN) + 8 + FANOUT * 32 + TAG_LEN;
/// The longest sealed node.
pub(crate) const MAX_NODE_LEN: usize = MAX_LEAF;

/// The number of chunks that a subtree of this level holds.
pub(crate) const fn chunks_at(level: u8) -> u64 {
    1 << (6 * level as u64)
}

/// The level of the top of the tree of a volume of so many chunks.
pub(crate) fn top_level(chunks: u64) -> u8 {
    (LEAF_LEVEL..MAX_LEVEL)
        .find(|&level| chunks <= chunks_at(level))
        .unwrap_or(MAX_LEVEL)
}

/// A node that is stored somewhere. There is none for a subtree of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeRef {
    /// The Merkle hash of the subtree.
    pub hash: Hash,
    /// How many of its chunks are not zero.
    pub chunks: u64,
    pub pack: PackId,
    pub spot: Spot,
}

impl NodeRef {
    pub(crate) const LEN: usize = 32 + 8 + PackId::LEN + 8;

    pub(crate) fn write(&self, w: &mut Writer) {
        w.raw(&self.hash).u64(self.chunks);
        self.pack.write(w);
        w.u32(self.spot.offset).u32(self.spot.len);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (hash, chunks, pack) = (r.array()?, r.u64()?, PackId::read(r)?);
        Ok(Self {
            hash,
            chunks,
            pack,
            spot: Spot {
                offset: r.u32()?,
                len: r.u32()?,
            },
        })
    }
}

/// Where a frame of chunks is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FrameLoc {
    pub pack: PackId,
    pub pack_len: u32,
    pub spot: Spot,
}

/// Chunks that stand one after the other in the volume and in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The first chunk's number in the leaf.
    pub first: u16,
    /// How many.
    pub count: u16,
    /// The number of the frame in the leaf's table.
    pub frame: u16,
    /// The first one's place in the frame.
    pub slot: u16,
}

/// A leaf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub frames: Vec<FrameLoc>,
    /// By position; what no extent covers is zero.
    pub extents: Vec<Extent>,
    /// The hashes of the 64 spans; none for zeros.
    pub spans: Vec<Option<Hash>>,
}

impl Leaf {
    pub(crate) fn chunks(&self) -> u64 {
        self.extents
            .iter()
            .map(|extent| u64::from(extent.count))
            .sum()
    }

    pub(crate) fn hash(&self, hasher: &Hasher) -> Hash {
        let zero = hasher.zero(1);
        hasher.node(
            LEAF_LEVEL,
            self.spans.iter().map(|span| span.unwrap_or(zero)),
        )
    }

    fn encode(&self) -> Vec<u8> {
        let mut packs: Vec<(PackId, u32)> = vec![];
        let mut frames = Writer::default();
        for frame in &self.frames {
            let pack = (frame.pack, frame.pack_len);
            let number = packs
                .iter()
                .rposition(|known| *known == pack)
                .unwrap_or_else(|| {
                    packs.push(pack);
                    packs.len() - 1
                });
            frames.u16(u16::try_from(number).unwrap_or(u16::MAX));
            frames.u32(frame.spot.offset).u32(frame.spot.len);
        }
        let mut w = Writer::default();
        w.count(packs.len())
            .count(self.frames.len())
            .count(self.extents.len())
            .u32(0);
        for (pack, len) in packs {
            pack.write(&mut w);
            w.u32(len);
        }
        w.raw(&frames.finish());
        for extent in &self.extents {
            w.u16(extent.first)
                .u16(extent.count)
                .u16(extent.frame)
                .u16(extent.slot);
        }
        write_present(&mut w, self.spans.iter().map(Option::is_some));
        for span in self.spans.iter().flatten() {
            w.raw(span);
        }
        w.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let packs = r.count(LEAF_CHUNKS, PACK_LEN)?;
        let frames = r.count(LEAF_CHUNKS, FRAME_LEN)?;
        let extents = r.count(LEAF_CHUNKS, RUN_LEN)?;
        r.zeros(4)?;
        let packs = (0..packs)
            .map(|_| Ok((PackId::read(&mut r)?, r.u32()?)))
            .collect::<Result<Vec<_>, Malformed>>()?;
        let frames = (0..frames)
            .map(|_| {
                let &(pack, pack_len) = packs
                    .get(usize::from(r.u16()?))
                    .ok_or(Malformed::Wrong("a frame is in no pack"))?;
                let spot = Spot {
                    offset: r.u32()?,
                    len: r.u32()?,
                };
                if pack.is_tree() || spot.end() > u64::from(pack_len) {
                    return Err(Malformed::Wrong("a frame is outside its pack"));
                }
                Ok(FrameLoc {
                    pack,
                    pack_len,
                    spot,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let extents = read_extents(&mut r, extents, frames.len())?;
        let spans = read_present(&mut r)?
            .map(|present| {
                if present {
                    r.array().map(Some)
                } else {
                    Ok(None)
                }
            })
            .collect::<Result<_, _>>()?;
        r.finish()?;
        Ok(Self {
            frames,
            extents,
            spans,
        })
    }
}

fn read_extents(r: &mut Reader<'_>, count: usize, frames: usize) -> Result<Vec<Extent>, Malformed> {
    let mut next = 0;
    (0..count)
        .map(|_| {
            let extent = Extent {
                first: r.u16()?,
                count: r.u16()?,
                frame: r.u16()?,
                slot: r.u16()?,
            };
            let end = usize::from(extent.first) + usize::from(extent.count);
            let last_slot = usize::from(extent.slot) + usize::from(extent.count);
            let fine = extent.count > 0
                && usize::from(extent.first) >= next
                && end <= LEAF_CHUNKS
                && usize::from(extent.frame) < frames
                && last_slot <= super::MAX_FRAME_CHUNKS;
            next = end;
            if fine {
                Ok(extent)
            } else {
                Err(Malformed::Wrong("an extent is out of place"))
            }
        })
        .collect()
}

/// 64 bits: which children there are.
fn write_present(w: &mut Writer, present: impl Iterator<Item = bool>) {
    let bits = present
        .enumerate()
        .fold(0_u64, |bits, (i, set)| bits | (u64::from(set) << i));
    w.u64(bits);
}

fn read_present(r: &mut Reader<'_>) -> Result<impl Iterator<Item = bool> + use<>, Malformed> {
    let bits = r.u64()?;
    Ok((0..FANOUT).map(move |i| bits & (1 << i) != 0))
}

/// An interior node: its 64 children, none for zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interior {
    pub children: Vec<Option<NodeRef>>,
}

impl Interior {
    /// A node of zeros.
    pub(crate) fn empty() -> Self {
        Self {
            children: vec![None; FANOUT],
        }
    }

    pub(crate) fn chunks(&self) -> u64 {
        self.children
            .iter()
            .flatten()
            .fold(0, |sum, child| sum.saturating_add(child.chunks))
    }

    pub(crate) fn hash(&self, hasher: &Hasher, level: u8) -> Hash {
        let zero = hasher.zero(level - 1);
        hasher.node(
            level,
            self.children
                .iter()
                .map(|c| c.map_or(zero, |child| child.hash)),
        )
    }

    fn encode(&self) -> Vec<u8> {
        let mut packs: Vec<PackId> = vec![];
        let mut children = Writer::default();
        for child in self.children.iter().flatten() {
            let number = packs
                .iter()
                .rposition(|pack| *pack == child.pack)
                .unwrap_or_else(|| {
                    packs.push(child.pack);
                    packs.len() - 1
                });
            children.raw(&child.hash).u64(child.chunks);
            children.u16(u16::try_from(number).unwrap_or(u16::MAX));
            children.u32(child.spot.offset).u32(child.spot.len);
        }
        let mut w = Writer::default();
        w.count(packs.len()).u32(0);
        for pack in packs {
            pack.write(&mut w);
        }
        write_present(&mut w, self.children.iter().map(Option::is_some));
        w.raw(&children.finish());
        w.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let packs = r.count(FANOUT, PackId::LEN)?;
        r.zeros(4)?;
        let packs = (0..packs)
            .map(|_| PackId::read(&mut r))
            .collect::<Result<Vec<_>, Malformed>>()?;
        let children = read_present(&mut r)?
            .map(|present| {
                if present {
                    read_child(&mut r, &packs).map(Some)
                } else {
                    Ok(None)
                }
            })
            .collect::<Result<_, _>>()?;
        r.finish()?;
        Ok(Self { children })
    }
}

fn read_child(r: &mut Reader<'_>, packs: &[PackId]) -> Result<NodeRef, Malformed> {
    debug_assert_eq!(CHILD_LEN, 32 + 8 + 2 + 8);
    let (hash, chunks) = (r.array()?, r.u64()?);
    let &pack = packs
        .get(usize::from(r.u16()?))
        .ok_or(Malformed::Wrong("a node is in no pack"))?;
    Ok(NodeRef {
        hash,
        chunks,
        pack,
        spot: Spot {
            offset: r.u32()?,
            len: r.u32()?,
        },
    })
}

/// Where in the tree a node is. Part of what authenticates it.
fn place(level: u8, index: u64) -> [u8; 9] {
    let mut out = [level; 9];
    out[1..].copy_from_slice(&index.to_le_bytes());
    out
}

/// Seals a node for `offset` of its pack.
pub(crate) fn seal_node(
    key: &ObjectKey,
    offset: u64,
    level: u8,
    index: u64,
    mut plain: Vec<u8>,
) -> Result<Vec<u8>, Malformed> {
    key.seal(Segment::Node, offset, &place(level, index), &mut plain)?;
    Ok(plain)
}

/// A node's place as its pack's directory has it: the level in the top byte.
pub(crate) fn directory_place(level: u8, index: u64) -> u64 {
    (u64::from(level) << 56) | (index & ((1 << 56) - 1))
}

/// Looks through a whole tree pack: whether its header, its directory and all its nodes are sound.
/// What a node says is proven where it is used.
pub(crate) fn scan_nodes(
    key: &ObjectKey,
    wanted: &Header,
    pack: &mut [u8],
) -> Result<(), Malformed> {
    if Header::expect(pack, wanted)? != *wanted {
        return Err(Malformed::Wrong("its header is damaged"));
    }
    for (spot, packed) in directory(key, pack)? {
        let level = packed.to_le_bytes()[7];
        let index = packed & ((1 << 56) - 1);
        let range = usize::try_from(spot.offset)
            .ok()
            .zip(usize::try_from(spot.end()).ok());
        let sealed = range
            .and_then(|(start, end)| pack.get_mut(start..end))
            .ok_or(Malformed::Wrong("it ends too early"))?;
        key.open(
            Segment::Node,
            u64::from(spot.offset),
            &place(level, index),
            sealed,
        )?;
    }
    Ok(())
}

fn open_node<'a>(
    key: &ObjectKey,
    at: &NodeRef,
    level: u8,
    index: u64,
    sealed: &'a mut [u8],
) -> Result<&'a [u8], Malformed> {
    key.open(
        Segment::Node,
        u64::from(at.spot.offset),
        &place(level, index),
        sealed,
    )
}

const NOT_ITS_HASH: Malformed = Malformed::Wrong("a node is not what its hash says");

/// Opens a leaf and proves it against the hash that its parent has of it.
pub(crate) fn open_leaf(
    key: &ObjectKey,
    hasher: &Hasher,
    at: &NodeRef,
    index: u64,
    sealed: &mut [u8],
) -> Result<Leaf, Malformed> {
    let leaf = Leaf::decode(open_node(key, at, LEAF_LEVEL, index, sealed)?)?;
    if leaf.hash(hasher) != at.hash || leaf.chunks() != at.chunks {
        return Err(NOT_ITS_HASH);
    }
    Ok(leaf)
}

/// Opens an interior node and proves it against the hash that its parent has of it.
pub(crate) fn open_interior(
    key: &ObjectKey,
    hasher: &Hasher,
    at: &NodeRef,
    level: u8,
    index: u64,
    sealed: &mut [u8],
) -> Result<Interior, Malformed> {
    let node = Interior::decode(open_node(key, at, level, index, sealed)?)?;
    if node.hash(hasher, level) != at.hash || node.chunks() != at.chunks {
        return Err(NOT_ITS_HASH);
    }
    Ok(node)
}

/// The bytes of a node before sealing.
pub(crate) fn encode_leaf(leaf: &Leaf) -> Vec<u8> {
    leaf.encode()
}

/// The bytes of a node before sealing.
pub(crate) fn encode_interior(node: &Interior) -> Vec<u8> {
    node.encode()
}
