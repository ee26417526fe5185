//! Whether the server answers, and what it can be asked.

use axum::Json;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use stillpoint_wire::admin::Health;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::openapi;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(health))
        .routes(routes!(openapi_document))
}

/// Whether the server answers.
#[utoipa::path(get, path = "/healthz", tag = "server", security(),
    responses((status = 200, description = "It does", body = Health)))]
async fn health() -> Json<Health> {
    Json(Health {
        status: "ok".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "server", security(),
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")))]
async fn openapi_document() -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "application/json")],
        openapi::document_json(),
    )
}
