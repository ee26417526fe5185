//! Snapshots: how they are taken, and what is particular to them. What they share with backups is
//! in [`crate::item`].

use stillpoint_model::Timestamp;
use stillpoint_model::account::Actor;
use stillpoint_model::event::EventKind;
use stillpoint_model::guard::Action;
use stillpoint_model::id::{InstanceSnapshotId, PoolId, SnapshotId, VolumeId};
use stillpoint_model::image::ImageOrigin;
use stillpoint_model::item::{ItemKind, ItemSizes, ItemState, RestorePointId, Trigger};
use stillpoint_model::name::Name;
use stillpoint_model::naming::check_texts;
use stillpoint_model::operation::Operation;
use stillpoint_model::plan::Confirmations;
use stillpoint_model::saga::Request;
use stillpoint_model::snapshot::Snapshot;
use stillpoint_model::volume::Volume;
use stillpoint_store::page::PageKey;
use stillpoint_store::snapshot::{
    snapshot_by_id, snapshot_by_name, snapshot_insert, snapshot_list, snapshot_list_of_volume,
    snapshot_update,
};
use stillpoint_store::volume::{CountedVolume, volume_list_of_snapshots};
use stillpoint_store::{Conn, Tx};
use uuid::Uuid;

use crate::admission::{Accepted, Ask, Desk, Draft};
use crate::error::Result;
use crate::image::{Beside, admit_beside};
use crate::item::kind::{Item, item_fields};
use crate::item::name::NameScope;
use crate::item::show::Shown;
use crate::item::{self, ItemCreate, ItemQuery, ItemUpdate};
use crate::reference::own_volume_counted;
use crate::{Answer, Change, Context, Page, Permission, Reference};

/// A snapshot, and what goes with it.
#[derive(Clone, Debug)]
pub struct SnapshotView {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Whether the volume it was made of still exists.
    pub source_exists: bool,
    /// An operation that makes, reads or deletes it.
    pub active_operation: Option<Operation>,
    /// What a person does before something is lost.
    pub confirm: Confirmations,
    /// What may be done with it now.
    pub permissions: Vec<Permission>,
    /// The time of the view.
    pub now: Timestamp,
}

impl Item for Snapshot {
    const KIND: ItemKind = ItemKind::Snapshot;
    const EVENT: EventKind = EventKind::Snapshot;
    const UPDATE: &'static str = "snapshot_update";
    const DELETE: Action = Action::SnapshotDelete;
    const ACTIONS: &'static [Action] = &[
        Action::RestoreNew,
        Action::RestoreInPlace,
        Action::BackupCreate,
        Action::ImageCreate,
        Action::SnapshotDelete,
    ];
    type View = SnapshotView;

    item_fields!();

    fn part_of(&self) -> Option<InstanceSnapshotId> {
        self.instance_snapshot_id
    }

    /// Its own: a snapshot is nowhere else.
    fn work_pool(&self, _: &Context, _: Option<&Volume>) -> Option<PoolId> {
        Some(self.pool_id)
    }

    fn view(self, _: &Context, shown: Shown) -> Result<SnapshotView> {
        Ok(SnapshotView {
            source_exists: shown.source_exists,
            active_operation: shown.active_operation,
            confirm: shown.confirm,
            permissions: shown.permissions,
            now: shown.now,
            snapshot: self,
        })
    }

    fn draft(&self, action: Action, request: Request, pool_id: PoolId) -> Draft {
        Draft {
            action,
            request,
            pool_id,
            project_id: self.project_id,
            volume: Some((self.volume_id, self.volume_name.clone())),
            snapshot_id: Some(self.id),
            backup_id: None,
            instance: None,
            image: None,
            instance_snapshot_id: None,
        }
    }

    async fn deletion(&self, _: &mut Desk<'_>) -> Result<Request> {
        Ok(Request::SnapshotDelete)
    }

    async fn by_id(conn: &mut Conn, id: Uuid) -> Result<Option<Self>> {
        Ok(snapshot_by_id(conn, SnapshotId::from_uuid(id)).await?)
    }

    async fn by_name(conn: &mut Conn, actor: &Actor, name: &Name) -> Result<Vec<Self>> {
        Ok(snapshot_by_name(conn, actor.account_id, actor.project_id, name).await?)
    }

    async fn list(conn: &mut Conn, actor: &Actor, page: &PageKey) -> Result<Vec<Self>> {
        Ok(snapshot_list(conn, actor.account_id, actor.project_id, page).await?)
    }

    async fn list_of_volume(
        conn: &mut Conn,
        actor: &Actor,
        volume_id: VolumeId,
        page: &PageKey,
    ) -> Result<Vec<Self>> {
        Ok(snapshot_list_of_volume(conn, actor.account_id, volume_id, page).await?)
    }

    async fn sources(conn: &mut Conn, actor: &Actor, page: &PageKey) -> Result<Vec<CountedVolume>> {
        Ok(volume_list_of_snapshots(conn, actor.account_id, actor.project_id, page).await?)
    }

    async fn write(&self, tx: &mut Tx) -> Result<()> {
        Ok(snapshot_update(tx, self).await?)
    }
}

