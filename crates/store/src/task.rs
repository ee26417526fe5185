//! Tasks: what nodes do, with the lease and the fence on it.

use sqlx::Row;
use sqlx::any::AnyRow;
use stillpoint_model::Timestamp;
use stillpoint_model::id::{NodeId, OperationId, PoolId, TaskId};
use stillpoint_model::saga::Task;

use crate::db::{Conn, Tx};
use crate::error::Result;
use crate::row::{Columns, json, sql};

macro_rules! columns {
    () => {
        "t.id, t.operation_id, t.role, t.step, t.pool_id, t.state, t.fence, t.attempt, t.due_at, \
         t.node_id, t.lease_until, t.cancel, t.spec, t.outcome, t.failure"
    };
}

fn task(row: &AnyRow) -> Result<Task> {
    let mut c = Columns::of("task", row);
    Ok(Task {
        id: c.parse()?,
        operation_id: c.optional()?,
        role: c.parse()?,
        step: c.count()?,
        pool_id: c.parse()?,
        state: c.parse()?,
        fence: c.integer()?,
        attempt: c.count()?,
        due_at: c.time()?,
        node_id: c.optional()?,
        lease_until: c.optional_time()?,
        cancel: c.flag()?,
        spec: c.json()?,
        outcome: c.optional_json()?,
        failure: c.optional_json()?,
    })
}

fn tasks(rows: &[AnyRow]) -> Result<Vec<Task>> {
    rows.iter().map(task).collect()
}

/// One task.
pub async fn task_by_id(conn: &mut Conn, id: TaskId) -> Result<Option<Task>> {
    let row = sql!(
        concat!("SELECT ", columns!(), " FROM tasks t WHERE t.id = $1"),
        id.as_uuid()
    )
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(task).transpose()
}

