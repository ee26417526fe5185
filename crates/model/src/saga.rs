//! Orders and runs: what an operation was accepted to do, and how far it is.
//!
//! An [`Order`] is written once, in the transaction that admits the operation. It holds every id
//! that the work will ever need, so that doing a step twice is doing it once, and the terms of
//! the plan as they were, so that a plan that changes later changes nothing under way.
//!
//! A [`Run`] is the rest: which step, in which direction, with which outcomes so far.
//!
//! ```text
//!             all steps done
//! forward ----------------------> ended (succeeded)
//!    |  ^
//!    |  | a question to the node showed that the step had happened after all
//!    v  |
//! backward ---------------------> ended (failed or cancelled)
//!             all steps undone
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::compression::CompressionLevel;
use crate::id::{BackupId, ImageId, InstanceSnapshotId, PoolId, SnapshotId, TaskId, VolumeId};
use crate::instance::{InstanceState, MachineDisk, MachineOrder, StopMode};
use crate::item::FreezePolicy;
use crate::operation::{Failure, Operation, OperationKind};
use crate::plan::Plan;
use crate::task::{ImageFormat, SealPoint, TaskOutcome, VaultRef};
use crate::words::words;
use crate::{ByteCount, Timestamp};

mod source;
mod task;
pub use source::{DiskSource, ImageContent, NewDisk, PutBack, RestoreSource};
pub use task::{Task, TaskRole, TaskState};

/// The terms of the plan that an operation was accepted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Rest of the volume after success, in seconds.
    pub cooldown_s: u32,
    /// Seconds without progress before it is given up.
    pub no_progress_s: u32,
    /// Seconds in all before it is given up; none means no limit.
    pub max_runtime_s: Option<u32>,
    /// How long the safety snapshot of a roll back is kept, in seconds.
    pub safety_snapshot_s: u32,
    /// What is asked of a guest that has the volume open while it is captured.
    #[serde(default)]
    pub freeze: FreezePolicy,
    /// How hard a backup is compressed.
    #[serde(default)]
    pub compression_level: CompressionLevel,
}

impl Terms {
    /// The terms of this plan.
    pub const fn of(plan: &Plan) -> Self {
        Self {
            cooldown_s: plan.pacing.cooldown_s,
            no_progress_s: plan.timeouts.no_progress_s,
            max_runtime_s: plan.timeouts.max_runtime_s,
            safety_snapshot_s: plan.safety_snapshot_s,
            freeze: plan.freeze,
            compression_level: plan.compression_level,
        }
    }

    /// Rest of the volume after success.
    pub fn cooldown(&self) -> Duration {
        Duration::from_secs(self.cooldown_s.into())
    }

    /// How long it may go without progress.
    pub fn no_progress(&self) -> Duration {
        Duration::from_secs(self.no_progress_s.into())
    }

    /// How long it may take in all.
    pub fn max_runtime(&self) -> Option<Duration> {
        self.max_runtime_s.map(|s| Duration::from_secs(s.into()))
    }

    /// How long the safety snapshot of a roll back is kept.
    pub fn safety_snapshot(&self) -> Duration {
        Duration::from_secs(self.safety_snapshot_s.into())
    }
}

