//! Vaults are cared for: what no backup reaches is given back, and every backup is proven again
//! and again.
//!
//! ```text
//!           due                    task                             ended, or its node fell silent
//! resting ------> offered, leased ------> collected, verified, mended ------> resting, due again later
//! ```
//!
//! The work is a task without an operation ([`TaskRole::Care`]), one at a time per target. It holds
//! nothing that operations hold, so it runs beside them, and comes last when there is other work. A
//! task that was lost is not given again but made anew, with what is true then.
//!
//! **What is known.** A collection gets the backups that the store has: a vault that lacks one is
//! not collected. It says which runs have a record in the vault; those whose operation is over are
//! taken back by the next. A backup's id belongs to one operation for ever, so what is over stays so.
//!
//! **Verification** takes the volume whose backups were not looked at for the longest time, all that
//! are due of it at once: they share most of their data. What is bad degrades every backup that it
//! affects, whichever was looked at; a degraded one is looked at daily, and is available again when
//! it is found sound. What the node could repair at once, from the volume or from the vault in another
//! target that has the same backups, stays available.
//!
//! **Small objects** ([`mending`]), all but packs and what backups are read by, are looked at as often
//! as backups are verified. What rotted of them and says only what others say is made anew.
//!
//! **Copies** ([`copies`]) are a vault of their own in another target, cared for as any other. That one
//! of them is damaged degrades no backup: it is made whole from the backup.

mod copies;
mod damage;
mod mending;

use std::time::Duration;

use stillpoint_model::care::{
    BackupKey, CollectTerms, Collection, CollectionState, VaultCare, VerifyLevel,
};
use stillpoint_model::id::{PoolId, TargetId, TaskId};
use stillpoint_model::saga::{Task, TaskRole, TaskState};
use stillpoint_model::task::{TaskOutcome, TaskSpec};
use stillpoint_model::{ByteCount, Timestamp};
use stillpoint_store::backup_copy::{backup_copy_keys, backup_copy_verify_due};
use stillpoint_store::care::{
    backup_keys_of_vault, backup_verify_due, vault_care_begin, vault_care_by_id,
    vault_care_by_task, vault_care_list, vault_care_missing, vault_care_update,
};
use stillpoint_store::{Conn, Tx, operation, place, task};

use crate::Context;
use crate::error::Result;

/// The pause before care that failed is tried again, if it would not be due earlier.
const TRY_AGAIN: Duration = Duration::from_mins(10);
/// How often a degraded backup is looked at, at least.
const DEGRADED_EVERY: Duration = Duration::from_hours(24);
/// Backups that are verified together at most.
const TOGETHER: usize = 64;

/// Offers the care that is due.
pub async fn offer_due(cx: &Context) -> Result<()> {
    let now = cx.now();
    let mut conn = cx.db().read().await?;
    if vault_care_missing(&mut conn).await? > 0 {
        drop(conn);
        let terms = &cx.settings().care;
        let collect = now.saturating_add(terms.collect_every());
        let due = (collect, now.saturating_add(terms.verify_every()));
        cx.db()
            .write(move |tx| Box::pin(async move { vault_care_begin(tx, due, now).await }))
            .await?;
        conn = cx.db().read().await?;
    }
    let all = vault_care_list(&mut conn).await?;
    for care in most_neglected(&all) {
        let Some(spec) = due_work(&mut conn, cx, (care, &all), now).await? else {
            continue;
        };
        let Some(pool) = pool_beside(&mut conn, cx, care.target_id, now).await? else {
            continue;
        };
        drop(conn);
        let (context, vault_id, target_id) = (cx.clone(), care.vault_id, care.target_id);
        cx.db()
            .write(move |tx| {
                Box::pin(async move {
                    let Some(care) = vault_care_by_id(tx, vault_id, target_id).await? else {
                        return Ok(());
                    };
                    offer(tx, &context, care, pool, spec, now).await
                })
            })
            .await?;
        cx.board_bell().notify_waiters();
        return Ok(());
    }
    Ok(())
}

/// The vaults in whose target nothing is under way, the one that was left alone longest first.
fn most_neglected(all: &[VaultCare]) -> Vec<&VaultCare> {
    let busy = |target: TargetId| {
        all.iter()
            .any(|care| care.target_id == target && care.task_id.is_some())
    };
    let mut resting: Vec<&VaultCare> = all.iter().filter(|care| !busy(care.target_id)).collect();
    resting.sort_by_key(|care| care.collected_at.max(care.verified_at).max(care.mended_at));
    resting
}

