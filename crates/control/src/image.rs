//! Images: how they are made, what is made of them, and what is particular to them.
//!
//! An image is its project's, not a volume's: it shares neither caps nor cooldown with one. Its name
//! is unique among the project's images, so that it is a reference.

use serde::Serialize;
use stillpoint_model::account::Actor;
use stillpoint_model::event::EventKind;
use stillpoint_model::guard::{Action, ItemFacts};
use stillpoint_model::id::ImageId;
use stillpoint_model::image::Image;
use stillpoint_model::item::ItemState;
use stillpoint_model::name::Name;
use stillpoint_model::naming::{
    check_confirmation, check_texts, first_free, generated, name_taken,
};
use stillpoint_model::operation::Operation;
use stillpoint_model::place::Pool;
use stillpoint_model::plan::Confirmations;
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::saga::Request;
use stillpoint_model::{ByteCount, Timestamp};
use stillpoint_store::event::{NewEvent, event_insert};
use stillpoint_store::image::{image_by_name, image_list, image_names_like, image_update};
use stillpoint_store::{Conn, Tx};

use crate::admission::{Accepted, Ask, Desk, Draft, check_version};
use crate::audit::{self, Entry};
use crate::change::edit;
use crate::context::Places;
use crate::error::Result;
use crate::item::ItemUpdate;
use crate::item::name::no_generated;
use crate::reference::{own_image, pool_for};
use crate::view::Surroundings;
use crate::{Answer, Change, Context, Cursor, ListQuery, Page, Permission, Reference};

mod again;
mod create;

pub(crate) use again::{again, make_way};
pub(crate) use create::{Beside, admit_beside, admit_create, root_of};
pub use create::{ImageCreate, ImageSource, create};

/// What may be done with an image.
const ACTIONS: [Action; 3] = [
    Action::VolumeCreate,
    Action::InstanceCreate,
    Action::ImageDelete,
];

/// An image, and what goes with it.
#[derive(Clone, Debug)]
pub struct ImageView {
    /// The image.
    pub image: Image,
    /// An operation that makes, reads or deletes it.
    pub active_operation: Option<Operation>,
    /// What a person does before something is lost.
    pub confirm: Confirmations,
    /// The name of its pool.
    pub pool_name: Name,
    /// The name of its region.
    pub region_name: Name,
    /// What may be done with it now.
    pub permissions: Vec<Permission>,
    /// The time of the view.
    pub now: Timestamp,
}

/// What may be chosen for a new image.
#[derive(Clone, Debug)]
pub struct ImageOptions {
    /// The pools that it can be in.
    pub pools: Vec<Pool>,
    /// The account's images that count toward the cap.
    pub images: u32,
    /// That cap.
    pub max_images: u32,
    /// Whether one may be made now.
    pub permissions: Vec<Permission>,
}

/// Which images.
#[derive(Clone, Debug, Default)]
pub struct ImageQuery {
    /// Which page.
    pub page: ListQuery,
}

fn view(cx: &Context, around: &Surroundings, image: Image) -> Result<ImageView> {
    let (plan, places) = (cx.default_plan(), cx.places());
    let pool = places.pool(image.pool_id)?;
    let active = around.on_item(image.id.as_uuid());
    let facts = facts_of(&image, active);
    Ok(ImageView {
        permissions: around.permissions(cx, &ACTIONS, &plan.plan, Some(pool.id), None, Some(facts)),
        active_operation: active.cloned(),
        confirm: plan.plan.confirm,
        pool_name: pool.name.clone(),
        region_name: places.region_of(pool)?.name.clone(),
        now: around.now,
        image,
    })
}

/// What the guard needs to know of an image that `active` makes, reads or deletes.
fn facts_of(image: &Image, active: Option<&Operation>) -> ItemFacts {
    ItemFacts {
        state: image.state,
        protected: image.protected,
        keep_until: None,
        active_operation: active.map(crate::admission::active_facts),
        is_shared: true,
        fills: None,
        part_of: None,
    }
}

