//! Instance snapshots: how they are listed, shown, edited and deleted. How they are taken is in
//! [`create`], how an instance goes back to one in [`rebuild`], and how a new instance is made of
//! one in [`crate::instance::create_of_snapshot`].
//!
//! The parts are snapshots, listed and restored like any other; `instance_snapshot_id` says what
//! they are part of. They are not deleted alone, and rules for them are those of their volumes'
//! plans: an instance is captured when each of its volumes may be.

use stillpoint_model::Timestamp;
use stillpoint_model::account::Actor;
use stillpoint_model::event::EventKind;
use stillpoint_model::guard::{Action, ItemFacts};
use stillpoint_model::id::{InstanceId, InstanceSnapshotId};
use stillpoint_model::instance::Instance;
use stillpoint_model::instance_snapshot::InstanceSnapshot;
use stillpoint_model::item::ItemState;
use stillpoint_model::naming::check_confirmation;
use stillpoint_model::operation::Operation;
use stillpoint_model::plan::Confirmations;
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::saga::Request;
use stillpoint_model::snapshot::Snapshot;
use stillpoint_store::event::{NewEvent, event_insert};
use stillpoint_store::instance::{instance_by_id, instance_list_of_snapshots};
use stillpoint_store::instance_snapshot::{
    instance_snapshot_by_id, instance_snapshot_by_name, instance_snapshot_list,
    instance_snapshot_update,
};
use stillpoint_store::operation::operation_on_item;
use stillpoint_store::page::PageKey;
use stillpoint_store::snapshot::{snapshot_by_id, snapshot_update};
use stillpoint_store::volume::{
    CountedVolume, volume_counted_of_instance, volume_list_of_instance_snapshots,
};
use stillpoint_store::{Conn, Tx};

use crate::admission::{Accepted, Ask, Desk, Draft, active_facts, check_version};
use crate::audit::{self, Entry};
use crate::change::edit;
use crate::error::Result;
use crate::image::root_of;
use crate::instance::{members_of, plans_of};
use crate::item::ItemUpdate;
use crate::reference::instance_id_for_list;
use crate::view::Surroundings;
use crate::{Answer, Change, Context, Cursor, ListQuery, Page, Permission, Reference};

mod create;
mod rebuild;

pub(crate) use create::admit_again;
pub use create::{InstanceSnapshotCreate, create};
pub(crate) use rebuild::admit_rebuild;
pub use rebuild::rebuild;

/// An instance snapshot, and what goes with it.
#[derive(Clone, Debug)]
pub struct InstanceSnapshotView {
    /// The instance snapshot.
    pub instance_snapshot: InstanceSnapshot,
    /// Whether the instance it was taken of still exists.
    pub source_exists: bool,
    /// An operation that makes, reads or deletes it.
    pub active_operation: Option<Operation>,
    /// What a person does before something is lost.
    pub confirm: Confirmations,
    /// What may be done with it now: a new instance of it, an image of its root, its instance put
    /// back, its deletion.
    pub permissions: Vec<Permission>,
    /// The time of the view.
    pub now: Timestamp,
}

/// Which instance snapshots.
#[derive(Clone, Debug, Default)]
pub struct InstanceSnapshotQuery {
    /// Which page.
    pub page: ListQuery,
    /// Only those of this instance, which may be gone when it is named by its id.
    pub instance: Option<Reference>,
}

/// The actor's own instance snapshot.
pub(crate) async fn own_instance_snapshot(
    conn: &mut Conn,
    actor: &Actor,
    reference: &Reference,
) -> Result<InstanceSnapshot> {
    let found = match reference {
        Reference::Id(id) => {
            let id = InstanceSnapshotId::from_uuid(*id);
            instance_snapshot_by_id(conn, id)
                .await?
                .into_iter()
                .collect()
        }
        Reference::Name(name) => {
            let (account_id, project_id) = (actor.account_id, actor.project_id);
            instance_snapshot_by_name(conn, account_id, project_id, name).await?
        }
    };
    let is_own = |row: &InstanceSnapshot| row.account_id == actor.account_id;
    let mut own = found.into_iter().filter(is_own);
    let first = own
        .next()
        .ok_or_else(|| Refusal::not_found("instance snapshot"))?;
    if own.next().is_none() {
        return Ok(first);
    }
    let text = "More than one instance snapshot has that name. Use the id.";
    Err(Refusal::new(ProblemCode::InvalidRequest, text).into())
}

/// An instance that a snapshot was taken of, with its volumes.
type Source = (Instance, Vec<CountedVolume>);

/// The instance of this id with its volumes; none when it is gone.
async fn source_of(conn: &mut Conn, id: InstanceId) -> Result<Option<Source>> {
    match instance_by_id(conn, id).await? {
        Some(instance) => {
            let volumes = volume_counted_of_instance(conn, instance.id).await?;
            Ok(Some((instance, volumes)))
        }
        None => Ok(None),
    }
}