/// What is due in a vault: what is to be copied into it first, then collection, mending and verification
/// in turn.
async fn due_work(
    conn: &mut Conn,
    cx: &Context,
    (care, all): (&VaultCare, &[VaultCare]),
    now: Timestamp,
) -> Result<Option<TaskSpec>> {
    if let Some(spec) = copies::due_work(cx, care, now).await? {
        return Ok(Some(spec));
    }
    let collect = is_due(care.collect_due_at, cx.settings().care.collect_every(), now);
    if collect && care.verified_at >= care.collected_at {
        return collection(conn, cx, care).await.map(Some);
    }
    let mend = mending::due_work(cx, care, now);
    if mend.is_some() && care.mended_at < care.verified_at {
        return Ok(mend);
    }
    if is_due(care.verify_due_at, TRY_AGAIN, now)
        && let Some(spec) = verification(conn, cx, (care, all), now).await?
    {
        return Ok(Some(spec));
    }
    match collect {
        true => collection(conn, cx, care).await.map(Some),
        false => Ok(mend),
    }
}

/// Whether a time has come, or was written by a clock that jumped.
fn is_due(at: Timestamp, longest: Duration, now: Timestamp) -> bool {
    at <= now || at > now.saturating_add(longest)
}

async fn collection(conn: &mut Conn, cx: &Context, care: &VaultCare) -> Result<TaskSpec> {
    let terms = &cx.settings().care;
    let open = care.collection.as_ref().map(|last| &last.open_runs[..]);
    Ok(TaskSpec::VaultCollect {
        vault: care.vault(),
        terms: CollectTerms {
            keep_deleted_s: terms.keep_deleted_s,
            grace_s: terms.grace_s,
            max_percent: terms.max_percent,
            floor: ByteCount::from_mib(terms.floor_mib.into()),
            confirmed: care.confirmed,
        },
        known: match care.copies {
            None => backup_keys_of_vault(conn, care).await?,
            Some(_) => backup_copy_keys(conn, care).await?,
        },
        reap: over(conn, open.unwrap_or_default()).await?,
    })
}

/// The backups among these on which no operation works: their runs are over.
async fn over(conn: &mut Conn, open: &[BackupKey]) -> Result<Vec<BackupKey>> {
    let mut over = Vec::new();
    for key in open {
        let live = operation::operation_on_item(conn, key.backup_id.as_uuid()).await?;
        if live.is_none() {
            over.push(*key);
        }
    }
    Ok(over)
}

async fn verification(
    conn: &mut Conn,
    cx: &Context,
    (care, all): (&VaultCare, &[VaultCare]),
    now: Timestamp,
) -> Result<Option<TaskSpec>> {
    let terms = &cx.settings().care;
    let every = terms.verify_every();
    let sound_before = now.saturating_sub(every);
    let degraded_before = now.saturating_sub(every.min(DEGRADED_EVERY));
    let due = match care.copies {
        None => backup_verify_due(conn, care, sound_before, degraded_before).await?,
        Some(_) => backup_copy_verify_due(conn, care, sound_before, degraded_before).await?,
    };
    let Some(first) = due.first().copied() else {
        return Ok(None);
    };
    let of_volume = due.into_iter().filter(|b| b.volume_id == first.volume_id);
    let backups: Vec<BackupKey> = of_volume.take(TOGETHER).collect();
    Ok(Some(TaskSpec::VaultVerify {
        vault: care.vault(),
        level: level(care, &backups, terms.verify_level),
        backups,
        twin: twin(care, all).map(|target| care.twin_in(target)),
    }))
}

/// How deep to look. What was found damaged is read whole: a look that does not open it could not
/// say that it is sound.
fn level(care: &VaultCare, backups: &[BackupKey], usual: VerifyLevel) -> VerifyLevel {
    let mut damaged = care.damage.iter().flat_map(|bad| &bad.affected);
    let is_damaged = damaged.any(|id| backups.iter().any(|key| key.backup_id == *id));
    match usual {
        VerifyLevel::Present | VerifyLevel::Ciphertext if is_damaged => VerifyLevel::Decrypt,
        usual => usual,
    }
}

/// Another target that has the same backups: that of the copies, or that which they are copies of.
fn twin(care: &VaultCare, all: &[VaultCare]) -> Option<TargetId> {
    let is_twin =
        |other: &&VaultCare| other.vault_id == care.vault_id && other.target_id != care.target_id;
    all.iter().find(is_twin).map(|other| other.target_id)
}

/// A pool whose node answers and reaches the target.
async fn pool_beside(
    conn: &mut Conn,
    cx: &Context,
    target: TargetId,
    now: Timestamp,
) -> Result<Option<PoolId>> {
    let places = cx.places();
    let Some(target) = places.targets.iter().find(|t| t.id == target) else {
        return Ok(None);
    };
    let nodes = place::node_list(conn).await?;
    let answers = |id| {
        let node = nodes.iter().find(|node| node.id == id);
        node.is_some_and(|n| n.region_id == target.region_id && cx.is_online(n, now))
    };
    let pool = places.pools.iter().find(|pool| answers(pool.node_id));
    Ok(pool.map(|pool| pool.id))
}

