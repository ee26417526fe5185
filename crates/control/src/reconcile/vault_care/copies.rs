//! Backups are copied into a second target, and a deletion follows much later.
//!
//! ```text
//! a backup      made ──> copied, read back ············· deleted
//! its copy               there ────────────────────────────┴── untouched ──> deleted ──> collected
//!                                                               keep_copies   keep_deleted + grace
//! ```
//!
//! A pass copies what has no copy yet, at most [`AT_ONCE`] backups, and is made again until nothing is
//! left. What could not be copied waits for the next time that a pass is due.
//!
//! **Deletions.** A copy is deleted when its backup's row has been gone for
//! [`CareTerms::keep_copies`](stillpoint_model::care::CareTerms::keep_copies), which is no less than the
//! time after which the backup's own data goes. Its data goes with a collection of its own vault, with
//! the undelete and the blast radius of that. So a mistake or an attacker that deletes every backup does
//! not reach the copies for weeks, and they are whole while somebody notices.

use stillpoint_model::Timestamp;
use stillpoint_model::care::{BackupKey, CopyCare, CopyPass, VaultCare};
use stillpoint_model::id::TargetId;
use stillpoint_model::task::TaskSpec;
use stillpoint_store::backup_copy::{
    backup_copy_delete, backup_copy_expired, backup_copy_insert, backup_copy_mark_deleted,
    backup_copy_missing,
};
use stillpoint_store::care::{vault_care_by_id, vault_care_update};
use stillpoint_store::{Conn, Tx};

use super::{TRY_AGAIN, is_due};
use crate::Context;
use crate::error::Result;

/// Backups that one pass copies or deletes at most.
const AT_ONCE: u32 = 64;

/// How the target of these copies is to be filled, unless nobody wants that any more.
fn rule(cx: &Context, copies: &CopyCare, to: TargetId) -> Option<std::time::Duration> {
    let places = cx.places();
    let rule = places.target(copies.source_id).ok()?.copies?;
    (rule.to == to).then(|| rule.every())
}

/// What is to be copied or deleted now. A pass that finds nothing is over at once.
pub(super) async fn due_work(
    cx: &Context,
    care: &VaultCare,
    now: Timestamp,
) -> Result<Option<TaskSpec>> {
    let every = care
        .copies
        .as_ref()
        .and_then(|copies| Some((copies, rule(cx, copies, care.target_id)?)));
    let Some((copies, every)) = every else {
        return Ok(None);
    };
    if !is_due(copies.due_at, every.max(TRY_AGAIN), now) {
        return Ok(None);
    }
    let (context, seen) = (cx.clone(), care.clone());
    cx.db()
        .write(move |tx| Box::pin(async move { begin(tx, &context, seen, every, now).await }))
        .await
}

async fn begin(
    tx: &mut Tx,
    cx: &Context,
    seen: VaultCare,
    every: std::time::Duration,
    now: Timestamp,
) -> Result<Option<TaskSpec>> {
    let Some(mut care) = vault_care_by_id(tx, seen.vault_id, seen.target_id).await? else {
        return Ok(None);
    };
    let Some(copies) = care.copies.clone().filter(|_| care.task_id.is_none()) else {
        return Ok(None);
    };
    backup_copy_mark_deleted(tx, &care, now).await?;
    let backups = backup_copy_missing(tx, &care, copies.source_id, AT_ONCE).await?;
    let delete = to_delete(tx, cx, &care, now).await?;
    if backups.is_empty() && delete.is_empty() {
        care.copies = Some(CopyCare {
            due_at: now.saturating_add(every),
            passed_at: Some(now),
            failure: None,
            ..copies
        });
        vault_care_update(tx, &care).await?;
        return Ok(None);
    }
    Ok(Some(TaskSpec::VaultCopy {
        from: care.twin_in(copies.source_id),
        to: care.vault(),
        backups,
        delete,
    }))
}

async fn to_delete(
    conn: &mut Conn,
    cx: &Context,
    care: &VaultCare,
    now: Timestamp,
) -> Result<Vec<BackupKey>> {
    let since = now.saturating_sub(cx.settings().care.keep_copies());
    Ok(backup_copy_expired(conn, care, since, AT_ONCE).await?)
}

/// Notes what a pass came to.
pub(super) async fn passed(
    tx: &mut Tx,
    cx: &Context,
    care: &mut VaultCare,
    asked: &[BackupKey],
    pass: CopyPass,
    now: Timestamp,
) -> Result<()> {
    for id in &pass.copied {
        if let Some(key) = asked.iter().find(|key| key.backup_id == *id) {
            backup_copy_insert(tx, care, *key, now).await?;
        }
    }
    for id in &pass.deleted {
        backup_copy_delete(tx, *id, care.target_id).await?;
    }
    let (vault, target) = (care.vault_id, care.target_id);
    if let Some(why) = &pass.cut_off {
        tracing::warn!(%vault, %target, why, "the copying of a vault was cut off");
    }
    if !pass.left.is_empty() {
        let left = pass.left.len();
        tracing::warn!(%vault, %target, left, "backups could not be copied");
    }
    let every = care
        .copies
        .as_ref()
        .and_then(|copies| rule(cx, copies, target));
    let Some(copies) = &mut care.copies else {
        return Ok(());
    };
    let every = every.unwrap_or(TRY_AGAIN);
    copies.failure.clone_from(&pass.cut_off);
    let moved = !(pass.copied.is_empty() && pass.deleted.is_empty());
    copies.due_at = match &pass.cut_off {
        // There may be more: the next pass says so.
        None if moved => now,
        None => now.saturating_add(every),
        Some(_) => now.saturating_add(every.min(TRY_AGAIN)),
    };
    if pass.cut_off.is_none() {
        copies.passed_at = Some(now);
    }
    copies.last = Some(pass);
    Ok(())
}

/// Notes that a pass could not be made.
pub(super) fn failed(cx: &Context, care: &mut VaultCare, detail: &str, now: Timestamp) {
    let target = care.target_id;
    if let Some(copies) = &mut care.copies {
        let every = rule(cx, copies, target).unwrap_or(TRY_AGAIN);
        copies.failure = Some(detail.to_owned());
        copies.due_at = now.saturating_add(every.min(TRY_AGAIN));
    }
}
