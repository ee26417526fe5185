//! The pure heart of the engine: one move of one run.
//!
//! [`advance`] is given a scene and the task that is under way for it, and moves the run as far
//! as it can go without a node: it reads how the task ended, makes the store effects, and hands
//! out the next task. What it changed is saved by its caller in one transaction, so that a crash
//! leaves either all of a move or nothing of it.
//!
//! ```text
//!            +-- task done: next step --+          +-- undone: the step before --+
//!            v                          |          v                             |
//! queued -> forward: hand out a task -> wait --> backward: hand out an undo --> wait
//!            |                            cancel, failure,     |
//!            v                            no progress          v
//!        succeeded                                      failed, cancelled
//! ```
//!
//! **The fence comes first.** Whenever a worker may still be at it (its lease is over, nothing
//! moved for too long, an operator released the volume), the fence is raised and that move ends
//! there. Only a later move, in a later transaction, undoes, ends the operation and releases the
//! volume. A worker with an old number is refused by the board.
//!
//! **Bounded.** A task is handed out at most [`Limits::attempts`] times, an undo at most
//! [`Limits::undo_attempts`] times. What the node could not undo is left to the upkeep of the
//! pool as a *chore*: the same idempotent task, without the volume's lock.

use std::time::Duration;

use stillpoint_model::id::TaskId;
use stillpoint_model::operation::{Failure, OperationState, Phase, Progress};
use stillpoint_model::refusal::ProblemCode;
use stillpoint_model::saga::{
    Direction, Run, Setback, StepRecord, StepState, Task, TaskRole, TaskState,
};
use stillpoint_model::task::{TaskFailure, TaskSpec};
use stillpoint_model::{Env, ErrorKind, Timestamp};

use crate::saga::{Scene, Step, Undo, Work};

/// How patient the engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a node may be silent before its task is given again.
    pub lease: Duration,
    /// How often a task is handed out.
    pub attempts: u32,
    /// How often an undo is handed out.
    pub undo_attempts: u32,
    /// How long an undo may go without progress.
    pub undo_patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            attempts: 5,
            undo_attempts: 8,
            undo_patience: Duration::from_mins(5),
        }
    }
}

/// What a move changed among the tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// A task to hand out, and what was left for the upkeep.
    pub insert: Vec<Task>,
    /// A task to hand out again, or to be told to stop.
    pub update: Option<Task>,
    /// A task that is over.
    pub remove: Option<TaskId>,
}

/// When a run is given up for want of progress or for taking too long.
pub fn deadline(run: &Run, limits: &Limits) -> Timestamp {
    let patience = match run.direction {
        Direction::Forward => run.order.terms.no_progress(),
        Direction::Backward => limits.undo_patience,
    };
    let silent = run.operation.progressed_at.saturating_add(patience);
    match (run.direction, run.order.terms.max_runtime()) {
        (Direction::Forward, Some(runtime)) => {
            silent.min(run.operation.created_at.saturating_add(runtime))
        }
        _ => silent,
    }
}

/// Asks a run to stop. Answers whether that makes sense.
pub fn cancel(run: &mut Run, now: Timestamp) -> bool {
    if !run.operation.is_cancellable() {
        return false;
    }
    run.operation.state = OperationState::Cancelling;
    run.due_at = now;
    true
}

/// Ends a run on an operator's word: its worker is fenced off now; the next move ends it.
/// Answers whether there was something to end.
pub fn release(run: &mut Run, reason: &str, now: Timestamp) -> bool {
    if run.operation.state.is_terminal() {
        return false;
    }
    run.operation.fence += 1;
    run.abandoned = true;
    if run.setback.is_none() {
        run.setback = Some(Setback::Failed(Failure {
            code: ProblemCode::ReleasedByOperator,
            text: format!("An operator ended it: {reason}"),
        }));
    }
    run.due_at = now;
    true
}

