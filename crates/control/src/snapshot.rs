//! Snapshots.

use std::collections::HashMap;
use stillpoint_model::Timestamp;
use stillpoint_model::account::Actor;
use stillpoint_model::id::VolumeId;

use stillpoint_model::event::EventKind;
use stillpoint_model::guard::Action;
use stillpoint_model::id::SnapshotId;
use stillpoint_model::item::{ItemKind, ItemSizes, ItemState, Trigger};

use stillpoint_model::name::Name;
use stillpoint_model::naming::{check_confirmation, check_texts};
use stillpoint_model::operation::Operation;
use stillpoint_model::plan::Confirmations;

use stillpoint_model::saga::Request;
use stillpoint_model::snapshot::Snapshot;
use stillpoint_model::volume::Volume;
use stillpoint_store::event::{NewEvent, event_insert};

use stillpoint_store::snapshot::{
    snapshot_insert, snapshot_list, snapshot_list_of_volume, snapshot_update,
};
use stillpoint_store::volume::{
    CountedVolume, volume_by_id, volume_item_counts, volume_list_of_snapshots,
};
use stillpoint_store::{Conn, Tx};

use crate::admission::{Accepted, Ask, Desk, Draft, check_version};
use crate::audit::{self, Entry};
use crate::change::edit;
use crate::error::Result;
use crate::item::{ItemCreate, ItemUpdate, NameScope};
use crate::reference::{own_snapshot, own_volume, volume_id_for_list};
use crate::view::Surroundings;
use crate::{Answer, Change, Context, Cursor, ListQuery, Page, Permission, Reference};

/// What may be done with a snapshot.
const ACTIONS: [Action; 4] = [
    Action::RestoreNew,
    Action::RestoreInPlace,
    Action::BackupCreate,
    Action::SnapshotDelete,
];

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

/// Which snapshots.
#[derive(Clone, Debug, Default)]
pub struct SnapshotQuery {
    /// Which page.
    pub page: ListQuery,
    /// Only those of this volume, which may be gone when it is named by its id.
    pub volume: Option<Reference>,
}

async fn view(
    cx: &Context,
    conn: &mut Conn,
    around: &Surroundings,
    snapshot: Snapshot,
    source: Option<&CountedVolume>,
) -> Result<SnapshotView> {
    let plan = match source {
        Some((volume, _)) => cx.plan(conn, volume.plan_id).await?,
        None => cx.default_plan(),
    };
    let facts = match source {
        Some((volume, counts)) => Some(around.volume_facts(cx, volume, *counts)?),
        None => None,
    };
    let id = snapshot.id.as_uuid();
    let item = around.item_facts(id, snapshot.state, snapshot.protected);
    let pool = Some(snapshot.pool_id);
    let permissions =
        around.permissions(cx, &ACTIONS, &plan.plan, pool, facts.as_ref(), Some(item));
    Ok(SnapshotView {
        source_exists: source.is_some(),
        active_operation: around.on_item(id).cloned(),
        confirm: plan.plan.confirm,

        permissions,
        now: around.now,
        snapshot,
    })
}

/// A page of the account's snapshots, newest first.
pub async fn list(
    cx: &Context,
    actor: &Actor,
    query: &SnapshotQuery,
) -> Result<Page<SnapshotView>> {
    let mut conn = cx.db().read().await?;
    let (account, project, key) = (actor.account_id, actor.project_id, query.page.key());
    let (rows, sources) = if let Some(volume) = &query.volume {
        let id = volume_id_for_list(&mut conn, actor, volume).await?;
        let rows = snapshot_list_of_volume(&mut conn, account, id, &key).await?;
        (
            rows,
            source_of(&mut conn, actor, id).await?.into_iter().collect(),
        )
    } else {
        let rows = snapshot_list(&mut conn, account, project, &key).await?;
        (
            rows,
            volume_list_of_snapshots(&mut conn, account, project, &key).await?,
        )
    };
    let sources: HashMap<VolumeId, CountedVolume> = sources
        .into_iter()
        .map(|source| (source.0.id, source))
        .collect();
    let around = Surroundings::of_account(cx, &mut conn, account).await?;
    let page = Page::of(rows, &query.page, |row| {
        Cursor::after(row.created_at, row.id.as_uuid())
    });
    let mut items = Vec::with_capacity(page.items.len());
    for row in page.items {
        let source = sources.get(&row.volume_id);
        items.push(view(cx, &mut conn, &around, row, source).await?);
    }
    Ok(Page {
        items,
        next: page.next,
    })
}

