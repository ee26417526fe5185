//! A volume that starts as an image: a linked clone, at once, whatever the size.

use serde::Serialize;
use stillpoint_model::ByteCount;
use stillpoint_model::account::Actor;
use stillpoint_model::guard::Action;
use stillpoint_model::id::VolumeId;
use stillpoint_model::name::Name;
use stillpoint_model::saga::Request;
use stillpoint_model::volume::{VolumeOrigin, VolumeRole};

use super::NewVolume;
use crate::admission::{Accepted, Ask, Desk};
use crate::error::Result;
use crate::image::{pool_of, size_of};
use crate::reference::own_image;
use crate::{Answer, Change, Context, Reference};

/// A request for a volume that starts as an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeFromImage {
    /// Its name.
    pub name: Name,
    /// The image.
    pub image: Reference,
    /// Its size: whole MiB, not less than the image's, which it is when absent.
    pub size: Option<ByteCount>,
    /// Root or data.
    pub role: VolumeRole,
    /// Its pool; that of the image when absent.
    pub pool: Option<Reference>,
}

/// Makes a volume that starts as an image.
pub async fn create_from_image(
    cx: &Context,
    actor: &Actor,
    request: VolumeFromImage,
    change: &Change,
) -> Result<Answer> {
    let ask = Ask::new(cx, actor, change, "volume_from_image", &request)?;
    ask.admit(move |desk| Box::pin(admit_from_image(desk, request)))
        .await
}

/// Decides on a volume that starts as an image.
pub(crate) async fn admit_from_image(
    mut desk: Desk<'_>,
    request: VolumeFromImage,
) -> Result<Accepted> {
    let places = desk.cx.places();
    let found = own_image(desk.tx, &desk.actor, &request.image).await;
    let image = found.map_err(|error| error.at("/image"))?;
    let pool = pool_of(&image, &places, request.pool.as_ref())?;
    let plan = desk.plan(None).await?;
    let facts = desk.image_facts(&image).await?;
    let allowed = desk
        .can(Action::VolumeCreate, &plan.plan, pool, None, Some(facts))
        .await?;
    let size = size_of(&desk.cx, &image, request.size)?;
    let new = NewVolume {
        id: VolumeId::generate(desk.cx.env()),
        name: desk.volume_name(Some(request.name), "volume").await?,
        size,
        role: request.role,
        origin: Some(VolumeOrigin::Image(image.id)),
    };
    let work = Request::VolumeFromImage {
        image_id: image.id,
        size,
    };
    let image = Some((image.id, image.name));
    desk.accept_volume(
        Action::VolumeCreate,
        new,
        (pool, &plan),
        (work, allowed),
        image,
    )
    .await
}
