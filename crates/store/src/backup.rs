//! Backups. What snapshots are asked alike is in `item`.

use std::collections::BTreeSet;

use sqlx::any::AnyRow;
use stillpoint_model::backup::Backup;
use stillpoint_model::id::{AccountId, BackupId, ProjectId, TargetId, VolumeId};
use stillpoint_model::item::Consistency;
use stillpoint_model::name::Name;

use crate::error::Result;
use crate::item::item_queries;
use crate::page::PageKey;
use crate::row::{Columns, json, sizes, sql};
use crate::{Conn, Tx};

macro_rules! columns {
    () => {
        "id, account_id, project_id, target_id, volume_id, volume_name, name, description, \
         labels, state, consistency, trigger_word, provisioned_bytes, used_bytes, \
         changed_bytes, stored_bytes, freed_bytes, bytes_read, content_hash, verified_at, \
         duration_ms, protected, failure, operation_id, created_at, version, keep_until"
    };
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", columns!(), " FROM backups ", $rest)
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
        keep_until: columns.optional_time()?,
    })
}

/// Inserts a backup.
pub async fn backup_insert(tx: &mut Tx, backup: &Backup) -> Result<()> {
    sql!(
        concat!(
            "INSERT INTO backups (",
            columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, \
             $19, $20, $21, $22, $23, $24, $25, $26, $27)"
        ),
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
        backup.keep_until,
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

item_queries! {
    "backups": Backup, BackupId, backup;
    backup_delete, backup_by_id, backup_by_name, backup_name_exists, backup_names_like, backup_list,
    backup_list_of_volume
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
