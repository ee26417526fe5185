//! The shapes of answers.

use axum::Json;
use axum::http::header::{ETAG, LOCATION};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use stillpoint_control::{Answer, Page, Permission};
use stillpoint_model::operation::Operation;
use stillpoint_wire::operation::Operation as WireOperation;
use stillpoint_wire::permission::{Permission as WirePermission, Preview as WirePreview};

/// What a request that takes time is answered: `202` and the operation, or what would happen.
pub(crate) fn answer(answer: Answer) -> Response {
    match answer {
        Answer::Accepted(operation) => accepted(operation),
        Answer::Preview(preview) => Json(WirePreview::from(preview.allowed)).into_response(),
    }
}

/// `202`, where to look, and the operation.
pub(crate) fn accepted(operation: Operation) -> Response {
    let location = [(LOCATION, format!("/v1/operations/{}", operation.id))];
    (
        StatusCode::ACCEPTED,
        location,
        Json(WireOperation::from(operation)),
    )
        .into_response()
}

/// Something that people edit, with the tag that `If-Match` takes.
pub(crate) fn tagged<T: Serialize>(version: i64, body: T) -> ([(HeaderName, String); 1], Json<T>) {
    ([(ETAG, format!("\"{version}\""))], Json(body))
}

/// A page, with each item as it crosses the wire.
pub(crate) fn page<T, U>(page: Page<T>, convert: impl FnMut(T) -> U) -> stillpoint_wire::Page<U> {
    stillpoint_wire::Page {
        items: page.items.into_iter().map(convert).collect(),
        next_page: page.next.map(|cursor| cursor.to_string()),
    }
}

/// A list that is short enough for one page.
pub(crate) fn whole<T>(items: impl IntoIterator<Item = T>) -> Json<stillpoint_wire::Page<T>> {
    Json(stillpoint_wire::Page {
        items: items.into_iter().collect(),
        next_page: None,
    })
}

/// What may be done, as it crosses the wire.
pub(crate) fn permissions(permissions: &[Permission]) -> Vec<WirePermission> {
    permissions
        .iter()
        .map(|p| WirePermission::new(p.action, &p.answer))
        .collect()
}
