//! Snapshots.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stillpoint_model::id::{InstanceSnapshotId, OperationId, SnapshotId, VolumeId};
use stillpoint_model::name::Name;
use stillpoint_model::{Timestamp, snapshot};
use utoipa::ToSchema;

use crate::item::{Consistency, ItemContext, ItemSizes, ItemState, Trigger, labels};
use crate::operation::ActiveOperation;
use crate::permission::Permission;
use crate::volume::Confirmations;

/// A point in time of one volume, on the volume's own storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: SnapshotId,
    /// Given, or generated.
    #[schema(value_type = String)]
    pub name: Name,
    /// Free text.
    pub description: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// The volume it was taken of.
    #[schema(value_type = String, format = "uuid")]
    pub volume_id: VolumeId,
    /// That volume's name at capture.
    #[schema(value_type = String)]
    pub volume_name: Name,
    /// The instance snapshot that it is part of, and is deleted with.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub instance_snapshot_id: Option<InstanceSnapshotId>,
    /// Whether that volume still exists.
    pub source_exists: bool,
    /// How far it is.
    pub state: ItemState,
    /// What its content promises; null until captured.
    pub consistency: Option<Consistency>,
    /// Who asked for it.
    pub trigger: Trigger,
    /// Its five sizes.
    pub sizes: ItemSizes,
    /// How long its creation took.
    pub duration_ms: Option<i64>,
    /// Protected items are neither deleted nor rotated.
    pub protected: bool,
    /// Why it failed.
    pub failure: Option<String>,
    /// The operation that makes or deletes it.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub operation_id: Option<OperationId>,
    /// When it was asked for.
    #[schema(value_type = String, format = "date-time")]
    pub created_at: Timestamp,
    /// When it goes by itself.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub expires_at: Option<Timestamp>,
    /// Grows with each change; quoted, it is the `ETag`.
    pub version: i64,
    /// The operation that makes, reads or deletes it now.
    pub active_operation: Option<ActiveOperation>,
    /// What a person does before something is lost.
    pub confirm: Confirmations,
    /// What may be done with it now.
    pub actions: Vec<Permission>,
}

impl Snapshot {
    /// From the model, and what the server knows beside it.
    pub fn new(snapshot: snapshot::Snapshot, context: ItemContext) -> Self {
        let snapshot::Snapshot {
            id,
            account_id: _,
            project_id: _,
            pool_id: _,
            volume_id,
            volume_name,
            instance_snapshot_id,
            name,
            description,
            labels,
            state,
            consistency,
            trigger,
            sizes,
            layer: _,
            duration_ms,
            protected,
            failure,
            operation_id,
            created_at,
            expires_at,
            version,
        } = snapshot;
        Self {
            id,
            name,
            description,
            labels,
            volume_id,
            volume_name,
            instance_snapshot_id,
            source_exists: context.source_exists,
            state: state.into(),
            consistency: consistency.map(Into::into),
            trigger: trigger.into(),
            sizes: sizes.into(),
            duration_ms,
            protected,
            failure,
            operation_id,
            created_at,
            expires_at,
            version,
            active_operation: context.active_operation.as_ref().map(Into::into),
            confirm: context.confirm.into(),
            actions: context.actions,
        }
    }
}

/// A request for a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotCreate {
    /// The volume, by id or name.
    pub volume: String,
    /// Its name; generated when absent, if the plan allows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Free labels.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "labels"
    )]
    pub labels: Option<BTreeMap<String, String>>,
    /// Make an image of it at once, of this name. There are both in the end, or neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}
