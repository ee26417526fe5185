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

use stillpoint_model::id::TaskId;
use stillpoint_model::operation::{Failure, OperationState, Phase, Progress};
use stillpoint_model::refusal::ProblemCode;
use stillpoint_model::saga::{
    Direction, Run, Setback, StepRecord, StepState, Task, TaskRole, TaskState,
};
use stillpoint_model::{Env, Timestamp};

use super::patience::Limits;
use crate::saga::{Scene, Step, Undo, Work};

mod under_way;

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
        let rests = state == OperationState::Succeeded && operation.kind.starts_cooldown();
        let rest = rests.then(|| now.saturating_add(run.order.terms.cooldown()));
        if let Some(instance) = &mut self.scene.instance
            && instance.active_operation == Some(operation.id)
        {
            instance.active_operation = None;
        }
        for volume in &mut self.scene.volumes {
            if volume.active_operation == Some(operation.id) {
                volume.active_operation = None;
                volume.cooldown_until = rest.or(volume.cooldown_until);
            }
        }
        if let Some(volume) = &mut self.scene.volume
            && volume.active_operation == Some(operation.id)
        {
            volume.active_operation = None;
            volume.cooldown_until = rest.or(volume.cooldown_until);
        }
        Flow::Wait
    }

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
        let Some(step) = self.current() else { return };
        if let Work::Task(ask) = step.work {
            if let Some(spec) = ask(self.scene).filter(|_| !step.now_or_never) {
                self.leave_chore(index, spec);
                self.record(index, StepState::Deferred);
            }
            self.run().cursor = index + 1;
        }
    }

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
