//! Volumes.

use serde::{Deserialize, Serialize};
use stillpoint_model::id::{BackupId, InstanceId, PoolId, VolumeId};
use stillpoint_model::item::RestorePointId;
use stillpoint_model::name::Name;
use stillpoint_model::operation::Operation;
use stillpoint_model::{ByteCount, Timestamp, guard, plan, volume};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::operation::{ActiveOperation, Progress};
use crate::permission::Permission;
use crate::upload::UploadSource;
use crate::words::words;

words! {
    /// What a volume is good for right now.
    VolumeState = volume::VolumeState {
        /// Its storage is being made.
        Creating = "creating",
        /// Ready, attached to nothing.
        Available = "available",
        /// Attached to an instance.
        InUse = "in-use",
        /// On its way out.
        Deleting = "deleting",
        /// It could not be made, or its storage is damaged; the reason is recorded.
        Failed = "failed",
    }
}

words! {
    /// What a volume is for in its instance.
    VolumeRole = volume::VolumeRole {
        /// The disk an instance boots from.
        Root = "root",
        /// Any other disk.
        Data = "data",
    }
}

words! {
    /// Whether the instance that a volume is attached to runs.
    AttachedState = volume::AttachedState {
        /// The instance runs and has the volume open.
        Running = "running",
        /// The instance is shut off.
        Stopped = "stopped",
    }
}

words! {
    /// What a person does before something is lost.
    Confirmation = plan::Confirmation {
        /// Press a button.
        Click = "click",
        /// Type the name.
        TypeName = "type_name",
    }
}

/// The instance that has a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attachment {
    /// The instance's name.
    pub instance: String,
    /// Its id; null for an instance that the provider's orchestrator reported and runs.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub instance_id: Option<InstanceId>,
    /// The volume's place in the instance, 0 for what it boots from; null where `instance_id` is.
    pub place: Option<u32>,
    /// Whether it runs.
    pub state: AttachedState,
}

impl From<volume::Attachment> for Attachment {
    fn from(attachment: volume::Attachment) -> Self {
        let volume::Attachment {
            instance,
            state,
            own,
        } = attachment;
        Self {
            instance: instance.into(),
            instance_id: own.map(|own| own.id),
            place: own.map(|own| own.place),
            state: state.into(),
        }
    }
}

/// What the provider's orchestrator says of the instance of its own that has a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachmentReport {
    /// The instance's name.
    pub instance: String,
    /// Whether it runs.
    pub state: AttachedState,
}

/// What a volume's first content came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
pub enum VolumeOrigin {
    /// A snapshot.
    Snapshot(Uuid),
    /// A backup.
    Backup(Uuid),
    /// Another volume, as it was at that moment.
    Volume(Uuid),
    /// A disk that was uploaded.
    Upload,
    /// An image.
    Image(Uuid),
}

impl From<volume::VolumeOrigin> for VolumeOrigin {
    fn from(origin: volume::VolumeOrigin) -> Self {
        match origin {
            volume::VolumeOrigin::RestorePoint(RestorePointId::Snapshot(id)) => {
                Self::Snapshot(id.as_uuid())
            }
            volume::VolumeOrigin::RestorePoint(RestorePointId::Backup(id)) => {
                Self::Backup(id.as_uuid())
            }
            volume::VolumeOrigin::Volume(id) => Self::Volume(id.as_uuid()),
            volume::VolumeOrigin::Upload => Self::Upload,
            volume::VolumeOrigin::Image(id) => Self::Image(id.as_uuid()),
        }
    }
}

/// How many items may be kept of one volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Caps {
    /// Snapshots.
    pub max_snapshots: u32,
    /// Backups.
    pub max_backups: u32,
}

impl From<plan::Caps> for Caps {
    fn from(caps: plan::Caps) -> Self {
        let plan::Caps {
            max_snapshots,
            max_backups,
            // It is the account's.
            max_images: _,
        } = caps;
        Self {
            max_snapshots,
            max_backups,
        }
    }
}

/// What a person does before something is lost, per action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Confirmations {
    /// Before the volume is overwritten.
    pub restore_in_place: Confirmation,
    /// Before an item or the volume is deleted.
    pub delete: Confirmation,
}

impl From<plan::Confirmations> for Confirmations {
    fn from(confirm: plan::Confirmations) -> Self {
        let plan::Confirmations {
            restore_in_place,
            delete,
        } = confirm;
        Self {
            restore_in_place: restore_in_place.into(),
            delete: delete.into(),
        }
    }
}

/// How a volume becomes whole that is used already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Filling {
    /// The backup that it is filled from.
    #[schema(value_type = String, format = "uuid")]
    pub backup_id: BackupId,
    /// How far it is; null while it waits.
    pub progress: Option<Progress>,
    /// Why the last attempt failed. Another follows by itself.
    pub failure: Option<String>,
}

impl Filling {
    fn new(backup_id: BackupId, fill: Option<volume::Fill>) -> Self {
        let (progress, failure) = fill.map_or((None, None), |fill| (fill.progress, fill.failure));
        Self {
            backup_id,
            progress: progress.map(Into::into),
            failure,
        }
    }
}

