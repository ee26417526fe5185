//! Items as their owners see them: one by one, and in pages.

use std::collections::HashMap;

use stillpoint_model::Timestamp;
use stillpoint_model::account::Actor;
use stillpoint_model::guard::Action;
use stillpoint_model::id::VolumeId;
use stillpoint_model::operation::Operation;
use stillpoint_model::plan::Confirmations;
use stillpoint_store::Conn;
use stillpoint_store::volume::{CountedVolume, volume_counted_by_id};

use super::ItemQuery;
use super::kind::Item;
use crate::error::Result;
use crate::reference::{own_item, volume_id_for_list};
use crate::view::Surroundings;
use crate::{Context, Cursor, Page, Permission, Reference};

/// What goes with every item when it is shown.
pub(crate) struct Shown {
    /// Whether the volume it was made of still exists.
    pub(crate) source_exists: bool,
    /// An operation that makes, reads or deletes it.
    pub(crate) active_operation: Option<Operation>,
    /// What a person does before something is lost.
    pub(crate) confirm: Confirmations,
    /// What may be done with it now.
    pub(crate) permissions: Vec<Permission>,
    /// The time of the view.
    pub(crate) now: Timestamp,
}

async fn view<T: Item>(
    cx: &Context,
    conn: &mut Conn,
    around: &Surroundings,
    item: T,
    source: Option<&CountedVolume>,
) -> Result<T::View> {
    let plan = match source {
        Some((volume, _)) => cx.plan(conn, volume.plan_id).await?,
        None => cx.default_plan(),
    };
    let volume = match source {
        Some((volume, counts)) => Some(around.volume_facts(cx, volume, *counts)?),
        None => None,
    };
    let head = item.head();
    let facts = around.item_facts(&head);
    let pool = item.work_pool(cx, source.map(|(volume, _)| volume));
    let (rules, item_facts) = (&plan.plan, Some(facts));
    let of_volume = volume.as_ref();
    let mut permissions = around.permissions(cx, T::ACTIONS, rules, pool, of_volume, item_facts);
    // What becomes of its volume is nothing to an instance that starts as a copy of it.
    let makes = [Action::InstanceCreate];
    permissions.extend(around.permissions(cx, &makes, rules, pool, None, item_facts));
    let shown = Shown {
        source_exists: source.is_some(),
        active_operation: around.on_item(head.id).cloned(),
        confirm: plan.plan.confirm,
        permissions,
        now: around.now,
    };
    item.view(cx, shown)
}

/// A page of the account's items, newest first.
pub(crate) async fn list<T: Item>(
    cx: &Context,
    actor: &Actor,
    query: &ItemQuery,
) -> Result<Page<T::View>> {
    let mut conn = cx.db().read().await?;
    let (rows, sources) = rows::<T>(&mut conn, actor, query).await?;
    let sources: HashMap<VolumeId, CountedVolume> = sources
        .into_iter()
        .map(|source| (source.0.id, source))
        .collect();
    let around = Surroundings::of_account(cx, &mut conn, actor.account_id).await?;
    let page = Page::of(rows, &query.page, |row| {
        let head = row.head();
        Cursor::after(head.created_at, head.id)
    });
    let mut items = Vec::with_capacity(page.items.len());
    for row in page.items {
        let source = sources.get(&row.head().volume_id);
        items.push(view(cx, &mut conn, &around, row, source).await?);
    }
    Ok(Page {
        items,
        next: page.next,
    })
}

/// The items that a query asks for, and the volumes they were made of, as far as they exist.
async fn rows<T: Item>(
    conn: &mut Conn,
    actor: &Actor,
    query: &ItemQuery,
) -> Result<(Vec<T>, Vec<CountedVolume>)> {
    let key = query.page.key();
    let Some(volume) = &query.volume else {
        let rows = T::list(conn, actor, &key).await?;
        return Ok((rows, T::sources(conn, actor, &key).await?));
    };
    let id = volume_id_for_list(conn, actor, volume).await?;
    let rows = T::list_of_volume(conn, actor, id, &key).await?;
    let source = source_of(conn, actor, id).await?;
    Ok((rows, source.into_iter().collect()))
}

/// The volume that an item was made of, if it still exists.
async fn source_of(conn: &mut Conn, actor: &Actor, id: VolumeId) -> Result<Option<CountedVolume>> {
    let found = volume_counted_by_id(conn, id).await?;
    Ok(found.filter(|(volume, _)| volume.account_id == actor.account_id))
}

/// One item.
pub(crate) async fn show<T: Item>(
    cx: &Context,
    actor: &Actor,
    reference: &Reference,
) -> Result<T::View> {
    let mut conn = cx.db().read().await?;
    let item: T = own_item(&mut conn, actor, reference).await?;
    let head = item.head();
    let source = source_of(&mut conn, actor, head.volume_id).await?;
    let volume = source.as_ref().map(|(volume, _)| volume);
    let around =
        Surroundings::of_one(cx, &mut conn, actor.account_id, volume, Some(head.id)).await?;
    view(cx, &mut conn, &around, item, source.as_ref()).await
}
