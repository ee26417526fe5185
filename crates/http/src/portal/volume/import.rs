//! The dialog that makes a volume of an image: a file of the browser's machine, sent with the
//! form ([`upload`]).

use axum::Router;
use axum::extract::{DefaultBodyLimit, Multipart, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::html;
use stillpoint_control::volume::{self, VolumeImport, VolumeOptions};
use stillpoint_model::guard::Action;
use stillpoint_model::refusal::Refusal;

use super::create::{made, options, pool_field, read_pool, read_role, role_field};
use crate::portal::error::{Failure, refusal, status};
use crate::portal::layout::{Nav, Page};
use crate::portal::session::{Viewer, is_foreign, stale_form};
use crate::portal::ui::{self, Fields, Sheet, Submit};
use crate::portal::upload;
use crate::state::App;

pub(super) fn routes() -> Router<App> {
    // The size of an upload is bounded where it is written.
    Router::new()
        .route("/volumes/import", get(open).post(post))
        .layer(DefaultBodyLimit::disable())
}

async fn open(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    let options = options(&app, &viewer).await?;
    Ok(show(
        &app,
        &viewer,
        &options,
        &Fields::default(),
        None,
        StatusCode::OK,
    ))
}

async fn post(
    State(app): State<App>,
    viewer: Viewer,
    headers: HeaderMap,
    mut form: Multipart,
) -> Result<Response, Failure> {
    let options = options(&app, &viewer).await?;
    if is_foreign(&headers) {
        return Err(viewer.fail(&stale_form()));
    }
    let (fields, image) = upload::read(&mut form)
        .await
        .map_err(|refusal| viewer.fail(&refusal))?;
    viewer.check_csrf(fields.get("csrf_token"))?;
    let outcome = async {
        let (name, role) = (fields.name("name")?, read_role(&fields)?);
        let pool = read_pool(&fields)?;
        let (upload, format) = upload::receive(&app, &viewer, &fields, image).await?;
        let request = VolumeImport {
            name,
            role,
            upload,
            format,
            pool,
        };
        let change = Viewer::change(&fields);
        volume::import(app.cx(), &viewer.actor, request, &change)
            .await
            .map_err(|e| refusal(&e))
    };
    Ok(match outcome.await {
        Ok(outcome) => viewer.see_other(&made(&outcome)),
        Err(refusal) => show(
            &app,
            &viewer,
            &options,
            &fields,
            Some(&refusal),
            status(&refusal),
        ),
    })
}

fn show(
    app: &App,
    viewer: &Viewer,
    options: &VolumeOptions,
    fields: &Fields,
    error: Option<&Refusal>,
    status: StatusCode,
) -> Response {
    let answer = ui::answer(&options.permissions, Action::VolumeImport);
    let sheet = Sheet {
        viewer,
        title: "Import Image",
        lead: html! { "A volume made of a disk image on your machine." },
        action: "/volumes/import".to_owned(),
        back: "/volumes".to_owned(),
        submit: Submit {
            answer: Some(&answer),
            ..Submit::new("Import Image")
        },
        error,
        item: None,
        upload: true,
    };
    let sheet = sheet.render(&html! {
        (ui::text_field("name", "Name", fields, error).focused())
        (upload::format_field(fields))
        (role_field(fields))
        (pool_field(options, fields))
        (upload::file_field(app, error))
    });
    let page = Page::new(viewer, Nav::Volumes, "Import Image");
    (status, page.render_dialog(&sheet)).into_response()
}
