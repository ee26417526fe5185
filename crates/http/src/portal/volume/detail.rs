//! The pages of one volume: Overview, and Snapshots & Backups with its two lists.

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use maud::{Markup, Render, html};
use stillpoint_control::backup;
use stillpoint_control::item::ItemQuery;
use stillpoint_control::operation::{self, OperationQuery};
use stillpoint_control::snapshot;
use stillpoint_control::volume::VolumeView;
use stillpoint_control::{Error, ListQuery};
use stillpoint_model::event::EventKind;
use stillpoint_model::guard::{Action, cooldown_left};
use stillpoint_model::item::{ItemKind, RestorePointId};
use stillpoint_model::operation::Operation;
use stillpoint_model::refusal::{Refusal, WayOut};
use stillpoint_model::volume::VolumeOrigin;

use super::{fill, menu_entries};
use crate::portal::error::Failure;
use crate::portal::icon::Icon;
use crate::portal::item::{self, Item};
use crate::portal::layout::{Nav, Page, crumbs, page_head};
use crate::portal::list::ListParams;
use crate::portal::session::Viewer;
use crate::portal::{live, paths, text, ui};
use crate::state::App;

type PageResult = Result<Response, Failure>;

const KINDS: [EventKind; 5] = [
    EventKind::Operation,
    EventKind::Volume,
    EventKind::Instance,
    EventKind::Snapshot,
    EventKind::Backup,
];

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/volumes/{volume}", get(overview))
        .route("/volumes/{volume}/protection", get(protection))
        .route("/volumes/{volume}/snapshots", get(snapshots))
        .route("/volumes/{volume}/backups", get(backups))
}

/// The tab without a list goes to its first list.
async fn protection(Path(volume): Path<String>) -> Redirect {
    Redirect::to(&format!(
        "/volumes/{}/snapshots",
        paths::query_value(&volume)
    ))
}

async fn overview(State(app): State<App>, viewer: Viewer, Path(text): Path<String>) -> PageResult {
    let view = super::load(&app, &viewer, &text).await?;
    let query = OperationQuery {
        page: ListQuery {
            cursor: None,
            limit: 8,
        },
        volume: Some(view.volume.id.into()),
        ..OperationQuery::default()
    };
    let recent = operation::list(app.cx(), &viewer.actor, &query).await;
    let recent = recent.map_err(|e| viewer.sorry(&e))?;
    let content = overview_content(&view, &recent.items);
    Ok(page(&viewer, &view, Tab::Overview, &content))
}

async fn snapshots(
    State(app): State<App>,
    viewer: Viewer,
    Path(text): Path<String>,
    Query(params): Query<ListParams>,
) -> PageResult {
    let view = super::load(&app, &viewer, &text).await?;
    let page = params.page().map_err(|refusal| viewer.fail(&refusal))?;
    let query = ItemQuery {
        page,
        volume: Some(view.volume.id.into()),
    };
    let rows = snapshot::list(app.cx(), &viewer.actor, &query).await;
    let rows = rows.map_err(|e| viewer.sorry(&e))?;
    let next = rows.next.map(|c| c.to_string());
    let items: Vec<Item> = rows.items.into_iter().map(Item::from).collect();
    Ok(items_page(
        &viewer,
        &view,
        ItemKind::Snapshot,
        &items,
        &params,
        next,
    ))
}

