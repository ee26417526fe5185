//! A new qcow2 image of which all is known before it is written.
//!
//! ```text
//! header | L1 table | refcount table | refcount blocks | L2 tables | data clusters, by position
//! ```
//!
//! Where data is in a backup is known from its tree, so every table can be made first: the image is
//! written in one go, to a pipe as well, and in a file every piece has its place, whatever the order
//! in which it arrives. It is of version 3, with clusters of 64 KiB and nothing optional, so that
//! everything reads it. The format is QEMU's `docs/interop/qcow2.txt`.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use stillpoint_model::{ByteCount, ByteRange};

use crate::volume::VolumeWriter;

/// Bytes of a cluster.
pub(super) const CLUSTER: u64 = 64 << 10;
const CLUSTER_BITS: u32 = 16;
/// A disk is so many of these long.
const SECTOR: u64 = 512;
const HEADER_LEN: u32 = 104;
/// Entries of an L2 table, and of a cluster of the L1 or the refcount table.
const ENTRIES: u64 = CLUSTER / 8;
/// Refcounts, of 16 bits each, in a block.
const COUNTS: u64 = CLUSTER / 2;
/// The largest L1 table that QEMU takes, in bytes.
const MAX_L1_BYTES: u64 = 32 << 20;
/// The cluster is this table's alone.
const COPIED: u64 = 1 << 63;

/// Guest clusters that follow each other, and so do their data clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The first guest cluster.
    first: u64,
    count: u64,
    /// The number of the first one's data cluster.
    data: u64,
}

/// Where everything is in the image.
#[derive(Debug)]
pub(super) struct Layout {
    size: u64,
    runs: Vec<Run>,
    /// The L2 tables that there are, by number.
    tables: Vec<u64>,
    l1_entries: u64,
    refcount_clusters: u64,
    refcount_blocks: u64,
    data_clusters: u64,
}

impl Layout {
    /// Of a volume whose data is in these ranges, in order. None when it is too large for qcow2.
    pub(super) fn new(size: ByteCount, data: impl IntoIterator<Item = ByteRange>) -> Option<Self> {
        let size = size.get();
        let (mut runs, mut tables): (Vec<Run>, Vec<u64>) = (vec![], vec![]);
        let mut data_clusters = 0;
        for range in data {
            let end = range.end().div_ceil(CLUSTER);
            let after = runs.last().map_or(0, |run| run.first + run.count);
            let first = (range.offset / CLUSTER).max(after);
            if first >= end {
                continue;
            }
            let run = Run {
                first,
                count: end - first,
                data: data_clusters,
            };
            data_clusters += run.count;
            match runs.last_mut() {
                Some(last) if first == after => last.count += run.count,
                _ => runs.push(run),
            }
            let known = tables.last().map_or(0, |table| table + 1);
            tables.extend((first / ENTRIES).max(known)..=(end - 1) / ENTRIES);
        }
        let l1_entries = size.div_ceil(CLUSTER).div_ceil(ENTRIES).max(1);
        let mut layout = Self {
            size,
            runs,
            tables,
            l1_entries,
            refcount_clusters: 1,
            refcount_blocks: 1,
            data_clusters,
        };
        // They count themselves, so this goes on until it is enough.
        while layout.refcount_blocks * COUNTS < layout.clusters()
            || layout.refcount_clusters * ENTRIES < layout.refcount_blocks
        {
            layout.refcount_blocks = layout.clusters().div_ceil(COUNTS);
            layout.refcount_clusters = layout.refcount_blocks.div_ceil(ENTRIES);
        }
        (l1_entries * 8 <= MAX_L1_BYTES).then_some(layout)
    }

    fn l1_clusters(&self) -> u64 {
        self.l1_entries.div_ceil(ENTRIES)
    }

    /// The numbers of the first cluster of each part.
    fn refcounts_at(&self) -> u64 {
        1 + self.l1_clusters()
    }

    fn blocks_at(&self) -> u64 {
        self.refcounts_at() + self.refcount_clusters
    }

    fn tables_at(&self) -> u64 {
        self.blocks_at() + self.refcount_blocks
    }

    fn data_at(&self) -> u64 {
        self.tables_at() + self.tables.len() as u64
    }

    fn clusters(&self) -> u64 {
        self.data_at() + self.data_clusters
    }

    /// How long the image is.
    pub(super) fn len(&self) -> u64 {
        self.clusters() * CLUSTER
    }

    /// The guest's ranges that have data clusters, in order.
    pub(super) fn data(&self) -> impl Iterator<Item = ByteRange> {
        let range = |run: &Run| ByteRange::new(run.first * CLUSTER, run.count * CLUSTER);
        self.runs.iter().map(range)
    }

    /// The first run that ends after an offset of the guest.
    fn run_from(&self, offset: u64) -> Option<&Run> {
        let after = |run: &Run| (run.first + run.count) * CLUSTER <= offset;
        self.runs.get(self.runs.partition_point(after))
    }

    /// Where in the image an offset of the guest is, and how far it goes on there. None for
    /// zeros, with how far these go on.
    fn place(&self, offset: u64) -> (Option<u64>, u64) {
        let Some(run) = self.run_from(offset) else {
            return (None, u64::MAX - offset);
        };
        let (start, len) = (run.first * CLUSTER, run.count * CLUSTER);
        match offset.checked_sub(start) {
            None => (None, start - offset),
            Some(within) => {
                let at = (self.data_at() + run.data) * CLUSTER + within;
                (Some(at), len - within)
            }
        }
    }