/// Records a new task.
pub async fn task_insert(tx: &mut Tx, task: &Task) -> Result<()> {
    sql!(
        "INSERT INTO tasks (id, operation_id, role, step, pool_id, state, fence, attempt, \
         due_at, cancel, spec) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        task.id.as_uuid(),
        task.operation_id,
        task.role.as_str(),
        task.step,
        task.pool_id,
        task.state.as_str(),
        task.fence,
        task.attempt,
        task.due_at,
        task.cancel,
        json(&task.spec)?,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Records how far a task is.
pub async fn task_update(tx: &mut Tx, task: &Task) -> Result<()> {
    sql!(
        "UPDATE tasks SET state = $2, fence = $3, attempt = $4, due_at = $5, node_id = $6, \
         lease_until = $7, cancel = $8, outcome = $9, failure = $10 WHERE id = $1",
        task.id.as_uuid(),
        task.state.as_str(),
        task.fence,
        task.attempt,
        task.due_at,
        task.node_id,
        task.lease_until,
        task.cancel,
        task.outcome.as_ref().map(json).transpose()?,
        task.failure.as_ref().map(json).transpose()?,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes a task that is over.
pub async fn task_delete(tx: &mut Tx, id: TaskId) -> Result<()> {
    sql!("DELETE FROM tasks WHERE id = $1", id.as_uuid())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The task that a node should do next: in one of its pools, due, the oldest first; the upkeep
/// of a pool only when nothing else but the care of vaults and the filling of volumes is to be done there.
pub async fn task_next(conn: &mut Conn, node_id: NodeId, now: Timestamp) -> Result<Option<Task>> {
    let row = sql!(
        concat!(
            "SELECT ",
            columns!(),
            " FROM tasks t JOIN pools p ON p.id = t.pool_id \
             WHERE p.node_id = $1 AND t.state = 'offered' AND t.due_at <= $2 \
             AND (t.role <> 'upkeep' OR NOT EXISTS (SELECT 1 FROM tasks o \
             WHERE o.pool_id = t.pool_id AND o.role NOT IN ('upkeep', 'care', 'fill') \
             AND (o.state = 'leased' OR (o.state = 'offered' AND o.due_at <= $3)))) \
             ORDER BY CASE t.role WHEN 'upkeep' THEN 1 WHEN 'fill' THEN 2 WHEN 'care' THEN 3 ELSE 0 END, \
             t.due_at, t.id LIMIT 1"
        ),
        node_id,
        now,
        now
    )
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(task).transpose()
}

/// When the next task that waits for its time may be handed to a node.
pub async fn task_next_due(
    conn: &mut Conn,
    node_id: NodeId,
    now: Timestamp,
) -> Result<Option<Timestamp>> {
    let row = sql!(
        "SELECT MIN(t.due_at) FROM tasks t JOIN pools p ON p.id = t.pool_id \
         WHERE p.node_id = $1 AND t.state = 'offered' AND t.due_at > $2",
        node_id,
        now
    )
    .fetch_one(conn)
    .await?;
    Ok(row
        .try_get::<Option<i64>, _>(0)?
        .map(Timestamp::from_micros))
}

/// What a node has in hand.
pub async fn task_of_node(conn: &mut Conn, node_id: NodeId) -> Result<Vec<Task>> {
    let rows = sql!(
        concat!(
            "SELECT ",
            columns!(),
            " FROM tasks t WHERE t.node_id = $1 AND t.state = 'leased' ORDER BY t.id"
        ),
        node_id
    )
    .fetch_all(conn)
    .await?;
    tasks(&rows)
}

/// Chores, upkeep, care and fills that ended, or whose node fell silent: whose lease ended before `now` or
/// would end after `horizon`, which only a clock that jumped can have written.
pub async fn task_loose_ends(
    conn: &mut Conn,
    now: Timestamp,
    horizon: Timestamp,
) -> Result<Vec<Task>> {
    let rows = sql!(
        concat!(
            "SELECT ",
            columns!(),
            " FROM tasks t WHERE t.role IN ('chore', 'upkeep', 'care', 'fill') \
             AND (t.state IN ('done', 'failed') \
             OR (t.state = 'leased' AND (t.lease_until <= $1 OR t.lease_until > $2)) \
             OR (t.state = 'offered' AND t.due_at > $3)) ORDER BY t.id LIMIT 100"
        ),
        now,
        horizon,
        horizon
    )
    .fetch_all(conn)
    .await?;
    tasks(&rows)
}

/// When the lease of the first chore, upkeep, care or fill is over.
pub async fn task_next_loose_end(conn: &mut Conn) -> Result<Option<Timestamp>> {
    let row = sqlx::query(
        "SELECT MIN(lease_until) FROM tasks WHERE role IN ('chore', 'upkeep', 'care', 'fill') \
         AND state = 'leased'",
    )
    .fetch_one(conn)
    .await?;
    Ok(row
        .try_get::<Option<i64>, _>(0)?
        .map(Timestamp::from_micros))
}

/// The upkeep of a pool that is waiting or under way.
pub async fn task_upkeep(conn: &mut Conn, pool_id: PoolId) -> Result<Option<Task>> {
    let row = sql!(
        concat!(
            "SELECT ",
            columns!(),
            " FROM tasks t WHERE t.role = 'upkeep' AND t.pool_id = $1"
        ),
        pool_id
    )
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(task).transpose()
}

/// Every task there is, the oldest first: what a test or an operator looks at.
pub async fn task_list(conn: &mut Conn) -> Result<Vec<Task>> {
    let rows = sqlx::query(concat!(
        "SELECT ",
        columns!(),
        " FROM tasks t ORDER BY t.id"
    ))
    .fetch_all(conn)
    .await?;
    tasks(&rows)
}

/// What an operation that ended left to be done.
pub async fn task_chores(conn: &mut Conn, id: OperationId) -> Result<Vec<Task>> {
    let rows = sql!(
        concat!(
            "SELECT ",
            columns!(),
            " FROM tasks t WHERE t.operation_id = $1 AND t.role = 'chore' ORDER BY t.id"
        ),
        id
    )
    .fetch_all(conn)
    .await?;
    tasks(&rows)
}
