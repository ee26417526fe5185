//! The dialogs that make a volume: an empty one, or one of an image.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use stillpoint_control::volume::{self, VolumeCreate, VolumeOptions};
use stillpoint_control::{Answer as Outcome, Reference};
use stillpoint_model::guard::Action;
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::volume::VolumeRole;
use stillpoint_model::words::UnknownWord;

use super::import;
use crate::portal::error::{Failure, refusal, status};
use crate::portal::layout::{Nav, Page};
use crate::portal::paths;
use crate::portal::session::{Posted, Viewer};
use crate::portal::ui::{self, Fields, Sheet, Submit};
use crate::state::App;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/volumes/new", get(open).post(post))
        .merge(import::routes())
}

/// What may be chosen for a new volume.
pub(super) async fn options(app: &App, viewer: &Viewer) -> Result<VolumeOptions, Failure> {
    volume::options(app.cx(), &viewer.actor)
        .await
        .map_err(|error| viewer.sorry(&error))
}

async fn open(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    let options = options(&app, &viewer).await?;
    let fields = Fields::default().with("size", "20");
    Ok(show(&viewer, &options, &fields, None, StatusCode::OK))
}

async fn post(
    State(app): State<App>,
    Posted { viewer, fields }: Posted,
) -> Result<Response, Failure> {
    let options = options(&app, &viewer).await?;
    let outcome = async {
        let request = VolumeCreate {
            name: fields.name("name")?,
            size: ui::read_size(&fields, "size")?,
            role: read_role(&fields)?,
            pool: read_pool(&fields)?,
        };
        let change = Viewer::change(&fields);
        volume::create(app.cx(), &viewer.actor, request, &change)
            .await
            .map_err(|e| refusal(&e))
    };
    Ok(match outcome.await {
        Ok(outcome) => viewer.see_other(&made(&outcome)),
        Err(refusal) => show(&viewer, &options, &fields, Some(&refusal), status(&refusal)),
    })
}

/// The page of the volume that is being made.
pub(super) fn made(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted(operation) => operation
            .volume_id
            .map_or_else(|| "/volumes".to_owned(), paths::volume),
        Outcome::Preview(_) => "/volumes".to_owned(),
    }
}

fn show(
    viewer: &Viewer,
    options: &VolumeOptions,
    fields: &Fields,
    error: Option<&Refusal>,
    status: StatusCode,
) -> Response {
    let answer = ui::answer(&options.permissions, Action::VolumeCreate);
    let sheet = Sheet {
        viewer,
        title: "Create Volume",
        lead: html! { "An empty disk. It occupies only what is written to it." },
        action: "/volumes/new".to_owned(),
        back: "/volumes".to_owned(),
        submit: Submit {
            answer: Some(&answer),
            ..Submit::new("Create Volume")
        },
        error,
        item: None,
        upload: false,
    };
    let sheet = sheet.render(&html! {
        (ui::text_field("name", "Name", fields, error).focused())
        (ui::size_field("size", "Size", fields, error))
        (role_field(fields))
        (pool_field(options, fields))
    });
    let page = Page::new(viewer, Nav::Volumes, "Create Volume");
    (status, page.render_dialog(&sheet)).into_response()
}

/// What the volume is for.
pub(super) fn role_field(fields: &Fields) -> Markup {
    let roles = [
        ("data", "Data disk"),
        ("root", "Root disk: an instance boots from it"),
    ];
    ui::radios("role", "Role", &roles, fields)
}

/// Where the volume will be; nothing to ask when there is one place.
pub(super) fn pool_field(options: &VolumeOptions, fields: &Fields) -> Markup {
    let pools: Vec<(String, String)> = options
        .pools
        .iter()
        .map(|pool| (pool.id.to_string(), pool.name.to_string()))
        .collect();
    html! { @if pools.len() > 1 { (ui::select("pool", "Pool", &pools, fields)) } }
}

pub(super) fn read_role(fields: &Fields) -> Result<VolumeRole, Refusal> {
    fields.get("role").parse().map_err(|e: UnknownWord| {
        Refusal::new(ProblemCode::InvalidRequest, format!("The role {e}.")).at("/role")
    })
}

pub(super) fn read_pool(fields: &Fields) -> Result<Option<Reference>, Refusal> {
    fields
        .optional("pool")
        .map(|pool| Reference::parse(pool, "pool"))
        .transpose()
}
