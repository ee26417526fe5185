//! Backups.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use stillpoint_control::backup::{self, BackupView};
use stillpoint_control::item::ItemQuery;
use stillpoint_wire::Page;
use stillpoint_wire::backup::{Backup, BackupCreate, BackupVerify};
use stillpoint_wire::item::{ItemContext, ItemPatch};
use stillpoint_wire::operation::Operation;
use stillpoint_wire::permission::Preview;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::credential::Caller;
use crate::error::Result;
use crate::input::{
    ChangeOf, ChangeQuery, DeleteOf, DeleteQuery, ItemListQuery, JsonBody, NoQuery, QueryOf,
    confirm_in_query, item_create, item_update, optional_reference, reference, reference_at,
};
use crate::reply;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(backup_list, backup_create))
        .routes(routes!(backup_show, backup_update, backup_delete))
        .routes(routes!(backup_verify))
}

fn backup(view: BackupView) -> Backup {
    let actions = reply::permissions(&view.permissions);
    let context = ItemContext {
        source_exists: view.source_exists,
        active_operation: view.active_operation,
        confirm: view.confirm,
        actions,
    };
    Backup::new(view.backup, view.target_name.into(), context)
}

fn tagged(view: BackupView) -> impl IntoResponse {
    reply::tagged(view.backup.version, backup(view))
}

/// Your backups, newest first.
#[utoipa::path(get, path = "/v1/backups", tag = "backups", params(ItemListQuery),
    responses((status = 200, description = "A page of backups", body = Page<Backup>)))]
async fn backup_list(
    State(app): State<App>,
    Caller(actor): Caller,
    QueryOf(query): QueryOf<ItemListQuery>,
) -> Result<Json<Page<Backup>>> {
    let (page, volume) = query.parts()?;
    let query = ItemQuery { page, volume };
    let page = backup::list(app.cx(), &actor, &query).await?;
    Ok(Json(reply::page(page, backup)))
}

/// One backup.
#[utoipa::path(get, path = "/v1/backups/{backup}", tag = "backups",
    params(("backup" = String, Path, description = "Id or name")),
    responses((status = 200, description = "The backup", body = Backup,
        headers(("etag" = String, description = "Its version, for `If-Match`")))))]
async fn backup_show(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    _: QueryOf<NoQuery>,
) -> Result<impl IntoResponse> {
    let reference = reference(&id, "backup")?;
    Ok(tagged(backup::show(app.cx(), &actor, &reference).await?))
}

/// Back a volume up, as it is now or as a snapshot of it kept it.
#[utoipa::path(post, path = "/v1/backups", tag = "backups", request_body = BackupCreate,
    params(ChangeQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn backup_create(
    State(app): State<App>,
    Caller(actor): Caller,
    ChangeOf(change): ChangeOf,
    JsonBody(body): JsonBody<BackupCreate>,
) -> Result<Response> {
    let volume = reference_at(&body.volume, "volume", "/volume")?;
    let item = item_create(body.name.as_deref(), body.description, body.labels)?;
    let snapshot = optional_reference(body.snapshot.as_deref(), "snapshot", "/snapshot")?;
    let request = backup::BackupCreate { item, snapshot };
    let answer = backup::create(app.cx(), &actor, &volume, request, &change).await?;
    Ok(reply::answer(answer))
}

/// Rename, describe, label or protect a backup.
#[utoipa::path(patch, path = "/v1/backups/{backup}", tag = "backups",
    request_body = ItemPatch,
    params(("backup" = String, Path, description = "Id or name"), ChangeQuery),
    responses((status = 200, description = "The backup as it is now, or would be",
        body = Backup,
        headers(("etag" = String, description = "Its version, for `If-Match`")))))]
async fn backup_update(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    ChangeOf(change): ChangeOf,
    JsonBody(body): JsonBody<ItemPatch>,
) -> Result<impl IntoResponse> {
    let reference = reference(&id, "backup")?;
    let update = item_update(body)?;
    Ok(tagged(
        backup::update(app.cx(), &actor, &reference, update, &change).await?,
    ))
}

/// Delete a backup. Every other one stays, in whatever order they go.
#[utoipa::path(delete, path = "/v1/backups/{backup}", tag = "backups",
    params(("backup" = String, Path, description = "Id or name"), DeleteQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn backup_delete(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    DeleteOf { change, confirm }: DeleteOf,
) -> Result<Response> {
    let reference = reference(&id, "backup")?;
    let answer = backup::delete(app.cx(), &actor, &reference, confirm.as_deref(), &change)
        .await
        .map_err(confirm_in_query)?;
    Ok(reply::answer(answer))
}

/// Prove a backup's data again; `deep` decrypts and compares every chunk, too.
#[utoipa::path(post, path = "/v1/backups/{backup}/verify", tag = "backups",
    request_body = BackupVerify,
    params(("backup" = String, Path, description = "Id or name"), ChangeQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn backup_verify(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    ChangeOf(change): ChangeOf,
    JsonBody(body): JsonBody<BackupVerify>,
) -> Result<Response> {
    let reference = reference(&id, "backup")?;
    let answer = backup::verify(app.cx(), &actor, &reference, body.deep, &change).await?;
    Ok(reply::answer(answer))
}
