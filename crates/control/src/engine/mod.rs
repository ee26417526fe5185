//! The operation engine: it moves every accepted operation to its one terminal outcome.
//!
//! ```text
//! admission --> run (due now) --> step --> task on the board --> node
//!                  ^               |                               |
//!                  +--- due again -+<------ finish, lease over ----+
//! ```
//!
//! A **step** ([`Engine::step`]) picks what is due and does one thing in one transaction: it
//! loads a run and its rows, lets the pure [`advance`] move them, and saves them with their
//! events. So it does not matter where a server dies, how often a step is repeated, or how many
//! engines there are: the next step starts from what is recorded. [`run`] is only a loop around
//! it, woken by signals and a timer; tests and the simulation call `step` themselves.
//!
//! **Time.** Due times, leases and progress are wall-clock times in the database, so that every
//! server reads the same. Clocks jump: a time too far ahead is taken for due, and silence counts
//! only when it was watched for a while on a clock that never jumps.

mod advance;
mod patience;
mod scene;
mod step;

use std::future::Future;
use std::time::Duration;

use stillpoint_model::Timestamp;
use stillpoint_model::error::with_causes;
use stillpoint_model::id::OperationId;
use stillpoint_model::operation::Operation;
use stillpoint_store::{Tx, operation};

pub use patience::Limits;
pub(crate) use scene::operation_changed;
pub use step::{Engine, Stepped};

use crate::Context;
use crate::error::Result;
use crate::reconcile::Reconcilers;

/// How long the engine sleeps at most when nothing wakes it.
const LONGEST_NAP: Duration = Duration::from_secs(10);

/// Asks an operation to stop. None when it is over or being cancelled already. The caller wakes
/// the engine after its transaction.
pub async fn cancel(tx: &mut Tx, id: OperationId, now: Timestamp) -> Result<Option<Operation>> {
    change(tx, id, now, |run| advance::cancel(run, now)).await
}

/// Ends an operation on an operator's word: its worker is fenced off in this transaction, and
/// the engine fails it and releases its volume in a later one. None when it is over. The caller
/// wakes the engine after its transaction.
pub async fn release(
    tx: &mut Tx,
    id: OperationId,
    reason: &str,
    now: Timestamp,
) -> Result<Option<Operation>> {
    change(tx, id, now, |run| advance::release(run, reason, now)).await
}

async fn change(
    tx: &mut Tx,
    id: OperationId,
    now: Timestamp,
    change: impl FnOnce(&mut stillpoint_model::saga::Run) -> bool + Send,
) -> Result<Option<Operation>> {
    let Some(mut run) = operation::operation_run(tx, id).await? else {
        return Ok(None);
    };
    let before = run.steps.clone();
    if !change(&mut run) {
        return Ok(None);
    }
    operation::operation_run_save(tx, &run, &before).await?;
    operation_changed(tx, &run.operation, now).await?;
    Ok(operation::operation_by_id(tx, id).await?)
}

/// Drives operations and reconcilers until `shutdown` is ready.
///
/// It may be dropped at any moment, as a crash would.
pub async fn run(cx: Context, shutdown: impl Future<Output = ()> + Send) {
    let limits = Limits {
        lease: cx.settings().lease,
        ..Limits::default()
    };
    let engine = Engine::new(cx.clone(), limits);
    let mut reconcilers = Reconcilers::new(cx.clone());
    let work = async {
        loop {
            reconcilers.run_due().await;
            let nap = match engine.step().await {
                Ok(Stepped::Moved) => continue,
                Ok(Stepped::Idle { next }) => next.map_or(LONGEST_NAP, |at| {
                    at.duration_since(cx.now())
                        .clamp(Duration::from_millis(1), LONGEST_NAP)
                }),
                Err(error) => {
                    tracing::error!(error = %with_causes(&error), "the engine could not take a step");
                    Duration::from_secs(1)
                }
            };
            tokio::select! {
                () = cx.engine_bell().notified() => {}
                () = tokio::time::sleep(nap) => {}
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = shutdown => {}
    }
}
