//! The use cases: what the API, the portal and the CLI's server may ask for.
//!
//! A use case takes a narrow handle ([`Context`]), the [`Actor`](stillpoint_model::account::Actor)
//! that a credential stands for, and typed input. It reads the facts, asks
//! [`stillpoint_model::guard::can`], and answers a view, an accepted operation, or a refusal.
//!
//! What happens when somebody presses *Take snapshot*: [`snapshot::create`] -> [`admission`] (one
//! transaction: facts, guard, rows, lock, event, audit) -> [`engine`] (the saga, step by step) ->
//! [`board`] (what a node asks for work) -> [`event::subscribe`] (what the portal shows).
//!
//! **Invariant:** what belongs to somebody else is `not_found`: every look-up of a customer's
//! thing goes by the actor's account. No rule is decided here that `model` could decide. This
//! crate never touches volume data: it links neither pools, nor machines, nor the vault, and it
//! knows no files.

pub mod admin;
pub mod admission;
mod audit;
pub mod auth;
pub mod backup;
pub mod board;
pub mod bootstrap;
pub mod change;
pub mod console;
mod context;
pub mod engine;
mod error;
pub mod event;
pub mod image;
pub mod instance;
pub mod instance_snapshot;
pub mod item;
mod once;
pub mod operation;
pub mod page;
mod question;
pub mod reconcile;
mod reference;
pub mod restore;
pub mod saga;
mod secret;
pub mod snapshot;
pub mod token;
pub mod upkeep;
pub mod upload;
mod view;
pub mod volume;

pub use change::{Answer, Change, Preview};
pub use context::{Context, Settings};
pub use error::{Error, Result};
pub use page::{Cursor, ListQuery, Page};
pub use reference::Reference;
pub use secret::Secret;
pub use view::Permission;
