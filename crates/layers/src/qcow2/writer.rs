//! Writing layers: new ones, and data that a merge moves into one that exists.
//!
//! Clusters are taken from the end of the file, never from its middle, so that nothing is ever
//! overwritten but data of the very same place of the disk. What is new goes out in batches:
//!
//! ```text
//! data -> sync -> refcounts -> sync -> new and changed L2 tables -> sync -> L1 entries
//! ```
//!
//! A crash between two of them leaves clusters that are counted and not used, at worst. A new
//! layer has no name before all of it is synced, so it skips the syncs in between, and its data may
//! be written by several threads at once, each to the places that it was given
//! ([`place`](Writer::place)).

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};

use stillpoint_model::ByteRange;

use super::header::{CLUSTER_SIZE, Header, L1_ENTRIES, ReadError, be64};
use super::{FormatError, disk};

/// L2 tables in memory before a batch goes out: 8 MiB.
const MAX_TABLES: usize = 64;
/// Data written before a batch goes out, in bytes, when batches are synced.
const MAX_BATCH: u64 = 64 << 20;
/// Clusters that one refcount block counts.
const CLUSTERS_PER_BLOCK: u64 = CLUSTER_SIZE / 2;
const ENTRY: u64 = 16;
const L2_ENTRIES: u64 = CLUSTER_SIZE / ENTRY;
const SUBCLUSTER: u64 = CLUSTER_SIZE / 32;
/// Marks an entry whose cluster is counted once.
const COPIED: u64 = 1 << 63;
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// A layer of ours, open for writing.
pub(super) struct Writer {
    file: File,
    size: u64,
    /// Whether others may look at the file while it is written.
    is_live: bool,
    /// Whether nothing shows below it, so that nothing need say that it is zero.
    is_root: bool,
    refcount_table: Vec<u64>,
    refcount_table_offset: u64,
    l1: Vec<u64>,
    l1_offset: u64,
    /// L1 entries not written yet.
    new_l1: Vec<usize>,
    tables: BTreeMap<usize, Table>,
    /// The first cluster that is not counted in the file yet, and the first that is free.
    counted: u64,
    next: u64,
    batch_bytes: u64,
    /// What the file's mode must be afterwards.
    mode: Option<u32>,
}

/// A part of some data, and where in the file it belongs.
pub(super) struct Piece {
    pub from: usize,
    pub len: usize,
    pub host: u64,
}

struct Table {
    offset: u64,
    bytes: Vec<u8>,
    is_changed: bool,
}

impl Writer {
    /// For a file that was just made by [`write_empty`].
    pub(super) fn new_layer(file: File, header: &Header) -> Self {
        let entries = L1_ENTRIES as usize;
        let mut refcount_table = vec![0; entries];
        refcount_table[0] = 2 * CLUSTER_SIZE;
        Self {
            file,
            size: header.size,
            is_live: false,
            is_root: header
                .identity
                .is_none_or(|identity| identity.parent.is_none()),
            refcount_table,
            refcount_table_offset: header.refcount_table_offset,
            l1: vec![0; entries],
            l1_offset: header.l1_offset,
            new_l1: Vec::new(),
            tables: BTreeMap::new(),
            counted: 4,
            next: 4,
            batch_bytes: 0,
            mode: None,
        }
    }

    /// For a layer that exists and gets data of a disk of `size` bytes. `mode` is what the
    /// file's mode will be when this is dropped.
    pub(super) fn existing(
        file: File,
        header: &Header,
        size: u64,
        mode: u32,
    ) -> Result<Self, ReadError> {
        if header.is_dirty {
            return Err(FormatError::Dirty.into());
        }
        if header.cluster_size() != CLUSTER_SIZE
            || !header.extended_l2
            || header.refcount_order != 4
            || header.l1_entries < L1_ENTRIES
        {
            return Err(FormatError::Header("it is not as layers are").into());
        }
        let mut writer = Self::new_layer(file, header);
        writer.is_live = true;
        writer.size = size;
        writer.mode = Some(mode);
        let clusters = usize::try_from(header.refcount_table_clusters).unwrap_or(1);
        let table_len = clusters.saturating_mul(L1_ENTRIES as usize);
        writer.refcount_table = read_u64s(&writer.file, header.refcount_table_offset, table_len)?;
        writer.l1 = read_u64s(&writer.file, header.l1_offset, L1_ENTRIES as usize)?;
        writer.next = writer.first_free()?;
        writer.counted = writer.next;
        // What lies behind is left of a batch that was cut off; new clusters must be zeros.
        disk::set_len(&writer.file, writer.next * CLUSTER_SIZE)?;
        Ok(writer)
    }

