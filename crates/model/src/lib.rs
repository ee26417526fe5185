//! The rules of Stillpoint as pure data and functions.
//!
//! Everything that could lose data or money is decided here once, and asked by the API, the
//! portal, the CLI and the engine alike.
//!
//! **Invariant:** no I/O, no async, no clock, no randomness. Time and ids are arguments; the
//! only way to either is the [`env::Env`] that the binary hands down.

pub mod account;
pub mod audit;
pub mod backup;
pub mod bytes;
pub mod care;
pub mod compression;
pub mod env;
pub mod error;
pub mod event;
pub mod guard;
pub mod id;
pub mod image;
pub mod instance;
pub mod instance_snapshot;
pub mod item;
pub mod keep_for;
pub mod layer_tree;
pub mod name;
pub mod naming;
pub mod operation;
pub mod place;
pub mod plan;
pub mod progress;
pub mod question;
pub mod refusal;
pub mod saga;
pub mod snapshot;
pub mod task;
pub mod time;
pub mod upload;
pub mod volume;
pub mod words;

pub use bytes::{ByteCount, ByteRange};
pub use env::Env;
pub use error::ErrorKind;
pub use time::Timestamp;
