//! Volumes that are sealed together.

use serde::{Deserialize, Serialize};

use crate::id::{SnapshotId, VolumeId};

/// A volume that is sealed, and the snapshot that names what it holds at that instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealPoint {
    /// The volume.
    pub volume_id: VolumeId,
    /// The snapshot.
    pub snapshot_id: SnapshotId,
}

/// All volumes, and all snapshots of them.
pub(super) fn owners_of(points: &[SealPoint]) -> Vec<uuid::Uuid> {
    let both = |point: &SealPoint| [point.volume_id.as_uuid(), point.snapshot_id.as_uuid()];
    points.iter().flat_map(both).collect()
}
