//! What operators see of the installation, for administrators alone. Read only, but for the
//! confirmation of a collection that would remove more than it may by itself.

use stillpoint_model::ByteCount;
use stillpoint_model::account::{Account, Actor};
use stillpoint_model::audit::AuditRecord;
use stillpoint_model::care::VaultCare;
use stillpoint_model::id::VaultId;
use stillpoint_model::name::Name;
use stillpoint_model::place::{Node, Pool, Target};
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_store::account::account_list;
use stillpoint_store::audit::{audit_list, audit_list_after};
use stillpoint_store::care::{vault_care_by_id, vault_care_list, vault_care_update};
use stillpoint_store::place::{node_list, pool_list, target_list};

use crate::audit::{self, Entry, hash};
use crate::error::{Error, Result};
use crate::once::Once;
use crate::{Context, Cursor, ListQuery, Page, Reference};

/// Records read at once when the chain is checked.
const BATCH: u32 = 1000;

fn check_administrator(actor: &Actor) -> Result<(), Refusal> {
    if actor.is_administrator() {
        return Ok(());
    }
    Err(Refusal::new(
        ProblemCode::Forbidden,
        "This is for administrators alone.",
    ))
}

/// A node, and what goes with it.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// The node.
    pub node: Node,
    /// The name of its region.
    pub region_name: Name,
    /// Whether it answers.
    pub online: bool,
}

/// A pool, and what goes with it.
#[derive(Clone, Debug)]
pub struct PoolView {
    /// The pool.
    pub pool: Pool,
    /// The name of its node.
    pub node_name: Name,
}

/// A backup target, and what goes with it.
#[derive(Clone, Debug)]
pub struct TargetView {
    /// The target.
    pub target: Target,
    /// The name of its region.
    pub region_name: Name,
}

/// Which part of the audit, newest first.
#[derive(Clone, Copy, Debug)]
pub struct AuditQuery {
    /// Only records before this sequence.
    pub before: Option<i64>,
    /// How many at most, 1 to [`ListQuery::MAX`].
    pub limit: u32,
}

/// The nodes.
pub async fn nodes(cx: &Context, actor: &Actor) -> Result<Vec<NodeView>> {
    check_administrator(actor)?;
    let nodes = node_list(&mut *cx.db().read().await?).await?;
    let (places, now) = (cx.places(), cx.now());
    nodes
        .into_iter()
        .map(|node| {
            Ok(NodeView {
                region_name: places.region_of_node(&node)?.name.clone(),
                online: cx.is_online(&node, now),
                node,
            })
        })
        .collect()
}

/// The pools.
pub async fn pools(cx: &Context, actor: &Actor) -> Result<Vec<PoolView>> {
    check_administrator(actor)?;
    let pools = pool_list(&mut *cx.db().read().await?).await?;
    let places = cx.places();
    pools
        .into_iter()
        .map(|pool| {
            Ok(PoolView {
                node_name: places.node(pool.node_id)?.name.clone(),
                pool,
            })
        })
        .collect()
}

/// The backup targets.
pub async fn targets(cx: &Context, actor: &Actor) -> Result<Vec<TargetView>> {
    check_administrator(actor)?;
    let targets = target_list(&mut *cx.db().read().await?).await?;
    let places = cx.places();
    targets
        .into_iter()
        .map(|target| {
            Ok(TargetView {
                region_name: places.region(target.region_id)?.name.clone(),
                target,
            })
        })
        .collect()
}

/// A backup target with the vaults in it.
#[derive(Clone, Debug)]
pub struct TargetCare {
    /// The target.
    pub target: TargetView,
    /// How its vaults are cared for, by account.
    pub vaults: Vec<VaultCare>,
}

/// One backup target, and how the vaults in it are.
pub async fn target(cx: &Context, actor: &Actor, reference: &Reference) -> Result<TargetCare> {
    let found = targets(cx, actor).await?.into_iter().find(|view| {
        let target = &view.target;
        match reference {
            Reference::Id(id) => target.id.as_uuid() == *id,
            Reference::Name(name) => target.name == *name,
        }
    });
    let target = found.ok_or_else(|| Refusal::not_found("target"))?;
    let mut vaults = vault_care_list(&mut *cx.db().read().await?).await?;
    vaults.retain(|care| care.target_id == target.target.id);
    vaults.sort_by(|a, b| a.account_name.cmp(&b.account_name));
    Ok(TargetCare { target, vaults })
}

