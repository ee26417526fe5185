//! Snapshots.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use stillpoint_control::item::ItemQuery;
use stillpoint_control::snapshot::{self, SnapshotView};
use stillpoint_wire::Page;
use stillpoint_wire::item::{ItemContext, ItemPatch};
use stillpoint_wire::operation::Operation;
use stillpoint_wire::permission::Preview;
use stillpoint_wire::snapshot::{Snapshot, SnapshotCreate};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::credential::Caller;
use crate::error::Result;
use crate::input::{
    ChangeOf, ChangeQuery, DeleteOf, DeleteQuery, ItemListQuery, JsonBody, NoQuery, QueryOf,
    confirm_in_query, item_create, item_update, optional_name, reference, reference_at,
};
use crate::reply;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(snapshot_list, snapshot_create))
        .routes(routes!(snapshot_show, snapshot_update, snapshot_delete))
}

fn snapshot(view: SnapshotView) -> Snapshot {
    let actions = reply::permissions(&view.permissions);
    let context = ItemContext {
        source_exists: view.source_exists,
        active_operation: view.active_operation,
        confirm: view.confirm,
        actions,
    };
    Snapshot::new(view.snapshot, context)
}

fn tagged(view: SnapshotView) -> impl IntoResponse {
    reply::tagged(view.snapshot.version, snapshot(view))
}

/// Your snapshots, newest first.
#[utoipa::path(get, path = "/v1/snapshots", tag = "snapshots", params(ItemListQuery),
    responses((status = 200, description = "A page of snapshots", body = Page<Snapshot>)))]
async fn snapshot_list(
    State(app): State<App>,
    Caller(actor): Caller,
    QueryOf(query): QueryOf<ItemListQuery>,
) -> Result<Json<Page<Snapshot>>> {
    let (page, volume) = query.parts()?;
    let query = ItemQuery { page, volume };
    let page = snapshot::list(app.cx(), &actor, &query).await?;
    Ok(Json(reply::page(page, snapshot)))
}

/// One snapshot.
#[utoipa::path(get, path = "/v1/snapshots/{snapshot}", tag = "snapshots",
    params(("snapshot" = String, Path, description = "Id or name")),
    responses((status = 200, description = "The snapshot", body = Snapshot,
        headers(("etag" = String, description = "Its version, for `If-Match`")))))]
async fn snapshot_show(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    _: QueryOf<NoQuery>,
) -> Result<impl IntoResponse> {
    let reference = reference(&id, "snapshot")?;
    Ok(tagged(snapshot::show(app.cx(), &actor, &reference).await?))
}

/// Take a snapshot of a volume.
#[utoipa::path(post, path = "/v1/snapshots", tag = "snapshots", request_body = SnapshotCreate,
    params(ChangeQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn snapshot_create(
    State(app): State<App>,
    Caller(actor): Caller,
    ChangeOf(change): ChangeOf,
    JsonBody(body): JsonBody<SnapshotCreate>,
) -> Result<Response> {
    let volume = reference_at(&body.volume, "volume", "/volume")?;
    let item = item_create(body.name.as_deref(), body.description, body.labels)?;
    let image = optional_name(body.image.as_deref(), "/image")?;
    let answer = match image {
        None => snapshot::create(app.cx(), &actor, &volume, item, &change).await?,
        Some(image) => {
            snapshot::create_with_image(app.cx(), &actor, &volume, item, image, &change).await?
        }
    };
    Ok(reply::answer(answer))
}

/// Rename, describe, label or protect a snapshot.
#[utoipa::path(patch, path = "/v1/snapshots/{snapshot}", tag = "snapshots",
    request_body = ItemPatch,
    params(("snapshot" = String, Path, description = "Id or name"), ChangeQuery),
    responses((status = 200, description = "The snapshot as it is now, or would be",
        body = Snapshot,
        headers(("etag" = String, description = "Its version, for `If-Match`")))))]
async fn snapshot_update(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    ChangeOf(change): ChangeOf,
    JsonBody(body): JsonBody<ItemPatch>,
) -> Result<impl IntoResponse> {
    let reference = reference(&id, "snapshot")?;
    let update = item_update(body)?;
    Ok(tagged(
        snapshot::update(app.cx(), &actor, &reference, update, &change).await?,
    ))
}

/// Delete a snapshot. Every other one stays, in whatever order they go.
#[utoipa::path(delete, path = "/v1/snapshots/{snapshot}", tag = "snapshots",
    params(("snapshot" = String, Path, description = "Id or name"), DeleteQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn snapshot_delete(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    DeleteOf { change, confirm }: DeleteOf,
) -> Result<Response> {
    let reference = reference(&id, "snapshot")?;
    let answer = snapshot::delete(app.cx(), &actor, &reference, confirm.as_deref(), &change)
        .await
        .map_err(confirm_in_query)?;
    Ok(reply::answer(answer))
}
