//! How an instance snapshot looks: as a row, as a menu, as a page.

use maud::{Markup, html};
use stillpoint_control::instance_snapshot::InstanceSnapshotView;
use stillpoint_model::guard::Action;
use stillpoint_model::instance_snapshot::CapturedVolume;
use stillpoint_model::item::{ItemState, RestorePointId};
use stillpoint_model::operation::OperationKind;

use crate::portal::icon::Icon;
use crate::portal::item::consistency_words;
use crate::portal::session::Viewer;
use crate::portal::ui::Subject;
use crate::portal::{instance, layout, operation, paths, text, ui};

/// The table of instance snapshots.
pub(super) fn table(views: &[InstanceSnapshotView], with_source: bool) -> Markup {
    let mut headings = vec![("Name", "")];
    if with_source {
        headings.push(("Instance", ""));
    }
    headings.extend([
        ("State", ""),
        ("Consistency", ""),
        ("Volumes", "num"),
        ("Size", "num"),
        ("Duration", "num"),
        ("Created (UTC)", ""),
        ("", ""),
    ]);
    let rows = html! { @for view in views { (row(view, with_source)) } };
    ui::table("Instance snapshots", &headings, &rows)
}

fn row(view: &InstanceSnapshotView, with_source: bool) -> Markup {
    let whole = &view.instance_snapshot;
    let consistency = whole.consistency.map(|c| text::capitalized(c.as_str()));
    let menu = ui::row_menu(
        &format!("menu-{}", whole.id),
        whole.name.as_str(),
        &menu_entries(view),
    );
    html! {
        tr role="row" {
            (ui::cell("Name", "", &name_cell(view)))
            @if with_source { (ui::cell("Instance", "", &source(view))) }
            (ui::cell("State", "", &state_cell(view)))
            (ui::cell("Consistency", "", &html! { (consistency.as_deref().unwrap_or("–")) }))
            (ui::cell("Volumes", "num", &html! { (whole.config.volumes.len()) }))
            (ui::cell("Size", "num", &size_cell(view)))
            (ui::cell("Duration", "num", &html! { (text::took(whole.duration_ms).as_deref().unwrap_or("–")) }))
            (ui::cell("Created (UTC)", "", &ui::time_cell(whole.created_at, view.now)))
            (ui::menu_cell(&menu))
        }
    }
}

fn name_cell(view: &InstanceSnapshotView) -> Markup {
    let whole = &view.instance_snapshot;
    html! {
        a.name href=(paths::instance_snapshot(whole.id)) { (whole.name) }
        @if whole.protected { " " span.tag { (Icon::Lock) " Protected" } }
        @if !whole.description.is_empty() { span.sub { (text::shortened(&whole.description)) } }
        @if let Some(failure) = &whole.failure { span.sub.bad { (failure) } }
    }
}

fn state_cell(view: &InstanceSnapshotView) -> Markup {
    html! {
        (ui::item_state(view.instance_snapshot.state))
        @if let Some(operation) = &view.active_operation {
            span.sub { (text::phase(operation.progress.phase)) }
            (ui::bar(operation, "thin"))
        }
    }
}

/// Its sizes in words, once they are known.
fn size_cell(view: &InstanceSnapshotView) -> Markup {
    let whole = &view.instance_snapshot;
    if matches!(whole.state, ItemState::Pending | ItemState::Creating) {
        return html! { "–" };
    }
    html! { (whole.sizes.provisioned) span.sub { (whole.sizes.stored) " stored" } }
}

fn source(view: &InstanceSnapshotView) -> Markup {
    let whole = &view.instance_snapshot;
    html! {
        @if view.source_exists { a href=(paths::instance(whole.instance_id)) { (whole.instance_name) } }
        @else { (whole.instance_name) span.sub { "deleted" } }
    }
}

/// What can be done with one, and what not and why.
fn menu_entries(view: &InstanceSnapshotView) -> Markup {
    let whole = &view.instance_snapshot;
    let (id, chosen) = (whole.id, format!("instance-snapshot:{}", whole.id));
    let to = |dialog| paths::instance_snapshot_dialog(id, dialog);
    let image = paths::with_query("/images/new", &[("source", Some(&chosen))]);
    let choices = vec![
        (
            "Create Instance",
            Icon::Machine,
            to("restore"),
            Action::InstanceCreate,
        ),
        (
            "Rebuild",
            Icon::Restore,
            to("rebuild"),
            Action::InstanceRebuild,
        ),
        ("Create Image", Icon::Template, image, Action::ImageCreate),
        (
            "Delete",
            Icon::Trash,
            to("delete"),
            Action::InstanceSnapshotDelete,
        ),
    ];
    let protect = if whole.protected {
        "Remove protection"
    } else {
        "Protect"
    };
    let free = html! {
        (ui::free_entry("Rename", Icon::Pencil, &to("rename")))
        (ui::free_entry(protect, Icon::Lock, &to("protect")))
    };
    let subject = Some(Subject::InstanceSnapshot(id));
    let (thing, permissions) = (id.as_uuid(), &view.permissions);
    ui::entries_about(thing, subject, &free, choices, permissions, view.now)
}

