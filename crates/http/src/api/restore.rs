//! Restores: to a new volume, or back in place.

use axum::extract::State;
use axum::response::Response;
use stillpoint_control::restore::{self, RestoreMode, RestorePointRef};
use stillpoint_wire::operation::Operation;
use stillpoint_wire::permission::Preview;
use stillpoint_wire::restore::{RestoreCreate, RestoreMode as WireMode};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::credential::Caller;
use crate::error::{ApiError, Result};
use crate::input::{
    ChangeOf, ChangeQuery, JsonBody, optional_name, optional_reference, reference_at,
};
use crate::reply;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(restore_create))
}

/// Restore a snapshot or a backup, to a new volume or in place.
#[utoipa::path(post, path = "/v1/restores", tag = "restores", request_body = RestoreCreate,
    params(ChangeQuery),
    responses(
        (status = 202, description = "Accepted", body = Operation,
            headers(("location" = String, description = "The operation"))),
        (status = 200, description = "What `dry_run` found", body = Preview)))]
async fn restore_create(
    State(app): State<App>,
    Caller(actor): Caller,
    ChangeOf(change): ChangeOf,
    JsonBody(body): JsonBody<RestoreCreate>,
) -> Result<Response> {
    let kind = body.source.kind;
    let item = reference_at(&body.source.item, kind.as_str(), "/source/item")?;
    let request = restore::RestoreCreate {
        source: RestorePointRef {
            kind: kind.into(),
            item,
        },
        mode: mode(body)?,
    };
    Ok(reply::answer(
        restore::create(app.cx(), &actor, request, &change).await?,
    ))
}

/// Where the restore goes. A field that means nothing there is refused, not ignored.
fn mode(body: RestoreCreate) -> Result<RestoreMode> {
    let RestoreCreate {
        source: _,
        mode,
        name,
        pool,
        instant,
        confirm,
    } = body;
    let only_with = |mode: &str| format!("This goes only with mode `{mode}`.");
    match mode {
        WireMode::NewVolume if confirm.is_some() => {
            Err(ApiError::invalid("/confirm", only_with("in_place")))
        }
        WireMode::NewVolume => Ok(RestoreMode::NewVolume {
            name: optional_name(name.as_deref(), "/name")?,
            pool: optional_reference(pool.as_deref(), "pool", "/pool")?,
            instant: instant.unwrap_or(false),
        }),
        WireMode::InPlace if name.is_some() => {
            Err(ApiError::invalid("/name", only_with("new_volume")))
        }
        WireMode::InPlace if pool.is_some() => {
            Err(ApiError::invalid("/pool", only_with("new_volume")))
        }
        WireMode::InPlace if instant.is_some() => {
            Err(ApiError::invalid("/instant", only_with("new_volume")))
        }
        WireMode::InPlace => Ok(RestoreMode::InPlace { confirm }),
    }
}
