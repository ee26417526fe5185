//! REST, server-sent events, OpenAPI, portal pages.
//!
//! A request's way: [`serve`] accepts the connection; `finish` gives the request its id and its
//! answer the last shape; an extractor proves who asks (`credential`) and reads what is asked
//! (`input`); a handler in `api` calls one use case of `control` and translates the answer.
//! Whatever goes wrong on that way, in whichever layer, leaves as a problem document (RFC 9457)
//! with a stable code, a pointer to what is wrong, and the ways out; pages of the portal tell it
//! in words.
//!
//! **Invariant:** handlers translate. No rule is decided here and nothing is looked up but
//! through `control`, with the account that the credential stands for. The only files it touches
//! are uploads on their way in.

mod api;
mod credential;
mod error;
mod finish;
mod input;
pub mod openapi;
mod portal;
mod reply;
mod serve;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod unread;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::ACCEPT;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Router, middleware};
use stillpoint_control::Context;
use tower_http::catch_panic::CatchPanicLayer;

pub use api::{remove_cut_off_uploads, sweep_uploads};
pub use serve::serve;
pub use settings::HttpSettings;

use crate::error::ApiError;
use crate::state::App;

/// The largest body of a request that is not an upload.
const MAX_BODY_BYTES: usize = 1 << 20;

/// Everything that is served: the API, its description, and the portal.
pub fn router(cx: Context, settings: HttpSettings) -> Router {
    let (api, _) = api::routes().split_for_parts();
    let routes = api.merge(portal::router()).fallback(nothing_here);
    guarded(routes, App::new(cx, settings))
}

/// What goes around every route: an id for the request, limits, and one shape for every error.
fn guarded(routes: Router<App>, app: App) -> Router {
    routes
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(
            app.clone(),
            finish::time_limit,
        ))
        .layer(CatchPanicLayer::custom(finish::panicked))
        .layer(middleware::from_fn_with_state(app.clone(), finish::finish))
        .layer(middleware::from_fn(unread::close_after))
        .with_state(app)
}

/// An address that there is not: a page for browsers, a problem for programs.
async fn nothing_here(request: Request) -> Response {
    let accept = request
        .headers()
        .get(ACCEPT)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    let is_browser = accept.starts_with(b"text/html");
    if is_browser && !request.uri().path().starts_with("/v1") {
        return portal::nothing_here();
    }
    ApiError::from_status(StatusCode::NOT_FOUND).into_response()
}