/// What was asked for, beyond the ids that the operation itself names (`volume_id`,
/// `snapshot_id`, `backup_id`, `instance_id`: what it makes, changes or deletes).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Request {
    /// Make an empty volume.
    VolumeCreate {
        /// Its size.
        size: ByteCount,
    },
    /// Make a volume from an image.
    VolumeFromImage {
        /// The image.
        image_id: ImageId,
        /// The volume's size: that of the image, or more.
        size: ByteCount,
    },
    /// Make a volume from an uploaded image.
    VolumeImport {
        /// The upload's name in the node's upload folder.
        upload: uuid::Uuid,
        /// What it was declared to be.
        format: ImageFormat,
        /// The largest size that the volume may have.
        max_size: ByteCount,
    },
    /// Make a volume from another volume as it is now.
    VolumeClone {
        /// The other volume. Only the new one is locked.
        source: VolumeId,
    },
    /// Make a volume larger.
    VolumeResize {
        /// Its new size.
        size: ByteCount,
    },
    /// Delete a volume.
    VolumeDelete,
    /// Take a snapshot; and make an image of it, when the operation names one.
    SnapshotCreate,
    /// Delete a snapshot.
    SnapshotDelete,
    /// Make a backup.
    BackupCreate {
        /// Where to.
        vault: VaultRef,
        /// Back up this snapshot instead of the volume as it is now.
        snapshot_id: Option<SnapshotId>,
        /// The volume's latest available backup in the same vault.
        parent: Option<BackupId>,
    },
    /// Delete a backup.
    BackupDelete {
        /// Where it is.
        vault: VaultRef,
    },
    /// Prove a backup's data again.
    BackupVerify {
        /// Where it is.
        vault: VaultRef,
        /// Whether to decrypt and compare every chunk, too.
        deep: bool,
    },
    /// Make a volume from a snapshot or a backup.
    RestoreNew {
        /// What it starts from.
        source: RestoreSource,
        /// Whether it is used before all of a backup is there.
        #[serde(default)]
        instant: bool,
    },
    /// Overwrite a volume with a snapshot or a backup.
    RestoreInPlace {
        /// What it goes back to.
        source: RestoreSource,
        /// The snapshot that keeps what was there.
        safety_id: SnapshotId,
        /// Where a backup is restored to before the volume switches to it.
        staged_id: VolumeId,
    },
    /// Make an instance.
    InstanceCreate {
        /// What its machine is made of, with all its volumes.
        machine: MachineOrder,
        /// The volumes that are made for it. The others exist.
        make: Vec<NewDisk>,
        /// Whether it is started, too.
        start: bool,
        /// It goes on from the memory of this instance snapshot as it starts.
        #[serde(default)]
        memory: Option<InstanceSnapshotId>,
    },
    /// Start an instance.
    InstanceStart {
        /// What its machine is made of.
        machine: MachineOrder,
    },
    /// Stop an instance.
    InstanceStop {
        /// How.
        mode: StopMode,
    },
    /// Have an instance stand still.
    InstancePause,
    /// Have a paused instance go on.
    InstanceResume,
    /// Delete an instance.
    InstanceDelete {
        /// What it was.
        was: InstanceState,
        /// The volumes that it has and that stay.
        keep: Vec<VolumeId>,
        /// The volumes that it has and that are deleted with it.
        delete: Vec<VolumeId>,
    },
    /// Attach a volume to an instance.
    VolumeAttach {
        /// The volume, in its place.
        disk: MachineDisk,
    },
    /// Detach a volume from its instance.
    VolumeDetach {
        /// The volume, in its place.
        disk: MachineDisk,
    },
    /// Make an image.
    ImageCreate {
        /// What it is made of.
        content: ImageContent,
    },
    /// Delete an image.
    ImageDelete,
    /// Take a snapshot of a whole instance.
    InstanceSnapshotCreate {
        /// All its volumes, each with the snapshot of it.
        points: Vec<SealPoint>,
        /// What is asked of its guest.
        freeze: FreezePolicy,
        /// Whether its memory is captured, too.
        #[serde(default)]
        memory: bool,
    },
    /// Delete an instance snapshot.
    InstanceSnapshotDelete {
        /// The snapshots that it is made of.
        snapshots: Vec<SnapshotId>,
    },
    /// Put an instance back to a snapshot of it.
    InstanceRebuild {
        /// The volumes that the snapshot holds.
        put_back: Vec<PutBack>,
        /// The machine that goes on from the snapshot's memory then; none when it stays off.
        #[serde(default)]
        go_on: Option<MachineOrder>,
    },
}

