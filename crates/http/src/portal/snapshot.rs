//! Snapshots of all volumes, and the dialog that takes one.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use stillpoint_control::item::{ItemCreate, ItemQuery};
use stillpoint_control::snapshot;
use stillpoint_control::volume::VolumeView;
use stillpoint_model::guard::Action;
use stillpoint_model::item::ItemKind;
use stillpoint_model::refusal::Refusal;

use super::error::{Failure, refusal, status};
use super::item::{self, Item};
use super::layout::{Nav, Page};
use super::list::ListParams;
use super::session::{Posted, Viewer};
use super::ui::{self, Fields, Sheet, Submit};
use super::{paths, volume};
use crate::state::App;

/// `/snapshots` and below, and a volume's dialog.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/snapshots", get(list))
        .merge(item::routes(ItemKind::Snapshot))
        .route("/volumes/{volume}/snapshots/new", get(open).post(post))
}

async fn list(
    State(app): State<App>,
    viewer: Viewer,
    Query(params): Query<ListParams>,
) -> Result<Response, Failure> {
    let query = async {
        Ok(ItemQuery {
            page: params.page()?,
            volume: item::volume_filter(&params)?,
        })
    };
    let query = query.await.map_err(|r: Refusal| viewer.fail(&r))?;
    let page = snapshot::list(app.cx(), &viewer.actor, &query)
        .await
        .map_err(|e| viewer.sorry(&e))?;
    let next = params.next("/snapshots", page.next.map(|c| c.to_string()));
    let items: Vec<Item> = page.items.into_iter().map(Item::from).collect();
    Ok(item::list_page(
        &viewer,
        ItemKind::Snapshot,
        &items,
        &params,
        next.as_deref(),
    )
    .into_response())
}

async fn open(
    State(app): State<App>,
    viewer: Viewer,
    Path(text): Path<String>,
) -> Result<Response, Failure> {
    let view = volume::load(&app, &viewer, &text).await?;
    Ok(show(
        &viewer,
        &view,
        &Fields::default(),
        None,
        StatusCode::OK,
    ))
}

async fn post(
    State(app): State<App>,
    Path(text): Path<String>,
    Posted { viewer, fields }: Posted,
) -> Result<Response, Failure> {
    let view = volume::load(&app, &viewer, &text).await?;
    let outcome = async {
        let request = read(&fields)?;
        let (volume, change) = (view.volume.id.into(), Viewer::change(&fields));
        snapshot::create(app.cx(), &viewer.actor, &volume, request, &change)
            .await
            .map_err(|error| refusal(&error))
    };
    Ok(match outcome.await {
        Ok(_) => viewer.see_other(&paths::volume_tab(view.volume.id, "snapshots")),
        Err(refusal) => show(&viewer, &view, &fields, Some(&refusal), status(&refusal)),
    })
}

/// What is said of a new item.
pub(super) fn read(fields: &Fields) -> Result<ItemCreate, Refusal> {
    Ok(ItemCreate {
        name: fields.optional_name("name")?,
        description: fields.get("description").to_owned(),
        labels: fields.labels()?,
    })
}

fn show(
    viewer: &Viewer,
    view: &VolumeView,
    fields: &Fields,
    error: Option<&Refusal>,
    status: StatusCode,
) -> Response {
    let answer = ui::answer(&view.permissions, Action::SnapshotCreate);
    let volume = &view.volume;
    let sheet = Sheet {
        viewer,
        title: "Take Snapshot",
        lead: html! { "A point in time of the volume, on its own storage. The volume stays in use meanwhile." },
        action: paths::volume_tab(volume.id, "snapshots/new"),
        back: paths::volume_tab(volume.id, "snapshots"),
        submit: Submit {
            answer: Some(&answer),
            ..Submit::new("Take Snapshot")
        },
        error,
        item: None,
        upload: false,
    };
    let body = html! {
        (item::create_fields(view, &answer, fields, error))
        (ui::cap_meter(view.snapshots, view.caps.max_snapshots, "snapshots"))
    };
    page(viewer, &sheet.render(&body), status)
}

fn page(viewer: &Viewer, sheet: &Markup, status: StatusCode) -> Response {
    let page = Page::new(viewer, Nav::Volumes, "Take Snapshot");
    (status, page.render_dialog(sheet)).into_response()
}
