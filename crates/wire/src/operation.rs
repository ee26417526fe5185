//! Operations.

use serde::{Deserialize, Serialize};
use stillpoint_model::id::{
    BackupId, ImageId, InstanceId, InstanceSnapshotId, OperationId, SnapshotId, UserId, VolumeId,
};
use stillpoint_model::name::Name;
use stillpoint_model::{ByteCount, Timestamp, operation};
use utoipa::ToSchema;

use crate::problem::ProblemCode;
use crate::words::words;

words! {
    /// What was asked for.
    OperationKind = operation::OperationKind {
        /// Make an empty volume.
        VolumeCreate = "volume_create",
        /// Make a volume from an uploaded image.
        VolumeImport = "volume_import",
        /// Make a volume from another volume as it is now.
        VolumeClone = "volume_clone",
        /// Make a volume larger.
        VolumeResize = "volume_resize",
        /// Delete a volume.
        VolumeDelete = "volume_delete",
        /// Take a snapshot.
        SnapshotCreate = "snapshot_create",
        /// Delete a snapshot.
        SnapshotDelete = "snapshot_delete",
        /// Make a backup.
        BackupCreate = "backup_create",
        /// Delete a backup.
        BackupDelete = "backup_delete",
        /// Prove a backup's data again.
        BackupVerify = "backup_verify",
        /// Make a volume from a snapshot or a backup.
        RestoreNew = "restore_new",
        /// Overwrite a volume with a snapshot or a backup.
        RestoreInPlace = "restore_in_place",
        /// Make an instance.
        InstanceCreate = "instance_create",
        /// Start an instance.
        InstanceStart = "instance_start",
        /// Stop an instance.
        InstanceStop = "instance_stop",
        /// Have an instance stand still, with its memory kept.
        InstancePause = "instance_pause",
        /// Have a paused instance go on.
        InstanceResume = "instance_resume",
        /// Delete an instance.
        InstanceDelete = "instance_delete",
        /// Attach a volume to an instance.
        VolumeAttach = "volume_attach",
        /// Detach a volume from its instance.
        VolumeDetach = "volume_detach",
        /// Make an image.
        ImageCreate = "image_create",
        /// Delete an image.
        ImageDelete = "image_delete",
        /// Take a snapshot of a whole instance.
        InstanceSnapshotCreate = "instance_snapshot_create",
        /// Delete an instance snapshot.
        InstanceSnapshotDelete = "instance_snapshot_delete",
        /// Put an instance back to a snapshot of it.
        InstanceRebuild = "instance_rebuild",
    }
}

words! {
    /// How far an operation is.
    OperationState = operation::OperationState {
        /// Accepted, waiting for a node.
        Queued = "queued",
        /// A node works on it, or its steps are being undone after a failure.
        Running = "running",
        /// Asked to stop; its steps are being undone.
        Cancelling = "cancelling",
        /// Done and checked.
        Succeeded = "succeeded",
        /// Ended without result; the reason is recorded.
        Failed = "failed",
        /// Ended on request.
        Cancelled = "cancelled",
    }
}

impl OperationState {
    /// Whether it is over.
    pub fn is_terminal(self) -> bool {
        operation::OperationState::from(self).is_terminal()
    }
}

words! {
    /// What an operation is doing, in words that users see.
    Phase = operation::Phase {
        /// Waiting for its turn.
        Waiting = "waiting",
        /// Rules and storage are checked.
        Validation = "validation",
        /// The point in time is being fixed.
        Initiation = "initiation",
        /// Data is read, compressed and stored.
        DataCapture = "data capture",
        /// Data is written back.
        Restoring = "restoring",
        /// What was written is read back and compared.
        Verification = "verification",
        /// Names and storage are released.
        CleanUp = "clean-up",
        /// A machine is started, stopped or changed.
        Machine = "machine",
        /// Backups are copied from one target into another.
        Copying = "copying",
        /// What damaged backups lost is stored anew.
        Repairing = "repairing",
        /// Backups are made to do without packs that are mostly dead.
        Emptying = "emptying packs",
        /// Steps are taken back.
        Undoing = "undoing",
        /// Over.
        Done = "done",
    }
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// The stable code.
    pub code: ProblemCode,
    /// One or two sentences.
    pub detail: String,
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Whole percent of this phase; null when the total is unknown.
    pub percent: Option<u8>,
    /// Bytes dealt with in this phase.
    #[schema(value_type = u64)]
    pub bytes_done: ByteCount,
    /// Bytes to deal with in this phase; null when unknown.
    #[schema(value_type = Option<u64>)]
    pub bytes_total: Option<ByteCount>,
    /// Bytes per second lately; null when unknown.
    #[schema(value_type = Option<u64>)]
    pub rate: Option<ByteCount>,
    /// Seconds left in this phase; null when unknown.
    pub eta_s: Option<u64>,
}