impl Request {
    /// The kind of operation that does it.
    pub const fn kind(&self) -> OperationKind {
        match self {
            Self::VolumeCreate { .. } | Self::VolumeFromImage { .. } => OperationKind::VolumeCreate,
            Self::VolumeImport { .. } => OperationKind::VolumeImport,
            Self::VolumeClone { .. } => OperationKind::VolumeClone,
            Self::VolumeResize { .. } => OperationKind::VolumeResize,
            Self::VolumeDelete => OperationKind::VolumeDelete,
            Self::SnapshotCreate => OperationKind::SnapshotCreate,
            Self::SnapshotDelete => OperationKind::SnapshotDelete,
            Self::BackupCreate { .. } => OperationKind::BackupCreate,
            Self::BackupDelete { .. } => OperationKind::BackupDelete,
            Self::BackupVerify { .. } => OperationKind::BackupVerify,
            Self::RestoreNew { .. } => OperationKind::RestoreNew,
            Self::RestoreInPlace { .. } => OperationKind::RestoreInPlace,
            Self::InstanceCreate { .. } => OperationKind::InstanceCreate,
            Self::InstanceStart { .. } => OperationKind::InstanceStart,
            Self::InstanceStop { .. } => OperationKind::InstanceStop,
            Self::InstancePause => OperationKind::InstancePause,
            Self::InstanceResume => OperationKind::InstanceResume,
            Self::InstanceDelete { .. } => OperationKind::InstanceDelete,
            Self::VolumeAttach { .. } => OperationKind::VolumeAttach,
            Self::VolumeDetach { .. } => OperationKind::VolumeDetach,
            Self::ImageCreate { .. } => OperationKind::ImageCreate,
            Self::ImageDelete => OperationKind::ImageDelete,
            Self::InstanceSnapshotCreate { .. } => OperationKind::InstanceSnapshotCreate,
            Self::InstanceSnapshotDelete { .. } => OperationKind::InstanceSnapshotDelete,
            Self::InstanceRebuild { .. } => OperationKind::InstanceRebuild,
        }
    }