async fn backups(
    State(app): State<App>,
    viewer: Viewer,
    Path(text): Path<String>,
    Query(params): Query<ListParams>,
) -> PageResult {
    let view = super::load(&app, &viewer, &text).await?;
    let page = params.page().map_err(|refusal| viewer.fail(&refusal))?;
    let query = ItemQuery {
        page,
        volume: Some(view.volume.id.into()),
    };
    let rows = backup::list(app.cx(), &viewer.actor, &query).await;
    let rows = rows.map_err(|e: Error| viewer.sorry(&e))?;
    let next = rows.next.map(|c| c.to_string());
    let items: Vec<Item> = rows.items.into_iter().map(Item::from).collect();
    Ok(items_page(
        &viewer,
        &view,
        ItemKind::Backup,
        &items,
        &params,
        next,
    ))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tab {
    Overview,
    Protection,
}

fn page(viewer: &Viewer, view: &VolumeView, tab: Tab, content: &Markup) -> Response {
    let volume = &view.volume;
    let title = html! {
        (volume.name)
        (ui::volume_state(volume.state))
    };
    let lead = match &volume.attachment {
        Some(attachment) => format!(
            "{} · {} · attached to {}, {}",
            volume.size,
            text::capitalized(volume.role.as_str()),
            attachment.instance,
            attachment.state
        ),
        None => format!(
            "{} · {} · not attached",
            volume.size,
            text::capitalized(volume.role.as_str())
        ),
    };
    let actions = ui::menu(
        "volume-menu",
        &format!("Actions for {}", volume.name),
        &html! { "Actions" (Icon::More) },
        "",
        &menu_entries(view),
    );
    let content = html! {
        (page_head(&title, &lead, &actions))
        (tabs(view, tab))
        div.stack {
            @if let Some(failure) = &volume.failure {
                (ui::failure_note("This volume failed", None, failure))
            }
            @if let Some(operation) = &view.active_operation { (ui::banner(operation, view.now)) }
            @if let Some(backup) = volume.filling { (fill::banner(view, backup)) }
            (content)
        }
    };
    let body = html! {
        (crumbs(&[("/volumes", "Volumes")]))
        (live::region(viewer, "volume", &KINDS, &content))
    };
    Page::new(viewer, Nav::Volumes, volume.name.as_str())
        .moving(look_again(view))
        .render(&body)
        .into_response()
}

fn look_again(view: &VolumeView) -> Option<Duration> {
    let rest = cooldown_left(view.volume.cooldown_until, view.now);
    super::look_again(std::slice::from_ref(view)).or((!rest.is_zero()).then_some(rest))
}

fn tabs(view: &VolumeView, tab: Tab) -> Markup {
    let current = |this| (tab == this).then_some("page");
    let id = view.volume.id;
    html! {
        nav.tabs aria-label="Volume" {
            a href=(paths::volume(id)) aria-current=[current(Tab::Overview)] { "Overview" }
            a href=(paths::volume_tab(id, "snapshots")) aria-current=[current(Tab::Protection)] { "Snapshots & Backups" }
        }
    }
}

fn overview_content(view: &VolumeView, recent: &[Operation]) -> Markup {
    let id = view.volume.id;
    html! {
        div.grid-3 {
            (protection_card("Snapshots", "snapshots", Icon::Camera, &paths::volume_tab(id, "snapshots"), view.snapshots, view.caps.max_snapshots))
            (protection_card("Backups", "backups", Icon::Archive, &paths::volume_tab(id, "backups"), view.backups, view.caps.max_backups))
            (rest_card(view))
        }
        section.card {
            header { h2 { "About" } }
            div.body { dl.facts { (facts(view)) } }
        }
        section.card {
            header { h2 { "Recent operations" } a.small href={ "/operations?volume=" (id) } { "See all" } }
            @if recent.is_empty() { div.body { p.muted { "Nothing was done with this volume alone yet." } } }
            @else { (crate::portal::operation::table(recent, view.now, false)) }
        }
    }
}

fn protection_card(title: &str, noun: &str, icon: Icon, href: &str, used: u32, cap: u32) -> Markup {
    html! {
        a.card.stat href=(href) {
            span.label { (icon) (title) }
            p.value { (used) " " small { "of " (cap) } }
            (ui::meter(used, cap, noun))
        }
    }
}

/// Whether the volume can take a snapshot now.
fn rest_card(view: &VolumeView) -> Markup {
    let answer = ui::answer(&view.permissions, Action::SnapshotCreate);
    html! {
        div.card.stat {
            span.label { (Icon::Clock) "Next snapshot" }
            @match &answer {
                Ok(_) => {
                    p.value { "Now" }
                    a.small href=(paths::volume_tab(view.volume.id, "snapshots/new"))
                        hx-get=(paths::volume_tab(view.volume.id, "snapshots/new"))
                        hx-target="#dialog" hx-select={ "#" (ui::DIALOG) } { "Take Snapshot" }
                }
                Err(refusal) => {
                    p.value { "Not now" }
                    p.reason { (ui::reason(&seen_here(refusal, view), view.now, None)) }
                }
            }
        }
    }
}

/// A refusal without the way to the page that it stands on.
fn seen_here(refusal: &Refusal, view: &VolumeView) -> Refusal {
    let mut refusal = refusal.clone();
    let here = WayOut::ShowVolume(view.volume.id);
    refusal.ways_out.retain(|way| *way != here);
    refusal
}

fn facts(view: &VolumeView) -> Markup {
    let volume = &view.volume;
    html! {
        (ui::fact("Size", &html! { (volume.size) }))
        (ui::fact("Used", &html! { (volume.used) }))
        (ui::fact("Role", &html! { (text::capitalized(volume.role.as_str())) }))
        (ui::fact("Attached to", &match &volume.attachment {
            Some(attachment) => html! { (super::instance_link(attachment)) " (" (attachment.state) ")" },
            None => html! { "Nothing" },
        }))
        (ui::fact("Region", &html! { (view.region_name) }))
        (ui::fact("Pool", &html! { (view.pool_name) }))
        (ui::fact("Plan", &html! { (view.plan_name) span.sub {
            "Backups: compression level " (view.compression_level)
            @if let Some(keep) = view.keep_backups { ", locked for " (text::span(keep.duration())) }
        } }))
        (ui::fact("Made from", &origin(volume.origin)))
        (ui::fact("Created", &ui::time(volume.created_at, view.now)))
        (ui::wide_fact("Id", &html! { code { (volume.id) } }))
    }
}

fn origin(origin: Option<VolumeOrigin>) -> Markup {
    match origin {
        None => html! { "Nothing: it began empty" },
        Some(VolumeOrigin::Upload) => html! { "An upload" },
        Some(VolumeOrigin::Image(id)) => html! { a href=(paths::image(id)) { "An image" } },
        Some(VolumeOrigin::Volume(id)) => html! { a href=(paths::volume(id)) { "Another volume" } },
        Some(VolumeOrigin::RestorePoint(id)) => {
            let noun = match id {
                RestorePointId::Snapshot(_) => "A snapshot",
                RestorePointId::Backup(_) => "A backup",
            };
            html! { a href=(paths::item(id)) { (noun) } }
        }
    }
}

fn items_page(
    viewer: &Viewer,
    view: &VolumeView,
    kind: ItemKind,
    items: &[Item],
    params: &ListParams,
    next: Option<String>,
) -> Response {
    let id = view.volume.id;
    let (list, label, used, cap) = match kind {
        ItemKind::Snapshot => (
            "snapshots",
            "Snapshots",
            view.snapshots,
            view.caps.max_snapshots,
        ),
        ItemKind::Backup => ("backups", "Backups", view.backups, view.caps.max_backups),
    };
    let base = paths::volume_tab(id, list);
    let next = params.next(&base, next);
    let content = html! {
        div.toolbar {
            (subtabs(view, kind))
            span.grow {}
            (create_button(view, kind))
        }
        section.card {
            header { h2 { (label) } (ui::cap_meter(used, cap, list)) }
            @if items.is_empty() { (nothing(kind)) } @else { (item::table(label, items, false)) }
            (ui::pager(params.first(&base).as_deref(), next.as_deref()))
        }
    };
    page(viewer, view, Tab::Protection, &content)
}

fn subtabs(view: &VolumeView, kind: ItemKind) -> Markup {
    let current = |this| (kind == this).then_some("page");
    let id = view.volume.id;
    html! {
        nav.subtabs aria-label="Snapshots & Backups" {
            a href=(paths::volume_tab(id, "snapshots")) aria-current=[current(ItemKind::Snapshot)] {
                "Snapshots" span.count { (view.snapshots) }
            }
            a href=(paths::volume_tab(id, "backups")) aria-current=[current(ItemKind::Backup)] {
                "Backups" span.count { (view.backups) }
            }
        }
    }
}

fn create_button(view: &VolumeView, kind: ItemKind) -> Markup {
    let (id, label, icon, dialog, action) = match kind {
        ItemKind::Snapshot => (
            "take-snapshot",
            "Take Snapshot",
            Icon::Camera,
            "snapshots/new",
            Action::SnapshotCreate,
        ),
        ItemKind::Backup => (
            "create-backup",
            "Create Backup",
            Icon::Archive,
            "backups/new",
            Action::BackupCreate,
        ),
    };
    let answer = ui::answer(&view.permissions, action);
    ui::Action {
        id,
        label,
        icon,
        href: paths::volume_tab(view.volume.id, dialog),
        class: "primary",
        answer: &answer,
        now: view.now,
    }
    .render()
}

fn nothing(kind: ItemKind) -> Markup {
    let (icon, title, teach) = match kind {
        ItemKind::Snapshot => (
            Icon::Camera,
            "No snapshots of this volume yet",
            "A snapshot keeps the volume as it is now, in a moment and whatever its size. Take one before \
             you change something, and roll back when it went wrong.",
        ),
        ItemKind::Backup => (
            Icon::Archive,
            "No backups of this volume yet",
            "A backup is a full copy in another place. It survives the loss of this volume's storage, and \
             restores to any pool.",
        ),
    };
    ui::empty(icon, title, teach, &html! {})
}
