//! Volumes.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use stillpoint_control::volume::{self, VolumeFromImage, VolumeImport, VolumeQuery, VolumeView};
use stillpoint_model::keep_for::KeepFor;
use stillpoint_model::volume::{Attachment, VolumeRole};
use stillpoint_wire::Page;
use stillpoint_wire::operation::Operation;
use stillpoint_wire::permission::Preview;
use stillpoint_wire::volume::{
    AttachmentReport, Volume, VolumeAttach, VolumeClone, VolumeContext, VolumeCreate, VolumePatch,
    VolumeResize,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::credential::Caller;
use crate::error::{ApiError, Result};
use crate::input::{
    ChangeOf, ChangeQuery, DeleteOf, DeleteQuery, JsonBody, NoQuery, PageQuery, QueryOf,
    confirm_in_query, name, optional_name, optional_reference, reference, reference_at,
};
use crate::reply;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(volume_list, volume_create))
        .routes(routes!(volume_show, volume_update, volume_delete))
        .routes(routes!(volume_resize))
        .routes(routes!(volume_clone))
        .routes(routes!(volume_attach))
        .routes(routes!(volume_detach))
        .routes(routes!(volume_attachment_report, volume_attachment_end))
}

fn volume(view: VolumeView) -> Volume {
    let actions = reply::permissions(&view.permissions);
    let context = VolumeContext {
        now: view.now,
        fill: view.fill,
        active_operation: view.active_operation,
        snapshots: view.snapshots,
        backups: view.backups,
        caps: view.caps,
        confirm: view.confirm,
        plan: view.plan_name,
        compression_level: view.compression_level.get(),
        keep_backups_s: view.keep_backups.map(KeepFor::seconds),
        pool: view.pool_name.into(),
        region: view.region_name.into(),
        actions,
    };
    Volume::new(view.volume, context)
}

fn tagged(view: VolumeView) -> impl IntoResponse {
    reply::tagged(view.volume.version, volume(view))
}

/// Your volumes, newest first.
#[utoipa::path(get, path = "/v1/volumes", tag = "volumes", params(PageQuery),
    responses((status = 200, description = "A page of volumes", body = Page<Volume>)))]
async fn volume_list(
    State(app): State<App>,
    Caller(actor): Caller,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<Page<Volume>>> {
    let query = VolumeQuery {
        page: query.list()?,
    };
    let page = volume::list(app.cx(), &actor, &query).await?;
    Ok(Json(reply::page(page, volume)))
}

/// One volume.
#[utoipa::path(get, path = "/v1/volumes/{volume}", tag = "volumes",
    params(("volume" = String, Path, description = "Id or name")),
    responses((status = 200, description = "The volume", body = Volume,
        headers(("etag" = String, description = "Its version, for `If-Match`")))))]
async fn volume_show(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    _: QueryOf<NoQuery>,
) -> Result<impl IntoResponse> {
    let reference = reference(&id, "volume")?;
    Ok(tagged(volume::show(app.cx(), &actor, &reference).await?))
}

/// Make a volume: an empty one of `size_bytes`, one that starts as `image`, or one of an `upload`.
#[utoipa::path(post, path = "/v1/volumes", tag = "volumes", request_body = VolumeCreate,
    params(ChangeQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn volume_create(
    State(app): State<App>,
    Caller(actor): Caller,
    ChangeOf(change): ChangeOf,
    JsonBody(body): JsonBody<VolumeCreate>,
) -> Result<Response> {
    let name = name(&body.name, "/name")?;
    let usual = match body.image {
        Some(_) => VolumeRole::Root,
        None => VolumeRole::Data,
    };
    let role = body.role.map_or(usual, Into::into);
    let pool = optional_reference(body.pool.as_deref(), "pool", "/pool")?;
    let answer = match (body.size_bytes, body.image, body.upload) {
        (Some(size), None, None) => {
            let request = volume::VolumeCreate {
                name,
                size,
                role,
                pool,
            };
            volume::create(app.cx(), &actor, request, &change).await?
        }
        (size, Some(image), None) => {
            let request = VolumeFromImage {
                name,
                image: reference_at(&image, "image", "/image")?,
                size,
                role,
                pool,
            };
            volume::create_from_image(app.cx(), &actor, request, &change).await?
        }
        (None, None, Some(source)) => {
            let (upload, format) = (source.id, source.format.into());
            let request = VolumeImport {
                name,
                role,
                upload,
                format,
                pool,
            };
            volume::import(app.cx(), &actor, request, &change).await?
        }
        (None, None, None) => {
            let text = "Give `size_bytes` for an empty volume, `image` for one that starts as an \
                        image, or `upload` for an uploaded one.";
            return Err(ApiError::invalid("/size_bytes", text));
        }
        (_, Some(_), Some(_)) => {
            let text = "A volume is made of an image or of an upload, not of both.";
            return Err(ApiError::invalid("/upload", text));
        }
        (Some(_), None, Some(_)) => {
            let text = "An upload brings its own size: leave `size_bytes` out, and resize later.";
            return Err(ApiError::invalid("/size_bytes", text));
        }
    };
    Ok(reply::answer(answer))
}

/// Rename a volume.
#[utoipa::path(patch, path = "/v1/volumes/{volume}", tag = "volumes", request_body = VolumePatch,
    params(("volume" = String, Path, description = "Id or name"), ChangeQuery),
    responses((status = 200, description = "The volume as it is now, or would be", body = Volume,
        headers(("etag" = String, description = "Its version, for `If-Match`")))))]
