//! Images.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stillpoint_model::id::{ImageId, OperationId, PoolId};
use stillpoint_model::item::RestorePointId;
use stillpoint_model::name::Name;
use stillpoint_model::operation::Operation;
use stillpoint_model::{ByteCount, Timestamp, image, plan};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::item::{Consistency, ItemState, labels};
use crate::operation::ActiveOperation;
use crate::permission::Permission;
use crate::restore::RestoreSource;
use crate::upload::UploadSource;
use crate::volume::Confirmation;

/// What an image was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
pub enum ImageOrigin {
    /// A snapshot, which may be gone.
    Snapshot(Uuid),
    /// A backup, which may be gone.
    Backup(Uuid),
    /// The root volume of an instance snapshot, which may be gone.
    InstanceSnapshot(Uuid),
    /// A disk that was uploaded.
    Upload,
}

impl From<image::ImageOrigin> for ImageOrigin {
    fn from(origin: image::ImageOrigin) -> Self {
        match origin {
            image::ImageOrigin::RestorePoint(RestorePointId::Snapshot(id)) => {
                Self::Snapshot(id.as_uuid())
            }
            image::ImageOrigin::RestorePoint(RestorePointId::Backup(id)) => {
                Self::Backup(id.as_uuid())
            }
            image::ImageOrigin::InstanceSnapshot(id) => Self::InstanceSnapshot(id.as_uuid()),
            image::ImageOrigin::Upload => Self::Upload,
        }
    }
}

/// A bootable template: new volumes and instances start from it at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Image {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: ImageId,
    /// Unique among the project's images.
    #[schema(value_type = String)]
    pub name: Name,
    /// Free text.
    pub description: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// How far it is.
    pub state: ItemState,
    /// What it was made of.
    pub origin: ImageOrigin,
    /// The name of what it was made of at the time; null for an upload.
    #[schema(value_type = Option<String>)]
    pub origin_name: Option<Name>,
    /// What its content promises; null until it is made.
    pub consistency: Option<Consistency>,
    /// The size of the disk in it; zero until it is known.
    #[schema(value_type = u64)]
    pub size_bytes: ByteCount,
    /// Bytes that it alone or with others occupies in the pool.
    #[schema(value_type = u64)]
    pub used_bytes: ByteCount,
    /// How long its creation took.
    pub duration_ms: Option<i64>,
    /// A protected image is not deleted.
    pub protected: bool,
    /// Why it failed.
    pub failure: Option<String>,
    /// The operation that makes or deletes it.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub operation_id: Option<OperationId>,
    /// An operation that makes, reads or deletes it now.
    pub active_operation: Option<ActiveOperation>,
    /// What a person does before it is deleted.
    pub confirm_delete: Confirmation,
    /// The pool that holds it, and all that is made of it.
    #[schema(value_type = String, format = "uuid")]
    pub pool_id: PoolId,
    /// That pool's name.
    pub pool: String,
    /// The name of its region.
    pub region: String,
    /// When it was asked for.
    #[schema(value_type = String, format = "date-time")]
    pub created_at: Timestamp,
    /// Grows with each change; quoted, it is the `ETag`.
    pub version: i64,
    /// What may be done with it now, and why not: `volume_create` and `instance_create` start from
    /// it.
    pub actions: Vec<Permission>,
}

/// What the server knows of an image beside the image itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageContext {
    /// An operation that makes, reads or deletes it now.
    pub active_operation: Option<Operation>,
    /// What a person does before something is lost.
    pub confirm: plan::Confirmations,
    /// The name of its pool.
    pub pool: String,
    /// The name of its region.
    pub region: String,
    /// What may be done with it now.
    pub actions: Vec<Permission>,
}

impl Image {
    /// From the model, and what the server knows beside it.
    pub fn new(image: image::Image, context: ImageContext) -> Self {
        let image::Image {
            id,
            account_id: _,
            project_id: _,
            pool_id,
            name,
            description,
            labels,
            state,
            origin,
            origin_name,
            consistency,
            size,
            used,
            layer: _,
            duration_ms,
            protected,
            failure,
            operation_id,
            created_at,
            version,
        } = image;
        Self {
            id,
            name,
            description,
            labels,
            state: state.into(),
            origin: origin.into(),
            origin_name,
            consistency: consistency.map(Into::into),
            size_bytes: size,
            used_bytes: used,
            duration_ms,
            protected,
            failure,
            operation_id,
            active_operation: context.active_operation.as_ref().map(Into::into),
            confirm_delete: context.confirm.delete.into(),
            pool_id,
            pool: context.pool,
            region: context.region,
            created_at,
            version,
            actions: context.actions,
        }
    }
}

/// A request for an image: of `source`, of `instance_snapshot`, or of `upload`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageCreate {
    /// Its name, unique among the project's images; generated when absent.
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
    /// The snapshot or backup that it is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<RestoreSource>,
    /// The instance snapshot, by id or name, whose root volume it is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_snapshot: Option<String>,
    /// The upload that it is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<UploadSource>,
    /// Its pool, by id or name. When absent that of the source, or the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}
