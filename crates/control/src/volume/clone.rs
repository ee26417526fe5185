//! Volumes that start as copies of others.

use stillpoint_model::account::Actor;
use stillpoint_model::guard::Action;
use stillpoint_model::id::VolumeId;
use stillpoint_model::name::Name;
use stillpoint_model::saga::Request;
use stillpoint_model::volume::VolumeOrigin;

use super::NewVolume;
use crate::admission::{Accepted, Ask, Desk};
use crate::error::Result;
use crate::reference::own_volume_counted;
use crate::{Answer, Change, Context, Reference};

/// Makes a volume that starts as a copy of another as it is now. Its name is generated when
/// absent.
pub async fn clone(
    cx: &Context,
    actor: &Actor,
    source: &Reference,
    name: Option<Name>,
    change: &Change,
) -> Result<Answer> {
    let ask = Ask::new(cx, actor, change, "volume_clone", &(source, &name))?;
    let source = source.clone();
    ask.admit(move |desk| Box::pin(admit_clone(desk, source, name)))
        .await
}

/// Decides on a copy of a volume.
pub(crate) async fn admit_clone(
    mut desk: Desk<'_>,
    source: Reference,
    name: Option<Name>,
) -> Result<Accepted> {
    let (source, counts) = own_volume_counted(desk.tx, &desk.actor, &source).await?;
    desk.check_version(source.version)?;
    let (plan, places) = (desk.plan(Some(&source)).await?, desk.cx.places());
    let pool = places.pool(source.pool_id)?;
    let facts = desk.counted_facts(&source, counts).await?;
    let allowed = desk
        .can(Action::VolumeClone, &plan.plan, pool, Some(facts), None)
        .await?;
    let new = NewVolume {
        id: VolumeId::generate(desk.cx.env()),
        name: desk.volume_name(name, "clone").await?,
        size: source.size,
        role: source.role,
        origin: Some(VolumeOrigin::Volume(source.id)),
    };
    let work = Request::VolumeClone { source: source.id };
    desk.accept_new_volume(Action::VolumeClone, new, pool, &plan, (work, allowed))
        .await
}
