//! Operations: their rows, the run that the engine moves, and who is in whose way.
//!
//! Whatever the code above does, the database itself refuses a second operation that locks a
//! volume, and a second task under way for an operation.

use sqlx::Row;
use sqlx::any::AnyRow;
use stillpoint_model::Timestamp;
use stillpoint_model::id::{AccountId, InstanceId, OperationId, TaskId, VolumeId};
use stillpoint_model::operation::{Operation, Progress};
use stillpoint_model::saga::{Order, Run, Setback, StepRecord};
use uuid::Uuid;

use crate::db::{Conn, Tx};
use crate::error::Result;
use crate::page::PageKey;
use crate::row::{Columns, json, sql};

/// Which operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperationFilter {
    /// Only those about this volume.
    pub volume: Option<VolumeId>,
    /// Only those about this instance.
    pub instance: Option<InstanceId>,
    /// Only those under way, or only those that are over.
    pub in_flight: Option<bool>,
}

/// The columns of an [`Operation`], in the order in which they are read.
macro_rules! columns {
    () => {
        "id, account_id, project_id, user_id, kind, state, volume_id, volume_name, snapshot_id, \
         backup_id, instance_id, instance_name, image_id, image_name, instance_snapshot_id, phase, \
         bytes_done, bytes_total, rate, fence, failure, created_at, started_at, progressed_at, \
         finished_at, version"
    };
}

fn operation(c: &mut Columns<'_>) -> Result<Operation> {
    Ok(Operation {
        id: c.parse()?,
        account_id: c.parse()?,
        project_id: c.parse()?,
        user_id: c.parse()?,
        kind: c.parse()?,
        state: c.parse()?,
        volume_id: c.optional()?,
        volume_name: c.optional()?,
        snapshot_id: c.optional()?,
        backup_id: c.optional()?,
        instance_id: c.optional()?,
        instance_name: c.optional()?,
        image_id: c.optional()?,
        image_name: c.optional()?,
        instance_snapshot_id: c.optional()?,
        progress: Progress {
            phase: c.parse()?,
            bytes_done: c.bytes()?,
            bytes_total: c.optional_bytes()?,
            rate_bytes_per_s: c.optional_bytes()?,
        },
        fence: c.integer()?,
        failure: c.optional_json()?,
        created_at: c.time()?,
        started_at: c.optional_time()?,
        progressed_at: c.time()?,
        finished_at: c.optional_time()?,
        version: c.integer()?,
    })
}

fn operation_of(row: &AnyRow) -> Result<Operation> {
    operation(&mut Columns::of("operation", row))
}

/// Records an operation that was just accepted.
pub async fn operation_insert(tx: &mut Tx, run: &Run) -> Result<()> {
    let op = &run.operation;
    let (reads_snapshot, reads_backup) = run.order.request.reads();
    sql!(
        "INSERT INTO operations (id, account_id, project_id, user_id, kind, state, volume_id, \
         volume_name, snapshot_id, backup_id, reads_snapshot, reads_backup, phase, bytes_done, \
         fence, created_at, progressed_at, version, order_json, direction, next_step, abandoned, \
         due_at, instance_id, instance_name, image_id, image_name, instance_snapshot_id) VALUES (\
         $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, \
         $20, $21, $22, $23, $24, $25, $26, $27, $28)",
        op.id,
        op.account_id,
        op.project_id,
        op.user_id,
        op.kind.as_str(),
        op.state.as_str(),
        op.volume_id,
        op.volume_name.as_ref(),
        op.snapshot_id,
        op.backup_id,
        reads_snapshot,
        reads_backup,
        op.progress.phase.as_str(),
        op.progress.bytes_done,
        op.fence,
        op.created_at,
        op.progressed_at,
        op.version,
        json(&run.order)?,
        run.direction.as_str(),
        run.cursor,
        run.abandoned,
        run.due_at,
        op.instance_id,
        op.instance_name.as_ref(),
        op.image_id,
        op.image_name.as_ref(),
        op.instance_snapshot_id,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// One operation.
pub async fn operation_by_id(conn: &mut Conn, id: OperationId) -> Result<Option<Operation>> {
    let row = sql!(
        concat!("SELECT ", columns!(), " FROM operations WHERE id = $1"),
        id
    )
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(operation_of).transpose()
}

/// Counts what an account has under way that counts against its limit.
macro_rules! in_flight {
    ($account:literal) => {
        concat!(
            "SELECT COUNT(*) FROM operations WHERE account_id = ",
            $account,
            " AND finished_at IS NULL AND kind NOT IN ('volume_delete', 'snapshot_delete', \
             'backup_delete', 'image_delete', 'instance_delete', 'instance_stop', \
             'instance_snapshot_delete')"
        )
    };
}
pub(crate) use in_flight;

/// How many operations of an account are under way and count against its limit.
pub async fn operation_in_flight(conn: &mut Conn, account_id: AccountId) -> Result<u32> {
    let row = sql!(in_flight!("$1"), account_id).fetch_one(conn).await?;
    Columns::of("operation", &row).count()
}

/// Everything under way of an account, newest first, at most a thousand.
pub async fn operation_live(
    conn: &mut Conn,
    account_id: AccountId,
) -> Result<Vec<(Operation, Order)>> {
    let rows = sql!(
        concat!(
            "SELECT ",
            columns!(),
            ", order_json FROM operations WHERE account_id = $1 AND finished_at IS NULL \
             ORDER BY created_at DESC, id DESC LIMIT 1000"
        ),
        account_id
    )
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            let mut c = Columns::of("operation", row);
            Ok((operation(&mut c)?, c.json()?))
        })
        .collect()
}

