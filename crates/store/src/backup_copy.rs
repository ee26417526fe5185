//! Copies of backups in a second target: which there are, and which there are to be.
//!
//! A copy has a row as long as its vault is to have it. It outlives the row of its backup, so nothing
//! here refers to that.

use stillpoint_model::Timestamp;
use stillpoint_model::care::{BackupKey, CopyCounts, Holdings, VaultCare};
use stillpoint_model::id::{BackupId, TargetId};

use crate::care::{holdings, key};
use crate::error::Result;
use crate::row::{Columns, sql};
use crate::{Conn, Tx};

/// Notes that a copy is there and was read back. What is known of it already stays.
pub async fn backup_copy_insert(
    tx: &mut Tx,
    copies: &VaultCare,
    backup: BackupKey,
    now: Timestamp,
) -> Result<()> {
    sql!(
        "INSERT INTO backup_copies (backup_id, target_id, account_id, volume_id, copied_at, \
         checked_at, degraded) VALUES ($1, $2, $3, $4, $5, $5, 0) \
         ON CONFLICT (backup_id, target_id) DO NOTHING",
        backup.backup_id,
        copies.target_id,
        copies.account_id,
        backup.volume_id,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets a copy that was deleted.
pub async fn backup_copy_delete(tx: &mut Tx, id: BackupId, target: TargetId) -> Result<()> {
    sql!(
        "DELETE FROM backup_copies WHERE backup_id = $1 AND target_id = $2",
        id,
        target
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Whether a copy is known to be damaged; none when there is no such copy.
pub async fn backup_copy_is_degraded(
    conn: &mut Conn,
    id: BackupId,
    target: TargetId,
) -> Result<Option<bool>> {
    sql!(
        "SELECT degraded FROM backup_copies WHERE backup_id = $1 AND target_id = $2",
        id,
        target
    )
    .fetch_optional(conn)
    .await?
    .map(|row| Columns::of("backup_copies", &row).flag())
    .transpose()
}

/// Notes what a verification made of a copy, and when, if it looked at it.
pub async fn backup_copy_note(
    tx: &mut Tx,
    (id, target): (BackupId, TargetId),
    degraded: bool,
    looked_at: Option<Timestamp>,
) -> Result<()> {
    sql!(
        "UPDATE backup_copies SET degraded = $3, checked_at = COALESCE($4, checked_at) \
         WHERE backup_id = $1 AND target_id = $2",
        id,
        target,
        degraded,
        looked_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Notes which copies are of backups that were deleted, and since when that is known.
pub async fn backup_copy_mark_deleted(
    tx: &mut Tx,
    copies: &VaultCare,
    now: Timestamp,
) -> Result<()> {
    sql!(
        "UPDATE backup_copies SET deleted_since = $3 WHERE account_id = $1 AND target_id = $2 \
         AND deleted_since IS NULL AND backup_id NOT IN (SELECT id FROM backups)",
        copies.account_id,
        copies.target_id,
        now,
    )
    .execute(&mut **tx)
    .await?;
    // A database that was rebuilt from a copy may know again what was deleted.
    sql!(
        "UPDATE backup_copies SET deleted_since = NULL WHERE account_id = $1 AND target_id = $2 \
         AND deleted_since IS NOT NULL AND backup_id IN (SELECT id FROM backups)",
        copies.account_id,
        copies.target_id,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Copies of backups that were found to be deleted at `since` or before, the first ones.
pub async fn backup_copy_expired(
    conn: &mut Conn,
    copies: &VaultCare,
    since: Timestamp,
    limit: u32,
) -> Result<Vec<BackupKey>> {
    let rows = sql!(
        "SELECT volume_id, backup_id FROM backup_copies WHERE account_id = $1 AND target_id = $2 \
         AND deleted_since <= $3 ORDER BY deleted_since, backup_id LIMIT $4",
        copies.account_id,
        copies.target_id,
        since,
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.iter().map(key).collect()
}

/// Available backups of a target that have no copy yet, the oldest first.
pub async fn backup_copy_missing(
    conn: &mut Conn,
    copies: &VaultCare,
    source: TargetId,
    limit: u32,
) -> Result<Vec<BackupKey>> {
    let rows = sql!(
        "SELECT b.volume_id, b.id FROM backups b LEFT JOIN backup_copies k \
         ON k.backup_id = b.id AND k.target_id = $3 \
         WHERE b.account_id = $1 AND b.target_id = $2 AND b.state = 'available' \
         AND k.backup_id IS NULL ORDER BY b.created_at, b.id LIMIT $4",
        copies.account_id,
        source,
        copies.target_id,
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.iter().map(key).collect()
}

/// How many copies there are and are to be. What is older than `behind_before` and has none is
/// behind.
pub async fn backup_copy_counts(
    conn: &mut Conn,
    copies: &VaultCare,
    source: TargetId,
    behind_before: Timestamp,
) -> Result<CopyCounts> {
    let row = sql!(
        "SELECT COUNT(k.backup_id), COUNT(*) - COUNT(k.backup_id), \
         COUNT(CASE WHEN k.backup_id IS NULL AND b.created_at <= $4 THEN 1 END) \
         FROM backups b LEFT JOIN backup_copies k ON k.backup_id = b.id AND k.target_id = $3 \
         WHERE b.account_id = $1 AND b.target_id = $2 AND b.state IN ('available', 'degraded')",
        copies.account_id,
        source,
        copies.target_id,
        behind_before,
    )
    .fetch_one(&mut *conn)
    .await?;
    let mut c = Columns::of("backup_copies", &row);
    let (copied, waiting, behind) = (c.count()?, c.count()?, c.count()?);
    let row = sql!(
        "SELECT COUNT(*), MIN(deleted_since) FROM backup_copies \
         WHERE account_id = $1 AND target_id = $2 AND backup_id NOT IN (SELECT id FROM backups)",
        copies.account_id,
        copies.target_id,
    )
    .fetch_one(conn)
    .await?;
    let mut c = Columns::of("backup_copies", &row);
    Ok(CopyCounts {
        copied,
        waiting,
        behind,
        of_deleted: c.count()?,
        deleted_since: c.optional_time()?,
    })
}

/// What a vault of copies holds. The bytes are those that the backups, not the copies, added.
pub async fn backup_copy_holdings(conn: &mut Conn, copies: &VaultCare) -> Result<Holdings> {
    let row = sql!(
        "SELECT COUNT(*), COUNT(CASE WHEN k.degraded <> 0 THEN 1 END), \
         CAST(COALESCE(SUM(b.stored_bytes), 0) AS BIGINT) \
         FROM backup_copies k LEFT JOIN backups b ON b.id = k.backup_id \
         WHERE k.account_id = $1 AND k.target_id = $2",
        copies.account_id,
        copies.target_id,
    )
    .fetch_one(conn)
    .await?;
    holdings(&row)
}

/// The backups that must be in a vault of copies.
pub async fn backup_copy_keys(conn: &mut Conn, copies: &VaultCare) -> Result<Vec<BackupKey>> {
    let rows = sql!(
        "SELECT volume_id, backup_id FROM backup_copies WHERE account_id = $1 AND target_id = $2 \
         ORDER BY backup_id",
        copies.account_id,
        copies.target_id,
    )
    .fetch_all(conn)
    .await?;
    rows.iter().map(key).collect()
}

/// The copies that the schedule did not look at since `sound_before`, or since `degraded_before` if
/// they are damaged, the longest first.
pub async fn backup_copy_verify_due(
    conn: &mut Conn,
    copies: &VaultCare,
    sound_before: Timestamp,
    degraded_before: Timestamp,
) -> Result<Vec<BackupKey>> {
    let rows = sql!(
        "SELECT volume_id, backup_id FROM backup_copies WHERE account_id = $1 AND target_id = $2 \
         AND ((degraded = 0 AND checked_at <= $3) OR (degraded <> 0 AND checked_at <= $4)) \
         ORDER BY checked_at, backup_id LIMIT 1000",
        copies.account_id,
        copies.target_id,
        sound_before,
        degraded_before,
    )
    .fetch_all(conn)
    .await?;
    rows.iter().map(key).collect()
}
