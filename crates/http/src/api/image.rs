//! Images.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use stillpoint_control::image::{self, ImageQuery, ImageSource, ImageView};
use stillpoint_control::restore::RestorePointRef;
use stillpoint_wire::Page;
use stillpoint_wire::image::{Image, ImageContext, ImageCreate};
use stillpoint_wire::item::ItemPatch;
use stillpoint_wire::operation::Operation;
use stillpoint_wire::permission::Preview;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::credential::Caller;
use crate::error::{ApiError, Result};
use crate::input::{
    ChangeOf, ChangeQuery, DeleteOf, DeleteQuery, JsonBody, NoQuery, PageQuery, QueryOf,
    confirm_in_query, item_create, item_update, optional_reference, reference, reference_at,
};
use crate::reply;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(image_list, image_create))
        .routes(routes!(image_show, image_update, image_delete))
}

fn image(view: ImageView) -> Image {
    let actions = reply::permissions(&view.permissions);
    let context = ImageContext {
        active_operation: view.active_operation,
        confirm: view.confirm,
        pool: view.pool_name.into(),
        region: view.region_name.into(),
        actions,
    };
    Image::new(view.image, context)
}

fn tagged(view: ImageView) -> impl IntoResponse {
    reply::tagged(view.image.version, image(view))
}

/// Your images, newest first: what new volumes and instances start from.
#[utoipa::path(get, path = "/v1/images", tag = "images", params(PageQuery),
    responses((status = 200, description = "A page of images", body = Page<Image>)))]
async fn image_list(
    State(app): State<App>,
    Caller(actor): Caller,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<Page<Image>>> {
    let query = ImageQuery {
        page: query.list()?,
    };
    let page = image::list(app.cx(), &actor, &query).await?;
    Ok(Json(reply::page(page, image)))
}

/// One image.
#[utoipa::path(get, path = "/v1/images/{image}", tag = "images",
    params(("image" = String, Path, description = "Id or name")),
    responses((status = 200, description = "The image", body = Image,
        headers(("etag" = String, description = "Its version, for `If-Match`")))))]
async fn image_show(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    _: QueryOf<NoQuery>,
) -> Result<impl IntoResponse> {
    let reference = reference(&id, "image")?;
    Ok(tagged(image::show(app.cx(), &actor, &reference).await?))
}

/// Make an image of a snapshot, backup, instance snapshot or upload. It outlives its source.
#[utoipa::path(post, path = "/v1/images", tag = "images", request_body = ImageCreate,
    params(ChangeQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn image_create(
    State(app): State<App>,
    Caller(actor): Caller,
    ChangeOf(change): ChangeOf,
    JsonBody(body): JsonBody<ImageCreate>,
) -> Result<Response> {
    let source = match (body.source, body.instance_snapshot, body.upload) {
        (Some(source), None, None) => {
            let kind = source.kind;
            ImageSource::RestorePoint(RestorePointRef {
                kind: kind.into(),
                item: reference_at(&source.item, kind.as_str(), "/source/item")?,
            })
        }
        (None, Some(whole), None) => {
            let pointer = "/instance_snapshot";
            ImageSource::InstanceSnapshot(reference_at(&whole, "instance snapshot", pointer)?)
        }
        (None, None, Some(upload)) => ImageSource::Upload {
            upload: upload.id,
            format: upload.format.into(),
        },
        _ => {
            let text = "Give `source` for an image of a snapshot or a backup, \
                        `instance_snapshot` for one of an instance snapshot, or `upload` for \
                        one of an upload.";
            return Err(ApiError::invalid("/source", text));
        }
    };
    let request = image::ImageCreate {
        item: item_create(body.name.as_deref(), body.description, body.labels)?,
        source,
        pool: optional_reference(body.pool.as_deref(), "pool", "/pool")?,
    };
    let answer = image::create(app.cx(), &actor, request, &change).await?;
    Ok(reply::answer(answer))
}

/// Rename, describe, label or protect an image.
#[utoipa::path(patch, path = "/v1/images/{image}", tag = "images", request_body = ItemPatch,
    params(("image" = String, Path, description = "Id or name"), ChangeQuery),
    responses((status = 200, description = "The image as it is now, or would be", body = Image,
        headers(("etag" = String, description = "Its version, for `If-Match`")))))]
async fn image_update(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    ChangeOf(change): ChangeOf,
    JsonBody(body): JsonBody<ItemPatch>,
) -> Result<impl IntoResponse> {
    let reference = reference(&id, "image")?;
    let update = item_update(body)?;
    Ok(tagged(
        image::update(app.cx(), &actor, &reference, update, &change).await?,
    ))
}

/// Delete an image. What was made of it stays as it is.
#[utoipa::path(delete, path = "/v1/images/{image}", tag = "images",
    params(("image" = String, Path, description = "Id or name"), DeleteQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn image_delete(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    DeleteOf { change, confirm }: DeleteOf,
) -> Result<Response> {
    let reference = reference(&id, "image")?;
    let answer = image::delete(app.cx(), &actor, &reference, confirm.as_deref(), &change)
        .await
        .map_err(confirm_in_query)?;
    Ok(reply::answer(answer))
}
