//! Pages for what cannot be shown.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use stillpoint_control::Error;
use stillpoint_model::error::with_causes;
use stillpoint_model::id::RequestId;
use stillpoint_model::refusal::{ProblemCode, Refusal};

use super::icon::logo;
use super::layout::{Nav, Page, head, page_head};
use super::session::Viewer;
use super::ui;

/// An answer that is not the page that was asked for.
pub(super) struct Failure(Box<Response>);

impl From<Response> for Failure {
    fn from(response: Response) -> Self {
        Self(Box::new(response))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// The status that goes with a refusal.
pub(super) fn status(refusal: &Refusal) -> StatusCode {
    StatusCode::from_u16(refusal.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl Failure {
    /// A page without the frame, for somebody who is not signed in.
    pub(super) fn plain(refusal: &Refusal, request: Option<RequestId>) -> Self {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                (head(refusal.code.title(), None))
                body {
                    main.door {
                        div.card {
                            p.brand { (logo()) "Stillpoint" }
                            h1 { (refusal.code.title()) }
                            p.muted { (refusal.text) }
                            @if let Some(id) = request { p.small.faint { "Request " code { (id) } } }
                            p { a href="/" { "Back to the portal" } }
                        }
                    }
                }
            }
        };
        (status(refusal), page).into_response().into()
    }

    /// Something that is not there.
    pub(super) fn not_found(what: &str) -> Self {
        Self::plain(&Refusal::not_found(what), None)
    }
}

/// What somebody is told of an error. One that is a fault of ours is written to the log here,
/// with what caused it.
pub(super) fn refusal(error: &Error) -> Refusal {
    if !matches!(error, Error::Refused(_)) {
        tracing::error!(error = with_causes(error), "a page could not be made");
    }
    error.refusal()
}

impl Viewer {
    /// The page that tells of an error.
    pub(super) fn sorry(&self, error: &Error) -> Failure {
        self.fail(&refusal(error))
    }

    /// The page that says why something cannot be shown or done.
    pub(super) fn fail(&self, refusal: &Refusal) -> Failure {
        (status(refusal), self.failure_page(refusal))
            .into_response()
            .into()
    }

    fn failure_page(&self, refusal: &Refusal) -> Markup {
        let title = match refusal.code {
            ProblemCode::NotFound => "Nothing here",
            code => code.title(),
        };
        let body = html! {
            (page_head(&html! { (title) }, "", &html! {}))
            (ui::alert(refusal, self, None, "/"))
        };
        Page::new(self, Nav::Nowhere, title).render(&body)
    }
}