    /// Gives data of a new layer its places, where it must be before [`finish`](Writer::finish).
    /// Whole subclusters.
    pub(super) fn place(&mut self, offset: u64, len: usize) -> Result<Vec<Piece>, ReadError> {
        let mut pieces: Vec<Piece> = vec![];
        for (from, len) in by_cluster(offset, len) {
            let at = offset + from as u64;
            let (cluster, bitmap) = self.cluster_of(at)?;
            let bits = bits_of(at % CLUSTER_SIZE, len as u64);
            self.set_entry(at, cluster | COPIED, (bitmap | bits) & !(bits << 32))?;
            let host = cluster + at % CLUSTER_SIZE;
            match pieces.last_mut() {
                Some(last) if last.host + last.len as u64 == host => last.len += len,
                _ => pieces.push(Piece { from, len, host }),
            }
        }
        self.batch_bytes += len as u64;
        Ok(pieces)
    }

    /// Takes clusters for a range of a new layer, in order; gives where they are in the file. They
    /// hold nothing yet.
    pub(super) fn reserve(&mut self, offset: u64, len: u64) -> Result<ByteRange, ReadError> {
        let start = self.next * CLUSTER_SIZE;
        let mut at = offset;
        while at < offset + len {
            let (cluster, bitmap) = self.cluster_of(at)?;
            self.set_entry(at, cluster | COPIED, bitmap)?;
            at = (at / CLUSTER_SIZE + 1) * CLUSTER_SIZE;
        }
        let end = self.next * CLUSTER_SIZE;
        disk::set_len(&self.file, end)?;
        Ok(ByteRange::new(start, end - start))
    }

