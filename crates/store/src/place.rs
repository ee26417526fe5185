//! Regions, nodes, pools, targets and vaults.

use sqlx::any::AnyRow;
use stillpoint_model::Timestamp;
use stillpoint_model::id::{AccountId, NodeId, PoolId, TargetId, VaultId};
use stillpoint_model::place::{CopyRule, Node, ObjectLock, Pool, Region, Target};

use crate::error::Result;
use crate::operation::in_flight;
use crate::row::{Columns, sql};
use crate::{Conn, Tx};

/// Inserts a region.
pub async fn region_insert(tx: &mut Tx, region: &Region) -> Result<()> {
    sql!(
        "INSERT INTO regions (id, name) VALUES ($1, $2)",
        region.id,
        &region.name
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// All regions, by name.
pub async fn region_list(conn: &mut Conn) -> Result<Vec<Region>> {
    sql!("SELECT id, name FROM regions ORDER BY name")
        .fetch_all(conn)
        .await?
        .iter()
        .map(|row| {
            let mut columns = Columns::of("region", row);
            Ok(Region {
                id: columns.parse()?,
                name: columns.parse()?,
            })
        })
        .collect()
}

fn node(row: &AnyRow) -> Result<Node> {
    node_from(&mut Columns::of("node", row))
}

fn node_from(columns: &mut Columns<'_>) -> Result<Node> {
    Ok(Node {
        id: columns.parse()?,
        region_id: columns.parse()?,
        name: columns.parse()?,
        last_seen_at: columns.optional_time()?,
        runs_instances: columns.flag()?,
    })
}

/// Inserts a node.
pub async fn node_insert(tx: &mut Tx, node: &Node) -> Result<()> {
    sql!(
        "INSERT INTO nodes (id, region_id, name, last_seen_at, runs_instances) \
         VALUES ($1, $2, $3, $4, $5)",
        node.id,
        node.region_id,
        &node.name,
        node.last_seen_at,
        node.runs_instances,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// All nodes, by name.
pub async fn node_list(conn: &mut Conn) -> Result<Vec<Node>> {
    sql!("SELECT id, region_id, name, last_seen_at, runs_instances FROM nodes ORDER BY name")
        .fetch_all(conn)
        .await?
        .iter()
        .map(node)
        .collect()
}

/// A node, and how many operations of an account are under way and count against its limit: what
/// every admission asks.
pub async fn node_with_in_flight(
    conn: &mut Conn,
    id: NodeId,
    account_id: AccountId,
) -> Result<Option<(Node, u32)>> {
    let statement = concat!(
        "SELECT id, region_id, name, last_seen_at, runs_instances, (",
        in_flight!("$2"),
        ") FROM nodes WHERE id = $1"
    );
    let row = sql!(statement, id, account_id).fetch_optional(conn).await?;
    row.map(|row| {
        let mut columns = Columns::of("node", &row);
        Ok((node_from(&mut columns)?, columns.count()?))
    })
    .transpose()
}

/// Records that a node was heard of.
pub async fn node_touch(tx: &mut Tx, id: NodeId, at: Timestamp) -> Result<()> {
    sql!("UPDATE nodes SET last_seen_at = $2 WHERE id = $1", id, at)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Records that a node runs instances, or does not.
pub async fn node_update_runs_instances(
    tx: &mut Tx,
    id: NodeId,
    runs_instances: bool,
) -> Result<()> {
    sql!(
        "UPDATE nodes SET runs_instances = $2 WHERE id = $1",
        id,
        runs_instances
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn pool(row: &AnyRow) -> Result<Pool> {
    let mut columns = Columns::of("pool", row);
    Ok(Pool {
        id: columns.parse()?,
        node_id: columns.parse()?,
        name: columns.parse()?,
        driver: columns.text()?,
        live_capture: columns.flag()?,
    })
}

/// Inserts a pool.
pub async fn pool_insert(tx: &mut Tx, pool: &Pool) -> Result<()> {
    sql!(
        "INSERT INTO pools (id, node_id, name, driver, live_capture) VALUES ($1, $2, $3, $4, $5)",
        pool.id,
        pool.node_id,
        &pool.name,
        &pool.driver,
        pool.live_capture,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Records what a pool can do.
pub async fn pool_update_live_capture(tx: &mut Tx, id: PoolId, live_capture: bool) -> Result<()> {
    sql!(
        "UPDATE pools SET live_capture = $2 WHERE id = $1",
        id,
        live_capture
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// All pools, the oldest first.
pub async fn pool_list(conn: &mut Conn) -> Result<Vec<Pool>> {
    sql!("SELECT id, node_id, name, driver, live_capture FROM pools ORDER BY id")
        .fetch_all(conn)
        .await?
        .iter()
        .map(pool)
        .collect()
}

/// Inserts a backup target.
pub async fn target_insert(tx: &mut Tx, target: &Target) -> Result<()> {
    sql!(
        "INSERT INTO targets (id, region_id, name, driver, role, copy_to, copy_every_s, object_lock) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        target.id,
        target.region_id,
        &target.name,
        &target.driver,
        target.role.as_str(),
        target.copies.map(|rule| rule.to),
        target.copies.map(|rule| rule.every_s),
        target.object_lock.map(ObjectLock::as_str),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Records how a target locks what is to stay.
pub async fn target_update_lock(
    tx: &mut Tx,
    id: TargetId,
    object_lock: Option<ObjectLock>,
) -> Result<()> {
    sql!(
        "UPDATE targets SET object_lock = $2 WHERE id = $1",
        id,
        object_lock.map(ObjectLock::as_str),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Records where the backups of a target are copied to, if they are.
pub async fn target_update_copies(
    tx: &mut Tx,
    id: TargetId,
    copies: Option<CopyRule>,
) -> Result<()> {
    sql!(
        "UPDATE targets SET copy_to = $2, copy_every_s = $3 WHERE id = $1",
        id,
        copies.map(|rule| rule.to),
        copies.map(|rule| rule.every_s),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// All backup targets, the oldest first.
pub async fn target_list(conn: &mut Conn) -> Result<Vec<Target>> {
    sql!("SELECT id, region_id, name, driver, role, copy_to, copy_every_s, object_lock FROM targets ORDER BY id")
        .fetch_all(conn)
        .await?
        .iter()
        .map(|row| {
            let mut columns = Columns::of("target", row);
            Ok(Target {
                id: columns.parse()?,
                region_id: columns.parse()?,
                name: columns.parse()?,
                driver: columns.text()?,
                role: columns.parse()?,
                copies: match (columns.optional()?, columns.optional_count()?) {
                    (Some(to), Some(every_s)) => Some(CopyRule { to, every_s }),
                    _ => None,
                },
                object_lock: columns.optional()?,
            })
        })
        .collect()
}

/// Inserts the vault of an account in a target.
pub async fn vault_insert(
    tx: &mut Tx,
    id: VaultId,
    account_id: AccountId,
    target_id: TargetId,
    created_at: Timestamp,
) -> Result<()> {
    sql!(
        "INSERT INTO vaults (id, account_id, target_id, created_at) VALUES ($1, $2, $3, $4)",
        id,
        account_id,
        target_id,
        created_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The vault of an account in a target.
pub async fn vault_of(
    conn: &mut Conn,
    account_id: AccountId,
    target_id: TargetId,
) -> Result<Option<VaultId>> {
    sql!(
        "SELECT id FROM vaults WHERE account_id = $1 AND target_id = $2",
        account_id,
        target_id,
    )
    .fetch_optional(conn)
    .await?
    .map(|row| Columns::of("vault", &row).parse())
    .transpose()
}