/// An operation under way that makes, deletes, or reads a snapshot, a backup, an image or an
/// instance snapshot.
pub async fn operation_on_item(conn: &mut Conn, item: Uuid) -> Result<Option<Operation>> {
    let row = sql!(
        concat!(
            "SELECT ",
            columns!(),
            " FROM operations WHERE id IN (\
             SELECT id FROM operations WHERE snapshot_id = $1 AND finished_at IS NULL UNION ALL \
             SELECT id FROM operations WHERE backup_id = $2 AND finished_at IS NULL UNION ALL \
             SELECT id FROM operations WHERE image_id = $5 AND finished_at IS NULL UNION ALL \
             SELECT id FROM operations WHERE reads_snapshot = $3 AND finished_at IS NULL UNION ALL \
             SELECT id FROM operations WHERE reads_backup = $4 AND finished_at IS NULL UNION ALL \
             SELECT id FROM operations WHERE instance_snapshot_id = $6 AND finished_at IS NULL) \
             ORDER BY created_at LIMIT 1"
        ),
        item,
        item,
        item,
        item,
        item,
        item
    )
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(operation_of).transpose()
}

/// A page of operations, newest first; of every account when none is given.
///
/// Each kind of question has its own statement, so that each finds its index.
pub async fn operation_list(
    conn: &mut Conn,
    account_id: Option<AccountId>,
    filter: &OperationFilter,
    page: &PageKey,
) -> Result<Vec<Operation>> {
    macro_rules! page {
        ($which:literal, $live:literal) => {
            concat!(
                "SELECT ",
                columns!(),
                " FROM operations WHERE ",
                $which,
                " AND (created_at, id) < ($2, $3) AND ",
                $live,
                " ORDER BY created_at DESC, id DESC LIMIT $4"
            )
        };
    }
    macro_rules! pages {
        ($which:literal) => {
            match filter.in_flight {
                None => page!($which, "1 = 1"),
                Some(true) => page!($which, "finished_at IS NULL"),
                Some(false) => page!($which, "finished_at IS NOT NULL"),
            }
        };
    }
    let (created_at, id, limit) = (page.created_at(), page.id(), page.limit);
    let query = match (filter.volume, account_id) {
        (Some(volume), Some(account)) => {
            let statement = pages!("volume_id = $1 AND account_id = $5");
            sql!(statement, volume, created_at, id, limit, account)
        }
        (Some(volume), None) => sql!(pages!("volume_id = $1"), volume, created_at, id, limit),
        (None, account) if let Some(instance) = filter.instance => {
            let statement = pages!("instance_id = $1 AND account_id = COALESCE($5, account_id)");
            sql!(statement, instance, created_at, id, limit, account)
        }
        (None, Some(account)) => sql!(pages!("account_id = $1"), account, created_at, id, limit),
        (None, None) => sql!(pages!("$1 = 'all'"), "all", created_at, id, limit),
    };
    query
        .fetch_all(conn)
        .await?
        .iter()
        .map(operation_of)
        .collect()
}

/// An operation with its order, its run and its steps, as the engine moves it.
pub async fn operation_run(conn: &mut Conn, id: OperationId) -> Result<Option<Run>> {
    let row = sql!(
        concat!(
            "SELECT ",
            columns!(),
            ", order_json, direction, next_step, setback, abandoned, due_at, task_id \
             FROM operations WHERE id = $1"
        ),
        id
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let mut c = Columns::of("operation", &row);
    let mut run = Run {
        operation: operation(&mut c)?,
        order: c.json()?,
        direction: c.parse()?,
        cursor: c.count()?,
        setback: c.optional_json::<Setback>()?,
        abandoned: c.flag()?,
        due_at: c.optional_time()?.unwrap_or_default(),
        task_id: c.optional::<TaskId>()?,
        steps: Vec::new(),
    };
    run.steps = operation_steps(conn, id).await?;
    Ok(Some(run))
}

/// The steps of an operation that were begun, in order.
pub async fn operation_steps(conn: &mut Conn, id: OperationId) -> Result<Vec<StepRecord>> {
    let rows = sql!(
        "SELECT step, name, state, attempt, outcome FROM operation_steps \
         WHERE operation_id = $1 ORDER BY step",
        id
    )
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            let mut c = Columns::of("step", row);
            Ok(StepRecord {
                index: c.count()?,
                name: c.text()?,
                state: c.parse()?,
                attempt: c.count()?,
                outcome: c.optional_json()?,
            })
        })
        .collect()
}