/// A page of the account's snapshots, newest first.
pub async fn list(cx: &Context, actor: &Actor, query: &ItemQuery) -> Result<Page<SnapshotView>> {
    item::show::list::<Snapshot>(cx, actor, query).await
}

/// One snapshot.
pub async fn show(cx: &Context, actor: &Actor, snapshot: &Reference) -> Result<SnapshotView> {
    item::show::show::<Snapshot>(cx, actor, snapshot).await
}

/// Renames, describes, labels or protects a snapshot.
pub async fn update(
    cx: &Context,
    actor: &Actor,
    snapshot: &Reference,
    update: ItemUpdate,
    change: &Change,
) -> Result<SnapshotView> {
    item::change::update::<Snapshot>(cx, actor, snapshot, update, change).await
}

/// Deletes a snapshot; every other one stays. `confirm` is its name, typed, where the plan asks for
/// that.
pub async fn delete(
    cx: &Context,
    actor: &Actor,
    snapshot: &Reference,
    confirm: Option<&str>,
    change: &Change,
) -> Result<Answer> {
    item::change::delete::<Snapshot>(cx, actor, snapshot, confirm, change).await
}

/// Takes a snapshot of a volume.
pub async fn create(
    cx: &Context,
    actor: &Actor,
    volume: &Reference,
    request: ItemCreate,
    change: &Change,
) -> Result<Answer> {
    check_texts(&request.description, &request.labels)?;
    let ask = Ask::new(cx, actor, change, "snapshot_create", &(volume, &request))?;
    let volume = volume.clone();
    ask.admit(move |desk| Box::pin(admit_create(desk, volume, request, None)))
        .await
}

/// Takes a snapshot of a volume, and makes an image of it at once: there are both in the end, or
/// neither.
pub async fn create_with_image(
    cx: &Context,
    actor: &Actor,
    volume: &Reference,
    request: ItemCreate,
    image: Name,
    change: &Change,
) -> Result<Answer> {
    check_texts(&request.description, &request.labels)?;
    let input = (volume, &request, &image);
    let ask = Ask::new(cx, actor, change, "snapshot_create", &input)?;
    let volume = volume.clone();
    ask.admit(move |desk| Box::pin(admit_create(desk, volume, request, Some(image))))
        .await
}

/// Decides on a snapshot.
pub(crate) async fn admit_create(
    mut desk: Desk<'_>,
    volume: Reference,
    request: ItemCreate,
    image: Option<Name>,
) -> Result<Accepted> {
    let (volume, counts) = own_volume_counted(desk.tx, &desk.actor, &volume).await?;
    desk.check_version(volume.version)?;
    let (plan, places) = (desk.plan(Some(&volume)).await?, desk.cx.places());
    let pool = places.pool(volume.pool_id)?;
    let facts = desk.counted_facts(&volume, counts).await?;
    let allowed = desk
        .can(Action::SnapshotCreate, &plan.plan, pool, Some(facts), None)
        .await?;
    let scope = NameScope::of(Snapshot::KIND, &plan.plan, volume.account_id, volume.id);
    let name = scope
        .choose(desk.tx, request.name.clone(), desk.now)
        .await?;
    let snapshot = pending(&desk, &volume, name, request);
    snapshot_insert(desk.tx, &snapshot).await?;
    let image = match image {
        Some(name) => {
            let beside = Beside {
                origin: ImageOrigin::RestorePoint(RestorePointId::Snapshot(snapshot.id)),
                origin_name: snapshot.name.clone(),
                pool_id: snapshot.pool_id,
                size: snapshot.sizes.provisioned,
            };
            Some(admit_beside(&mut desk, beside, name).await?)
        }
        None => None,
    };
    let work = Request::SnapshotCreate;
    let draft = Draft {
        image,
        ..snapshot.draft(Action::SnapshotCreate, work, volume.pool_id)
    };
    desk.lock(volume).await?;
    desk.accept(draft, &plan.plan, allowed).await
}

/// The row of a snapshot that was just asked for.
fn pending(desk: &Desk<'_>, volume: &Volume, name: Name, request: ItemCreate) -> Snapshot {
    Snapshot {
        id: SnapshotId::generate(desk.cx.env()),
        account_id: volume.account_id,
        project_id: volume.project_id,
        pool_id: volume.pool_id,
        volume_id: volume.id,
        volume_name: volume.name.clone(),
        instance_snapshot_id: None,
        name,
        description: request.description,
        labels: request.labels,
        state: ItemState::Pending,
        consistency: None,
        trigger: Trigger::Manual,
        sizes: ItemSizes {
            provisioned: volume.size,
            ..ItemSizes::default()
        },
        layer: None,
        duration_ms: None,
        protected: false,
        failure: None,
        operation_id: Some(desk.operation_id),
        created_at: desk.now,
        expires_at: None,
        version: 1,
    }
}
