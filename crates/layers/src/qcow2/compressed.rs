//! Compressed clusters, which uploads may have and layers never do.

use std::io::Read;

use flate2::{Decompress, FlushDecompress};

use super::header::Compression;

/// The largest window that a zstd frame may ask for, log2: a cluster has at most 2^21 bytes.
const MAX_WINDOW_LOG: u32 = 22;

/// Where the bytes of a compressed cluster are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    offset: u64,
    len: u64,
}

impl Packed {
    /// From an L2 entry; none when it lies outside the file.
    pub(super) fn new(entry: u64, cluster_bits: u32, file_len: u64) -> Option<Self> {
        let offset_bits = 62 - (cluster_bits - 8);
        let offset = entry & ((1 << offset_bits) - 1);
        let sectors = (entry & ((1 << 62) - 1)) >> offset_bits;
        let len = (sectors + 1) * 512 - offset % 512;
        if offset < 1 << cluster_bits || offset >= file_len {
            return None;
        }
        // The last sector may be cut where the file ends.
        Some(Self {
            offset,
            len: len.min(file_len - offset),
        })
    }

    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// At most two clusters of 2 MiB.
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.len).unwrap_or(0)
    }
}

/// Unpacks exactly `len` bytes, or nothing.
pub(super) fn unpack(compression: Compression, bytes: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut out = vec![0; len];
    match compression {
        Compression::Deflate => {
            let mut inflate = Decompress::new(false);
            inflate
                .decompress(bytes, &mut out, FlushDecompress::Finish)
                .ok()?;
            (inflate.total_out() == len as u64).then_some(out)
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)
                .ok()?
                .single_frame();
            decoder.window_log_max(MAX_WINDOW_LOG).ok()?;
            decoder.read_exact(&mut out).ok()?;
            Some(out)
        }
    }
}
