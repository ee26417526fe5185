//! The page of one instance: what it does, what it has, and what was done with it. Its other tabs are
//! its snapshots and the console.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, Render, html};
use stillpoint_control::ListQuery;
use stillpoint_control::instance::InstanceView;
use stillpoint_control::operation::{self, OperationQuery};
use stillpoint_control::volume::{self, VolumeView};
use stillpoint_model::guard::Action;
use stillpoint_model::instance::{Instance, InstanceState, Power, hostname};
use stillpoint_model::operation::Operation;
use stillpoint_model::volume::Volume;

use super::{KINDS, look_again, menu_entries};
use crate::portal::error::Failure;
use crate::portal::icon::Icon;
use crate::portal::item::expected_words;
use crate::portal::layout::{Nav, Page, crumbs, page_head};
use crate::portal::session::Viewer;
use crate::portal::{live, paths, text, ui};
use crate::state::App;

/// Operations that the page shows.
const RECENT: u32 = 8;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/instances/{instance}", get(show))
}

async fn show(
    State(app): State<App>,
    viewer: Viewer,
    Path(text): Path<String>,
) -> Result<Response, Failure> {
    let view = super::load(&app, &viewer, &text).await?;
    let mut volumes = Vec::with_capacity(view.volumes.len());
    for volume in &view.volumes {
        let shown = volume::show(app.cx(), &viewer.actor, &volume.id.into()).await;
        volumes.push(shown.map_err(|e| viewer.sorry(&e))?);
    }
    let query = OperationQuery {
        page: ListQuery {
            cursor: None,
            limit: RECENT,
        },
        instance: Some(view.instance.id.into()),
        ..OperationQuery::default()
    };
    let recent = operation::list(app.cx(), &viewer.actor, &query).await;
    let recent = recent.map_err(|e| viewer.sorry(&e))?;
    let content = overview(&view, &volumes, &recent.items);
    Ok(page(&viewer, &view, Tab::Overview, &content).into_response())
}

/// A tab of an instance's page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::portal) enum Tab {
    Overview,
    Snapshots,
    Console,
}

/// The page of an instance with `content` in its tab.
pub(in crate::portal) fn page(
    viewer: &Viewer,
    view: &InstanceView,
    tab: Tab,
    content: &Markup,
) -> Markup {
    let instance = &view.instance;
    let title = html! { (instance.name) (ui::instance_state(instance)) };
    let lead = format!(
        "{} · {} · {}",
        instance.flavor.name,
        super::machine(&instance.flavor),
        view.node_name
    );
    let content = html! {
        (page_head(&title, &lead, &buttons(view)))
        (tabs(view, tab))
        div.stack {
            @if let Some(failure) = &instance.failure {
                (ui::failure_note(failure_title(instance), None, failure))
            }
            @if let Some(operation) = &view.active_operation { (ui::banner(operation, view.now)) }
            (content)
        }
    };
    let body = html! {
        (crumbs(&[("/instances", "Instances")]))
        (live::region(viewer, "instance", &KINDS, &content))
    };
    Page::new(viewer, Nav::Instances, instance.name.as_str())
        .moving(look_again(std::slice::from_ref(view)))
        .render(&body)
}

fn tabs(view: &InstanceView, tab: Tab) -> Markup {
    let current = |this| (tab == this).then_some("page");
    let id = view.instance.id;
    html! {
        nav.tabs aria-label="Instance" {
            a href=(paths::instance(id)) aria-current=[current(Tab::Overview)] { "Overview" }
            a href=(paths::instance_dialog(id, "snapshots")) aria-current=[current(Tab::Snapshots)] { "Snapshots" }
            a href=(paths::instance_console(id)) aria-current=[current(Tab::Console)] { "Console" }
        }
    }
}

fn overview(view: &InstanceView, volumes: &[VolumeView], recent: &[Operation]) -> Markup {
    let instance = &view.instance;
    html! {
        section.card {
            header { h2 { "Volumes" } (attach_button(view)) }
            @if volumes.is_empty() { (no_volumes()) } @else { (volume_table(view, volumes)) }
        }
        section.card {
            header { h2 { "About" } }
            div.body { dl.facts { (facts(view, volumes)) } }
        }
        section.card {
            header {
                h2 { "Recent operations" }
                a.small href={ "/operations?instance=" (instance.id) } { "See all" }
            }
            @if recent.is_empty() { div.body { p.muted { "Nothing was done with this instance yet." } } }
            @else { (crate::portal::operation::table(recent, view.now, false)) }
        }
    }
}

/// What a recorded reason is the reason of.
fn failure_title(instance: &Instance) -> &'static str {
    match (instance.state, instance.power) {
        (InstanceState::Failed, _) => "This instance failed",
        (_, Power::Paused) => "Paused: its storage is full",
        _ => "Its machine ended by itself",
    }
}

/// What is done most from here, and the menu with everything.
fn buttons(view: &InstanceView) -> Markup {
    let instance = &view.instance;
    let (id, label, icon, class, action) = match instance.power {
        Power::Off => (
            "start",
            "Start",
            Icon::Play,
            "primary",
            Action::InstanceStart,
        ),
        Power::Running => ("stop", "Stop", Icon::Power, "", Action::InstanceStop),
        Power::Paused => (
            "resume",
            "Resume",
            Icon::Play,
            "primary",
            Action::InstanceResume,
        ),
    };
    let answer = ui::answer(&view.permissions, action);
    let first = ui::Action {
        id,
        label,
        icon,
        href: paths::instance_dialog(instance.id, id),
        class,
        answer: &answer,
        now: view.now,
    };
    let menu = ui::menu(
        "instance-menu",
        &format!("Actions for {}", instance.name),
        &html! { "Actions" (Icon::More) },
        "",
        &menu_entries(view),
    );
    html! { (first) (menu) }
}

