//! What operators see of the installation, for administrators alone. Read only, but for the
//! confirmation of a collection that would remove more than it may by itself, and for where the backups
//! of a target are copied to.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use stillpoint_model::account::{Account, Actor};
use stillpoint_model::audit::AuditRecord;
use stillpoint_model::care::{CopyCare, CopyCounts, Holdings, VaultCare};
use stillpoint_model::id::{BackupId, VaultId};
use stillpoint_model::name::Name;
use stillpoint_model::operation::{Phase, Progress};
use stillpoint_model::place::{CopyRule, Node, Pool, Target, TargetRole};
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::{ByteCount, Timestamp};
use stillpoint_store::Conn;
use stillpoint_store::account::account_list;
use stillpoint_store::audit::{audit_list, audit_list_after};
use stillpoint_store::backup::backup_by_id;
use stillpoint_store::backup_copy::{backup_copy_counts, backup_copy_holdings};
use stillpoint_store::care::{
    backup_holdings, vault_care_by_id, vault_care_copy_now, vault_care_list, vault_care_update,
};
use stillpoint_store::place::{node_list, pool_list, target_list, target_update_copies};

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
    /// The region that it is in: for copies what the settings call it, if they do.
    pub region_name: String,
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
    let elsewhere = |target: &Target| match target.role {
        TargetRole::Backups => None,
        TargetRole::Copies => cx.settings().copies_region.clone(),
    };
    targets
        .into_iter()
        .map(|target| {
            let here = &places.region(target.region_id)?.name;
            Ok(TargetView {
                region_name: elsewhere(&target).unwrap_or_else(|| here.to_string()),
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
    /// Where its backups are copied to, and that target's name.
    pub copies: Option<(CopyRule, Name)>,
    /// How its vaults are cared for, by account.
    pub vaults: Vec<VaultView>,
}

/// A vault, and what goes with it.
#[derive(Clone, Debug)]
pub struct VaultView {
    /// How it is cared for.
    pub care: VaultCare,
    /// What it holds.
    pub holds: Holdings,
    /// What the backups are called, with their volumes, that its damage affects.
    pub affected: BTreeMap<BackupId, String>,
    /// How it is copied: those of it, or those that it is.
    pub copies: Option<CopiesView>,
}

/// How the copies of a vault are.
#[derive(Clone, Debug)]
pub struct CopiesView {
    /// The care of the vault that holds them.
    pub care: VaultCare,
    /// How that is filled.
    pub filling: CopyCare,
    /// The target of the backups.
    pub from: Name,
    /// The target of the copies.
    pub to: Name,
    /// Whether an operator still wants them to follow.
    pub active: bool,
    /// How many there are and are to be.
    pub counts: CopyCounts,
    /// When the first copies of deleted backups are deleted, if there are any.
    pub next_deletion: Option<Timestamp>,
}

impl CopiesView {
    /// How far the copying is that goes on now.
    pub fn copying(&self) -> Option<Progress> {
        let copies = |progress: &Progress| progress.phase == Phase::Copying;
        self.care.progress.filter(copies)
    }
}

/// One backup target, and how the vaults in it are.
pub async fn target(cx: &Context, actor: &Actor, reference: &Reference) -> Result<TargetCare> {
    let all = targets(cx, actor).await?;
    let target = find(&all, reference)
        .cloned()
        .ok_or_else(|| Refusal::not_found("target"))?;
    let copies = target.target.copies.and_then(|rule| {
        let to = all.iter().find(|view| view.target.id == rule.to)?;
        Some((rule, to.target.name.clone()))
    });
    let mut conn = cx.db().read().await?;
    let every = vault_care_list(&mut conn).await?;
    let mut vaults = Vec::new();
    for care in every.iter().filter(|c| c.target_id == target.target.id) {
        vaults.push(VaultView {
            holds: match care.copies {
                None => backup_holdings(&mut conn, care).await?,
                Some(_) => backup_copy_holdings(&mut conn, care).await?,
            },
            affected: names_of_affected(&mut conn, care).await?,
            copies: copies_view(&mut conn, cx, care, &every).await?,
            care: care.clone(),
        });
    }
    vaults.sort_by(|a, b| a.care.account_name.cmp(&b.care.account_name));
    Ok(TargetCare {
        target,
        copies,
        vaults,
    })
}

async fn names_of_affected(
    conn: &mut Conn,
    care: &VaultCare,
) -> Result<BTreeMap<BackupId, String>> {
    let mut names = BTreeMap::new();
    for id in care.damage.iter().flat_map(|bad| &bad.affected) {
        if !names.contains_key(id)
            && let Some(row) = backup_by_id(conn, *id).await?
        {
            names.insert(*id, format!("{} of {}", row.name, row.volume_name));
        }
    }
    Ok(names)
}

fn find<'a>(all: &'a [TargetView], reference: &Reference) -> Option<&'a TargetView> {
    all.iter().find(|view| match reference {
        Reference::Id(id) => view.target.id.as_uuid() == *id,
        Reference::Name(name) => view.target.name == *name,
    })
}

/// The copies that belong to a vault: its own, or itself.
async fn copies_view(
    conn: &mut Conn,
    cx: &Context,
    care: &VaultCare,
    every: &[VaultCare],
) -> Result<Option<CopiesView>> {
    let is_filled = |other: &&VaultCare| other.vault_id == care.vault_id && other.copies.is_some();
    let own = Some(care).filter(|care| care.copies.is_some());
    let Some(of) = own.or_else(|| every.iter().find(is_filled)) else {
        return Ok(None);
    };
    let Some(filling) = of.copies.clone() else {
        return Ok(None);
    };
    let places = cx.places();
    let source = places.target(filling.source_id)?;
    let rule = source.copies.filter(|rule| rule.to == of.target_id);
    let behind = rule.map_or(Duration::ZERO, |rule| rule.every());
    let behind_before = cx.now().saturating_sub(behind);
    let counts = backup_copy_counts(conn, of, filling.source_id, behind_before).await?;
    let keep = cx.settings().care.keep_copies();
    Ok(Some(CopiesView {
        from: source.name.clone(),
        to: places.target(of.target_id)?.name.clone(),
        active: rule.is_some(),
        next_deletion: counts.deleted_since.map(|since| since.saturating_add(keep)),
        counts,
        care: of.clone(),
        filling,
    }))
}

/// Where the backups of a target are to be copied to.
#[derive(Clone, Debug, Serialize)]
pub struct CopiesSet {
    /// The target that gets the copies.
    pub to: Reference,
    /// Seconds between two looks for what is new.
    pub every_s: u32,
}

/// Has the backups of a target copied into another one, or no longer. Copies that there are stay as
/// they are, and are cared for. `key` makes a repeated request the same request.
pub async fn set_copies(
    cx: &Context,
    actor: &Actor,
    reference: &Reference,
    wanted: Option<CopiesSet>,
    key: Option<&str>,
) -> Result<TargetCare> {
    let all = targets(cx, actor).await?;
    let source = find(&all, reference).ok_or_else(|| Refusal::not_found("target"))?;
    let rule = match &wanted {
        Some(wanted) => Some(check_copies(&all, source, wanted)?),
        None => None,
    };
    let id = source.target.id;
    let once = Once::new(actor, key, "target_copies_set", &(id, &wanted))?;
    let (asker, now) = (actor.clone(), cx.now());
    let name_of = |id| {
        let found = all.iter().find(|view| view.target.id == id);
        found.map_or("", |view| view.target.name.as_str())
    };
    let detail = match rule {
        Some(rule) => format!("to {} every {} s", name_of(rule.to), rule.every_s),
        None => "no longer".to_owned(),
    };
    cx.db()
        .write(move |tx| {
            Box::pin(async move {
                if once.before(tx).await?.is_some() {
                    return Ok::<_, Error>(());
                }
                target_update_copies(tx, id, rule).await?;
                vault_care_copy_now(tx, id, now).await?;
                once.record(tx, id.as_uuid(), now).await?;
                let entry = Entry::new(&asker, "target_copies_set", id.as_uuid());
                audit::record(tx, entry.detail(detail), now).await
            })
        })
        .await?;
    cx.reload_places().await?;
    cx.engine_bell().notify_one();
    target(cx, actor, &Reference::Id(id.as_uuid())).await
}

/// Copies go from where backups are made to where only copies are, so that there is no circle.
fn check_copies(
    all: &[TargetView],
    source: &TargetView,
    wanted: &CopiesSet,
) -> Result<CopyRule, Refusal> {
    let to = find(all, &wanted.to).ok_or_else(|| Refusal::not_found("target").at("/to"))?;
    if source.target.role != TargetRole::Backups {
        let text = "This target holds copies. What is in it is not copied further.";
        return Err(Refusal::new(ProblemCode::NotEligible, text));
    }
    if to.target.role != TargetRole::Copies {
        let text = "Backups are made into that target. Copies need one of their own: name it in the \
                    server's settings as [second_target].";
        return Err(Refusal::new(ProblemCode::NotEligible, text).at("/to"));
    }
    if !(CopyRule::MIN_EVERY_S..=CopyRule::MAX_EVERY_S).contains(&wanted.every_s) {
        let text = "The time between two copies is a minute to 31 days.";
        return Err(Refusal::new(ProblemCode::InvalidRequest, text).at("/every_s"));
    }
    Ok(CopyRule {
        to: to.target.id,
        every_s: wanted.every_s,
    })
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
    if !seen.vaults.iter().any(|v| v.care.vault_id == vault_id) {
        return Err(Refusal::not_found("vault").at("/vault_id").into());
    }
    let target_id = seen.target.target.id;
    let asked = (vault_id, target_id, bytes);
    let once = Once::new(actor, key, "collection_confirm", &asked)?;
    let (asker, now) = (actor.clone(), cx.now());
    cx.db()
        .write(move |tx| {
            Box::pin(async move {
                if once.before(tx).await?.is_some() {
                    return Ok::<_, Error>(());
                }
                let Some(mut care) = vault_care_by_id(tx, vault_id, target_id).await? else {
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
