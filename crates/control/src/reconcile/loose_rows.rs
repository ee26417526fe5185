//! No row waits for an operation that is over.
//!
//! The engine releases a volume and ends its items in the transaction that ends the operation,
//! so there is nothing to find here. If there ever is (a bug, a database repaired by hand), a
//! volume would be locked for ever: it is released, loudly.

use stillpoint_store::operation;

use crate::Context;
use crate::error::Result;

/// Releases volumes whose operation is over or unknown.
pub async fn release(cx: &Context) -> Result<()> {
    let released = cx
        .db()
        .write(|tx| Box::pin(async move { operation::operation_release_loose(tx).await }))
        .await?;
    if released > 0 {
        tracing::error!(released, "volumes were locked by operations that are over");
    }
    Ok(())
}