fn attach_button(view: &InstanceView) -> Markup {
    let answer = ui::answer(&view.permissions, Action::VolumeAttach);
    let button = ui::Action {
        id: "attach",
        label: "Attach Volume",
        icon: Icon::Plug,
        href: paths::instance_dialog(view.instance.id, "attach"),
        class: "compact",
        answer: &answer,
        now: view.now,
    };
    button.render()
}

fn no_volumes() -> Markup {
    let teach = "Without a root volume it does not start. Attach one: the first root disk that is \
                 attached is what it boots from.";
    ui::empty(Icon::Disk, "This instance has no volumes", teach, &html! {})
}

fn volume_table(view: &InstanceView, volumes: &[VolumeView]) -> Markup {
    let headings = [
        ("Name", ""),
        ("State", ""),
        ("Size", "num"),
        ("Snapshots", "num"),
        ("Backups", "num"),
        ("", ""),
    ];
    let rows = html! { @for volume in volumes { (volume_row(view, volume)) } };
    ui::table("Volumes", &headings, &rows)
}

fn volume_row(view: &InstanceView, shown: &VolumeView) -> Markup {
    let volume = &shown.volume;
    let count = |list: &str, used: u32, cap: u32| {
        html! { a href=(paths::volume_tab(volume.id, list)) { (used) " of " (cap) } }
    };
    html! {
        tr role="row" {
            (ui::cell("Name", "", &html! {
                a.name href=(paths::volume(volume.id)) { (volume.name) }
                span.sub { (place(volume)) }
                @if let Some(failure) = &volume.failure { span.sub.bad { (failure) } }
            }))
            (ui::cell("State", "", &html! {
                (ui::volume_state(volume.state))
                @if let Some(operation) = &shown.active_operation {
                    a.sub href=(paths::operation(operation.id)) { (text::operation(operation.kind)) " in progress" }
                }
            }))
            (ui::cell("Size", "num", &html! { (volume.size) span.sub { (volume.used) " used" } }))
            (ui::cell("Snapshots", "num", &count("snapshots", shown.snapshots, shown.caps.max_snapshots)))
            (ui::cell("Backups", "num", &count("backups", shown.backups, shown.caps.max_backups)))
            (ui::menu_cell(&ui::row_menu(&format!("menu-{}", volume.id), volume.name.as_str(), &volume_menu(view, shown))))
        }
    }
}

fn place(volume: &Volume) -> String {
    match volume.own_instance().map(|own| own.place) {
        Some(0) => "Root: it boots from this".to_owned(),
        Some(place) => format!("Disk {place}"),
        None => text::capitalized(volume.role.as_str()),
    }
}

/// What is done with a volume from its instance's page.
fn volume_menu(view: &InstanceView, shown: &VolumeView) -> Markup {
    let id = shown.volume.id;
    let to = |dialog| paths::volume_tab(id, dialog);
    let choices = vec![
        (
            "Take Snapshot",
            Icon::Camera,
            to("snapshots/new"),
            Action::SnapshotCreate,
        ),
        (
            "Create Backup",
            Icon::Archive,
            to("backups/new"),
            Action::BackupCreate,
        ),
        (
            "Detach",
            Icon::Unplug,
            paths::instance_detach(view.instance.id, id),
            Action::VolumeDetach,
        ),
    ];
    ui::entries(id.as_uuid(), choices, &shown.permissions, view.now)
}

fn facts(view: &InstanceView, volumes: &[VolumeView]) -> Markup {
    let captured = volumes.iter().find_map(|v| {
        ui::answer(&v.permissions, Action::SnapshotCreate)
            .ok()?
            .consistency
    });
    let instance = &view.instance;
    let flavor = &instance.flavor;
    html! {
        (ui::fact("State", &html! { (text::capitalized(instance.state.as_str())) }))
        (ui::fact("Power", &html! { (text::capitalized(instance.power.as_str())) }))
        (ui::fact("Set-up", &html! { (ready(view)) }))
        @if let Some(load) = instance.load { (ui::fact("Load", &html! { (load.as_percent()) " %" })) }
        @if let Some(captured) = captured { (ui::fact("Consistency of a snapshot now", &html! { (expected_words(captured)) })) }
        @if let Some(at) = instance.started_at { (ui::fact("Running since", &ui::time(at, view.now))) }
        (ui::fact("Flavor", &html! { (flavor.name) }))
        (ui::fact("vCPUs", &html! { (flavor.vcpus) }))
        (ui::fact("Memory", &html! { (flavor.memory_bytes) }))
        @if let Some(gpu) = &flavor.gpu { (ui::fact("GPU", &html! { (gpu) })) }
        (ui::fact("Host name", &html! { code { (hostname(&instance.name)) } }))
        (ui::fact("Region", &html! { (view.region_name) }))
        (ui::fact("Node", &html! { (view.node_name) }))
        (ui::fact("Pool of new volumes", &html! { (view.pool_name) }))
        (ui::fact("Created", &ui::time(instance.created_at, view.now)))
        (ui::wide_fact("Id", &html! { code { (instance.id) } }))
    }
}

/// Whether its guest came up once.
fn ready(view: &InstanceView) -> &'static str {
    match (view.instance.ready, view.instance.power) {
        (true, _) => "Ready",
        (false, Power::Off) => "Not ready yet",
        (false, Power::Running | Power::Paused) => "Its guest is starting",
    }
}