/// Moves a run as far as it goes without a node.
pub fn advance(scene: &mut Scene, task: Option<Task>, env: &dyn Env, limits: &Limits) -> Moves {
    let mut mover = Mover {
        scene,
        env,
        limits,
        task,
        moves: Moves::default(),
    };
    while !mover.run().operation.state.is_terminal() {
        if mover.turn() == Flow::Wait {
            break;
        }
    }
    mover.moves
}

#[derive(PartialEq, Eq)]
enum Flow {
    Again,
    Wait,
}

struct Mover<'a> {
    scene: &'a mut Scene,
    env: &'a dyn Env,
    limits: &'a Limits,
    task: Option<Task>,
    moves: Moves,
}

impl Mover<'_> {
    const fn run(&mut self) -> &mut Run {
        &mut self.scene.run
    }

    fn steps(&self) -> &'static [Step] {
        self.scene.saga().steps
    }

    fn current(&self) -> Option<&'static Step> {
        let index = match self.scene.run.direction {
            Direction::Forward => self.scene.run.cursor,
            Direction::Backward => self.scene.run.cursor.checked_sub(1)?,
        };
        self.steps().get(usize::try_from(index).ok()?)
    }

    fn turn(&mut self) -> Flow {
        if let Some(task) = self.task.take() {
            if task.role == TaskRole::Do
                && let Some(record) = self.step_record(task.step)
            {
                record.attempt = task.attempt;
            }
            if task.is_live() && task.fence != self.run().operation.fence {
                return self.drop_stale(&task);
            }
            return match task.state {
                TaskState::Done => self.task_done(task),
                TaskState::Failed => self.task_failed(task),
                TaskState::Offered | TaskState::Leased => self.task_waits(task),
            };
        }
        match self.run().direction {
            Direction::Forward => self.forward(),
            Direction::Backward => self.backward(),
        }
    }

    // --- the task under way ---

    /// An operator has fenced it off.
    fn drop_stale(&mut self, task: &Task) -> Flow {
        self.remove(task);
        self.forget_unless_begun(task);
        if self.run().direction == Direction::Forward
            && let Some(setback) = self.run().setback.clone()
        {
            self.turn_back(setback);
        }
        Flow::Again
    }

    fn task_waits(&mut self, mut task: Task) -> Flow {
        let now = self.scene.now;
        if now >= deadline(&self.scene.run, self.limits) {
            self.fence_off(&task);
            self.give_up(self.no_progress());
            return self.later();
        }
        if self.obeys_cancel() && task.state == TaskState::Offered {
            self.fence_off(&task);
            self.turn_back(Setback::Cancelled);
            return self.later();
        }
        let tell = self.obeys_cancel() && !task.cancel;
        if task.state == TaskState::Leased && task.lease_until.is_none_or(|until| until <= now) {
            return self.lease_lost(task);
        }
        self.wait_for(&task);
        if tell {
            task.cancel = true;
            self.moves.update = Some(task);
        }
        Flow::Wait
    }

    fn lease_lost(&mut self, task: Task) -> Flow {
        let limit = self.attempts(task.role);
        if task.attempt < limit {
            return self.offer_again(task);
        }
        self.fence_off(&task);
        self.give_up(Failure {
            code: ProblemCode::NodeOffline,
            text: "The node that holds this storage stopped answering.".to_owned(),
        });
        self.later()
    }

    fn task_done(&mut self, task: Task) -> Flow {
        self.remove(&task);
        self.moved();
        let outcome = task.outcome;
        if task.role == TaskRole::Do {
            self.record(task.step, StepState::Done);
            if let Some(record) = self.step_record(task.step) {
                record.outcome = outcome;
            }
            self.run().cursor = task.step + 1;
            return Flow::Again;
        }
        if let (Some(Undo::Ask { happened, .. }), Some(answer)) =
            (self.current().map(|s| s.undo), outcome)
            && happened(self.scene, &answer)
        {
            self.resume_forward(task.step);
            if let Some(record) = self.step_record(task.step) {
                record.outcome = Some(answer);
            }
            return Flow::Again;
        }
        self.undone(task.step, StepState::Undone);
        Flow::Again
    }

    /// A question showed that the step had happened: there is nothing to take back any more.
    fn resume_forward(&mut self, step: u32) {
        self.record(step, StepState::Done);
        let run = self.run();
        run.direction = Direction::Forward;
        run.setback = None;
        run.cursor = step + 1;
    }

    fn task_failed(&mut self, task: Task) -> Flow {
        let failure = task.failure.clone().unwrap_or_else(unexplained);
        let cancelling = self.run().operation.state == OperationState::Cancelling;
        // Without somebody asking for it, a node stops only because it is stopped itself.
        let again = match failure.kind {
            ErrorKind::Retry | ErrorKind::Fenced => true,
            ErrorKind::Cancelled => !cancelling,
            _ => false,
        };
        if task.role == TaskRole::Undo {
            return self.undo_failed(task, &failure);
        }
        if again && task.attempt < self.limits.attempts {
            return self.offer_again(task);
        }
        self.remove(&task);
        self.moved();
        if cancelling && failure.kind == ErrorKind::Cancelled {
            self.turn_back(Setback::Cancelled);
        } else {
            self.give_up(Failure {
                code: failure.code,
                text: failure.text,
            });
        }
        Flow::Again
    }

    fn undo_failed(&mut self, task: Task, failure: &TaskFailure) -> Flow {
        let asked = matches!(self.current().map(|s| s.undo), Some(Undo::Ask { .. }));
        if asked && failure.kind == ErrorKind::NotFound {
            self.remove(&task);
            self.undone(task.step, StepState::Undone);
        } else if task.attempt < self.limits.undo_attempts {
            return self.offer_again(task);
        } else {
            self.remove(&task);
            self.run().abandoned = true;
        }
        Flow::Again
    }

    // --- moving ---

    fn forward(&mut self) -> Flow {
        if let Some(setback) = self.run().setback.clone() {
            self.turn_back(setback);
            return Flow::Again;
        }
        let Some(step) = self.current() else {
            return self.end(OperationState::Succeeded, None);
        };
        if self.obeys_cancel() {
            self.turn_back(Setback::Cancelled);
            return Flow::Again;
        }
        let index = self.run().cursor;
        match step.work {
            Work::Store(effect) => {
                effect(self.scene);
                self.record(index, StepState::Done);
                self.run().cursor += 1;
                Flow::Again
            }
            Work::Task(ask) => match ask(self.scene) {
                Some(spec) => {
                    self.record(index, StepState::Doing);
                    self.offer(TaskRole::Do, index, step.phase, spec)
                }
                None => {
                    self.run().cursor += 1;
                    Flow::Again
                }
            },
        }
    }

    fn backward(&mut self) -> Flow {
        let Some(step) = self.current() else {
            return self.unwound();
        };
        let index = self.run().cursor.saturating_sub(1);
        let begun = self.scene.run.step(index).is_some();
        match step.undo {
            _ if !begun => self.run().cursor = index,
            Undo::Nothing => self.undone(index, StepState::Undone),
            Undo::Store(effect) => {
                effect(self.scene);
                self.undone(index, StepState::Undone);
            }
            Undo::Task(ask) | Undo::Ask { task: ask, .. } => match ask(self.scene) {
                None => self.undone(index, StepState::Undone),
                Some(spec) if self.run().abandoned => {
                    self.leave_chore(index, spec);
                    self.undone(index, StepState::Deferred);
                }
                Some(spec) => {
                    self.record(index, StepState::Undoing);
                    return self.offer(TaskRole::Undo, index, Phase::Undoing, spec);
                }
            },
        }
        Flow::Again
    }

    fn unwound(&mut self) -> Flow {
        let setback = self.run().setback.clone().unwrap_or(Setback::Cancelled);
        (self.scene.saga().unwound)(self.scene, &setback);
        match setback {
            Setback::Failed(failure) => self.end(OperationState::Failed, Some(failure)),
            Setback::Cancelled => self.end(OperationState::Cancelled, None),
        }
    }

    /// The one terminal outcome: the volume is released in the same transaction.
    fn end(&mut self, state: OperationState, failure: Option<Failure>) -> Flow {
        let now = self.scene.now;
        let run = &mut self.scene.run;
        let operation = &mut run.operation;
        operation.state = state;
        operation.failure = failure;
        operation.finished_at = Some(now);
        operation.progressed_at = now;
        operation.progress = Progress::start(Phase::Done);
        run.task_id = None;
        if let Some(volume) = &mut self.scene.volume
            && volume.active_operation == Some(operation.id)
        {
            volume.active_operation = None;
            if state == OperationState::Succeeded && operation.kind.starts_cooldown() {
                volume.cooldown_until = Some(now.saturating_add(run.order.terms.cooldown()));
            }
        }
        Flow::Wait
    }

    // --- turning back ---

    /// Whether an asked-for stop still makes sense here.
    fn obeys_cancel(&self) -> bool {
        let run = &self.scene.run;
        run.operation.state == OperationState::Cancelling
            && run.direction == Direction::Forward
            && !self.is_past_undoing()
    }

    /// Whether a step was begun that nothing takes back.
    fn is_past_undoing(&self) -> bool {
        let begun = |step: &Step, record: &StepRecord| step.past_undoing && record.attempt > 0;
        self.is_committed() || self.any_step(begun)
    }

    /// Whether what the operation promised is already true.
    fn is_committed(&self) -> bool {
        self.any_step(|step, record| {
            let final_once_done = step.past_undoing || matches!(step.undo, Undo::Ask { .. });
            final_once_done && record.state == StepState::Done
        })
    }

    fn any_step(&self, is: impl Fn(&Step, &StepRecord) -> bool) -> bool {
        let steps = self.steps();
        self.scene.run.steps.iter().any(|record| {
            let step = usize::try_from(record.index)
                .ok()
                .and_then(|i| steps.get(i));
            step.is_some_and(|step| is(step, record))
        })
    }

    fn give_up(&mut self, failure: Failure) {
        match self.run().direction {
            Direction::Forward => self.turn_back(Setback::Failed(failure)),
            Direction::Backward => self.run().abandoned = true,
        }
    }

    fn turn_back(&mut self, setback: Setback) {
        if self.is_committed() {
            return self.skip_to_the_end();
        }
        self.moved();
        let index = self.run().cursor;
        let begun = self.scene.run.step(index).is_some();
        let run = self.run();
        run.direction = Direction::Backward;
        run.setback = Some(setback);
        run.cursor = index + u32::from(begun);
        run.operation.progress = Progress::start(Phase::Undoing);
    }

    /// What was promised is true already: a task that is left can wait for the upkeep of the pool.
    fn skip_to_the_end(&mut self) {
        self.moved();
        self.run().setback = None;
        let index = self.run().cursor;
        if let Some(Work::Task(ask)) = self.current().map(|s| s.work) {
            if let Some(spec) = ask(self.scene) {
                self.leave_chore(index, spec);
                self.record(index, StepState::Deferred);
            }
            self.run().cursor = index + 1;
        }
    }

    fn no_progress(&self) -> Failure {
        let run = &self.scene.run;
        let patience = run.order.terms.no_progress();
        let silent = run.operation.progressed_at.saturating_add(patience) <= self.scene.now;
        let text = if silent {
            format!(
                "It made no progress for {} and was ended.",
                in_words(patience)
            )
        } else {
            let runtime = run.order.terms.max_runtime().unwrap_or_default();
            format!("It took longer than {} and was ended.", in_words(runtime))
        };
        Failure {
            code: ProblemCode::NoProgress,
            text,
        }
    }

    // --- tasks ---

    const fn attempts(&self, role: TaskRole) -> u32 {
        match role {
            TaskRole::Do => self.limits.attempts,
            TaskRole::Undo | TaskRole::Chore | TaskRole::Upkeep => self.limits.undo_attempts,
        }
    }

    fn offer(&mut self, role: TaskRole, step: u32, phase: Phase, spec: TaskSpec) -> Flow {
        let task = self.new_task(role, step, spec);
        let now = self.scene.now;
        let operation = &mut self.scene.run.operation;
        if operation.progress.phase != phase {
            operation.progress = Progress::start(phase);
        }
        operation.progressed_at = now;
        self.run().task_id = Some(task.id);
        self.wait_for(&task);
        self.moves.insert.push(task);
        Flow::Wait
    }

    fn offer_again(&mut self, mut task: Task) -> Flow {
        self.run().operation.fence += 1;
        task.fence = self.run().operation.fence;
        task.state = TaskState::Offered;
        task.node_id = None;
        task.lease_until = None;
        task.outcome = None;
        task.failure = None;
        task.due_at = self.scene.now.saturating_add(backoff(task.attempt));
        self.wait_for(&task);
        self.moves.update = Some(task);
        Flow::Wait
    }

    fn new_task(&mut self, role: TaskRole, step: u32, spec: TaskSpec) -> Task {
        let run = &self.scene.run;
        Task {
            id: TaskId::generate(self.env),
            operation_id: Some(run.operation.id),
            role,
            step,
            pool_id: run.order.pool_id,
            state: TaskState::Offered,
            fence: if role == TaskRole::Chore {
                1
            } else {
                run.operation.fence
            },
            attempt: 0,
            due_at: self.scene.now,
            node_id: None,
            lease_until: None,
            cancel: false,
            spec,
            outcome: None,
            failure: None,
        }
    }

    fn leave_chore(&mut self, step: u32, spec: TaskSpec) {
        let chore = self.new_task(TaskRole::Chore, step, spec);
        self.moves.insert.push(chore);
    }

    /// From here on the worker of this task is refused.
    fn fence_off(&mut self, task: &Task) {
        self.run().operation.fence += 1;
        self.remove(task);
        self.forget_unless_begun(task);
    }

    /// A step whose task no node ever had was not begun.
    fn forget_unless_begun(&mut self, task: &Task) {
        if task.attempt == 0 && task.role == TaskRole::Do {
            self.run().steps.retain(|s| s.index != task.step);
        }
    }

    fn remove(&mut self, task: &Task) {
        self.moves.remove = Some(task.id);
        self.run().task_id = None;
    }

    fn wait_for(&mut self, task: &Task) {
        let until = deadline(&self.scene.run, self.limits);
        let lease = task.lease_until.filter(|_| task.state == TaskState::Leased);
        self.run().due_at = lease.map_or(until, |lease| lease.min(until));
    }

    /// Ends this move; the next one, in another transaction, goes on at once.
    fn later(&mut self) -> Flow {
        self.run().due_at = self.scene.now;
        Flow::Wait
    }

    // --- records ---

    fn moved(&mut self) {
        self.scene.run.operation.progressed_at = self.scene.now;
    }

    fn step_record(&mut self, index: u32) -> Option<&mut StepRecord> {
        self.run().steps.iter_mut().find(|s| s.index == index)
    }

    fn record(&mut self, index: u32, state: StepState) {
        if let Some(record) = self.step_record(index) {
            record.state = state;
            return;
        }
        let step = usize::try_from(index)
            .ok()
            .and_then(|i| self.steps().get(i));
        let name = step.map_or_else(String::new, |s| s.name.to_owned());
        self.run().steps.push(StepRecord {
            index,
            name,
            state,
            attempt: 0,
            outcome: None,
        });
    }

    fn undone(&mut self, index: u32, state: StepState) {
        self.record(index, state);
        self.run().cursor = index;
    }
}

/// The pause before a task is handed out again: doubling, at most a minute.
pub fn backoff(attempt: u32) -> Duration {
    Duration::from_secs(1_u64.checked_shl(attempt.min(6)).unwrap_or(64).min(60))
}

fn unexplained() -> TaskFailure {
    TaskFailure {
        kind: ErrorKind::Internal,
        code: ProblemCode::Internal,
        text: "The node could not do it.".to_owned(),
        detail: "the task failed without a reason".to_owned(),
    }
}

fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let (count, unit) = match seconds {
        3600.. if seconds % 3600 == 0 => (seconds / 3600, "hour"),
        60.. if seconds % 60 == 0 => (seconds / 60, "minute"),
        _ => (seconds, "second"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}
