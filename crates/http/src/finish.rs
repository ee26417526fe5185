//! What happens to every request and every answer.
//!
//! Each request gets an id. Each error, wherever it came from (a handler, an extractor, the
//! router, a panic, a time limit), leaves as a problem document with that id. Each answer carries
//! the headers that keep browsers from being fooled.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use stillpoint_model::Env;
use stillpoint_model::id::RequestId;
use stillpoint_wire::{Problem, header};

use crate::error::ApiError;
use crate::state::App;

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Gives the request its id, and the answer its last shape.
pub(crate) async fn finish(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = RequestId::generate(app.env());
    request.extensions_mut().insert(id);
    let method = request.method().clone();
    // The route, never the path or the query: they hold names.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let is_api = request.uri().path().starts_with("/v1");
    let started = app.env().monotonic();

    let mut response = next.run(request).await;
    if let Some(error) = error_of(&response) {
        write_problem(&mut response, &error, id);
    }
    write_headers(response.headers_mut(), id, is_api);

    let took = elapsed(app.env(), started);
    let route = route.as_ref().map_or("-", MatchedPath::as_str);
    let status = response.status().as_u16();
    if response.status().is_server_error() {
        tracing::warn!(%method, route, status, ?took, request_id = %id, "answered with an error");
    } else {
        tracing::debug!(%method, route, status, ?took, request_id = %id, "answered");
    }
    response
}

/// The routes that take images, whose arrival has a limit of its own: silence.
const IMAGE_ROUTES: [&str; 2] = ["/v1/uploads", "/volumes/import"];

/// Ends what takes too long.
pub(crate) async fn time_limit(State(app): State<App>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    if route.is_some_and(|route| IMAGE_ROUTES.contains(&route.as_str())) {
        return next.run(request).await;
    }
    match tokio::time::timeout(app.settings().request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::internal().into_response(),
    }
}

/// What a panic answers. Its message went to the log, by way of the panic hook.
pub(crate) fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    ApiError::internal().into_response()
}

fn elapsed(env: &dyn Env, started: Duration) -> Duration {
    env.monotonic().saturating_sub(started)
}

/// The error that a response stands for, unless it tells of it itself, as pages do.
fn error_of(response: &Response) -> Option<ApiError> {
    if let Some(error) = response.extensions().get::<ApiError>() {
        return Some(error.clone());
    }
    let status = response.status();
    let is_page = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/html"));
    let is_error = status.is_client_error() || status.is_server_error();
    (is_error && !is_page).then(|| ApiError::from_status(status))
}

fn write_problem(response: &mut Response, error: &ApiError, id: RequestId) {
    let mut problem = Problem::from(error.refusal());
    problem.request_id = Some(id);
    *response.body_mut() = Body::from(serde_json::to_vec(&problem).unwrap_or_default());
    *response.status_mut() =
        StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, PROBLEM_JSON);
    if let Some(seconds) = problem.retry_after_s {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if problem.status == 401 {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
}

fn write_headers(headers: &mut HeaderMap, id: RequestId, is_api: bool) {
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        headers.insert(HeaderName::from_static(header::REQUEST_ID), id);
    }
    // Pages bring their own, wider policies.
    let defaults = [
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (REFERRER_POLICY, "same-origin"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in defaults {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    if is_api {
        headers
            .entry(CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-store"));
    }
}
