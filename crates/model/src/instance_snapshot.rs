//! Instance snapshots: a snapshot of every volume of an instance at one instant, and what the
//! instance was made of.
//!
//! The parts are snapshots like any other: each restores alone, to a new volume or in place, and
//! can be backed up. They are made together and go together; while the whole exists none of them is
//! deleted alone. The whole outlives the instance, and so do its parts.
//!
//! What it promises is the least that one of its parts does.
//!
//! On request it holds what the machine's memory held at that instant, so that an instance of it goes
//! on where it was. Its guest was not frozen then, so its disks alone are as after a loss of power.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{
    AccountId, InstanceId, InstanceSnapshotId, OperationId, PoolId, ProjectId, SnapshotId, VolumeId,
};
use crate::instance::Flavor;
use crate::item::{Consistency, ItemSizes, ItemState, Trigger};
use crate::name::Name;
use crate::volume::VolumeRole;
use crate::{ByteCount, Timestamp};

/// A volume as it was part of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedVolume {
    /// The volume, which may be gone.
    pub volume_id: VolumeId,
    /// Its name at capture.
    pub name: Name,
    /// Root or data.
    pub role: VolumeRole,
    /// Its place in the instance; 0 is the root.
    pub place: u32,
    /// Its size at capture.
    pub size: ByteCount,
    /// The snapshot of it.
    pub snapshot_id: SnapshotId,
}

/// What an instance was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceConfig {
    /// Its processors and memory.
    pub flavor: Flavor,
    /// Its volumes, the root first.
    pub volumes: Vec<CapturedVolume>,
}

/// A point in time of a whole instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceSnapshot {
    /// Its id.
    pub id: InstanceSnapshotId,
    /// Whose it is.
    pub account_id: AccountId,
    /// The project it is listed in.
    pub project_id: ProjectId,
    /// The pool that holds the layers of all its parts.
    pub pool_id: PoolId,
    /// The instance it was taken of, which may be gone.
    pub instance_id: InstanceId,
    /// That instance's name at capture.
    pub instance_name: Name,
    /// Given, or generated.
    pub name: Name,
    /// Free text.
    pub description: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// How far it is.
    pub state: ItemState,
    /// What its content promises; known once captured.
    pub consistency: Option<Consistency>,
    /// Who asked for it.
    pub trigger: Trigger,
    /// The five sizes of its parts, added up.
    pub sizes: ItemSizes,
    /// How much of its machine's memory is captured with it; none when it is of disks alone.
    pub memory: Option<ByteCount>,
    /// What the instance was made of.
    pub config: InstanceConfig,
    /// How long its creation took, in milliseconds.
    pub duration_ms: Option<i64>,
    /// Protected items are neither deleted nor rotated.
    pub protected: bool,
    /// Why it failed, for its owner to read.
    pub failure: Option<String>,
    /// The operation that makes or deletes it.
    pub operation_id: Option<OperationId>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Grows with each change; the strong `ETag`.
    pub version: i64,
}

impl InstanceSnapshot {
    /// The snapshots that it is made of, that of the root first.
    pub fn snapshots(&self) -> impl Iterator<Item = SnapshotId> + '_ {
        self.config.volumes.iter().map(|volume| volume.snapshot_id)
    }

    /// What the instance booted from; none when it had no root volume.
    pub fn root(&self) -> Option<&CapturedVolume> {
        self.config.volumes.iter().find(|volume| volume.place == 0)
    }
}
