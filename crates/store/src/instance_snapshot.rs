//! Instance snapshots: the whole. Its parts are in `snapshot`.

use std::collections::BTreeSet;

use sqlx::any::AnyRow;
use stillpoint_model::id::{AccountId, InstanceId, InstanceSnapshotId, ProjectId};
use stillpoint_model::instance_snapshot::InstanceSnapshot;
use stillpoint_model::item::Consistency;
use stillpoint_model::name::Name;

use crate::error::Result;
use crate::page::PageKey;
use crate::row::{Columns, json, sizes, sql};
use crate::{Conn, Tx};

macro_rules! columns {
    () => {
        "id, account_id, project_id, pool_id, instance_id, instance_name, name, description, \
         labels, state, consistency, trigger_word, provisioned_bytes, used_bytes, \
         changed_bytes, stored_bytes, freed_bytes, config, duration_ms, protected, failure, \
         operation_id, created_at, version, memory_bytes"
    };
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", columns!(), " FROM instance_snapshots ", $rest)
    };
}

fn instance_snapshot(row: &AnyRow) -> Result<InstanceSnapshot> {
    let mut columns = Columns::of("instance snapshot", row);
    Ok(InstanceSnapshot {
        id: columns.parse()?,
        account_id: columns.parse()?,
        project_id: columns.parse()?,
        pool_id: columns.parse()?,
        instance_id: columns.parse()?,
        instance_name: columns.parse()?,
        name: columns.parse()?,
        description: columns.text()?,
        labels: columns.json()?,
        state: columns.parse()?,
        consistency: columns.optional()?,
        trigger: columns.parse()?,
        sizes: sizes(&mut columns)?,
        config: columns.json()?,
        duration_ms: columns.optional_integer()?,
        protected: columns.flag()?,
        failure: columns.optional_text()?,
        operation_id: columns.optional()?,
        created_at: columns.time()?,
        version: columns.integer()?,
        memory: columns.optional_bytes()?,
    })
}

/// Inserts an instance snapshot; its parts come after it.
pub async fn instance_snapshot_insert(tx: &mut Tx, row: &InstanceSnapshot) -> Result<()> {
    sql!(
        concat!(
            "INSERT INTO instance_snapshots (",
            columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, \
             $17, $18, $19, $20, $21, $22, $23, $24, $25)"
        ),
        row.id,
        row.account_id,
        row.project_id,
        row.pool_id,
        row.instance_id,
        &row.instance_name,
        &row.name,
        &row.description,
        json(&row.labels)?,
        row.state.as_str(),
        row.consistency.map(Consistency::as_str),
        row.trigger.as_str(),
        row.sizes.provisioned,
        row.sizes.used,
        row.sizes.changed,
        row.sizes.stored,
        row.sizes.freed_if_deleted,
        json(&row.config)?,
        row.duration_ms,
        row.protected,
        row.failure.as_deref(),
        row.operation_id,
        row.created_at,
        row.version,
        row.memory,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes everything of an instance snapshot that can change.
pub async fn instance_snapshot_update(tx: &mut Tx, row: &InstanceSnapshot) -> Result<()> {
    sql!(
        "UPDATE instance_snapshots SET name = $2, description = $3, labels = $4, state = $5, \
         consistency = $6, provisioned_bytes = $7, used_bytes = $8, changed_bytes = $9, \
         stored_bytes = $10, freed_bytes = $11, duration_ms = $12, protected = $13, \
         failure = $14, operation_id = $15, version = $16, memory_bytes = $17 WHERE id = $1",
        row.id,
        &row.name,
        &row.description,
        json(&row.labels)?,
        row.state.as_str(),
        row.consistency.map(Consistency::as_str),
        row.sizes.provisioned,
        row.sizes.used,
        row.sizes.changed,
        row.sizes.stored,
        row.sizes.freed_if_deleted,
        row.duration_ms,
        row.protected,
        row.failure.as_deref(),
        row.operation_id,
        row.version,
        row.memory,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes an instance snapshot's row, after its parts.
pub async fn instance_snapshot_delete(tx: &mut Tx, id: InstanceSnapshotId) -> Result<()> {
    sql!("DELETE FROM instance_snapshots WHERE id = $1", id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The instance snapshot of this id, whoever's it is.
pub async fn instance_snapshot_by_id(
    conn: &mut Conn,
    id: InstanceSnapshotId,
) -> Result<Option<InstanceSnapshot>> {
    sql!(select!("WHERE id = $1"), id)
        .fetch_optional(conn)
        .await?
        .as_ref()
        .map(instance_snapshot)
        .transpose()
}

/// The project's instance snapshots of this name, two at most: enough to know whether there is
/// one, none or more.
pub async fn instance_snapshot_by_name(
    conn: &mut Conn,
    account_id: AccountId,
    project_id: ProjectId,
    name: &Name,
) -> Result<Vec<InstanceSnapshot>> {
    sql!(
        select!("WHERE account_id = $1 AND name = $2 AND project_id = $3 LIMIT 2"),
        account_id,
        name,
        project_id,
    )
    .fetch_all(conn)
    .await?
    .iter()
    .map(instance_snapshot)
    .collect()
}

/// Whether the account has an instance snapshot of this name; of one instance, when one is given.
pub async fn instance_snapshot_name_exists(
    conn: &mut Conn,
    account_id: AccountId,
    instance_id: Option<InstanceId>,
    name: &Name,
) -> Result<bool> {
    let found = sql!(
        "SELECT 1 FROM instance_snapshots WHERE account_id = $1 AND name = $2 \
         AND instance_id = COALESCE($3, instance_id) LIMIT 1",
        account_id,
        name,
        instance_id,
    )
    .fetch_optional(conn)
    .await?;
    Ok(found.is_some())
}

/// The account's names of instance snapshots that are this one, or this one with a hyphen and more
/// behind it.
pub async fn instance_snapshot_names_like(
    conn: &mut Conn,
    account_id: AccountId,
    name: &Name,
) -> Result<BTreeSet<String>> {
    // The full stop is what comes after the hyphen.
    sql!(
        "SELECT name FROM instance_snapshots WHERE account_id = $1 AND name >= $2 \
         AND name < $2 || '.'",
        account_id,
        name,
    )
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| Columns::of("instance snapshot", row).text())
    .collect()
}

/// A page of a project's instance snapshots, newest first; of one instance, when one is given.
pub async fn instance_snapshot_list(
    conn: &mut Conn,
    account_id: AccountId,
    project_id: ProjectId,
    instance_id: Option<InstanceId>,
    page: &PageKey,
) -> Result<Vec<InstanceSnapshot>> {
    let rows = match instance_id {
        Some(instance_id) => sql!(
            select!(
                "WHERE instance_id = $1 AND (created_at, id) < ($2, $3) AND account_id = $4 \
                 ORDER BY created_at DESC, id DESC LIMIT $5"
            ),
            instance_id,
            page.created_at(),
            page.id(),
            account_id,
            page.limit,
        ),
        None => sql!(
            select!(
                "WHERE project_id = $1 AND (created_at, id) < ($2, $3) AND account_id = $4 \
                 ORDER BY created_at DESC, id DESC LIMIT $5"
            ),
            project_id,
            page.created_at(),
            page.id(),
            account_id,
            page.limit,
        ),
    };
    rows.fetch_all(conn)
        .await?
        .iter()
        .map(instance_snapshot)
        .collect()
}
