//! What a node says to the control plane, and what it hears.

use std::future::Future;

use stillpoint_model::id::{NodeId, TaskId};
use stillpoint_model::instance::Sight;
use stillpoint_model::question::{Asked, Said};
use stillpoint_model::task::{Assignment, Directive, Report, TaskFailure, TaskOutcome};

/// Why the control plane gave no answer, or no good one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The lease or fence number is stale: stop, and change nothing.
    #[error("the lease on this task is over")]
    Fenced,
    /// It cannot be reached, or has a problem of its own. The same may work later.
    #[error("the control plane does not answer: {0}")]
    Unavailable(String),
}

/// The control plane as a node sees it: in the same process, or far away.
///
/// Every call may be repeated; the answer may be lost.
pub trait ControlPlane: Send + Sync + 'static {
    /// A new run of this node begins: whatever an earlier run had is free to be given again.
    fn hello(&self, node_id: NodeId) -> impl Future<Output = Result<(), ControlError>> + Send;

    /// Says what all machines of this node do. None of a machine means that it is off.
    fn sighted(
        &self,
        node_id: NodeId,
        sights: Vec<Sight>,
    ) -> impl Future<Output = Result<(), ControlError>> + Send;

    /// Something that is asked about this node's machines. Waits a while; none when nobody asked.
    fn next_question(
        &self,
        node_id: NodeId,
    ) -> impl Future<Output = Result<Option<Asked>, ControlError>> + Send;

    /// Answers a question. Nobody may be waiting for it any more.
    fn answer(
        &self,
        node_id: NodeId,
        number: u64,
        said: Said,
    ) -> impl Future<Output = Result<(), ControlError>> + Send;

    /// Work for this node. Waits a while for some; none when there was none.
    fn next_task(
        &self,
        node_id: NodeId,
    ) -> impl Future<Output = Result<Option<Assignment>, ControlError>> + Send;

    /// Says how far a task is, and renews its lease.
    fn report(
        &self,
        report: Report,
    ) -> impl Future<Output = Result<Directive, ControlError>> + Send;

    /// Asks for leave to make a task's work final. Asked right before the one write after which
    /// it can no longer be taken for not done.
    fn confirm(
        &self,
        task_id: TaskId,
        fence: i64,
    ) -> impl Future<Output = Result<Directive, ControlError>> + Send;

    /// Says how a task ended.
    fn finish(
        &self,
        task_id: TaskId,
        fence: i64,
        result: Result<TaskOutcome, TaskFailure>,
    ) -> impl Future<Output = Result<(), ControlError>> + Send;
}
