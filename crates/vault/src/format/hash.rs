//! Chunk ids and the hash over a whole volume.
//!
//! A volume is hashed as a 64-ary Merkle tree by position: level 0 are the ids of its chunks,
//! level 1 spans of 64 chunks, and so on. Chunks of zeros have an id like any other and what lies
//! past the end counts as zeros, so that the hash covers the whole device; because an all-zero
//! subtree of a level always hashes the same, holes cost nothing.

use std::fmt;

use super::tree::MAX_LEVEL;
use super::{CHUNK_LEN, FANOUT};

/// 32 bytes of keyed BLAKE3.
pub(crate) type Hash = [u8; 32];

/// The id of a chunk: keyed BLAKE3 of its 16 KiB.
pub(crate) type ChunkId = Hash;

/// The hash over a whole volume under its vault's key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash(pub(crate) Hash);

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHash({self})")
    }
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes
        .iter()
        .flat_map(|&b| [digit(b >> 4), digit(b)])
        .collect()
}

/// The bytes of lower-case hex digits.
pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let nibble = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (nibble(pair[0])? << 4) | nibble(pair[1])?;
    }
    Some(out)
}

/// The keys of hashing, and the hashes of nothing but zeros.
pub(crate) struct Hasher {
    chunk_key: [u8; 32],
    tree_key: [u8; 32],
    zeros: [Hash; MAX_LEVEL as usize + 1],
}

static ZERO_CHUNK: [u8; CHUNK_LEN] = [0; CHUNK_LEN];

/// Whether a chunk holds only zeros.
pub(crate) fn is_zero(chunk: &[u8]) -> bool {
    ZERO_CHUNK
        .get(..chunk.len())
        .is_some_and(|zeros| zeros == chunk)
}

impl Hasher {
    pub(crate) fn new(chunk_key: [u8; 32], tree_key: [u8; 32]) -> Self {
        let mut hasher = Self {
            chunk_key,
            tree_key,
            zeros: [[0; 32]; MAX_LEVEL as usize + 1],
        };
        hasher.zeros[0] = hasher.chunk(&ZERO_CHUNK);
        for level in 1..=MAX_LEVEL {
            let below = hasher.zeros[usize::from(level) - 1];
            hasher.zeros[usize::from(level)] = hasher.node(level, (0..FANOUT).map(|_| below));
        }
        hasher
    }

    /// The id of a chunk.
    pub(crate) fn chunk(&self, chunk: &[u8]) -> ChunkId {
        *blake3::keyed_hash(&self.chunk_key, chunk).as_bytes()
    }

    /// The hash of a node from the hashes of its 64 children.
    pub(crate) fn node(&self, level: u8, children: impl Iterator<Item = Hash>) -> Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.tree_key);
        hasher.update(&[level]);
        for child in children {
            hasher.update(&child);
        }
        *hasher.finalize().as_bytes()
    }

    /// The hash of an all-zero subtree of this level.
    pub(crate) fn zero(&self, level: u8) -> Hash {
        self.zeros
            .get(usize::from(level))
            .copied()
            .unwrap_or([0; 32])
    }

    /// The hash over the whole volume from the hash of the top of its tree.
    pub(crate) fn content(&self, size: u64, level: u8, top: Hash) -> ContentHash {
        let mut hasher = blake3::Hasher::new_keyed(&self.tree_key);
        hasher
            .update(&[0xff])
            .update(&size.to_le_bytes())
            .update(&[level])
            .update(&top);
        ContentHash(*hasher.finalize().as_bytes())
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.chunk_key);
        zeroize::Zeroize::zeroize(&mut self.tree_key);
    }
}
