//! Instances, and the flavors they are made of.

use serde::{Deserialize, Serialize};
use stillpoint_model::id::{InstanceId, PoolId, VolumeId};
use stillpoint_model::name::Name;
use stillpoint_model::operation::Operation;
use stillpoint_model::{ByteCount, Timestamp, instance, plan, volume};
use utoipa::ToSchema;

use crate::operation::ActiveOperation;
use crate::permission::Permission;
use crate::restore::RestoreSource;
use crate::volume::{Confirmation, VolumeRole, VolumeState};
use crate::words::words;

words! {
    /// What an instance is good for right now.
    InstanceState = instance::InstanceState {
        /// Its volumes and its machine are being made.
        Provisioning = "provisioning",
        /// Its machine runs, or is paused.
        Active = "active",
        /// Its machine is off.
        Stopped = "stopped",
        /// Its volumes are being put back.
        Rebuilding = "rebuilding",
        /// It could not be made, or its deletion did not end; the reason is recorded.
        Failed = "failed",
        /// On its way out.
        Deleting = "deleting",
    }
}

words! {
    /// What an instance's machine does.
    Power = instance::Power {
        /// No machine has the volumes open.
        Off = "off",
        /// It runs.
        Running = "running",
        /// It stands still, with its volumes open and its memory kept.
        Paused = "paused",
    }
}

/// What an instance is made of, as operators offer it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Flavor {
    /// Its name, such as `small`.
    #[schema(value_type = String)]
    pub name: Name,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory.
    #[schema(value_type = u64)]
    pub memory_bytes: ByteCount,
    /// The label of its GPU, such as `H100-SXM5-80GB`; null without one.
    pub gpu: Option<String>,
}

impl From<instance::Flavor> for Flavor {
    fn from(flavor: instance::Flavor) -> Self {
        let instance::Flavor {
            name,
            vcpus,
            memory_bytes,
            gpu,
        } = flavor;
        Self {
            name,
            vcpus,
            memory_bytes,
            gpu,
        }
    }
}

/// A volume as its instance has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceVolume {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: VolumeId,
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// Root or data.
    pub role: VolumeRole,
    /// Its place in the instance, which it keeps: 0 is what the machine boots from.
    pub place: u32,
    /// What the guest sees as its size.
    #[schema(value_type = u64)]
    pub size_bytes: ByteCount,
    /// What it is good for.
    pub state: VolumeState,
}

impl From<volume::Volume> for InstanceVolume {
    fn from(volume: volume::Volume) -> Self {
        Self {
            place: volume.own_instance().map_or(0, |own| own.place),
            id: volume.id,
            name: volume.name,
            role: volume.role.into(),
            size_bytes: volume.size,
            state: volume.state.into(),
        }
    }
}

/// A virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Instance {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: InstanceId,
    /// Unique among the project's live instances; the guest's host name is made of it.
    #[schema(value_type = String)]
    pub name: Name,
    /// What it is good for.
    pub state: InstanceState,
    /// What its machine does: a paused instance is `active`, too.
    pub power: Power,
    /// Whether its first set-up is over: the guest agent answered once, or it has run for long
    /// enough.
    pub ready: bool,
    /// How busy its processors were lately, in percent of all of them; null when unknown.
    #[schema(maximum = 100)]
    pub load_percent: Option<u8>,
    /// What it was made of. Later changes of the flavor do not reach it.
    pub flavor: Flavor,
    /// Its volumes, the root first.
    pub volumes: Vec<InstanceVolume>,
    /// The one operation that may change it now.
    pub active_operation: Option<ActiveOperation>,
    /// What a person does before it is deleted.
    pub confirm_delete: Confirmation,
    /// The pool that its new volumes go to.
    #[schema(value_type = String, format = "uuid")]
    pub pool_id: PoolId,
    /// That pool's name.
    pub pool: String,
    /// The name of the node that runs it.
    pub node: String,
    /// The name of its region.
    pub region: String,
    /// Why it failed, or why its machine stopped or stands still without being asked.
    pub failure: Option<String>,
    /// When it was asked for.
    #[schema(value_type = String, format = "date-time")]
    pub created_at: Timestamp,
    /// Since when its machine runs; null while it is off.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub started_at: Option<Timestamp>,
    /// Grows with each change; quoted, it is the `ETag`.
    pub version: i64,
    /// What may be done with it now, and why not.
    pub actions: Vec<Permission>,
}

