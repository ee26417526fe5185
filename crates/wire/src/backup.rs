//! Backups.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stillpoint_model::id::{BackupId, OperationId, TargetId, VolumeId};
use stillpoint_model::name::Name;
use stillpoint_model::{ByteCount, Timestamp, backup};
use utoipa::ToSchema;

use crate::item::{Consistency, ItemContext, ItemSizes, ItemState, Trigger, labels};
use crate::operation::ActiveOperation;
use crate::permission::Permission;
use crate::volume::Confirmations;

/// An independent copy of a volume at a point in time, in a backup target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Backup {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: BackupId,
    /// Given, or generated.
    #[schema(value_type = String)]
    pub name: Name,
    /// Free text.
    pub description: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// The volume it was made of.
    #[schema(value_type = String, format = "uuid")]
    pub volume_id: VolumeId,
    /// That volume's name at capture.
    #[schema(value_type = String)]
    pub volume_name: Name,
    /// Whether that volume still exists.
    pub source_exists: bool,
    /// Where its data is.
    #[schema(value_type = String, format = "uuid")]
    pub target_id: TargetId,
    /// The name of that target.
    pub target: String,
    /// How far it is.
    pub state: ItemState,
    /// What its content promises; null until captured.
    pub consistency: Option<Consistency>,
    /// Who asked for it.
    pub trigger: Trigger,
    /// Its five sizes.
    pub sizes: ItemSizes,
    /// Bytes read from the volume to make it.
    #[schema(value_type = u64)]
    pub bytes_read: ByteCount,
    /// Hex of the hash over the whole volume.
    pub content_hash: Option<String>,
    /// When its data was last proved.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub verified_at: Option<Timestamp>,
    /// How long its creation took.
    pub duration_ms: Option<i64>,
    /// Protected items are neither deleted nor rotated.
    pub protected: bool,
    /// Until when nobody can delete it, because the plan promised that it stays.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub keep_until: Option<Timestamp>,
    /// Why it failed.
    pub failure: Option<String>,
    /// The operation that makes, verifies or deletes it.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub operation_id: Option<OperationId>,
    /// When it was asked for.
    #[schema(value_type = String, format = "date-time")]
    pub created_at: Timestamp,
    /// Grows with each change; quoted, it is the `ETag`.
    pub version: i64,
    /// The operation that makes, reads or deletes it now.
    pub active_operation: Option<ActiveOperation>,
    /// What a person does before something is lost.
    pub confirm: Confirmations,
    /// What may be done with it now.
    pub actions: Vec<Permission>,
}

impl Backup {
    /// From the model, and what the server knows beside it.
    pub fn new(backup: backup::Backup, target: String, context: ItemContext) -> Self {
        let backup::Backup {
            id,
            account_id: _,
            project_id: _,
            target_id,
            volume_id,
            volume_name,
            name,
            description,
            labels,
            state,
            consistency,
            trigger,
            sizes,
            bytes_read,
            content_hash,
            verified_at,
            duration_ms,
            protected,
            keep_until,
            failure,
            operation_id,
            created_at,
            version,
        } = backup;
        Self {
            id,
            name,
            description,
            labels,
            volume_id,
            volume_name,
            source_exists: context.source_exists,
            target_id,
            target,
            state: state.into(),
            consistency: consistency.map(Into::into),
            trigger: trigger.into(),
            sizes: sizes.into(),
            bytes_read,
            content_hash,
            verified_at,
            duration_ms,
            protected,
            keep_until,
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

/// A request for a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupCreate {
    /// The volume, by id or name.
    pub volume: String,
    /// Back up this snapshot of it, by id or name, instead of the volume as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
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
}

/// A request to prove a backup's data again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupVerify {
    /// Whether to decrypt and compare every chunk, too.
    #[serde(default)]
    pub deep: bool,
}
