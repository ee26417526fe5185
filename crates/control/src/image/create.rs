//! How an image is made: of a snapshot, of a backup, of an instance snapshot, or of an upload.

use stillpoint_model::id::PoolId;
use stillpoint_model::image::ImageOrigin;
use stillpoint_model::instance_snapshot::{CapturedVolume, InstanceSnapshot};
use stillpoint_model::item::RestorePointId;
use stillpoint_model::saga::{ImageContent, RestoreSource};
use stillpoint_model::task::ImageFormat;
use stillpoint_store::image::image_insert;
use stillpoint_store::upload::upload_update_operation;
use uuid::Uuid;

use super::{
    Accepted, Action, Actor, Answer, Ask, ByteCount, Change, Context, Desk, Draft, Image, ImageId,
    ItemState, Name, Pool, ProblemCode, Reference, Refusal, Request, Result, Serialize,
    check_texts, pool_for,
};
use crate::instance_snapshot::own_instance_snapshot;
use crate::item::ItemCreate;
use crate::restore::{RestorePoint, RestorePointRef};
use crate::volume::check_upload;

/// What an image is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageSource {
    /// A snapshot or a backup.
    RestorePoint(RestorePointRef),
    /// An instance snapshot: its root volume, which is what an instance boots from.
    InstanceSnapshot(Reference),
    /// An upload, which must be the account's own, complete and unused.
    Upload {
        /// Its id.
        upload: Uuid,
        /// What it is. It is never guessed.
        format: ImageFormat,
    },
}

/// A request for an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageCreate {
    /// Its name and texts; a name is generated when absent.
    pub item: ItemCreate,
    /// What it is made of.
    pub source: ImageSource,
    /// Its pool. When absent that of the source, or the first one.
    pub pool: Option<Reference>,
}

/// Makes an image.
pub async fn create(
    cx: &Context,
    actor: &Actor,
    request: ImageCreate,
    change: &Change,
) -> Result<Answer> {
    check_texts(&request.item.description, &request.item.labels)?;
    let ask = Ask::new(cx, actor, change, "image_create", &request)?;
    ask.admit(move |desk| Box::pin(admit_create(desk, request)))
        .await
}

/// Decides on an image.
pub(crate) async fn admit_create(desk: Desk<'_>, request: ImageCreate) -> Result<Accepted> {
    let ImageCreate { item, source, pool } = request;
    match source {
        ImageSource::RestorePoint(reference) => of_point(desk, item, &reference, pool).await,
        ImageSource::InstanceSnapshot(reference) => of_whole(desk, item, &reference, pool).await,
        ImageSource::Upload { upload, format } => {
            of_upload(desk, item, (upload, format), pool).await
        }
    }
}

async fn of_point(
    mut desk: Desk<'_>,
    item: ItemCreate,
    reference: &RestorePointRef,
    pool: Option<Reference>,
) -> Result<Accepted> {
    let places = desk.cx.places();
    let point = RestorePoint::find(&mut desk, reference).await?;
    let pool = point.pool(&places, pool.as_ref())?;
    let plan = desk.plan(point.volume.as_ref()).await?;
    let facts = desk.source_facts(point.volume.as_ref()).await?;
    let asked = Some(point.item);
    let allowed = desk
        .can(Action::ImageCreate, &plan.plan, pool, facts, asked)
        .await?;
    let image = Image {
        origin: ImageOrigin::RestorePoint(point.id),
        origin_name: Some(point.name),
        size: point.size,
        ..new_image(&mut desk, item, pool).await?
    };
    image_insert(desk.tx, &image).await?;
    let content = ImageContent::RestorePoint {
        source: point.source,
    };
    let (snapshot_id, backup_id) = match point.id {
        RestorePointId::Snapshot(id) => (Some(id), None),
        RestorePointId::Backup(id) => (None, Some(id)),
    };
    let draft = Draft {
        snapshot_id,
        backup_id,
        ..draft(&image, content)
    };
    desk.accept(draft, &plan.plan, allowed).await
}

