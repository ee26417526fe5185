//! The header: what kind of image it is, where its tables are, and whose layer it is.
//!
//! Ours fits into the first 512 bytes, so that replacing it is one atomic write of a sector.
//! Beside QEMU's fields it has an extension of our own, which QEMU keeps when it rewrites the
//! header:
//!
//! ```text
//! 0   u32  0x53504c59 "SPLY"     16 bytes each, from offset 8:
//! 4   u32  length 80             pool id, layer id, parent's id (zeros: none), id of the volume
//!                                that owns it, the first half of the BLAKE3 hash of those four
//! ```

use std::fs::File;
use std::os::unix::fs::FileExt;

use stillpoint_model::id::{LayerId, PoolId, VolumeId};
use uuid::Uuid;

use super::{FormatError, MAGIC};

/// Bytes of a sector: what a disk writes atomically.
pub(super) const SECTOR: usize = 512;
/// log2 of the cluster size that we write: 128 KiB.
pub(super) const CLUSTER_BITS: u32 = 17;
/// Bytes of a cluster that we write.
pub(super) const CLUSTER_SIZE: u64 = 1 << CLUSTER_BITS;
/// Entries of the L1 table that we write: one cluster of them.
pub(super) const L1_ENTRIES: u32 = 1 << 14;
/// The largest L1 table, in bytes, as in QEMU.
const MAX_L1_BYTES: u64 = 32 << 20;
/// The longest header, with extensions, that is looked at.
const MAX_HEADER: usize = 64 << 10;

const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xE279_2ACA;
const EXTENSION_IDENTITY: u32 = 0x5350_4c59;
/// Bytes of what our extension holds.
const IDENTITY_LEN: usize = 80;

/// How compressed clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// Raw deflate.
    Deflate,
    /// A zstd frame.
    Zstd,
}

/// Whose layer a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) pool: PoolId,
    pub(super) layer: LayerId,
    pub(super) parent: Option<LayerId>,
    pub(super) owner: VolumeId,
}

/// What a header says, after everything in it was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    pub(super) size: u64,
    pub(super) l1_entries: u32,
    pub(super) l1_offset: u64,
    pub(super) refcount_table_offset: u64,
    pub(super) refcount_table_clusters: u32,
    pub(super) refcount_order: u32,
    pub(super) extended_l2: bool,
    pub(super) compression: Compression,
    /// Whether its refcounts may be behind: it was not closed. Its tables are whole all the same.
    pub(super) is_dirty: bool,
    pub(super) backing_name: Option<Vec<u8>>,
    pub(super) identity: Option<Identity>,
}

impl Header {
    /// Of a new layer whose tables stand in clusters 1 (refcount table), 2 (first refcount
    /// block) and 3 (L1 table).
    pub(super) fn new(size: u64, identity: Identity) -> Self {
        Self {
            version: 3,
            cluster_bits: CLUSTER_BITS,
            size,
            l1_entries: L1_ENTRIES,
            l1_offset: 3 * CLUSTER_SIZE,
            refcount_table_offset: CLUSTER_SIZE,
            refcount_table_clusters: 1,
            refcount_order: 4,
            extended_l2: true,
            compression: Compression::Deflate,
            is_dirty: false,
            backing_name: identity.parent.map(|parent| file_name(parent).into_bytes()),
            identity: Some(identity),
        }
    }

    pub(super) const fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes of an L2 entry.
    pub(super) const fn l2_entry_size(&self) -> u64 {
        if self.extended_l2 { 16 } else { 8 }
    }

    /// Bytes of the volume that one L2 table covers.
    pub(super) const fn l2_span(&self) -> u64 {
        (self.cluster_size() / self.l2_entry_size()) << self.cluster_bits
    }

    /// Bytes of the piece that has an allocation bit of its own.
    pub(super) const fn subcluster_size(&self) -> u64 {
        if self.extended_l2 {
            self.cluster_size() / 32
        } else {
            self.cluster_size()
        }
    }