/// A page of the account's images, newest first: what new instances can boot from.
pub async fn list(cx: &Context, actor: &Actor, query: &ImageQuery) -> Result<Page<ImageView>> {
    let mut conn = cx.db().read().await?;
    let key = query.page.key();
    let rows = image_list(&mut conn, actor.account_id, actor.project_id, &key).await?;
    let around = Surroundings::of_account(cx, &mut conn, actor.account_id).await?;
    let page = Page::of(rows, &query.page, |row| {
        Cursor::after(row.created_at, row.id.as_uuid())
    });
    let items = page.items.into_iter().map(|row| view(cx, &around, row));
    Ok(Page {
        items: items.collect::<Result<_>>()?,
        next: page.next,
    })
}

/// What may be chosen for a new image.
pub async fn options(cx: &Context, actor: &Actor) -> Result<ImageOptions> {
    let mut conn = cx.db().read().await?;
    let around = Surroundings::of_one(cx, &mut conn, actor.account_id, None, None).await?;
    let (plan, places) = (cx.default_plan(), cx.places());
    let (pool, actions) = (places.pools.first().map(|p| p.id), [Action::ImageCreate]);
    Ok(ImageOptions {
        pools: places.pools.clone(),
        images: around.images(),
        max_images: plan.plan.caps.max_images,
        permissions: around.permissions(cx, &actions, &plan.plan, pool, None, None),
    })
}

/// One image.
pub async fn show(cx: &Context, actor: &Actor, image: &Reference) -> Result<ImageView> {
    let mut conn = cx.db().read().await?;
    let image = own_image(&mut conn, actor, image).await?;
    show_row(cx, &mut conn, image).await
}

async fn show_row(cx: &Context, conn: &mut Conn, image: Image) -> Result<ImageView> {
    let id = Some(image.id.as_uuid());
    let around = Surroundings::of_one(cx, conn, image.account_id, None, id).await?;
    view(cx, &around, image)
}

/// Renames, describes, labels or protects an image.
pub async fn update(
    cx: &Context,
    actor: &Actor,
    image: &Reference,
    update: ItemUpdate,
    change: &Change,
) -> Result<ImageView> {
    update.check()?;
    let (by, change, reference) = (actor.clone(), change.clone(), image.clone());
    let now = cx.now();
    let image = edit(cx, change.dry_run, move |tx| {
        Box::pin(async move {
            let mut image = own_image(tx, &by, &reference).await?;
            check_version(&change, image.version)?;
            let detail = update.words();
            if let Some(name) = update.name.filter(|name| *name != image.name) {
                check_free(tx, &by, &name).await?;
                image.name = name;
            }
            if let Some(description) = update.description {
                image.description = description;
            }
            if let Some(labels) = update.labels {
                image.labels = labels;
            }
            image.protected = update.protected.unwrap_or(image.protected);
            save(tx, &mut image, now).await?;
            let entry = Entry::new(&by, "image_update", image.id.as_uuid());
            audit::record(tx, entry.detail(detail), now).await?;
            Ok(image)
        })
    })
    .await?;
    // What a dry run would have written is in no row.
    show_row(cx, &mut *cx.db().read().await?, image).await
}

async fn check_free(conn: &mut Conn, actor: &Actor, name: &Name) -> Result<()> {
    match image_by_name(conn, actor.project_id, name).await? {
        None => Ok(()),
        Some(_) => Err(name_taken("image", name).into()),
    }
}

async fn save(tx: &mut Tx, image: &mut Image, now: Timestamp) -> Result<()> {
    image.version += 1;
    image_update(tx, image).await?;
    let event = NewEvent {
        account_id: image.account_id,
        kind: EventKind::Image,
        resource_id: image.id.as_uuid(),
        volume_id: None,
        operation_id: None,
        at: now,
    };
    Ok(event_insert(tx, &[event]).await?)
}

