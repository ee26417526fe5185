//! How a change is asked for, and what is answered.

use futures_util::future::BoxFuture;
use stillpoint_model::guard::Allowed;
use stillpoint_model::operation::Operation;
use stillpoint_store::Tx;

use crate::Context;
use crate::error::{Error, Result};

/// How a change is to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Only say what would happen.
    pub dry_run: bool,
    /// Makes a repeated request the same request, for 24 hours. 1 to 255 printable characters.
    pub idempotency_key: Option<String>,
    /// Pass the cooldown. For administrators alone, and audited.
    pub override_cooldown: bool,
    /// Only if the thing still has this version.
    pub if_match: Option<i64>,
}

/// What a request for work is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one is made per request, and moved at most twice"
)]
pub enum Answer {
    /// It was accepted; this is the operation that does it.
    Accepted(Operation),
    /// It would be accepted.
    Preview(Preview),
}

/// What would happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// What the guard rails say.
    pub allowed: Allowed,
}

/// Why an edit left nothing behind.
enum Halt<T> {
    Error(Error),
    DryRun(T),
}

impl<T> From<stillpoint_store::Error> for Halt<T> {
    fn from(error: stillpoint_store::Error) -> Self {
        Self::Error(error.into())
    }
}

/// Makes a change that is done at once, in one transaction. A dry run is the same, rolled back at
/// its end.
pub(crate) async fn edit<T, F>(cx: &Context, dry_run: bool, edit: F) -> Result<T>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut Tx) -> BoxFuture<'c, Result<T>> + Send + 'static,
{
    let done = cx
        .db()
        .write(move |tx| {
            Box::pin(async move {
                let value = edit(tx).await.map_err(Halt::Error)?;
                if dry_run {
                    Err(Halt::DryRun(value))
                } else {
                    Ok(value)
                }
            })
        })
        .await;
    match done {
        Ok(value) | Err(Halt::DryRun(value)) => Ok(value),
        Err(Halt::Error(error)) => Err(error),
    }
}