/// Lets the next collection of a vault remove so many bytes: what it said that it would remove, or
/// more. `key` makes a repeated request the same request.
pub async fn confirm_collection(
    cx: &Context,
    actor: &Actor,
    reference: &Reference,
    confirmation: (VaultId, ByteCount),
    key: Option<&str>,
) -> Result<TargetCare> {
    let (vault_id, bytes) = confirmation;
    let seen = target(cx, actor, reference).await?;
    if !seen.vaults.iter().any(|care| care.vault_id == vault_id) {
        return Err(Refusal::not_found("vault").at("/vault_id").into());
    }
    let once = Once::new(actor, key, "collection_confirm", &(vault_id, bytes))?;
    let (asker, now) = (actor.clone(), cx.now());
    cx.db()
        .write(move |tx| {
            Box::pin(async move {
                if once.before(tx).await?.is_some() {
                    return Ok::<_, Error>(());
                }
                let Some(mut care) = vault_care_by_id(tx, vault_id).await? else {
                    return Err(Refusal::not_found("vault").into());
                };
                check_confirmation(&care, bytes)?;
                care.confirmed = bytes;
                care.collect_due_at = now;
                vault_care_update(tx, &care).await?;
                once.record(tx, vault_id.as_uuid(), now).await?;
                let entry = Entry::new(&asker, "collection_confirm", vault_id.as_uuid());
                let entry = entry.account(care.account_id).detail(bytes.to_string());
                audit::record(tx, entry, now).await
            })
        })
        .await?;
    cx.engine_bell().notify_one();
    target(cx, actor, reference).await
}

/// A confirmation names what was asked for, so that it never covers more than a person has seen.
fn check_confirmation(care: &VaultCare, bytes: ByteCount) -> Result<(), Refusal> {
    let asked = care.collection.as_ref().and_then(|last| last.would_free);
    let Some(asked) = asked else {
        let text = "No collection of this vault waits for a confirmation.";
        return Err(Refusal::new(ProblemCode::NotEligible, text));
    };
    if bytes >= asked {
        return Ok(());
    }
    let text = format!("The collection would remove {asked}. Confirm that many bytes, or more.");
    Err(Refusal::new(ProblemCode::InvalidRequest, text).at("/bytes"))
}

/// The accounts, newest first.
pub async fn accounts(cx: &Context, actor: &Actor, query: &ListQuery) -> Result<Page<Account>> {
    check_administrator(actor)?;
    let accounts = account_list(&mut *cx.db().read().await?, &query.key()).await?;
    Ok(Page::of(accounts, query, |a| {
        Cursor::after(a.created_at, a.id.as_uuid())
    }))
}

/// The audit, newest first. The next part begins before the last record's sequence.
pub async fn audit(cx: &Context, actor: &Actor, query: &AuditQuery) -> Result<Vec<AuditRecord>> {
    check_administrator(actor)?;
    let before = query.before.unwrap_or(i64::MAX);
    let limit = query.limit.clamp(1, ListQuery::MAX);
    Ok(audit_list(&mut *cx.db().read().await?, before, limit).await?)
}

/// Reads the whole audit and checks each record's hash and place. Answers how many there are,
/// or the sequence of the first that does not fit.
pub async fn verify_audit(cx: &Context, actor: &Actor) -> Result<Result<i64, i64>> {
    check_administrator(actor)?;
    let (mut last, mut before) = (0, String::new());
    loop {
        let records = audit_list_after(&mut *cx.db().read().await?, last, BATCH).await?;
        if records.is_empty() {
            return Ok(Ok(last));
        }
        for record in records {
            if record.sequence != last + 1 || record.hash != hash(&before, &record) {
                return Ok(Err(record.sequence));
            }
            (last, before) = (record.sequence, record.hash);
        }
    }
}