/// Deletes an image; what was made of it stays as it is. `confirm` is its name, typed, where the
/// plan asks for that.
pub async fn delete(
    cx: &Context,
    actor: &Actor,
    image: &Reference,
    confirm: Option<&str>,
    change: &Change,
) -> Result<Answer> {
    let ask = Ask::new(cx, actor, change, "image_delete", &(image, confirm))?;
    let (image, confirm) = (image.clone(), confirm.map(str::to_owned));
    ask.admit(move |desk| Box::pin(admit_delete(desk, image, confirm)))
        .await
}

/// Decides on the end of an image.
pub(crate) async fn admit_delete(
    mut desk: Desk<'_>,
    reference: Reference,
    confirm: Option<String>,
) -> Result<Accepted> {
    let mut image = own_image(desk.tx, &desk.actor, &reference).await?;
    desk.check_version(image.version)?;
    let (plan, places) = (desk.plan(None).await?, desk.cx.places());
    let pool = places.pool(image.pool_id)?;
    let facts = desk.image_facts(&image).await?;
    let allowed = desk
        .can(Action::ImageDelete, &plan.plan, pool, None, Some(facts))
        .await?;
    if !desk.change.dry_run || confirm.is_some() {
        check_confirmation(plan.plan.confirm.delete, &image.name, confirm.as_deref())?;
    }
    let draft = Draft {
        action: Action::ImageDelete,
        request: Request::ImageDelete,
        pool_id: image.pool_id,
        project_id: image.project_id,
        volume: None,
        snapshot_id: None,
        backup_id: None,
        instance: None,
        image: Some((image.id, image.name.clone())),
        instance_snapshot_id: None,
    };
    image.state = ItemState::Deleting;
    image.operation_id = Some(desk.operation_id);
    image.version += 1;
    image_update(desk.tx, &image).await?;
    desk.accept(draft, &plan.plan, allowed).await
}

/// The pool of what is made of an image: its own, and no other.
pub(crate) fn pool_of<'p>(
    image: &Image,
    places: &'p Places,
    chosen: Option<&Reference>,
) -> Result<&'p Pool> {
    let own = places.pool(image.pool_id)?;
    if chosen.is_none() || pool_for(places, chosen)?.id == own.id {
        return Ok(own);
    }
    let text = "An image is started from on its own storage.";
    Err(Refusal::new(ProblemCode::IncompatibleTarget, text)
        .at("/pool")
        .into())
}

/// The size of a volume that is made of an image: that of the image, or a larger one.
pub(crate) fn size_of(
    cx: &Context,
    image: &Image,
    asked: Option<ByteCount>,
) -> Result<ByteCount, Refusal> {
    let Some(size) = asked.filter(|size| *size != image.size) else {
        return Ok(image.size);
    };
    stillpoint_model::naming::check_volume_size(size, cx.settings().max_volume_size)?;
    if size > image.size {
        return Ok(size);
    }
    let text = format!(
        "The image has {}; a volume made of it is no smaller.",
        image.size
    );
    Err(Refusal::new(ProblemCode::InvalidRequest, text).at("/size_bytes"))
}

impl Desk<'_> {
    /// What the guard needs to know of an image.
    pub(crate) async fn image_facts(&mut self, image: &Image) -> Result<ItemFacts> {
        let id = image.id.as_uuid();
        let active = stillpoint_store::operation::operation_on_item(self.tx, id).await?;
        Ok(facts_of(image, active.as_ref()))
    }

    /// The given name, if it is free among the project's images, or a generated one that is.
    async fn image_name(&mut self, given: Option<Name>) -> Result<Name> {
        if let Some(name) = given {
            check_free(self.tx, &self.actor, &name).await?;
            return Ok(name);
        }
        let first = generated("image", self.now).ok_or_else(no_generated)?;
        let taken = image_names_like(self.tx, self.actor.project_id, &first).await?;
        first_free(first, &taken).ok_or_else(no_generated)
    }
}
