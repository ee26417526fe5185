//! Backups of all volumes, the dialog that makes one, and the one that proves one again.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use stillpoint_control::backup::{self, BackupCreate};
use stillpoint_control::item::ItemQuery;
use stillpoint_control::volume::VolumeView;
use stillpoint_control::{ListQuery, Reference, snapshot};
use stillpoint_model::guard::Action;
use stillpoint_model::item::{ItemKind, ItemState};
use stillpoint_model::refusal::Refusal;

use super::error::{Failure, refusal, status};
use super::item::{self, Item};
use super::layout::{Nav, Page};
use super::list::ListParams;
use super::session::{Posted, Viewer};
use super::ui::{self, Fields, Sheet, Submit};
use super::{paths, text, volume};
use crate::state::App;

/// `/backups` and below, and a volume's dialog.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/backups", get(list))
        .merge(item::routes(ItemKind::Backup))
        .route("/backups/{item}/verify", get(open_verify).post(post_verify))
        .route("/volumes/{volume}/backups/new", get(open).post(post))
}

async fn list(
    State(app): State<App>,
    viewer: Viewer,
    Query(params): Query<ListParams>,
) -> Result<Response, Failure> {
    let query = async {
        Ok(ItemQuery {
            page: params.page()?,
            volume: item::volume_filter(&params)?,
        })
    };
    let query = query.await.map_err(|r: Refusal| viewer.fail(&r))?;
    let page = backup::list(app.cx(), &viewer.actor, &query)
        .await
        .map_err(|e| viewer.sorry(&e))?;
    let next = params.next("/backups", page.next.map(|c| c.to_string()));
    let items: Vec<Item> = page.items.into_iter().map(Item::from).collect();
    Ok(
        item::list_page(&viewer, ItemKind::Backup, &items, &params, next.as_deref())
            .into_response(),
    )
}

/// A volume, and the snapshots that a backup of it may copy.
struct Source {
    view: VolumeView,
    snapshots: Vec<(String, String)>,
}

async fn load(app: &App, viewer: &Viewer, text: &str) -> Result<Source, Failure> {
    let view = volume::load(app, viewer, text).await?;
    let query = ItemQuery {
        page: ListQuery::default(),
        volume: Some(view.volume.id.into()),
    };
    let page = snapshot::list(app.cx(), &viewer.actor, &query)
        .await
        .map_err(|e| viewer.sorry(&e))?;
    let mut snapshots = vec![(String::new(), "The volume as it is now".to_owned())];
    snapshots.extend(
        page.items
            .iter()
            .filter(|view| view.snapshot.state == ItemState::Available)
            .map(|item| {
                let snapshot = &item.snapshot;
                let label = format!(
                    "Snapshot {} of {}",
                    snapshot.name,
                    text::utc(snapshot.created_at)
                );
                (snapshot.id.to_string(), label)
            }),
    );
    Ok(Source { view, snapshots })
}

async fn open(
    State(app): State<App>,
    viewer: Viewer,
    Path(text): Path<String>,
) -> Result<Response, Failure> {
    let source = load(&app, &viewer, &text).await?;
    Ok(show(
        &viewer,
        &source,
        &Fields::default(),
        None,
        StatusCode::OK,
    ))
}

async fn post(
    State(app): State<App>,
    Path(text): Path<String>,
    Posted { viewer, fields }: Posted,
) -> Result<Response, Failure> {
    let source = load(&app, &viewer, &text).await?;
    let id = source.view.volume.id;
    let outcome = async {
        let snapshot = fields
            .optional("snapshot")
            .map(|s| Reference::parse(s, "snapshot"))
            .transpose()?;
        let request = BackupCreate {
            item: super::snapshot::read(&fields)?,
            snapshot,
        };
        backup::create(
            app.cx(),
            &viewer.actor,
            &id.into(),
            request,
            &Viewer::change(&fields),
        )
        .await
        .map_err(|error| refusal(&error))
    };
    Ok(match outcome.await {
        Ok(_) => viewer.see_other(&paths::volume_tab(id, "backups")),
        Err(refusal) => show(&viewer, &source, &fields, Some(&refusal), status(&refusal)),
    })
}

