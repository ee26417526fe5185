//! Attaching a volume to an instance of ours, and detaching it.

use stillpoint_model::account::Actor;
use stillpoint_model::guard::{Action, Allowed};
use stillpoint_model::instance::{Instance, MachineDisk};
use stillpoint_model::refusal::Refusal;
use stillpoint_model::saga::Request;
use stillpoint_model::volume::{Volume, VolumeRole};
use stillpoint_store::instance::instance_by_id;
use stillpoint_store::volume::volume_list_of_instance;

use crate::admission::{Accepted, Ask, Desk};
use crate::error::Result;
use crate::instance;
use crate::reference::{own_instance, own_volume};
use crate::{Answer, Change, Context, Reference};

/// Attaches a volume to an instance; also to one that runs, which sees a new disk then.
pub async fn attach(
    cx: &Context,
    actor: &Actor,
    volume: &Reference,
    instance: &Reference,
    change: &Change,
) -> Result<Answer> {
    let ask = Ask::new(cx, actor, change, "volume_attach", &(volume, instance))?;
    let (volume, instance) = (volume.clone(), instance.clone());
    ask.admit(move |desk| Box::pin(admit_attach(desk, volume, instance)))
        .await
}

/// Decides on attaching a volume.
pub(crate) async fn admit_attach(
    mut desk: Desk<'_>,
    volume: Reference,
    instance: Reference,
) -> Result<Accepted> {
    let volume = own_volume(desk.tx, &desk.actor, &volume).await?;
    let found = own_instance(desk.tx, &desk.actor, &instance).await;
    let mut instance = found.map_err(|error| error.at("/instance"))?;
    let (allowed, beside) = decide(&mut desk, Action::VolumeAttach, &volume, &instance).await?;
    let places = desk.cx.places();
    let (home, pool) = (places.pool(volume.pool_id)?, places.pool(instance.pool_id)?);
    instance::check_same_node(home, pool).map_err(|refusal| refusal.at("/instance"))?;
    let has_root = beside
        .iter()
        .any(|other| other.own_instance().is_some_and(|own| own.place == 0));
    let place = if volume.role == VolumeRole::Root && !has_root {
        0
    } else {
        // Place 0 is the root's, also while there is none.
        let place = instance.next_place.max(1);
        instance.next_place = place + 1;
        place
    };
    let request = Request::VolumeAttach {
        disk: disk_of(&volume, place),
    };
    accept(
        desk,
        Action::VolumeAttach,
        volume,
        instance,
        (request, allowed),
    )
    .await
}

/// Detaches a volume from its instance; also from one that runs, whose guest lets go of it first.
pub async fn detach(
    cx: &Context,
    actor: &Actor,
    volume: &Reference,
    change: &Change,
) -> Result<Answer> {
    let ask = Ask::new(cx, actor, change, "volume_detach", volume)?;
    let volume = volume.clone();
    ask.admit(move |desk| Box::pin(admit_detach(desk, volume)))
        .await
}

/// Decides on detaching a volume.
pub(crate) async fn admit_detach(mut desk: Desk<'_>, volume: Reference) -> Result<Accepted> {
    let volume = own_volume(desk.tx, &desk.actor, &volume).await?;
    let Some(own) = volume.own_instance() else {
        return Err(not_ours(&mut desk, &volume).await);
    };
    let found = instance_by_id(desk.tx, own.id).await?;
    let instance = found.ok_or_else(|| Refusal::not_found("instance"))?;
    let (allowed, _) = decide(&mut desk, Action::VolumeDetach, &volume, &instance).await?;
    let request = Request::VolumeDetach {
        disk: disk_of(&volume, own.place),
    };
    accept(
        desk,
        Action::VolumeDetach,
        volume,
        instance,
        (request, allowed),
    )
    .await
}

/// Why a volume that no instance of ours has cannot be detached.
async fn not_ours(desk: &mut Desk<'_>, volume: &Volume) -> crate::Error {
    let asked = super::decide(desk, Action::VolumeDetach, volume).await;
    asked.err().unwrap_or_else(|| {
        crate::Error::Inconsistent("a volume that nothing has can be detached".to_owned())
    })
}

const fn disk_of(volume: &Volume, place: u32) -> MachineDisk {
    MachineDisk {
        volume_id: volume.id,
        pool_id: volume.pool_id,
        place,
    }
}

/// What the guard says of a volume and an instance; and the volumes that the instance has.
async fn decide(
    desk: &mut Desk<'_>,
    action: Action,
    volume: &Volume,
    instance: &Instance,
) -> Result<(Allowed, Vec<Volume>)> {
    desk.check_version(volume.version)?;
    let beside = volume_list_of_instance(desk.tx, instance.id).await?;
    let above = desk.instance_facts(instance, &beside).await?;
    let (plan, places) = (desk.plan(Some(volume)).await?, desk.cx.places());
    let facts = desk.volume_facts(volume).await?;
    let pool = places.pool(instance.pool_id)?;
    let allowed = desk
        .can_beside(action, &plan.plan, pool, (Some(facts), None), Some(above))
        .await?;
    Ok((allowed, beside))
}

/// Holds both for what was decided about them, and accepts.
async fn accept(
    mut desk: Desk<'_>,
    action: Action,
    volume: Volume,
    instance: Instance,
    draft: (Request, Allowed),
) -> Result<Accepted> {
    let about = Some((volume.id, volume.name.clone()));
    desk.lock(volume).await?;
    instance::accept(desk, action, instance, about, draft).await
}
