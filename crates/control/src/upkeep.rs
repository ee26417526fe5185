//! What grows by itself and is cut back by age: events, idempotency keys, sessions, uploads.

use crate::Context;
use crate::error::Result;

/// Cuts back everything that is older than it need be. No input, safe to repeat; the engine does
/// it on a timer.
pub async fn trim(cx: &Context) -> Result<()> {
    let _ = cx;
    todo!()
}