    /// Writes everything but the data clusters, which follow.
    pub(super) fn write_tables(&self, out: &mut dyn Write) -> io::Result<()> {
        self.write_header(out)?;
        let tables = self.tables.iter().zip(self.tables_at()..);
        let mut next = 0;
        for (number, at) in tables {
            zeros(out, (number - next) * 8)?;
            entry(out, (at * CLUSTER) | COPIED)?;
            next = number + 1;
        }
        zeros(out, self.l1_clusters() * CLUSTER - next * 8)?;
        for block in 0..self.refcount_blocks {
            entry(out, (self.blocks_at() + block) * CLUSTER)?;
        }
        zeros(
            out,
            self.refcount_clusters * CLUSTER - self.refcount_blocks * 8,
        )?;
        for _ in 0..self.clusters() {
            out.write_all(&1_u16.to_be_bytes())?;
        }
        zeros(out, (self.refcount_blocks * COUNTS - self.clusters()) * 2)?;
        self.write_l2(out)
    }

    fn write_header(&self, out: &mut dyn Write) -> io::Result<()> {
        let small = |number: u64| u32::try_from(number).map_err(io::Error::other);
        let mut header = Vec::with_capacity(HEADER_LEN as usize);
        header.extend(b"QFI\xfb");
        header.extend(3_u32.to_be_bytes());
        header.extend([0; 12]); // no backing file
        header.extend(CLUSTER_BITS.to_be_bytes());
        header.extend(self.size.next_multiple_of(SECTOR).to_be_bytes());
        header.extend([0; 4]); // not encrypted
        header.extend(small(self.l1_entries)?.to_be_bytes());
        header.extend(CLUSTER.to_be_bytes());
        header.extend((self.refcounts_at() * CLUSTER).to_be_bytes());
        header.extend(small(self.refcount_clusters)?.to_be_bytes());
        header.extend([0; 12]); // no snapshots
        header.extend([0; 24]); // no features
        header.extend(4_u32.to_be_bytes()); // 16 bits for a refcount
        header.extend(HEADER_LEN.to_be_bytes());
        out.write_all(&header)?;
        zeros(out, CLUSTER - header.len() as u64)
    }

    fn write_l2(&self, out: &mut dyn Write) -> io::Result<()> {
        for table in &self.tables {
            let mut guest = table * ENTRIES;
            let end = guest + ENTRIES;
            while guest < end {
                let (at, len) = self.place(guest * CLUSTER);
                let stop = guest.saturating_add(len / CLUSTER).min(end);
                match at {
                    None => zeros(out, (stop - guest) * 8)?,
                    Some(at) => {
                        for more in 0..stop - guest {
                            entry(out, (at + more * CLUSTER) | COPIED)?;
                        }
                    }
                }
                guest = stop;
            }
        }
        Ok(())
    }
}

fn entry(out: &mut dyn Write, value: u64) -> io::Result<()> {
    out.write_all(&value.to_be_bytes())
}

fn zeros(out: &mut dyn Write, len: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), len), out).map(|_| ())
}

/// A new qcow2 file as what a restore writes: all that is data in the backup has its cluster.
#[derive(Debug)]
pub(super) struct Qcow2File {
    file: File,
    layout: Layout,
}

impl Qcow2File {
    /// Makes the file with its tables. `AlreadyExists` when it is there.
    pub(super) fn create(path: &Path, layout: Layout) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(path)?;
        let new = Self { file, layout };
        if let Err(error) = new.begin() {
            std::fs::remove_file(path)?;
            return Err(error);
        }
        Ok(new)
    }

    fn begin(&self) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, &self.file);
        self.layout.write_tables(&mut out)?;
        out.flush()?;
        self.file.set_len(self.layout.len())
    }

    /// Does something with each part of a range that is in one place, or is zeros.
    fn each(
        &self,
        range: ByteRange,
        mut act: impl FnMut(Option<u64>, std::ops::Range<usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mut offset, mut done) = (range.offset, 0);
        while offset < range.end() {
            let (at, len) = self.layout.place(offset);
            let len = len.min(range.end() - offset);
            let end = done + usize::try_from(len).map_err(io::Error::other)?;
            act(at, done..end)?;
            (offset, done) = (offset + len, end);
        }
        Ok(())
    }
}

impl VolumeWriter for Qcow2File {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let range = ByteRange::new(offset, data.len() as u64);
        self.each(range, |at, part| match at {
            Some(at) => self.file.write_all_at(&data[part], at),
            None => Err(io::Error::other("data where the backup has none")),
        })
    }

    fn write_zeros(&self, _range: ByteRange) -> io::Result<()> {
        // It is fresh: what is not written is zeros.
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let range = ByteRange::new(offset, buf.len() as u64);
        self.each(range, |at, part| match at {
            Some(at) => self.file.read_exact_at(&mut buf[part], at),
            None => {
                buf[part].fill(0);
                Ok(())
            }
        })
    }

    fn is_fresh(&self) -> bool {
        true
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<ByteRange>> {
        let run = self.layout.run_from(offset);
        Ok(run.map(|run| ByteRange::new(run.first * CLUSTER, run.count * CLUSTER)))
    }
}
