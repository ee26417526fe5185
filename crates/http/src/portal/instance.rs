//! Instances: the list, the page of one, and the dialogs about it.
//!
//! Attaching and detaching a volume is offered on both sides, here and on the volume's pages
//! ([`attach`]). The tab with its snapshots is [`super::instance_snapshot`]'s.

mod attach;
mod console;
mod create;
pub(super) mod detail;
mod dialog;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, Render, html};
use std::time::Duration;
use stillpoint_control::instance::{self, InstanceOptions, InstanceQuery, InstanceView};
use stillpoint_control::{Page as Rows, Reference};
use stillpoint_model::event::EventKind;
use stillpoint_model::guard::Action;
use stillpoint_model::instance::{Flavor, InstanceState};

use super::error::Failure;
use super::icon::Icon;
use super::layout::{Nav, Page, page_head};
use super::list::{self, ListParams};
use super::session::Viewer;
use super::{live, paths, text, ui};
use crate::state::App;

/// What changes a page about instances: their volumes, too.
const KINDS: [EventKind; 4] = [
    EventKind::Instance,
    EventKind::InstanceSnapshot,
    EventKind::Volume,
    EventKind::Operation,
];

/// `/instances` and below, and what the pages of volumes have of them.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/instances", get(list))
        .merge(create::routes())
        .merge(detail::routes())
        .merge(console::routes())
        .merge(dialog::routes())
        .merge(attach::routes())
}

/// One instance, by what stands in the address.
pub(super) async fn load(app: &App, viewer: &Viewer, text: &str) -> Result<InstanceView, Failure> {
    let reference = Reference::parse(text, "instance").map_err(|refusal| viewer.fail(&refusal))?;
    instance::show(app.cx(), &viewer.actor, &reference)
        .await
        .map_err(|error| viewer.sorry(&error))
}

/// A page of instances, or the one that was searched for.
async fn rows(
    app: &App,
    viewer: &Viewer,
    params: &ListParams,
) -> Result<Rows<InstanceView>, Failure> {
    let Some(search) = params.search() else {
        let page = params.page().map_err(|refusal| viewer.fail(&refusal))?;
        let rows = instance::list(app.cx(), &viewer.actor, &InstanceQuery { page }).await;
        return rows.map_err(|error| viewer.sorry(&error));
    };
    let found = match Reference::parse(search, "instance") {
        Ok(reference) => instance::show(app.cx(), &viewer.actor, &reference).await,
        Err(refusal) => Err(refusal.into()),
    };
    list::found(viewer, found)
}

async fn list(
    State(app): State<App>,
    viewer: Viewer,
    Query(params): Query<ListParams>,
) -> Result<Response, Failure> {
    let rows = rows(&app, &viewer, &params).await?;
    let options = create::options(&app, &viewer).await?;
    Ok(list_page(&viewer, &params, &rows, &options).into_response())
}

fn list_page(
    viewer: &Viewer,
    params: &ListParams,
    rows: &Rows<InstanceView>,
    options: &InstanceOptions,
) -> Markup {
    let next = params.next("/instances", rows.next.map(|c| c.to_string()));
    let answer = ui::answer(&options.permissions, Action::InstanceCreate);
    let create = ui::Action {
        id: "create",
        label: "New Instance",
        icon: Icon::Plus,
        href: "/instances/new".to_owned(),
        class: "primary",
        answer: &answer,
        now: viewer.now,
    };
    let content = html! {
        @if rows.items.is_empty() { (nothing(params, options)) } @else { (table(&rows.items)) }
        (ui::pager(params.first("/instances").as_deref(), next.as_deref()))
    };
    let lead =
        "Your virtual machines. Each runs from its volumes, which are protected as any other.";
    let body = html! {
        (page_head(&html! { "Instances" }, lead, &create.render()))
        section.card {
            (toolbar(params))
            (live::region(viewer, "list", &KINDS, &content))
        }
    };
    Page::new(viewer, Nav::Instances, "Instances")
        .moving(look_again(&rows.items))
        .render(&body)
}

fn toolbar(params: &ListParams) -> Markup {
    html! {
        form.toolbar.pad method="get" action="/instances" role="search" {
            div.grow {
                label.visually-hidden for="search" { "Name or id" }
                input #search type="search" name="q" placeholder="Name or id of an instance"
                    value=(params.search().unwrap_or_default());
            }
            button.button type="submit" { (Icon::Search) "Search" }
            @if params.is_filtered() { a.button.plain href="/instances" { "Clear" } }
        }
    }
}

fn nothing(params: &ListParams, options: &InstanceOptions) -> Markup {
    if params.is_filtered() {
        let teach = "No instance of yours has this name or id.";
        return ui::empty(Icon::Search, "Nothing matches", teach, &html! {});
    }
    if !options.runs_instances {
        let teach = "No node of this installation runs instances. It protects volumes all the \
                     same, whatever machine they belong to. Ask your operator if you want to run \
                     machines here.";
        let volumes = html! { a.button href="/volumes" { (Icon::Disk) "Go to volumes" } };
        return ui::empty(
            Icon::Machine,
            "Instances are not available here",
            teach,
            &volumes,
        );
    }
    let teach = "An instance is a virtual machine. It boots from a volume: import an image of an \
                 installed system first, or start from a snapshot or a backup.";
    let import = html! { a.button href="/volumes/import" { (Icon::Upload) "Import Image" } };
    ui::empty(Icon::Machine, "No instances yet", teach, &import)
}