    /// Stores data. Whole subclusters, except at the end of the disk.
    pub(super) fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), ReadError> {
        for (from, len) in by_cluster(offset, data.len()) {
            self.write_cluster(offset + from as u64, &data[from..from + len])?;
        }
        Ok(())
    }

    /// Stores zeros. Whole subclusters, except at the end of the disk.
    pub(super) fn zero_at(&mut self, offset: u64, len: u64) -> Result<(), ReadError> {
        let end = offset + len;
        let mut at = offset;
        while at < end {
            let l1_index = index(at / (L2_ENTRIES * CLUSTER_SIZE));
            if self.is_root && self.l1.get(l1_index).is_none_or(|entry| *entry == 0) {
                at = (at / (L2_ENTRIES * CLUSTER_SIZE) + 1) * (L2_ENTRIES * CLUSTER_SIZE);
                continue;
            }
            let stop = (at / CLUSTER_SIZE + 1) * CLUSTER_SIZE;
            self.zero_cluster(at, stop.min(end) - at)?;
            at = stop;
        }
        Ok(())
    }

    /// Writes out everything and makes it durable.
    pub(super) fn finish(mut self) -> Result<(), ReadError> {
        self.write_batch()?;
        disk::sync_data(&self.file)?;
        Ok(())
    }

    fn write_cluster(&mut self, offset: u64, data: &[u8]) -> Result<(), ReadError> {
        let within = offset % CLUSTER_SIZE;
        let bits = bits_of(within, data.len() as u64);
        let (host, bitmap) = self.cluster_of(offset)?;
        disk::write(&self.file, data, host + within)?;
        let padding = data.len().next_multiple_of(index(SUBCLUSTER)) - data.len();
        if padding > 0 {
            let end = host + within + data.len() as u64;
            disk::write(&self.file, &vec![0; padding], end)?;
        }
        self.batch_bytes += data.len() as u64;
        self.set_entry(offset, host | COPIED, (bitmap | bits) & !(bits << 32))?;
        if self.is_live && self.batch_bytes >= MAX_BATCH {
            self.write_batch()?;
        }
        Ok(())
    }

    /// The cluster that an offset's data is in, or a new one, and the entry's bitmap.
    fn cluster_of(&mut self, offset: u64) -> Result<(u64, u64), ReadError> {
        let (entry, bitmap) = self.entry(offset)?;
        let host = entry & OFFSET;
        if host == 0 {
            return Ok((self.take_cluster(), bitmap));
        }
        if entry & COPIED == 0 || !host.is_multiple_of(CLUSTER_SIZE) {
            return Err(FormatError::Entry(offset).into());
        }
        Ok((host, bitmap))
    }

    fn zero_cluster(&mut self, offset: u64, len: u64) -> Result<(), ReadError> {
        let bits = bits_of(offset % CLUSTER_SIZE, len);
        let (entry, bitmap) = self.entry(offset)?;
        let zeros = if self.is_root { 0 } else { bits << 32 };
        let changed = (bitmap & !bits & !(bits << 32)) | zeros;
        if changed == bitmap {
            Ok(())
        } else {
            self.set_entry(offset, entry, changed)
        }
    }

    /// The table that has the entry of `offset`, read or made.
    fn table(&mut self, offset: u64) -> Result<&mut Table, ReadError> {
        let l1_index = index(offset / (L2_ENTRIES * CLUSTER_SIZE));
        let place = self.l1.get(l1_index).ok_or(FormatError::Entry(offset))? & OFFSET;
        if !self.tables.contains_key(&l1_index) {
            if self.tables.len() >= MAX_TABLES {
                self.write_batch()?;
                self.tables.clear();
            }
            let mut bytes = vec![0; index(CLUSTER_SIZE)];
            let offset = if place == 0 {
                let offset = self.take_cluster();
                self.l1[l1_index] = offset | COPIED;
                self.new_l1.push(l1_index);
                offset
            } else {
                self.file.read_exact_at(&mut bytes, place)?;
                place
            };
            let is_changed = place == 0;
            self.tables.insert(
                l1_index,
                Table {
                    offset,
                    bytes,
                    is_changed,
                },
            );
        }
        self.tables
            .get_mut(&l1_index)
            .ok_or(FormatError::Entry(offset).into())
    }

    fn entry(&mut self, offset: u64) -> Result<(u64, u64), ReadError> {
        let at = entry_at(offset);
        let bytes = &self.table(offset)?.bytes;
        let (entry, bitmap) = (be64(bytes, at)?, be64(bytes, at + 8)?);
        if entry & !(OFFSET | COPIED) != 0 {
            return Err(FormatError::Entry(offset).into());
        }
        Ok((entry, bitmap))
    }

    fn set_entry(&mut self, offset: u64, entry: u64, bitmap: u64) -> Result<(), ReadError> {
        let at = entry_at(offset);
        let table = self.table(offset)?;
        table.bytes[at..at + 8].copy_from_slice(&entry.to_be_bytes());
        table.bytes[at + 8..at + 16].copy_from_slice(&bitmap.to_be_bytes());
        table.is_changed = true;
        Ok(())
    }

    /// A cluster at the end of the file.
    fn take_cluster(&mut self) -> u64 {
        let offset = self.next * CLUSTER_SIZE;
        self.next += 1;
        offset
    }

    fn write_batch(&mut self) -> Result<(), ReadError> {
        let is_changed = self.next != self.counted
            || self.batch_bytes > 0
            || self.tables.values().any(|table| table.is_changed);
        if !is_changed {
            return Ok(());
        }
        self.barrier()?;
        self.count_clusters()?;
        disk::set_len(&self.file, self.next * CLUSTER_SIZE)?;
        self.barrier()?;
        for table in self.tables.values_mut().filter(|table| table.is_changed) {
            disk::write(&self.file, &table.bytes, table.offset)?;
            table.is_changed = false;
        }
        self.barrier()?;
        for l1_index in self.new_l1.drain(..) {
            let place = self.l1_offset + l1_index as u64 * 8;
            disk::write(&self.file, &self.l1[l1_index].to_be_bytes(), place)?;
        }
        self.batch_bytes = 0;
        Ok(())
    }

    fn barrier(&self) -> io::Result<()> {
        if self.is_live {
            disk::sync_data(&self.file)
        } else {
            Ok(())
        }
    }

    /// Counts the clusters taken since the last batch, and those of new refcount blocks.
    fn count_clusters(&mut self) -> Result<(), ReadError> {
        while self.counted < self.next {
            let block_index = index(self.counted / CLUSTERS_PER_BLOCK);
            let mut block = *self
                .refcount_table
                .get(block_index)
                .ok_or(FormatError::Header("its length"))?;
            if block == 0 {
                block = self.take_cluster();
                self.refcount_table[block_index] = block;
                let place = self.refcount_table_offset + block_index as u64 * 8;
                disk::write(&self.file, &block.to_be_bytes(), place)?;
            }
            let first = self.counted % CLUSTERS_PER_BLOCK;
            let count = (self.next - self.counted).min(CLUSTERS_PER_BLOCK - first);
            let ones = [0, 1].repeat(index(count));
            disk::write(&self.file, &ones, block + first * 2)?;
            self.counted += count;
        }
        Ok(())
    }

    /// The cluster behind the last that is counted.
    fn first_free(&self) -> Result<u64, ReadError> {
        for (block_index, block) in self.refcount_table.iter().enumerate().rev() {
            if *block == 0 {
                continue;
            }
            let mut counts = vec![0; index(CLUSTER_SIZE)];
            read_padded(&self.file, *block, &mut counts)?;
            let last = counts.chunks(2).rposition(|count| count != [0, 0]);
            if let Some(last) = last {
                return Ok(block_index as u64 * CLUSTERS_PER_BLOCK + last as u64 + 1);
            }
        }
        Err(FormatError::Header("its refcounts").into())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(mode) = self.mode {
            // The mode protects against mistakes alone; the pool knows what is sealed.
            let _protection_only = disk::set_file_mode(&self.file, Permissions::from_mode(mode));
        }
    }
}

