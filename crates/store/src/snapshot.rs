//! Snapshots. What backups are asked alike is in `item`.

use std::collections::BTreeSet;

use sqlx::any::AnyRow;
use stillpoint_model::Timestamp;
use stillpoint_model::id::{AccountId, ProjectId, SnapshotId, VolumeId};
use stillpoint_model::item::Consistency;
use stillpoint_model::name::Name;
use stillpoint_model::snapshot::Snapshot;

use crate::error::Result;
use crate::item::item_queries;
use crate::page::PageKey;
use crate::row::{Columns, json, sizes, sql};
use crate::{Conn, Tx};

macro_rules! columns {
    () => {
        "id, account_id, project_id, pool_id, volume_id, volume_name, instance_snapshot_id, name, description, \
         labels, state, consistency, trigger_word, provisioned_bytes, used_bytes, \
         changed_bytes, stored_bytes, freed_bytes, layer_id, duration_ms, protected, failure, \
         operation_id, created_at, expires_at, version"
    };
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", columns!(), " FROM snapshots ", $rest)
    };
}

fn snapshot(row: &AnyRow) -> Result<Snapshot> {
    let mut columns = Columns::of("snapshot", row);
    Ok(Snapshot {
        id: columns.parse()?,
        account_id: columns.parse()?,
        project_id: columns.parse()?,
        pool_id: columns.parse()?,
        volume_id: columns.parse()?,
        volume_name: columns.parse()?,
        instance_snapshot_id: columns.optional()?,
        name: columns.parse()?,
        description: columns.text()?,
        labels: columns.json()?,
        state: columns.parse()?,
        consistency: columns.optional()?,
        trigger: columns.parse()?,
        sizes: sizes(&mut columns)?,
        layer: columns.optional()?,
        duration_ms: columns.optional_integer()?,
        protected: columns.flag()?,
        failure: columns.optional_text()?,
        operation_id: columns.optional()?,
        created_at: columns.time()?,
        expires_at: columns.optional_time()?,
        version: columns.integer()?,
    })
}

/// Inserts a snapshot.
pub async fn snapshot_insert(tx: &mut Tx, snapshot: &Snapshot) -> Result<()> {
    sql!(
        concat!(
            "INSERT INTO snapshots (",
            columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, \
             $19, $20, $21, $22, $23, $24, $25, $26)"
        ),
        snapshot.id,
        snapshot.account_id,
        snapshot.project_id,
        snapshot.pool_id,
        snapshot.volume_id,
        &snapshot.volume_name,
        snapshot.instance_snapshot_id,
        &snapshot.name,
        &snapshot.description,
        json(&snapshot.labels)?,
        snapshot.state.as_str(),
        snapshot.consistency.map(Consistency::as_str),
        snapshot.trigger.as_str(),
        snapshot.sizes.provisioned,
        snapshot.sizes.used,
        snapshot.sizes.changed,
        snapshot.sizes.stored,
        snapshot.sizes.freed_if_deleted,
        snapshot.layer,
        snapshot.duration_ms,
        snapshot.protected,
        snapshot.failure.as_deref(),
        snapshot.operation_id,
        snapshot.created_at,
        snapshot.expires_at,
        snapshot.version,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes everything of a snapshot that can change.
pub async fn snapshot_update(tx: &mut Tx, snapshot: &Snapshot) -> Result<()> {
    sql!(
        "UPDATE snapshots SET name = $2, description = $3, labels = $4, state = $5, consistency = $6, \
         provisioned_bytes = $7, used_bytes = $8, changed_bytes = $9, stored_bytes = $10, \
         freed_bytes = $11, layer_id = $12, duration_ms = $13, protected = $14, failure = \
         $15, operation_id = $16, expires_at = $17, version = $18 WHERE id = $1",
        snapshot.id,
        &snapshot.name,
        &snapshot.description,
        json(&snapshot.labels)?,
        snapshot.state.as_str(),
        snapshot.consistency.map(Consistency::as_str),
        snapshot.sizes.provisioned,
        snapshot.sizes.used,
        snapshot.sizes.changed,
        snapshot.sizes.stored,
        snapshot.sizes.freed_if_deleted,
        snapshot.layer,
        snapshot.duration_ms,
        snapshot.protected,
        snapshot.failure.as_deref(),
        snapshot.operation_id,
        snapshot.expires_at,
        snapshot.version,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

item_queries! {
    "snapshots": Snapshot, SnapshotId, snapshot;
    snapshot_delete, snapshot_by_id, snapshot_by_name, snapshot_name_exists, snapshot_names_like, snapshot_list,
    snapshot_list_of_volume
}

/// Snapshots that were to go by themselves before `now`, the earliest first.
pub async fn snapshot_expired(
    conn: &mut Conn,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<Snapshot>> {
    sql!(
        select!("WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2"),
        now,
        limit
    )
    .fetch_all(conn)
    .await?
    .iter()
    .map(snapshot)
    .collect()
}
