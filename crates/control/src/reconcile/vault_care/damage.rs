//! What a verification found becomes states: of backups, or of their copies.

use stillpoint_model::Timestamp;
use stillpoint_model::backup::Backup;
use stillpoint_model::care::{VaultCare, Verification};
use stillpoint_model::event::EventKind;
use stillpoint_model::id::BackupId;
use stillpoint_model::item::ItemState;
use stillpoint_store::backup_copy::{backup_copy_is_degraded, backup_copy_note};
use stillpoint_store::care::backup_check_note;
use stillpoint_store::event::{NewEvent, event_insert};
use stillpoint_store::{Tx, backup};

use crate::error::Result;

/// What the owner of a degraded backup reads.
const DAMAGED: &str = "A verification found data of this backup damaged or missing in the backup \
                       target. Make a new backup of the volume: it stores that data anew.";

/// Damage is of backups that there are: what only a deleted one needs is a collection's.
pub(super) async fn forget_what_is_gone(tx: &mut Tx, care: &mut VaultCare) -> Result<()> {
    let mut gone = Vec::new();
    for id in care.damage.iter().flat_map(|bad| &bad.affected) {
        if !is_degraded(tx, care, *id).await? {
            gone.push(*id);
        }
    }
    for bad in &mut care.damage {
        bad.affected.retain(|id| !gone.contains(id));
    }
    care.damage.retain(|bad| !bad.affected.is_empty());
    Ok(())
}

/// Whether a backup, or the copy of one, is known to be damaged in this vault.
async fn is_degraded(tx: &mut Tx, care: &VaultCare, id: BackupId) -> Result<bool> {
    if care.copies.is_some() {
        let degraded = backup_copy_is_degraded(tx, id, care.target_id).await?;
        return Ok(degraded == Some(true));
    }
    let row = backup::backup_by_id(tx, id).await?;
    Ok(row.is_some_and(|row| row.state == ItemState::Degraded))
}

/// Notes what a verification found, on everything that it is about.
pub(super) async fn verified(
    tx: &mut Tx,
    care: &mut VaultCare,
    found: Verification,
    now: Timestamp,
) -> Result<()> {
    if !found.repaired.is_empty() {
        tracing::warn!(vault = %care.vault_id, backups = ?found.repaired, "damaged backups were repaired");
    }
    for bad in &found.bad {
        tracing::error!(
            vault = %care.vault_id, object = bad.object, what = bad.what, backups = ?bad.affected,
            "an object of a vault is damaged"
        );
    }
    let affected = found
        .bad
        .iter()
        .flat_map(|bad| bad.affected.iter().copied());
    let proven = found.backups.iter().chain(&found.repaired).copied();
    let mut about: Vec<BackupId> = affected.chain(proven).collect();
    about.sort_unstable();
    about.dedup();
    for id in about {
        match care.copies {
            None => judge_backup(tx, &found, id, now).await?,
            Some(_) => judge_copy(tx, care, &found, id, now).await?,
        }
    }
    care.note_verification(found, now);
    Ok(())
}

fn is_looked_at(found: &Verification, id: BackupId) -> bool {
    found.backups.contains(&id) || found.repaired.contains(&id)
}

async fn judge_backup(
    tx: &mut Tx,
    found: &Verification,
    id: BackupId,
    now: Timestamp,
) -> Result<()> {
    let Some(before) = backup::backup_by_id(tx, id).await? else {
        return Ok(());
    };
    let looked_at = is_looked_at(found, id);
    if looked_at {
        backup_check_note(tx, id, now).await?;
    }
    let after = judged(&before, found.affects(id), looked_at, now);
    save(tx, before, after, now).await
}

/// A copy that is damaged costs nobody a backup.
async fn judge_copy(
    tx: &mut Tx,
    care: &VaultCare,
    found: &Verification,
    id: BackupId,
    now: Timestamp,
) -> Result<()> {
    let looked_at = is_looked_at(found, id);
    let copy = (id, care.target_id);
    Ok(backup_copy_note(tx, copy, found.affects(id), looked_at.then_some(now)).await?)
}

/// What a verification makes of a backup that it affects, or looked at.
fn judged(before: &Backup, affected: bool, looked_at: bool, now: Timestamp) -> Backup {
    let mut after = before.clone();
    match before.state {
        ItemState::Available | ItemState::Degraded if affected => {
            after.state = ItemState::Degraded;
            after.failure = Some(DAMAGED.to_owned());
        }
        ItemState::Available | ItemState::Degraded if looked_at => {
            after.state = ItemState::Available;
            after.failure = None;
            after.verified_at = Some(now);
        }
        _ => {}
    }
    after
}

async fn save(tx: &mut Tx, before: Backup, after: Backup, now: Timestamp) -> Result<()> {
    if before == after {
        return Ok(());
    }
    let row = Backup {
        version: after.version + 1,
        ..after
    };
    backup::backup_update(tx, &row).await?;
    let event = NewEvent {
        account_id: row.account_id,
        kind: EventKind::Backup,
        resource_id: row.id.as_uuid(),
        volume_id: Some(row.volume_id),
        operation_id: None,
        at: now,
    };
    Ok(event_insert(tx, &[event]).await?)
}
