//! Operations: accepted requests that take time.
//!
//! ```text
//! queued --> running --> succeeded
//!   |          |  \----> failed          (after its steps were undone)
//!   |          v
//!   +-----> cancelling --> cancelled     (after its steps were undone)
//!                  \-----> succeeded     (the last step was already past undoing)
//! ```
//!
//! Each accepted request has exactly one terminal outcome.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{
    AccountId, BackupId, ImageId, InstanceId, InstanceSnapshotId, OperationId, ProjectId,
    SnapshotId, UserId, VolumeId,
};
use crate::name::Name;
use crate::refusal::ProblemCode;
use crate::words::words;
use crate::{ByteCount, Timestamp};

words! {
    /// What was asked for.
    OperationKind {
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

impl OperationKind {
    /// The word of `Volume is busy with operation: ...`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::VolumeCreate | Self::InstanceCreate => "create",
            Self::VolumeImport => "import",
            Self::VolumeClone => "clone",
            Self::VolumeResize => "resize",
            Self::VolumeDelete | Self::InstanceDelete => "delete",
            Self::SnapshotCreate => "snapshot",
            Self::SnapshotDelete => "snapshot delete",
            Self::BackupCreate => "backup",
            Self::BackupDelete => "backup delete",
            Self::BackupVerify => "verify",
            Self::RestoreNew | Self::RestoreInPlace => "restore",
            Self::InstanceStart => "start",
            Self::InstanceStop => "stop",
            Self::InstancePause => "pause",
            Self::InstanceResume => "resume",
            Self::VolumeAttach => "attach",
            Self::VolumeDetach => "detach",
            Self::ImageCreate => "image",
            Self::ImageDelete => "image delete",
            Self::InstanceSnapshotCreate => "instance snapshot",
            Self::InstanceSnapshotDelete => "instance snapshot delete",
            Self::InstanceRebuild => "rebuild",
        }
    }

    /// Whether it holds the lock of the volume it is about. Deletes of items and restores to a
    /// new volume leave the source untouched.
    pub const fn locks_volume(self) -> bool {
        !matches!(
            self,
            Self::SnapshotDelete
                | Self::BackupDelete
                | Self::BackupVerify
                | Self::ImageCreate
                | Self::ImageDelete
                | Self::InstanceSnapshotDelete
        )
    }

    /// Whether it is the volume itself that it makes, changes or deletes.
    pub const fn is_about_volume(self) -> bool {
        matches!(
            self,
            Self::VolumeCreate
                | Self::VolumeImport
                | Self::VolumeClone
                | Self::VolumeResize
                | Self::VolumeDelete
                | Self::RestoreNew
                | Self::RestoreInPlace
                | Self::VolumeAttach
                | Self::VolumeDetach
        )
    }

    /// Whether it is an image that it makes or deletes, whatever else it has to do with.
    pub const fn is_about_image(self) -> bool {
        matches!(self, Self::ImageCreate | Self::ImageDelete)
    }

    /// Whether the volumes that it held rest after it succeeded.
    pub const fn starts_cooldown(self) -> bool {
        matches!(
            self,
            Self::SnapshotCreate
                | Self::BackupCreate
                | Self::RestoreInPlace
                | Self::InstanceSnapshotCreate
                | Self::InstanceRebuild
        )
    }

    /// Whether it counts against the account's operations in flight. Deletes never do: a
    /// customer at a limit must be able to get below it. Neither does stopping an instance, which
    /// may be urgent.
    pub const fn counts_in_flight(self) -> bool {
        !matches!(
            self,
            Self::VolumeDelete
                | Self::SnapshotDelete
                | Self::BackupDelete
                | Self::ImageDelete
                | Self::InstanceDelete
                | Self::InstanceStop
                | Self::InstanceSnapshotDelete
        )
    }
}

