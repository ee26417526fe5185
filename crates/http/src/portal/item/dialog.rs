//! The pages and dialogs that snapshots and backups share: look, rename, protect, delete.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use stillpoint_control::item::ItemUpdate;
use stillpoint_model::item::ItemKind;
use stillpoint_model::refusal::Refusal;

use super::Item;
use crate::portal::error::{Failure, refusal, status};
use crate::portal::layout::{Nav, Page};
use crate::portal::session::{Posted, Viewer};
use crate::portal::ui::{self, Fields, Sheet, Submit};
use crate::portal::{live, paths, restore};
use crate::state::App;
use stillpoint_model::event::EventKind;

type PageResult = Result<Response, Failure>;
type Dialog = fn(&Viewer, &Item, &Fields, Option<&Refusal>) -> Markup;

/// The pages of the items of one kind, below `/snapshots` or `/backups`.
pub(in crate::portal) fn routes(kind: ItemKind) -> Router<App> {
    let show =
        move |app: State<App>, viewer: Viewer, item: Path<String>| page(kind, app, viewer, item);
    let dialog = move |form: Dialog| {
        move |app: State<App>, viewer: Viewer, item: Path<String>| {
            open(kind, form, app, viewer, item)
        }
    };
    let rename = move |app: State<App>, item: Path<String>, posted: Posted| {
        rename_post(kind, app, item, posted)
    };
    let protect = move |app: State<App>, item: Path<String>, posted: Posted| {
        protect_post(kind, app, item, posted)
    };
    let delete = move |app: State<App>, item: Path<String>, posted: Posted| {
        delete_post(kind, app, item, posted)
    };
    let at = |dialog| paths::items(kind) + "/{item}" + dialog;
    Router::new()
        .route(&at(""), get(show))
        .route(&at("/rename"), get(dialog(rename_form)).post(rename))
        .route(&at("/protect"), get(dialog(protect_form)).post(protect))
        .route(&at("/delete"), get(dialog(delete_form)).post(delete))
        .merge(restore::routes(kind))
}

/// The entry of the navigation that items of a kind belong to.
pub(in crate::portal) const fn nav(kind: ItemKind) -> Nav {
    match kind {
        ItemKind::Snapshot => Nav::Snapshots,
        ItemKind::Backup => Nav::Backups,
    }
}

async fn load(app: &App, viewer: &Viewer, kind: ItemKind, text: &str) -> Result<Item, Failure> {
    super::load(app, &viewer.actor, kind, text)
        .await
        .map_err(|error| viewer.sorry(&error))
}

async fn page(
    kind: ItemKind,
    State(app): State<App>,
    viewer: Viewer,
    Path(text): Path<String>,
) -> PageResult {
    let item = load(&app, &viewer, kind, &text).await?;
    let kinds = [
        EventKind::Operation,
        EventKind::Snapshot,
        EventKind::Backup,
        EventKind::Volume,
    ];
    let body = live::region(&viewer, "item", &kinds, &item.page(&viewer));
    let look_again = super::look_again(std::slice::from_ref(&item));
    let page = Page::new(&viewer, nav(kind), item.name.as_str()).moving(look_again);
    Ok(page.render(&body).into_response())
}

async fn open(
    kind: ItemKind,
    form: Dialog,
    State(app): State<App>,
    viewer: Viewer,
    Path(text): Path<String>,
) -> PageResult {
    let item = load(&app, &viewer, kind, &text).await?;
    let fields = Fields::default()
        .with("name", item.name.as_str())
        .with("description", item.description.as_str())
        .with("labels", ui::labels_text(&item.labels));
    Ok(show(
        &viewer,
        &item,
        &form(&viewer, &item, &fields, None),
        StatusCode::OK,
    ))
}

fn show(viewer: &Viewer, item: &Item, sheet: &Markup, status: StatusCode) -> Response {
    let page = Page::new(viewer, nav(item.id.kind()), item.name.as_str());
    (status, page.render_dialog(sheet)).into_response()
}

/// What a form is answered: on to the item's home, or the form again with what is wrong.
fn settle(
    viewer: &Viewer,
    item: &Item,
    fields: &Fields,
    form: Dialog,
    outcome: Result<(), Refusal>,
) -> Response {
    match outcome {
        Ok(()) => viewer.see_other(&item.home()),
        Err(refusal) => {
            let sheet = form(viewer, item, fields, Some(&refusal));
            show(viewer, item, &sheet, status(&refusal))
        }
    }
}

