//! Snapshots of all volumes, and the dialog that takes one.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use stillpoint_control::item::{ItemCreate, ItemQuery};
use stillpoint_control::snapshot;
use stillpoint_control::volume::VolumeView;
use stillpoint_model::guard::Action;
use stillpoint_model::item::ItemKind;
use stillpoint_model::name::Name;
use stillpoint_model::refusal::{ProblemCode, Refusal};

use super::error::{Failure, refusal, status};
use super::item::{self, Item};
use super::layout::{Nav, Page};
use super::list::ListParams;
use super::session::{Posted, Viewer};
use super::ui::{self, Fields, Sheet, Submit};
use super::{paths, volume};
use crate::state::App;

/// `/snapshots` and below, and a volume's dialog.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/snapshots", get(list))
        .merge(item::routes(ItemKind::Snapshot))
        .route("/volumes/{volume}/snapshots/new", get(open).post(post))
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
    let page = snapshot::list(app.cx(), &viewer.actor, &query)
        .await
        .map_err(|e| viewer.sorry(&e))?;
    let next = params.next("/snapshots", page.next.map(|c| c.to_string()));
    let items: Vec<Item> = page.items.into_iter().map(Item::from).collect();
    Ok(item::list_page(
        &viewer,
        ItemKind::Snapshot,
        &items,
        &params,
        next.as_deref(),
    )
    .into_response())
}

async fn open(
    State(app): State<App>,
    viewer: Viewer,
    Path(text): Path<String>,
) -> Result<Response, Failure> {
    let view = volume::load(&app, &viewer, &text).await?;
    Ok(show(
        &viewer,
        &view,
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
    let view = volume::load(&app, &viewer, &text).await?;
    let outcome = async {
        let (request, image) = (read(&fields)?, read_image(&fields)?);
        let (volume, change) = (view.volume.id.into(), Viewer::change(&fields));
        let (cx, actor) = (app.cx(), &viewer.actor);
        let asked = match image {
            None => snapshot::create(cx, actor, &volume, request, &change).await,
            Some(image) => {
                snapshot::create_with_image(cx, actor, &volume, request, image, &change).await
            }
        };
        asked.map_err(|error| refusal(&error))
    };
    Ok(match outcome.await {
        Ok(_) => viewer.see_other(&paths::volume_tab(view.volume.id, "snapshots")),
        Err(refusal) => show(&viewer, &view, &fields, Some(&refusal), status(&refusal)),
    })
}

/// What is said of a new item.
pub(super) fn read(fields: &Fields) -> Result<ItemCreate, Refusal> {
    Ok(ItemCreate {
        name: fields.optional_name("name")?,
        description: fields.get("description").to_owned(),
        labels: fields.labels()?,
    })
}

/// The box that makes an image of a snapshot at once, and the image's name.
pub(super) fn image_fields(fields: &Fields, error: Option<&Refusal>) -> Markup {
    html! {
        div.choice {
            label {
                input type="checkbox" name="as_image" value="on" checked[fields.is_checked("as_image")];
                b { "Create as image" } span { "A template that new instances boot from. There are both in the end, or neither." }
            }
            div.more {
                (ui::text_field("image", "Name of the image", fields, error).optional()
                    .hint("Left empty, it has the name of the snapshot."))
            }
        }
    }
}

/// The name of the image that a snapshot becomes at once; none when the box is not checked.
pub(super) fn read_image(fields: &Fields) -> Result<Option<Name>, Refusal> {
    if !fields.is_checked("as_image") {
        return Ok(None);
    }
    let given = fields.optional_name("image")?;
    let name = match given {
        None => fields.optional_name("name")?,
        given => given,
    };
    let unnamed = || {
        let text = "Name the image, or the snapshot.";
        Refusal::new(ProblemCode::InvalidRequest, text).at("/image")
    };
    name.ok_or_else(unnamed).map(Some)
}

fn show(
    viewer: &Viewer,
    view: &VolumeView,
    fields: &Fields,
    error: Option<&Refusal>,
    status: StatusCode,
) -> Response {
    let answer = ui::answer(&view.permissions, Action::SnapshotCreate);
    let volume = &view.volume;
    let sheet = Sheet {
        viewer,
        title: "Take Snapshot",
        lead: html! { "A point in time of the volume, on its own storage. The volume stays in use meanwhile." },
        action: paths::volume_tab(volume.id, "snapshots/new"),
        back: paths::volume_tab(volume.id, "snapshots"),
        submit: Submit {
            answer: Some(&answer),
            ..Submit::new("Take Snapshot")
        },
        error,
        item: None,
        upload: false,
    };
    let body = html! {
        (item::create_fields(view, &answer, fields, error))
        (image_fields(fields, error))
        (ui::cap_meter(view.snapshots, view.caps.max_snapshots, "snapshots"))
    };
    page(viewer, &sheet.render(&body), status)
}

fn page(viewer: &Viewer, sheet: &Markup, status: StatusCode) -> Response {
    let page = Page::new(viewer, Nav::Volumes, "Take Snapshot");
    (status, page.render_dialog(sheet)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(pairs: &[(&str, &str)]) -> Result<Option<String>, Refusal> {
        let fields = pairs
            .iter()
            .fold(Fields::default(), |fields, (k, v)| fields.with(k, *v));
        read_image(&fields).map(|name| name.map(String::from))
    }

    #[test]
    fn an_image_has_its_own_name_or_the_snapshots() {
        assert_eq!(image(&[("image", "golden")]), Ok(None));
        let asked = ("as_image", "on");
        let golden = Ok(Some("golden".to_owned()));
        assert_eq!(image(&[asked, ("image", "golden"), ("name", "x")]), golden);
        assert_eq!(image(&[asked, ("name", "golden")]), golden);
        let unnamed = image(&[asked]).unwrap_err();
        assert_eq!(unnamed.pointer.as_deref(), Some("/image"));
    }
}
