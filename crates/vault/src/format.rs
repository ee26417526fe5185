//! The bytes of a vault, as `docs/vault-format.md` specifies them.
//!
//! One module per noun of the document. Everything is pure: bytes in, values out, or the reason
//! why not. Parsers take hostile input: they check every count and length against a limit and
//! against what is there before they allocate, and never panic.

pub(crate) mod epoch;
pub(crate) mod hash;
pub(crate) mod index;
mod keys;
pub(crate) mod manifest;
pub(crate) mod names;
pub(crate) mod object;
pub(crate) mod pack;
pub(crate) mod run;
pub(crate) mod sums;
pub(crate) mod tree;
pub(crate) mod wire;

#[cfg(test)]
pub(crate) mod tests;

pub use hash::ContentHash;
pub use keys::{AccountKey, KeyId, RootKey};
pub(crate) use keys::{KEY_OBJECT_LEN, KeyObject, VaultKeys};

/// The unit of deduplication.
pub const CHUNK_LEN: usize = 16 * 1024;

/// The most chunks that one frame compresses together.
pub const MAX_FRAME_CHUNKS: usize = 64;

/// How many children a node of the tree has, and how many chunks a span.
pub(crate) const FANOUT: usize = 64;

/// The largest volume: what a tree of the highest level holds (64 PiB).
pub const MAX_VOLUME_LEN: u64 = (CHUNK_LEN as u64) << (6 * tree::MAX_LEVEL as u64);
