//! How an image looks: as a row, as a menu, as a page.

use maud::{Markup, html};
use stillpoint_control::image::ImageView;
use stillpoint_model::ByteCount;
use stillpoint_model::guard::Action;
use stillpoint_model::image::{Image, ImageOrigin};
use stillpoint_model::item::RestorePointId;

use crate::portal::icon::Icon;
use crate::portal::item::consistency_words;
use crate::portal::session::Viewer;
use crate::portal::ui::Subject;
use crate::portal::{layout, paths, text, ui};

/// The table of images.
pub(super) fn table(views: &[ImageView]) -> Markup {
    let headings = [
        ("Name", ""),
        ("Made from", ""),
        ("State", ""),
        ("Consistency", ""),
        ("Size", "num"),
        ("Created (UTC)", ""),
        ("", ""),
    ];
    let rows = html! { @for view in views { (row(view)) } };
    ui::table("Images", &headings, &rows)
}

fn row(view: &ImageView) -> Markup {
    let image = &view.image;
    let consistency = image.consistency.map(|c| text::capitalized(c.as_str()));
    let menu = ui::row_menu(
        &format!("menu-{}", image.id),
        image.name.as_str(),
        &menu_entries(view),
    );
    html! {
        tr role="row" {
            (ui::cell("Name", "", &name_cell(view)))
            (ui::cell("Made from", "", &origin(image)))
            (ui::cell("State", "", &state_cell(view)))
            (ui::cell("Consistency", "", &html! { (consistency.as_deref().unwrap_or("–")) }))
            (ui::cell("Size", "num", &size_cell(image)))
            (ui::cell("Created (UTC)", "", &ui::time_cell(image.created_at, view.now)))
            (ui::menu_cell(&menu))
        }
    }
}

fn name_cell(view: &ImageView) -> Markup {
    let image = &view.image;
    html! {
        a.name href=(paths::image(image.id)) { (image.name) }
        @if image.protected { " " span.tag { (Icon::Lock) " Protected" } }
        @if !image.description.is_empty() { span.sub { (text::shortened(&image.description)) } }
        @if let Some(failure) = &image.failure { span.sub.bad { (failure) } }
    }
}

fn state_cell(view: &ImageView) -> Markup {
    html! {
        (ui::item_state(view.image.state))
        @if let Some(operation) = &view.active_operation {
            a.sub href=(paths::operation(operation.id)) { (text::operation(operation.kind)) " in progress" }
            (ui::bar(operation, "thin"))
        }
    }
}

/// Its size in words; of an upload it is not known before that was read.
fn size_cell(image: &Image) -> Markup {
    if image.size == ByteCount::ZERO {
        return html! { "–" };
    }
    html! { (image.size) @if image.layer.is_some() { span.sub { (image.used) " used" } } }
}

/// What it was made of, with a link: the page says so when that is gone.
fn origin(image: &Image) -> Markup {
    let (noun, href) = match image.origin {
        ImageOrigin::RestorePoint(id) => {
            let noun = match id {
                RestorePointId::Snapshot(_) => "Snapshot",
                RestorePointId::Backup(_) => "Backup",
            };
            (noun, Some(paths::item(id)))
        }
        ImageOrigin::InstanceSnapshot(id) => {
            ("Instance snapshot", Some(paths::instance_snapshot(id)))
        }
        ImageOrigin::Upload => ("Upload", None),
    };
    html! {
        @match (href, &image.origin_name) {
            (Some(href), Some(name)) => { a href=(href) { (name) } span.sub { (noun) } }
            _ => (noun),
        }
    }
}

/// What can be done with an image, and what not and why.
fn menu_entries(view: &ImageView) -> Markup {
    let id = view.image.id;
    let chosen = id.to_string();
    let create = paths::with_query("/instances/new", &[("image", Some(&chosen))]);
    let to = |dialog| paths::image_dialog(id, dialog);
    let choices = vec![
        (
            "Create Instance",
            Icon::Machine,
            create,
            Action::InstanceCreate,
        ),
        (
            "Create Volume",
            Icon::Disk,
            to("volume"),
            Action::VolumeCreate,
        ),
        ("Delete", Icon::Trash, to("delete"), Action::ImageDelete),
    ];
    let protect = if view.image.protected {
        "Remove protection"
    } else {
        "Protect"
    };
    let free = html! {
        (ui::free_entry("Rename", Icon::Pencil, &to("rename")))
        (ui::free_entry(protect, Icon::Lock, &to("protect")))
    };
    let subject = Some(Subject::Image(id));
    let (thing, permissions) = (id.as_uuid(), &view.permissions);
    ui::entries_about(thing, subject, &free, choices, permissions, view.now)
}

/// The page of one image.
pub(super) fn page(viewer: &Viewer, view: &ImageView) -> Markup {
    let image = &view.image;
    let title = html! { (image.name) (ui::item_state(image.state)) };
    let actions = ui::menu(
        "image-menu",
        &format!("Actions for {}", image.name),
        &html! { "Actions" (Icon::More) },
        "",
        &menu_entries(view),
    );
    html! {
        (layout::crumbs(&[("/images", "Images")]))
        (layout::page_head(&title, &image.description, &actions))
        div.stack {
            @if let Some(operation) = &view.active_operation { (ui::banner(operation, viewer.now)) }
            @if let Some(failure) = &image.failure {
                (ui::failure_note("This image failed", None, failure))
            }
            section.card {
                header { h2 { "About" } }
                div.body { dl.facts { (facts(view)) } }
            }
        }
    }
}

fn facts(view: &ImageView) -> Markup {
    let image = &view.image;
    html! {
        (ui::fact("Made from", &origin(image)))
        (ui::fact("Size", &size_cell(image)))
        (ui::fact("Consistency", &html! { (consistency_words(image.consistency)) }))
        (ui::fact("Pool", &html! { (view.pool_name) }))
        (ui::fact("Region", &html! { (view.region_name) }))
        (ui::fact("Created", &ui::time(image.created_at, view.now)))
        (ui::fact("Duration", &html! { (text::took(image.duration_ms).as_deref().unwrap_or("not known yet")) }))
        (ui::fact("Protected", &html! { (if image.protected { "Yes" } else { "No" }) }))
        @if !image.labels.is_empty() {
            (ui::wide_fact("Labels", &html! {
                @for (key, value) in &image.labels { span.tag { (key) "=" (value) } " " }
            }))
        }
        (ui::wide_fact("Id", &html! { code { (image.id) } }))
    }
}
