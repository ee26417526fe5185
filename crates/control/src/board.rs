//! The board: what nodes talk to. They ask for work, report, confirm and finish; the board
//! checks the fence every time.
//!
//! ```text
//! offered --next_task--> leased --report--> leased (renewed)
//!    ^                     |---confirm---> leased (renewed), or refused
//!    |                     |---finish----> done, failed --> read and removed by the engine
//!    +---- lease over, or the node began anew: a new fence, and the old worker is refused
//! ```
//!
//! Every call may come twice, late, or from a worker that was given up long ago. Only the worker
//! that shows the number of the present lease changes anything; all others hear
//! [`Rejection::Fenced`] and leave no trace. A finish that was heard already is answered the
//! same again.
//!
//! **Progress** is worked out here: the rate from a moving average, in memory. It is written at
//! most about once a second per task, and at once when the phase changes. A report that moved no
//! byte renews the lease and nothing else, so a silence stays visible.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stillpoint_model::Timestamp;
use stillpoint_model::id::{NodeId, TaskId};
use stillpoint_model::instance::Sight;
use stillpoint_model::operation::{OperationState, Phase, Progress};
use stillpoint_model::question::{Asked, Said};
use stillpoint_model::saga::{Task, TaskRole, TaskState};
use stillpoint_model::task::{Assignment, Directive, Report, TaskFailure, TaskOutcome};
use stillpoint_store::{Conn, Tx, care, operation, place, task};

use crate::Context;
use crate::engine::operation_changed;
use crate::error::Error;
use crate::reconcile::machines::{self, Doubts};
use crate::reconcile::volume_fill;

mod meter;

use meter::Meter;

/// How often the progress of one task is written at most.
const WRITE_EVERY: Duration = Duration::from_millis(900);
/// How often a node that asks for work is recorded as alive.
const SEEN_EVERY: Duration = Duration::from_secs(10);

/// Why the board did not do what a node asked for.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// The number is not that of the present lease: stop, and change nothing.
    #[error("the lease on this task is over")]
    Fenced,
    /// A fault of ours; the same may work later.
    #[error("the board has a fault")]
    Fault(#[from] Error),
}

impl From<stillpoint_store::Error> for Rejection {
    fn from(error: stillpoint_store::Error) -> Self {
        Self::Fault(error.into())
    }
}

/// What nodes talk to. Cloning it is cheap.
#[derive(Clone)]
pub struct Board {
    cx: Context,
    memory: Arc<Mutex<Memory>>,
}

/// What the board remembers between calls. Losing it costs a rate, nothing else.
#[derive(Default)]
struct Memory {
    meters: HashMap<TaskId, Meter>,
    seen: HashMap<NodeId, Duration>,
    doubts: HashMap<NodeId, Doubts>,
}

impl Board {
    /// The board of this control plane.
    pub fn new(cx: Context) -> Self {
        Self {
            cx,
            memory: Arc::default(),
        }
    }

    /// A new run of a node begins: whatever an earlier run had may be given again, at once.
    pub async fn hello(&self, node_id: NodeId) -> Result<(), Rejection> {
        let now = self.cx.now();
        self.cx
            .db()
            .write(move |tx| Box::pin(async move { void_leases(tx, node_id, now).await }))
            .await?;
        self.seen(node_id).await?;
        self.cx.board_bell().notify_waiters();
        Ok(())
    }

    /// Work for a node. Waits up to `wait` for some; none when there was none.
    pub async fn next_task(
        &self,
        node_id: NodeId,
        wait: Duration,
    ) -> Result<Option<Assignment>, Rejection> {
        let until = self.cx.env().monotonic() + wait;
        loop {
            let rung = self.cx.board_bell().notified();
            tokio::pin!(rung);
            // From here on no ring is missed, also while the table is looked at.
            rung.as_mut().enable();
            self.seen(node_id).await?;
            if let Some(assignment) = self.take(node_id).await? {
                return Ok(Some(assignment));
            }
            let left = until.saturating_sub(self.cx.env().monotonic());
            if left.is_zero() {
                return Ok(None);
            }
            let nap = self
                .until_due(node_id)
                .await?
                .map_or(left, |due| due.min(left));
            tokio::select! {
                () = rung => {}
                () = tokio::time::sleep(nap) => {}
            }
        }
    }

