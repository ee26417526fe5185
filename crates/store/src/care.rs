//! The care of vaults: what is due, what is under way, what came of it.

use sqlx::any::AnyRow;
use stillpoint_model::Timestamp;
use stillpoint_model::care::{BackupKey, CopyCare, Holdings, VaultCare};
use stillpoint_model::id::{BackupId, TargetId, TaskId, VaultId};
use stillpoint_model::operation::Progress;

use crate::error::Result;
use crate::row::{Columns, json, sql};
use crate::{Conn, Tx};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT c.vault_id, c.target_id, v.account_id, a.name, c.task_id, c.progress, \
             c.collect_due_at, c.verify_due_at, c.mend_due_at, c.confirmed_bytes, c.freed_bytes, \
             c.collection, c.collected_at, c.verification, c.verified_at, c.mending, c.mended_at, \
             c.damage, c.failure, \
             v.target_id, c.copy_due_at, c.copy_pass, c.copy_passed_at, c.copy_failure \
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
        mend_due_at: c.time()?,
        confirmed: c.bytes()?,
        freed: c.bytes()?,
        collection: c.optional_json()?,
        collected_at: c.optional_time()?,
        verification: c.optional_json()?,
        verified_at: c.optional_time()?,
        mending: c.optional_json()?,
        mended_at: c.optional_time()?,
        damage: c.json()?,
        failure: c.optional_text()?,
        copies: copies(&mut c)?,
    })
}

fn copies(c: &mut Columns<'_>) -> Result<Option<CopyCare>> {
    let source_id = c.parse()?;
    let Some(due_at) = c.optional_time()? else {
        return Ok(None);
    };
    Ok(Some(CopyCare {
        source_id,
        due_at,
        last: c.optional_json()?,
        passed_at: c.optional_time()?,
        failure: c.optional_text()?,
    }))
}

pub(crate) fn key(row: &AnyRow) -> Result<BackupKey> {
    let mut c = Columns::of("backup", row);
    Ok(BackupKey {
        volume_id: c.parse()?,
        backup_id: c.parse()?,
    })
}

/// How many vaults nobody cares for yet.
pub async fn vault_care_missing(conn: &mut Conn) -> Result<u32> {
    let row = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM vaults v WHERE NOT EXISTS (SELECT 1 FROM vault_care c \
         WHERE c.vault_id = v.id AND c.target_id = v.target_id)) \
         + (SELECT COUNT(*) FROM vaults v JOIN targets t ON t.id = v.target_id \
         WHERE t.copy_to IS NOT NULL AND NOT EXISTS (SELECT 1 FROM vault_care c \
         WHERE c.vault_id = v.id AND c.target_id = t.copy_to))",
    )
    .fetch_one(conn)
    .await?;
    Columns::of("vaults", &row).count()
}

/// Begins to care for the vaults that nobody cares for yet, and for the copies that are to be: when
/// they are collected first, and when their small objects are looked at first.
pub async fn vault_care_begin(
    tx: &mut Tx,
    (collect_due_at, mend_due_at): (Timestamp, Timestamp),
    now: Timestamp,
) -> Result<()> {
    sql!(
        "INSERT INTO vault_care (vault_id, target_id, collect_due_at, verify_due_at, mend_due_at, \
         confirmed_bytes, freed_bytes, damage) SELECT v.id, v.target_id, $1, $2, $3, 0, 0, '[]' \
         FROM vaults v WHERE NOT EXISTS (SELECT 1 FROM vault_care c \
         WHERE c.vault_id = v.id AND c.target_id = v.target_id)",
        collect_due_at,
        now,
        mend_due_at,
    )
    .execute(&mut **tx)
    .await?;
    sql!(
        "INSERT INTO vault_care (vault_id, target_id, collect_due_at, verify_due_at, mend_due_at, \
         confirmed_bytes, freed_bytes, damage, copy_due_at) \
         SELECT v.id, t.copy_to, $1, $2, $3, 0, 0, '[]', $2 \
         FROM vaults v JOIN targets t ON t.id = v.target_id \
         WHERE t.copy_to IS NOT NULL AND NOT EXISTS (SELECT 1 FROM vault_care c \
         WHERE c.vault_id = v.id AND c.target_id = t.copy_to)",
        collect_due_at,
        now,
        mend_due_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Has what is new in the vaults of a target looked for at once.
pub async fn vault_care_copy_now(tx: &mut Tx, from: TargetId, now: Timestamp) -> Result<()> {
    sql!(
        "UPDATE vault_care SET copy_due_at = $2 WHERE copy_due_at IS NOT NULL \
         AND vault_id IN (SELECT id FROM vaults WHERE target_id = $1)",
        from,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The care of every vault.
pub async fn vault_care_list(conn: &mut Conn) -> Result<Vec<VaultCare>> {
    let rows = sqlx::query(select!("ORDER BY c.vault_id, c.target_id"))
        .fetch_all(conn)
        .await?;
    rows.iter().map(care).collect()
}

/// The care of a vault in a target.
pub async fn vault_care_by_id(
    conn: &mut Conn,
    id: VaultId,
    target: TargetId,
) -> Result<Option<VaultCare>> {
    let statement = select!("WHERE c.vault_id = $1 AND c.target_id = $2");
    let row = sql!(statement, id, target).fetch_optional(conn).await?;
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
    let copies = care.copies.as_ref();
    sql!(
        "UPDATE vault_care SET task_id = $2, progress = $3, collect_due_at = $4, verify_due_at = $5, \
         confirmed_bytes = $6, freed_bytes = $7, collection = $8, collected_at = $9, \
         verification = $10, verified_at = $11, damage = $12, failure = $13, copy_due_at = $14, \
         copy_pass = $15, copy_passed_at = $16, copy_failure = $17, mend_due_at = $19, \
         mending = $20, mended_at = $21 \
         WHERE vault_id = $1 AND target_id = $18",
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
        copies.map(|copies| copies.due_at),
        copies
            .and_then(|copies| copies.last.as_ref())
            .map(json)
            .transpose()?,
        copies.and_then(|copies| copies.passed_at),
        copies.and_then(|copies| copies.failure.as_deref()),
        care.target_id,
        care.mend_due_at,
        care.mending.as_ref().map(json).transpose()?,
        care.mended_at,
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

/// What a vault holds in which backups are made.
pub async fn backup_holdings(conn: &mut Conn, vault: &VaultCare) -> Result<Holdings> {
    let row = sql!(
        "SELECT COUNT(*), COUNT(CASE WHEN state = 'degraded' THEN 1 END), \
         CAST(COALESCE(SUM(stored_bytes), 0) AS BIGINT) FROM backups \
         WHERE account_id = $1 AND target_id = $2 AND state IN ('available', 'degraded')",
        vault.account_id,
        vault.target_id,
    )
    .fetch_one(conn)
    .await?;
    holdings(&row)
}

/// Reads how many, how many damaged ones, and their bytes.
pub(crate) fn holdings(row: &AnyRow) -> Result<Holdings> {
    let mut c = Columns::of("backup", row);
    Ok(Holdings {
        backups: c.count()?,
        degraded: c.count()?,
        stored: c.bytes()?,
    })
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
