//! The cluster map: from a place of the disk to a place of the file.
//!
//! An L1 entry names an L2 table, an entry of that a cluster. Extended entries have two bits for
//! each of 32 subclusters: allocated, and reads as zeros. Tables are read when they are needed
//! and a few are kept.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::compressed::{Packed, unpack};
use super::direct;
use super::header::{Header, be64};
use super::{FormatError, header::ReadError};
use crate::driver::{Holds, Run};

mod uses;

/// Bytes of the L2 tables that an open file keeps.
const CACHE_BYTES: u64 = 2 << 20;
/// Tables that an open file keeps at most.
const CACHE_TABLES: u64 = 64;

/// Below this, going past the page cache gains nothing.
const WORTH_IT: usize = 256 << 10;

const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const RESERVED: u64 = 0x3f00_0000_0000_01fe;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;

/// An image or a layer, opened for reading.
pub(super) struct Map {
    file: File,
    /// The same file past the page cache, for what is read in large pieces.
    direct: Option<File>,
    file_len: u64,
    pub(super) header: Header,
    l1: Vec<u64>,
    /// The L2 tables' places, in order, to find what overlaps them.
    tables: Vec<u64>,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    /// L1 index and table, the latest used first.
    tables: Vec<(u64, Arc<[u8]>)>,
    /// The cluster that was unpacked last.
    unpacked: Option<(u64, Arc<[u8]>)>,
}

/// Where a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Below,
    Zeros,
    /// At this place of the file.
    Data(u64),
    /// Compressed, in this cluster of the disk.
    Packed(Packed),
}

impl Place {
    const fn holds(self) -> Holds {
        match self {
            Self::Below => Holds::Below,
            Self::Zeros => Holds::Zeros,
            Self::Data(_) | Self::Packed(_) => Holds::Data,
        }
    }
}

