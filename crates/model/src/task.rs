//! Tasks: the pieces of an operation that touch data, done by a node.
//!
//! A node asks for work and gets an [`Assignment`]: what to do, and a lease. It renews the lease
//! by reporting progress, and is refused once its fence number is stale. Every task may be given
//! again after a crash: it finds its own work done, finishes what is half done, or begins anew,
//! and answers the same.

mod lease;
mod outcome;
mod owners;
mod seal;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::care::{BackupKey, CollectTerms, VerifyLevel};
use crate::compression::CompressionLevel;
use crate::id::{
    AccountId, BackupId, ImageId, InstanceId, InstanceSnapshotId, SnapshotId, TargetId, VaultId,
    VolumeId,
};
use crate::instance::{MachineDisk, MachineOrder, StopMode};
use crate::item::FreezePolicy;
use crate::refusal::ProblemCode;
use crate::words::words;
use crate::{ByteCount, ErrorKind, Timestamp};

pub use lease::{Assignment, Directive, Report};
pub use outcome::TaskOutcome;
pub use seal::SealPoint;

words! {
    /// What an uploaded image is declared to be. It is never guessed.
    ImageFormat {
        /// The bytes of the disk, one after the other.
        Raw = "raw",
        /// QEMU's format.
        Qcow2 = "qcow2",
    }
}

/// The vault that a task works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VaultRef {
    /// The target that holds it.
    pub target_id: TargetId,
    /// The vault in it.
    pub vault_id: VaultId,
    /// Whose vault it is; what its keys are derived for.
    pub account_id: AccountId,
}

/// What a clone is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloneSource {
    /// A snapshot.
    Snapshot(SnapshotId),
    /// A volume as it is now.
    Volume(VolumeId),
}