fn sheet<'a>(
    viewer: &'a Viewer,
    item: &Item,
    dialog: &str,
    title: &'a str,
    submit: Submit<'a>,
    error: Option<&'a Refusal>,
) -> Sheet<'a> {
    Sheet {
        viewer,
        title,
        lead: html! { b { (item.name) } " of " (item.volume_name) },
        action: paths::item_dialog(item.id, dialog),
        back: item.home(),
        submit,
        error,
        item: Some(item.id.into()),
        upload: false,
    }
}

fn rename_form(viewer: &Viewer, item: &Item, fields: &Fields, error: Option<&Refusal>) -> Markup {
    let title = format!("Rename {}", item.noun());
    sheet(viewer, item, "rename", &title, Submit::new("Save"), error).render(&html! {
        (ui::text_field("name", "Name", fields, error).focused())
        (ui::description_and_labels(fields, error, true))
    })
}

async fn rename_post(
    kind: ItemKind,
    State(app): State<App>,
    Path(text): Path<String>,
    posted: Posted,
) -> PageResult {
    let Posted { viewer, fields } = posted;
    let item = load(&app, &viewer, kind, &text).await?;
    let outcome = async {
        let update = read_update(&fields)?;
        let change = Viewer::change(&fields);
        super::update(&app, &viewer.actor, item.id, update, &change)
            .await
            .map_err(|e| refusal(&e))
    };
    let outcome = outcome.await;
    Ok(settle(&viewer, &item, &fields, rename_form, outcome))
}

/// What the form that renames says.
pub(in crate::portal) fn read_update(fields: &Fields) -> Result<ItemUpdate, Refusal> {
    Ok(ItemUpdate {
        name: Some(fields.name("name")?),
        description: Some(fields.get("description").to_owned()),
        labels: Some(fields.labels()?),
        protected: None,
    })
}

fn protect_form(viewer: &Viewer, item: &Item, _: &Fields, error: Option<&Refusal>) -> Markup {
    let noun = item.noun();
    let (title, label, text) = if item.protected {
        (
            format!("Remove the protection of this {noun}"),
            "Remove protection",
            "It can be deleted again, by a person and by a schedule that makes room.",
        )
    } else {
        (
            format!("Protect this {noun}"),
            "Protect",
            "While it is protected, neither a person nor a schedule can delete it. Anybody of your account can remove the protection.",
        )
    };
    sheet(viewer, item, "protect", &title, Submit::new(label), error).render(&html! {
        p { (text) }
        (ui::hidden("protected", if item.protected { "no" } else { "yes" }))
    })
}

async fn protect_post(
    kind: ItemKind,
    State(app): State<App>,
    Path(text): Path<String>,
    posted: Posted,
) -> PageResult {
    let Posted { viewer, fields } = posted;
    let item = load(&app, &viewer, kind, &text).await?;
    let update = ItemUpdate {
        protected: Some(fields.get("protected") == "yes"),
        ..ItemUpdate::default()
    };
    let outcome = super::update(
        &app,
        &viewer.actor,
        item.id,
        update,
        &Viewer::change(&fields),
    )
    .await;
    let outcome = outcome.map_err(|error| refusal(&error));
    Ok(settle(&viewer, &item, &fields, protect_form, outcome))
}

fn delete_form(viewer: &Viewer, item: &Item, fields: &Fields, error: Option<&Refusal>) -> Markup {
    let title = format!("Delete {}", item.noun());
    let answer = item.delete_answer();
    let label = format!("Delete {}", item.noun());
    let typed = item.typed_to_delete();
    let submit = Submit {
        answer: Some(&answer),
        confirm: typed.is_some(),
        ..Submit::danger(&label)
    };
    sheet(viewer, item, "delete", &title, submit, error).render(&html! {
        p { "This cannot be undone. Every other snapshot and backup of the volume stays as it is." }
        dl.facts-inline {
            dt { "Created" } dd { (ui::time_inline(item.created_at)) }
            dt { "Frees" } dd { (item.sizes.freed_if_deleted) }
        }
        @if let Some(name) = typed { (ui::confirm_field(name, fields, error)) }
    })
}

async fn delete_post(
    kind: ItemKind,
    State(app): State<App>,
    Path(text): Path<String>,
    posted: Posted,
) -> PageResult {
    let Posted { viewer, fields } = posted;
    let item = load(&app, &viewer, kind, &text).await?;
    let change = Viewer::change(&fields);
    let outcome = super::delete(
        &app,
        &viewer.actor,
        item.id,
        fields.optional("confirm"),
        &change,
    )
    .await;
    let outcome = outcome.map(|_| ()).map_err(|error| refusal(&error));
    Ok(settle(&viewer, &item, &fields, delete_form, outcome))
}