impl Map {
    /// Reads the L1 table behind a header that was checked.
    pub(super) fn open(file: File, file_len: u64, header: Header) -> Result<Self, ReadError> {
        let count = usize::try_from(header.l1_needed()).map_err(|_| FormatError::Truncated)?;
        let mut bytes = vec![0; count * 8];
        file.read_exact_at(&mut bytes, header.l1_offset)?;
        let l1: Vec<u64> = (0..count)
            .map(|index| be64(&bytes, index * 8))
            .collect::<Result<_, _>>()?;
        let mut tables: Vec<u64> = l1
            .iter()
            .map(|entry| entry & OFFSET)
            .filter(|offset| *offset != 0)
            .collect();
        tables.sort_unstable();
        if let Some(twice) = tables.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(FormatError::Overlap {
                what: "L2 table",
                offset: twice[0],
            }
            .into());
        }
        let cache = Mutex::default();
        let map = Self {
            file,
            direct: None,
            file_len,
            header,
            l1,
            tables,
            cache,
        };
        for entry in &map.l1 {
            map.check_l1_entry(*entry)?;
        }
        Ok(map)
    }

    /// Reads large pieces into aligned memory past the page cache, through another descriptor.
    pub(super) fn reading_past_cache(mut self, direct: Option<File>) -> Self {
        self.direct = direct;
        self
    }

    /// What the image itself holds from `offset`, up to the end of an L2 table.
    pub(super) fn run_at(&self, offset: u64) -> Result<Run, ReadError> {
        let size = self.header.size;
        let span = self.header.l2_span();
        let index = offset / span;
        if self.l1_entry(index) == 0 {
            let mut end = index + 1;
            while end * span < size && self.l1_entry(end) == 0 {
                end += 1;
            }
            let len = (end * span).min(size) - offset;
            return Ok(Run {
                len,
                holds: Holds::Below,
            });
        }
        let table = self.table(index)?;
        let (place, mut len) = self.piece(&table, offset)?;
        let end = ((index + 1) * span).min(size);
        while offset + len < end {
            let (next, more) = self.piece(&table, offset + len)?;
            if next.holds() != place.holds() {
                break;
            }
            len += more;
        }
        Ok(Run {
            len: len.min(size - offset),
            holds: place.holds(),
        })
    }

    /// Fills `buf` from a stretch that is data. What is none reads as zeros.
    pub(super) fn read_data(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let (place, here) = self.place_at(at, buf.len() - done)?;
            let part = &mut buf[done..done + here];
            match place {
                Place::Data(host) => self.read_host(host, part)?,
                Place::Packed(packed) => self.read_packed(packed, at, part)?,
                Place::Below | Place::Zeros => part.fill(0),
            }
            done += here;
        }
        Ok(())
    }

    /// Where data from an offset on is, and how much of at most `most` bytes lies together there.
    fn place_at(&self, at: u64, most: usize) -> Result<(Place, usize), ReadError> {
        let index = at / self.header.l2_span();
        if self.l1_entry(index) == 0 {
            return Err(FormatError::Entry(at).into());
        }
        let table = self.table(index)?;
        let (place, mut len) = self.piece(&table, at)?;
        let end = ((index + 1) * self.header.l2_span()).min(at + most as u64);
        if let Place::Data(host) = place {
            while at + len < end.min(self.header.size) {
                let (next, more) = self.piece(&table, at + len)?;
                if next != Place::Data(host + len) {
                    break;
                }
                len += more;
            }
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        Ok((place, len.min(most)))
    }

    fn l1_entry(&self, index: u64) -> u64 {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        self.l1.get(index).copied().unwrap_or(0) & OFFSET
    }

    fn check_l1_entry(&self, entry: u64) -> Result<(), FormatError> {
        let offset = entry & OFFSET;
        if entry & !(OFFSET | 1 << 63) != 0 {
            return Err(FormatError::Header("its L1 table"));
        }
        if offset == 0 {
            return Ok(());
        }
        self.check_cluster("L2 table", offset)?;
        if offset + self.header.cluster_size() > self.file_len {
            return Err(FormatError::OutsideFile {
                what: "L2 table",
                offset,
            });
        }
        Ok(())
    }

    /// Whether a cluster may stand there: aligned, and over no other table.
    fn check_cluster(&self, what: &'static str, offset: u64) -> Result<(), FormatError> {
        let header = &self.header;
        let cluster = header.cluster_size();
        if !offset.is_multiple_of(cluster) {
            return Err(FormatError::Unaligned { what, offset });
        }
        let refcounts = u64::from(header.refcount_table_clusters) * cluster;
        let l1 = u64::from(header.l1_entries) * 8;
        let covers = |start: u64, len: u64| offset < start + len && start < offset + cluster;
        if offset < cluster
            || covers(header.l1_offset, l1)
            || covers(header.refcount_table_offset, refcounts)
        {
            return Err(FormatError::Overlap { what, offset });
        }
        Ok(())
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The L2 table behind an L1 entry that is not zero.
    fn table(&self, index: u64) -> Result<Arc<[u8]>, ReadError> {
        let mut cache = self.cache();
        if let Some(at) = cache.tables.iter().position(|(held, _)| *held == index) {
            cache.tables[..=at].rotate_right(1);
            if let Some((_, table)) = cache.tables.first() {
                return Ok(Arc::clone(table));
            }
        }
        let cluster = self.header.cluster_size();
        let len = usize::try_from(cluster).map_err(|_| FormatError::Truncated)?;
        let mut table = vec![0; len];
        self.file.read_exact_at(&mut table, self.l1_entry(index))?;
        let table: Arc<[u8]> = table.into();
        let keep = (CACHE_BYTES / cluster).clamp(1, CACHE_TABLES);
        cache
            .tables
            .truncate(usize::try_from(keep).unwrap_or(1).saturating_sub(1));
        cache.tables.insert(0, (index, Arc::clone(&table)));
        Ok(table)
    }

    /// The piece from `offset` on that is of one kind and, if data, in one place; at most the
    /// rest of its cluster. Clipped to the disk's end.
    fn piece(&self, table: &[u8], offset: u64) -> Result<(Place, u64), FormatError> {
        let header = &self.header;
        let cluster = header.cluster_size();
        let entry_size = header.l2_entry_size();
        let index = (offset >> header.cluster_bits) % (cluster / entry_size);
        let at = usize::try_from(index * entry_size).unwrap_or(usize::MAX);
        let within = offset % cluster;
        let rest = (cluster - within).min(header.size - offset);
        let entry = be64(table, at)?;
        if entry & COMPRESSED != 0 {
            let packed = Packed::new(entry, header.cluster_bits, self.file_len).ok_or(
                FormatError::OutsideFile {
                    what: "compressed data",
                    offset: entry,
                },
            )?;
            return Ok((Place::Packed(packed), rest));
        }
        let flags = if header.extended_l2 || header.version < 3 {
            ZERO
        } else {
            0
        };
        if entry & (RESERVED | flags) != 0 {
            return Err(FormatError::Entry(offset));
        }
        let host = entry & OFFSET;
        if host != 0 {
            self.check_data(host)?;
        }
        let (place, len) = if header.extended_l2 {
            let bits = be64(table, at + 8)?;
            subcluster_piece(host, bits, within, header.subcluster_size())
                .ok_or(FormatError::Entry(offset))?
        } else if entry & ZERO != 0 {
            (Place::Zeros, cluster - within)
        } else if host == 0 {
            (Place::Below, cluster - within)
        } else {
            (Place::Data(host + within), cluster - within)
        };
        let len = len.min(rest);
        if let Place::Data(host) = place {
            self.check_inside(host, len)?;
        }
        Ok((place, len))
    }

    fn check_data(&self, host: u64) -> Result<(), FormatError> {
        self.check_cluster("data", host)?;
        if self.tables.binary_search(&host).is_ok() {
            return Err(FormatError::Overlap {
                what: "data",
                offset: host,
            });
        }
        Ok(())
    }

    /// Whether data is in the file; its last sector may be cut, which reads as zeros.
    fn check_inside(&self, host: u64, len: u64) -> Result<(), FormatError> {
        if host + len > self.file_len.next_multiple_of(512) {
            return Err(FormatError::OutsideFile {
                what: "data",
                offset: host,
            });
        }
        Ok(())
    }

    fn read_host(&self, host: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let there = self.file_len.saturating_sub(host);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(buf.len());
        let (data, tail) = buf.split_at_mut(there);
        tail.fill(0);
        if let Some(direct) = self.direct.as_ref()
            && data.len() >= WORTH_IT
            && direct::is_aligned(data, host)
        {
            match direct.read_exact_at(data, host) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                other => return Ok(other?),
            }
        }
        self.file.read_exact_at(data, host)?;
        Ok(())
    }

    fn read_packed(&self, packed: Packed, at: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let cluster = self.header.cluster_size();
        let (first, within) = (at - at % cluster, at % cluster);
        let mut cache = self.cache();
        let unpacked = match &cache.unpacked {
            Some((held, bytes)) if *held == first => Arc::clone(bytes),
            _ => {
                let mut bytes = vec![0; packed.len()];
                self.file.read_exact_at(&mut bytes, packed.offset())?;
                let len = usize::try_from(cluster).map_err(|_| FormatError::Truncated)?;
                let unpacked = unpack(self.header.compression, &bytes, len)
                    .ok_or(FormatError::Compressed(first))?;
                let unpacked: Arc<[u8]> = unpacked.into();
                cache.unpacked = Some((first, Arc::clone(&unpacked)));
                unpacked
            }
        };
        let start = usize::try_from(within).unwrap_or(usize::MAX);
        let part = start
            .checked_add(buf.len())
            .and_then(|end| unpacked.get(start..end));
        buf.copy_from_slice(part.ok_or(FormatError::Compressed(first))?);
        Ok(())
    }
}

/// The piece of an extended entry from `within` the cluster on; none when the entry contradicts
/// itself.
fn subcluster_piece(host: u64, bits: u64, within: u64, subcluster: u64) -> Option<(Place, u64)> {
    let allocated = u32::try_from(bits & u64::from(u32::MAX)).ok()?;
    let zeros = u32::try_from(bits >> 32).ok()?;
    if allocated & zeros != 0 || (allocated != 0 && host == 0) {
        return None;
    }
    let first = u32::try_from(within / subcluster).ok()?;
    let (place, run) = if (allocated >> first) & 1 == 1 {
        (
            Place::Data(host + within),
            (allocated >> first).trailing_ones(),
        )
    } else if (zeros >> first) & 1 == 1 {
        (Place::Zeros, (zeros >> first).trailing_ones())
    } else {
        let rest = ((allocated | zeros) >> first).trailing_zeros();
        (Place::Below, rest.min(32 - first))
    };
    Some((place, u64::from(first + run) * subcluster - within))
}
