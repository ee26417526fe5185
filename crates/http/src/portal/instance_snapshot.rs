//! Instance snapshots: the list of all, the tab of an instance, the page of one, and the dialogs.
//!
//! While one is made, its phases are on the instance's tab and on its own page. Its parts are
//! snapshots of volumes and listed there, too; each restores alone.

mod create;
mod dialog;
mod view;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, Render, html};
use std::time::Duration;
use stillpoint_control::instance::InstanceView;
use stillpoint_control::instance_snapshot::{self, InstanceSnapshotQuery, InstanceSnapshotView};
use stillpoint_control::{Page as Rows, Reference};
use stillpoint_model::event::EventKind;
use stillpoint_model::guard::Action;
use stillpoint_model::item::ItemState;
use stillpoint_model::operation::OperationKind;

use super::error::Failure;
use super::icon::Icon;
use super::instance::detail::{Tab, page as instance_page};
use super::layout::{Nav, Page, page_head};
use super::list::ListParams;
use super::session::Viewer;
use super::ui::Answer;
use super::{instance, item, live, operation, paths, ui};
use crate::state::App;

/// What changes a page about instance snapshots: their instances, too.
const KINDS: [EventKind; 3] = [
    EventKind::InstanceSnapshot,
    EventKind::Instance,
    EventKind::Operation,
];

/// `/instance-snapshots` and below, and the tab of an instance.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/instance-snapshots", get(list))
        .route("/instances/{instance}/snapshots", get(tab))
        .merge(create::routes())
        .route("/instance-snapshots/{snapshot}", get(show))
        .merge(dialog::routes())
}

/// One instance snapshot, by what stands in the address.
async fn load(app: &App, viewer: &Viewer, text: &str) -> Result<InstanceSnapshotView, Failure> {
    let found = Reference::parse(text, "instance snapshot");
    let reference = found.map_err(|refusal| viewer.fail(&refusal))?;
    instance_snapshot::show(app.cx(), &viewer.actor, &reference)
        .await
        .map_err(|error| viewer.sorry(&error))
}

/// A page of them, of one instance when one is given.
async fn rows(
    app: &App,
    viewer: &Viewer,
    params: &ListParams,
    instance: Option<Reference>,
) -> Result<Rows<InstanceSnapshotView>, Failure> {
    let page = params.page().map_err(|refusal| viewer.fail(&refusal))?;
    let query = InstanceSnapshotQuery { page, instance };
    instance_snapshot::list(app.cx(), &viewer.actor, &query)
        .await
        .map_err(|error| viewer.sorry(&error))
}

async fn list(
    State(app): State<App>,
    viewer: Viewer,
    Query(params): Query<ListParams>,
) -> Result<Response, Failure> {
    let instance = params.instance();
    let instance = instance.map(|text| Reference::parse(text, "instance"));
    let instance = instance.transpose().map_err(|r| viewer.fail(&r))?;
    let rows = rows(&app, &viewer, &params, instance).await?;
    let answer = create::Capture::eligible(&app, &viewer).await?.answer();
    Ok(list_page(&viewer, &params, &rows, &answer).into_response())
}

fn list_page(
    viewer: &Viewer,
    params: &ListParams,
    rows: &Rows<InstanceSnapshotView>,
    answer: &Answer,
) -> Markup {
    let base = "/instance-snapshots";
    let next = params.next(base, rows.next.map(|c| c.to_string()));
    let content = html! {
        @if rows.items.is_empty() { (nothing(params)) } @else { (view::table(&rows.items, true)) }
        (ui::pager(params.first(base).as_deref(), next.as_deref()))
    };
    let lead = "Points in time of whole instances: all volumes at one instant, and what the \
                machine was made of.";
    let take = ui::Action {
        id: "take-snapshot",
        label: "Take Snapshot",
        icon: Icon::Camera,
        href: "/instance-snapshots/new".to_owned(),
        class: "primary",
        answer,
        now: viewer.now,
    };
    let body = html! {
        (page_head(&html! { "Snapshots" }, lead, &take.render()))
        div.stack {
            (item::snapshot_tabs(true))
            section.card {
                (toolbar(params))
                (live::region(viewer, "list", &KINDS, &content))
            }
        }
    };
    Page::new(viewer, Nav::Snapshots, "Instance snapshots")
        .moving(look_again(&rows.items))
        .render(&body)
}