/// One piece of work. Ids are made by the control plane, so that doing it twice is doing it once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum TaskSpec {
    /// Make an empty volume.
    VolumeCreate {
        /// The new volume.
        volume_id: VolumeId,
        /// Its size.
        size: ByteCount,
    },
    /// Make a volume from an upload in the node's upload folder.
    VolumeImport {
        /// The new volume.
        volume_id: VolumeId,
        /// The upload's name in that folder: an id that the server made.
        upload: uuid::Uuid,
        /// What it was declared to be.
        format: ImageFormat,
        /// The largest size that the volume may have.
        max_size: ByteCount,
    },
    /// Make a volume larger.
    VolumeResize {
        /// The volume.
        volume_id: VolumeId,
        /// Its new size.
        size: ByteCount,
    },
    /// Make a volume that starts as a copy.
    VolumeClone {
        /// The new volume.
        volume_id: VolumeId,
        /// What it starts as.
        source: CloneSource,
    },
    /// Make a volume that starts as an image: a linked clone, whatever the size.
    VolumeFromImage {
        /// The new volume.
        volume_id: VolumeId,
        /// The image, which is in the pool.
        image_id: ImageId,
        /// The volume's size: that of the image, or more.
        size: ByteCount,
    },
    /// Delete a volume; also takes back any of the tasks that make one.
    VolumeDelete {
        /// The volume.
        volume_id: VolumeId,
    },
    /// Seal the tip under a snapshot's name.
    SnapshotSeal {
        /// The volume.
        volume_id: VolumeId,
        /// The snapshot.
        snapshot_id: SnapshotId,
        /// What is asked of a guest that has it open.
        #[serde(default)]
        freeze: FreezePolicy,
    },
    /// Seal the tips of several volumes of one pool at one instant, each under its snapshot's name.
    SnapshotSealTogether {
        /// The volumes with their snapshots.
        points: Vec<SealPoint>,
        /// What is asked of a guest that has them open.
        freeze: FreezePolicy,
    },
    /// The same, of the volumes of a machine that runs, with what its memory holds at that instant.
    SnapshotSealWithMemory {
        /// The volumes with their snapshots.
        points: Vec<SealPoint>,
        /// The whole, whose memory it is.
        instance_snapshot_id: InstanceSnapshotId,
    },
    /// Prove that the memory of an instance snapshot is what was written.
    MemoryVerify {
        /// The instance snapshot.
        instance_snapshot_id: InstanceSnapshotId,
    },
    /// Delete the memory of an instance snapshot, or what was begun of it.
    MemoryDrop {
        /// The instance snapshot.
        instance_snapshot_id: InstanceSnapshotId,
    },
    /// Prove that a snapshot's layers are whole.
    SnapshotVerify {
        /// The snapshot.
        snapshot_id: SnapshotId,
    },
    /// Take a snapshot's name off its layer.
    SnapshotDrop {
        /// The snapshot.
        snapshot_id: SnapshotId,
    },
    /// Put the volume back to a snapshot; the state before becomes the safety snapshot.
    VolumeRollBack {
        /// The volume.
        volume_id: VolumeId,
        /// The snapshot to go back to.
        snapshot_id: SnapshotId,
        /// The snapshot that keeps what was there.
        safety_id: SnapshotId,
    },
    /// Seal the tip as the source of a backup, so that the volume can go on changing.
    BackupCapture {
        /// The volume.
        volume_id: VolumeId,
        /// The backup.
        backup_id: BackupId,
        /// Back up this snapshot instead of the volume as it is now.
        snapshot_id: Option<SnapshotId>,
        /// What is asked of a guest that has it open.
        #[serde(default)]
        freeze: FreezePolicy,
    },
    /// Read the captured layer, store it in the vault, and write the manifest after the fence
    /// was confirmed.
    BackupUpload {
        /// The volume.
        volume_id: VolumeId,
        /// The backup.
        backup_id: BackupId,
        /// Where to.
        vault: VaultRef,
        /// The volume's latest backup in the same vault.
        parent: Option<BackupId>,
        /// What the vault keeps beside the data (names, as they are now), for whoever rescues it
        /// without a control plane.
        notes: BTreeMap<String, String>,
        /// How hard what is new is compressed.
        #[serde(default)]
        level: CompressionLevel,
        /// Until when it is promised to stay.
        #[serde(default)]
        keep_until: Option<Timestamp>,
    },
    /// Read the manifest back and prove that everything it names is there.
    BackupVerify {
        /// The backup.
        backup_id: BackupId,
        /// The volume it is of.
        volume_id: VolumeId,
        /// Where it is.
        vault: VaultRef,
        /// Whether to decrypt and compare every chunk, too.
        deep: bool,
    },
    /// Keep this backup's captured layer as the base of the next increment, and release the
    /// previous one's.
    BackupSettle {
        /// The volume.
        volume_id: VolumeId,
        /// The backup.
        backup_id: BackupId,
    },
    /// Take back a capture and an upload that will not be committed.
    BackupReap {
        /// The volume.
        volume_id: VolumeId,
        /// The backup.
        backup_id: BackupId,
        /// Where it went.
        vault: VaultRef,
    },
    /// Delete a backup from its vault.
    BackupDelete {
        /// The backup.
        backup_id: BackupId,
        /// The volume it is of.
        volume_id: VolumeId,
        /// Where it is.
        vault: VaultRef,
    },
    /// Make a volume from a backup, and compare it whole with the manifest.
    BackupRestore {
        /// The new volume.
        volume_id: VolumeId,
        /// The backup.
        backup_id: BackupId,
        /// The volume it is of.
        source_volume_id: VolumeId,
        /// Where it is.
        vault: VaultRef,
    },
    /// Make a volume that shows a backup at once, over a reader of it, and is filled later.
    ///
    /// What is wrong with target, key or backup is found out first, as
    /// [`BackupRestore`](Self::BackupRestore) does, and the outcome is the same:
    /// [`TaskOutcome::Volume`]. Done again, also once the volume is whole, it answers what the volume
    /// is like now.
    VolumeFillBegin {
        /// The new volume.
        volume_id: VolumeId,
        /// The backup.
        backup_id: BackupId,
        /// The volume it is of.
        source_volume_id: VolumeId,
        /// Where it is.
        vault: VaultRef,
    },
    /// Fill a volume from the backup that it shows, compare it whole with the manifest, and have it
    /// stand on its own.
    ///
    /// It may take hours and holds nothing meanwhile: the volume is opened, closed and deleted beside
    /// it. The outcome is [`TaskOutcome::Volume`] once the volume is whole, also when it was before,
    /// and [`TaskOutcome::Done`] when there is no such volume (any more). One that is cancelled or
    /// fails leaves a volume that shows its backup as before, and is given again.
    VolumeFill {
        /// The volume.
        volume_id: VolumeId,
    },
    /// Give a volume the content of another that was staged for it; what was there becomes the
    /// safety snapshot, and the staged volume is no more.
    VolumeSwitch {
        /// The volume.
        volume_id: VolumeId,
        /// The volume that was staged.
        staged_id: VolumeId,
        /// The snapshot that keeps what was there.
        safety_id: SnapshotId,
    },
    /// Say what a volume is like now, and whether a snapshot exists: how the control plane
    /// learns whether a change happened whose worker was lost.
    VolumeInspect {
        /// The volume.
        volume_id: VolumeId,
        /// The snapshot that exists only if the change happened.
        witness: Option<SnapshotId>,
    },
    /// Run an instance's machine. One that runs, or is paused, is left as it is.
    InstanceStart {
        /// The instance.
        instance_id: InstanceId,
        /// What its machine is made of.
        machine: MachineOrder,
        /// It goes on from the memory of this instance snapshot, of which its disks are.
        #[serde(default)]
        memory: Option<InstanceSnapshotId>,
    },
    /// Stop an instance's machine. One that is off is left as it is.
    InstanceStop {
        /// The instance.
        instance_id: InstanceId,
        /// How.
        mode: StopMode,
    },
    /// Have an instance's machine stand still.
    InstancePause {
        /// The instance.
        instance_id: InstanceId,
    },
    /// Have an instance's machine go on.
    InstanceResume {
        /// The instance.
        instance_id: InstanceId,
    },
    /// End an instance's machine and remove what is left of it. Its volumes stay.
    InstanceRemove {
        /// The instance.
        instance_id: InstanceId,
    },
    /// Give a machine a volume, if it runs.
    VolumePlug {
        /// The instance.
        instance_id: InstanceId,
        /// The volume, in its place.
        disk: MachineDisk,
    },
    /// Take a volume from a machine, if it runs. The guest lets go of it first.
    VolumeUnplug {
        /// The instance.
        instance_id: InstanceId,
        /// The volume.
        volume_id: VolumeId,
    },
    /// Say what an instance's machine does, and which volumes it has open: how the control plane
    /// learns whether a change happened whose worker was lost.
    InstanceInspect {
        /// The instance.
        instance_id: InstanceId,
    },
    /// Do several tasks, one after the other.
    All {
        /// The tasks.
        tasks: Vec<TaskSpec>,
    },
    /// Join layers that no name keeps apart, and remove files of runs that are over.
    PoolTidy,
    /// Take the collection of a vault as far as it goes.
    VaultCollect {
        /// The vault.
        vault: VaultRef,
        /// What it may do.
        terms: CollectTerms,
        /// Backups that must be in the vault. One that lacks any of them is not collected.
        known: Vec<BackupKey>,
        /// Backups whose runs are over: what they left is taken back first.
        reap: Vec<BackupKey>,
    },
    /// Prove backups of a vault, and say exactly what is affected by what is bad.
    VaultVerify {
        /// The vault.
        vault: VaultRef,
        /// How deep.
        level: VerifyLevel,
        /// Which backups.
        backups: Vec<BackupKey>,
        /// The vault in another target with the same backups under the same ids: what is damaged is repaired from
        /// it, too.
        #[serde(default)]
        twin: Option<VaultRef>,
    },
    /// Look at the small objects of a vault, and make anew what rotted of them.
    VaultMend {
        /// The vault.
        vault: VaultRef,
    },
    /// Copy backups of a vault into one of the same id in another target.
    VaultCopy {
        /// The vault.
        from: VaultRef,
        /// Where the copies are; made when it is not there.
        to: VaultRef,
        /// Which backups, the oldest first.
        backups: Vec<BackupKey>,
        /// Backups that were deleted long ago: their copies are deleted.
        delete: Vec<BackupKey>,
    },
}

/// A task that failed, as the control plane hears of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFailure {
    /// What to do about it.
    pub kind: ErrorKind,
    /// The code that the customer sees.
    pub code: ProblemCode,
    /// The sentence that the customer reads: no path, no id of anybody else.
    pub text: String,
    /// What an operator reads.
    pub detail: String,
}