async fn volume_update(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    ChangeOf(change): ChangeOf,
    JsonBody(body): JsonBody<VolumePatch>,
) -> Result<impl IntoResponse> {
    let reference = reference(&id, "volume")?;
    let Some(name) = optional_name(body.name.as_deref(), "/name")? else {
        return Err(ApiError::invalid("", "Nothing to change was given."));
    };
    Ok(tagged(
        volume::rename(app.cx(), &actor, &reference, name, &change).await?,
    ))
}

/// Delete a volume.
#[utoipa::path(delete, path = "/v1/volumes/{volume}", tag = "volumes",
    params(("volume" = String, Path, description = "Id or name"), DeleteQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn volume_delete(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    DeleteOf { change, confirm }: DeleteOf,
) -> Result<Response> {
    let reference = reference(&id, "volume")?;
    let answer = volume::delete(app.cx(), &actor, &reference, confirm.as_deref(), &change)
        .await
        .map_err(confirm_in_query)?;
    Ok(reply::answer(answer))
}

/// Make a volume larger.
#[utoipa::path(post, path = "/v1/volumes/{volume}/resize", tag = "volumes",
    request_body = VolumeResize,
    params(("volume" = String, Path, description = "Id or name"), ChangeQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn volume_resize(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    ChangeOf(change): ChangeOf,
    JsonBody(body): JsonBody<VolumeResize>,
) -> Result<Response> {
    let reference = reference(&id, "volume")?;
    let answer = volume::resize(app.cx(), &actor, &reference, body.size_bytes, &change).await?;
    Ok(reply::answer(answer))
}

/// Make a volume that starts as a copy of this one as it is now.
#[utoipa::path(post, path = "/v1/volumes/{volume}/clone", tag = "volumes",
    request_body = VolumeClone,
    params(("volume" = String, Path, description = "Id or name"), ChangeQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn volume_clone(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    ChangeOf(change): ChangeOf,
    JsonBody(body): JsonBody<VolumeClone>,
) -> Result<Response> {
    let reference = reference(&id, "volume")?;
    let name = optional_name(body.name.as_deref(), "/name")?;
    let answer = volume::clone(app.cx(), &actor, &reference, name, &change).await?;
    Ok(reply::answer(answer))
}

/// Attach a volume to an instance; also to one that runs, which sees a new disk then.
#[utoipa::path(post, path = "/v1/volumes/{volume}/attach", tag = "volumes",
    request_body = VolumeAttach,
    params(("volume" = String, Path, description = "Id or name"), ChangeQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn volume_attach(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    ChangeOf(change): ChangeOf,
    JsonBody(body): JsonBody<VolumeAttach>,
) -> Result<Response> {
    let reference = reference(&id, "volume")?;
    let instance = reference_at(&body.instance, "instance", "/instance")?;
    let answer = volume::attach(app.cx(), &actor, &reference, &instance, &change).await?;
    Ok(reply::answer(answer))
}

/// Detach a volume from its instance; also from one that runs, whose guest lets go of it first.
#[utoipa::path(post, path = "/v1/volumes/{volume}/detach", tag = "volumes",
    params(("volume" = String, Path, description = "Id or name"), ChangeQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn volume_detach(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    ChangeOf(change): ChangeOf,
) -> Result<Response> {
    let reference = reference(&id, "volume")?;
    let answer = volume::detach(app.cx(), &actor, &reference, &change).await?;
    Ok(reply::answer(answer))
}

/// Report that an instance which something else runs has the volume, and whether it runs. For
/// administrators.
#[utoipa::path(put, path = "/v1/volumes/{volume}/attachment", tag = "volumes",
    request_body = AttachmentReport,
    params(("volume" = String, Path, description = "Id, of any account, or name"), ChangeQuery),
    responses((status = 200, description = "The volume as it is now", body = Volume)))]
async fn volume_attachment_report(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    ChangeOf(change): ChangeOf,
    JsonBody(body): JsonBody<AttachmentReport>,
) -> Result<impl IntoResponse> {
    let reference = reference(&id, "volume")?;
    let instance = name(&body.instance, "/instance")?;
    let attachment = Some(Attachment::reported(instance, body.state.into()));
    let view = volume::set_attachment(app.cx(), &actor, &reference, attachment, &change).await?;
    Ok(tagged(view))
}

/// Report that the instance which something else runs no longer has the volume. For
/// administrators.
#[utoipa::path(delete, path = "/v1/volumes/{volume}/attachment", tag = "volumes",
    params(("volume" = String, Path, description = "Id, of any account, or name"), ChangeQuery),
    responses((status = 200, description = "The volume as it is now", body = Volume)))]
async fn volume_attachment_end(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    ChangeOf(change): ChangeOf,
) -> Result<impl IntoResponse> {
    let reference = reference(&id, "volume")?;
    let view = volume::set_attachment(app.cx(), &actor, &reference, None, &change).await?;
    Ok(tagged(view))
}
