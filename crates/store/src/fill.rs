//! Volumes that are filled from a backup while they are used: what is under way, and how the last
//! task ended. The volume's own row says from which backup, or that it is whole.

use sqlx::any::AnyRow;
use stillpoint_model::id::{AccountId, BackupId, TaskId, VolumeId};
use stillpoint_model::volume::Fill;

use crate::error::Result;
use crate::row::{Columns, json, sql};
use crate::{Conn, Tx};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT v.id, v.filling_backup_id, f.task_id, f.progress, COALESCE(f.due_at, 0), f.failure \
             FROM volumes v LEFT JOIN volume_fills f ON f.volume_id = v.id \
             WHERE v.filling_backup_id IS NOT NULL ",
            $rest
        )
    };
}

fn fill(row: &AnyRow) -> Result<Fill> {
    let mut c = Columns::of("volume_fill", row);
    Ok(Fill {
        volume_id: c.parse()?,
        backup_id: c.parse()?,
        task_id: c.optional()?,
        progress: c.optional_json()?,
        due_at: c.time()?,
        failure: c.optional_text()?,
    })
}

fn fills(rows: &[AnyRow]) -> Result<Vec<Fill>> {
    rows.iter().map(fill).collect()
}

/// Every volume that is being filled, the smallest first.
pub async fn fill_list(conn: &mut Conn) -> Result<Vec<Fill>> {
    let rows = sqlx::query(select!("ORDER BY v.size_bytes, v.id"))
        .fetch_all(conn)
        .await?;
    fills(&rows)
}

/// The volumes of an account that are being filled.
pub async fn fill_list_of_account(conn: &mut Conn, account_id: AccountId) -> Result<Vec<Fill>> {
    let rows = sql!(select!("AND v.account_id = $1"), account_id)
        .fetch_all(conn)
        .await?;
    fills(&rows)
}

/// How the filling of a volume is; none when it is whole.
pub async fn fill_of_volume(conn: &mut Conn, id: VolumeId) -> Result<Option<Fill>> {
    let row = sql!(select!("AND v.id = $1"), id)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(fill).transpose()
}

/// The filling that a task is about.
pub async fn fill_by_task(conn: &mut Conn, id: TaskId) -> Result<Option<Fill>> {
    let row = sql!(select!("AND f.task_id = $1"), id.as_uuid())
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(fill).transpose()
}

/// A volume that is still to be filled from a backup.
pub async fn fill_from_backup(conn: &mut Conn, id: BackupId) -> Result<Option<VolumeId>> {
    let row = sql!(
        "SELECT id FROM volumes WHERE filling_backup_id = $1 ORDER BY id LIMIT 1",
        id
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| Columns::of("volume", &row).parse())
        .transpose()
}

/// Writes how the filling of a volume is.
pub async fn fill_save(tx: &mut Tx, fill: &Fill) -> Result<()> {
    sql!(
        "INSERT INTO volume_fills (volume_id, task_id, progress, due_at, failure) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (volume_id) DO UPDATE SET \
         task_id = excluded.task_id, progress = excluded.progress, due_at = excluded.due_at, \
         failure = excluded.failure",
        fill.volume_id,
        fill.task_id.map(|id| id.as_uuid()),
        fill.progress.as_ref().map(json).transpose()?,
        fill.due_at,
        fill.failure.as_deref(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets the work on a volume that is whole.
pub async fn fill_delete(tx: &mut Tx, id: VolumeId) -> Result<()> {
    sql!("DELETE FROM volume_fills WHERE volume_id = $1", id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
