//! The qcow2 format and the driver that keeps layers as files of it.

mod error;

pub use error::FormatError;