/// The volume that an item was made of, if it still exists.
async fn source_of(conn: &mut Conn, actor: &Actor, id: VolumeId) -> Result<Option<CountedVolume>> {
    let found = volume_by_id(conn, id)
        .await?
        .filter(|v| v.account_id == actor.account_id);
    let Some(volume) = found else { return Ok(None) };
    let counts = volume_item_counts(conn, id).await?;
    Ok(Some((volume, counts)))
}

/// One snapshot.
pub async fn show(cx: &Context, actor: &Actor, snapshot: &Reference) -> Result<SnapshotView> {
    let mut conn = cx.db().read().await?;
    let snapshot = own_snapshot(&mut conn, actor, snapshot).await?;
    show_row(cx, &mut conn, actor, snapshot).await
}

async fn show_row(
    cx: &Context,
    conn: &mut Conn,
    actor: &Actor,
    snapshot: Snapshot,
) -> Result<SnapshotView> {
    let source = source_of(conn, actor, snapshot.volume_id).await?;
    let volume = source.as_ref().map(|(volume, _)| volume);
    let id = snapshot.id.as_uuid();
    let around = Surroundings::of_one(cx, conn, actor.account_id, volume, Some(id)).await?;
    view(cx, conn, &around, snapshot, source.as_ref()).await
}

/// Renames, describes, labels or protects a snapshot.
pub async fn update(
    cx: &Context,
    actor: &Actor,
    snapshot: &Reference,
    update: ItemUpdate,
    change: &Change,
) -> Result<SnapshotView> {
    update.check()?;
    let (handle, by, change) = (cx.clone(), actor.clone(), change.clone());
    let (reference, now) = (snapshot.clone(), cx.now());
    let id = edit(cx, change.dry_run, move |tx| {
        Box::pin(async move {
            let mut snapshot = own_snapshot(tx, &by, &reference).await?;
            check_version(&change, snapshot.version)?;
            let detail = update.words();
            rename(&handle, tx, &mut snapshot, update.name).await?;
            snapshot.description = update.description.unwrap_or(snapshot.description);
            snapshot.labels = update.labels.unwrap_or(snapshot.labels);
            snapshot.protected = update.protected.unwrap_or(snapshot.protected);
            save(tx, &mut snapshot, now).await?;
            let entry = Entry::new(&by, "snapshot_update", snapshot.id.as_uuid());
            audit::record(tx, entry.detail(detail), now).await?;
            Ok(snapshot.id)
        })
    })
    .await?;
    show(cx, actor, &id.into()).await
}

async fn rename(
    cx: &Context,
    tx: &mut Tx,
    snapshot: &mut Snapshot,
    name: Option<Name>,
) -> Result<()> {
    let Some(name) = name.filter(|name| *name != snapshot.name) else {
        return Ok(());
    };
    let plan = match volume_by_id(tx, snapshot.volume_id).await? {
        Some(volume) => cx.plan(tx, volume.plan_id).await?,
        None => cx.default_plan(),
    };
    let scope = NameScope {
        kind: ItemKind::Snapshot,
        naming: &plan.plan.naming,
        account_id: snapshot.account_id,
        volume_id: snapshot.volume_id,
    };
    scope.check(tx, &name).await?;
    snapshot.name = name;
    Ok(())
}

