//! Operations.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Deserialize;
use stillpoint_control::operation::{self, OperationQuery};
use stillpoint_model::id::OperationId;
use stillpoint_wire::Page;
use stillpoint_wire::operation::{Operation, Reason};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::credential::Caller;
use crate::error::{ApiError, Result};
use crate::input::{IdempotencyKey, JsonBody, NoQuery, QueryOf, list_query, optional_reference};
use crate::reply;
use crate::state::App;

/// The longest reason.
const MAX_REASON_CHARS: usize = 1000;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(operation_list))
        .routes(routes!(operation_show))
        .routes(routes!(operation_cancel))
        .routes(routes!(operation_release))
        .routes(routes!(operation_retry))
}

/// Which operations.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OperationListQuery {
    /// `next_page` of the page before.
    page: Option<String>,
    /// How many items, 1 to 500; 50 when absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// Only those about this volume, by id or name. One that is gone goes by its id.
    volume: Option<String>,
    /// Only those about this instance, by id or name. One that is gone goes by its id.
    instance: Option<String>,
    /// Only those under way, or only those that are over.
    in_flight: Option<bool>,
    /// Those of every account. For administrators.
    #[serde(default)]
    all_accounts: bool,
}

fn parse(id: &str) -> Result<OperationId> {
    id.parse().map_err(|_| ApiError::not_found("operation"))
}

/// The reason that an operator gave: something, and not a book.
fn reason(body: &Reason) -> Result<&str> {
    let text = body.reason.trim();
    if text.is_empty() || text.chars().count() > MAX_REASON_CHARS {
        let text = format!("Give a reason of 1 to {MAX_REASON_CHARS} characters.");
        return Err(ApiError::invalid("/reason", text));
    }
    Ok(text)
}

/// Your operations, newest first.
#[utoipa::path(get, path = "/v1/operations", tag = "operations", params(OperationListQuery),
    responses((status = 200, description = "A page of operations", body = Page<Operation>)))]
async fn operation_list(
    State(app): State<App>,
    Caller(actor): Caller,
    QueryOf(query): QueryOf<OperationListQuery>,
) -> Result<Json<Page<Operation>>> {
    let query = OperationQuery {
        page: list_query(query.page.as_deref(), query.limit)?,
        volume: optional_reference(query.volume.as_deref(), "volume", "?volume")?,
        instance: optional_reference(query.instance.as_deref(), "instance", "?instance")?,
        in_flight: query.in_flight,
        all_accounts: query.all_accounts,
    };
    let page = operation::list(app.cx(), &actor, &query).await?;
    Ok(Json(reply::page(page, Operation::from)))
}

/// One operation.
#[utoipa::path(get, path = "/v1/operations/{operation}", tag = "operations",
    params(("operation" = String, Path, description = "Id of the operation")),
    responses((status = 200, description = "The operation", body = Operation)))]
async fn operation_show(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    _: QueryOf<NoQuery>,
) -> Result<Json<Operation>> {
    let operation = operation::show(app.cx(), &actor, parse(&id)?).await?;
    Ok(Json(operation.into()))
}

/// Ask an operation to stop. Its steps are taken back.
#[utoipa::path(post, path = "/v1/operations/{operation}/cancel", tag = "operations",
    params(("operation" = String, Path, description = "Id of the operation")),
    responses((status = 200, description = "The operation as it is now", body = Operation)))]
async fn operation_cancel(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    _: QueryOf<NoQuery>,
    key: IdempotencyKey,
) -> Result<Json<Operation>> {
    let operation = operation::cancel(app.cx(), &actor, parse(&id)?, key.get()).await?;
    Ok(Json(operation.into()))
}

/// End an operation that is stuck: fence its worker off, mark it failed, release its volume. For
/// administrators.
#[utoipa::path(post, path = "/v1/operations/{operation}/release", tag = "operations",
    request_body = Reason,
    params(("operation" = String, Path, description = "Id of the operation")),
    responses((status = 200, description = "The operation as it is now", body = Operation)))]
async fn operation_release(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    _: QueryOf<NoQuery>,
    key: IdempotencyKey,
    JsonBody(body): JsonBody<Reason>,
) -> Result<Json<Operation>> {
    let reason = reason(&body)?;
    let operation = operation::release(app.cx(), &actor, parse(&id)?, reason, key.get()).await?;
    Ok(Json(operation.into()))
}

/// Ask again for what a failed operation was to do. For administrators.
#[utoipa::path(post, path = "/v1/operations/{operation}/retry", tag = "operations",
    request_body = Reason,
    params(("operation" = String, Path, description = "Id of the operation")),
    responses((status = 202, description = "The new operation", body = Operation,
        headers(("location" = String, description = "The new operation")))))]
async fn operation_retry(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    _: QueryOf<NoQuery>,
    key: IdempotencyKey,
    JsonBody(body): JsonBody<Reason>,
) -> Result<Response> {
    let reason = reason(&body)?;
    let operation = operation::retry(app.cx(), &actor, parse(&id)?, reason, key.get()).await?;
    Ok(reply::accepted(operation))
}
