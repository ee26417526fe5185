//! Instances, and the flavors they are made of.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use stillpoint_control::console;
use stillpoint_control::instance::{self, DiskRequest, InstanceQuery, InstanceView};
use stillpoint_control::restore::RestorePointRef;
use stillpoint_model::instance::{SHUTDOWN_BOUND_S, StopMode};
use stillpoint_wire::Page;
use stillpoint_wire::instance::{
    Flavor, Instance, InstanceConsole, InstanceContext, InstanceCreate, InstanceDisk,
    InstancePatch, InstanceStop, StopHow,
};
use stillpoint_wire::operation::Operation;
use stillpoint_wire::permission::Preview;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::credential::Caller;
use crate::error::{ApiError, Result};
use crate::input::{
    ChangeOf, ChangeQuery, InstanceDeleteOf, InstanceDeleteQuery, JsonBody, NoQuery, PageQuery,
    QueryOf, deletion_in_query, optional_name, optional_reference, reference, reference_at,
};
use crate::reply;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(instance_list, instance_create))
        .routes(routes!(instance_show, instance_update, instance_delete))
        .routes(routes!(instance_console))
        .routes(routes!(instance_start))
        .routes(routes!(instance_stop))
        .routes(routes!(instance_pause))
        .routes(routes!(instance_resume))
        .routes(routes!(flavor_list))
}

fn instance(view: InstanceView) -> Instance {
    let actions = reply::permissions(&view.permissions);
    let context = InstanceContext {
        volumes: view.volumes,
        active_operation: view.active_operation,
        confirm: view.confirm,
        pool: view.pool_name.into(),
        node: view.node_name.into(),
        region: view.region_name.into(),
        actions,
    };
    Instance::new(view.instance, context)
}

fn tagged(view: InstanceView) -> impl IntoResponse {
    reply::tagged(view.instance.version, instance(view))
}

/// Your instances, newest first.
#[utoipa::path(get, path = "/v1/instances", tag = "instances", params(PageQuery),
    responses((status = 200, description = "A page of instances", body = Page<Instance>)))]
async fn instance_list(
    State(app): State<App>,
    Caller(actor): Caller,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<Page<Instance>>> {
    let query = InstanceQuery {
        page: query.list()?,
    };
    let page = instance::list(app.cx(), &actor, &query).await?;
    Ok(Json(reply::page(page, instance)))
}

/// One instance.
#[utoipa::path(get, path = "/v1/instances/{instance}", tag = "instances",
    params(("instance" = String, Path, description = "Id or name")),
    responses((status = 200, description = "The instance", body = Instance,
        headers(("etag" = String, description = "Its version, for `If-Match`")))))]
async fn instance_show(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    _: QueryOf<NoQuery>,
) -> Result<impl IntoResponse> {
    let reference = reference(&id, "instance")?;
    Ok(tagged(instance::show(app.cx(), &actor, &reference).await?))
}

/// The end of what an instance's guest wrote to its serial console.
#[utoipa::path(get, path = "/v1/instances/{instance}/console", tag = "instances",
    params(("instance" = String, Path, description = "Id or name")),
    responses((status = 200, description = "What it wrote", body = InstanceConsole)))]
async fn instance_console(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    _: QueryOf<NoQuery>,
) -> Result<Json<InstanceConsole>> {
    let reference = reference(&id, "instance")?;
    let text = console::read(app.cx(), &actor, &reference).await?;
    Ok(Json(InstanceConsole { text }))
}

/// Make an instance, with new volumes or with some that exist, and start it.
#[utoipa::path(post, path = "/v1/instances", tag = "instances", request_body = InstanceCreate,
    params(ChangeQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn instance_create(
    State(app): State<App>,
    Caller(actor): Caller,
    ChangeOf(change): ChangeOf,
    JsonBody(body): JsonBody<InstanceCreate>,
) -> Result<Response> {
    let InstanceCreate {
        name,
        flavor,
        pool,
        root,
        data,
        start,
    } = body;
    let data = data.into_iter().enumerate();
    let request = instance::InstanceCreate {
        name: optional_name(name.as_deref(), "/name")?,
        flavor: optional_name(flavor.as_deref(), "/flavor")?,
        pool: optional_reference(pool.as_deref(), "pool", "/pool")?,
        root: disk(root, "/root")?,
        data: data
            .map(|(n, asked)| disk(asked, &format!("/data/{n}")))
            .collect::<Result<_>>()?,
        start: start.unwrap_or(true),
    };
    let answer = instance::create(app.cx(), &actor, request, &change).await?;
    Ok(reply::answer(answer))
}

/// The volume that stands at `pointer` of a request. Exactly one of its four kinds.
fn disk(asked: InstanceDisk, pointer: &str) -> Result<DiskRequest> {
    let InstanceDisk {
        name,
        size_bytes,
        source,
        instant,
        image,
        volume,
    } = asked;
    let field = |name: &str| format!("{pointer}/{name}");
    let name = optional_name(name.as_deref(), &field("name"))?;
    if instant.is_some() && source.is_none() {
        let text = "Only a copy of a snapshot or a backup can be instant.";
        return Err(ApiError::invalid(field("instant"), text));
    }
    match (size_bytes, source, image, volume) {
        (Some(size), None, None, None) => Ok(DiskRequest::Empty { name, size }),
        (size, None, Some(image), None) => Ok(DiskRequest::Image {
            name,
            image: reference_at(&image, "image", &field("image"))?,
            size,
        }),
        (None, Some(source), None, None) => {
            let (kind, at) = (source.kind, field("source/item"));
            let item = reference_at(&source.item, kind.as_str(), &at)?;
            let source = RestorePointRef {
                kind: kind.into(),
                item,
            };
            Ok(DiskRequest::RestorePoint {
                name,
                source,
                instant: instant.unwrap_or(false),
            })
        }
        (None, None, None, Some(_)) if name.is_some() => {
            let text = "A volume that exists has its name already.";
            Err(ApiError::invalid(field("name"), text))
        }
        (None, None, None, Some(volume)) => {
            let reference = reference_at(&volume, "volume", &field("volume"))?;
            Ok(DiskRequest::Volume(reference))
        }
        _ => {
            let text = "Give one of `size_bytes` for an empty volume, `source` for a copy of a \
                        snapshot or a backup, `image` for one that starts as an image, and \
                        `volume` for one that exists.";
            Err(ApiError::invalid(pointer, text))
        }
    }
}

/// Rename an instance.
#[utoipa::path(patch, path = "/v1/instances/{instance}", tag = "instances",
    request_body = InstancePatch,
    params(("instance" = String, Path, description = "Id or name"), ChangeQuery),
    responses((status = 200, description = "The instance as it is now, or would be",
        body = Instance,
        headers(("etag" = String, description = "Its version, for `If-Match`")))))]