async fn save(tx: &mut Tx, snapshot: &mut Snapshot, now: Timestamp) -> Result<()> {
    snapshot.version += 1;
    snapshot_update(tx, snapshot).await?;
    let event = NewEvent {
        account_id: snapshot.account_id,
        kind: EventKind::Snapshot,
        resource_id: snapshot.id.as_uuid(),
        volume_id: Some(snapshot.volume_id),
        operation_id: None,
        at: now,
    };
    Ok(event_insert(tx, &event).await?)
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
    let ask = Ask::new(cx, actor, change, "snapshot_delete", &(snapshot, confirm))?;
    let (snapshot, confirm) = (snapshot.clone(), confirm.map(str::to_owned));
    ask.admit(move |desk| Box::pin(admit_delete(desk, snapshot, confirm)))
        .await
}

/// Decides on the end of a snapshot.
pub(crate) async fn admit_delete(
    mut desk: Desk<'_>,
    snapshot: Reference,
    confirm: Option<String>,
) -> Result<Accepted> {
    let mut snapshot = own_snapshot(desk.tx, &desk.actor, &snapshot).await?;
    desk.check_version(snapshot.version)?;
    let source = volume_by_id(desk.tx, snapshot.volume_id).await?;
    let (plan, places) = (desk.plan(source.as_ref()).await?, desk.cx.places());
    let pool = places.pool(snapshot.pool_id)?;
    let id = snapshot.id.as_uuid();
    let item = desk
        .item_facts(id, snapshot.state, snapshot.protected)
        .await?;
    let facts = desk.source_facts(source.as_ref()).await?;
    let allowed = desk
        .can(Action::SnapshotDelete, &plan.plan, pool, facts, Some(item))
        .await?;
    if !desk.change.dry_run || confirm.is_some() {
        let typed = confirm.as_deref();
        check_confirmation(plan.plan.confirm.delete, &snapshot.name, typed)?;
    }
    let draft = Draft {
        action: Action::SnapshotDelete,
        request: Request::SnapshotDelete,
        pool_id: snapshot.pool_id,
        project_id: snapshot.project_id,
        volume: Some((snapshot.volume_id, snapshot.volume_name.clone())),
        snapshot_id: Some(snapshot.id),
        backup_id: None,
    };
    snapshot.state = ItemState::Deleting;
    snapshot.operation_id = Some(desk.operation_id);
    snapshot.version += 1;
    snapshot_update(desk.tx, &snapshot).await?;
    desk.accept(draft, &plan.plan, allowed).await
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
    ask.admit(move |desk| Box::pin(admit_create(desk, volume, request)))
        .await
}

/// Decides on a snapshot.
pub(crate) async fn admit_create(
    mut desk: Desk<'_>,
    volume: Reference,
    request: ItemCreate,
) -> Result<Accepted> {
    let volume = own_volume(desk.tx, &desk.actor, &volume).await?;
    desk.check_version(volume.version)?;
    let (plan, places) = (desk.plan(Some(&volume)).await?, desk.cx.places());
    let pool = places.pool(volume.pool_id)?;
    let facts = desk.volume_facts(&volume).await?;
    let allowed = desk
        .can(Action::SnapshotCreate, &plan.plan, pool, Some(facts), None)
        .await?;
    let scope = NameScope {
        kind: ItemKind::Snapshot,
        naming: &plan.plan.naming,
        account_id: volume.account_id,
        volume_id: volume.id,
    };
    let name = scope
        .choose(desk.tx, request.name.clone(), desk.now)
        .await?;
    let snapshot = pending(&desk, &volume, name, request);
    snapshot_insert(desk.tx, &snapshot).await?;
    let draft = Draft {
        action: Action::SnapshotCreate,
        request: Request::SnapshotCreate,
        pool_id: volume.pool_id,
        project_id: volume.project_id,
        volume: Some((volume.id, volume.name.clone())),
        snapshot_id: Some(snapshot.id),
        backup_id: None,
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
