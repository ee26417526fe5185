//! The node in this process, talking to the control plane in this process.
//!
//! The same calls that a remote node makes over HTTPS, without the wire: nothing is decided here.

use std::time::Duration;

use stillpoint_control::board::{Board, Rejection};
use stillpoint_model::error::with_causes;
use stillpoint_model::id::{NodeId, TaskId};
use stillpoint_model::instance::Sight;
use stillpoint_model::question::{Asked, Said};
use stillpoint_model::task::{Assignment, Directive, Report, TaskFailure, TaskOutcome};
use stillpoint_node::{ControlError, ControlPlane};

/// How long one question for work waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The board of this process, as its node sees it.
pub struct InProcess {
    board: Board,
}

impl InProcess {
    /// The link to this board.
    pub const fn new(board: Board) -> Self {
        Self { board }
    }
}

fn heard(rejection: Rejection) -> ControlError {
    match rejection {
        Rejection::Fenced => ControlError::Fenced,
        Rejection::Fault(error) => ControlError::Unavailable(with_causes(&error)),
    }
}

impl ControlPlane for InProcess {
    async fn hello(&self, node_id: NodeId) -> Result<(), ControlError> {
        self.board.hello(node_id).await.map_err(heard)
    }

    async fn sighted(&self, node_id: NodeId, sights: Vec<Sight>) -> Result<(), ControlError> {
        self.board.sighted(node_id, sights).await.map_err(heard)
    }

    async fn next_question(&self, node_id: NodeId) -> Result<Option<Asked>, ControlError> {
        Ok(self.board.next_question(node_id, PATIENCE).await)
    }

    async fn answer(&self, node_id: NodeId, number: u64, said: Said) -> Result<(), ControlError> {
        self.board.answer(node_id, number, said);
        Ok(())
    }

    async fn next_task(&self, node_id: NodeId) -> Result<Option<Assignment>, ControlError> {
        self.board.next_task(node_id, PATIENCE).await.map_err(heard)
    }

    async fn report(&self, report: Report) -> Result<Directive, ControlError> {
        self.board.report(report).await.map_err(heard)
    }

    async fn confirm(&self, task_id: TaskId, fence: i64) -> Result<Directive, ControlError> {
        self.board.confirm(task_id, fence).await.map_err(heard)
    }

    async fn finish(
        &self,
        task_id: TaskId,
        fence: i64,
        result: Result<TaskOutcome, TaskFailure>,
    ) -> Result<(), ControlError> {
        self.board
            .finish(task_id, fence, result)
            .await
            .map_err(heard)
    }
}