fn toolbar(params: &ListParams) -> Markup {
    html! {
        form.toolbar.pad method="get" action="/instance-snapshots" role="search" {
            div.grow {
                label.visually-hidden for="filter-instance" { "Instance" }
                input #filter-instance type="search" name="instance" placeholder="Name or id of an instance"
                    value=(params.instance().unwrap_or_default());
            }
            button.button type="submit" { (Icon::Search) "Filter" }
            @if params.is_filtered() { a.button.plain href="/instance-snapshots" { "Clear" } }
        }
    }
}

fn nothing(params: &ListParams) -> Markup {
    if params.is_filtered() {
        let teach = "No snapshot was taken of an instance with this name or id.";
        return ui::empty(Icon::Search, "Nothing matches", teach, &html! {});
    }
    let instances = html! { a.button href="/instances" { (Icon::Machine) "Go to instances" } };
    let title = "No instance snapshots yet";
    ui::empty(Icon::Camera, title, TEACH, &instances)
}

/// What an instance snapshot is for.
const TEACH: &str = "It keeps all volumes of an instance as they are at one instant, in a moment and \
                     whatever their size. Go back to it when something went wrong, make a copy of the \
                     instance beside it, or turn it into an image.";

/// The tab of an instance.
async fn tab(
    State(app): State<App>,
    viewer: Viewer,
    Path(text): Path<String>,
    Query(params): Query<ListParams>,
) -> Result<Response, Failure> {
    let view = instance::load(&app, &viewer, &text).await?;
    let of_it = Some(view.instance.id.into());
    let rows = rows(&app, &viewer, &params, of_it).await?;
    let base = paths::instance_dialog(view.instance.id, "snapshots");
    let next = params.next(&base, rows.next.map(|c| c.to_string()));
    let content = html! {
        (progress(&view))
        section.card {
            header { h2 { "Snapshots of this instance" } (take_button(&view)) }
            @if rows.items.is_empty() { (ui::empty(Icon::Camera, "No snapshots of this instance yet", TEACH, &html! {})) }
            @else { (view::table(&rows.items, false)) }
            (ui::pager(params.first(&base).as_deref(), next.as_deref()))
        }
    };
    Ok(instance_page(&viewer, &view, Tab::Snapshots, &content).into_response())
}

/// How far the snapshot is that is being taken.
fn progress(view: &InstanceView) -> Markup {
    let active = view.active_operation.as_ref();
    let taking = active.filter(|o| o.kind == OperationKind::InstanceSnapshotCreate);
    html! {
        @if let Some(operation) = taking {
            section.card {
                header { h2 { "Phases" } }
                div.body { (operation::phases(operation)) }
            }
        }
    }
}

fn take_button(view: &InstanceView) -> Markup {
    let answer = ui::answer(&view.permissions, Action::InstanceSnapshotCreate);
    let button = ui::Action {
        id: "take-snapshot",
        label: "Take Snapshot",
        icon: Icon::Camera,
        href: paths::instance_dialog(view.instance.id, "snapshots/new"),
        class: "primary compact",
        answer: &answer,
        now: view.now,
    };
    button.render()
}

async fn show(
    State(app): State<App>,
    viewer: Viewer,
    Path(text): Path<String>,
) -> Result<Response, Failure> {
    let shown = load(&app, &viewer, &text).await?;
    let content = view::page(&viewer, &shown);
    let body = live::region(&viewer, "instance-snapshot", &KINDS, &content);
    let page = Page::new(
        &viewer,
        Nav::Snapshots,
        shown.instance_snapshot.name.as_str(),
    );
    let page = page.moving(look_again(std::slice::from_ref(&shown)));
    Ok(page.render(&body).into_response())
}

/// How soon a page without scripts should look at these again.
fn look_again(views: &[InstanceSnapshotView]) -> Option<Duration> {
    let moving = |view: &InstanceSnapshotView| {
        view.active_operation.is_some()
            || matches!(
                view.instance_snapshot.state,
                ItemState::Pending
                    | ItemState::Creating
                    | ItemState::Verifying
                    | ItemState::Deleting
            )
    };
    views.iter().any(moving).then_some(Duration::from_secs(3))
}

/// Where people look at one among the others of its instance; in the list of all when that is gone.
fn home(view: &InstanceSnapshotView) -> String {
    if view.source_exists {
        paths::instance_dialog(view.instance_snapshot.instance_id, "snapshots")
    } else {
        "/instance-snapshots".to_owned()
    }
}
