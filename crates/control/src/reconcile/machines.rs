//! Rows follow machines: what a node sees of the machines that it has.
//!
//! A node says every few seconds, whole, what its machines do ([`Sight`]). While an operation holds
//! an instance, that operation alone writes its power; this only notes that the guest has come up and
//! how busy it is. While none does:
//!
//! | the row says | the node sees | what becomes of it |
//! |---|---|---|
//! | active | no machine, or one that is off | stopped; with a reason when the machine crashed |
//! | stopped | a machine that runs | active: an operation that was given up had started it |
//! | running | paused, or the other way round | as the node sees; with a reason when storage was full |
//! | nothing | a machine | ended and removed, when an operation that is over was about it |
//! | nothing, nor was there ever | a machine | left alone, and an operator is told |
//!
//! A machine is never ended because a row is missing: a database that was put back to yesterday knows
//! nothing of today's guests. It is ended only when an operation that we remember should have left
//! none. A sight that contradicts a row counts when the next one says the same and the row did not
//! change in between: the first may have been on its way while an operation ended.

use std::collections::HashMap;

use stillpoint_model::Timestamp;
use stillpoint_model::event::EventKind;
use stillpoint_model::id::{InstanceId, NodeId, TaskId};
use stillpoint_model::instance::{BOOT_GRACE, Instance, InstanceState, Power, Sight};
use stillpoint_model::name::Name;
use stillpoint_model::saga::{Task, TaskRole};
use stillpoint_model::task::TaskSpec;
use stillpoint_store::event::{NewEvent, event_insert};
use stillpoint_store::{Tx, instance, operation, place, task, volume};

use crate::Context;
use crate::error::Result;

/// A contradiction that was seen once: what the node saw, and the version of the row.
pub(crate) type Doubts = HashMap<InstanceId, (Power, i64)>;

/// What a node's report came to.
pub(crate) struct Seen {
    /// What was contradicted just now, for the next report.
    pub(crate) doubts: Doubts,
    /// Whether there is a machine to remove.
    pub(crate) chores: bool,
}

/// Reads what a node sees of all its machines.
pub(crate) async fn sighted(
    tx: &mut Tx,
    cx: &Context,
    node_id: NodeId,
    sights: &[Sight],
    doubts: &Doubts,
) -> Result<Seen> {
    let now = cx.now();
    let mut seen = Seen {
        doubts: Doubts::new(),
        chores: false,
    };
    let nodes = place::node_list(tx).await?;
    if nodes.iter().any(|n| n.id == node_id && !n.runs_instances) {
        place::node_update_runs_instances(tx, node_id, true).await?;
    }
    let rows = instance::instance_of_node(tx, node_id).await?;
    for before in &rows {
        let sight = sights.iter().find(|sight| sight.instance_id == before.id);
        let mut after = before.clone();
        if contradicts(before, sight) {
            let doubt = (power(sight), before.version);
            if doubts.get(&before.id) != Some(&doubt) {
                seen.doubts.insert(before.id, doubt);
                continue;
            }
            follow(&mut after, sight, now);
        }
        notice(&mut after, sight, now);
        let full = names_of_full(tx, &after, sight).await?;
        explain_pause(&mut after, &full);
        save(tx, before, after, now).await?;
    }
    for sight in sights {
        if !rows.iter().any(|row| row.id == sight.instance_id) {
            seen.chores |= remove_leftover(tx, cx, sight.instance_id, now).await?;
        }
    }
    Ok(seen)
}

const fn power(sight: Option<&Sight>) -> Power {
    match sight {
        Some(sight) => sight.power,
        None => Power::Off,
    }
}

/// Whether the row of an instance that nothing holds says something else than the node.
fn contradicts(row: &Instance, sight: Option<&Sight>) -> bool {
    let settled = matches!(
        row.state,
        InstanceState::Active | InstanceState::Stopped | InstanceState::Failed
    );
    settled && row.active_operation.is_none() && row.power != power(sight)
}

/// Makes the row say what the node sees.
fn follow(row: &mut Instance, sight: Option<&Sight>, now: Timestamp) {
    let (state, was_on) = (row.state, row.power.has_volumes_open());
    row.settle(power(sight), now);
    let crashed = sight.is_none_or(|sight| sight.crashed);
    if state == InstanceState::Failed {
        row.state = state;
    } else if was_on && row.power == Power::Off && crashed {
        row.failure = Some("Its machine ended by itself. Start the instance again.".to_owned());
    } else {
        row.failure = None;
    }
}