words! {
    /// How far an operation is.
    OperationState {
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
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// Moves on, or says why not.
    pub fn transition(self, to: Self) -> Result<Self, IllegalTransition> {
        let legal = match self {
            Self::Queued => matches!(to, Self::Running | Self::Cancelling | Self::Failed),
            Self::Running => {
                matches!(to, Self::Cancelling | Self::Succeeded | Self::Failed)
            }
            Self::Cancelling => {
                matches!(to, Self::Cancelled | Self::Succeeded | Self::Failed)
            }
            Self::Succeeded | Self::Failed | Self::Cancelled => false,
        };
        if legal {
            Ok(to)
        } else {
            Err(IllegalTransition { from: self, to })
        }
    }
}

/// An operation cannot go from one state to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an operation does not go from {from} to {to}")]
pub struct IllegalTransition {
    /// Where it was.
    pub from: OperationState,
    /// Where it should have gone.
    pub to: OperationState,
}

words! {
    /// What an operation is doing, in words that users see.
    Phase {
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

/// How far the current phase is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Bytes dealt with in this phase.
    pub bytes_done: ByteCount,
    /// Bytes to deal with in this phase, when that is known.
    pub bytes_total: Option<ByteCount>,
    /// Bytes per second lately, when that is known.
    pub rate_bytes_per_s: Option<ByteCount>,
}

impl Progress {
    /// The start of a phase.
    pub const fn start(phase: Phase) -> Self {
        Self {
            phase,
            bytes_done: ByteCount::ZERO,
            bytes_total: None,
            rate_bytes_per_s: None,
        }
    }

    /// Whole percent of this phase; none when the total is unknown, never invented.
    pub fn percent(&self) -> Option<u8> {
        let total = u128::from(self.bytes_total?.get());
        if total == 0 {
            return None;
        }
        let percent = u128::from(self.bytes_done.get()) * 100 / total;
        u8::try_from(percent.min(100)).ok()
    }

    /// Time left in this phase at the current rate.
    pub fn eta(&self) -> Option<Duration> {
        let rate = self.rate_bytes_per_s?.get();
        if rate == 0 {
            return None;
        }
        let left = self.bytes_total?.saturating_sub(self.bytes_done).get();
        Some(Duration::from_secs(left.div_ceil(rate)))
    }
}

/// Why an operation failed, as its owner reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The stable code.
    pub code: ProblemCode,
    /// One or two sentences.
    pub text: String,
}

/// One accepted request that takes time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// Whose it is.
    pub account_id: AccountId,
    /// The project of what it is about.
    pub project_id: ProjectId,
    /// Who asked.
    pub user_id: UserId,
    /// What was asked for.
    pub kind: OperationKind,
    /// How far it is.
    pub state: OperationState,
    /// The volume that it changes or makes.
    pub volume_id: Option<VolumeId>,
    /// That volume's name when it was accepted.
    pub volume_name: Option<Name>,
    /// The snapshot that it makes, deletes or restores from.
    pub snapshot_id: Option<SnapshotId>,
    /// The backup that it makes, deletes, verifies or restores from.
    pub backup_id: Option<BackupId>,
    /// The instance that it makes, changes or deletes.
    pub instance_id: Option<InstanceId>,
    /// That instance's name when it was accepted.
    pub instance_name: Option<Name>,
    /// The image that it makes, deletes or makes a volume from.
    pub image_id: Option<ImageId>,
    /// That image's name when it was accepted.
    pub image_name: Option<Name>,
    /// The instance snapshot that it makes, deletes or restores from.
    pub instance_snapshot_id: Option<InstanceSnapshotId>,
    /// How far its current phase is.
    pub progress: Progress,
    /// The number that its workers must show; raised before its lock is ever released.
    pub fence: i64,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When work began.
    pub started_at: Option<Timestamp>,
    /// When it last moved: bytes, phase or step.
    pub progressed_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Grows with each change.
    pub version: i64,
}

impl Operation {
    /// Whether asking to stop makes sense.
    pub const fn is_cancellable(&self) -> bool {
        matches!(self.state, OperationState::Queued | OperationState::Running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_state_is_final() {
        for from in OperationState::ALL.iter().filter(|s| s.is_terminal()) {
            for to in OperationState::ALL {
                assert!(from.transition(*to).is_err(), "{from} -> {to}");
            }
        }
    }

    #[test]
    fn an_unknown_total_gives_no_percent_and_no_eta() {
        let mut progress = Progress::start(Phase::DataCapture);
        progress.bytes_done = ByteCount::from_mib(5);
        progress.rate_bytes_per_s = Some(ByteCount::from_mib(1));
        assert_eq!((progress.percent(), progress.eta()), (None, None));
        progress.bytes_total = Some(ByteCount::from_mib(20));
        assert_eq!(progress.percent(), Some(25));
        assert_eq!(progress.eta(), Some(Duration::from_secs(15)));
    }
}
