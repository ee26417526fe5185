//! What may be chosen for a new volume.

use stillpoint_model::ByteCount;
use stillpoint_model::account::Actor;
use stillpoint_model::guard::Action;
use stillpoint_model::place::Pool;

use crate::error::Result;
use crate::view::Surroundings;
use crate::{Context, Permission};

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

/// What may be chosen for a new volume.
pub async fn options(cx: &Context, actor: &Actor) -> Result<VolumeOptions> {
    let mut conn = cx.db().read().await?;
    let around = Surroundings::of_one(cx, &mut conn, actor.account_id, None, None).await?;
    let (plan, places) = (cx.default_plan(), cx.places());
    let pool = places.pools.first().map(|pool| pool.id);
    let actions = [Action::VolumeCreate, Action::VolumeImport];
    Ok(VolumeOptions {
        pools: places.pools.clone(),
        permissions: around.permissions(cx, &actions, &plan.plan, pool, None, None),
        max_size: cx.settings().max_volume_size,
    })
}
