//! The task under way: how it ended, whether to wait on, and handing tasks out.

use stillpoint_model::ErrorKind;
use stillpoint_model::id::TaskId;
use stillpoint_model::operation::{Failure, OperationState, Phase, Progress};
use stillpoint_model::refusal::ProblemCode;
use stillpoint_model::saga::{Direction, Setback, StepState, Task, TaskRole, TaskState};
use stillpoint_model::task::{TaskFailure, TaskSpec};

use super::{Flow, Mover};
use crate::engine::patience::{backoff, deadline, no_progress};
use crate::saga::Undo;

impl Mover<'_> {
    /// An operator has fenced it off.
    pub(super) fn drop_stale(&mut self, task: &Task) -> Flow {
        self.remove(task);
        self.forget_unless_begun(task);
        if self.run().direction == Direction::Forward
            && let Some(setback) = self.run().setback.clone()
        {
            self.turn_back(setback);
        }
        Flow::Again
    }

    pub(super) fn task_waits(&mut self, mut task: Task) -> Flow {
        let now = self.scene.now;
        if now >= deadline(&self.scene.run, self.limits) {
            self.fence_off(&task);
            self.give_up(no_progress(&self.scene.run, now));
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

    pub(super) fn lease_lost(&mut self, task: Task) -> Flow {
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

    pub(super) fn task_done(&mut self, task: Task) -> Flow {
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
        {
            let happened = happened(self.scene, &answer);
            if let Some(record) = self.step_record(task.step) {
                record.outcome = Some(answer);
            }
            if happened {
                self.resume_forward(task.step);
                return Flow::Again;
            }
        }
        self.undone(task.step, StepState::Undone);
        Flow::Again
    }

    /// A question showed that the step had happened: there is nothing to take back any more.
    pub(super) fn resume_forward(&mut self, step: u32) {
        self.record(step, StepState::Done);
        let run = self.run();
        run.direction = Direction::Forward;
        run.setback = None;
        run.cursor = step + 1;
    }

    pub(super) fn task_failed(&mut self, task: Task) -> Flow {
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

    pub(super) fn undo_failed(&mut self, task: Task, failure: &TaskFailure) -> Flow {
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

    pub(super) const fn attempts(&self, role: TaskRole) -> u32 {
        match role {
            TaskRole::Do => self.limits.attempts,
            TaskRole::Undo
            | TaskRole::Chore
            | TaskRole::Upkeep
            | TaskRole::Care
            | TaskRole::Fill => self.limits.undo_attempts,
        }
    }

    pub(super) fn offer(
        &mut self,
        role: TaskRole,
        step: u32,
        phase: Phase,
        spec: TaskSpec,
    ) -> Flow {
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

    pub(super) fn offer_again(&mut self, mut task: Task) -> Flow {
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

    pub(super) fn new_task(&mut self, role: TaskRole, step: u32, spec: TaskSpec) -> Task {
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

    pub(super) fn leave_chore(&mut self, step: u32, spec: TaskSpec) {
        let chore = self.new_task(TaskRole::Chore, step, spec);
        self.moves.insert.push(chore);
    }

    /// From here on the worker of this task is refused.
    pub(super) fn fence_off(&mut self, task: &Task) {
        self.run().operation.fence += 1;
        self.remove(task);
        self.forget_unless_begun(task);
    }

    /// A step whose task no node ever had was not begun.
    pub(super) fn forget_unless_begun(&mut self, task: &Task) {
        if task.attempt == 0 && task.role == TaskRole::Do {
            self.run().steps.retain(|s| s.index != task.step);
        }
    }

    pub(super) fn remove(&mut self, task: &Task) {
        self.moves.remove = Some(task.id);
        self.run().task_id = None;
    }

    pub(super) fn wait_for(&mut self, task: &Task) {
        let until = deadline(&self.scene.run, self.limits);
        let lease = task.lease_until.filter(|_| task.state == TaskState::Leased);
        self.run().due_at = lease.map_or(until, |lease| lease.min(until));
    }

    /// Ends this move; the next one, in another transaction, goes on at once.
    pub(super) fn later(&mut self) -> Flow {
        self.run().due_at = self.scene.now;
        Flow::Wait
    }
}

fn unexplained() -> TaskFailure {
    TaskFailure {
        kind: ErrorKind::Internal,
        code: ProblemCode::Internal,
        text: "The node could not do it.".to_owned(),
        detail: "the task failed without a reason".to_owned(),
    }
}
