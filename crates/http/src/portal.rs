//! The portal: pages for tenants and administrators, rendered here.
//!
//! Every table, tab, filter and dialog has an address. A page works without scripts: forms post,
//! answers redirect, links are links, and a page on which something moves reloads itself. With
//! scripts a page is live ([`live`]), dialogs open over it, and countdowns tick
//! (`assets/portal.js`). What is not possible is shown disabled with its reason and the ways out
//! ([`ui`]), as the guard rails gave them.
//!
//! Left out: rules. What may be done comes with the views of `control`; what was asked for goes
//! to the same use cases that the API calls. No page holds a script or a style of its own, and
//! the content policy allows none.

mod admin;
mod assets;
mod backup;
mod error;
mod icon;
mod image;
mod instance;
mod instance_snapshot;
mod item;
mod layout;
mod list;
mod live;
mod operation;
mod overview;
mod paths;
mod restore;
mod session;
mod sign_in;
mod snapshot;
mod text;
mod token;
mod ui;
mod upload;
mod volume;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::state::App;

/// Only what this server serves, nothing inline, nothing evaluated, no frame around it.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; \
     frame-ancestors 'none'";

/// Every page.
pub(crate) fn router() -> Router<App> {
    let no_store = HeaderValue::from_static("no-store");
    let policy = HeaderValue::from_static(CONTENT_POLICY);
    Router::new()
        .merge(overview::routes())
        .merge(sign_in::routes())
        .merge(instance::routes())
        .merge(instance_snapshot::routes())
        .merge(image::routes())
        .merge(volume::routes())
        .merge(snapshot::routes())
        .merge(backup::routes())
        .merge(operation::routes())
        .merge(token::routes())
        .merge(admin::routes())
        .route(live::PATH, get(live::stream))
        .route("/assets/{hash}/{*name}", get(assets::serve))
        .layer(SetResponseHeaderLayer::if_not_present(
            CACHE_CONTROL,
            no_store,
        ))
        .layer(SetResponseHeaderLayer::overriding(
            CONTENT_SECURITY_POLICY,
            policy,
        ))
}

/// The page for an address that has none, for browsers.
pub(crate) fn nothing_here() -> Response {
    let policy = [(CONTENT_SECURITY_POLICY, CONTENT_POLICY)];
    (policy, error::Failure::not_found("page")).into_response()
}