async fn offer(
    tx: &mut Tx,
    cx: &Context,
    mut care: VaultCare,
    pool_id: PoolId,
    spec: TaskSpec,
    now: Timestamp,
) -> Result<()> {
    if care.task_id.is_some() {
        return Ok(());
    }
    let id = TaskId::generate(cx.env());
    let task = Task::offered(id, TaskRole::Care, pool_id, spec, now);
    care.task_id = Some(task.id);
    care.progress = None;
    task::task_insert(tx, &task).await?;
    Ok(vault_care_update(tx, &care).await?)
}

/// Reads how a task ended that cared for a vault, or that its node fell silent.
pub(crate) async fn ended(tx: &mut Tx, cx: &Context, ended: Task, now: Timestamp) -> Result<()> {
    task::task_delete(tx, ended.id).await?;
    let Some(mut care) = vault_care_by_task(tx, ended.id).await? else {
        return Ok(());
    };
    care.task_id = None;
    care.progress = None;
    care.failure = None;
    match (ended.outcome, ended.spec) {
        (Some(TaskOutcome::Collected { collection }), TaskSpec::VaultCollect { reap, .. }) => {
            collected(tx, cx, &mut care, collection, &reap, now).await?;
        }
        (Some(TaskOutcome::Verified { verification }), _) => {
            damage::verified(tx, &mut care, verification, now).await?;
        }
        (Some(TaskOutcome::Mended { mending }), _) => mending::ended(cx, &mut care, mending, now),
        (Some(TaskOutcome::Copied { pass }), TaskSpec::VaultCopy { backups, .. }) => {
            copies::passed(tx, cx, &mut care, &backups, pass, now).await?;
        }
        (_, spec) => {
            let silent = ended.state == TaskState::Leased;
            let detail = ended.failure.map(|failure| failure.detail);
            failed(cx, &mut care, &spec, detail, silent, now);
        }
    }
    damage::forget_what_is_gone(tx, &mut care).await?;
    Ok(vault_care_update(tx, &care).await?)
}

async fn collected(
    tx: &mut Tx,
    cx: &Context,
    care: &mut VaultCare,
    collection: Collection,
    reaped: &[BackupKey],
    now: Timestamp,
) -> Result<()> {
    let every = cx.settings().care.collect_every();
    let next = now.saturating_add(every);
    let over = over(tx, &collection.open_runs).await?;
    let vault = care.vault_id;
    care.collect_due_at = match collection.state {
        // What is over by now can be taken back at once.
        _ if over.iter().any(|key| !reaped.contains(key)) => now,
        CollectionState::WaitsForGrace => collection.until.unwrap_or(next).min(next),
        CollectionState::WaitsForRuns => now.saturating_add(every.min(TRY_AGAIN)),
        CollectionState::NeedsConfirmation => {
            tracing::warn!(%vault, would_free = ?collection.would_free, "a collection needs confirmation");
            next
        }
        CollectionState::Refused => {
            let reason = collection.reason.as_deref().unwrap_or_default();
            tracing::error!(%vault, reason, "a vault is not collected");
            next
        }
        CollectionState::NothingToDo | CollectionState::Done => next,
    };
    // A confirmation is for one collection: it is used up once that has decided.
    if !matches!(
        collection.state,
        CollectionState::NeedsConfirmation | CollectionState::Refused
    ) {
        care.confirmed = ByteCount::ZERO;
    }
    care.freed += collection.freed;
    care.collection = Some(collection);
    care.collected_at = Some(now);
    Ok(())
}

/// A task that failed says nothing about the vault; it is tried again, a silent node's at once.
fn failed(
    cx: &Context,
    care: &mut VaultCare,
    spec: &TaskSpec,
    detail: Option<String>,
    silent: bool,
    now: Timestamp,
) {
    if silent {
        return;
    }
    let detail = detail.unwrap_or_else(|| "its answer was of something else".to_owned());
    tracing::warn!(vault = %care.vault_id, target = %care.target_id, detail, "the care of a vault failed");
    let terms = &cx.settings().care;
    match spec {
        TaskSpec::VaultCopy { .. } => return copies::failed(cx, care, &detail, now),
        TaskSpec::VaultMend { .. } => mending::failed(cx, care, now),
        TaskSpec::VaultVerify { .. } => {
            care.verify_due_at = now.saturating_add(TRY_AGAIN.min(terms.verify_every()));
        }
        _ => care.collect_due_at = now.saturating_add(TRY_AGAIN.min(terms.collect_every())),
    }
    care.failure = Some(detail);
}