/// Writes what an empty layer consists of. The file is empty, and is not synced.
pub(super) fn write_empty(file: &File, header: &Header) -> Result<(), ReadError> {
    disk::set_len(file, 4 * CLUSTER_SIZE)?;
    disk::write(file, &header.encode()?, 0)?;
    disk::write(file, &(2 * CLUSTER_SIZE).to_be_bytes(), CLUSTER_SIZE)?;
    disk::write(file, &[0, 1, 0, 1, 0, 1, 0, 1], 2 * CLUSTER_SIZE)?;
    Ok(())
}

/// Cuts data at `offset` where clusters end: from where, and how long.
fn by_cluster(offset: u64, len: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = len.checked_sub(from).filter(|rest| *rest > 0)?;
        let room = CLUSTER_SIZE - (offset + from as u64) % CLUSTER_SIZE;
        let part = index(room).min(rest);
        from += part;
        Some((from - part, part))
    })
}

/// The allocation bits of a stretch inside a cluster.
fn bits_of(within: u64, len: u64) -> u64 {
    let first = within / SUBCLUSTER;
    let end = (within + len).div_ceil(SUBCLUSTER);
    ((1 << (end - first)) - 1) << first
}

/// Where the entry of an offset is in its table.
fn entry_at(offset: u64) -> usize {
    index(offset / CLUSTER_SIZE % L2_ENTRIES * ENTRY)
}

fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn read_u64s(file: &File, offset: u64, count: usize) -> Result<Vec<u64>, ReadError> {
    let mut bytes = vec![0; count * 8];
    read_padded(file, offset, &mut bytes)?;
    Ok((0..count)
        .map(|at| be64(&bytes, at * 8))
        .collect::<Result<_, _>>()?)
}

/// Reads what is there; what lies behind the end of the file is zeros.
fn read_padded(file: &File, offset: u64, buf: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], offset + done as u64)? {
            0 => break,
            count => done += count,
        }
    }
    buf[done..].fill(0);
    Ok(())
}
