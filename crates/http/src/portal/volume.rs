//! Volumes: the list, the pages of one, and the dialogs about it.

mod create;
mod detail;
mod dialog;
mod fill;
mod import;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use std::time::Duration;
use stillpoint_control::volume::{self, VolumeQuery, VolumeView};
use stillpoint_control::{Page as Rows, Reference};
use stillpoint_model::event::EventKind;
use stillpoint_model::guard::Action;
use stillpoint_model::volume::{Attachment, VolumeState};

use super::error::Failure;
use super::icon::Icon;
use super::layout::{Nav, Page, page_head};
use super::list::{self, ListParams};
use super::session::Viewer;
use super::ui::Answer;
use super::{live, paths, text, ui};
use crate::state::App;

/// What changes the list: an instance, too, that starts or is renamed.
const KINDS: [EventKind; 3] = [EventKind::Volume, EventKind::Instance, EventKind::Operation];

/// `/volumes` and below.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/volumes", get(list))
        .merge(create::routes())
        .merge(detail::routes())
        .merge(dialog::routes())
}

/// One volume, by what stands in the address.
pub(super) async fn load(app: &App, viewer: &Viewer, text: &str) -> Result<VolumeView, Failure> {
    let reference = Reference::parse(text, "volume").map_err(|refusal| viewer.fail(&refusal))?;
    volume::show(app.cx(), &viewer.actor, &reference)
        .await
        .map_err(|error| viewer.sorry(&error))
}

