//! The dialogs about one volume: clone, resize, rename, delete.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, Render, html};
use stillpoint_control::volume::{self, VolumeView};
use stillpoint_control::{Answer as Outcome, Reference};
use stillpoint_model::guard::Action;
use stillpoint_model::plan::Confirmation;
use stillpoint_model::refusal::Refusal;

use crate::portal::error::{Failure, refusal};
use crate::portal::layout::{Nav, Page};
use crate::portal::paths;
use crate::portal::session::{Posted, Viewer};
use crate::portal::ui::{self, Fields, Sheet, Submit};
use crate::state::App;

type PageResult = Result<Response, Failure>;
type Dialog = fn(&Viewer, &VolumeView, &Fields, Option<&Refusal>) -> Markup;

pub(super) fn routes() -> Router<App> {
    let dialog = |form: Dialog| {
        move |State(app): State<App>, viewer: Viewer, Path(text): Path<String>| async move {
            let view = super::load(&app, &viewer, &text).await?;
            let fields = Fields::default().with("name", view.volume.name.as_str());
            let page = Page::new(&viewer, Nav::Volumes, "Volume");
            Ok::<_, Failure>(page.render_dialog(&form(&viewer, &view, &fields, None)))
        }
    };
    Router::new()
        .route(
            "/volumes/{volume}/clone",
            get(dialog(clone_open)).post(clone),
        )
        .route(
            "/volumes/{volume}/resize",
            get(dialog(resize_form)).post(resize),
        )
        .route(
            "/volumes/{volume}/rename",
            get(dialog(rename_form)).post(rename),
        )
        .route(
            "/volumes/{volume}/delete",
            get(dialog(delete_form)).post(delete),
        )
}

/// Where a form leads, or the form again with what is wrong.
fn settle(
    viewer: &Viewer,
    view: &VolumeView,
    fields: &Fields,
    form: Dialog,
    outcome: Result<String, Refusal>,
) -> Response {
    let page = Page::new(viewer, Nav::Volumes, "Volume");
    page.settle(outcome, |refusal| form(viewer, view, fields, Some(refusal)))
}

fn sheet<'a>(
    viewer: &'a Viewer,
    view: &VolumeView,
    dialog: &str,
    title: &'a str,
    submit: Submit<'a>,
    error: Option<&'a Refusal>,
) -> Sheet<'a> {
    Sheet {
        viewer,
        title,
        lead: html! { b { (view.volume.name) } ", " (view.volume.size) },
        action: paths::volume_tab(view.volume.id, dialog),
        back: paths::volume(view.volume.id),
        submit,
        error,
        item: None,
        upload: false,
    }
}

/// The clone's name begins empty, not as that of the source.
fn clone_open(viewer: &Viewer, view: &VolumeView, _: &Fields, error: Option<&Refusal>) -> Markup {
    clone_form(viewer, view, &Fields::default(), error)
}

fn clone_form(
    viewer: &Viewer,
    view: &VolumeView,
    fields: &Fields,
    error: Option<&Refusal>,
) -> Markup {
    let answer = ui::answer(&view.permissions, Action::VolumeClone);
    let submit = Submit {
        answer: Some(&answer),
        ..Submit::new("Clone")
    };
    sheet(viewer, view, "clone", "Clone volume", submit, error).render(&html! {
        p { "A new volume that starts as this one is now. Both share what neither changes, so it takes a moment and costs only what differs later." }
        (ui::warnings(&answer))
        (ui::text_field("name", "Name of the clone", fields, error).optional().focused()
            .hint("Left empty, a name is made from the source and the time."))
    })
}

async fn clone(
    State(app): State<App>,
    Path(text): Path<String>,
    Posted { viewer, fields }: Posted,
) -> PageResult {
    let view = super::load(&app, &viewer, &text).await?;
    let outcome = async {
        let (name, change) = (fields.optional_name("name")?, Viewer::change(&fields));
        let source = view.volume.id.into();
        let outcome = volume::clone(app.cx(), &viewer.actor, &source, name, &change).await;
        outcome
            .map(|o| made_volume(&o, &view))
            .map_err(|e| refusal(&e))
    };
    let outcome = outcome.await;
    Ok(settle(&viewer, &view, &fields, clone_form, outcome))
}

