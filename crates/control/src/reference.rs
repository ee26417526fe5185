//! A name works wherever an id does.

use serde::Serialize;
use stillpoint_model::account::Actor;
use stillpoint_model::id::{ImageId, InstanceId, VolumeId};
use stillpoint_model::image::Image;
use stillpoint_model::instance::Instance;
use stillpoint_model::name::Name;
use stillpoint_model::place::Pool;
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::volume::Volume;
use stillpoint_store::Conn;
use stillpoint_store::image::{image_by_id, image_by_name};
use stillpoint_store::instance::{instance_by_id, instance_by_name};
use stillpoint_store::volume::{
    CountedVolume, volume_by_id, volume_by_name, volume_counted_by_id, volume_counted_by_name,
};
use uuid::Uuid;

use crate::context::Places;
use crate::error::Result;
use crate::item::kind::Item;

/// How a request names a thing: by its id or by its name, inside the actor's own project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    /// By its id.
    Id(Uuid),
    /// By its name.
    Name(Name),
}

impl Reference {
    /// Reads a path segment or a field. Text that can be neither an id nor a name names nothing
    /// that exists: `not_found`, with `what` in the sentence.
    pub fn parse(text: &str, what: &str) -> Result<Self, Refusal> {
        if let Ok(id) = text.parse::<VolumeId>() {
            return Ok(Self::Id(id.as_uuid()));
        }
        text.parse()
            .map(Self::Name)
            .map_err(|_| Refusal::not_found(what))
    }
}

macro_rules! from_ids {
    ($($id:ident),*) => {$(
        impl From<stillpoint_model::id::$id> for Reference {
            fn from(id: stillpoint_model::id::$id) -> Self {
                Self::Id(id.as_uuid())
            }
        }
    )*};
}

from_ids!(
    VolumeId,
    SnapshotId,
    BackupId,
    PoolId,
    OperationId,
    InstanceId,
    ImageId,
    InstanceSnapshotId
);

/// The actor's own volume.
pub(crate) async fn own_volume(
    conn: &mut Conn,
    actor: &Actor,
    reference: &Reference,
) -> Result<Volume> {
    let found = match reference {
        Reference::Id(id) => volume_by_id(conn, VolumeId::from_uuid(*id)).await?,
        Reference::Name(name) => volume_by_name(conn, actor.project_id, name).await?,
    };
    let own = found.filter(|volume| volume.account_id == actor.account_id);
    Ok(own.ok_or_else(|| Refusal::not_found("volume"))?)
}

/// The actor's own volume, and how many items of it count toward its caps.
pub(crate) async fn own_volume_counted(
    conn: &mut Conn,
    actor: &Actor,
    reference: &Reference,
) -> Result<CountedVolume> {
    let found = match reference {
        Reference::Id(id) => volume_counted_by_id(conn, VolumeId::from_uuid(*id)).await?,
        Reference::Name(name) => volume_counted_by_name(conn, actor.project_id, name).await?,
    };
    let own = found.filter(|(volume, _)| volume.account_id == actor.account_id);
    Ok(own.ok_or_else(|| Refusal::not_found("volume"))?)
}

/// The actor's own instance.
pub(crate) async fn own_instance(
    conn: &mut Conn,
    actor: &Actor,
    reference: &Reference,
) -> Result<Instance> {
    let found = match reference {
        Reference::Id(id) => instance_by_id(conn, InstanceId::from_uuid(*id)).await?,
        Reference::Name(name) => instance_by_name(conn, actor.project_id, name).await?,
    };
    let own = found.filter(|instance| instance.account_id == actor.account_id);
    Ok(own.ok_or_else(|| Refusal::not_found("instance"))?)
}

/// The actor's own image.
pub(crate) async fn own_image(
    conn: &mut Conn,
    actor: &Actor,
    reference: &Reference,
) -> Result<Image> {
    let found = match reference {
        Reference::Id(id) => image_by_id(conn, ImageId::from_uuid(*id)).await?,
        Reference::Name(name) => image_by_name(conn, actor.project_id, name).await?,
    };
    let own = found.filter(|image| image.account_id == actor.account_id);
    Ok(own.ok_or_else(|| Refusal::not_found("image"))?)
}

/// The id of the actor's own instance, or of one that is gone: what lists are filtered by.
pub(crate) async fn instance_id_for_list(
    conn: &mut Conn,
    actor: &Actor,
    reference: &Reference,
) -> Result<InstanceId> {
    match reference {
        Reference::Id(id) => Ok(InstanceId::from_uuid(*id)),
        Reference::Name(_) => Ok(own_instance(conn, actor, reference).await?.id),
    }
}

/// The id of the actor's own volume, or of one that is gone: what lists are filtered by. They
/// hold the account's own items alone, whatever the id.
pub(crate) async fn volume_id_for_list(
    conn: &mut Conn,
    actor: &Actor,
    reference: &Reference,
) -> Result<VolumeId> {
    match reference {
        Reference::Id(id) => Ok(VolumeId::from_uuid(*id)),
        Reference::Name(_) => Ok(own_volume(conn, actor, reference).await?.id),
    }
}

/// The actor's own snapshot or backup.
pub(crate) async fn own_item<T: Item>(
    conn: &mut Conn,
    actor: &Actor,
    reference: &Reference,
) -> Result<T> {
    let found = match reference {
        Reference::Id(id) => T::by_id(conn, *id).await?.into_iter().collect(),
        Reference::Name(name) => T::by_name(conn, actor, name).await?,
    };
    let is_own = |item: &T| item.head().account_id == actor.account_id;
    let mut own = found.into_iter().filter(is_own);
    let what = T::KIND.as_str();
    let first = own.next().ok_or_else(|| Refusal::not_found(what))?;
    if own.next().is_none() {
        return Ok(first);
    }
    let text = format!("More than one {what} has that name. Use the id.");
    Err(Refusal::new(ProblemCode::InvalidRequest, text).into())
}

/// A pool by id or name; the first one when none is named.
pub(crate) fn pool_for<'p>(
    places: &'p Places,
    reference: Option<&Reference>,
) -> Result<&'p Pool, Refusal> {
    let found = match reference {
        None => places.pools.first(),
        Some(Reference::Id(id)) => places.pools.iter().find(|p| p.id.as_uuid() == *id),
        Some(Reference::Name(name)) => places.pools.iter().find(|p| p.name == *name),
    };
    found.ok_or_else(|| Refusal::not_found("pool").at("/pool"))
}
