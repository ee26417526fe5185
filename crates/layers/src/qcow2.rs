//! The qcow2 format and the driver that keeps layers as files of it.
//!
//! Written from QEMU's `docs/interop/qcow2.rst`, for versions 2 and 3, with plain and extended L2
//! entries. The modules carry the nouns of the format: [`header`], the cluster `map`, the
//! `writer` with its refcounts; `direct` goes past the page cache; `upload` reads other people's images, `folder` keeps ours.
//!
//! **Bounds.** Every length and offset is checked before anything is allocated or read. Memory
//! is bounded per open file: an L1 table of at most 32 MiB (128 KiB for ours) and a few MiB of
//! L2 tables.
//!
//! **Trust.** A layer is opened by its id; its own header must agree with the pool about the
//! layer's id and parent. The backing file name in it is there for people who must rescue data
//! with QEMU's tools; nothing is ever opened because a header names it.

mod compressed;
mod direct;
pub(crate) mod disk;
mod error;
mod folder;
mod header;
mod lock;
mod map;
#[cfg(test)]
mod tests;

mod upload;
mod writer;

pub use error::FormatError;
pub use folder::{Inspection, Qcow2Driver};
pub(crate) use upload::Upload;

/// The first bytes of every qcow2 file.
pub(crate) const MAGIC: [u8; 4] = *b"QFI\xfb";