/// A page of volumes, or the one that was searched for.
async fn rows(
    app: &App,
    viewer: &Viewer,
    params: &ListParams,
) -> Result<Rows<VolumeView>, Failure> {
    let Some(search) = params.search() else {
        let page = params.page().map_err(|refusal| viewer.fail(&refusal))?;
        let rows = volume::list(app.cx(), &viewer.actor, &VolumeQuery { page }).await;
        return rows.map_err(|error| viewer.sorry(&error));
    };
    let found = match Reference::parse(search, "volume") {
        Ok(reference) => volume::show(app.cx(), &viewer.actor, &reference).await,
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
    let create = ui::answer(&options.permissions, Action::VolumeCreate);
    let import = ui::answer(&options.permissions, Action::VolumeImport);
    Ok(list_page(&viewer, &params, &rows, &create, &import).into_response())
}

fn list_page(
    viewer: &Viewer,
    params: &ListParams,
    rows: &Rows<VolumeView>,
    create: &Answer,
    import: &Answer,
) -> Markup {
    let next = params.next("/volumes", rows.next.map(|c| c.to_string()));
    let content = html! {
        @if rows.items.is_empty() { (nothing(params)) } @else { (table(&rows.items)) }
        (ui::pager(params.first("/volumes").as_deref(), next.as_deref()))
    };
    let lead = "The disks of your machines. Each has its own snapshots and backups.";
    let body = html! {
        (page_head(&html! { "Volumes" }, lead, &create_buttons(viewer, create, import)))
        section.card {
            (toolbar(params))
            (live::region(viewer, "list", &KINDS, &content))
        }
    };
    Page::new(viewer, Nav::Volumes, "Volumes")
        .moving(look_again(&rows.items))
        .render(&body)
}

/// The two ways to a volume. When neither is possible now, one reason is enough.
fn create_buttons(viewer: &Viewer, create: &Answer, import: &Answer) -> Markup {
    let button = |id, label, icon, href: &str, class, answer| ui::Action {
        id,
        label,
        icon,
        href: href.to_owned(),
        class,
        answer,
        now: viewer.now,
    };
    html! {
        (button("import", "Import Image", Icon::Upload, "/volumes/import", "", import))
        (button("create", "Create Volume", Icon::Plus, "/volumes/new", "primary", create))
    }
}

fn toolbar(params: &ListParams) -> Markup {
    html! {
        form.toolbar.pad method="get" action="/volumes" role="search" {
            div.grow {
                label.visually-hidden for="search" { "Name or id" }
                input #search type="search" name="q" placeholder="Name or id of a volume"
                    value=(params.search().unwrap_or_default());
            }
            button.button type="submit" { (Icon::Search) "Search" }
            @if params.is_filtered() { a.button.plain href="/volumes" { "Clear" } }
        }
    }
}

fn nothing(params: &ListParams) -> Markup {
    if params.is_filtered() {
        let teach = "No volume of yours has this name or id.";
        return ui::empty(Icon::Search, "Nothing matches", teach, &html! {});
    }
    let teach = "A volume is a disk. Import an image that you have (raw or qcow2), or create an \
                 empty one; then take its first snapshot.";
    ui::empty(Icon::Disk, "No volumes yet", teach, &html! {})
}

/// The table of volumes.
pub(super) fn table(views: &[VolumeView]) -> Markup {
    let headings = [
        ("Name", ""),
        ("State", ""),
        ("Size", "num"),
        ("Attached to", ""),
        ("Snapshots", "num"),
        ("Backups", "num"),
        ("Created (UTC)", ""),
        ("", ""),
    ];
    ui::table(
        "Volumes",
        &headings,
        &html! { @for view in views { (row(view)) } },
    )
}

fn row(view: &VolumeView) -> Markup {
    let volume = &view.volume;
    let count = |list: &str, used: u32, cap: u32| {
        html! { a href=(paths::volume_tab(volume.id, list)) { (used) " of " (cap) } }
    };
    let attached = match &volume.attachment {
        Some(attachment) => html! {
            (instance_link(attachment)) span.sub { (text::capitalized(attachment.state.as_str())) }
        },
        None => html! { span.faint { "Nothing" } },
    };
    html! {
        tr role="row" {
            (ui::cell("Name", "", &html! {
                a.name href=(paths::volume(volume.id)) { (volume.name) }
                span.sub { (text::capitalized(volume.role.as_str())) " · " (view.pool_name) }
                @if let Some(failure) = &volume.failure { span.sub.bad { (failure) } }
            }))
            (ui::cell("State", "", &state_cell(view)))
            (ui::cell("Size", "num", &html! { (volume.size) span.sub { (volume.used) " used" } }))
            (ui::cell("Attached to", "", &attached))
            (ui::cell("Snapshots", "num", &count("snapshots", view.snapshots, view.caps.max_snapshots)))
            (ui::cell("Backups", "num", &count("backups", view.backups, view.caps.max_backups)))
            (ui::cell("Created (UTC)", "", &ui::time_cell(volume.created_at, view.now)))
            (ui::menu_cell(&ui::row_menu(&format!("menu-{}", volume.id), volume.name.as_str(), &menu_entries(view))))
        }
    }
}

/// The instance that has a volume, with a link to one of ours.
pub(super) fn instance_link(attachment: &Attachment) -> Markup {
    html! {
        @match attachment.own {
            Some(own) => a href=(paths::instance(own.id)) { (attachment.instance) },
            None => (attachment.instance),
        }
    }
}

fn state_cell(view: &VolumeView) -> Markup {
    html! {
        (ui::volume_state(view.volume.state))
        @if let Some(operation) = &view.active_operation {
            a.sub href=(paths::operation(operation.id)) { (text::operation(operation.kind)) " in progress" }
            (ui::bar(operation, "thin"))
        }
        (fill::cell(view))
    }
}

/// What can be done with a volume, and what not and why.
fn menu_entries(view: &VolumeView) -> Markup {
    let to = |dialog| paths::volume_tab(view.volume.id, dialog);
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
        ("Clone", Icon::Clone, to("clone"), Action::VolumeClone),
        ("Resize", Icon::Resize, to("resize"), Action::VolumeResize),
        ("Attach", Icon::Plug, to("attach"), Action::VolumeAttach),
        ("Detach", Icon::Unplug, to("detach"), Action::VolumeDetach),
        ("Rename", Icon::Pencil, to("rename"), Action::VolumeRename),
        ("Delete", Icon::Trash, to("delete"), Action::VolumeDelete),
    ];
    let id = view.volume.id.as_uuid();
    ui::entries(id, choices, &view.permissions, view.now)
}

/// How soon a page without scripts should look at these volumes again.
pub(super) fn look_again(views: &[VolumeView]) -> Option<Duration> {
    let moving = |view: &VolumeView| {
        view.active_operation.is_some()
            || view.volume.filling.is_some()
            || matches!(
                view.volume.state,
                VolumeState::Creating | VolumeState::Deleting
            )
    };
    views.iter().any(moving).then_some(Duration::from_secs(3))
}
