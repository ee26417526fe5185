//! What an order makes new content of.

use serde::{Deserialize, Serialize};

use crate::ByteCount;
use crate::id::{BackupId, ImageId, SnapshotId, VolumeId};
use crate::task::{CloneSource, ImageFormat, TaskSpec, VaultRef};

/// What a restore starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum RestoreSource {
    /// A snapshot.
    Snapshot {
        /// The snapshot.
        snapshot_id: SnapshotId,
    },
    /// A backup.
    Backup {
        /// The backup.
        backup_id: BackupId,
        /// The volume it is of.
        source_volume_id: VolumeId,
        /// Where it is.
        vault: VaultRef,
    },
}

impl RestoreSource {
    /// The task that makes a volume of it. With `instant` one of a backup is usable at once, and is
    /// filled afterwards; one of a snapshot is in any case.
    pub const fn into_volume(self, volume_id: VolumeId, instant: bool) -> TaskSpec {
        match self {
            Self::Snapshot { snapshot_id } => TaskSpec::VolumeClone {
                volume_id,
                source: CloneSource::Snapshot(snapshot_id),
            },
            Self::Backup {
                backup_id,
                source_volume_id,
                vault,
            } if instant => TaskSpec::VolumeFillBegin {
                volume_id,
                backup_id,
                source_volume_id,
                vault,
            },
            Self::Backup {
                backup_id,
                source_volume_id,
                vault,
            } => TaskSpec::BackupRestore {
                volume_id,
                backup_id,
                source_volume_id,
                vault,
            },
        }
    }

    /// The backup that a volume made of it is filled from.
    pub const fn fills(self, instant: bool) -> Option<BackupId> {
        match self {
            Self::Backup { backup_id, .. } if instant => Some(backup_id),
            Self::Backup { .. } | Self::Snapshot { .. } => None,
        }
    }
}

/// What a new volume of an instance begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "disk", rename_all = "snake_case")]
pub enum DiskSource {
    /// Nothing but zeros.
    Empty {
        /// Its size.
        size: ByteCount,
    },
    /// A snapshot or a backup.
    RestorePoint {
        /// Which.
        source: RestoreSource,
        /// Whether it is used before all of a backup is there.
        #[serde(default)]
        instant: bool,
    },
    /// An image.
    Image {
        /// Which.
        image_id: ImageId,
        /// Its size: that of the image, or more.
        size: ByteCount,
    },
}

/// What an image is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum ImageContent {
    /// A snapshot or a backup.
    RestorePoint {
        /// Which.
        source: RestoreSource,
    },
    /// A disk that was uploaded.
    Upload {
        /// The upload's name in the node's upload folder.
        upload: uuid::Uuid,
        /// What it was declared to be.
        format: ImageFormat,
        /// The largest size that the disk in it may have.
        max_size: ByteCount,
    },
}

/// A volume that an operation makes for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewDisk {
    /// The new volume.
    pub volume_id: VolumeId,
    /// What it begins with.
    pub from: DiskSource,
}

/// A volume that goes back to a snapshot of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutBack {
    /// The volume.
    pub volume_id: VolumeId,
    /// The snapshot that it goes back to.
    pub snapshot_id: SnapshotId,
    /// The snapshot that keeps what was there.
    pub safety_id: SnapshotId,
}