    /// Reads and checks the header of a file of `file_len` bytes.
    pub(super) fn read(file: &File, file_len: u64) -> Result<Self, ReadError> {
        let len = usize::try_from(file_len)
            .unwrap_or(MAX_HEADER)
            .min(MAX_HEADER);
        let mut first = [0; SECTOR];
        let short = len.min(SECTOR);
        file.read_exact_at(&mut first[..short], 0)?;
        let cluster_bits = be32(&first, 20).unwrap_or(0).clamp(9, 21);
        if len <= SECTOR {
            return Ok(Self::parse(&first[..short], file_len)?);
        }
        let mut bytes = vec![0; len.min(1 << cluster_bits)];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Self::parse(&bytes, file_len)?)
    }

    /// Checks the first bytes of a file of `file_len` bytes, at most its first cluster.
    pub(super) fn parse(bytes: &[u8], file_len: u64) -> Result<Self, FormatError> {
        if bytes.get(..4) != Some(&MAGIC) {
            return Err(FormatError::BadMagic);
        }
        let version = be32(bytes, 4)?;
        if !(2..=3).contains(&version) {
            return Err(FormatError::Version(version));
        }
        let (features, refcount_order, header_len) = match version {
            2 => (0, 4, 72),
            _ => (be64(bytes, 72)?, be32(bytes, 96)?, be32(bytes, 100)?),
        };
        let header_len = header_len as usize;
        if (version == 3 && header_len < 104) || header_len > bytes.len() {
            return Err(FormatError::Header("its length"));
        }
        check_features(features)?;
        let compression = match (features & COMPRESSION_TYPE != 0, bytes.get(104)) {
            (false, _) => Compression::Deflate,
            (true, Some(0)) if header_len > 104 => Compression::Deflate,
            (true, Some(1)) if header_len > 104 => Compression::Zstd,
            _ => return Err(FormatError::Header("the compression type")),
        };
        let mut header = Self {
            version,
            cluster_bits: be32(bytes, 20)?,
            size: be64(bytes, 24)?,
            l1_entries: be32(bytes, 36)?,
            l1_offset: be64(bytes, 40)?,
            refcount_table_offset: be64(bytes, 48)?,
            refcount_table_clusters: be32(bytes, 56)?,
            refcount_order,
            extended_l2: features & EXTENDED_L2 != 0,
            compression,
            is_dirty: features & DIRTY != 0,
            backing_name: None,
            identity: None,
        };
        if be32(bytes, 32)? != 0 {
            return Err(FormatError::Encrypted);
        }
        if be32(bytes, 60)? != 0 {
            return Err(FormatError::InternalSnapshots);
        }
        header.check_tables(file_len)?;
        header.backing_name = backing_name(bytes)?;
        header.identity = identity(bytes, header_len)?;
        Ok(header)
    }

    fn check_tables(&self, file_len: u64) -> Result<(), FormatError> {
        if !(9..=21).contains(&self.cluster_bits) {
            return Err(FormatError::Header("the cluster size"));
        }
        if self.extended_l2 && self.cluster_bits < 14 {
            return Err(FormatError::Header(
                "the cluster size, for extended entries",
            ));
        }
        if self.refcount_order > 6 {
            return Err(FormatError::Header("the width of its refcounts"));
        }
        if self.size == 0 || self.size > i64::MAX.unsigned_abs() {
            return Err(FormatError::Header("the size of the disk"));
        }
        let l1_bytes = u64::from(self.l1_entries) * 8;
        if l1_bytes > MAX_L1_BYTES || u64::from(self.l1_entries) < self.l1_needed() {
            return Err(FormatError::Header("the length of its L1 table"));
        }
        self.check_table("L1 table", self.l1_offset, l1_bytes, file_len)?;
        let refcounts = u64::from(self.refcount_table_clusters).saturating_mul(self.cluster_size());
        if refcounts == 0 || refcounts > MAX_L1_BYTES {
            return Err(FormatError::Header("the length of its refcount table"));
        }
        self.check_table(
            "refcount table",
            self.refcount_table_offset,
            refcounts,
            file_len,
        )?;
        let (a, b) = (self.l1_offset, self.refcount_table_offset);
        if a < b.saturating_add(refcounts) && b < a.saturating_add(l1_bytes) {
            return Err(FormatError::Overlap {
                what: "L1 table",
                offset: a,
            });
        }
        Ok(())
    }

    fn check_table(
        &self,
        what: &'static str,
        offset: u64,
        len: u64,
        file_len: u64,
    ) -> Result<(), FormatError> {
        if !offset.is_multiple_of(self.cluster_size()) {
            return Err(FormatError::Unaligned { what, offset });
        }
        if offset < self.cluster_size() {
            return Err(FormatError::Overlap { what, offset });
        }
        if offset.checked_add(len).is_none_or(|end| end > file_len) {
            return Err(FormatError::OutsideFile { what, offset });
        }
        Ok(())
    }

    /// Entries of the L1 table that the disk's size needs.
    pub(super) const fn l1_needed(&self) -> u64 {
        self.size.div_ceil(self.l2_span())
    }

    /// The first sector of a layer of ours.
    pub(super) fn encode(&self) -> Result<[u8; SECTOR], FormatError> {
        let Some(identity) = self.identity else {
            return Err(FormatError::Header("it is no layer"));
        };
        if self.is_dirty {
            return Err(FormatError::Dirty);
        }
        let backing = identity.parent.map(file_name).unwrap_or_default();
        let mut out = Vec::with_capacity(SECTOR);
        out.extend(MAGIC);
        out.extend(3u32.to_be_bytes());
        out.extend([0; 12]); // the place of the backing file's name, filled in below
        out.extend(self.cluster_bits.to_be_bytes());
        out.extend(self.size.to_be_bytes());
        out.extend(0u32.to_be_bytes());
        out.extend(self.l1_entries.to_be_bytes());
        out.extend(self.l1_offset.to_be_bytes());
        out.extend(self.refcount_table_offset.to_be_bytes());
        out.extend(self.refcount_table_clusters.to_be_bytes());
        out.extend([0; 12]); // no internal snapshots
        out.extend((if self.extended_l2 { EXTENDED_L2 } else { 0 }).to_be_bytes());
        out.extend([0; 16]); // compatible and autoclear features
        out.extend(self.refcount_order.to_be_bytes());
        out.extend(112u32.to_be_bytes());
        out.extend([0; 8]); // compression type 0, padding
        if !backing.is_empty() {
            push_extension(&mut out, EXTENSION_BACKING_FORMAT, b"qcow2");
        }
        push_extension(&mut out, EXTENSION_IDENTITY, &identity.encode());
        push_extension(&mut out, EXTENSION_END, &[]);
        if !backing.is_empty() {
            let place = (out.len() as u64).to_be_bytes();
            let len = u32::try_from(backing.len())
                .unwrap_or(u32::MAX)
                .to_be_bytes();
            out.splice(8..20, place.into_iter().chain(len));
            out.extend(backing.bytes());
        }
        out.resize(SECTOR, 0);
        out.try_into()
            .map_err(|_| FormatError::Header("its length"))
    }
}