/// A block device of one pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Volume {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: VolumeId,
    /// Unique among the project's live volumes.
    #[schema(value_type = String)]
    pub name: Name,
    /// Root or data.
    pub role: VolumeRole,
    /// What a guest sees as its size.
    #[schema(value_type = u64)]
    pub size_bytes: ByteCount,
    /// Bytes that it alone or with others occupies in the pool.
    #[schema(value_type = u64)]
    pub used_bytes: ByteCount,
    /// What it is good for.
    pub state: VolumeState,
    /// The instance that has it.
    pub attachment: Option<Attachment>,
    /// What its first content came from; null for an empty volume.
    pub origin: Option<VolumeOrigin>,
    /// The backup that it shows, and is still being filled from; null when it is whole.
    pub filling: Option<Filling>,
    /// The one operation that may change it now.
    pub active_operation: Option<ActiveOperation>,
    /// No new operation before this time.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub cooldown_until: Option<Timestamp>,
    /// Whole seconds until then, zero when it is over.
    pub cooldown_remaining_s: u64,
    /// Snapshots that count toward the cap.
    pub snapshots: u32,
    /// Backups that count toward the cap.
    pub backups: u32,
    /// How many may be kept.
    pub caps: Caps,
    /// What a person does before something is lost.
    pub confirm: Confirmations,
    /// The name of its plan.
    pub plan: String,
    /// How hard that plan compresses its backups: a level of zstd, 1 to 19.
    pub compression_level: u8,
    /// For how long, in seconds, its backups cannot be deleted; null: that plan promises nothing.
    pub keep_backups_s: Option<u32>,
    /// The pool that holds it.
    #[schema(value_type = String, format = "uuid")]
    pub pool_id: PoolId,
    /// That pool's name.
    pub pool: String,
    /// The region of that pool.
    pub region: String,
    /// Why it failed.
    pub failure: Option<String>,
    /// When it was asked for.
    #[schema(value_type = String, format = "date-time")]
    pub created_at: Timestamp,
    /// Grows with each change; quoted, it is the `ETag`.
    pub version: i64,
    /// What may be done with it now, and why not.
    pub actions: Vec<Permission>,
}

/// What the server knows of a volume beside the volume itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeContext {
    /// The time of the view.
    pub now: Timestamp,
    /// How the filling of it is.
    pub fill: Option<volume::Fill>,
    /// What holds it.
    pub active_operation: Option<Operation>,
    /// Snapshots that count toward the cap.
    pub snapshots: u32,
    /// Backups that count toward the cap.
    pub backups: u32,
    /// How many may be kept.
    pub caps: plan::Caps,
    /// What a person does before something is lost.
    pub confirm: plan::Confirmations,
    /// The name of its plan.
    pub plan: String,
    /// How hard that plan compresses its backups.
    pub compression_level: u8,
    /// For how long its backups cannot be deleted.
    pub keep_backups_s: Option<u32>,
    /// The name of its pool.
    pub pool: String,
    /// The name of its region.
    pub region: String,
    /// What may be done with it now.
    pub actions: Vec<Permission>,
}

impl Volume {
    /// From the model, and what the server knows beside it.
    pub fn new(volume: volume::Volume, context: VolumeContext) -> Self {
        let volume::Volume {
            id,
            account_id: _,
            project_id: _,
            pool_id,
            plan_id: _,
            name,
            role,
            size,
            state,
            attachment,
            origin,
            filling,
            active_operation: _,
            cooldown_until,
            tip: _,
            used,
            failure,
            created_at,
            version,
        } = volume;
        Self {
            id,
            name,
            role: role.into(),
            size_bytes: size,
            used_bytes: used,
            state: state.into(),
            attachment: attachment.map(Into::into),
            origin: origin.map(Into::into),
            filling: filling.map(|backup| Filling::new(backup, context.fill)),
            active_operation: context.active_operation.as_ref().map(Into::into),
            cooldown_until,
            cooldown_remaining_s: guard::cooldown_left(cooldown_until, context.now).as_secs(),
            snapshots: context.snapshots,
            backups: context.backups,
            caps: context.caps.into(),
            confirm: context.confirm.into(),
            plan: context.plan,
            compression_level: context.compression_level,
            keep_backups_s: context.keep_backups_s,
            pool_id,
            pool: context.pool,
            region: context.region,
            failure,
            created_at,
            version,
            actions: context.actions,
        }
    }
}

/// A request for a volume: an empty one of `size_bytes`, one that starts as `image`, or one made of
/// `upload`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeCreate {
    /// Its name, unique among the project's volumes.
    pub name: String,
    /// Root or data. When absent root with `image`, otherwise data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<VolumeRole>,
    /// Its size: whole MiB. With `image` that of the image, when absent, or a larger one; absent
    /// with `upload`, which brings its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub size_bytes: Option<ByteCount>,
    /// The image that it starts as, by id or name: a linked clone, at once, whatever the size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The upload that it is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<UploadSource>,
    /// Its pool, by id or name. When absent that of the image, or the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// What people edit on a volume. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumePatch {
    /// A new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A request to make a volume larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeResize {
    /// Its new size.
    #[schema(value_type = u64)]
    pub size_bytes: ByteCount,
}

/// A request for a volume that starts as a copy of another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeClone {
    /// The new volume's name; generated when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A request to attach a volume to an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeAttach {
    /// The instance, by id or name.
    pub instance: String,
}