/// What the server knows of an instance beside the instance itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceContext {
    /// Its volumes, the root first.
    pub volumes: Vec<volume::Volume>,
    /// What holds it.
    pub active_operation: Option<Operation>,
    /// What a person does before something is lost.
    pub confirm: plan::Confirmations,
    /// The name of its pool.
    pub pool: String,
    /// The name of its node.
    pub node: String,
    /// The name of its region.
    pub region: String,
    /// What may be done with it now.
    pub actions: Vec<Permission>,
}

impl Instance {
    /// From the model, and what the server knows beside it.
    pub fn new(instance: instance::Instance, context: InstanceContext) -> Self {
        let instance::Instance {
            id,
            account_id: _,
            project_id: _,
            pool_id,
            name,
            flavor,
            state,
            power,
            ready,
            load,
            next_place: _,
            active_operation: _,
            failure,
            created_at,
            started_at,
            version,
        } = instance;
        Self {
            id,
            name,
            state: state.into(),
            power: power.into(),
            ready,
            load_percent: load.map(instance::Load::as_percent),
            flavor: flavor.into(),
            volumes: context.volumes.into_iter().map(Into::into).collect(),
            active_operation: context.active_operation.as_ref().map(Into::into),
            confirm_delete: context.confirm.delete.into(),
            pool_id,
            pool: context.pool,
            node: context.node,
            region: context.region,
            failure,
            created_at,
            started_at,
            version,
            actions: context.actions,
        }
    }
}

/// A volume of a new instance: a new one, empty of `size_bytes`, a copy of `source` or started from
/// `image`, or one that exists, `volume`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InstanceDisk {
    /// A new volume's name; made of the instance's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Make an empty volume of this size: whole MiB. With `image` a size not less than the image's,
    /// which it is when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub size_bytes: Option<ByteCount>,
    /// Make a volume of this snapshot or backup. One of an instance's volumes at most, and none
    /// beside one of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<RestoreSource>,
    /// Use the volume before all of the backup is there: it shows the backup, and is filled from it
    /// while the instance runs. Only with a `source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instant: Option<bool>,
    /// Make a volume that starts as this image, by id or name. One of an instance's volumes at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Take this volume, by id or name, which must be attached to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
}

/// A request for an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InstanceCreate {
    /// Its name, unique among the project's instances; generated when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The name of its flavor; the first one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<String>,
    /// Its pool, by id or name. When absent that of what the root comes from, or the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// What it boots from.
    pub root: InstanceDisk,
    /// Its other volumes, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<InstanceDisk>,
    /// Whether it is started, too; true when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<bool>,
}

/// What people edit on an instance. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InstancePatch {
    /// A new name. The guest keeps its host name until it starts again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// How an instance is stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopHow {
    /// The guest is asked to shut down.
    #[default]
    Graceful,
    /// Its power is cut at once, as if its cable were pulled.
    Forced,
}

/// The end of what an instance's guest wrote to its serial console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceConsole {
    /// At most 64 KiB, the newest last: text, line ends and tabs, without escape sequences. Empty
    /// when the guest never ran.
    pub text: String,
}

/// A request to stop an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InstanceStop {
    /// Graceful or forced; graceful when absent.
    #[serde(default)]
    pub how: StopHow,
    /// How long the guest may take to shut down, in seconds, 1 to 600; 60 when absent. Only with
    /// `graceful`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 600)]
    pub bound_s: Option<u32>,
    /// Whether its power is cut when the guest took longer; true when absent. Otherwise it runs
    /// on, and the operation fails. Only with `graceful`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then_force: Option<bool>,
}