/// Why a header could not be read.
pub(super) enum ReadError {
    /// The file could not be read.
    Io(std::io::Error),
    /// What was read is wrong.
    Format(FormatError),
}

impl From<std::io::Error> for ReadError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Self::Format(FormatError::Truncated),
            _ => Self::Io(error),
        }
    }
}

impl From<FormatError> for ReadError {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}

impl Identity {
    fn encode(&self) -> [u8; IDENTITY_LEN] {
        let mut out = [0; IDENTITY_LEN];
        out[..16].copy_from_slice(self.pool.as_uuid().as_bytes());
        out[16..32].copy_from_slice(self.layer.as_uuid().as_bytes());
        let parent = self.parent.map_or(Uuid::nil(), LayerId::as_uuid);
        out[32..48].copy_from_slice(parent.as_bytes());
        out[48..64].copy_from_slice(self.owner.as_uuid().as_bytes());
        let hash = blake3::hash(&out[..64]);
        out[64..].copy_from_slice(&hash.as_bytes()[..16]);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        const WRONG: FormatError = FormatError::Header("whose layer it is");
        let bytes: &[u8; IDENTITY_LEN] = bytes.try_into().map_err(|_| WRONG)?;
        let id = |from: usize| {
            bytes
                .get(from..from + 16)
                .and_then(|b| Uuid::from_slice(b).ok())
        };
        let (Some(pool), Some(layer), Some(parent), Some(owner)) = (id(0), id(16), id(32), id(48))
        else {
            return Err(WRONG);
        };
        let identity = Self {
            pool: PoolId::from_uuid(pool),
            layer: LayerId::from_uuid(layer),
            parent: (!parent.is_nil()).then(|| LayerId::from_uuid(parent)),
            owner: VolumeId::from_uuid(owner),
        };
        if identity.encode() == *bytes {
            Ok(identity)
        } else {
            Err(WRONG)
        }
    }
}

