//! The dialogs that make a volume: an empty one, or one of an image.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use stillpoint_control::volume::{self, VolumeCreate, VolumeOptions};
use stillpoint_control::{Answer as Outcome, Reference};
use stillpoint_model::ByteCount;
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
            size: read_size(&fields)?,
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
        (size_field("Size", fields, error))
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

/// A size in GiB or MiB.
pub(super) fn size_field(label: &str, fields: &Fields, error: Option<&Refusal>) -> Markup {
    let wrong = ui::field_error(error, "size");
    let unit = fields.get("unit");
    html! {
        div.field {
            label for="field-size" { (label) }
            div.with-unit {
                input #field-size type="text" inputmode="decimal" name="size" value=(fields.raw("size")) autocomplete="off"
                    aria-invalid=[wrong.map(|_| "true")] aria-describedby=[wrong.map(|_| "field-size-note")];
                select name="unit" aria-label="Unit" {
                    @for (value, text) in [("gib", "GiB"), ("mib", "MiB"), ("tib", "TiB")] {
                        option value=(value) selected[unit == value] { (text) }
                    }
                }
            }
            @if let Some(text) = wrong { p.error #field-size-note { (crate::portal::icon::Icon::Alert) (text) } }
        }
    }
}

/// Reads a size as it is written in the field: a number with at most three decimals.
pub(super) fn read_size(fields: &Fields) -> Result<ByteCount, Refusal> {
    let wrong = || {
        let text = "Enter a size such as 20 or 1.5.";
        Refusal::new(ProblemCode::InvalidRequest, text).at("/size")
    };
    let unit: u64 = match fields.get("unit") {
        "mib" => 1 << 20,
        "gib" | "" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(wrong()),
    };
    let (whole, decimals) = fields
        .get("size")
        .split_once('.')
        .unwrap_or((fields.get("size"), "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 3 {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let thousandths: u64 = format!("{decimals:0<3}").parse().map_err(|_| wrong())?;
    let bytes = unit.checked_mul(whole).ok_or_else(wrong)?;
    let bytes = bytes
        .checked_add(unit * thousandths / 1000)
        .ok_or_else(wrong)?;
    Ok(ByteCount::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str, unit: &str) -> Option<u64> {
        let fields = Fields::default().with("size", text).with("unit", unit);
        read_size(&fields).ok().map(ByteCount::get)
    }

    #[test]
    fn a_size_is_read_as_it_is_written() {
        assert_eq!(size("20", "gib"), Some(20 << 30));
        assert_eq!(size("1.5", "gib"), Some(3 << 29));
        assert_eq!(size("512", "mib"), Some(512 << 20));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "-1",
            "1e9",
            "1.",
            ".5",
            "1.2345",
            "99999999999999999999",
            "1 2",
        ] {
            assert_eq!(size(text, "gib"), None, "{text:?}");
        }
        assert_eq!(size("18446744073709551615", "tib"), None);
        assert_eq!(size("1", "kib"), None);
    }
}
