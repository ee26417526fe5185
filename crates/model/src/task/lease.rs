//! What goes between a node and the control plane while a task is leased.

use serde::{Deserialize, Serialize};

use super::TaskSpec;
use crate::Timestamp;
use crate::id::{OperationId, PoolId, TaskId};
use crate::operation::Progress;

/// A task with the lease on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The task.
    pub task_id: TaskId,
    /// The operation it belongs to; none for the upkeep of a pool.
    pub operation_id: Option<OperationId>,
    /// The pool that it works in.
    pub pool_id: PoolId,
    /// The number to show with every report.
    pub fence: i64,
    /// The lease ends here unless a report renews it.
    pub lease_until: Timestamp,
    /// What to do.
    pub spec: TaskSpec,
}

/// What the control plane answers to a report of progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Directive {
    /// Go on.
    Continue,
    /// Stop as soon as that leaves nothing half done, and answer `Cancelled`.
    Cancel,
}

/// What a node says while it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The task.
    pub task_id: TaskId,
    /// The number of its lease.
    pub fence: i64,
    /// How far it is.
    pub progress: Progress,
}