/// The name of a layer's file in its folder.
pub(super) fn file_name(layer: LayerId) -> String {
    format!("{layer}.qcow2")
}

/// The layer whose file has this name.
pub(super) fn file_layer(name: &str) -> Option<LayerId> {
    name.strip_suffix(".qcow2")?.parse().ok()
}

fn check_features(features: u64) -> Result<(), FormatError> {
    let known = DIRTY | CORRUPT | DATA_FILE | COMPRESSION_TYPE | EXTENDED_L2;
    if features & DATA_FILE != 0 {
        Err(FormatError::DataFile)
    } else if features & !known != 0 {
        Err(FormatError::Features(features & !known))
    } else if features & CORRUPT != 0 {
        Err(FormatError::MarkedCorrupt)
    } else {
        Ok(())
    }
}

fn backing_name(bytes: &[u8]) -> Result<Option<Vec<u8>>, FormatError> {
    let (offset, len) = (be64(bytes, 8)?, be32(bytes, 16)? as usize);
    if offset == 0 {
        return Ok(None);
    }
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let name = start.checked_add(len).and_then(|end| bytes.get(start..end));
    match name {
        Some(name) if len <= 1023 => Ok(Some(name.to_vec())),
        _ => Err(FormatError::Header("the name of its backing file")),
    }
}

/// Looks for our own extension.
fn identity(bytes: &[u8], header_len: usize) -> Result<Option<Identity>, FormatError> {
    let mut at = header_len.next_multiple_of(8);
    while let (Ok(kind), Ok(len)) = (be32(bytes, at), be32(bytes, at + 4)) {
        if kind == EXTENSION_END {
            break;
        }
        let start = at + 8;
        let Some(content) = start
            .checked_add(len as usize)
            .and_then(|end| bytes.get(start..end))
        else {
            return Err(FormatError::Header("the length of an extension"));
        };
        if kind == EXTENSION_IDENTITY {
            return Identity::decode(content).map(Some);
        }
        at = start + content.len().next_multiple_of(8);
    }
    Ok(None)
}

fn push_extension(out: &mut Vec<u8>, kind: u32, content: &[u8]) {
    out.extend(kind.to_be_bytes());
    out.extend(
        u32::try_from(content.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    );
    out.extend(content);
    out.resize(out.len().next_multiple_of(8), 0);
}

fn be32(bytes: &[u8], at: usize) -> Result<u32, FormatError> {
    let part = at.checked_add(4).and_then(|end| bytes.get(at..end));
    let part = part
        .and_then(|part| part.try_into().ok())
        .ok_or(FormatError::Truncated)?;
    Ok(u32::from_be_bytes(part))
}

pub(super) fn be64(bytes: &[u8], at: usize) -> Result<u64, FormatError> {
    let part = at.checked_add(8).and_then(|end| bytes.get(at..end));
    let part = part
        .and_then(|part| part.try_into().ok())
        .ok_or(FormatError::Truncated)?;
    Ok(u64::from_be_bytes(part))
}
