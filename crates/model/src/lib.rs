//! The rules of Stillpoint as pure data and functions.
//!
//! Everything that could lose data or money is decided here once, and asked by the API, the
//! portal, the CLI and the engine alike.
//!
//! **Invariant:** no I/O, no async, no clock, no randomness. Time and ids are arguments; the
//! only way to either is the [`env::Env`] that the binary hands down.

pub mod bytes;
pub mod env;
pub mod error;
pub mod id;
pub mod time;

pub use bytes::{ByteCount, ByteRange};
pub use env::Env;
pub use error::ErrorKind;
pub use time::Timestamp;
