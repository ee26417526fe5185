//! The live stream of what changed, as server-sent events.
//!
//! A reader that names the last event it saw gets everything after it, then what comes: each
//! once, in order. Nothing is buffered for a reader that is slow: the stream waits with its
//! place in the table of events, and a reader that takes nothing at all for too long is
//! disconnected ([`crate::serve`]) and may resume. Each stream ends after a while, so that a
//! credential that was revoked does not read on for ever.

use std::convert::Infallible;
use std::result;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event as Frame, KeepAlive};
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use stillpoint_control::event::{self, EventFilter};
use stillpoint_control::{Reference, volume};
use stillpoint_model::account::Actor;
use stillpoint_model::id::VolumeId;
use stillpoint_wire::event::Event;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::credential::Caller;
use crate::error::{ApiError, Result};
use crate::input::{QueryOf, optional_reference, single};
use crate::state::App;

/// How long a reader waits before it comes back.
const RETRY: Duration = Duration::from_secs(1);

const LAST_EVENT_ID: &str = "last-event-id";

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(event_stream))
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EventQuery {
    /// Everything after this event; from now on when absent. `Last-Event-ID` comes first.
    since: Option<i64>,
    /// Only those that belong to this volume, by id or name.
    volume: Option<String>,
    /// Those of every account. For administrators.
    #[serde(default)]
    all_accounts: bool,
}

/// What changed, live: server-sent events whose `id` resumes and whose `data` is an `Event`.
#[utoipa::path(get, path = "/v1/events", tag = "events",
    params(EventQuery, ("Last-Event-ID" = Option<i64>, Header,
        description = "Everything after this event")),
    responses((status = 200, description = "A stream of events", content_type = "text/event-stream",
        body = Event)))]
async fn event_stream(
    State(app): State<App>,
    Caller(actor): Caller,
    QueryOf(query): QueryOf<EventQuery>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = result::Result<Frame, Infallible>>>> {
    let since = last_event_id(&headers)?.or(query.since);
    if since.is_some_and(|since| since < 0) {
        return Err(ApiError::invalid(
            "?since",
            "An event has a number of zero or more.",
        ));
    }
    let volume = optional_reference(query.volume.as_deref(), "volume", "?volume")?;
    let filter = EventFilter {
        volume: volume_id(&app, &actor, volume).await?,
        all_accounts: query.all_accounts,
    };
    let slot = app.stream_slot()?;
    let events = event::subscribe(app.cx(), &actor, since, filter).await?;
    let frames = events.map(move |event| {
        let _held = &slot;
        Ok(frame(event))
    });
    // The first bytes tell the reader that it is connected.
    let hello = Frame::default().comment("connected").retry(RETRY);
    let frames = stream::iter([Ok(hello)])
        .chain(frames)
        .take_until(end(app.clone()));
    let heartbeat = KeepAlive::new()
        .interval(app.settings().heartbeat)
        .text("heartbeat");
    Ok(Sse::new(frames).keep_alive(heartbeat))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>> {
    let Some(text) = single(headers, LAST_EVENT_ID)? else {
        return Ok(None);
    };
    let wrong = |_| ApiError::invalid("Last-Event-ID:", "Not the id of an event.");
    text.trim().parse().map(Some).map_err(wrong)
}

async fn volume_id(
    app: &App,
    actor: &Actor,
    volume: Option<Reference>,
) -> Result<Option<VolumeId>> {
    Ok(match volume {
        None => None,
        // It may be gone, and its last events are still wanted.
        Some(Reference::Id(id)) => Some(VolumeId::from_uuid(id)),
        Some(name) => Some(volume::show(app.cx(), actor, &name).await?.volume.id),
    })
}

fn frame(event: stillpoint_model::event::Event) -> Frame {
    let event = Event::from(event);
    let frame = Frame::default()
        .id(event.sequence.to_string())
        .event(event.kind.as_str());
    let data = serde_json::to_string(&event).unwrap_or_default();
    frame.data(data)
}

/// When the stream has lived long enough, or the server stops.
async fn end(app: App) {
    let mut closing = app.settings().closing.clone();
    let stopped = closing.wait_for(|closing| *closing);
    let _ = tokio::time::timeout(app.settings().stream_lifetime, stopped).await;
}