/// The instances that those of a page were taken of, as far as they still exist.
async fn sources_of_page(conn: &mut Conn, actor: &Actor, key: &PageKey) -> Result<Vec<Source>> {
    let (account_id, project_id) = (actor.account_id, actor.project_id);
    let instances = instance_list_of_snapshots(conn, account_id, project_id, key).await?;
    let volumes = volume_list_of_instance_snapshots(conn, account_id, project_id, key).await?;
    let of = |id: InstanceId| {
        let own = |(v, _): &&CountedVolume| v.own_instance().is_some_and(|own| own.id == id);
        volumes.iter().filter(own).cloned().collect()
    };
    let with_volumes = |instance: Instance| {
        let volumes = of(instance.id);
        (instance, volumes)
    };
    Ok(instances.into_iter().map(with_volumes).collect())
}

async fn view(
    cx: &Context,
    conn: &mut Conn,
    around: &Surroundings,
    row: InstanceSnapshot,
    source: Option<&Source>,
) -> Result<InstanceSnapshotView> {
    let plan = cx.default_plan();
    let ids = row.snapshots().map(|id| id.as_uuid());
    let active = std::iter::once(row.id.as_uuid())
        .chain(ids)
        .find_map(|id| around.on_item(id));
    let item = Some(facts_of(&row, active));
    let pool_id = row.pool_id;
    let ask = |action, instance, members: &[_]| {
        let rules = (&plan.plan, pool_id);
        around.permission_together(cx, action, rules, instance, item, members)
    };
    let mut permissions = vec![
        ask(Action::InstanceCreate, None, &[]),
        ask(Action::InstanceSnapshotDelete, None, &[]),
        match root_of(&row) {
            Ok(_) => ask(Action::ImageCreate, None, &[]),
            Err(refusal) => Permission {
                action: Action::ImageCreate,
                answer: Err(refusal),
            },
        },
    ];
    permissions.push(match source {
        None => Permission {
            action: Action::InstanceRebuild,
            answer: Err(rebuild::instance_is_gone()),
        },
        Some((instance, counted)) => {
            let volumes: Vec<_> = counted.iter().map(|(volume, _)| volume.clone()).collect();
            let facts = around.instance_facts(cx, instance, &volumes)?;
            match rebuild::held_volumes(&row, counted) {
                Err(refusal) => Permission {
                    action: Action::InstanceRebuild,
                    answer: Err(refusal),
                },
                Ok(held) => {
                    let plans = plans_of(cx, conn, &held).await?;
                    let members = members_of(cx, around, &held, &plans)?;
                    ask(Action::InstanceRebuild, Some(facts), &members)
                }
            }
        }
    });
    Ok(InstanceSnapshotView {
        source_exists: source.is_some(),
        active_operation: active.cloned(),
        confirm: plan.plan.confirm,
        permissions,
        now: around.now,
        instance_snapshot: row,
    })
}

/// What the guard needs to know of one that this operation makes, reads or deletes, or a part of it.
fn facts_of(row: &InstanceSnapshot, active: Option<&Operation>) -> ItemFacts {
    ItemFacts {
        state: row.state,
        protected: row.protected,
        keep_until: None,
        active_operation: active.map(active_facts),
        is_shared: false,
        fills: None,
        part_of: None,
    }
}

/// A page of the account's instance snapshots, newest first.
pub async fn list(
    cx: &Context,
    actor: &Actor,
    query: &InstanceSnapshotQuery,
) -> Result<Page<InstanceSnapshotView>> {
    let mut conn = cx.db().read().await?;
    let instance: Option<InstanceId> = match &query.instance {
        Some(reference) => Some(instance_id_for_list(&mut conn, actor, reference).await?),
        None => None,
    };
    let (account_id, project_id) = (actor.account_id, actor.project_id);
    let key = query.page.key();
    let rows = instance_snapshot_list(&mut conn, account_id, project_id, instance, &key).await?;
    let sources = match instance {
        Some(id) => source_of(&mut conn, id).await?.into_iter().collect(),
        None => sources_of_page(&mut conn, actor, &key).await?,
    };
    let around = Surroundings::of_account(cx, &mut conn, account_id).await?;
    let page = Page::of(rows, &query.page, |row| {
        Cursor::after(row.created_at, row.id.as_uuid())
    });
    let mut items = Vec::with_capacity(page.items.len());
    for row in page.items {
        let source = sources.iter().find(|(own, _)| own.id == row.instance_id);
        items.push(view(cx, &mut conn, &around, row, source).await?);
    }
    Ok(Page {
        items,
        next: page.next,
    })
}

/// One instance snapshot.
pub async fn show(
    cx: &Context,
    actor: &Actor,
    reference: &Reference,
) -> Result<InstanceSnapshotView> {
    let mut conn = cx.db().read().await?;
    let row = own_instance_snapshot(&mut conn, actor, reference).await?;
    let source = source_of(&mut conn, row.instance_id).await?;
    let around = Surroundings::of_account(cx, &mut conn, actor.account_id).await?;
    view(cx, &mut conn, &around, row, source.as_ref()).await
}