/// Notes that the guest has come up, and how busy it is.
fn notice(row: &mut Instance, sight: Option<&Sight>, now: Timestamp) {
    let Some(sight) = sight.filter(|sight| sight.power == row.power) else {
        return;
    };
    if !row.power.has_volumes_open() {
        return;
    }
    row.load = sight.load;
    let grace_over = row
        .started_at
        .is_some_and(|at| now.duration_since(at) >= BOOT_GRACE);
    row.ready = row.ready || sight.agent_answered || grace_over;
}

/// The names of the volumes for which a machine that stands still waits for room.
async fn names_of_full(tx: &mut Tx, row: &Instance, sight: Option<&Sight>) -> Result<Vec<Name>> {
    let full = sight.map_or(&[][..], |sight| &sight.storage_full);
    if full.is_empty() || row.power != Power::Paused {
        return Ok(Vec::new());
    }
    let volumes = volume::volume_list_of_instance(tx, row.id).await?;
    let full = volumes.into_iter().filter(|v| full.contains(&v.id));
    Ok(full.map(|volume| volume.name).collect())
}

/// Says why a machine that nothing holds stands still, when nobody asked for it.
fn explain_pause(row: &mut Instance, full: &[Name]) {
    let paused = row.state == InstanceState::Active && row.power == Power::Paused;
    if !paused || row.active_operation.is_some() {
        return;
    }
    row.failure = (!full.is_empty()).then(|| {
        format!(
            "There is no room left where {} is stored, so its machine stands still. What its guest \
             wrote last is kept. Delete what is not needed there, or ask your operator for room; \
             then resume it.",
            listed(full)
        )
    });
}

/// Names in a sentence: `a`, `a and b`, `a, b and c`.
fn listed(names: &[Name]) -> String {
    let names: Vec<_> = names.iter().map(Name::as_str).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

async fn save(tx: &mut Tx, before: &Instance, after: Instance, now: Timestamp) -> Result<()> {
    if *before == after {
        return Ok(());
    }
    // A load that moved is no change that anybody edited against.
    let told = Instance {
        load: before.load,
        ..after.clone()
    } != *before;
    let version = after.version + i64::from(told);
    instance::instance_update(tx, &Instance { version, ..after }).await?;
    if !told {
        return Ok(());
    }
    let event = NewEvent {
        account_id: before.account_id,
        kind: EventKind::Instance,
        resource_id: before.id.as_uuid(),
        volume_id: None,
        operation_id: None,
        at: now,
    };
    Ok(event_insert(tx, &[event]).await?)
}

/// Has a machine removed that an operation of ours should have left none of. Answers whether there
/// is something to hand out.
async fn remove_leftover(
    tx: &mut Tx,
    cx: &Context,
    id: InstanceId,
    now: Timestamp,
) -> Result<bool> {
    if instance::instance_by_id(tx, id).await?.is_some() {
        tracing::error!(instance = %id, "a machine runs on another node than its instance belongs to");
        return Ok(false);
    }
    let Some(last) = operation::operation_last_of_instance(tx, id).await? else {
        tracing::error!(instance = %id, "a machine runs of which nothing is known; it is left alone");
        return Ok(false);
    };
    let waiting = task::task_chores(tx, last.id).await?;
    if !last.state.is_terminal() || !waiting.is_empty() {
        return Ok(false);
    }
    let Some(run) = operation::operation_run(tx, last.id).await? else {
        return Ok(false);
    };
    tracing::warn!(instance = %id, operation = %last.id, "a machine was left over and is removed");
    let (task_id, pool_id) = (TaskId::generate(cx.env()), run.order.pool_id);
    let spec = TaskSpec::InstanceRemove { instance_id: id };
    let chore = Task {
        operation_id: Some(last.id),
        // Of no step: nothing waits for its answer.
        step: u32::MAX,
        ..Task::offered(task_id, TaskRole::Chore, pool_id, spec, now)
    };
    task::task_insert(tx, &chore).await?;
    Ok(true)
}
