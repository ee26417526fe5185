//! Volumes: block devices of one pool.
//!
//! ```text
//!            +-----------> failed
//!            |               |
//! creating --+--> available <--> in-use      (in-use: attached to an instance)
//!                     |              (deleting only from available or failed)
//!                     +--> deleting --> gone
//! ```

use crate::id::{AccountId, LayerId, OperationId, PlanId, PoolId, ProjectId, VolumeId};
use crate::item::RestorePointId;
use crate::name::Name;
use crate::words::words;
use crate::{ByteCount, Timestamp};

words! {
    /// What a volume is good for right now.
    VolumeState {
        /// Its storage is being made.
        Creating = "creating",
        /// Ready, attached to nothing.
        Available = "available",
        /// Attached to an instance.
        InUse = "in-use",
        /// On its way out.
        Deleting = "deleting",
        /// It could not be made, or its storage is damaged; the reason is recorded.
        Failed = "failed",
    }
}

words! {
    /// What a volume is for in its instance.
    VolumeRole {
        /// The disk an instance boots from.
        Root = "root",
        /// Any other disk.
        Data = "data",
    }
}

words! {
    /// Whether the instance that a volume is attached to runs.
    InstanceState {
        /// The instance runs and has the volume open.
        Running = "running",
        /// The instance is shut off.
        Stopped = "stopped",
    }
}

/// The instance that has a volume, as the provider's orchestrator reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The instance's name.
    pub instance: Name,
    /// Whether it runs.
    pub state: InstanceState,
}

/// A block device of one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its id.
    pub id: VolumeId,
    /// Whose it is.
    pub account_id: AccountId,
    /// The project it is listed in.
    pub project_id: ProjectId,
    /// The pool that holds its layers.
    pub pool_id: PoolId,
    /// The rules and prices that apply.
    pub plan_id: PlanId,
    /// Unique among the project's live volumes.
    pub name: Name,
    /// Root or data.
    pub role: VolumeRole,
    /// What a guest sees as its size.
    pub size: ByteCount,
    /// What it is good for.
    pub state: VolumeState,
    /// The instance that has it.
    pub attachment: Option<Attachment>,
    /// The restore point or volume it was made from.
    pub origin: Option<VolumeOrigin>,
    /// The one operation that may change it now.
    pub active_operation: Option<OperationId>,
    /// No new operation before this time.
    pub cooldown_until: Option<Timestamp>,
    /// The layer that takes its writes.
    pub tip: Option<LayerId>,
    /// Bytes that it alone or with others occupies in the pool.
    pub used: ByteCount,
    /// Why it failed, for its owner to read.
    pub failure: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Grows with each change; the strong `ETag`.
    pub version: i64,
}

/// What a volume's first content came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeOrigin {
    /// A snapshot or a backup.
    RestorePoint(RestorePointId),
    /// Another volume, as it was at that moment.
    Volume(VolumeId),
    /// An uploaded image.
    Upload,
}

impl Volume {
    /// Whether an instance that runs has it open.
    pub fn is_attached_running(&self) -> bool {
        self.attachment
            .as_ref()
            .is_some_and(|a| a.state == InstanceState::Running)
    }
}
