//! One step of the engine: what is due first, in one transaction.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stillpoint_model::error::with_causes;
use stillpoint_model::id::OperationId;
use stillpoint_model::operation::{OperationKind, OperationState};
use stillpoint_model::saga::{Run, Task, TaskRole, TaskState};
use stillpoint_model::task::TaskOutcome;
use stillpoint_model::{ErrorKind, Timestamp};
use stillpoint_store::{Tx, operation, task};

use super::advance::advance;
use super::patience::{Limits, backoff, deadline};
use super::scene::{load_scene, save_move, save_scene};
use crate::Context;
use crate::error::Result;
use crate::reconcile::{pool_tidy, vault_care, volume_fill};
use crate::saga::{Answer, Undo};

/// The engine looks at every run at least this often.
const LOOK_AGAIN: Duration = Duration::from_mins(10);
/// A due time further ahead than this was written by a clock that jumped.
const HORIZON: Duration = Duration::from_mins(20);
/// How long a run that cannot be moved is left alone, so that it keeps nobody else waiting.
const SET_ASIDE: Duration = Duration::from_secs(10);
/// How many due runs are looked at to find one that is not set aside.
const CANDIDATES: u32 = 64;
/// The longest pause before a chore is tried again.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// The pause before an upkeep that gave way goes on.
const RESUME_UPKEEP: Duration = Duration::from_secs(5);

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// It did something; there may be more.
    Moved,
    /// Nothing is due.
    Idle {
        /// When something will be, as far as is known.
        next: Option<Timestamp>,
    },
}

/// One engine. There may be several on one database.
pub struct Engine {
    cx: Context,
    limits: Limits,
    memory: Mutex<Memory>,
}

/// What an engine remembers between steps. Losing it costs a little time, nothing else.
#[derive(Default)]
struct Memory {
    /// Since when, on the clock that never jumps, a run looks overdue, and what its last
    /// progress was then.
    doubts: HashMap<OperationId, (Timestamp, Duration)>,
    /// Runs that could not be moved, until when.
    set_aside: HashMap<OperationId, Duration>,
}

