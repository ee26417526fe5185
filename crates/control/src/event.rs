//! The live stream of what changed.
//!
//! A subscriber reads the table, from where it was; a signal after each commit tells it to read
//! on. So replay and live are the same thing: nothing can fall between them, and nothing can
//! come twice.

use std::collections::VecDeque;

use futures_util::{Stream, stream};
use stillpoint_model::account::Actor;
use stillpoint_model::event::Event;
use stillpoint_model::id::{AccountId, VolumeId};
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_store::Db;
use stillpoint_store::event::event_list;
use tokio::sync::watch;

use crate::Context;
use crate::error::Result;

/// Events read at once.
const BATCH: u32 = 256;

/// Which events.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventFilter {
    /// Only those that belong to this volume.
    pub volume: Option<VolumeId>,
    /// Those of every account. For administrators alone.
    pub all_accounts: bool,
}

/// The actor's events after `since`, then those to come: each once, in order, without a gap.
/// Without `since` it begins now; a `since` from before the oldest event that is kept begins
/// there. It ends only when the database fails or the server stops; the reader comes back with
/// the last sequence it saw.
pub async fn subscribe(
    cx: &Context,
    actor: &Actor,
    since: Option<i64>,
    filter: EventFilter,
) -> Result<impl Stream<Item = Event> + Send + use<>> {
    if filter.all_accounts && !actor.is_administrator() {
        let text = "Only an administrator sees the events of every account.";
        return Err(Refusal::new(ProblemCode::Forbidden, text).into());
    }
    let newest = cx.db().last_event();
    let now = *newest.borrow();
    let feed = Feed {
        db: cx.db().clone(),
        newest,
        account_id: (!filter.all_accounts).then_some(actor.account_id),
        volume: filter.volume,
        since: since.map_or(now, |since| since.min(now)),
        ready: VecDeque::new(),
    };
    Ok(stream::unfold(feed, Feed::next))
}

struct Feed {
    db: Db,
    newest: watch::Receiver<i64>,
    account_id: Option<AccountId>,
    volume: Option<VolumeId>,
    since: i64,
    ready: VecDeque<Event>,
}

impl Feed {
    async fn next(mut self) -> Option<(Event, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((event, self));
            }
            match self.read_on().await {
                Ok(true) => {}
                Ok(false) => self.newest.changed().await.ok()?,
                Err(error) => {
                    tracing::error!(%error, "a live stream ends");
                    return None;
                }
            }
        }
    }

    /// Reads the next events; answers whether there were any, wanted or not.
    async fn read_on(&mut self) -> Result<bool> {
        self.newest.borrow_and_update();
        let mut conn = self.db.read().await?;
        let events = event_list(&mut conn, self.account_id, self.since, BATCH).await?;
        let Some(last) = events.last() else {
            return Ok(false);
        };
        self.since = last.sequence;
        let volume = self.volume;
        let wanted = events
            .into_iter()
            .filter(|e| volume.is_none() || e.volume_id == volume);
        self.ready.extend(wanted);
        Ok(true)
    }
}
