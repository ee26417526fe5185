//! Pools hold nothing that no name needs: leftovers of runs that are over go, and layers that no
//! name keeps apart are joined.
//!
//! The work is a task without an operation. At most one waits or runs per pool. It is handed out
//! only while nothing else is to be done in that pool, the node stops it when other work comes,
//! and what it left is done later.

use std::time::Duration;

use stillpoint_model::id::{PoolId, TaskId};
use stillpoint_model::saga::{Task, TaskRole, TaskState};
use stillpoint_model::task::TaskSpec;
use stillpoint_model::{Env, Timestamp};
use stillpoint_store::{Tx, place, task};

use crate::Context;
use crate::error::Result;

/// The pause before a tidying begins, so that several deletes are one tidying.
const SETTLE: Duration = Duration::from_secs(2);

/// Asks for a tidying of a pool, unless one waits already.
pub(crate) async fn request(
    tx: &mut Tx,
    env: &dyn Env,
    pool_id: PoolId,
    now: Timestamp,
) -> Result<()> {
    if let Some(mut waiting) = task::task_upkeep(tx, pool_id).await? {
        // One that is under way may have looked already: it goes on once more.
        if waiting.state == TaskState::Leased && !waiting.cancel {
            waiting.cancel = true;
            task::task_update(tx, &waiting).await?;
        }
        return Ok(());
    }
    let due_at = now.saturating_add(SETTLE);
    let (id, role) = (TaskId::generate(env), TaskRole::Upkeep);
    let upkeep = Task::offered(id, role, pool_id, TaskSpec::PoolTidy, due_at);
    Ok(task::task_insert(tx, &upkeep).await?)
}

/// Asks for a tidying of every pool.
pub async fn request_all(cx: &Context) -> Result<()> {
    let mut conn = cx.db().read().await?;
    let pools = place::pool_list(&mut conn).await?;
    drop(conn);
    let (context, now) = (cx.clone(), cx.now());
    cx.db()
        .write(move |tx| {
            Box::pin(async move {
                for pool in pools {
                    request(tx, context.env(), pool.id, now).await?;
                }
                Ok::<_, crate::Error>(())
            })
        })
        .await?;
    cx.board_bell().notify_waiters();
    Ok(())
}
