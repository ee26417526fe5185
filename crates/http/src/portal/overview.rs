//! The start page: what is going on, what failed, how well the volumes are protected, and what the
//! instances do.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use stillpoint_control::instance::{self, InstanceQuery, InstanceView};
use stillpoint_control::operation::{self, OperationQuery};
use stillpoint_control::volume::{self, VolumeQuery, VolumeView};
use stillpoint_control::{ListQuery, Page as Rows};
use stillpoint_model::event::EventKind;
use stillpoint_model::operation::{Operation, OperationState};

use super::error::Failure;
use super::icon::Icon;
use super::layout::{Nav, Page, page_head};
use super::session::Viewer;
use super::{live, paths, text, ui};
use crate::state::App;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/", get(show))
}

/// Volumes that the start page looks at.
const VOLUMES: u32 = 8;
/// Instances that it looks at.
const INSTANCES: u32 = 5;
/// Operations that are over that it looks at.
const OVER: u32 = 6;

/// What changes the start page.
const KINDS: [EventKind; 5] = [
    EventKind::Operation,
    EventKind::Volume,
    EventKind::Instance,
    EventKind::Snapshot,
    EventKind::Backup,
];

/// What the start page is made of.
struct Overview {
    volumes: Rows<VolumeView>,
    instances: Rows<InstanceView>,
    running: Vec<Operation>,
    over: Vec<Operation>,
}

impl Overview {
    async fn load(app: &App, viewer: &Viewer) -> Result<Self, Failure> {
        let (cx, actor) = (app.cx(), &viewer.actor);
        let sorry = |error| viewer.sorry(&error);
        let first = |limit| ListQuery {
            cursor: None,
            limit,
        };
        let volumes = VolumeQuery {
            page: first(VOLUMES),
        };
        let instances = InstanceQuery {
            page: first(INSTANCES),
        };
        let running = OperationQuery {
            in_flight: Some(true),
            ..OperationQuery::default()
        };
        let over = OperationQuery {
            in_flight: Some(false),
            page: first(OVER),
            ..OperationQuery::default()
        };
        let running = operation::list(cx, actor, &running).await;
        let over = operation::list(cx, actor, &over).await;
        Ok(Self {
            volumes: volume::list(cx, actor, &volumes).await.map_err(sorry)?,
            instances: instance::list(cx, actor, &instances).await.map_err(sorry)?,
            running: running.map_err(sorry)?.items,
            over: over.map_err(sorry)?.items,
        })
    }
}

async fn show(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    let overview = Overview::load(&app, &viewer).await?;
    let content = overview.content(&viewer);
    let body = html! {
        (page_head(&html! { "Overview" }, "", &html! {}))
        (live::region(&viewer, "overview", &KINDS, &content))
    };
    let moving = (!overview.running.is_empty()).then_some(Duration::from_secs(3));
    Ok(Page::new(&viewer, Nav::Overview, "Overview")
        .moving(moving)
        .render(&body)
        .into_response())
}

impl Overview {
    fn content(&self, viewer: &Viewer) -> Markup {
        let failed = self.over.iter().filter(|o| is_recent_failure(o, viewer));
        html! {
            div.stack {
                @for operation in &self.running { (ui::banner_with_name(operation, viewer.now)) }
                @for operation in failed { (failure(operation)) }
                section.card {
                    header { h2 { "Protection of your volumes" } a.small href="/volumes" { "All volumes" } }
                    @if self.volumes.items.is_empty() { (no_volumes()) } @else { (protection(&self.volumes.items)) }
                    @if self.volumes.next.is_some() { p.pager { a href="/volumes" { "More volumes" } } }
                }
                @if !self.instances.items.is_empty() {
                    section.card {
                        header { h2 { "Your instances" } a.small href="/instances" { "All instances" } }
                        (super::instance::short_table(&self.instances.items))
                        @if self.instances.next.is_some() { p.pager { a href="/instances" { "More instances" } } }
                    }
                }
                @if !self.over.is_empty() {
                    section.card {
                        header { h2 { "Lately" } a.small href="/operations" { "All operations" } }
                        (super::operation::table(&self.over, viewer.now, true))
                    }
                }
            }
        }
    }
}

fn no_volumes() -> Markup {
    let ways = html! {
        a.button href="/volumes/import" { (Icon::Upload) "Import Image" }
        a.button.primary href="/volumes/new" { (Icon::Plus) "Create Volume" }
    };
    let teach =
        "Bring in a disk to protect: import an image that you have, or create an empty volume.";
    ui::empty(Icon::Disk, "No volumes yet", teach, &ways)
}

/// Failures of the last day stand out; older ones are in the list.
fn is_recent_failure(operation: &Operation, viewer: &Viewer) -> bool {
    let age = viewer
        .now
        .duration_since(operation.finished_at.unwrap_or(operation.created_at));
    operation.state == OperationState::Failed && age < Duration::from_hours(24)
}

fn failure(operation: &Operation) -> Markup {
    let title = format!("{} failed", text::operation_of(operation));
    let reason = operation
        .failure
        .as_ref()
        .map_or("No reason was recorded.", |f| f.text.as_str());
    html! {
        div.alert.bad {
            (Icon::Alert)
            div {
                h2 { (title) }
                p { (reason) }
                p.ways { a href=(paths::operation(operation.id)) { "See what happened" } }
            }
        }
    }
}

/// How well each volume is protected, in words.
fn protection(volumes: &[VolumeView]) -> Markup {
    let headings = [
        ("Volume", ""),
        ("Protection", ""),
        ("Snapshots", ""),
        ("Backups", ""),
        ("Size", "num"),
    ];
    let rows = html! {
        @for view in volumes {
            @let volume = &view.volume;
            tr role="row" {
                (ui::cell("Volume", "", &html! {
                    a.name href=(paths::volume(volume.id)) { (volume.name) }
                }))
                (ui::cell("Protection", "", &verdict(view)))
                (ui::cell("Snapshots", "", &html! {
                    a href=(paths::volume_tab(volume.id, "snapshots")) { (view.snapshots) " of " (view.caps.max_snapshots) }
                }))
                (ui::cell("Backups", "", &html! {
                    a href=(paths::volume_tab(volume.id, "backups")) { (view.backups) " of " (view.caps.max_backups) }
                }))
                (ui::cell("Size", "num", &html! { (volume.size) }))
            }
        }
    };
    ui::table("Protection of your volumes", &headings, &rows)
}

fn verdict(view: &VolumeView) -> Markup {
    let (class, icon, word) = match (view.backups, view.snapshots) {
        (0, 0) => ("warn", Icon::Alert, "Not protected"),
        (0, _) => ("warn", Icon::Info, "Snapshots only"),
        _ => ("ok", Icon::Shield, "Backed up"),
    };
    html! { span.state.(class) { (icon) (word) } }
}