impl From<operation::Progress> for Progress {
    fn from(progress: operation::Progress) -> Self {
        let operation::Progress {
            phase,
            bytes_done,
            bytes_total,
            rate_bytes_per_s,
        } = progress;
        Self {
            phase: phase.into(),
            percent: progress.percent(),
            bytes_done,
            bytes_total,
            rate: rate_bytes_per_s,
            eta_s: progress.eta().map(|eta| eta.as_secs()),
        }
    }
}

/// One accepted request that takes time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: OperationId,
    /// What was asked for.
    pub kind: OperationKind,
    /// How far it is.
    pub state: OperationState,
    /// The volume that it changes or makes.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub volume_id: Option<VolumeId>,
    /// That volume's name when it was accepted.
    #[schema(value_type = Option<String>)]
    pub volume_name: Option<Name>,
    /// The snapshot that it makes, deletes or restores from.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub snapshot_id: Option<SnapshotId>,
    /// The backup that it makes, deletes, verifies or restores from.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub backup_id: Option<BackupId>,
    /// The instance that it makes, changes or deletes.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub instance_id: Option<InstanceId>,
    /// That instance's name when it was accepted.
    #[schema(value_type = Option<String>)]
    pub instance_name: Option<Name>,
    /// The image that it makes, deletes or makes a volume from.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub image_id: Option<ImageId>,
    /// That image's name when it was accepted.
    #[schema(value_type = Option<String>)]
    pub image_name: Option<Name>,
    /// The instance snapshot that it makes, deletes or restores from.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub instance_snapshot_id: Option<InstanceSnapshotId>,
    /// Who asked.
    #[schema(value_type = String, format = "uuid")]
    pub user_id: UserId,
    /// How far its current phase is.
    #[serde(flatten)]
    pub progress: Progress,
    /// Whether asking to stop makes sense.
    pub cancellable: bool,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// When it was accepted.
    #[schema(value_type = String, format = "date-time")]
    pub created_at: Timestamp,
    /// When work began.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub started_at: Option<Timestamp>,
    /// When it last moved: bytes, phase or step.
    #[schema(value_type = String, format = "date-time")]
    pub progressed_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub finished_at: Option<Timestamp>,
    /// Grows with each change.
    pub version: i64,
}

impl From<operation::Operation> for Operation {
    fn from(operation: operation::Operation) -> Self {
        let cancellable = operation.is_cancellable();
        let operation::Operation {
            id,
            account_id: _,
            project_id: _,
            user_id,
            kind,
            state,
            volume_id,
            volume_name,
            snapshot_id,
            backup_id,
            instance_id,
            instance_name,
            image_id,
            image_name,
            instance_snapshot_id,
            progress,
            fence: _,
            failure,
            created_at,
            started_at,
            progressed_at,
            finished_at,
            version,
        } = operation;
        Self {
            id,
            kind: kind.into(),
            state: state.into(),
            volume_id,
            volume_name,
            snapshot_id,
            backup_id,
            instance_id,
            instance_name,
            image_id,
            image_name,
            instance_snapshot_id,
            user_id,
            progress: progress.into(),
            cancellable,
            failure: failure.map(|f| Failure {
                code: f.code.into(),
                detail: f.text,
            }),
            created_at,
            started_at,
            progressed_at,
            finished_at,
            version,
        }
    }
}

/// The operation that holds a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActiveOperation {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// How far its current phase is.
    #[serde(flatten)]
    pub progress: Progress,
    /// Whether asking to stop makes sense.
    pub cancellable: bool,
}

impl From<&operation::Operation> for ActiveOperation {
    fn from(operation: &operation::Operation) -> Self {
        Self {
            id: operation.id,
            kind: operation.kind.into(),
            progress: operation.progress.into(),
            cancellable: operation.is_cancellable(),
        }
    }
}

/// Why an operator steps in; it is audited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// A sentence for the audit.
    pub reason: String,
}
