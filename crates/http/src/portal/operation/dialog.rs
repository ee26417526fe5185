//! The dialogs about one operation: cancel; for administrators release and retry.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use stillpoint_control::operation;
use stillpoint_model::operation::Operation;
use stillpoint_model::refusal::{ProblemCode, Refusal};

use crate::portal::error::{Failure, refusal, status};
use crate::portal::layout::{Nav, Page};
use crate::portal::session::{Posted, Viewer};
use crate::portal::ui::{self, Fields, Sheet, Submit};
use crate::portal::{paths, text};
use crate::state::App;

type PageResult = Result<Response, Failure>;

/// The three dialogs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialog {
    Cancel,
    Release,
    Retry,
}

pub(super) fn routes() -> Router<App> {
    let routes = |dialog: Dialog| {
        let open = move |app: State<App>, viewer: Viewer, path: Path<String>| {
            open(dialog, app, viewer, path)
        };
        let post = move |app: State<App>, path: Path<String>, posted: Posted| {
            post(dialog, app, path, posted)
        };
        get(open).post(post)
    };
    Router::new()
        .route("/operations/{operation}/cancel", routes(Dialog::Cancel))
        .route("/operations/{operation}/release", routes(Dialog::Release))
        .route("/operations/{operation}/retry", routes(Dialog::Retry))
}

async fn open(
    dialog: Dialog,
    State(app): State<App>,
    viewer: Viewer,
    Path(text): Path<String>,
) -> PageResult {
    let operation = super::load(&app, &viewer, &text).await?;
    Ok(show(
        dialog,
        &viewer,
        &operation,
        &Fields::default(),
        None,
        StatusCode::OK,
    ))
}

async fn post(
    dialog: Dialog,
    State(app): State<App>,
    Path(text): Path<String>,
    Posted { viewer, fields }: Posted,
) -> PageResult {
    let operation = super::load(&app, &viewer, &text).await?;
    let (cx, actor, id) = (app.cx(), &viewer.actor, operation.id);
    let reason = fields.get("reason");
    let outcome = if dialog != Dialog::Cancel && reason.is_empty() {
        let text = "Say why. It is kept in the audit.";
        Err(Refusal::new(ProblemCode::InvalidRequest, text).at("/reason"))
    } else {
        let key = fields.optional("idempotency_key");
        let answer = match dialog {
            Dialog::Cancel => operation::cancel(cx, actor, id, key).await,
            Dialog::Release => operation::release(cx, actor, id, reason, key).await,
            Dialog::Retry => operation::retry(cx, actor, id, reason, key).await,
        };
        answer.map_err(|error| refusal(&error))
    };
    Ok(match outcome {
        Ok(operation) => viewer.see_other(&paths::operation(operation.id)),
        Err(refusal) => show(
            dialog,
            &viewer,
            &operation,
            &fields,
            Some(&refusal),
            status(&refusal),
        ),
    })
}

fn show(
    dialog: Dialog,
    viewer: &Viewer,
    operation: &Operation,
    fields: &Fields,
    error: Option<&Refusal>,
    status: StatusCode,
) -> Response {
    let sheet = sheet(dialog, viewer, operation, fields, error);
    let page = Page::new(viewer, Nav::Operations, text::operation(operation.kind));
    (status, page.render_dialog(&sheet)).into_response()
}

fn sheet(
    dialog: Dialog,
    viewer: &Viewer,
    operation: &Operation,
    fields: &Fields,
    error: Option<&Refusal>,
) -> Markup {
    let (path, title, submit) = match dialog {
        Dialog::Cancel => (
            "cancel",
            "Cancel operation",
            Submit::danger("Cancel operation"),
        ),
        Dialog::Release => ("release", "Release operation", Submit::danger("Release")),
        Dialog::Retry => ("retry", "Retry operation", Submit::new("Retry")),
    };
    let sheet = Sheet {
        viewer,
        title,
        lead: html! {
            b { (text::operation(operation.kind)) }
            @if let Some(name) = operation.volume_name.as_ref().or(operation.instance_name.as_ref()) { " of " (name) }
        },
        action: paths::operation_dialog(operation.id, path),
        back: paths::operation(operation.id),
        submit: Submit {
            back: "Go back",
            ..submit
        },
        error,
        item: None,
        upload: false,
    };
    sheet.render(&match dialog {
        Dialog::Cancel => html! {
            p { "It stops as soon as that leaves nothing half done, and what it did is taken back. When it is already past that point, it ends by itself." }
        },
        Dialog::Release => html! {
            p { "Its worker is fenced off first, so that it can change nothing more. Then the operation fails with your reason and what it held is released. Use this when it hangs and cancelling did not help." }
            (reason_field(fields, error))
        },
        Dialog::Retry => html! {
            p { "The same work is asked for again, as a new operation under the same rules." }
            (reason_field(fields, error))
        },
    })
}

fn reason_field(fields: &Fields, error: Option<&Refusal>) -> Markup {
    html! {
        (ui::text_field("reason", "Reason", fields, error).focused()
            .hint("Its owner reads it, and it is kept in the audit."))
    }
}