/// Renames, describes, labels or protects an instance snapshot. Its parts keep their names.
pub async fn update(
    cx: &Context,
    actor: &Actor,
    reference: &Reference,
    update: ItemUpdate,
    change: &Change,
) -> Result<InstanceSnapshotView> {
    update.check()?;
    let (handle, by, change) = (cx.clone(), actor.clone(), change.clone());
    let (reference, now) = (reference.clone(), cx.now());
    let id = edit(cx, change.dry_run, move |tx| {
        Box::pin(async move {
            let mut row = own_instance_snapshot(tx, &by, &reference).await?;
            check_version(&change, row.version)?;
            let detail = update.words();
            if let Some(name) = update.name.filter(|name| *name != row.name) {
                let naming = &handle.default_plan().plan.naming;
                create::check_name(tx, naming, (row.account_id, row.instance_id), &name).await?;
                row.name = name;
            }
            if let Some(description) = update.description {
                row.description = description;
            }
            if let Some(labels) = update.labels {
                row.labels = labels;
            }
            row.protected = update.protected.unwrap_or(row.protected);
            save(tx, &mut row, now).await?;
            let entry = Entry::new(&by, "instance_snapshot_update", row.id.as_uuid());
            audit::record(tx, entry.detail(detail), now).await?;
            Ok(row.id)
        })
    })
    .await?;
    show(cx, actor, &id.into()).await
}

async fn save(tx: &mut Tx, row: &mut InstanceSnapshot, now: Timestamp) -> Result<()> {
    row.version += 1;
    instance_snapshot_update(tx, row).await?;
    let event = NewEvent {
        account_id: row.account_id,
        kind: EventKind::InstanceSnapshot,
        resource_id: row.id.as_uuid(),
        volume_id: None,
        operation_id: None,
        at: now,
    };
    Ok(event_insert(tx, &[event]).await?)
}

/// Deletes an instance snapshot with its parts. `confirm` is its name, typed, where the plan asks
/// for that.
pub async fn delete(
    cx: &Context,
    actor: &Actor,
    reference: &Reference,
    confirm: Option<&str>,
    change: &Change,
) -> Result<Answer> {
    let asked = (reference, confirm);
    let ask = Ask::new(cx, actor, change, "instance_snapshot_delete", &asked)?;
    let (reference, confirm) = (reference.clone(), confirm.map(str::to_owned));
    ask.admit(move |desk| Box::pin(admit_delete(desk, reference, confirm)))
        .await
}

/// Decides on the end of an instance snapshot.
pub(crate) async fn admit_delete(
    mut desk: Desk<'_>,
    reference: Reference,
    confirm: Option<String>,
) -> Result<Accepted> {
    let mut row = own_instance_snapshot(desk.tx, &desk.actor, &reference).await?;
    desk.check_version(row.version)?;
    let (plan, places) = (desk.plan(None).await?, desk.cx.places());
    let pool = places.pool(row.pool_id)?;
    let (action, item) = (
        Action::InstanceSnapshotDelete,
        desk.whole_facts(&row).await?,
    );
    let allowed = desk.can(action, &plan.plan, pool, None, Some(item)).await?;
    if !desk.change.dry_run || confirm.is_some() {
        check_confirmation(plan.plan.confirm.delete, &row.name, confirm.as_deref())?;
    }
    row.state = ItemState::Deleting;
    row.operation_id = Some(desk.operation_id);
    row.version += 1;
    instance_snapshot_update(desk.tx, &row).await?;
    for id in row.snapshots() {
        if let Some(part) = snapshot_by_id(desk.tx, id).await? {
            let part = Snapshot {
                state: ItemState::Deleting,
                operation_id: Some(desk.operation_id),
                version: part.version + 1,
                ..part
            };
            snapshot_update(desk.tx, &part).await?;
        }
    }
    let draft = Draft {
        action,
        request: Request::InstanceSnapshotDelete {
            snapshots: row.snapshots().collect(),
        },
        pool_id: row.pool_id,
        project_id: row.project_id,
        volume: None,
        snapshot_id: None,
        backup_id: None,
        instance: None,
        image: None,
        instance_snapshot_id: Some(row.id),
    };
    desk.accept(draft, &plan.plan, allowed).await
}

impl Desk<'_> {
    /// What the guard needs to know of an instance snapshot and its parts.
    pub(crate) async fn whole_facts(&mut self, row: &InstanceSnapshot) -> Result<ItemFacts> {
        let mut active = operation_on_item(self.tx, row.id.as_uuid()).await?;
        for id in row.snapshots() {
            if active.is_none() {
                active = operation_on_item(self.tx, id.as_uuid()).await?;
            }
        }
        Ok(facts_of(row, active.as_ref()))
    }
}