fn show(
    viewer: &Viewer,
    source: &Source,
    fields: &Fields,
    error: Option<&Refusal>,
    status: StatusCode,
) -> Response {
    let view = &source.view;
    let answer = ui::answer(&view.permissions, Action::BackupCreate);
    let sheet = Sheet {
        viewer,
        title: "Create Backup",
        lead: html! {
            "A full, independent copy in a backup target. It survives the loss of the volume's storage."
            @if let Some(keep) = view.keep_backups {
                " Once it is there, nobody can delete it for " (text::span(keep.duration())) "."
            }
        },
        action: paths::volume_tab(view.volume.id, "backups/new"),
        back: paths::volume_tab(view.volume.id, "backups"),
        submit: Submit {
            answer: Some(&answer),
            ..Submit::new("Create Backup")
        },
        error,
        item: None,
        upload: false,
    };
    let body = html! {
        (item::create_fields(view, &answer, fields, error))
        @if source.snapshots.len() > 1 { (ui::select("snapshot", "Copy", &source.snapshots, fields)) }
        (ui::cap_meter(view.backups, view.caps.max_backups, "backups"))
    };
    dialog(
        viewer,
        Nav::Volumes,
        "Create Backup",
        &sheet.render(&body),
        status,
    )
}

fn dialog(viewer: &Viewer, nav: Nav, title: &str, sheet: &Markup, status: StatusCode) -> Response {
    (status, Page::new(viewer, nav, title).render_dialog(sheet)).into_response()
}

async fn load_item(app: &App, viewer: &Viewer, text: &str) -> Result<Item, Failure> {
    item::load(app, &viewer.actor, ItemKind::Backup, text)
        .await
        .map_err(|e| viewer.sorry(&e))
}

async fn open_verify(
    State(app): State<App>,
    viewer: Viewer,
    Path(text): Path<String>,
) -> Result<Response, Failure> {
    let item = load_item(&app, &viewer, &text).await?;
    Ok(show_verify(
        &viewer,
        &item,
        &Fields::default(),
        None,
        StatusCode::OK,
    ))
}

async fn post_verify(
    State(app): State<App>,
    Path(text): Path<String>,
    Posted { viewer, fields }: Posted,
) -> Result<Response, Failure> {
    let item = load_item(&app, &viewer, &text).await?;
    let outcome = async {
        let backup = Reference::parse(&item.uuid(), "backup")?;
        let deep = fields.get("depth") == "deep";
        backup::verify(
            app.cx(),
            &viewer.actor,
            &backup,
            deep,
            &Viewer::change(&fields),
        )
        .await
        .map_err(|error| refusal(&error))
    };
    Ok(match outcome.await {
        Ok(_) => viewer.see_other(&item.home()),
        Err(refusal) => show_verify(&viewer, &item, &fields, Some(&refusal), status(&refusal)),
    })
}

fn show_verify(
    viewer: &Viewer,
    item: &Item,
    fields: &Fields,
    error: Option<&Refusal>,
    status: StatusCode,
) -> Response {
    let answer = ui::answer(&item.permissions, Action::BackupVerify);
    let depths = [
        ("quick", "Quick: everything it needs is there"),
        ("deep", "Deep: decrypt and compare every chunk"),
    ];
    let sheet = Sheet {
        viewer,
        title: "Verify backup",
        lead: html! { b { (item.name) } " of " (item.volume_name) },
        action: paths::item_dialog(item.id, "verify"),
        back: item.home(),
        submit: Submit {
            answer: Some(&answer),
            ..Submit::new("Verify")
        },
        error,
        item: Some(item.id.into()),
        upload: false,
    };
    let body = html! {
        p { "Proves again that this backup can be restored. The volume is not touched." }
        (ui::radios("depth", "How thoroughly", &depths, fields))
    };
    dialog(
        viewer,
        Nav::Backups,
        "Verify backup",
        &sheet.render(&body),
        status,
    )
}
