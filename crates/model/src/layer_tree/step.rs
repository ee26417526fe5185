//! The words of the tree: layers, names, steps, and what keeps a step from being planned.

use serde::{Deserialize, Serialize};

use super::VolumeRecord;
use crate::id::{BackupId, LayerId, SnapshotId, VolumeId};
use crate::{ByteCount, ErrorKind};

/// One file of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The volume whose record tells whether it is needed.
    pub owner: VolumeId,
    /// What it shows where it holds nothing itself.
    pub parent: Option<LayerId>,
    /// Its virtual size.
    pub size: ByteCount,
    /// Bytes that it occupies itself.
    pub allocated: ByteCount,
}

/// Who refers to a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerName {
    /// A volume writes to it.
    Tip(VolumeId),
    /// A snapshot is what it shows.
    Snapshot(SnapshotId),
    /// A snapshot that was taken before something was overwritten is what it shows.
    Safety(SnapshotId),
    /// A backup of a volume reads it, or the volume's next backup compares with it.
    Capture(VolumeId, BackupId),
    /// Whoever has the volume open is about to write to it, or does.
    Pending(VolumeId),
    /// It is filled from a backup, and the volume will stand on it.
    Filling(VolumeId),
}

/// One thing for a driver to do, durable before the next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a plan is a handful of steps, most of them records"
)]
pub enum Step {
    /// Make an empty layer.
    CreateLayer {
        /// The new layer.
        layer: LayerId,
        /// The volume that it is made for.
        owner: VolumeId,
        /// What it shows until it is written.
        parent: Option<LayerId>,
        /// Its virtual size.
        size: ByteCount,
    },
    /// Make a tip's virtual size larger; what is new reads as zeros.
    GrowLayer {
        /// The tip.
        layer: LayerId,
        /// Its new size.
        size: ByteCount,
    },
    /// Make a layer another volume's, atomically.
    OwnLayer {
        /// The layer.
        layer: LayerId,
        /// Its new owner.
        owner: VolumeId,
    },
    /// Replace a volume's record, atomically.
    PutRecord {
        /// The volume.
        volume: VolumeId,
        /// Its new record.
        record: VolumeRecord,
    },
    /// Remove a volume's record, atomically, once all of its layers are durably gone.
    RemoveRecord {
        /// The volume.
        volume: VolumeId,
    },
    /// Protect a layer against writes from now on.
    SealLayer {
        /// The layer.
        layer: LayerId,
    },
    /// Remove a layer that has neither name nor child.
    RemoveLayer {
        /// The layer.
        layer: LayerId,
    },
    /// The parent's and the child's content are one layer, under the child's id.
    JoinLayers {
        /// The layer that is no more.
        parent: LayerId,
        /// The layer that holds both.
        child: LayerId,
        /// What it occupies now.
        allocated: ByteCount,
    },
}

/// Which way data moves in a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The child's data down into the parent, which takes the child's place.
    Commit,
    /// The parent's data up into the child, where the child holds nothing itself.
    Stream,
}

/// A layer that no name needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeCandidate {
    /// It has no child: it can go.
    Remove {
        /// The layer.
        layer: LayerId,
    },
    /// It has one child: the two can be one.
    Merge {
        /// The layer without a name.
        parent: LayerId,
        /// Its only child.
        child: LayerId,
        /// Which way fewer bytes move.
        direction: Direction,
        /// How many that are, at most.
        bytes: ByteCount,
    },
}

impl MergeCandidate {
    /// How many bytes move, at most.
    pub const fn bytes(&self) -> ByteCount {
        match self {
            Self::Remove { .. } => ByteCount::ZERO,
            Self::Merge { bytes, .. } => *bytes,
        }
    }
}

/// Why something cannot be done to the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such volume, or only snapshots are left of it.
    #[error("there is no volume {0}")]
    NoVolume(VolumeId),
    /// There are layers of the volume and no record that says what they are.
    #[error("the record of volume {0} is lost, its layers are there")]
    RecordLost(VolumeId),
    /// The volume exists and was made of something else.
    #[error("volume {0} exists and was made differently")]
    VolumeExists(VolumeId),
    /// There is no such layer.
    #[error("there is no layer {0}")]
    NoLayer(LayerId),
    /// Nobody could find out yet whether the volume's last capture happened.
    #[error("whether the last capture of volume {0} happened is not known yet")]
    Undecided(VolumeId),
    /// There is no such snapshot.
    #[error("there is no snapshot {0}")]
    NoSnapshot(SnapshotId),
    /// The snapshot exists and is another one.
    #[error("snapshot {0} exists and was made differently")]
    SnapshotExists(SnapshotId),
    /// The snapshot belongs to another volume.
    #[error("snapshot {snapshot} is not one of volume {volume}")]
    SnapshotOfOther {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The volume that it should be of.
        volume: VolumeId,
    },
    /// The backup's capture exists and shows another layer.
    #[error("volume {volume} has another capture for backup {backup}")]
    CaptureExists {
        /// The volume.
        volume: VolumeId,
        /// The backup.
        backup: BackupId,
    },
    /// A volume does not become smaller.
    #[error("volume {volume} has {size} and does not become smaller")]
    NotLarger {
        /// The volume.
        volume: VolumeId,
        /// Its size.
        size: ByteCount,
    },
    /// The volume is not whole yet.
    #[error("volume {0} is still being filled from its backup")]
    Filling(VolumeId),
    /// A volume cannot be given its own content.
    #[error("volume {0} cannot be switched to itself")]
    SameVolume(VolumeId),
}

impl Refusal {
    /// What a caller must do about it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NoVolume(_) | Self::NoSnapshot(_) | Self::NoLayer(_) => ErrorKind::NotFound,
            Self::Undecided(_) => ErrorKind::Retry,
            Self::RecordLost(_) => ErrorKind::Corrupt,
            Self::VolumeExists(_)
            | Self::SnapshotExists(_)
            | Self::CaptureExists { .. }
            | Self::Filling(_) => ErrorKind::Conflict,
            Self::SnapshotOfOther { .. } | Self::NotLarger { .. } | Self::SameVolume(_) => {
                ErrorKind::Invalid
            }
        }
    }
}

/// What does not fit together in what a pool recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistency {
    /// A layer's parent is not there.
    #[error("layer {layer} stands on layer {parent}, which is not there")]
    NoParent {
        /// The layer.
        layer: LayerId,
        /// Its parent.
        parent: LayerId,
    },
    /// Layers stand on each other in a circle.
    #[error("layer {0} stands on itself")]
    Circle(LayerId),
    /// A name refers to a layer that is not there.
    #[error("volume {volume} refers to layer {layer}, which is not there")]
    NoLayer {
        /// The volume whose record has the name.
        volume: VolumeId,
        /// The layer.
        layer: LayerId,
    },
    /// A volume owns layers and has no record that could be read.
    #[error("volume {volume} has no readable record, and {layers} layers that it may need")]
    NoRecord {
        /// The volume.
        volume: VolumeId,
        /// How many layers it owns.
        layers: usize,
    },
    /// Something stands on a layer that a volume writes to.
    #[error("volume {volume} writes to layer {layer}, which others need unchanged")]
    SharedTip {
        /// The volume.
        volume: VolumeId,
        /// Its tip.
        layer: LayerId,
    },
}