async fn of_whole(
    mut desk: Desk<'_>,
    item: ItemCreate,
    reference: &Reference,
    pool: Option<Reference>,
) -> Result<Accepted> {
    let places = desk.cx.places();
    let found = own_instance_snapshot(desk.tx, &desk.actor, reference).await;
    let whole = found.map_err(|error| error.at("/instance_snapshot"))?;
    desk.check_version(whole.version)?;
    let root = root_of(&whole).map_err(|refusal| refusal.at("/instance_snapshot"))?;
    let own = places.pool(whole.pool_id)?;
    if pool.is_some() && pool_for(&places, pool.as_ref())?.id != own.id {
        let text = "An image of an instance snapshot is made on its own storage.";
        let refusal = Refusal::new(ProblemCode::IncompatibleTarget, text);
        return Err(refusal.at("/pool").into());
    }
    let plan = desk.plan(None).await?;
    let facts = desk.whole_facts(&whole).await?;
    let action = Action::ImageCreate;
    let allowed = desk.can(action, &plan.plan, own, None, Some(facts)).await?;
    let image = Image {
        origin: ImageOrigin::InstanceSnapshot(whole.id),
        origin_name: Some(whole.name.clone()),
        size: root.size,
        ..new_image(&mut desk, item, own).await?
    };
    image_insert(desk.tx, &image).await?;
    let snapshot_id = root.snapshot_id;
    let content = ImageContent::RestorePoint {
        source: RestoreSource::Snapshot { snapshot_id },
    };
    let draft = Draft {
        snapshot_id: Some(snapshot_id),
        instance_snapshot_id: Some(whole.id),
        ..draft(&image, content)
    };
    desk.accept(draft, &plan.plan, allowed).await
}

/// What an image of an instance snapshot is made of: a refusal when it holds nothing to boot from.
pub(crate) fn root_of(whole: &InstanceSnapshot) -> Result<&CapturedVolume, Refusal> {
    whole.root().ok_or_else(|| {
        let text = "The instance snapshot holds no root volume, and an image is what is booted \
                    from.";
        Refusal::new(ProblemCode::NotEligible, text)
    })
}

/// What an image is made of that comes with a snapshot of it.
pub(crate) struct Beside {
    pub(crate) origin: ImageOrigin,
    pub(crate) origin_name: Name,
    pub(crate) pool_id: PoolId,
    pub(crate) size: ByteCount,
}

/// Decides on the image that a new snapshot becomes at once, and writes its row.
pub(crate) async fn admit_beside(
    desk: &mut Desk<'_>,
    snapshot: Beside,
    name: Name,
) -> Result<(ImageId, Name)> {
    let (plan, places) = (desk.plan(None).await?, desk.cx.places());
    let pool = places.pool(snapshot.pool_id)?;
    desk.can(Action::ImageCreate, &plan.plan, pool, None, None)
        .await?;
    let item = ItemCreate {
        name: Some(name),
        ..ItemCreate::default()
    };
    let new = new_image(desk, item, pool).await;
    let image = Image {
        origin: snapshot.origin,
        origin_name: Some(snapshot.origin_name),
        size: snapshot.size,
        ..new.map_err(|error| error.at("/image"))?
    };
    image_insert(desk.tx, &image).await?;
    Ok((image.id, image.name))
}

async fn of_upload(
    mut desk: Desk<'_>,
    item: ItemCreate,
    (upload, format): (Uuid, ImageFormat),
    pool: Option<Reference>,
) -> Result<Accepted> {
    let places = desk.cx.places();
    let pool = pool_for(&places, pool.as_ref())?;
    check_upload(&mut desk, upload).await?;
    let plan = desk.plan(None).await?;
    let allowed = desk
        .can(Action::ImageCreate, &plan.plan, pool, None, None)
        .await?;
    let image = new_image(&mut desk, item, pool).await?;
    image_insert(desk.tx, &image).await?;
    upload_update_operation(desk.tx, upload, desk.operation_id).await?;
    let content = ImageContent::Upload {
        upload,
        format,
        max_size: desk.cx.settings().max_volume_size,
    };
    desk.accept(draft(&image, content), &plan.plan, allowed)
        .await
}

fn draft(image: &Image, content: ImageContent) -> Draft {
    Draft {
        action: Action::ImageCreate,
        request: Request::ImageCreate { content },
        pool_id: image.pool_id,
        project_id: image.project_id,
        volume: None,
        snapshot_id: None,
        backup_id: None,
        instance: None,
        image: Some((image.id, image.name.clone())),
        instance_snapshot_id: None,
    }
}

/// The row of an image that was just asked for; of an upload, as long as nothing else is said.
async fn new_image(desk: &mut Desk<'_>, item: ItemCreate, pool: &Pool) -> Result<Image> {
    Ok(Image {
        id: ImageId::generate(desk.cx.env()),
        account_id: desk.actor.account_id,
        project_id: desk.actor.project_id,
        pool_id: pool.id,
        name: desk.image_name(item.name).await?,
        description: item.description,
        labels: item.labels,
        state: ItemState::Pending,
        origin: ImageOrigin::Upload,
        origin_name: None,
        consistency: None,
        // Known once the upload was read.
        size: ByteCount::ZERO,
        used: ByteCount::ZERO,
        layer: None,
        duration_ms: None,
        protected: false,
        failure: None,
        operation_id: Some(desk.operation_id),
        created_at: desk.now,
        version: 1,
    })
}
