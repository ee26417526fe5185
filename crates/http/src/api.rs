//! REST `/v1`: one module per resource, one function per request.
//!
//! Handlers translate: text to typed input, use cases' answers to JSON. A route and its
//! documentation are one declaration, so neither can exist without the other.

#![expect(
    unused_qualifications,
    reason = "the macro that documents handlers writes them"
)]

mod admin;
mod backup;
mod event;
mod health;
mod image;
mod instance;
mod instance_snapshot;
mod operation;
mod restore;
mod session;
mod snapshot;
mod token;
mod upload;
mod volume;

pub(crate) use upload::receive_upload;
pub use upload::{remove_cut_off as remove_cut_off_uploads, sweep as sweep_uploads};

use utoipa_axum::router::OpenApiRouter;

use crate::state::App;

/// Every route of the API, with its documentation.
pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .merge(session::routes())
        .merge(token::routes())
        .merge(volume::routes())
        .merge(upload::routes())
        .merge(instance::routes())
        .merge(image::routes())
        .merge(instance_snapshot::routes())
        .merge(snapshot::routes())
        .merge(backup::routes())
        .merge(restore::routes())
        .merge(operation::routes())
        .merge(event::routes())
        .merge(admin::routes())
        .merge(health::routes())
}