/// The page of the volume that an operation makes.
fn made_volume(outcome: &Outcome, view: &VolumeView) -> String {
    let made = match outcome {
        Outcome::Accepted(operation) => operation.volume_id,
        Outcome::Preview(_) => None,
    };
    paths::volume(made.unwrap_or(view.volume.id))
}

fn resize_form(
    viewer: &Viewer,
    view: &VolumeView,
    fields: &Fields,
    error: Option<&Refusal>,
) -> Markup {
    let answer = ui::answer(&view.permissions, Action::VolumeResize);
    let submit = Submit {
        answer: Some(&answer),
        ..Submit::new("Resize")
    };
    sheet(viewer, view, "resize", "Resize volume", submit, error).render(&html! {
        p { "A volume can grow, never shrink. The guest sees the new size; its file system is grown inside the guest." }
        (ui::warnings(&answer))
        (ui::size_field("size", "New size", fields, error))
    })
}

async fn resize(
    State(app): State<App>,
    Path(text): Path<String>,
    Posted { viewer, fields }: Posted,
) -> PageResult {
    let view = super::load(&app, &viewer, &text).await?;
    let outcome = async {
        let (size, change) = (ui::read_size(&fields, "size")?, Viewer::change(&fields));
        let volume = view.volume.id.into();
        let outcome = volume::resize(app.cx(), &viewer.actor, &volume, size, &change).await;
        outcome
            .map(|_| paths::volume(view.volume.id))
            .map_err(|e| refusal(&e))
    };
    let outcome = outcome.await;
    Ok(settle(&viewer, &view, &fields, resize_form, outcome))
}

fn rename_form(
    viewer: &Viewer,
    view: &VolumeView,
    fields: &Fields,
    error: Option<&Refusal>,
) -> Markup {
    let answer = ui::answer(&view.permissions, Action::VolumeRename);
    let submit = Submit {
        answer: Some(&answer),
        ..Submit::new("Rename")
    };
    sheet(viewer, view, "rename", "Rename volume", submit, error).render(
        &ui::text_field("name", "Name", fields, error)
            .focused()
            .render(),
    )
}

async fn rename(
    State(app): State<App>,
    Path(text): Path<String>,
    Posted { viewer, fields }: Posted,
) -> PageResult {
    let view = super::load(&app, &viewer, &text).await?;
    let outcome = async {
        let (name, change) = (fields.name("name")?, Viewer::change(&fields));
        let volume = Reference::from(view.volume.id);
        let outcome = volume::rename(app.cx(), &viewer.actor, &volume, name, &change).await;
        outcome
            .map(|_| paths::volume(view.volume.id))
            .map_err(|e| refusal(&e))
    };
    let outcome = outcome.await;
    Ok(settle(&viewer, &view, &fields, rename_form, outcome))
}

fn delete_form(
    viewer: &Viewer,
    view: &VolumeView,
    fields: &Fields,
    error: Option<&Refusal>,
) -> Markup {
    let answer = ui::answer(&view.permissions, Action::VolumeDelete);
    let typed = view.confirm.delete == Confirmation::TypeName;
    let submit = Submit {
        answer: Some(&answer),
        confirm: typed,
        ..Submit::danger("Delete volume")
    };
    sheet(viewer, view, "delete", "Delete volume", submit, error).render(&html! {
        div.alert.warn {
            (crate::portal::icon::Icon::Alert)
            div {
                h3 { "What will be lost" }
                p { "Everything on " b { (view.volume.name) } ". Its snapshots and backups stay and can be restored to a new volume." }
            }
        }
        @if typed { (ui::confirm_field(view.volume.name.as_str(), fields, error)) }
    })
}

async fn delete(
    State(app): State<App>,
    Path(text): Path<String>,
    Posted { viewer, fields }: Posted,
) -> PageResult {
    let view = super::load(&app, &viewer, &text).await?;
    let (volume, change) = (view.volume.id.into(), Viewer::change(&fields));
    let confirm = fields.optional("confirm");
    let outcome = volume::delete(app.cx(), &viewer.actor, &volume, confirm, &change).await;
    let outcome = outcome
        .map(|_| "/volumes".to_owned())
        .map_err(|e| refusal(&e));
    Ok(settle(&viewer, &view, &fields, delete_form, outcome))
}
