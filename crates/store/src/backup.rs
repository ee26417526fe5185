//! Backups.

use sqlx::any::AnyRow;
use stillpoint_model::backup::Backup;
use stillpoint_model::id::{AccountId, BackupId, ProjectId, TargetId, VolumeId};
use stillpoint_model::item::Consistency;
use stillpoint_model::name::Name;

use crate::error::Result;
use crate::page::PageKey;
use crate::row::{Columns, json, sizes, sql};
use crate::{Conn, Tx};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, account_id, project_id, target_id, volume_id, volume_name, name, \
             description, labels, state, consistency, trigger_word, provisioned_bytes, \
             used_bytes, changed_bytes, stored_bytes, freed_bytes, bytes_read, content_hash, \
             verified_at, duration_ms, protected, failure, operation_id, created_at, version \
             FROM backups ",
            $rest
        )
    };
}

fn backup(row: &AnyRow) -> Result<Backup> {
    let mut columns = Columns::of("backup", row);
    Ok(Backup {
        id: columns.parse()?,
        account_id: columns.parse()?,
        project_id: columns.parse()?,
        target_id: columns.parse()?,
        volume_id: columns.parse()?,
        volume_name: columns.parse()?,
        name: columns.parse()?,
        description: columns.text()?,
        labels: columns.json()?,
        state: columns.parse()?,
        consistency: columns.optional()?,
        trigger: columns.parse()?,
        sizes: sizes(&mut columns)?,
        bytes_read: columns.bytes()?,
        content_hash: columns.optional_text()?,
        verified_at: columns.optional_time()?,
        duration_ms: columns.optional_integer()?,
        protected: columns.flag()?,
        failure: columns.optional_text()?,
        operation_id: columns.optional()?,
        created_at: columns.time()?,
        version: columns.integer()?,
    })
}

/// Inserts a backup.
pub async fn backup_insert(tx: &mut Tx, backup: &Backup) -> Result<()> {
    sql!(
        "INSERT INTO backups (id, account_id, project_id, target_id, volume_id, volume_name, name, description, \
         labels, state, consistency, trigger_word, provisioned_bytes, used_bytes, \
         changed_bytes, stored_bytes, freed_bytes, bytes_read, content_hash, verified_at, \
         duration_ms, protected, failure, operation_id, created_at, version) VALUES ($1, $2, \
         $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, \
         $21, $22, $23, $24, $25, $26)",
        backup.id,
        backup.account_id,
        backup.project_id,
        backup.target_id,
        backup.volume_id,
        &backup.volume_name,
        &backup.name,
        &backup.description,
        json(&backup.labels)?,
        backup.state.as_str(),
        backup.consistency.map(Consistency::as_str),
        backup.trigger.as_str(),
        backup.sizes.provisioned,
        backup.sizes.used,
        backup.sizes.changed,
        backup.sizes.stored,
        backup.sizes.freed_if_deleted,
        backup.bytes_read,
        backup.content_hash.as_deref(),
        backup.verified_at,
        backup.duration_ms,
        backup.protected,
        backup.failure.as_deref(),
        backup.operation_id,
        backup.created_at,
        backup.version,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes everything of a backup that can change.
pub async fn backup_update(tx: &mut Tx, backup: &Backup) -> Result<()> {
    sql!(
        "UPDATE backups SET name = $2, description = $3, labels = $4, state = $5, consistency = $6, \
         provisioned_bytes = $7, used_bytes = $8, changed_bytes = $9, stored_bytes = $10, \
         freed_bytes = $11, bytes_read = $12, content_hash = $13, verified_at = $14, \
         duration_ms = $15, protected = $16, failure = $17, operation_id = $18, version = \
         $19 WHERE id = $1",
        backup.id,
        &backup.name,
        &backup.description,
        json(&backup.labels)?,
        backup.state.as_str(),
        backup.consistency.map(Consistency::as_str),
        backup.sizes.provisioned,
        backup.sizes.used,
        backup.sizes.changed,
        backup.sizes.stored,
        backup.sizes.freed_if_deleted,
        backup.bytes_read,
        backup.content_hash.as_deref(),
        backup.verified_at,
        backup.duration_ms,
        backup.protected,
        backup.failure.as_deref(),
        backup.operation_id,
        backup.version,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes a backup's row.
pub async fn backup_delete(tx: &mut Tx, id: BackupId) -> Result<()> {
    sql!("DELETE FROM backups WHERE id = $1", id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The backup of this id, whoever's it is.
pub async fn backup_by_id(conn: &mut Conn, id: BackupId) -> Result<Option<Backup>> {
    sql!(select!("WHERE id = $1"), id)
        .fetch_optional(conn)
        .await?
        .as_ref()
        .map(backup)
        .transpose()
}

/// The project's backups of this name, two at most: enough to know whether there is one, none or
/// more.
pub async fn backup_by_name(
    conn: &mut Conn,
    account_id: AccountId,
    project_id: ProjectId,
    name: &Name,
) -> Result<Vec<Backup>> {
    sql!(
        select!("WHERE account_id = $1 AND name = $2 AND project_id = $3 LIMIT 2"),
        account_id,
        name,
        project_id,
    )
    .fetch_all(conn)
    .await?
    .iter()
    .map(backup)
    .collect()
}

/// Whether the account has a backup of this name; of one volume, when one is given.
pub async fn backup_name_exists(
    conn: &mut Conn,
    account_id: AccountId,
    volume_id: Option<VolumeId>,
    name: &Name,
) -> Result<bool> {
    let found = sql!(
        "SELECT 1 FROM backups WHERE account_id = $1 AND name = $2 \
         AND volume_id = COALESCE($3, volume_id) LIMIT 1",
        account_id,
        name,
        volume_id,
    )
    .fetch_optional(conn)
    .await?;
    Ok(found.is_some())
}

/// A page of a project's backups.
pub async fn backup_list(
    conn: &mut Conn,
    account_id: AccountId,
    project_id: ProjectId,
    page: &PageKey,
) -> Result<Vec<Backup>> {
    sql!(
        select!(
            "WHERE project_id = $1 AND (created_at, id) < ($2, $3) AND account_id = $4 \
             ORDER BY created_at DESC, id DESC LIMIT $5"
        ),
        project_id,
        page.created_at(),
        page.id(),
        account_id,
        page.limit,
    )
    .fetch_all(conn)
    .await?
    .iter()
    .map(backup)
    .collect()
}

/// A page of a volume's backups.
pub async fn backup_list_of_volume(
    conn: &mut Conn,
    account_id: AccountId,
    volume_id: VolumeId,
    page: &PageKey,
) -> Result<Vec<Backup>> {
    sql!(
        select!(
            "WHERE volume_id = $1 AND (created_at, id) < ($2, $3) AND account_id = $4 \
             ORDER BY created_at DESC, id DESC LIMIT $5"
        ),
        volume_id,
        page.created_at(),
        page.id(),
        account_id,
        page.limit,
    )
    .fetch_all(conn)
    .await?
    .iter()
    .map(backup)
    .collect()
}

/// The volume's latest available backup in a target: what the next one is an increment to.
pub async fn backup_latest(
    conn: &mut Conn,
    volume_id: VolumeId,
    target_id: TargetId,
) -> Result<Option<BackupId>> {
    sql!(
        "SELECT id FROM backups WHERE volume_id = $1 AND target_id = $2 AND state = 'available' \
         ORDER BY created_at DESC, id DESC LIMIT 1",
        volume_id,
        target_id,
    )
    .fetch_optional(conn)
    .await?
    .map(|row| Columns::of("backup", &row).parse())
    .transpose()
}
