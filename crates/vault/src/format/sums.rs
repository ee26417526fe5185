//! Sums: what packs hash to, in the clear.
//!
//! Whoever reaches the target can compare packs with them, without any key. They tell rot, not
//! malice: who can write into the target can write both.

use super::object::{HEADER_LEN, Header};
use super::wire::{Malformed, Reader, Writer};

/// The longest object of sums that is read.
pub(crate) const MAX_SUMS_LEN: u64 = 4 << 20;
/// Packs in one object.
pub(crate) const MAX_SUMS: usize = 1 << 16;
const HASH_LEN: usize = 32;
const SUM_LEN: usize = 4 + 4 + HASH_LEN;

/// What a pack hashes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sum {
    /// The number of the pack in its run.
    pub seq: u32,
    /// Its length.
    pub len: u32,
    /// BLAKE3 of the whole object.
    pub hash: [u8; HASH_LEN],
}

impl Sum {
    /// Of a pack as it was put.
    pub(crate) fn of(seq: u32, pack: &[u8]) -> Result<Self, Malformed> {
        Ok(Self {
            seq,
            len: u32::try_from(pack.len()).map_err(|_| Malformed::Wrong("it is too long"))?,
            hash: *blake3::hash(pack).as_bytes(),
        })
    }
}

/// The whole object: header, sums by rising number, and the hash of all of it.
pub(crate) fn encode(header: &Header, mut sums: Vec<Sum>) -> Vec<u8> {
    sums.sort_unstable();
    let mut w = Writer::default();
    w.raw(&header.encode()).count(sums.len());
    for sum in &sums {
        w.u32(sum.seq).u32(sum.len).raw(&sum.hash);
    }
    let mut object = w.finish();
    let own = blake3::hash(&object);
    object.extend_from_slice(own.as_bytes());
    object
}

/// Reads the whole object.
pub(crate) fn decode(wanted: &Header, object: &[u8]) -> Result<Vec<Sum>, Malformed> {
    Header::expect(object, wanted)?;
    let body = object
        .len()
        .checked_sub(HASH_LEN)
        .filter(|end| *end >= HEADER_LEN)
        .and_then(|end| object.split_at_checked(end));
    let Some((body, own)) = body else {
        return Err(Malformed::Wrong("it is too short"));
    };
    if blake3::hash(body).as_bytes() != own {
        return Err(Malformed::Wrong("its hash is not that of its content"));
    }
    let mut r = Reader::new(&body[HEADER_LEN..]);
    let count = r.count(MAX_SUMS, SUM_LEN)?;
    let mut sums = Vec::with_capacity(count);
    for _ in 0..count {
        let sum = Sum {
            seq: r.u32()?,
            len: r.u32()?,
            hash: r.array()?,
        };
        if sums.last().is_some_and(|last: &Sum| last.seq >= sum.seq) {
            return Err(Malformed::Wrong("its packs are out of order"));
        }
        sums.push(sum);
    }
    r.finish()?;
    Ok(sums)
}
