//! What grows by itself and is cut back by age: events, idempotency keys, sessions, uploads.

use std::time::Duration;

use stillpoint_model::Timestamp;
use stillpoint_store::Tx;
use stillpoint_store::event::event_trim;
use stillpoint_store::idempotency::idempotency_trim;
use stillpoint_store::operation::operation_by_id;
use stillpoint_store::session::session_trim;
use stillpoint_store::upload::{upload_delete, upload_list_before};

use crate::Context;
use crate::error::{Error, Result};

/// How long events can be replayed.
const EVENTS: Duration = Duration::from_hours(7 * 24);
/// How long a repeated request is the same request.
const IDEMPOTENCY: Duration = Duration::from_hours(24);
/// How long an upload waits to be imported.
const UPLOADS: Duration = Duration::from_hours(24);
/// Uploads looked at in one go.
const UPLOADS_AT_ONCE: u32 = 100;

/// Cuts back everything that is older than it need be. No input, safe to repeat; the engine does
/// it on a timer.
pub async fn trim(cx: &Context) -> Result<()> {
    let now = cx.now();
    cx.db()
        .write(move |tx| {
            Box::pin(async move {
                event_trim(tx, now.saturating_sub(EVENTS)).await?;
                idempotency_trim(tx, now.saturating_sub(IDEMPOTENCY)).await?;
                session_trim(tx, now).await?;
                trim_uploads(tx, now.saturating_sub(UPLOADS)).await
            })
        })
        .await
}

/// Forgets old uploads that no import works on.
async fn trim_uploads(tx: &mut Tx, before: Timestamp) -> Result<(), Error> {
    for upload in upload_list_before(tx, before, UPLOADS_AT_ONCE).await? {
        let operation = match upload.operation_id {
            Some(id) => operation_by_id(tx, id).await?,
            None => None,
        };
        if operation.is_none_or(|operation| operation.state.is_terminal()) {
            upload_delete(tx, upload.id).await?;
        }
    }
    Ok(())
}
