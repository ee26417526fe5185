//! Tasks as the control plane keeps them: who has which, since when, and how it ended.

use crate::Timestamp;
use crate::id::{NodeId, OperationId, PoolId, TaskId};
use crate::task::{TaskFailure, TaskOutcome, TaskSpec};
use crate::words::words;

words! {
    /// What a task is for.
    TaskRole {
        /// A step's work.
        Do = "do",
        /// A step's undoing.
        Undo = "undo",
        /// What an operation that ended left to be undone.
        Chore = "chore",
        /// The upkeep of a pool.
        Upkeep = "upkeep",
        /// The care of a vault.
        Care = "care",
        /// Filling a volume that is used already.
        Fill = "fill",
    }
}

words! {
    /// How far a task is.
    TaskState {
        /// A node may have it.
        Offered = "offered",
        /// A node has it, until its lease is over.
        Leased = "leased",
        /// A node did it; the engine has not read its outcome yet.
        Done = "done",
        /// A node could not do it; the engine has not read why yet.
        Failed = "failed",
    }
}

/// A task as the control plane keeps it. Its row goes when the engine has read how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// The operation it belongs to; none for upkeep.
    pub operation_id: Option<OperationId>,
    /// What it is for.
    pub role: TaskRole,
    /// The step it belongs to.
    pub step: u32,
    /// The pool it works in.
    pub pool_id: PoolId,
    /// How far it is.
    pub state: TaskState,
    /// The number that its worker must show.
    pub fence: i64,
    /// How often it was handed out and came back without an end.
    pub attempt: u32,
    /// It is not handed out before this time.
    pub due_at: Timestamp,
    /// The node that has it.
    pub node_id: Option<NodeId>,
    /// When its lease is over.
    pub lease_until: Option<Timestamp>,
    /// Whether its worker is to stop.
    pub cancel: bool,
    /// What to do.
    pub spec: TaskSpec,
    /// What it found out.
    pub outcome: Option<TaskOutcome>,
    /// Why it failed.
    pub failure: Option<TaskFailure>,
}

impl Task {
    /// One that nobody has yet and that belongs to no operation, for a node that reaches a pool.
    pub const fn offered(
        id: TaskId,
        role: TaskRole,
        pool_id: PoolId,
        spec: TaskSpec,
        due_at: Timestamp,
    ) -> Self {
        Self {
            id,
            operation_id: None,
            role,
            step: 0,
            pool_id,
            state: TaskState::Offered,
            fence: 1,
            attempt: 0,
            due_at,
            node_id: None,
            lease_until: None,
            cancel: false,
            spec,
            outcome: None,
            failure: None,
        }
    }

    /// Whether a node has it or may have it.
    pub const fn is_live(&self) -> bool {
        matches!(self.state, TaskState::Offered | TaskState::Leased)
    }
}
