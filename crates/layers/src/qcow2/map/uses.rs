//! What an upload says to hold, held against what was sent: an image that stands alone uses each
//! of its clusters once, and compressed data unpacks to no more than compression explains.
//!
//! Otherwise a few hundred kilobytes could name one cluster a million times, and whoever sent them
//! would fill a pool with it. All tables are read once for this, before anything is written.

use super::super::header::{ReadError, be64};
use super::super::{FormatError, compressed::Packed};
use super::{COMPRESSED, Map, OFFSET};

/// What Deflate can do, and a little more: it makes of one byte 1,032 at most.
const MOST_PER_BYTE: u64 = 1_100;
/// So much harms nobody, whatever was sent for it.
const HARMLESS: u64 = 1 << 30;

/// The clusters of a file, each used or not.
struct Used(Vec<u64>);

impl Used {
    /// Notes a use; whether it is the first. What is outside of the file is found elsewhere.
    fn is_first(&mut self, cluster: u64) -> bool {
        let word = usize::try_from(cluster / 64).ok();
        let Some(word) = word.and_then(|index| self.0.get_mut(index)) else {
            return true;
        };
        let bit = 1 << (cluster % 64);
        let first = *word & bit == 0;
        *word |= bit;
        first
    }
}

impl Map {
    /// Refuses an image that holds one cluster in two places, or unpacks to more than it can hold.
    pub(in super::super) fn check_uses(&self) -> Result<(), ReadError> {
        let cluster = self.header.cluster_size();
        let words = self.file_len.div_ceil(cluster).div_ceil(64);
        let words = usize::try_from(words).map_err(|_| FormatError::Truncated)?;
        let (mut used, mut unpacked) = (Used(vec![0; words]), 0_u64);
        let span = self.header.l2_span();
        for index in 0..self.header.size.div_ceil(span) {
            if self.l1_entry(index) == 0 {
                continue;
            }
            let table = self.table(index)?;
            let disk_left = self.header.size - index * span;
            let entries = disk_left.min(span).div_ceil(cluster);
            for entry in 0..entries {
                let at = usize::try_from(entry * self.header.l2_entry_size());
                let entry = be64(&table, at.map_err(|_| FormatError::Truncated)?)?;
                unpacked += self.note_use(entry, &mut used)?;
            }
        }
        if unpacked > HARMLESS.max(self.file_len.saturating_mul(MOST_PER_BYTE)) {
            return Err(FormatError::Unpacks {
                sent: self.file_len,
                unpacked,
            }
            .into());
        }
        Ok(())
    }

    /// Notes what an L2 entry names; to how much it unpacks.
    fn note_use(&self, entry: u64, used: &mut Used) -> Result<u64, FormatError> {
        if entry & COMPRESSED != 0 {
            let inside = Packed::new(entry, self.header.cluster_bits, self.file_len).is_some();
            return Ok(if inside {
                self.header.cluster_size()
            } else {
                0
            });
        }
        let host = entry & OFFSET;
        if host == 0 || used.is_first(host / self.header.cluster_size()) {
            return Ok(0);
        }
        Err(FormatError::Overlap {
            what: "data",
            offset: host,
        })
    }
}
