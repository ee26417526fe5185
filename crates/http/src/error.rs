//! What a handler answers when it cannot do what was asked.
//!
//! Handlers and extractors leave the refusal on the response; [`crate::finish`] writes it out in
//! one place, where the request's id is known.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use stillpoint_model::error::with_causes;
use stillpoint_model::refusal::{ProblemCode, Refusal, WayOut};

/// A refusal on its way out.
#[derive(Clone, Debug)]
pub(crate) struct ApiError(Box<Refusal>);

/// What handlers give.
pub(crate) type Result<T> = std::result::Result<T, ApiError>;

impl ApiError {
    /// The refusal itself.
    pub(crate) fn refusal(&self) -> &Refusal {
        &self.0
    }

    /// Corrects the pointer of a refusal whose field is somewhere else in this request.
    pub(crate) fn point_elsewhere(&mut self, from: &str, to: &str) {
        if self.0.pointer.as_deref() == Some(from) {
            self.0.pointer = Some(to.to_owned());
        }
    }

    /// A request that is malformed at `pointer`.
    pub(crate) fn invalid(pointer: impl Into<String>, text: impl Into<String>) -> Self {
        Refusal::new(ProblemCode::InvalidRequest, text)
            .at(pointer)
            .into()
    }

    /// No credential, or one that does not work.
    pub(crate) fn unauthenticated() -> Self {
        let text = "Sign in, or send a valid API token as `Authorization: Bearer ...`.";
        Refusal::new(ProblemCode::Unauthenticated, text).into()
    }

    /// Somebody who may not do this.
    pub(crate) fn forbidden(text: &str) -> Self {
        Refusal::new(ProblemCode::Forbidden, text).into()
    }

    /// Something that does not exist, or belongs to someone else.
    pub(crate) fn not_found(what: &str) -> Self {
        Refusal::not_found(what).into()
    }

    /// More of one kind at once than the server does.
    pub(crate) fn too_many(text: &str) -> Self {
        Refusal::new(ProblemCode::TooManyRequests, text)
            .after(Duration::from_secs(5))
            .into()
    }

    /// A fault of ours; the reason was logged.
    pub(crate) fn internal() -> Self {
        let text = "Something went wrong on our side. Nothing was changed unless it is listed.";
        Refusal::new(ProblemCode::Internal, text)
            .or(WayOut::AskOperator)
            .into()
    }

    /// What a bare status means, for errors that come from below the handlers.
    pub(crate) fn from_status(status: StatusCode) -> Self {
        let (code, text) = match status {
            StatusCode::NOT_FOUND => (ProblemCode::NotFound, "There is nothing at this address."),
            StatusCode::METHOD_NOT_ALLOWED => (
                ProblemCode::MethodNotAllowed,
                "This address does not take that method.",
            ),
            StatusCode::PAYLOAD_TOO_LARGE => {
                (ProblemCode::TooLarge, "The request is larger than allowed.")
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => (
                ProblemCode::UnsupportedMediaType,
                "The body is not of a type that is read here.",
            ),
            status if status.is_client_error() => {
                (ProblemCode::InvalidRequest, "The request cannot be read.")
            }
            _ => return Self::internal(),
        };
        Refusal::new(code, text).into()
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self(Box::new(refusal))
    }
}

impl From<stillpoint_control::Error> for ApiError {
    fn from(error: stillpoint_control::Error) -> Self {
        if !matches!(error, stillpoint_control::Error::Refused(_)) {
            tracing::error!(error = with_causes(&error), "a use case failed");
        }
        error.refusal().into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.http_status());
        let mut response = status
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            .into_response();
        response.extensions_mut().insert(self);
        response
    }
}
