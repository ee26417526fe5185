//! Images: the list, the page of one, and the dialogs about it.
//!
//! An image is made of a snapshot, a backup or an instance snapshot ([`create`]), or of a disk of the
//! browser's machine ([`upload`]); at the time of a snapshot the dialog of that has a box for it.

mod create;
mod dialog;
mod upload;
mod view;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use std::time::Duration;
use stillpoint_control::image::{self, ImageOptions, ImageQuery, ImageView};
use stillpoint_control::{Page as Rows, Reference};
use stillpoint_model::event::EventKind;
use stillpoint_model::guard::Action;
use stillpoint_model::item::ItemState;

use super::error::Failure;
use super::icon::Icon;
use super::layout::{Nav, Page, page_head};
use super::list::{self, ListParams};
use super::session::Viewer;
use super::{live, ui};
use crate::state::App;

/// What changes a page about images.
const KINDS: [EventKind; 2] = [EventKind::Image, EventKind::Operation];

/// `/images` and below.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/images", get(list))
        .merge(create::routes())
        .merge(upload::routes())
        .route("/images/{image}", get(show))
        .merge(dialog::routes())
}

/// One image, by what stands in the address.
async fn load(app: &App, viewer: &Viewer, text: &str) -> Result<ImageView, Failure> {
    let reference = Reference::parse(text, "image").map_err(|refusal| viewer.fail(&refusal))?;
    image::show(app.cx(), &viewer.actor, &reference)
        .await
        .map_err(|error| viewer.sorry(&error))
}

/// What may be chosen for a new image.
async fn options(app: &App, viewer: &Viewer) -> Result<ImageOptions, Failure> {
    image::options(app.cx(), &viewer.actor)
        .await
        .map_err(|error| viewer.sorry(&error))
}

/// A page of images, or the one that was searched for.
async fn rows(app: &App, viewer: &Viewer, params: &ListParams) -> Result<Rows<ImageView>, Failure> {
    let Some(search) = params.search() else {
        let page = params.page().map_err(|refusal| viewer.fail(&refusal))?;
        let rows = image::list(app.cx(), &viewer.actor, &ImageQuery { page }).await;
        return rows.map_err(|error| viewer.sorry(&error));
    };
    let found = match Reference::parse(search, "image") {
        Ok(reference) => image::show(app.cx(), &viewer.actor, &reference).await,
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
    let options = options(&app, &viewer).await?;
    Ok(list_page(&viewer, &params, &rows, &options).into_response())
}

fn list_page(
    viewer: &Viewer,
    params: &ListParams,
    rows: &Rows<ImageView>,
    options: &ImageOptions,
) -> Markup {
    let next = params.next("/images", rows.next.map(|c| c.to_string()));
    let content = html! {
        @if rows.items.is_empty() { (nothing(params)) } @else { (view::table(&rows.items)) }
        (ui::pager(params.first("/images").as_deref(), next.as_deref()))
        div.pager { (ui::cap_meter(options.images, options.max_images, "images")) }
    };
    let lead = "What new instances boot from. An image starts at once, outlives what it was made \
                of, and is outlived by what is made of it.";
    let body = html! {
        (page_head(&html! { "Images" }, lead, &create_buttons(viewer, options)))
        section.card {
            (toolbar(params))
            (live::region(viewer, "list", &KINDS, &content))
        }
    };
    Page::new(viewer, Nav::Images, "Images")
        .moving(look_again(&rows.items))
        .render(&body)
}

/// The two ways to an image. When none can be made now, one reason is enough.
fn create_buttons(viewer: &Viewer, options: &ImageOptions) -> Markup {
    let answer = ui::answer(&options.permissions, Action::ImageCreate);
    let button = |id, label, icon, href: &str, class| ui::Action {
        id,
        label,
        icon,
        href: href.to_owned(),
        class,
        answer: &answer,
        now: viewer.now,
    };
    html! {
        @if answer.is_ok() { (button("upload", "Upload Image", Icon::Upload, "/images/upload", "")) }
        (button("create", "Create Image", Icon::Plus, "/images/new", "primary"))
    }
}

fn toolbar(params: &ListParams) -> Markup {
    html! {
        form.toolbar.pad method="get" action="/images" role="search" {
            div.grow {
                label.visually-hidden for="search" { "Name or id" }
                input #search type="search" name="q" placeholder="Name or id of an image"
                    value=(params.search().unwrap_or_default());
            }
            button.button type="submit" { (Icon::Search) "Search" }
            @if params.is_filtered() { a.button.plain href="/images" { "Clear" } }
        }
    }
}

fn nothing(params: &ListParams) -> Markup {
    if params.is_filtered() {
        let teach = "No image of yours has this name or id.";
        return ui::empty(Icon::Search, "Nothing matches", teach, &html! {});
    }
    let teach = "Set an instance up the way you want them all, take a snapshot of it, and create an \
                 image of that: each instance that you make of it starts as it was. Or upload a disk \
                 that you have, raw or qcow2.";
    ui::empty(Icon::Template, "No images yet", teach, &html! {})
}

async fn show(
    State(app): State<App>,
    viewer: Viewer,
    Path(text): Path<String>,
) -> Result<Response, Failure> {
    let shown = load(&app, &viewer, &text).await?;
    let body = live::region(&viewer, "image", &KINDS, &view::page(&viewer, &shown));
    let page = Page::new(&viewer, Nav::Images, shown.image.name.as_str());
    let page = page.moving(look_again(std::slice::from_ref(&shown)));
    Ok(page.render(&body).into_response())
}

/// How soon a page without scripts should look at these images again.
fn look_again(views: &[ImageView]) -> Option<Duration> {
    let moving = |view: &ImageView| {
        view.active_operation.is_some()
            || matches!(
                view.image.state,
                ItemState::Pending
                    | ItemState::Creating
                    | ItemState::Verifying
                    | ItemState::Deleting
            )
    };
    views.iter().any(moving).then_some(Duration::from_secs(3))
}