    /// The volumes that it holds beside the one that the operation names.
    pub fn other_volumes(&self) -> Vec<VolumeId> {
        match self {
            Self::InstanceCreate { machine, .. } => {
                machine.disks.iter().map(|disk| disk.volume_id).collect()
            }
            Self::InstanceDelete { keep, delete, .. } => {
                keep.iter().chain(delete).copied().collect()
            }
            Self::InstanceSnapshotCreate { points, .. } => {
                points.iter().map(|point| point.volume_id).collect()
            }
            Self::InstanceRebuild { put_back, .. } => {
                put_back.iter().map(|one| one.volume_id).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The snapshots that it makes or deletes beside the one that the operation names.
    pub fn other_snapshots(&self) -> Vec<SnapshotId> {
        match self {
            Self::InstanceSnapshotCreate { points, .. } => {
                points.iter().map(|point| point.snapshot_id).collect()
            }
            Self::InstanceSnapshotDelete { snapshots } => snapshots.clone(),
            Self::InstanceRebuild { put_back, .. } => {
                put_back.iter().map(|one| one.safety_id).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The items that it only reads. They cannot be deleted while it runs.
    pub fn reads(&self) -> (Option<SnapshotId>, Option<BackupId>) {
        let items = |source: &RestoreSource| match *source {
            RestoreSource::Snapshot { snapshot_id } => (Some(snapshot_id), None),
            RestoreSource::Backup { backup_id, .. } => (None, Some(backup_id)),
        };
        match self {
            Self::BackupCreate { snapshot_id, .. } => (*snapshot_id, None),
            Self::RestoreNew { source, .. }
            | Self::RestoreInPlace { source, .. }
            | Self::ImageCreate {
                content: ImageContent::RestorePoint { source },
            } => items(source),
            // Admission takes one restore point at most, or those of one instance snapshot, which the
            // operation names.
            Self::InstanceCreate { make, .. } => make
                .iter()
                .find_map(|disk| match &disk.from {
                    DiskSource::RestorePoint { source, .. } => Some(items(source)),
                    DiskSource::Empty { .. } | DiskSource::Image { .. } => None,
                })
                .unwrap_or_default(),
            _ => (None, None),
        }
    }
}

/// What an operation was accepted to do. Written once, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The pool whose node does the work.
    pub pool_id: PoolId,
    /// The plan's terms at admission.
    pub terms: Terms,
    /// What was asked for.
    pub request: Request,
}

words! {
    /// Which way an operation moves.
    Direction {
        /// Its steps are being done.
        Forward = "forward",
        /// Its steps are being undone, the last first.
        Backward = "backward",
    }
}

words! {
    /// How far a step is.
    StepState {
        /// Its work was handed out.
        Doing = "doing",
        /// Done.
        Done = "done",
        /// Its undoing was handed out.
        Undoing = "undoing",
        /// Taken back.
        Undone = "undone",
        /// Its undoing was left to the upkeep of the pool, because the node did not answer.
        Deferred = "deferred",
    }
}

/// One step of a run, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// Its place in the saga.
    pub index: u32,
    /// Its name, for operators.
    pub name: String,
    /// How far it is.
    pub state: StepState,
    /// How often its work or its undoing was handed out.
    pub attempt: u32,
    /// What its work found out.
    pub outcome: Option<TaskOutcome>,
}

/// Why a run goes backward.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Setback {
    /// Something failed, or it was ended by an operator or for want of progress.
    Failed(Failure),
    /// Its owner asked for it.
    Cancelled,
}

/// An operation under way, as the engine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The operation.
    pub operation: Operation,
    /// What it was accepted to do.
    pub order: Order,
    /// Which way it moves.
    pub direction: Direction,
    /// The step that is due or under way. Past the last: all are done.
    pub cursor: u32,
    /// Why it goes backward.
    pub setback: Option<Setback>,
    /// No undoing by the node any more: what is left goes to the upkeep of the pool.
    pub abandoned: bool,
    /// When the engine must look at it next.
    pub due_at: Timestamp,
    /// The task that is under way for it.
    pub task_id: Option<TaskId>,
    /// The steps that were begun.
    pub steps: Vec<StepRecord>,
}

impl Run {
    /// The run of an operation that was just accepted.
    pub const fn accepted(operation: Operation, order: Order) -> Self {
        Self {
            direction: Direction::Forward,
            cursor: 0,
            setback: None,
            abandoned: false,
            due_at: operation.created_at,
            task_id: None,
            steps: Vec::new(),
            operation,
            order,
        }
    }

    /// The record of a step that was begun.
    pub fn step(&self, index: u32) -> Option<&StepRecord> {
        self.steps.iter().find(|s| s.index == index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_reads_back_as_it_was_written() {
        let order = Order {
            pool_id: PoolId::from_uuid(uuid::Uuid::from_u128(1)),
            terms: Terms {
                cooldown_s: 300,
                no_progress_s: 7200,
                max_runtime_s: None,
                safety_snapshot_s: 86400,
                freeze: FreezePolicy::Try,
                compression_level: CompressionLevel::default(),
            },
            request: Request::RestoreInPlace {
                source: RestoreSource::Snapshot {
                    snapshot_id: SnapshotId::from_uuid(uuid::Uuid::from_u128(2)),
                },
                safety_id: SnapshotId::from_uuid(uuid::Uuid::from_u128(3)),
                staged_id: VolumeId::from_uuid(uuid::Uuid::from_u128(4)),
            },
        };
        let text = serde_json::to_string(&order).expect("json");
        assert_eq!(serde_json::from_str::<Order>(&text).expect("order"), order);
    }
}