/// The table of instances.
fn table(views: &[InstanceView]) -> Markup {
    let headings = [
        ("Name", ""),
        ("State", ""),
        ("Flavor", ""),
        ("Volumes", ""),
        ("Running since (UTC)", ""),
        ("Created (UTC)", ""),
        ("", ""),
    ];
    ui::table(
        "Instances",
        &headings,
        &html! { @for view in views { (row(view)) } },
    )
}

/// What instances do, for the start page.
pub(super) fn short_table(views: &[InstanceView]) -> Markup {
    let headings = [
        ("Instance", ""),
        ("State", ""),
        ("Flavor", ""),
        ("Volumes", ""),
        ("Running since (UTC)", ""),
    ];
    let rows = html! {
        @for view in views {
            tr role="row" {
                (ui::cell("Instance", "", &name_cell(view)))
                (ui::cell("State", "", &state_cell(view)))
                (ui::cell("Flavor", "", &html! { (view.instance.flavor.name) }))
                (ui::cell("Volumes", "", &volumes_cell(view)))
                (ui::cell("Running since (UTC)", "", &since_cell(view)))
            }
        }
    };
    ui::table("Your instances", &headings, &rows)
}

fn name_cell(view: &InstanceView) -> Markup {
    html! {
        a.name href=(paths::instance(view.instance.id)) { (view.instance.name) }
        @if let Some(failure) = &view.instance.failure { span.sub.bad { (failure) } }
    }
}

fn since_cell(view: &InstanceView) -> Markup {
    match view.instance.started_at {
        Some(at) => ui::time_cell(at, view.now),
        None => html! { span.faint { "Not running" } },
    }
}

fn row(view: &InstanceView) -> Markup {
    let instance = &view.instance;
    let id = instance.id;
    html! {
        tr role="row" {
            (ui::cell("Name", "", &name_cell(view)))
            (ui::cell("State", "", &state_cell(view)))
            (ui::cell("Flavor", "", &html! { (instance.flavor.name) span.sub { (machine(&instance.flavor)) } }))
            (ui::cell("Volumes", "", &volumes_cell(view)))
            (ui::cell("Running since (UTC)", "", &since_cell(view)))
            (ui::cell("Created (UTC)", "", &ui::time_cell(instance.created_at, view.now)))
            (ui::menu_cell(&ui::row_menu(&format!("menu-{id}"), instance.name.as_str(), &menu_entries(view))))
        }
    }
}

/// What a flavor gives: `2 vCPUs, 4.00 GiB`, and its GPU.
pub(super) fn machine(flavor: &Flavor) -> String {
    let plural = if flavor.vcpus == 1 { "" } else { "s" };
    let memory = flavor.memory_bytes;
    let gpu = flavor.gpu.as_ref().map(|gpu| format!(", {gpu}"));
    format!(
        "{} vCPU{plural}, {memory}{}",
        flavor.vcpus,
        gpu.unwrap_or_default()
    )
}

fn state_cell(view: &InstanceView) -> Markup {
    html! {
        (ui::instance_state(&view.instance))
        @if let Some(operation) = &view.active_operation {
            a.sub href=(paths::operation(operation.id)) { (text::operation(operation.kind)) " in progress" }
            (ui::bar(operation, "thin"))
        }
    }
}

/// Its root, and how many it has beside that.
fn volumes_cell(view: &InstanceView) -> Markup {
    html! {
        @match view.volumes.split_first() {
            None => span.faint { "None" },
            Some((first, rest)) => {
                a href=(paths::volume(first.id)) { (first.name) }
                @if !rest.is_empty() { span.sub { "and " (rest.len()) " more" } }
            }
        }
    }
}

/// What can be done with an instance, and what not and why.
fn menu_entries(view: &InstanceView) -> Markup {
    let to = |dialog| paths::instance_dialog(view.instance.id, dialog);
    let choices = vec![
        ("Start", Icon::Play, to("start"), Action::InstanceStart),
        ("Stop", Icon::Power, to("stop"), Action::InstanceStop),
        ("Pause", Icon::Hold, to("pause"), Action::InstancePause),
        ("Resume", Icon::Play, to("resume"), Action::InstanceResume),
        (
            "Take Snapshot",
            Icon::Camera,
            to("snapshots/new"),
            Action::InstanceSnapshotCreate,
        ),
        (
            "Attach Volume",
            Icon::Plug,
            to("attach"),
            Action::VolumeAttach,
        ),
        ("Rename", Icon::Pencil, to("rename"), Action::InstanceRename),
        ("Delete", Icon::Trash, to("delete"), Action::InstanceDelete),
    ];
    let id = view.instance.id.as_uuid();
    ui::entries(id, choices, &view.permissions, view.now)
}

/// How soon a page without scripts should look at these instances again.
fn look_again(views: &[InstanceView]) -> Option<Duration> {
    let moving = |view: &InstanceView| {
        view.active_operation.is_some()
            || matches!(
                view.instance.state,
                InstanceState::Provisioning | InstanceState::Rebuilding | InstanceState::Deleting
            )
    };
    views.iter().any(moving).then_some(Duration::from_secs(3))
}
