//! What keeps a page true while somebody looks at it.
//!
//! A live *region* is a part of a page that the browser fetches again, from the page's own
//! address, when the server says that something changed. So there is one rendering of
//! everything, and a page without scripts shows the same after a reload. The stream carries no
//! data, only kinds of change; several of one kind within [`GATHER`] are one message, the last
//! always included.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt};
use maud::{Markup, html};
use stillpoint_control::event::{self, EventFilter};
use stillpoint_model::event::{Event, EventKind};

use super::error::Failure;
use super::session::Viewer;
use crate::state::App;

/// Where pages listen.
pub(super) const PATH: &str = "/live";

/// How long changes of one kind are gathered into one message.
const GATHER: Duration = Duration::from_millis(300);

/// A part of a page that is fetched again when something of these kinds changes.
pub(super) fn region(viewer: &Viewer, id: &str, kinds: &[EventKind], content: &Markup) -> Markup {
    let mut triggers: Vec<String> = kinds.iter().map(|kind| format!("sse:{kind}")).collect();
    triggers.push("portal:refresh".to_owned());
    html! {
        div #(id) data-live hx-get=(viewer.here) hx-select={ "#" (id) " > *" } hx-target="this"
            hx-swap="innerHTML" hx-trigger=(triggers.join(", "))
        { (content) }
    }
}

/// A part of a page that is fetched again and again, for what no event tells of.
pub(super) fn watched_region(
    viewer: &Viewer,
    id: &str,
    every: Duration,
    content: &Markup,
) -> Markup {
    let trigger = format!("every {}s, portal:refresh", every.as_secs());
    html! {
        div #(id) data-live hx-get=(viewer.here) hx-select={ "#" (id) " > *" } hx-target="this"
            hx-swap="innerHTML" hx-trigger=(trigger)
        { (content) }
    }
}

/// `GET /live`: which kinds of things changed.
pub(super) async fn stream(
    State(app): State<App>,
    viewer: Viewer,
) -> Result<impl IntoResponse, Failure> {
    let filter = EventFilter {
        volume: None,
        all_accounts: viewer.actor.is_administrator(),
    };
    let events = event::subscribe(app.cx(), &viewer.actor, None, filter)
        .await
        .map_err(|error| viewer.sorry(&error))?;
    let mut closing = app.settings().closing.clone();
    let (lifetime, heartbeat) = (app.settings().stream_lifetime, app.settings().heartbeat);
    let slot = app
        .stream_slot()
        .map_err(|error| viewer.fail(error.refusal()))?;
    let over = async move {
        let _held = slot;
        let closed = async {
            let _ = closing.wait_for(|closing| *closing).await;
        };
        tokio::select! {
            () = tokio::time::sleep(lifetime) => {}
            () = closed => {}
        }
    };
    let messages = gather(Box::pin(events))
        .map(|kind| Ok::<_, Infallible>(Message::default().event(kind.as_str()).data("changed")))
        .take_until(over);
    Ok(Sse::new(messages).keep_alive(KeepAlive::new().interval(heartbeat)))
}

type Events = Pin<Box<dyn Stream<Item = Event> + Send>>;

fn gather(events: Events) -> impl Stream<Item = EventKind> + Send {
    stream::unfold(events, |mut events| async move {
        let mut kinds = BTreeSet::from([events.next().await?.kind]);
        let mut over = std::pin::pin!(tokio::time::sleep(GATHER));
        loop {
            tokio::select! {
                () = &mut over => break,
                event = events.next() => match event {
                    Some(event) => kinds.insert(event.kind),
                    None => break,
                },
            };
        }
        Some((kinds, events))
    })
    .flat_map(stream::iter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillpoint_model::Timestamp;
    use stillpoint_model::id::AccountId;

    fn event(kind: EventKind) -> Event {
        Event {
            sequence: 1,
            account_id: AccountId::from_uuid(uuid::Uuid::nil()),
            kind,
            resource_id: String::new(),
            volume_id: None,
            operation_id: None,
            at: Timestamp::EPOCH,
        }
    }

    #[tokio::test]
    async fn many_changes_of_one_kind_are_one_message() {
        let mut events = vec![event(EventKind::Operation); 50];
        events.push(event(EventKind::Snapshot));
        let kinds: Vec<_> = gather(Box::pin(stream::iter(events))).collect().await;
        assert_eq!(kinds, [EventKind::Snapshot, EventKind::Operation]);
    }
}
