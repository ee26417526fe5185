//! Instances.

use std::collections::BTreeSet;

use sqlx::any::AnyRow;
use stillpoint_model::id::{AccountId, InstanceId, NodeId, ProjectId};
use stillpoint_model::instance::{Instance, Load};
use stillpoint_model::name::Name;

use crate::error::Result;
use crate::page::PageKey;
use crate::row::{Columns, json, sql};
use crate::{Conn, Tx};

macro_rules! columns {
    () => {
        "id, account_id, project_id, pool_id, name, flavor, state, power, ready, load_percent, \
         next_place, active_operation_id, failure, created_at, started_at, version"
    };
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", columns!(), " FROM instances ", $rest)
    };
}

fn instance(row: &AnyRow) -> Result<Instance> {
    let mut columns = Columns::of("instance", row);
    Ok(Instance {
        id: columns.parse()?,
        account_id: columns.parse()?,
        project_id: columns.parse()?,
        pool_id: columns.parse()?,
        name: columns.parse()?,
        flavor: columns.json()?,
        state: columns.parse()?,
        power: columns.parse()?,
        ready: columns.flag()?,
        load: load(&mut columns)?,
        next_place: columns.count()?,
        active_operation: columns.optional()?,
        failure: columns.optional_text()?,
        created_at: columns.time()?,
        started_at: columns.optional_time()?,
        version: columns.integer()?,
    })
}

/// A load, or nothing.
pub(crate) fn load(columns: &mut Columns<'_>) -> Result<Option<Load>> {
    let percent = columns.optional_integer()?;
    Ok(percent.map(|n| Load::percent(u8::try_from(n).unwrap_or(u8::MAX))))
}

/// Inserts an instance.
pub async fn instance_insert(tx: &mut Tx, instance: &Instance) -> Result<()> {
    sql!(
        concat!(
            "INSERT INTO instances (",
            columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
        ),
        instance.id,
        instance.account_id,
        instance.project_id,
        instance.pool_id,
        &instance.name,
        json(&instance.flavor)?,
        instance.state.as_str(),
        instance.power.as_str(),
        instance.ready,
        instance.load.map(|load| u32::from(load.as_percent())),
        instance.next_place,
        instance.active_operation,
        instance.failure.as_deref(),
        instance.created_at,
        instance.started_at,
        instance.version,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes everything of an instance that can change.
pub async fn instance_update(tx: &mut Tx, instance: &Instance) -> Result<()> {
    sql!(
        "UPDATE instances SET name = $2, state = $3, power = $4, ready = $5, load_percent = $6, \
         next_place = $7, active_operation_id = $8, failure = $9, started_at = $10, version = $11 \
         WHERE id = $1",
        instance.id,
        &instance.name,
        instance.state.as_str(),
        instance.power.as_str(),
        instance.ready,
        instance.load.map(|load| u32::from(load.as_percent())),
        instance.next_place,
        instance.active_operation,
        instance.failure.as_deref(),
        instance.started_at,
        instance.version,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes an instance's row. No volume may be attached to it any more.
pub async fn instance_delete(tx: &mut Tx, id: InstanceId) -> Result<()> {
    sql!("DELETE FROM instances WHERE id = $1", id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The instance of this id, whoever's it is.
pub async fn instance_by_id(conn: &mut Conn, id: InstanceId) -> Result<Option<Instance>> {
    sql!(select!("WHERE id = $1"), id)
        .fetch_optional(conn)
        .await?
        .as_ref()
        .map(instance)
        .transpose()
}

/// The project's instance of this name.
pub async fn instance_by_name(
    conn: &mut Conn,
    project_id: ProjectId,
    name: &Name,
) -> Result<Option<Instance>> {
    sql!(
        select!("WHERE project_id = $1 AND name = $2"),
        project_id,
        name
    )
    .fetch_optional(conn)
    .await?
    .as_ref()
    .map(instance)
    .transpose()
}

/// The project's names of instances that are this one, or this one with a hyphen and more behind
/// it.
pub async fn instance_names_like(
    conn: &mut Conn,
    project_id: ProjectId,
    name: &Name,
) -> Result<BTreeSet<String>> {
    // The full stop is what comes after the hyphen.
    sql!(
        "SELECT name FROM instances WHERE project_id = $1 AND name >= $2 AND name < $2 || '.'",
        project_id,
        name,
    )
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| Columns::of("instance", row).text())
    .collect()
}

/// A page of a project's instances, newest first.
pub async fn instance_list(
    conn: &mut Conn,
    account_id: AccountId,
    project_id: ProjectId,
    page: &PageKey,
) -> Result<Vec<Instance>> {
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
    .map(instance)
    .collect()
}

/// The instances that the instance snapshots of a page were taken of, as far as they still exist.
pub async fn instance_list_of_snapshots(
    conn: &mut Conn,
    account_id: AccountId,
    project_id: ProjectId,
    page: &PageKey,
) -> Result<Vec<Instance>> {
    sql!(
        select!(
            "WHERE id IN (SELECT instance_id FROM (SELECT instance_id FROM instance_snapshots \
             WHERE project_id = $1 AND (created_at, id) < ($2, $3) AND account_id = $4 \
             ORDER BY created_at DESC, id DESC LIMIT $5) AS page)"
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
    .map(instance)
    .collect()
}

/// The instances that a node runs or could start, by id.
pub async fn instance_of_node(conn: &mut Conn, node_id: NodeId) -> Result<Vec<Instance>> {
    sql!(
        select!("WHERE pool_id IN (SELECT p.id FROM pools p WHERE p.node_id = $1) ORDER BY id"),
        node_id
    )
    .fetch_all(conn)
    .await?
    .iter()
    .map(instance)
    .collect()
}
