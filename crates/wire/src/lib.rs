//! The JSON of the public API.
//!
//! Requests refuse fields they do not know, so that a typo is an error and not a surprise.
//! Answers may gain fields; readers ignore what they do not know. Times are RFC 3339 in UTC,
//! sizes are whole bytes, states are the words of the model.
//!
//! **Invariant:** no logic. What crosses the wire is converted from the model by exhaustive
//! matches, so that a new state or field cannot be forgotten here.

mod words;

pub mod admin;
pub mod backup;
pub mod event;
pub mod header;
pub mod image;
pub mod instance;
pub mod instance_snapshot;
pub mod item;
pub mod operation;
pub mod page;
pub mod permission;
pub mod problem;
pub mod restore;
pub mod session;
pub mod snapshot;
pub mod token;
pub mod upload;
pub mod volume;

pub use page::Page;
pub use problem::Problem;
