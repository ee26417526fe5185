//! Waiting for an operation.
//!
//! Events say when to look; a look now and then guards against what they miss. When the stream
//! breaks or the server restarts, looking goes on and the stream is opened again where it ended.
//! Dropping the future stops watching, not the work.

use std::time::Duration;

use stillpoint_model::ErrorKind;
use stillpoint_model::id::OperationId;
use stillpoint_wire::operation::Operation;

use crate::error::{Error, Result};
use crate::event::EventStream;
use crate::request::Client;

/// How often to look while events arrive.
const GUARD_INTERVAL: Duration = Duration::from_secs(5);

/// How often to look without them.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The least time between two looks: a fast disk reports faster than anybody reads.
const PAUSE: Duration = Duration::from_millis(100);

/// How many looks in a row may fail, about two minutes, before waiting is given up.
const MAX_FAILURES: u32 = 120;

impl Client {
    /// Waits until the operation is over, and tells `on_progress` of each state on the way, the
    /// last included.
    pub async fn wait(
        &self,
        id: OperationId,
        mut on_progress: impl FnMut(&Operation),
    ) -> Result<Operation> {
        let mut watch = Watch {
            client: self,
            id,
            stream: None,
            resume: None,
        };
        watch.connect().await;
        let mut seen = None;
        let mut failures = 0;
        loop {
            match self.operation_show(id).await {
                Ok(operation) => {
                    failures = 0;
                    if seen.as_ref() != Some(&operation) {
                        on_progress(&operation);
                    }
                    if operation.state.is_terminal() {
                        return Ok(operation);
                    }
                    seen = Some(operation);
                }
                Err(error) if worth_waiting(&error) && failures < MAX_FAILURES => failures += 1,
                Err(error) => return Err(error),
            }
            watch.changed().await;
        }
    }
}

/// Whether the server may be back soon.
fn worth_waiting(error: &Error) -> bool {
    error.kind() == ErrorKind::Retry
}

/// The stream of one operation's events, connected or not.
struct Watch<'a> {
    client: &'a Client,
    id: OperationId,
    stream: Option<EventStream>,
    resume: Option<i64>,
}

impl Watch<'_> {
    async fn connect(&mut self) {
        self.stream = self.client.events(self.resume, None).await.ok();
    }

    /// Returns when it is worth looking again.
    async fn changed(&mut self) {
        tokio::time::sleep(PAUSE).await;
        let Some(stream) = &mut self.stream else {
            tokio::time::sleep(POLL_INTERVAL).await;
            return self.connect().await;
        };
        let id = self.id;
        let relevant = async {
            loop {
                match stream.next().await {
                    Ok(Some(event)) if event.operation_id == Some(id) => return true,
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return false,
                }
            }
        };
        let outcome = tokio::time::timeout(GUARD_INTERVAL, relevant).await;
        self.resume = stream.last_id().or(self.resume);
        if outcome == Ok(false) {
            self.stream = None;
        }
    }
}
