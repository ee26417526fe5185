//! Lists of snapshots or backups, and what their creation dialogs share.

use maud::{Markup, Render, html};
use stillpoint_control::Reference;
use stillpoint_control::volume::VolumeView;
use stillpoint_model::event::EventKind;
use stillpoint_model::item::ItemKind;
use stillpoint_model::refusal::Refusal;

use super::dialog::nav;
use super::{Item, look_again, table};
use crate::portal::icon::Icon;
use crate::portal::layout::{Page, page_head};
use crate::portal::list::ListParams;
use crate::portal::live;
use crate::portal::session::Viewer;
use crate::portal::ui::{self, Answer, Fields};

/// The volume that a list is narrowed to.
pub(in crate::portal) fn volume_filter(params: &ListParams) -> Result<Option<Reference>, Refusal> {
    params
        .volume()
        .map(|text| Reference::parse(text, "volume"))
        .transpose()
}

/// The page that lists snapshots or backups of all volumes.
pub(in crate::portal) fn list_page(
    viewer: &Viewer,
    kind: ItemKind,
    items: &[Item],
    params: &ListParams,
    next: Option<&str>,
) -> Markup {
    let (title, lead, base, icon) = match kind {
        ItemKind::Snapshot => (
            "Snapshots",
            "Points in time of your volumes, on the volumes' own storage. Instant, and as safe as that storage.",
            "/snapshots",
            Icon::Camera,
        ),
        ItemKind::Backup => (
            "Backups",
            "Full, independent copies of your volumes in a backup target. They survive the loss of a volume's storage.",
            "/backups",
            Icon::Archive,
        ),
    };
    let kinds = match kind {
        ItemKind::Snapshot => [EventKind::Snapshot, EventKind::Operation],
        ItemKind::Backup => [EventKind::Backup, EventKind::Operation],
    };
    let content = html! {
        @if items.is_empty() { (nothing(kind, icon, params)) }
        @else { (table(title, items, true)) }
        (ui::pager(params.first(base).as_deref(), next))
    };
    let body = html! {
        (page_head(&html! { (title) }, lead, &html! {}))
        div.stack {
            @if kind == ItemKind::Snapshot { (snapshot_tabs(false)) }
            section.card {
                (toolbar(base, params))
                (live::region(viewer, "list", &kinds, &content))
            }
        }
    };
    Page::new(viewer, nav(kind), title)
        .moving(look_again(items))
        .render(&body)
}

/// The two lists of snapshots, by their addresses.
pub(in crate::portal) fn snapshot_tabs(of_instances: bool) -> Markup {
    let current = |this| (of_instances == this).then_some("page");
    html! {
        div.toolbar {
            nav.subtabs aria-label="Snapshots" {
                a href="/snapshots" aria-current=[current(false)] { "Of volumes" }
                a href="/instance-snapshots" aria-current=[current(true)] { "Of instances" }
            }
        }
    }
}

fn toolbar(base: &str, params: &ListParams) -> Markup {
    html! {
        form.toolbar.pad method="get" action=(base) role="search" {
            div.grow {
                label.visually-hidden for="filter-volume" { "Volume" }
                input #filter-volume type="search" name="volume" placeholder="Name or id of a volume"
                    value=(params.volume().unwrap_or_default());
            }
            button.button type="submit" { (Icon::Search) "Filter" }
            @if params.is_filtered() { a.button.plain href=(base) { "Clear" } }
        }
    }
}

fn nothing(kind: ItemKind, icon: Icon, params: &ListParams) -> Markup {
    if params.is_filtered() {
        return ui::empty(
            Icon::Search,
            "Nothing matches",
            "Nothing was made of a volume with this name or id.",
            &html! {},
        );
    }
    let (title, teach) = match kind {
        ItemKind::Snapshot => (
            "No snapshots yet",
            "Open a volume and press Take Snapshot before you change something. Rolling back takes a moment, whatever the volume's size.",
        ),
        ItemKind::Backup => (
            "No backups yet",
            "Open a volume and press Create Backup. The first one copies everything, later ones only what changed, and each restores alone.",
        ),
    };
    ui::empty(
        icon,
        title,
        teach,
        &html! { a.button.primary href="/volumes" { (Icon::Disk) "Go to volumes" } },
    )
}

/// What the dialogs that make an item share: the volume, the name, what it will be worth, and
/// what is folded away.
pub(in crate::portal) fn create_fields(
    view: &VolumeView,
    answer: &Answer,
    fields: &Fields,
    error: Option<&Refusal>,
) -> Markup {
    let volume = &view.volume;
    html! {
        div.field {
            label for="field-volume" { "Volume" }
            input #field-volume type="text" value=(volume.name) readonly;
        }
        (ui::text_field("name", "Name", fields, error).optional().focused()
            .hint("Left empty, a name is made from the volume and the time.").render())
        @if let Ok(allowed) = answer {
            @for warning in &allowed.warnings {
                div.alert.warn { (Icon::Alert) div { p { (warning) } } }
            }
            @if let Some(consistency) = allowed.consistency {
                p.small.muted { "Consistency: " (super::view::expected_words(consistency)) "." }
            }
        }
        (ui::description_and_labels(fields, error, false))
    }
}