/// Records how far a run is, with the steps that differ from `before`. Raises its version.
pub async fn operation_run_save(tx: &mut Tx, run: &Run, before: &[StepRecord]) -> Result<()> {
    let op = &run.operation;
    let due_at = op.finished_at.is_none().then_some(run.due_at);
    sql!(
        "UPDATE operations SET state = $2, phase = $3, bytes_done = $4, bytes_total = $5, \
         rate = $6, fence = $7, failure = $8, started_at = $9, progressed_at = $10, \
         finished_at = $11, version = version + 1, direction = $12, next_step = $13, \
         setback = $14, abandoned = $15, due_at = $16, task_id = $17 WHERE id = $1",
        op.id,
        op.state.as_str(),
        op.progress.phase.as_str(),
        op.progress.bytes_done,
        op.progress.bytes_total,
        op.progress.rate_bytes_per_s,
        op.fence,
        op.failure.as_ref().map(json).transpose()?,
        op.started_at,
        op.progressed_at,
        op.finished_at,
        run.direction.as_str(),
        run.cursor,
        run.setback.as_ref().map(json).transpose()?,
        run.abandoned,
        due_at,
        run.task_id.map(TaskId::as_uuid),
    )
    .execute(&mut **tx)
    .await?;
    for gone in before.iter().filter(|s| run.step(s.index).is_none()) {
        sql!(
            "DELETE FROM operation_steps WHERE operation_id = $1 AND step = $2",
            op.id,
            gone.index
        )
        .execute(&mut **tx)
        .await?;
    }
    for step in run.steps.iter().filter(|s| !before.contains(s)) {
        step_save(tx, op.id, step).await?;
    }
    Ok(())
}

async fn step_save(tx: &mut Tx, id: OperationId, step: &StepRecord) -> Result<()> {
    sql!(
        "INSERT INTO operation_steps (operation_id, step, name, state, attempt, outcome) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (operation_id, step) DO UPDATE SET \
         state = excluded.state, attempt = excluded.attempt, outcome = excluded.outcome",
        id,
        step.index,
        &step.name,
        step.state.as_str(),
        step.attempt,
        step.outcome.as_ref().map(json).transpose()?,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Records progress alone. Raises the version.
pub async fn operation_progress_save(
    tx: &mut Tx,
    id: OperationId,
    progress: &Progress,
    progressed_at: Timestamp,
) -> Result<()> {
    sql!(
        "UPDATE operations SET phase = $2, bytes_done = $3, bytes_total = $4, rate = $5, \
         progressed_at = $6, version = version + 1 WHERE id = $1 AND finished_at IS NULL",
        id,
        progress.phase.as_str(),
        progress.bytes_done,
        progress.bytes_total,
        progress.rate_bytes_per_s,
        progressed_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The operations that the engine must look at: those that are due, and those whose due time is
/// past `horizon`, which only a clock that jumped can have written. The oldest first.
pub async fn operation_due(
    conn: &mut Conn,
    now: Timestamp,
    horizon: Timestamp,
    limit: u32,
) -> Result<Vec<OperationId>> {
    let rows = sql!(
        "SELECT id FROM operations WHERE due_at IS NOT NULL AND (due_at <= $1 OR due_at > $2) \
         ORDER BY due_at, id LIMIT $3",
        now,
        horizon,
        limit
    )
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| Columns::of("operation", row).parse())
        .collect()
}

/// When the next operation is due.
pub async fn operation_next_due(conn: &mut Conn) -> Result<Option<Timestamp>> {
    let row = sqlx::query("SELECT MIN(due_at) FROM operations WHERE due_at IS NOT NULL")
        .fetch_one(conn)
        .await?;
    Ok(row
        .try_get::<Option<i64>, _>(0)?
        .map(Timestamp::from_micros))
}

/// Releases volumes and instances whose operation is over or unknown. Answers how many there
/// were.
pub async fn operation_release_loose(tx: &mut Tx) -> Result<u64> {
    macro_rules! release {
        ($table:literal) => {
            concat!(
                "UPDATE ",
                $table,
                " SET active_operation_id = NULL, version = version + 1 \
                 WHERE active_operation_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM operations o \
                 WHERE o.id = ",
                $table,
                ".active_operation_id AND o.finished_at IS NULL)"
            )
        };
    }
    let volumes = sqlx::query(release!("volumes")).execute(&mut **tx).await?;
    let instances = sqlx::query(release!("instances"))
        .execute(&mut **tx)
        .await?;
    Ok(volumes.rows_affected() + instances.rows_affected())
}

/// The latest operation that was about an instance.
pub async fn operation_last_of_instance(
    conn: &mut Conn,
    id: InstanceId,
) -> Result<Option<Operation>> {
    let row = sql!(
        concat!(
            "SELECT ",
            columns!(),
            " FROM operations WHERE instance_id = $1 ORDER BY created_at DESC, id DESC LIMIT 1"
        ),
        id
    )
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(operation_of).transpose()
}