async fn instance_update(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    ChangeOf(change): ChangeOf,
    JsonBody(body): JsonBody<InstancePatch>,
) -> Result<impl IntoResponse> {
    let reference = reference(&id, "instance")?;
    let Some(name) = optional_name(body.name.as_deref(), "/name")? else {
        return Err(ApiError::invalid("", "Nothing to change was given."));
    };
    Ok(tagged(
        instance::rename(app.cx(), &actor, &reference, name, &change).await?,
    ))
}

/// Delete an instance. Its volumes are detached and stay, but those that are named.
#[utoipa::path(delete, path = "/v1/instances/{instance}", tag = "instances",
    params(("instance" = String, Path, description = "Id or name"), InstanceDeleteQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn instance_delete(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    InstanceDeleteOf {
        change,
        confirm,
        volumes,
    }: InstanceDeleteOf,
) -> Result<Response> {
    let (reference, confirm) = (reference(&id, "instance")?, confirm.as_deref());
    let answer = instance::delete(app.cx(), &actor, &reference, volumes, confirm, &change)
        .await
        .map_err(deletion_in_query)?;
    Ok(reply::answer(answer))
}

/// Start an instance.
#[utoipa::path(post, path = "/v1/instances/{instance}/start", tag = "instances",
    params(("instance" = String, Path, description = "Id or name"), ChangeQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn instance_start(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    ChangeOf(change): ChangeOf,
) -> Result<Response> {
    let reference = reference(&id, "instance")?;
    let answer = instance::start(app.cx(), &actor, &reference, &change).await?;
    Ok(reply::answer(answer))
}

/// Stop an instance: ask its guest to shut down, or cut its power.
#[utoipa::path(post, path = "/v1/instances/{instance}/stop", tag = "instances",
    request_body = InstanceStop,
    params(("instance" = String, Path, description = "Id or name"), ChangeQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn instance_stop(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    ChangeOf(change): ChangeOf,
    JsonBody(body): JsonBody<InstanceStop>,
) -> Result<Response> {
    let reference = reference(&id, "instance")?;
    let answer = instance::stop(app.cx(), &actor, &reference, mode(body)?, &change).await?;
    Ok(reply::answer(answer))
}

/// How an instance is stopped. A field that means nothing there is refused, not ignored.
fn mode(body: InstanceStop) -> Result<StopMode> {
    let InstanceStop {
        how,
        bound_s,
        then_force,
    } = body;
    let only_graceful = |field| {
        let text = "This goes only with `graceful`.";
        Err(ApiError::invalid(field, text))
    };
    match (how, bound_s, then_force) {
        (StopHow::Graceful, None, None) => Ok(StopMode::USUAL),
        (StopHow::Graceful, ..) => Ok(StopMode::Graceful {
            bound_s: bound_s.unwrap_or(SHUTDOWN_BOUND_S),
            then_force: then_force.unwrap_or(true),
        }),
        (StopHow::Forced, Some(_), _) => only_graceful("/bound_s"),
        (StopHow::Forced, None, Some(_)) => only_graceful("/then_force"),
        (StopHow::Forced, None, None) => Ok(StopMode::Forced),
    }
}

/// Have an instance stand still, with its memory kept.
#[utoipa::path(post, path = "/v1/instances/{instance}/pause", tag = "instances",
    params(("instance" = String, Path, description = "Id or name"), ChangeQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn instance_pause(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    ChangeOf(change): ChangeOf,
) -> Result<Response> {
    let reference = reference(&id, "instance")?;
    let answer = instance::pause(app.cx(), &actor, &reference, &change).await?;
    Ok(reply::answer(answer))
}

/// Have a paused instance go on.
#[utoipa::path(post, path = "/v1/instances/{instance}/resume", tag = "instances",
    params(("instance" = String, Path, description = "Id or name"), ChangeQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn instance_resume(
    State(app): State<App>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    ChangeOf(change): ChangeOf,
) -> Result<Response> {
    let reference = reference(&id, "instance")?;
    let answer = instance::resume(app.cx(), &actor, &reference, &change).await?;
    Ok(reply::answer(answer))
}

/// What an instance can be made of, in the order in which it is offered; the first is taken when
/// none is named.
#[utoipa::path(get, path = "/v1/flavors", tag = "instances",
    responses((status = 200, description = "All flavors", body = Page<Flavor>)))]
async fn flavor_list(
    State(app): State<App>,
    Caller(actor): Caller,
    _: QueryOf<NoQuery>,
) -> Result<Json<Page<Flavor>>> {
    let options = instance::options(app.cx(), &actor).await?;
    Ok(reply::whole(options.flavors.into_iter().map(Flavor::from)))
}