impl Engine {
    /// An engine on this database.
    pub fn new(cx: Context, limits: Limits) -> Self {
        Self {
            cx,
            limits,
            memory: Mutex::default(),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the one thing that is due first.
    pub async fn step(&self) -> Result<Stepped> {
        let now = self.cx.now();
        let horizon = now.saturating_add(HORIZON);
        let mut conn = self.cx.db().read().await?;
        let due = operation::operation_due(&mut conn, now, horizon, CANDIDATES).await?;
        if let Some(id) = due.into_iter().find(|id| !self.is_set_aside(*id)) {
            let run = operation::operation_run(&mut conn, id).await?;
            drop(conn);
            let doubted = run.is_some_and(|run| !self.is_certain(&run, now));
            if let Err(error) = self.move_one(id, now, doubted).await {
                tracing::error!(operation = %id, error = %with_causes(&error), "an operation is stuck");
                let until = self.cx.env().monotonic() + SET_ASIDE;
                self.memory().set_aside.insert(id, until);
            }
            return Ok(Stepped::Moved);
        }
        let loose = task::task_loose_ends(&mut conn, now, horizon).await?;
        if let Some(end) = loose.into_iter().next() {
            drop(conn);
            self.tie(end, now).await?;
            return Ok(Stepped::Moved);
        }
        let runs = operation::operation_next_due(&mut conn).await?;
        let tasks = task::task_next_loose_end(&mut conn).await?;
        // What is set aside is due, but not yet again.
        let runs = runs.map(|at| at.max(now.saturating_add(Duration::from_millis(100))));
        Ok(Stepped::Idle {
            next: [runs, tasks].into_iter().flatten().min(),
        })
    }

    fn is_set_aside(&self, id: OperationId) -> bool {
        let now = self.cx.env().monotonic();
        let mut memory = self.memory();
        memory.set_aside.retain(|_, until| *until > now);
        memory.set_aside.contains_key(&id)
    }

    /// Whether a run's silence was watched long enough to act on it.
    fn is_certain(&self, run: &Run, now: Timestamp) -> bool {
        let id = run.operation.id;
        let mut memory = self.memory();
        if now < deadline(run, &self.limits) || run.task_id.is_none() {
            memory.doubts.remove(&id);
            return true;
        }
        let elapsed = self.cx.env().monotonic();
        let progressed_at = run.operation.progressed_at;
        let doubt = memory.doubts.entry(id).or_insert((progressed_at, elapsed));
        if doubt.0 != progressed_at {
            *doubt = (progressed_at, elapsed);
        }
        elapsed.saturating_sub(doubt.1) >= self.limits.lease
    }

    async fn move_one(&self, id: OperationId, now: Timestamp, doubted: bool) -> Result<()> {
        let (cx, limits) = (self.cx.clone(), self.limits);
        let offered = self
            .cx
            .db()
            .write(move |tx| {
                Box::pin(async move { move_run(tx, &cx, id, now, &limits, doubted).await })
            })
            .await?;
        if offered {
            self.cx.board_bell().notify_waiters();
        }
        Ok(())
    }

    /// Ties a loose end: a chore, an upkeep or a care that ended, or whose node fell silent.
    async fn tie(&self, end: Task, now: Timestamp) -> Result<()> {
        let cx = self.cx.clone();
        self.cx
            .db()
            .write(move |tx| Box::pin(async move { tie_loose_end(tx, &cx, end, now).await }))
            .await?;
        self.cx.board_bell().notify_waiters();
        Ok(())
    }
}

/// Moves a run in a transaction. Answers whether there is a task to hand out.
async fn move_run(
    tx: &mut Tx,
    cx: &Context,
    id: OperationId,
    now: Timestamp,
    limits: &Limits,
    doubted: bool,
) -> Result<bool> {
    let Some(before) = load_scene(tx, id, now).await? else {
        return Ok(false);
    };
    let is_ahead = before.run.due_at > now && before.run.due_at <= now.saturating_add(HORIZON);
    if before.run.operation.state.is_terminal() || is_ahead {
        return Ok(false);
    }
    let mut scene = before.clone();
    let task = match before.run.task_id {
        Some(task_id) => task::task_by_id(tx, task_id).await?,
        None => None,
    };
    let task = task.map(|task| within_reach(task, &mut scene.run, now, limits));
    let live = task.as_ref().is_some_and(Task::is_live);
    if doubted && live && now >= deadline(&scene.run, limits) {
        scene.run.due_at = now.saturating_add(limits.lease);
        operation::operation_run_save(tx, &scene.run, &before.run.steps).await?;
        return Ok(false);
    }
    let moves = advance(&mut scene, task, cx.env(), limits);
    scene.run.due_at = scene.run.due_at.min(now.saturating_add(LOOK_AGAIN));
    save_move(tx, &before, &scene, &moves).await?;
    if scene.run.operation.state.is_terminal() && leaves_upkeep(&scene.run) {
        pool_tidy::request(tx, cx.env(), scene.run.order.pool_id, now).await?;
    }
    Ok(!moves.insert.is_empty() || moves.update.is_some())
}

/// Takes times that only a clock that jumped can have written back to now.
fn within_reach(mut task: Task, run: &mut Run, now: Timestamp, limits: &Limits) -> Task {
    if run.operation.progressed_at > now {
        run.operation.progressed_at = now;
    }
    let latest = now.saturating_add(limits.lease);
    if task.lease_until.is_some_and(|until| until > latest) {
        task.lease_until = Some(latest);
    }
    task
}

/// Whether an operation that ended may have left something for the upkeep of its pool: names that
/// went, or files of a run that was cut off.
fn leaves_upkeep(run: &Run) -> bool {
    let adds_only = matches!(
        run.operation.kind,
        OperationKind::VolumeCreate
            | OperationKind::VolumeImport
            | OperationKind::VolumeClone
            | OperationKind::VolumeResize
            | OperationKind::SnapshotCreate
            | OperationKind::BackupVerify
            | OperationKind::InstanceCreate
            | OperationKind::InstanceStart
            | OperationKind::InstanceStop
            | OperationKind::InstancePause
            | OperationKind::InstanceResume
            | OperationKind::VolumeAttach
            | OperationKind::VolumeDetach
            | OperationKind::ImageCreate
    );
    let smooth = run.operation.state == OperationState::Succeeded
        && run.steps.iter().all(|step| step.attempt <= 1);
    !(adds_only && smooth)
}

async fn tie_loose_end(tx: &mut Tx, cx: &Context, end: Task, now: Timestamp) -> Result<()> {
    let Some(end) = task::task_by_id(tx, end.id).await? else {
        return Ok(());
    };
    match (end.state, end.role) {
        // Lost care is made anew, with what is true then.
        (_, TaskRole::Care) => vault_care::ended(tx, cx, end, now).await,
        (_, TaskRole::Fill) => volume_fill::ended(tx, cx, end, now).await,
        (TaskState::Done, TaskRole::Chore) => chore_done(tx, cx, end, now).await,
        (TaskState::Failed, TaskRole::Chore) => chore_failed(tx, end, now).await,
        (TaskState::Done | TaskState::Failed, _) => upkeep_ended(tx, end, now).await,
        (TaskState::Leased | TaskState::Offered, _) => {
            let pause = backoff(end.attempt);
            hand_out_again(tx, end, now.saturating_add(pause)).await
        }
    }
}

async fn chore_done(tx: &mut Tx, cx: &Context, chore: Task, now: Timestamp) -> Result<()> {
    match &chore.outcome {
        Some(outcome) => answer(tx, &chore, &Answer::Found(outcome), now).await?,
        None => answer(tx, &chore, &Answer::Missing, now).await?,
    }
    pool_tidy::request(tx, cx.env(), chore.pool_id, now).await?;
    Ok(task::task_delete(tx, chore.id).await?)
}

async fn chore_failed(tx: &mut Tx, chore: Task, now: Timestamp) -> Result<()> {
    let kind = chore
        .failure
        .as_ref()
        .map_or(ErrorKind::Internal, |f| f.kind);
    if kind == ErrorKind::NotFound {
        answer(tx, &chore, &Answer::Missing, now).await?;
        return Ok(task::task_delete(tx, chore.id).await?);
    }
    let detail = chore.failure.as_ref().map_or("", |f| f.detail.as_str());
    tracing::warn!(task = %chore.id, %kind, detail, "a chore failed and is tried again");
    let pause = backoff(chore.attempt).saturating_mul(10).min(LONGEST_PAUSE);
    hand_out_again(tx, chore, now.saturating_add(pause)).await
}

/// Lets the saga read what a question that was left open came to.
async fn answer(tx: &mut Tx, chore: &Task, answer: &Answer<'_>, now: Timestamp) -> Result<()> {
    let Some(id) = chore.operation_id else {
        return Ok(());
    };
    let Some(before) = load_scene(tx, id, now).await? else {
        return Ok(());
    };
    let step = usize::try_from(chore.step)
        .ok()
        .and_then(|i| before.saga().steps.get(i));
    if !step.is_some_and(|step| matches!(step.undo, Undo::Ask { .. })) {
        return Ok(());
    }
    let mut scene = before.clone();
    (scene.saga().answered)(&mut scene, answer);
    save_scene(tx, &before, &scene).await
}

async fn upkeep_ended(tx: &mut Tx, upkeep: Task, now: Timestamp) -> Result<()> {
    if let Some(failure) = &upkeep.failure {
        // The next upkeep begins anew: what this one met does not stay with it.
        tracing::warn!(pool = %upkeep.pool_id, detail = failure.detail, "an upkeep failed");
    }
    let unfinished = matches!(
        upkeep.outcome,
        Some(TaskOutcome::Tidied {
            unfinished: true,
            ..
        })
    );
    // One that was asked to stop may have looked before there was more to do.
    if unfinished || upkeep.cancel {
        return hand_out_again(tx, upkeep, now.saturating_add(RESUME_UPKEEP)).await;
    }
    Ok(task::task_delete(tx, upkeep.id).await?)
}

async fn hand_out_again(tx: &mut Tx, mut end: Task, due_at: Timestamp) -> Result<()> {
    end.fence += 1;
    end.state = TaskState::Offered;
    end.node_id = None;
    end.lease_until = None;
    end.outcome = None;
    end.failure = None;
    end.cancel = false;
    end.due_at = due_at;
    Ok(task::task_update(tx, &end).await?)
}
