//! What can be asked of a tree.

use super::VolumeOrigin;
use crate::ByteCount;
use crate::id::{BackupId, LayerId, SnapshotId, VolumeId};
use crate::task::CloneSource;

/// What can be asked of a tree. Merges are offered by it instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Make an empty volume.
    CreateVolume {
        /// The new volume.
        volume: VolumeId,
        /// Its size.
        size: ByteCount,
    },
    /// Record that a volume is about to be made, before the layer that is written for it
    /// outside the tree becomes one.
    AnnounceVolume {
        /// The new volume.
        volume: VolumeId,
        /// What it is made of.
        origin: VolumeOrigin,
    },
    /// Make an announced volume of its layer, which belongs to the tree by now.
    AdoptLayer {
        /// The new volume.
        volume: VolumeId,
        /// The layer.
        layer: LayerId,
        /// What was written to it.
        origin: VolumeOrigin,
    },
    /// Make a volume larger.
    Resize {
        /// The volume.
        volume: VolumeId,
        /// Its new size.
        size: ByteCount,
    },
    /// Make a volume that starts as a copy.
    Clone {
        /// What it starts as.
        source: CloneSource,
        /// The new volume.
        volume: VolumeId,
    },
    /// Seal a volume's content under a snapshot's name.
    Snapshot {
        /// The volume.
        volume: VolumeId,
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// Put a volume back to one of its snapshots.
    RollBack {
        /// The volume.
        volume: VolumeId,
        /// The snapshot.
        snapshot: SnapshotId,
        /// The snapshot that keeps what was there.
        safety: SnapshotId,
    },
    /// Give a volume the content of a staged one.
    Switch {
        /// The volume.
        volume: VolumeId,
        /// The staged volume, which is no more afterwards.
        staged: VolumeId,
        /// The snapshot that keeps what was there.
        safety: SnapshotId,
    },
    /// Fix what a backup will contain.
    Capture {
        /// The volume.
        volume: VolumeId,
        /// The backup.
        backup: BackupId,
        /// This snapshot instead of the volume as it is now.
        snapshot: Option<SnapshotId>,
    },
    /// Release all captures of a volume but this one.
    SettleCapture {
        /// The volume.
        volume: VolumeId,
        /// The backup whose capture stays.
        backup: BackupId,
    },
    /// Release a capture.
    ReleaseCapture {
        /// The volume.
        volume: VolumeId,
        /// The backup.
        backup: BackupId,
    },
    /// Take a snapshot's name off its layer.
    DropSnapshot {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// Delete a volume, not its snapshots.
    DeleteVolume {
        /// The volume.
        volume: VolumeId,
    },
}

/// Ids for the layers that a plan makes, never used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreshLayers {
    /// For the first.
    pub first: LayerId,
    /// For the second; only a clone of a volume needs it.
    pub second: LayerId,
}
