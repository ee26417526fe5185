//! The qcow2 format and the driver that keeps layers as files of it.

mod error;
mod upload;

pub use error::FormatError;
pub(crate) use upload::Upload;

/// The first bytes of every qcow2 file.
pub(crate) const MAGIC: [u8; 4] = *b"QFI\xfb";
