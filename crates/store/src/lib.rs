//! The only SQL: rows, queries, migrations.
//!
//! [`Db`] is the door: [`Db::read`] for a consistent look, [`Db::write`] for a change that is
//! durable when it answers. Queries are named `resource_verb` and live in the file of their
//! resource; they read rows into the model's types and back. Those that read take a [`Conn`],
//! those that write take a [`Tx`], so a reader cannot write.
//!
//! The SQL keeps to what SQLite and PostgreSQL share: ids are TEXT, times are BIGINT
//! microseconds, truth values are BIGINT 0 or 1, JSON is TEXT.
//!
//! **Invariant:** no decisions. Nothing here knows what is allowed, what follows from what, or
//! what time it is; and nobody outside this crate writes SQL.

pub mod account;
pub mod audit;
pub mod backup;
pub mod backup_copy;
pub mod care;
mod copy;
mod db;
mod error;
pub mod event;
pub mod fill;
pub mod idempotency;
pub mod image;
pub mod instance;
pub mod instance_snapshot;
mod item;
mod migrate;
pub mod operation;
pub mod page;
pub mod place;
pub mod plan;
mod row;
pub mod session;
pub mod snapshot;
pub mod task;
pub mod token;
pub mod upload;
pub mod volume;

pub use copy::{database_check, database_copy};
pub use db::{Conn, Db, Durability, Options, Reader, Tx};
pub use error::{Error, Result};
