//! Files in forms: a disk of the browser's machine, sent with the fields of a dialog. The fields come
//! first, so that what is wrong with them is known before the disk is taken in; the disk goes where
//! the API's uploads go.

use axum::extract::multipart::{Field, Multipart};
use maud::{Markup, html};
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::task::ImageFormat;
use stillpoint_model::words::UnknownWord;
use uuid::Uuid;

use super::icon::Icon;
use super::session::Viewer;
use super::ui::{self, Fields};
use crate::api;
use crate::state::App;

/// The longest field that is not the disk, and how many there may be.
const MAX_FIELD_BYTES: usize = 4096;
const MAX_FIELDS: usize = 16;

/// The hidden field that stands right before the file.
const IMAGE_FOLLOWS: &str = "image_follows";

/// Takes in the disk of a form, and answers its upload's id and what it is.
pub(super) async fn receive(
    app: &App,
    viewer: &Viewer,
    fields: &Fields,
    image: Option<Field<'_>>,
) -> Result<(Uuid, ImageFormat), Refusal> {
    let (image, format) = (image.ok_or_else(no_image)?, read_format(fields)?);
    // The form's own key is that of what is made of the disk.
    let key = fields
        .optional("idempotency_key")
        .map(|key| format!("{key} image"));
    let upload = api::receive_upload(app, &viewer.actor, key.as_deref(), image).await;
    let upload = upload.map_err(|error| error.refusal().clone())?;
    Ok((upload.id, format))
}

/// What the disk is. It is never guessed.
pub(super) fn format_field(fields: &Fields) -> Markup {
    let formats = [("raw", "Raw"), ("qcow2", "qcow2 without a backing file")];
    ui::radios("format", "Format of the image", &formats, fields)
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
pub(super) async fn read(form: &mut Multipart) -> Result<(Fields, Option<Field<'_>>), Refusal> {
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

/// The disk itself: the last of a form's fields.
pub(super) fn file_field(app: &App, error: Option<&Refusal>) -> Markup {
    let wrong = ui::field_error(error, "image");
    html! {
        (ui::hidden(IMAGE_FOLLOWS, "yes"))
        div.field {
            label for="field-image" { "Image file" }
            input #field-image type="file" name="image" required aria-describedby="field-image-note"
                aria-invalid=[wrong.map(|_| "true")];
            @match wrong {
                Some(text) => p.error #field-image-note { (Icon::Alert) (text) },
                None => p.hint #field-image-note { "At most " (app.settings().max_upload) ". The format is taken as you say it, never guessed." },
            }
        }
        p #upload-progress hidden { progress data-upload aria-label="Upload progress" {} }
    }
}
