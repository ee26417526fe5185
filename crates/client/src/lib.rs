//! Typed client of the public API.
//!
//! One method per request, named `resource_verb`. What the server refuses comes back as the
//! problem document it sent, with its code, text and ways out ([`Error::Problem`]). Nothing is
//! retried behind the caller's back but reading events and waiting, which survive a restart of
//! the server; a caller that wants to repeat a POST gives it an idempotency key.
//!
//! **Invariant:** knows the API alone, as anybody else's client would: no store, no control.

mod admin;
mod backup;
mod error;
mod event;
mod image;
mod instance;
mod instance_snapshot;
mod operation;
mod request;
mod restore;
mod session;
mod snapshot;
mod sse;
mod token;
mod upload;
mod volume;
mod wait;

pub use reqwest::Method;

pub use error::{Error, Result};
pub use event::EventStream;
pub use instance::DeleteVolumes;
pub use operation::OperationFilter;
pub use request::{Answer, Change, Client, Credential, ListQuery, RawAnswer, every_page};
pub use session::SignedIn;
pub use stillpoint_wire as wire;
