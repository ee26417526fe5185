//! Snapshots: points in time of one volume, on the volume's own storage.

use std::collections::BTreeMap;

use crate::Timestamp;
use crate::id::{
    AccountId, InstanceSnapshotId, LayerId, OperationId, PoolId, ProjectId, SnapshotId, VolumeId,
};
use crate::item::{Consistency, ItemSizes, ItemState, Trigger};
use crate::name::Name;

/// A point in time of one volume, on the volume's own storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Whose it is.
    pub account_id: AccountId,
    /// The project it is listed in.
    pub project_id: ProjectId,
    /// The pool that holds its layers.
    pub pool_id: PoolId,
    /// The volume it was taken of, which may be gone.
    pub volume_id: VolumeId,
    /// That volume's name at capture.
    pub volume_name: Name,
    /// The instance snapshot that it is part of, and goes with.
    pub instance_snapshot_id: Option<InstanceSnapshotId>,
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
    /// Its five sizes.
    pub sizes: ItemSizes,
    /// The sealed layer that holds its content.
    pub layer: Option<LayerId>,
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
    /// When it goes by itself (safety snapshots).
    pub expires_at: Option<Timestamp>,
    /// Grows with each change; the strong `ETag`.
    pub version: i64,
}
