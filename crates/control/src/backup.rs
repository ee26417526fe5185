//! Backups.

use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use stillpoint_model::ByteCount;
use stillpoint_model::Timestamp;
use stillpoint_model::account::Actor;
use stillpoint_model::backup::Backup;
use stillpoint_model::event::EventKind;
use stillpoint_model::guard::{Action, Allowed, ItemFacts};
use stillpoint_model::id::VolumeId;
use stillpoint_model::id::{AccountId, BackupId, PoolId, SnapshotId, TargetId, VaultId};
use stillpoint_model::item::{ItemKind, ItemSizes, ItemState, Trigger};
use stillpoint_model::name::Name;
use stillpoint_model::naming::{check_confirmation, check_texts};
use stillpoint_model::operation::Operation;
use stillpoint_model::plan::{Confirmations, PlanVersion};
use stillpoint_model::refusal::{ProblemCode, Refusal, WayOut};
use stillpoint_model::saga::Request;
use stillpoint_model::task::VaultRef;
use stillpoint_model::volume::Volume;
use stillpoint_store::backup::{
    backup_insert, backup_latest, backup_list, backup_list_of_volume, backup_update,
};
use stillpoint_store::event::{NewEvent, event_insert};
use stillpoint_store::place::{vault_insert, vault_of};
use stillpoint_store::volume::{
    CountedVolume, volume_by_id, volume_item_counts, volume_list_of_backups,
};
use stillpoint_store::{Conn, Tx};

use crate::admission::{Accepted, Ask, Desk, Draft, check_version};
use crate::audit::{self, Entry};
use crate::change::edit;
use crate::error::Result;
use crate::item::{ItemCreate, ItemUpdate, NameScope};
use crate::reference::{own_backup, own_snapshot, own_volume, volume_id_for_list};
use crate::view::Surroundings;
use crate::{Answer, Change, Context, Cursor, ListQuery, Page, Permission, Reference};

/// What may be done with a backup.
const ACTIONS: [Action; 4] = [
    Action::RestoreNew,
    Action::RestoreInPlace,
    Action::BackupVerify,
    Action::BackupDelete,
];

/// A backup, and what goes with it.
#[derive(Clone, Debug)]
pub struct BackupView {
    /// The backup.
    pub backup: Backup,
    /// Whether the volume it was made of still exists.
    pub source_exists: bool,
    /// An operation that makes, reads or deletes it.
    pub active_operation: Option<Operation>,
    /// What a person does before something is lost.
    pub confirm: Confirmations,
    /// The name of the target that holds it.
    pub target_name: Name,
    /// What may be done with it now.
    pub permissions: Vec<Permission>,
    /// The time of the view.
    pub now: Timestamp,
}

/// Which backups.
#[derive(Clone, Debug, Default)]
pub struct BackupQuery {
    /// Which page.
    pub page: ListQuery,
    /// Only those of this volume, which may be gone when it is named by its id.
    pub volume: Option<Reference>,
}

/// A request for a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BackupCreate {
    /// What is said of it.
    pub item: ItemCreate,
    /// Copy this snapshot of the volume instead of the volume as it is now.
    pub snapshot: Option<Reference>,
}

async fn view(
    cx: &Context,
    conn: &mut Conn,
    around: &Surroundings,
    backup: Backup,
    source: Option<&CountedVolume>,
) -> Result<BackupView> {
    let plan = match source {
        Some((volume, _)) => cx.plan(conn, volume.plan_id).await?,
        None => cx.default_plan(),
    };
    let facts = match source {
        Some((volume, counts)) => Some(around.volume_facts(cx, volume, *counts)?),
        None => None,
    };
    let id = backup.id.as_uuid();
    let item = around.item_facts(id, backup.state, backup.protected);
    let pool = work_pool(cx, &backup, source.map(|(volume, _)| volume));
    let permissions =
        around.permissions(cx, &ACTIONS, &plan.plan, pool, facts.as_ref(), Some(item));
    Ok(BackupView {
        source_exists: source.is_some(),
        active_operation: around.on_item(id).cloned(),
        confirm: plan.plan.confirm,
        target_name: cx.places().target(backup.target_id)?.name.clone(),
        permissions,
        now: around.now,
        backup,
    })
}