    /// Leases the next task to a node, if there is one.
    pub async fn take(&self, node_id: NodeId) -> Result<Option<Assignment>, Rejection> {
        let now = self.cx.now();
        let mut conn = self.cx.db().read().await?;
        let waiting = task::task_next(&mut conn, node_id, now).await?.is_some();
        drop(conn);
        if !waiting {
            return Ok(None);
        }
        let lease_until = now.saturating_add(self.cx.settings().lease);
        self.cx
            .db()
            .write(move |tx| {
                Box::pin(async move { lease_next(tx, node_id, now, lease_until).await })
            })
            .await
    }

    async fn until_due(&self, node_id: NodeId) -> Result<Option<Duration>, Rejection> {
        let now = self.cx.now();
        let mut conn = self.cx.db().read().await?;
        let due = task::task_next_due(&mut conn, node_id, now).await?;
        Ok(due.map(|at| at.duration_since(now).max(Duration::from_millis(1))))
    }

    async fn seen(&self, node_id: NodeId) -> Result<(), Rejection> {
        let now = self.cx.env().monotonic();
        {
            let mut memory = self.lock();
            let last = memory.seen.get(&node_id);
            if last.is_some_and(|last| now.saturating_sub(*last) < SEEN_EVERY) {
                return Ok(());
            }
            memory.seen.insert(node_id, now);
        }
        let at = self.cx.now();
        self.cx
            .db()
            .write(move |tx| Box::pin(async move { place::node_touch(tx, node_id, at).await }))
            .await?;
        Ok(())
    }

    /// Hears how far a task is, and renews its lease. Answers whether to go on.
    pub async fn report(&self, report: Report) -> Result<Directive, Rejection> {
        let now = self.cx.now();
        let mut conn = self.cx.db().read().await?;
        let task = held(&mut conn, report.task_id, report.fence).await?;
        drop(conn);
        let metered = self.meter(&report, &task, now);
        if let Some(write) = metered {
            let lease_until = now.saturating_add(self.cx.settings().lease);
            self.cx
                .db()
                .write(move |tx| {
                    Box::pin(async move { save_report(tx, report, write, now, lease_until).await })
                })
                .await?;
        }
        Ok(if task.cancel {
            Directive::Cancel
        } else {
            Directive::Continue
        })
    }

    /// Works out the rate, and whether something is to be written.
    fn meter(&self, report: &Report, task: &Task, now: Timestamp) -> Option<Write> {
        let at = self.cx.env().monotonic();
        let mut memory = self.lock();
        let mut progress = report.progress;
        let meter = memory
            .meters
            .entry(report.task_id)
            .or_insert_with(|| Meter {
                fence: 0,
                at,
                done: progress.bytes_done,
                phase: progress.phase,
                rate: None,
                written_at: at,
                written: Progress::start(progress.phase),
            });
        let is_new = meter.fence != report.fence;
        meter.fence = report.fence;
        meter.turn(&progress, at);
        progress.rate_bytes_per_s = meter.rate_in_bytes();
        let moved = meter.written.phase != progress.phase
            || meter.written.bytes_done != progress.bytes_done
            || meter.written.bytes_total != progress.bytes_total;
        let due = at.saturating_sub(meter.written_at) >= WRITE_EVERY
            || meter.written.phase != progress.phase;
        // The lease is renewed when a third of it is gone.
        let left = task
            .lease_until
            .map_or(Duration::ZERO, |until| until.duration_since(now));
        let renew = left < self.cx.settings().lease * 2 / 3;
        let tell = moved && (due || is_new);
        if !(tell || renew) {
            return None;
        }
        if moved {
            meter.written = progress;
            meter.written_at = at;
        }
        Some(Write {
            progress: moved.then_some(progress),
        })
    }

