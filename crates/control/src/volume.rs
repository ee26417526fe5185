//! Volumes.

use serde::Serialize;
use stillpoint_model::account::Actor;
use stillpoint_model::name::Name;
use stillpoint_model::operation::Operation;
use stillpoint_model::place::Pool;
use stillpoint_model::plan::{Caps, Confirmations};
use stillpoint_model::task::ImageFormat;
use stillpoint_model::volume::{Attachment, Volume, VolumeRole};
use stillpoint_model::{ByteCount, Timestamp};
use uuid::Uuid;

use crate::error::Result;
use crate::{Answer, Change, Context, ListQuery, Page, Permission, Reference};

/// A volume, and what goes with it.
#[derive(Clone, Debug)]
pub struct VolumeView {
    /// The volume.
    pub volume: Volume,
    /// What holds it.
    pub active_operation: Option<Operation>,
    /// Snapshots that count toward the cap.
    pub snapshots: u32,
    /// Backups that count toward the cap.
    pub backups: u32,
    /// How many may be kept.
    pub caps: Caps,
    /// What a person does before something is lost.
    pub confirm: Confirmations,
    /// The name of its plan.
    pub plan_name: String,
    /// The name of its pool.
    pub pool_name: Name,
    /// The name of its region.
    pub region_name: Name,
    /// What may be done with it now.
    pub permissions: Vec<Permission>,
    /// The time of the view.
    pub now: Timestamp,
}

/// Which volumes.
#[derive(Clone, Debug, Default)]
pub struct VolumeQuery {
    /// Which page.
    pub page: ListQuery,
}

/// A request for an empty volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeCreate {
    /// Its name.
    pub name: Name,
    /// Its size: whole MiB.
    pub size: ByteCount,
    /// Root or data.
    pub role: VolumeRole,
    /// Its pool; the first one when absent.
    pub pool: Option<Reference>,
}

/// A request for a volume made of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeImport {
    /// Its name.
    pub name: Name,
    /// Root or data.
    pub role: VolumeRole,
    /// The upload, which must be the account's own, complete and unused.
    pub upload: Uuid,
    /// What it is. It is never guessed.
    pub format: ImageFormat,
    /// Its pool; the first one when absent.
    pub pool: Option<Reference>,
}

/// What may be chosen for a new volume.
#[derive(Clone, Debug)]
pub struct VolumeOptions {
    /// The pools to choose from; the first is taken when none is named.
    pub pools: Vec<Pool>,
    /// Whether a volume may be made or imported now.
    pub permissions: Vec<Permission>,
    /// The largest size.
    pub max_size: ByteCount,
}

/// A page of the account's volumes, newest first.
pub async fn list(cx: &Context, actor: &Actor, query: &VolumeQuery) -> Result<Page<VolumeView>> {
    let _ = (cx, actor, query);
    todo!()
}

/// One volume.
pub async fn show(cx: &Context, actor: &Actor, volume: &Reference) -> Result<VolumeView> {
    let _ = (cx, actor, volume);
    todo!()
}

/// What may be chosen for a new volume.
pub async fn options(cx: &Context, actor: &Actor) -> Result<VolumeOptions> {
    let _ = (cx, actor);
    todo!()
}

/// Makes an empty volume.
pub async fn create(
    cx: &Context,
    actor: &Actor,
    request: VolumeCreate,
    change: &Change,
) -> Result<Answer> {
    let _ = (cx, actor, request, change);
    todo!()
}

/// Makes a volume from an upload.
pub async fn import(
    cx: &Context,
    actor: &Actor,
    request: VolumeImport,
    change: &Change,
) -> Result<Answer> {
    let _ = (cx, actor, request, change);
    todo!()
}

/// Makes a volume that starts as a copy of another as it is now. Its name is generated when
/// absent.
pub async fn clone(
    cx: &Context,
    actor: &Actor,
    source: &Reference,
    name: Option<Name>,
    change: &Change,
) -> Result<Answer> {
    let _ = (cx, actor, source, name, change);
    todo!()
}

/// Makes a volume larger.
pub async fn resize(
    cx: &Context,
    actor: &Actor,
    volume: &Reference,
    size: ByteCount,
    change: &Change,
) -> Result<Answer> {
    let _ = (cx, actor, volume, size, change);
    todo!()
}

/// Renames a volume.
pub async fn rename(
    cx: &Context,
    actor: &Actor,
    volume: &Reference,
    name: Name,
    change: &Change,
) -> Result<VolumeView> {
    let _ = (cx, actor, volume, name, change);
    todo!()
}

/// Deletes a volume. `confirm` is its name, typed, where the plan asks for that.
pub async fn delete(
    cx: &Context,
    actor: &Actor,
    volume: &Reference,
    confirm: Option<&str>,
    change: &Change,
) -> Result<Answer> {
    let _ = (cx, actor, volume, confirm, change);
    todo!()
}

/// Records which instance has a volume, and whether it runs: the word of the provider's
/// orchestrator, so for administrators alone, and for volumes of any account by id.
pub async fn set_attachment(
    cx: &Context,
    actor: &Actor,
    volume: &Reference,
    attachment: Option<Attachment>,
    change: &Change,
) -> Result<VolumeView> {
    let _ = (cx, actor, volume, attachment, change);
    todo!()
}