/// The page of one instance snapshot.
pub(super) fn page(viewer: &Viewer, view: &InstanceSnapshotView) -> Markup {
    let whole = &view.instance_snapshot;
    let title = html! { (whole.name) (ui::item_state(whole.state)) };
    let actions = ui::menu(
        "item-menu",
        &format!("Actions for {}", whole.name),
        &html! { "Actions" (Icon::More) },
        "",
        &menu_entries(view),
    );
    let active = view.active_operation.as_ref();
    let taking = active.filter(|o| o.kind == OperationKind::InstanceSnapshotCreate);
    html! {
        (layout::crumbs(&[("/instance-snapshots", "Instance snapshots")]))
        (layout::page_head(&title, &whole.description, &actions))
        div.stack {
            @if let Some(operation) = active { (ui::banner(operation, viewer.now)) }
            @if let Some(operation) = taking {
                section.card {
                    header { h2 { "Phases" } }
                    div.body { (operation::phases(operation)) }
                }
            }
            @if let Some(failure) = &whole.failure {
                (ui::failure_note("This instance snapshot failed", None, failure))
            }
            section.card {
                header { h2 { "Volumes in it" } span.small.muted { "Each restores alone, too" } }
                (parts(view))
            }
            section.card {
                header { h2 { "About" } }
                div.body { dl.facts { (facts(view)) } }
            }
        }
    }
}

/// The volumes that it holds. One that failed holds none any more.
fn parts(view: &InstanceSnapshotView) -> Markup {
    let headings = [
        ("Volume", ""),
        ("Role", ""),
        ("Size", "num"),
        ("Snapshot", ""),
    ];
    let there = view.instance_snapshot.state != ItemState::Failed;
    let rows = html! { @for captured in &view.instance_snapshot.config.volumes { (part(captured, there)) } };
    ui::table("Volumes in it", &headings, &rows)
}

fn part(captured: &CapturedVolume, there: bool) -> Markup {
    let role = match captured.place {
        0 => "Root: it boots from this".to_owned(),
        place => format!("Disk {place}"),
    };
    let snapshot = paths::item(RestorePointId::Snapshot(captured.snapshot_id));
    html! {
        tr role="row" {
            (ui::cell("Volume", "", &html! { b { (captured.name) } }))
            (ui::cell("Role", "", &html! { (role) }))
            (ui::cell("Size", "num", &html! { (captured.size) }))
            (ui::cell("Snapshot", "", &html! {
                @if there { a href=(snapshot) { "Snapshot of " (captured.name) } } @else { "–" }
            }))
        }
    }
}

fn facts(view: &InstanceSnapshotView) -> Markup {
    let whole = &view.instance_snapshot;
    let sizes = &whole.sizes;
    html! {
        (ui::fact("Instance", &source(view)))
        (ui::fact("Flavor", &html! { (whole.config.flavor.name) span.sub { (instance::machine(&whole.config.flavor)) } }))
        (ui::fact("Consistency", &html! { (consistency_words(whole.consistency)) }))
        (ui::fact("Provisioned", &html! { (sizes.provisioned) }))
        (ui::fact("Used", &html! { (sizes.used) }))
        (ui::fact("Stored", &html! { (sizes.stored) }))
        (ui::fact("Freed if deleted", &html! { (sizes.freed_if_deleted) }))
        @if let Some(memory) = whole.memory { (ui::fact("Memory", &html! { (memory) })) }
        (ui::fact("Created", &ui::time(whole.created_at, view.now)))
        (ui::fact("Duration", &html! { (text::took(whole.duration_ms).as_deref().unwrap_or("not known yet")) }))
        (ui::fact("Protected", &html! { (if whole.protected { "Yes" } else { "No" }) }))
        @if !whole.labels.is_empty() {
            (ui::wide_fact("Labels", &html! {
                @for (key, value) in &whole.labels { span.tag { (key) "=" (value) } " " }
            }))
        }
        (ui::wide_fact("Id", &html! { code { (whole.id) } }))
    }
}
