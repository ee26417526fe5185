//! Safety snapshots go when their day is over.
//!
//! Each goes by an operation of its own, the same that a person would start, so that it is seen
//! among the operations and is retried like any other. One that something reads, or that its
//! owner protected, stays until that is over.

use stillpoint_model::Timestamp;
use stillpoint_model::id::OperationId;
use stillpoint_model::item::ItemState;
use stillpoint_model::operation::{Operation, OperationKind, OperationState, Phase, Progress};
use stillpoint_model::saga::{Order, Request, Run, Terms};
use stillpoint_model::snapshot::Snapshot;
use stillpoint_store::{Tx, operation, snapshot};

use crate::Context;
use crate::engine::operation_changed;
use crate::error::Result;

/// How many go in one run.
const AT_ONCE: u32 = 100;

/// Starts the deletion of every snapshot whose time is over.
pub async fn expire_safety_snapshots(cx: &Context) -> Result<()> {
    let now = cx.now();
    let mut conn = cx.db().read().await?;
    let expired = snapshot::snapshot_expired(&mut conn, now, AT_ONCE).await?;
    drop(conn);
    for snapshot in expired {
        let context = cx.clone();
        cx.db()
            .write(move |tx| Box::pin(async move { expire(tx, &context, snapshot, now).await }))
            .await?;
        cx.engine_bell().notify_one();
    }
    Ok(())
}

async fn expire(tx: &mut Tx, cx: &Context, seen: Snapshot, now: Timestamp) -> Result<()> {
    let Some(mut row) = snapshot::snapshot_by_id(tx, seen.id).await? else {
        return Ok(());
    };
    let over = row.expires_at.is_some_and(|at| at <= now);
    let in_use = operation::operation_on_item(tx, row.id.as_uuid())
        .await?
        .is_some();
    if !over || row.protected || in_use || row.state != ItemState::Available {
        return Ok(());
    }
    // Whoever rolled the volume back asked for this, too.
    let Some(maker) = row.operation_id else {
        return Ok(());
    };
    let Some(made_by) = operation::operation_by_id(tx, maker).await? else {
        return Ok(());
    };
    let id = OperationId::generate(cx.env());
    let run = Run::accepted(operation_of(id, &made_by, &row, now), order_of(cx, &row));
    row.state = ItemState::Deleting;
    row.operation_id = Some(id);
    snapshot::snapshot_update(tx, &row).await?;
    operation::operation_insert(tx, &run).await?;
    operation_changed(tx, &run.operation, now).await
}

fn operation_of(id: OperationId, made_by: &Operation, row: &Snapshot, now: Timestamp) -> Operation {
    Operation {
        id,
        account_id: row.account_id,
        project_id: row.project_id,
        user_id: made_by.user_id,
        kind: OperationKind::SnapshotDelete,
        state: OperationState::Queued,
        volume_id: Some(row.volume_id),
        volume_name: Some(row.volume_name.clone()),
        snapshot_id: Some(row.id),
        backup_id: None,
        instance_id: None,
        instance_name: None,
        image_id: None,
        image_name: None,
        instance_snapshot_id: None,
        progress: Progress::start(Phase::Validation),
        fence: 1,
        failure: None,
        created_at: now,
        started_at: None,
        progressed_at: now,
        finished_at: None,
        version: 1,
    }
}

fn order_of(cx: &Context, row: &Snapshot) -> Order {
    Order {
        pool_id: row.pool_id,
        terms: Terms::of(&cx.settings().plan),
        request: Request::SnapshotDelete,
    }
}