    /// Gives leave to make a task's work final, unless it is to stop.
    pub async fn confirm(&self, task_id: TaskId, fence: i64) -> Result<Directive, Rejection> {
        let now = self.cx.now();
        let lease_until = now.saturating_add(self.cx.settings().lease);
        self.cx
            .db()
            .write(move |tx| {
                Box::pin(async move {
                    let mut task = held(tx, task_id, fence).await?;
                    if task.cancel {
                        return Ok(Directive::Cancel);
                    }
                    task.lease_until = Some(lease_until);
                    task::task_update(tx, &task).await?;
                    Ok(Directive::Continue)
                })
            })
            .await
    }

    /// Hears how a task ended.
    pub async fn finish(
        &self,
        task_id: TaskId,
        fence: i64,
        result: Result<TaskOutcome, TaskFailure>,
    ) -> Result<(), Rejection> {
        let now = self.cx.now();
        self.cx
            .db()
            .write(move |tx| {
                Box::pin(async move { end_task(tx, task_id, fence, result, now).await })
            })
            .await?;
        self.lock().meters.remove(&task_id);
        self.cx.engine_bell().notify_one();
        Ok(())
    }

    /// Hears what all machines of a node do. Rows follow ([`crate::reconcile`]).
    pub async fn sighted(&self, node_id: NodeId, sights: Vec<Sight>) -> Result<(), Rejection> {
        let doubts = self.lock().doubts.remove(&node_id).unwrap_or_default();
        let cx = self.cx.clone();
        let seen = self
            .cx
            .db()
            .write(move |tx| {
                Box::pin(async move { machines::sighted(tx, &cx, node_id, &sights, &doubts).await })
            })
            .await?;
        self.lock().doubts.insert(node_id, seen.doubts);
        if seen.chores {
            self.cx.board_bell().notify_waiters();
        }
        Ok(())
    }

    /// Something that a node is asked. Waits up to `wait`; none when nobody asked.
    pub async fn next_question(&self, node_id: NodeId, wait: Duration) -> Option<Asked> {
        let next = self.cx.questions().next(node_id);
        tokio::time::timeout(wait, next).await.ok()
    }

