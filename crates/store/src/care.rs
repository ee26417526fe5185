//! The care of vaults: what is due, what is under way, what came of it.

use sqlx::any::AnyRow;
use stillpoint_model::Timestamp;
use stillpoint_model::care::{BackupKey, VaultCare};
use stillpoint_model::id::{BackupId, TaskId, VaultId};
use stillpoint_model::operation::Progress;

use crate::error::Result;
use crate::row::{Columns, json, sql};
use crate::{Conn, Tx};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT c.vault_id, v.target_id, v.account_id, a.name, c.task_id, c.progress, \
             c.collect_due_at, c.verify_due_at, c.confirmed_bytes, c.freed_bytes, c.collection, \
             c.collected_at, c.verification, c.verified_at, c.damage, c.failure \
             FROM vault_care c JOIN vaults v ON v.id = c.vault_id \
             JOIN accounts a ON a.id = v.account_id ",
            $rest
        )
    };
}

fn care(row: &AnyRow) -> Result<VaultCare> {
    let mut c = Columns::of("vault_care", row);
    Ok(VaultCare {
        vault_id: c.parse()?,
        target_id: c.parse()?,
        account_id: c.parse()?,
        account_name: c.parse()?,
        task_id: c.optional()?,
        progress: c.optional_json()?,
        collect_due_at: c.time()?,
        verify_due_at: c.time()?,
        confirmed: c.bytes()?,
        freed: c.bytes()?,
        collection: c.optional_json()?,
        collected_at: c.optional_time()?,
        verification: c.optional_json()?,
        verified_at: c.optional_time()?,
        damage: c.json()?,
        failure: c.optional_text()?,
    })
}

fn key(row: &AnyRow) -> Result<BackupKey> {
    let mut c = Columns::of("backup", row);
    Ok(BackupKey {
        volume_id: c.parse()?,
        backup_id: c.parse()?,
    })
}

/// How many vaults nobody cares for yet.
pub async fn vault_care_missing(conn: &mut Conn) -> Result<u32> {
    let row = sqlx::query(
        "SELECT COUNT(*) FROM vaults WHERE id NOT IN (SELECT vault_id FROM vault_care)",
    )
    .fetch_one(conn)
    .await?;
    Columns::of("vaults", &row).count()
}

/// Begins to care for the vaults that nobody cares for yet.
pub async fn vault_care_begin(
    tx: &mut Tx,
    collect_due_at: Timestamp,
    now: Timestamp,
) -> Result<()> {
    sql!(
        "INSERT INTO vault_care (vault_id, collect_due_at, verify_due_at, confirmed_bytes, \
         freed_bytes, damage) SELECT id, $1, $2, 0, 0, '[]' FROM vaults \
         WHERE id NOT IN (SELECT vault_id FROM vault_care)",
        collect_due_at,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The care of every vault.
pub async fn vault_care_list(conn: &mut Conn) -> Result<Vec<VaultCare>> {
    let rows = sqlx::query(select!("ORDER BY c.vault_id"))
        .fetch_all(conn)
        .await?;
    rows.iter().map(care).collect()
}

/// The care of a vault.
pub async fn vault_care_by_id(conn: &mut Conn, id: VaultId) -> Result<Option<VaultCare>> {
    let row = sql!(select!("WHERE c.vault_id = $1"), id)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(care).transpose()
}

/// The care that a task is about.
pub async fn vault_care_by_task(conn: &mut Conn, id: TaskId) -> Result<Option<VaultCare>> {
    let row = sql!(select!("WHERE c.task_id = $1"), id.as_uuid())
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(care).transpose()
}

/// Writes everything of a vault's care that can change.
pub async fn vault_care_update(tx: &mut Tx, care: &VaultCare) -> Result<()> {
    sql!(
        "UPDATE vault_care SET task_id = $2, progress = $3, collect_due_at = $4, verify_due_at = $5, \
         confirmed_bytes = $6, freed_bytes = $7, collection = $8, collected_at = $9, \
         verification = $10, verified_at = $11, damage = $12, failure = $13 WHERE vault_id = $1",
        care.vault_id,
        care.task_id.map(|id| id.as_uuid()),
        care.progress.as_ref().map(json).transpose()?,
        care.collect_due_at,
        care.verify_due_at,
        care.confirmed,
        care.freed,
        care.collection.as_ref().map(json).transpose()?,
        care.collected_at,
        care.verification.as_ref().map(json).transpose()?,
        care.verified_at,
        json(&care.damage)?,
        care.failure.as_deref(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Notes how far the task is that cares for a vault.
pub async fn vault_care_progress_save(tx: &mut Tx, id: TaskId, progress: &Progress) -> Result<()> {
    sql!(
        "UPDATE vault_care SET progress = $2 WHERE task_id = $1",
        id.as_uuid(),
        json(progress)?
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The backups that must be in a vault.
pub async fn backup_keys_of_vault(conn: &mut Conn, vault: &VaultCare) -> Result<Vec<BackupKey>> {
    let rows = sql!(
        "SELECT volume_id, id FROM backups WHERE account_id = $1 AND target_id = $2 \
         AND state IN ('available', 'degraded') ORDER BY id",
        vault.account_id,
        vault.target_id,
    )
    .fetch_all(conn)
    .await?;
    rows.iter().map(key).collect()
}

/// The backups of a vault that the schedule did not look at since `sound_before`, or since
/// `degraded_before` if they are degraded, the longest first.
pub async fn backup_verify_due(
    conn: &mut Conn,
    vault: &VaultCare,
    sound_before: Timestamp,
    degraded_before: Timestamp,
) -> Result<Vec<BackupKey>> {
    let rows = sql!(
        "SELECT b.volume_id, b.id FROM backups b LEFT JOIN backup_checks c ON c.backup_id = b.id \
         WHERE b.account_id = $1 AND b.target_id = $2 \
         AND ((b.state = 'available' AND COALESCE(c.checked_at, b.created_at) <= $3) \
         OR (b.state = 'degraded' AND COALESCE(c.checked_at, b.created_at) <= $4)) \
         ORDER BY COALESCE(c.checked_at, b.created_at), b.id LIMIT 1000",
        vault.account_id,
        vault.target_id,
        sound_before,
        degraded_before,
    )
    .fetch_all(conn)
    .await?;
    rows.iter().map(key).collect()
}

/// Notes that the schedule looked at a backup.
pub async fn backup_check_note(tx: &mut Tx, id: BackupId, at: Timestamp) -> Result<()> {
    sql!(
        "INSERT INTO backup_checks (backup_id, checked_at) VALUES ($1, $2) \
         ON CONFLICT (backup_id) DO UPDATE SET checked_at = excluded.checked_at",
        id,
        at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
