//! Volumes that are used before they are whole become whole.
//!
//! ```text
//!              due                 task                      whole
//! to be filled ----> offered, leased ----> ended ------------------------> a volume as any other
//!      ^                                    | failed, or its node fell silent
//!      +------------------------------------+ (after a pause, with the reason for its owner)
//! ```
//!
//! The work is a task without an operation ([`TaskRole::Fill`]): it holds no lock, for the volume is
//! started, stopped, attached and deleted meanwhile, and it has no end but a whole volume or none.
//! Each node fills one volume at a time, small ones first: others wait, and are used as well. The
//! backup cannot be deleted until then ([`stillpoint_model::guard`]).

use std::time::Duration;

use stillpoint_model::Timestamp;
use stillpoint_model::event::EventKind;
use stillpoint_model::id::{NodeId, TaskId, VolumeId};
use stillpoint_model::operation::Progress;
use stillpoint_model::saga::{Task, TaskRole, TaskState};
use stillpoint_model::task::{TaskOutcome, TaskSpec};
use stillpoint_model::volume::{Fill, Volume};
use stillpoint_store::event::{NewEvent, event_insert};
use stillpoint_store::fill::{fill_by_task, fill_delete, fill_list, fill_of_volume, fill_save};
use stillpoint_store::volume::{volume_by_id, volume_update};
use stillpoint_store::{Conn, Tx, place, task};

use super::pool_tidy;
use crate::Context;
use crate::error::Result;

/// The pause after a task that failed.
const TRY_AGAIN: Duration = Duration::from_mins(1);

/// Offers the filling that is due.
pub async fn offer_due(cx: &Context) -> Result<()> {
    let now = cx.now();
    let mut conn = cx.db().read().await?;
    let due = due(&mut conn, cx, now).await?;
    drop(conn);
    if due.is_empty() {
        return Ok(());
    }
    let context = cx.clone();
    cx.db()
        .write(move |tx| {
            Box::pin(async move {
                for volume in due {
                    offer(tx, &context, volume, now).await?;
                }
                Ok::<_, crate::Error>(())
            })
        })
        .await?;
    cx.board_bell().notify_waiters();
    Ok(())
}

/// One volume for each node that answers and fills none.
async fn due(conn: &mut Conn, cx: &Context, now: Timestamp) -> Result<Vec<VolumeId>> {
    let fills = fill_list(conn).await?;
    if fills.is_empty() {
        return Ok(Vec::new());
    }
    let (places, nodes) = (cx.places(), place::node_list(conn).await?);
    let answers = |id| nodes.iter().any(|n| n.id == id && cx.is_online(n, now));
    let mut of_node: Vec<(NodeId, Fill)> = Vec::new();
    for fill in fills {
        if let Some(volume) = volume_by_id(conn, fill.volume_id).await? {
            of_node.push((places.pool(volume.pool_id)?.node_id, fill));
        }
    }
    let mut taken: Vec<NodeId> = of_node
        .iter()
        .filter(|(_, fill)| fill.task_id.is_some())
        .map(|(node, _)| *node)
        .collect();
    let mut due = Vec::new();
    for (node, fill) in of_node {
        // A time far ahead was written by a clock that jumped.
        let waits = fill.due_at > now && fill.due_at <= now.saturating_add(TRY_AGAIN);
        if !taken.contains(&node) && !waits && answers(node) {
            taken.push(node);
            due.push(fill.volume_id);
        }
    }
    Ok(due)
}

async fn offer(tx: &mut Tx, cx: &Context, id: VolumeId, now: Timestamp) -> Result<()> {
    let Some(volume) = volume_by_id(tx, id).await? else {
        return Ok(());
    };
    let Some(mut fill) = fill_of_volume(tx, id).await? else {
        return Ok(());
    };
    if fill.task_id.is_some() {
        return Ok(());
    }
    let spec = TaskSpec::VolumeFill { volume_id: id };
    let (id, pool_id) = (TaskId::generate(cx.env()), volume.pool_id);
    let task = Task::offered(id, TaskRole::Fill, pool_id, spec, now);
    fill.task_id = Some(task.id);
    fill.progress = None;
    task::task_insert(tx, &task).await?;
    Ok(fill_save(tx, &fill).await?)
}

/// Reads how a task ended that filled a volume, or that its node fell silent.
pub(crate) async fn ended(tx: &mut Tx, cx: &Context, ended: Task, now: Timestamp) -> Result<()> {
    task::task_delete(tx, ended.id).await?;
    let Some(mut fill) = fill_by_task(tx, ended.id).await? else {
        return Ok(());
    };
    let Some(volume) = volume_by_id(tx, fill.volume_id).await? else {
        return Ok(());
    };
    if let Some(TaskOutcome::Volume { tip, size, used }) = ended.outcome {
        fill_delete(tx, volume.id).await?;
        let whole = Volume {
            filling: None,
            tip: Some(tip),
            size,
            used,
            version: volume.version + 1,
            ..volume
        };
        volume_update(tx, &whole).await?;
        // What was filled is a layer without a name now.
        pool_tidy::request(tx, cx.env(), whole.pool_id, now).await?;
        return changed(tx, &whole, now).await;
    }
    fill.task_id = None;
    fill.progress = None;
    fill.due_at = now;
    // A node that fell silent says nothing about the volume.
    if ended.state != TaskState::Leased {
        let text = ended.failure.map(|failure| {
            tracing::warn!(volume = %volume.id, detail = failure.detail, "a volume is not filled yet");
            failure.text
        });
        fill.failure = text;
        fill.due_at = now.saturating_add(TRY_AGAIN);
    }
    fill_save(tx, &fill).await?;
    changed(tx, &volume, now).await
}

/// Notes how far a task is that fills a volume.
pub(crate) async fn progressed(
    tx: &mut Tx,
    task: TaskId,
    progress: Progress,
    now: Timestamp,
) -> Result<()> {
    let Some(mut fill) = fill_by_task(tx, task).await? else {
        return Ok(());
    };
    fill.progress = Some(progress);
    fill.failure = None;
    fill_save(tx, &fill).await?;
    match volume_by_id(tx, fill.volume_id).await? {
        Some(volume) => changed(tx, &volume, now).await,
        None => Ok(()),
    }
}

async fn changed(tx: &mut Tx, volume: &Volume, now: Timestamp) -> Result<()> {
    let event = NewEvent {
        account_id: volume.account_id,
        kind: EventKind::Volume,
        resource_id: volume.id.as_uuid(),
        volume_id: Some(volume.id),
        operation_id: None,
        at: now,
    };
    Ok(event_insert(tx, &[event]).await?)
}