    /// Hears what a node says to a question.
    pub fn answer(&self, node_id: NodeId, number: u64, said: Said) {
        self.cx.questions().answer(node_id, number, said);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a report changes besides the lease.
struct Write {
    progress: Option<Progress>,
}

/// The task whose present lease has this number.
async fn held(conn: &mut Conn, task_id: TaskId, fence: i64) -> Result<Task, Rejection> {
    let Some(task) = task::task_by_id(conn, task_id).await? else {
        return Err(Rejection::Fenced);
    };
    if task.state != TaskState::Leased || task.fence != fence || is_fenced_off(conn, &task).await? {
        return Err(Rejection::Fenced);
    }
    Ok(task)
}

/// Whether the operation has moved on from its own task: an operator released it.
async fn is_fenced_off(conn: &mut Conn, task: &Task) -> Result<bool, Rejection> {
    let Some(id) = task.operation_id.filter(|_| task.role != TaskRole::Chore) else {
        return Ok(false);
    };
    let operation = operation::operation_by_id(conn, id).await?;
    Ok(operation.is_none_or(|op| op.fence != task.fence || op.state.is_terminal()))
}

async fn lease_next(
    tx: &mut Tx,
    node_id: NodeId,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<Option<Assignment>, Rejection> {
    let Some(mut task) = task::task_next(tx, node_id, now).await? else {
        return Ok(None);
    };
    if is_fenced_off(tx, &task).await? {
        return Ok(None);
    }
    task.state = TaskState::Leased;
    task.attempt += 1;
    task.node_id = Some(node_id);
    task.lease_until = Some(lease_until);
    task::task_update(tx, &task).await?;
    if let Some(id) = task.operation_id
        && let Some(mut run) = operation::operation_run(tx, id).await?
        && run.task_id == Some(task.id)
    {
        let steps = run.steps.clone();
        run.due_at = run.due_at.min(lease_until);
        if run.operation.state == OperationState::Queued {
            run.operation.state = OperationState::Running;
            run.operation.started_at = Some(now);
            operation_changed(tx, &run.operation, now)
                .await
                .map_err(Rejection::from)?;
        }
        operation::operation_run_save(tx, &run, &steps).await?;
    }
    Ok(Some(Assignment {
        task_id: task.id,
        operation_id: task.operation_id,
        pool_id: task.pool_id,
        fence: task.fence,
        lease_until,
        spec: task.spec,
    }))
}

async fn save_report(
    tx: &mut Tx,
    report: Report,
    write: Write,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<(), Rejection> {
    let mut task = held(tx, report.task_id, report.fence).await?;
    task.lease_until = Some(lease_until);
    task::task_update(tx, &task).await?;
    let Some(mut progress) = write.progress else {
        return Ok(());
    };
    let Some(id) = task.operation_id else {
        return match task.role {
            TaskRole::Fill => Ok(volume_fill::progressed(tx, task.id, progress, now).await?),
            _ => Ok(care::vault_care_progress_save(tx, task.id, &progress).await?),
        };
    };
    let Some(op) = operation::operation_by_id(tx, id).await? else {
        return Ok(());
    };
    if op.progress.phase == Phase::Undoing {
        progress.phase = Phase::Undoing;
    }
    operation::operation_progress_save(tx, id, &progress, now).await?;
    Ok(operation_changed(tx, &op, now).await?)
}

async fn end_task(
    tx: &mut Tx,
    task_id: TaskId,
    fence: i64,
    result: Result<TaskOutcome, TaskFailure>,
    now: Timestamp,
) -> Result<(), Rejection> {
    let Some(mut task) = task::task_by_id(tx, task_id).await? else {
        return Err(Rejection::Fenced);
    };
    let heard = matches!(task.state, TaskState::Done | TaskState::Failed);
    if heard && task.fence == fence {
        return Ok(());
    }
    held(tx, task_id, fence).await?;
    match result {
        Ok(outcome) => {
            task.state = TaskState::Done;
            task.outcome = Some(outcome);
        }
        Err(failure) => {
            task.state = TaskState::Failed;
            task.failure = Some(failure);
        }
    }
    task::task_update(tx, &task).await?;
    wake_run(tx, &task, now).await
}

/// The engine looks at the run of this task at once.
async fn wake_run(tx: &mut Tx, task: &Task, now: Timestamp) -> Result<(), Rejection> {
    let Some(id) = task.operation_id else {
        return Ok(());
    };
    let Some(mut run) = operation::operation_run(tx, id).await? else {
        return Ok(());
    };
    if run.task_id == Some(task.id) {
        let steps = run.steps.clone();
        run.due_at = now;
        operation::operation_run_save(tx, &run, &steps).await?;
    }
    Ok(())
}

async fn void_leases(tx: &mut Tx, node_id: NodeId, now: Timestamp) -> Result<(), Rejection> {
    for mut task in task::task_of_node(tx, node_id).await? {
        task.fence += 1;
        task.state = TaskState::Offered;
        task.node_id = None;
        task.lease_until = None;
        task.due_at = now;
        if let Some(id) = task.operation_id
            && let Some(mut run) = operation::operation_run(tx, id).await?
            && run.task_id == Some(task.id)
        {
            let steps = run.steps.clone();
            // A task that its operation has left behind stays so; the engine removes it.
            if run.operation.fence == task.fence - 1 {
                run.operation.fence = task.fence;
            } else {
                task.fence -= 1;
            }
            run.due_at = now;
            operation::operation_run_save(tx, &run, &steps).await?;
        }
        task::task_update(tx, &task).await?;
    }
    Ok(())
}
