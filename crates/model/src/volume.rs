//! Volumes: block devices of one pool.
//!
//! ```text
//!            +-----------> failed
//!            |               |
//! creating --+--> available <--> in-use      (in-use: attached to an instance)
//!                     |              (deleting only from available or failed)
//!                     +--> deleting --> gone
//! ```

use crate::id::{
    AccountId, BackupId, ImageId, InstanceId, LayerId, OperationId, PlanId, PoolId, ProjectId,
    TaskId, VolumeId,
};
use crate::instance::{Instance, InstanceState, Load};
use crate::item::RestorePointId;
use crate::name::Name;
use crate::operation::Progress;
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
    AttachedState {
        /// The instance runs and has the volume open.
        Running = "running",
        /// The instance is shut off.
        Stopped = "stopped",
    }
}

/// The instance that has a volume: one of ours, or one that the provider's orchestrator reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The instance's name.
    pub instance: Name,
    /// Whether it runs.
    pub state: AttachedState,
    /// More, when it is one of ours; then name and state are those of its row.
    pub own: Option<OwnInstance>,
}

/// What the rules of a volume need to know of the instance of ours that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnInstance {
    /// Its id.
    pub id: InstanceId,
    /// The volume's place in it; 0 is the root.
    pub place: u32,
    /// What it is good for.
    pub state: InstanceState,
    /// Whether its first set-up is over.
    pub ready: bool,
    /// How busy it was lately.
    pub load: Option<Load>,
    /// The operation that holds it.
    pub active_operation: Option<OperationId>,
}

impl Attachment {
    /// What the orchestrator reported.
    pub const fn reported(instance: Name, state: AttachedState) -> Self {
        Self {
            instance,
            state,
            own: None,
        }
    }

    /// A volume in this place of an instance of ours.
    pub fn to(instance: &Instance, place: u32) -> Self {
        Self {
            instance: instance.name.clone(),
            state: instance.power.attached_state(),
            own: Some(OwnInstance {
                id: instance.id,
                place,
                state: instance.state,
                ready: instance.ready,
                load: instance.load,
                active_operation: instance.active_operation,
            }),
        }
    }
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
    /// The backup that it is filled from. It shows that backup already, and takes writes.
    pub filling: Option<BackupId>,
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

/// The work that makes a volume whole which is used already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The volume.
    pub volume_id: VolumeId,
    /// The backup that it is filled from.
    pub backup_id: BackupId,
    /// The task that fills it now.
    pub task_id: Option<TaskId>,
    /// How far that is.
    pub progress: Option<Progress>,
    /// No new task before this time.
    pub due_at: Timestamp,
    /// Why the last task failed, for the volume's owner to read.
    pub failure: Option<String>,
}

/// What a volume's first content came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeOrigin {
    /// A snapshot or a backup.
    RestorePoint(RestorePointId),
    /// Another volume, as it was at that moment.
    Volume(VolumeId),
    /// A disk that was uploaded.
    Upload,
    /// An image.
    Image(ImageId),
}

impl Volume {
    /// The instance of ours that has it, and its place there.
    pub fn own_instance(&self) -> Option<OwnInstance> {
        self.attachment.as_ref()?.own
    }

    /// Whether an instance that runs has it open.
    pub fn is_attached_running(&self) -> bool {
        self.attachment
            .as_ref()
            .is_some_and(|a| a.state == AttachedState::Running)
    }
}
