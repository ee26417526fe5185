//! Instance snapshots, and what is made of them.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use stillpoint_control::instance::{self, InstanceOfSnapshot};
use stillpoint_control::instance_snapshot::{self, InstanceSnapshotQuery, InstanceSnapshotView};
use stillpoint_wire::Page;
use stillpoint_wire::instance_snapshot::{
    InstanceRebuild, InstanceRestore, InstanceSnapshot, InstanceSnapshotCreate,
};
use stillpoint_wire::item::{ItemContext, ItemPatch};
use stillpoint_wire::operation::Operation;
use stillpoint_wire::permission::Preview;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::credential::Caller;
use crate::error::Result;
use crate::input::{
    ChangeOf, ChangeQuery, DeleteOf, DeleteQuery, InstanceItemListQuery, JsonBody, NoQuery,
    QueryOf, confirm_in_query, item_create, item_update, optional_name, reference, reference_at,
};
use crate::reply;
use crate::state::App;

const WHAT: &str = "instance snapshot";

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(instance_snapshot_list, instance_snapshot_create))
        .routes(routes!(
            instance_snapshot_show,
            instance_snapshot_update,
            instance_snapshot_delete
        ))
        .routes(routes!(instance_snapshot_restore))
        .routes(routes!(instance_rebuild))
}

fn instance_snapshot(view: InstanceSnapshotView) -> InstanceSnapshot {
    let actions = reply::permissions(&view.permissions);
    let context = ItemContext {
        source_exists: view.source_exists,
        active_operation: view.active_operation,
        confirm: view.confirm,
        actions,
    };
    InstanceSnapshot::new(view.instance_snapshot, context)
}

fn tagged(view: InstanceSnapshotView) -> impl IntoResponse {
    reply::tagged(view.instance_snapshot.version, instance_snapshot(view))
}

/// Your instance snapshots, newest first.
#[utoipa::path(get, path = "/v1/instance-snapshots", tag = "instance snapshots",
    params(InstanceItemListQuery),
    responses((status = 200, description = "A page of instance snapshots",
        body = Page<InstanceSnapshot>)))]
async fn instance_snapshot_list(
    State(app): State<App>,
    Caller(actor): Caller,
    QueryOf(query): QueryOf<InstanceItemListQuery>,
) -> Result<Json<Page<InstanceSnapshot>>> {
    let (page, instance) = query.parts()?;
    let query = InstanceSnapshotQuery { page, instance };
    let page = instance_snapshot::list(app.cx(), &actor, &query).await?;
    Ok(Json(reply::page(page, instance_snapshot)))
}

/// One instance snapshot.
#[utoipa::path(get, path = "/v1/instance-snapshots/{instance_snapshot}",
    tag = "instance snapshots",
    params(("instance_snapshot" = String, Path, description = "Id or name")),
    responses((status = 200, description = "The instance snapshot", body = InstanceSnapshot,
        headers(("etag" = String, description = "Its version, for `If-Match`")))))]
async fn instance_snapshot_show(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    _: QueryOf<NoQuery>,
) -> Result<impl IntoResponse> {
    let reference = reference(&id, WHAT)?;
    Ok(tagged(
        instance_snapshot::show(app.cx(), &actor, &reference).await?,
    ))
}

/// Take a snapshot of an instance: all its volumes at one instant.
#[utoipa::path(post, path = "/v1/instance-snapshots", tag = "instance snapshots",
    request_body = InstanceSnapshotCreate, params(ChangeQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn instance_snapshot_create(
    State(app): State<App>,
    Caller(actor): Caller,
    ChangeOf(change): ChangeOf,
    JsonBody(body): JsonBody<InstanceSnapshotCreate>,
) -> Result<Response> {
    let instance = reference_at(&body.instance, "instance", "/instance")?;
    let item = item_create(body.name.as_deref(), body.description, body.labels)?;
    let request = instance_snapshot::InstanceSnapshotCreate {
        item,
        with_memory: body.with_memory.unwrap_or_default(),
        image: optional_name(body.image.as_deref(), "/image")?,
    };
    let answer = instance_snapshot::create(app.cx(), &actor, &instance, request, &change).await?;
    Ok(reply::answer(answer))
}

/// Rename, describe, label or protect an instance snapshot.
#[utoipa::path(patch, path = "/v1/instance-snapshots/{instance_snapshot}",
    tag = "instance snapshots", request_body = ItemPatch,
    params(("instance_snapshot" = String, Path, description = "Id or name"), ChangeQuery),
    responses((status = 200, description = "The instance snapshot as it is now, or would be",
        body = InstanceSnapshot,
        headers(("etag" = String, description = "Its version, for `If-Match`")))))]
async fn instance_snapshot_update(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    ChangeOf(change): ChangeOf,
    JsonBody(body): JsonBody<ItemPatch>,
) -> Result<impl IntoResponse> {
    let reference = reference(&id, WHAT)?;
    let update = item_update(body)?;
    Ok(tagged(
        instance_snapshot::update(app.cx(), &actor, &reference, update, &change).await?,
    ))
}

/// Delete an instance snapshot with the snapshots of its volumes. Every other one stays.
#[utoipa::path(delete, path = "/v1/instance-snapshots/{instance_snapshot}",
    tag = "instance snapshots",
    params(("instance_snapshot" = String, Path, description = "Id or name"), DeleteQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn instance_snapshot_delete(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    DeleteOf { change, confirm }: DeleteOf,
) -> Result<Response> {
    let (reference, confirm) = (reference(&id, WHAT)?, confirm.as_deref());
    let answer = instance_snapshot::delete(app.cx(), &actor, &reference, confirm, &change)
        .await
        .map_err(confirm_in_query)?;
    Ok(reply::answer(answer))
}

/// Make a new instance of an instance snapshot. The one it was taken of stays as it is.
#[utoipa::path(post, path = "/v1/instance-snapshots/{instance_snapshot}/restore",
    tag = "instance snapshots", request_body = InstanceRestore,
    params(("instance_snapshot" = String, Path, description = "Id or name"), ChangeQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn instance_snapshot_restore(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    ChangeOf(change): ChangeOf,
    JsonBody(body): JsonBody<InstanceRestore>,
) -> Result<Response> {
    let InstanceRestore {
        name,
        flavor,
        start,
        with_memory,
    } = body;
    let request = InstanceOfSnapshot {
        source: reference(&id, WHAT)?,
        name: optional_name(name.as_deref(), "/name")?,
        flavor: optional_name(flavor.as_deref(), "/flavor")?,
        start: start.unwrap_or(true),
        with_memory: with_memory.unwrap_or_default(),
    };
    let answer = instance::create_of_snapshot(app.cx(), &actor, request, &change).await?;
    Ok(reply::answer(answer))
}

/// Put a stopped instance back to a snapshot of it. What its volumes held is kept as safety
/// snapshots for a while.
#[utoipa::path(post, path = "/v1/instances/{instance}/rebuild", tag = "instances",
    request_body = InstanceRebuild,
    params(("instance" = String, Path, description = "Id or name"), ChangeQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn instance_rebuild(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    ChangeOf(change): ChangeOf,
    JsonBody(body): JsonBody<InstanceRebuild>,
) -> Result<Response> {
    let instance = reference(&id, "instance")?;
    let snapshot = reference_at(&body.instance_snapshot, WHAT, "/instance_snapshot")?;
    let asked = (
        body.confirm.as_deref(),
        body.with_memory.unwrap_or_default(),
    );
    let answer =
        instance_snapshot::rebuild(app.cx(), &actor, &instance, &snapshot, asked, &change).await?;
    Ok(reply::answer(answer))
}
