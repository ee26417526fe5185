//! The manifest of one backup: the root of its tree and what is known about it.

use std::collections::BTreeMap;

use stillpoint_model::id::{BackupId, RunId, VolumeId};
use stillpoint_model::{ByteCount, Timestamp};

use super::hash::ContentHash;
use super::names::IdBytes;
use super::tree::{NodeRef, top_level};
use super::wire::{Malformed, Reader, Writer};
use super::{CHUNK_LEN, MAX_VOLUME_LEN};

/// The longest manifest that is read.
pub(crate) const MAX_MANIFEST_LEN: u64 = 1 << 20;
/// The most notes, and the longest key and value of one.
pub(crate) const MAX_NOTES: usize = 64;
pub(crate) const MAX_NOTE_LEN: usize = 4096;

/// A manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub volume_id: VolumeId,
    pub run_id: RunId,
    pub parent: Option<BackupId>,
    pub created: Timestamp,
    pub size: ByteCount,
    pub changed: ByteCount,
    pub stored: ByteCount,
    pub bytes_read: ByteCount,
    /// How many backups in a row, this one included, read only what change tracking named.
    pub tracked: u16,
    pub content_hash: ContentHash,
    pub root: Option<NodeRef>,
    pub metadata: BTreeMap<String, String>,
}

/// How many chunks a volume has.
pub(crate) fn chunks_of(size: ByteCount) -> u64 {
    size.get().div_ceil(CHUNK_LEN as u64)
}

impl Manifest {
    /// The level of the top of its tree.
    pub(crate) fn level(&self) -> u8 {
        top_level(chunks_of(self.size))
    }

    /// Bytes of chunks that are not zero.
    pub(crate) fn used(&self) -> ByteCount {
        let chunks = self.root.map_or(0, |root| root.chunks);
        ByteCount::new(chunks.saturating_mul(CHUNK_LEN as u64).min(self.size.get()))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.raw(&self.volume_id.to_bytes())
            .raw(&self.run_id.to_bytes());
        w.raw(&self.parent.map_or([0; 16], IdBytes::to_bytes))
            .i64(self.created.as_micros());
        for count in [self.size, self.changed, self.stored, self.bytes_read] {
            w.u64(count.get());
        }
        w.count(CHUNK_LEN)
            .u8(self.level())
            .u8(u8::from(self.root.is_some()))
            .u16(self.tracked);
        w.raw(&self.content_hash.0);
        match &self.root {
            Some(root) => root.write(&mut w),
            None => drop(w.raw(&[0; NodeRef::LEN])),
        }
        w.count(self.metadata.len());
        for (key, value) in &self.metadata {
            w.count(key.len())
                .count(value.len())
                .raw(key.as_bytes())
                .raw(value.as_bytes());
        }
        w.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let volume_id = VolumeId::of_bytes(r.array()?);
        let run_id = RunId::of_bytes(r.array()?);
        let parent = Some(r.array()?)
            .filter(|id| *id != [0; 16])
            .map(BackupId::of_bytes);
        let created = Timestamp::from_micros(r.i64()?);
        let size = ByteCount::new(r.u64()?);
        let mut count = || Ok(ByteCount::new(r.u64()?));
        let (changed, stored, bytes_read) = (count()?, count()?, count()?);
        if usize::try_from(r.u32()?) != Ok(CHUNK_LEN) {
            return Err(Malformed::Unknown("its chunk size"));
        }
        let level = r.u8()?;
        let has_root = r.u8()?;
        let tracked = r.u16()?;
        if size.get() > MAX_VOLUME_LEN || level != top_level(chunks_of(size)) || has_root > 1 {
            return Err(Malformed::Wrong("its size and its tree do not agree"));
        }
        let content_hash = ContentHash(r.array()?);
        let root = match has_root {
            0 => {
                r.zeros(NodeRef::LEN)?;
                None
            }
            _ => Some(NodeRef::read(&mut r)?),
        };
        let metadata = read_metadata(&mut r)?;
        r.finish()?;
        Ok(Self {
            volume_id,
            run_id,
            parent,
            created,
            size,
            changed,
            stored,
            bytes_read,
            tracked,
            content_hash,
            root,
            metadata,
        })
    }
}

fn read_metadata(r: &mut Reader<'_>) -> Result<BTreeMap<String, String>, Malformed> {
    let count = r.count(MAX_NOTES, 8)?;
    let mut metadata = BTreeMap::new();
    for _ in 0..count {
        let (key_len, value_len) = (r.u32()? as usize, r.u32()? as usize);
        if key_len > MAX_NOTE_LEN || value_len > MAX_NOTE_LEN {
            return Err(Malformed::Wrong("a note is too long"));
        }
        let (key, value) = (text(r.take(key_len)?)?, text(r.take(value_len)?)?);
        if metadata
            .last_key_value()
            .is_some_and(|(last, _)| *last >= key)
        {
            return Err(Malformed::Wrong("its notes are not in order"));
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

fn text(bytes: &[u8]) -> Result<String, Malformed> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Malformed::Wrong("a note is no text"))
}
