//! Instance snapshots: every volume of an instance at one instant, and what it was made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stillpoint_model::id::{InstanceId, InstanceSnapshotId, OperationId, SnapshotId, VolumeId};
use stillpoint_model::name::Name;
use stillpoint_model::{ByteCount, Timestamp, instance_snapshot};
use utoipa::ToSchema;

use crate::instance::Flavor;
use crate::item::{Consistency, ItemContext, ItemSizes, ItemState, Trigger, labels};
use crate::operation::ActiveOperation;
use crate::permission::Permission;
use crate::volume::{Confirmations, VolumeRole};

/// A volume as it was part of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CapturedVolume {
    /// The volume, which may be gone.
    #[schema(value_type = String, format = "uuid")]
    pub volume_id: VolumeId,
    /// Its name at capture.
    #[schema(value_type = String)]
    pub name: Name,
    /// Root or data.
    pub role: VolumeRole,
    /// Its place in the instance; 0 is the root.
    pub place: u32,
    /// Its size at capture.
    #[schema(value_type = u64)]
    pub size_bytes: ByteCount,
    /// The snapshot of it, which restores alone, too.
    #[schema(value_type = String, format = "uuid")]
    pub snapshot_id: SnapshotId,
}

impl From<instance_snapshot::CapturedVolume> for CapturedVolume {
    fn from(captured: instance_snapshot::CapturedVolume) -> Self {
        let instance_snapshot::CapturedVolume {
            volume_id,
            name,
            role,
            place,
            size,
            snapshot_id,
        } = captured;
        Self {
            volume_id,
            name,
            role: role.into(),
            place,
            size_bytes: size,
            snapshot_id,
        }
    }
}

/// A point in time of a whole instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceSnapshot {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: InstanceSnapshotId,
    /// Given, or generated.
    #[schema(value_type = String)]
    pub name: Name,
    /// Free text.
    pub description: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// The instance it was taken of.
    #[schema(value_type = String, format = "uuid")]
    pub instance_id: InstanceId,
    /// That instance's name at capture.
    #[schema(value_type = String)]
    pub instance_name: Name,
    /// Whether that instance still exists.
    pub source_exists: bool,
    /// How far it is.
    pub state: ItemState,
    /// What its content promises: the least that one of its volumes does; null until captured.
    pub consistency: Option<Consistency>,
    /// Who asked for it.
    pub trigger: Trigger,
    /// The five sizes of its snapshots, added up.
    pub sizes: ItemSizes,
    /// How much of its machine's memory it holds, in bytes; null when it is of disks alone.
    #[schema(value_type = Option<u64>)]
    pub memory_bytes: Option<ByteCount>,
    /// What the instance was made of.
    pub flavor: Flavor,
    /// Its volumes, the root first, each with the snapshot of it.
    pub volumes: Vec<CapturedVolume>,
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
    /// Grows with each change; quoted, it is the `ETag`.
    pub version: i64,
    /// The operation that makes, reads or deletes it now, or one of its snapshots.
    pub active_operation: Option<ActiveOperation>,
    /// What a person does before something is lost.
    pub confirm: Confirmations,
    /// What may be done with it now, and why not.
    pub actions: Vec<Permission>,
}

impl InstanceSnapshot {
    /// From the model, and what the server knows beside it.
    pub fn new(row: instance_snapshot::InstanceSnapshot, context: ItemContext) -> Self {
        let instance_snapshot::InstanceSnapshot {
            id,
            account_id: _,
            project_id: _,
            pool_id: _,
            instance_id,
            instance_name,
            name,
            description,
            labels,
            state,
            consistency,
            trigger,
            sizes,
            config,
            duration_ms,
            protected,
            failure,
            operation_id,
            created_at,
            version,
            memory,
        } = row;
        Self {
            id,
            name,
            description,
            labels,
            instance_id,
            instance_name,
            source_exists: context.source_exists,
            state: state.into(),
            consistency: consistency.map(Into::into),
            trigger: trigger.into(),
            sizes: sizes.into(),
            memory_bytes: memory,
            flavor: config.flavor.into(),
            volumes: config.volumes.into_iter().map(Into::into).collect(),
            duration_ms,
            protected,
            failure,
            operation_id,
            created_at,
            version,
            active_operation: context.active_operation.as_ref().map(Into::into),
            confirm: context.confirm.into(),
            actions: context.actions,
        }
    }
}

/// A request for an instance snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InstanceSnapshotCreate {
    /// The instance, by id or name.
    pub instance: String,
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
    /// Make an image of its root volume at once, of this name. There are both in the end, or
    /// neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Whether what the machine's memory holds is captured, too, so that an instance of it goes on
    /// where it was. The instance must run. False when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with_memory: Option<bool>,
}

/// A request for a new instance of an instance snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InstanceRestore {
    /// Its name, unique among the project's instances; generated when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The name of its flavor; that of the snapshot when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<String>,
    /// Whether it is started, too; true when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<bool>,
    /// Whether it goes on from the memory that the snapshot holds, instead of booting. Its flavor must
    /// be that of the snapshot. False when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with_memory: Option<bool>,
}

/// A request to put an instance back to a snapshot of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InstanceRebuild {
    /// The instance snapshot, by id or name.
    pub instance_snapshot: String,
    /// Whether it goes on from the memory that the snapshot holds. It must have the flavor and the
    /// volumes that it had then. It stays stopped when false or absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with_memory: Option<bool>,
    /// The instance's name, typed, where the plan asks for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
}
