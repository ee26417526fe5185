//! The dialog that makes a volume of an image: a file of the browser's machine, sent with the
//! form. The fields come first, so that what is wrong with them is known before the image is
//! taken in; the image goes where the API's uploads go.

use axum::Router;
use axum::extract::multipart::{Field, Multipart};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use stillpoint_control::volume::{self, VolumeImport, VolumeOptions};
use stillpoint_model::guard::Action;
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::task::ImageFormat;
use stillpoint_model::words::UnknownWord;

use super::create::{made, options, pool_field, read_pool, read_role, role_field};
use crate::api;
use crate::portal::error::{Failure, refusal, status};
use crate::portal::icon::Icon;
use crate::portal::layout::{Nav, Page};
use crate::portal::session::{Viewer, is_foreign, stale_form};
use crate::portal::ui::{self, Fields, Sheet, Submit};
use crate::state::App;

/// The longest field that is not the image, and how many there may be.
const MAX_FIELD_BYTES: usize = 4096;
const MAX_FIELDS: usize = 16;

/// The hidden field that stands right before the file.
const IMAGE_FOLLOWS: &str = "image_follows";

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
    let (fields, image) = read(&mut form)
        .await
        .map_err(|refusal| viewer.fail(&refusal))?;
    viewer.check_csrf(fields.get("csrf_token"))?;
    let outcome = async {
        let image = image.ok_or_else(no_image)?;
        let (name, format) = (fields.name("name")?, read_format(&fields)?);
        let (role, pool) = (read_role(&fields)?, read_pool(&fields)?);
        // The form's own key is that of the import.
        let key = fields
            .optional("idempotency_key")
            .map(|key| format!("{key} image"));
        let upload = api::receive_upload(&app, &viewer.actor, key.as_deref(), image).await;
        let upload = upload.map_err(|error| error.refusal().clone())?.id;
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

fn malformed() -> Refusal {
    Refusal::new(
        ProblemCode::InvalidRequest,
        "The form ended before it was whole.",
    )
}

fn no_image() -> Refusal {
    Refusal::new(ProblemCode::InvalidRequest, "Choose the image's file.").at("/image")
}

/// The fields before the image, and the image; none when no file was chosen.
async fn read(form: &mut Multipart) -> Result<(Fields, Option<Field<'_>>), Refusal> {
    let mut pairs = Vec::new();
    while pairs.len() < MAX_FIELDS {
        let Some(pair) = next_pair(form).await? else {
            return Ok((Fields::new(pairs), None));
        };
        let image_follows = pair.0 == IMAGE_FOLLOWS;
        pairs.push(pair);
        if image_follows {
            let image = form.next_field().await.map_err(|_| malformed())?;
            let image = image.filter(|field| field.file_name().is_some_and(|f| !f.is_empty()));
            return Ok((Fields::new(pairs), image));
        }
    }
    Err(malformed())
}

/// The next field, which is no file.
async fn next_pair(form: &mut Multipart) -> Result<Option<(String, String)>, Refusal> {
    let Some(mut field) = form.next_field().await.map_err(|_| malformed())? else {
        return Ok(None);
    };
    let name = field.name().unwrap_or_default().to_owned();
    let mut value = Vec::new();
    while let Some(piece) = field.chunk().await.map_err(|_| malformed())? {
        if value.len() + piece.len() > MAX_FIELD_BYTES {
            return Err(Refusal::new(
                ProblemCode::TooLarge,
                "The form is too large.",
            ));
        }
        value.extend_from_slice(&piece);
    }
    let value = String::from_utf8(value).map_err(|_| malformed())?;
    Ok(Some((name, value)))
}

fn read_format(fields: &Fields) -> Result<ImageFormat, Refusal> {
    fields.get("format").parse().map_err(|e: UnknownWord| {
        Refusal::new(ProblemCode::InvalidRequest, format!("The format {e}.")).at("/format")
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
    let formats = [("raw", "Raw"), ("qcow2", "qcow2 without a backing file")];
    let sheet = sheet.render(&html! {
        (ui::text_field("name", "Name", fields, error).focused())
        (ui::radios("format", "Format of the image", &formats, fields))
        (role_field(fields))
        (pool_field(options, fields))
        (ui::hidden(IMAGE_FOLLOWS, "yes"))
        (file_field(app, error))
        p #upload-progress hidden { progress data-upload aria-label="Upload progress" {} }
    });
    let page = Page::new(viewer, Nav::Volumes, "Import Image");
    (status, page.render_dialog(&sheet)).into_response()
}

fn file_field(app: &App, error: Option<&Refusal>) -> Markup {
    let wrong = ui::field_error(error, "image");
    html! {
        div.field {
            label for="field-image" { "Image file" }
            input #field-image type="file" name="image" required aria-describedby="field-image-note"
                aria-invalid=[wrong.map(|_| "true")];
            @match wrong {
                Some(text) => p.error #field-image-note { (Icon::Alert) (text) },
                None => p.hint #field-image-note { "At most " (app.settings().max_upload) ". The format is taken as you say it, never guessed." },
            }
        }
    }
}