/// A page of the account's backups, newest first.
pub async fn list(cx: &Context, actor: &Actor, query: &BackupQuery) -> Result<Page<BackupView>> {
    let mut conn = cx.db().read().await?;
    let (account, project, key) = (actor.account_id, actor.project_id, query.page.key());
    let (rows, sources) = if let Some(volume) = &query.volume {
        let id = volume_id_for_list(&mut conn, actor, volume).await?;
        let rows = backup_list_of_volume(&mut conn, account, id, &key).await?;
        (
            rows,
            source_of(&mut conn, actor, id).await?.into_iter().collect(),
        )
    } else {
        let rows = backup_list(&mut conn, account, project, &key).await?;
        (
            rows,
            volume_list_of_backups(&mut conn, account, project, &key).await?,
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

/// One backup.
pub async fn show(cx: &Context, actor: &Actor, backup: &Reference) -> Result<BackupView> {
    let mut conn = cx.db().read().await?;
    let backup = own_backup(&mut conn, actor, backup).await?;
    show_row(cx, &mut conn, actor, backup).await
}

async fn show_row(
    cx: &Context,
    conn: &mut Conn,
    actor: &Actor,
    backup: Backup,
) -> Result<BackupView> {
    let source = source_of(conn, actor, backup.volume_id).await?;
    let volume = source.as_ref().map(|(volume, _)| volume);
    let id = backup.id.as_uuid();
    let around = Surroundings::of_one(cx, conn, actor.account_id, volume, Some(id)).await?;
    view(cx, conn, &around, backup, source.as_ref()).await
}

/// Renames, describes, labels or protects a backup.
pub async fn update(
    cx: &Context,
    actor: &Actor,
    backup: &Reference,
    update: ItemUpdate,
    change: &Change,
) -> Result<BackupView> {
    update.check()?;
    let (handle, by, change) = (cx.clone(), actor.clone(), change.clone());
    let (reference, now) = (backup.clone(), cx.now());
    let id = edit(cx, change.dry_run, move |tx| {
        Box::pin(async move {
            let mut backup = own_backup(tx, &by, &reference).await?;
            check_version(&change, backup.version)?;
            let detail = update.words();
            rename(&handle, tx, &mut backup, update.name).await?;
            backup.description = update.description.unwrap_or(backup.description);
            backup.labels = update.labels.unwrap_or(backup.labels);
            backup.protected = update.protected.unwrap_or(backup.protected);
            save(tx, &mut backup, now).await?;
            let entry = Entry::new(&by, "backup_update", backup.id.as_uuid());
            audit::record(tx, entry.detail(detail), now).await?;
            Ok(backup.id)
        })
    })
    .await?;
    show(cx, actor, &id.into()).await
}

async fn rename(cx: &Context, tx: &mut Tx, backup: &mut Backup, name: Option<Name>) -> Result<()> {
    let Some(name) = name.filter(|name| *name != backup.name) else {
        return Ok(());
    };
    let plan = match volume_by_id(tx, backup.volume_id).await? {
        Some(volume) => cx.plan(tx, volume.plan_id).await?,
        None => cx.default_plan(),
    };
    let scope = NameScope {
        kind: ItemKind::Backup,
        naming: &plan.plan.naming,
        account_id: backup.account_id,
        volume_id: backup.volume_id,
    };
    scope.check(tx, &name).await?;
    backup.name = name;
    Ok(())
}

async fn save(tx: &mut Tx, backup: &mut Backup, now: Timestamp) -> Result<()> {
    backup.version += 1;
    backup_update(tx, backup).await?;
    let event = NewEvent {
        account_id: backup.account_id,
        kind: EventKind::Backup,
        resource_id: backup.id.as_uuid(),
        volume_id: Some(backup.volume_id),
        operation_id: None,
        at: now,
    };
    Ok(event_insert(tx, &event).await?)
}

/// The pool whose node does the work on a backup: that of its volume, or any that reaches its
/// target.
fn work_pool(cx: &Context, backup: &Backup, source: Option<&Volume>) -> Option<PoolId> {
    let places = cx.places();
    let near = places.pool_near(backup.target_id).map(|pool| pool.id);
    source.map(|volume| volume.pool_id).or(near)
}

/// The vault of an account in a target; made when it is the first backup there.
async fn vault_ref(
    desk: &mut Desk<'_>,
    account_id: AccountId,
    target_id: TargetId,
) -> Result<VaultRef> {
    let vault_id = match vault_of(desk.tx, account_id, target_id).await? {
        Some(id) => id,
        None => {
            let id = VaultId::generate(desk.cx.env());
            vault_insert(desk.tx, id, account_id, target_id, desk.now).await?;
            id
        }
    };
    Ok(VaultRef {
        target_id,
        vault_id,
        account_id,
    })
}

/// The vault that holds a backup.
pub(crate) async fn vault_of_backup(desk: &mut Desk<'_>, backup: &Backup) -> Result<VaultRef> {
    vault_ref(desk, backup.account_id, backup.target_id).await
}

/// Deletes a backup; every other one stays. `confirm` is its name, typed, where the plan asks for
/// that.
pub async fn delete(
    cx: &Context,
    actor: &Actor,
    backup: &Reference,
    confirm: Option<&str>,
    change: &Change,
) -> Result<Answer> {
    let ask = Ask::new(cx, actor, change, "backup_delete", &(backup, confirm))?;
    let (backup, confirm) = (backup.clone(), confirm.map(str::to_owned));
    ask.admit(move |desk| Box::pin(admit_delete(desk, backup, confirm)))
        .await
}

/// Decides on the end of a backup.
pub(crate) async fn admit_delete(
    mut desk: Desk<'_>,
    backup: Reference,
    confirm: Option<String>,
) -> Result<Accepted> {
    let mut backup = own_backup(desk.tx, &desk.actor, &backup).await?;
    let (plan, pool_id, allowed) = decide(&mut desk, Action::BackupDelete, &backup).await?;
    if !desk.change.dry_run || confirm.is_some() {
        check_confirmation(plan.plan.confirm.delete, &backup.name, confirm.as_deref())?;
    }
    let vault = vault_of_backup(&mut desk, &backup).await?;
    let work = Request::BackupDelete { vault };
    let draft = draft(&backup, Action::BackupDelete, work, pool_id);
    backup.state = ItemState::Deleting;
    backup.operation_id = Some(desk.operation_id);
    backup.version += 1;
    backup_update(desk.tx, &backup).await?;
    desk.accept(draft, &plan.plan, allowed).await
}

/// Proves a backup's data again; `deep` decrypts and compares every chunk, too.
pub async fn verify(
    cx: &Context,
    actor: &Actor,
    backup: &Reference,
    deep: bool,
    change: &Change,
) -> Result<Answer> {
    let ask = Ask::new(cx, actor, change, "backup_verify", &(backup, deep))?;
    let backup = backup.clone();
    ask.admit(move |desk| Box::pin(admit_verify(desk, backup, deep)))
        .await
}

/// Decides on a proof of a backup.
pub(crate) async fn admit_verify(
    mut desk: Desk<'_>,
    backup: Reference,
    deep: bool,
) -> Result<Accepted> {
    let backup = own_backup(desk.tx, &desk.actor, &backup).await?;
    let (plan, pool_id, allowed) = decide(&mut desk, Action::BackupVerify, &backup).await?;
    let vault = vault_of_backup(&mut desk, &backup).await?;
    let work = Request::BackupVerify { vault, deep };
    let draft = draft(&backup, Action::BackupVerify, work, pool_id);
    desk.accept(draft, &plan.plan, allowed).await
}

/// What the guard says of work on a backup.
async fn decide(
    desk: &mut Desk<'_>,
    action: Action,
    backup: &Backup,
) -> Result<(Arc<PlanVersion>, PoolId, Allowed)> {
    desk.check_version(backup.version)?;
    let source = volume_by_id(desk.tx, backup.volume_id).await?;
    let (plan, places) = (desk.plan(source.as_ref()).await?, desk.cx.places());
    let pool_id = work_pool(&desk.cx, backup, source.as_ref()).ok_or_else(no_pool)?;
    let id = backup.id.as_uuid();
    let item = desk.item_facts(id, backup.state, backup.protected).await?;
    let facts = desk.source_facts(source.as_ref()).await?;
    let pool = places.pool(pool_id)?;
    let allowed = desk
        .can(action, &plan.plan, pool, facts, Some(item))
        .await?;
    Ok((plan, pool_id, allowed))
}

fn no_pool() -> Refusal {
    Refusal::new(
        ProblemCode::NodeOffline,
        "No node reaches the backup's target now.",
    )
    .or(WayOut::AskOperator)
}

fn draft(backup: &Backup, action: Action, request: Request, pool_id: PoolId) -> Draft {
    Draft {
        action,
        request,
        pool_id,
        project_id: backup.project_id,
        volume: Some((backup.volume_id, backup.volume_name.clone())),
        snapshot_id: None,
        backup_id: Some(backup.id),
    }
}

/// Backs a volume up.
pub async fn create(
    cx: &Context,
    actor: &Actor,
    volume: &Reference,
    request: BackupCreate,
    change: &Change,
) -> Result<Answer> {
    check_texts(&request.item.description, &request.item.labels)?;
    let ask = Ask::new(cx, actor, change, "backup_create", &(volume, &request))?;
    let volume = volume.clone();
    ask.admit(move |desk| Box::pin(admit_create(desk, volume, request)))
        .await
}

/// Decides on a backup.
pub(crate) async fn admit_create(
    mut desk: Desk<'_>,
    volume: Reference,
    request: BackupCreate,
) -> Result<Accepted> {
    let volume = own_volume(desk.tx, &desk.actor, &volume).await?;
    desk.check_version(volume.version)?;
    let (plan, places) = (desk.plan(Some(&volume)).await?, desk.cx.places());
    let pool = places.pool(volume.pool_id)?;
    let facts = desk.volume_facts(&volume).await?;
    let copied = copied(&mut desk, &volume, request.snapshot.as_ref()).await?;
    let item = copied.map(|(_, facts)| facts);
    let allowed = desk
        .can(Action::BackupCreate, &plan.plan, pool, Some(facts), item)
        .await?;
    // The guard has seen that there is one.
    let target = places.target_of(pool).ok_or_else(no_pool)?.id;
    let vault = vault_ref(&mut desk, volume.account_id, target).await?;
    let parent = backup_latest(desk.tx, volume.id, target).await?;
    let scope = NameScope {
        kind: ItemKind::Backup,
        naming: &plan.plan.naming,
        account_id: volume.account_id,
        volume_id: volume.id,
    };
    let name = scope
        .choose(desk.tx, request.item.name.clone(), desk.now)
        .await?;
    let backup = pending(&desk, &volume, target, name, request.item);
    backup_insert(desk.tx, &backup).await?;
    let snapshot_id = copied.map(|(id, _)| id);
    let draft = Draft {
        action: Action::BackupCreate,
        request: Request::BackupCreate {
            vault,
            snapshot_id,
            parent,
        },
        pool_id: volume.pool_id,
        project_id: volume.project_id,
        volume: Some((volume.id, volume.name.clone())),
        snapshot_id,
        backup_id: Some(backup.id),
    };
    desk.lock(volume).await?;
    desk.accept(draft, &plan.plan, allowed).await
}

/// The snapshot of this volume that is to be copied, and what the guard needs to know of it.
async fn copied(
    desk: &mut Desk<'_>,
    volume: &Volume,
    reference: Option<&Reference>,
) -> Result<Option<(SnapshotId, ItemFacts)>> {
    let Some(reference) = reference else {
        return Ok(None);
    };
    let snapshot = own_snapshot(desk.tx, &desk.actor, reference)
        .await
        .map_err(|error| error.at("/snapshot"))?;
    if snapshot.volume_id != volume.id {
        let text = "That snapshot is of another volume.";
        return Err(Refusal::new(ProblemCode::InvalidRequest, text)
            .at("/snapshot")
            .into());
    }
    let id = snapshot.id.as_uuid();
    let facts = desk
        .item_facts(id, snapshot.state, snapshot.protected)
        .await?;
    Ok(Some((snapshot.id, facts)))
}

/// The row of a backup that was just asked for.
fn pending(
    desk: &Desk<'_>,
    volume: &Volume,
    target_id: TargetId,
    name: Name,
    request: ItemCreate,
) -> Backup {
    Backup {
        id: BackupId::generate(desk.cx.env()),
        account_id: volume.account_id,
        project_id: volume.project_id,
        target_id,
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
        bytes_read: ByteCount::ZERO,
        content_hash: None,
        verified_at: None,
        duration_ms: None,
        protected: false,
        failure: None,
        operation_id: Some(desk.operation_id),
        created_at: desk.now,
        version: 1,
    }
}
