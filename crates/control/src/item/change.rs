//! What is changed about an item: its texts and its protection at once, its end by an operation.

use std::sync::Arc;

use stillpoint_model::Timestamp;
use stillpoint_model::account::Actor;
use stillpoint_model::guard::{Action, Allowed};
use stillpoint_model::id::PoolId;
use stillpoint_model::item::ItemState;
use stillpoint_model::name::Name;
use stillpoint_model::naming::check_confirmation;
use stillpoint_model::plan::PlanVersion;
use stillpoint_model::refusal::{ProblemCode, Refusal, WayOut};
use stillpoint_store::Tx;
use stillpoint_store::event::{NewEvent, event_insert};
use stillpoint_store::volume::volume_by_id;

use super::ItemUpdate;
use super::kind::Item;
use super::name::NameScope;
use super::show::show;
use crate::admission::{Accepted, Ask, Desk, check_version};
use crate::audit::{self, Entry};
use crate::change::edit;
use crate::error::Result;
use crate::reference::own_item;
use crate::{Answer, Change, Context, Reference};

/// Renames, describes, labels or protects an item.
pub(crate) async fn update<T: Item>(
    cx: &Context,
    actor: &Actor,
    reference: &Reference,
    update: ItemUpdate,
    change: &Change,
) -> Result<T::View> {
    update.check()?;
    let (handle, by, change) = (cx.clone(), actor.clone(), change.clone());
    let (reference, now) = (reference.clone(), cx.now());
    let id = edit(cx, change.dry_run, move |tx| {
        Box::pin(async move {
            let mut item: T = own_item(tx, &by, &reference).await?;
            let head = item.head();
            check_version(&change, head.version)?;
            let detail = update.words();
            rename(&handle, tx, &mut item, update.name).await?;
            let fields = item.fields();
            if let Some(description) = update.description {
                *fields.description = description;
            }
            if let Some(labels) = update.labels {
                *fields.labels = labels;
            }
            *fields.protected = update.protected.unwrap_or(head.protected);
            save(tx, &mut item, now).await?;
            let entry = Entry::new(&by, T::UPDATE, head.id);
            audit::record(tx, entry.detail(detail), now).await?;
            Ok(head.id)
        })
    })
    .await?;
    show::<T>(cx, actor, &Reference::Id(id)).await
}

async fn rename<T: Item>(
    cx: &Context,
    tx: &mut Tx,
    item: &mut T,
    name: Option<Name>,
) -> Result<()> {
    let head = item.head();
    let Some(name) = name.filter(|name| name != item.fields().name) else {
        return Ok(());
    };
    let plan = match volume_by_id(tx, head.volume_id).await? {
        Some(volume) => cx.plan(tx, volume.plan_id).await?,
        None => cx.default_plan(),
    };
    let scope = NameScope::of(T::KIND, &plan.plan, head.account_id, head.volume_id);
    scope.check(tx, &name).await?;
    *item.fields().name = name;
    Ok(())
}

async fn save<T: Item>(tx: &mut Tx, item: &mut T, now: Timestamp) -> Result<()> {
    *item.fields().version += 1;
    item.write(tx).await?;
    let head = item.head();
    let event = NewEvent {
        account_id: head.account_id,
        kind: T::EVENT,
        resource_id: head.id,
        volume_id: Some(head.volume_id),
        operation_id: None,
        at: now,
    };
    Ok(event_insert(tx, &[event]).await?)
}

/// Deletes an item; every other one stays. `confirm` is its name, typed, where the plan asks for
/// that.
pub(crate) async fn delete<T: Item>(
    cx: &Context,
    actor: &Actor,
    reference: &Reference,
    confirm: Option<&str>,
    change: &Change,
) -> Result<Answer> {
    let ask = Ask::new(cx, actor, change, T::DELETE.as_str(), &(reference, confirm))?;
    let (reference, confirm) = (reference.clone(), confirm.map(str::to_owned));
    ask.admit(move |desk| Box::pin(admit_delete::<T>(desk, reference, confirm)))
        .await
}

/// Decides on the end of an item.
pub(crate) async fn admit_delete<T: Item>(
    mut desk: Desk<'_>,
    reference: Reference,
    confirm: Option<String>,
) -> Result<Accepted> {
    let mut item: T = own_item(desk.tx, &desk.actor, &reference).await?;
    let (plan, pool_id, allowed) = decide(&mut desk, T::DELETE, &item).await?;
    if !desk.change.dry_run || confirm.is_some() {
        let name = item.fields().name;
        check_confirmation(plan.plan.confirm.delete, name, confirm.as_deref())?;
    }
    let work = item.deletion(&mut desk).await?;
    let draft = item.draft(T::DELETE, work, pool_id);
    let fields = item.fields();
    *fields.state = ItemState::Deleting;
    *fields.operation_id = Some(desk.operation_id);
    *fields.version += 1;
    item.write(desk.tx).await?;
    desk.accept(draft, &plan.plan, allowed).await
}

/// What the guard says of work on an item that exists, and the pool whose node does it.
pub(crate) async fn decide<T: Item>(
    desk: &mut Desk<'_>,
    action: Action,
    item: &T,
) -> Result<(Arc<PlanVersion>, PoolId, Allowed)> {
    let head = item.head();
    desk.check_version(head.version)?;
    let source = volume_by_id(desk.tx, head.volume_id).await?;
    let (plan, places) = (desk.plan(source.as_ref()).await?, desk.cx.places());
    let pool_id = item
        .work_pool(&desk.cx, source.as_ref())
        .ok_or_else(no_pool)?;
    let facts = desk.item_facts(&head).await?;
    let volume = desk.source_facts(source.as_ref()).await?;
    let pool = places.pool(pool_id)?;
    let allowed = desk
        .can(action, &plan.plan, pool, volume, Some(facts))
        .await?;
    Ok((plan, pool_id, allowed))
}

/// No pool is near enough to work on a backup.
pub(crate) fn no_pool() -> Refusal {
    Refusal::new(
        ProblemCode::NodeOffline,
        "No node reaches the backup's target now.",
    )
    .or(WayOut::AskOperator)
}
