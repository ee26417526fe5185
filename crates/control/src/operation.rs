//! Operations, as their owners and operators see them.

use stillpoint_model::Timestamp;
use stillpoint_model::account::Actor;
use stillpoint_model::id::OperationId;
use stillpoint_model::operation::{Operation, OperationState};
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_store::Tx;
use stillpoint_store::operation::{
    OperationFilter, operation_by_id, operation_list, operation_run,
};

use crate::admission::Ask;
use crate::audit::{self, Entry};
use crate::engine;
use crate::error::{Error, Result};
use crate::once::Once;
use crate::reference::{instance_id_for_list, volume_id_for_list};
use crate::{Answer, Change, Context, Cursor, ListQuery, Page, Reference};

mod again;

use again::again;
pub(crate) use again::{not_failed, point};

/// The longest reason of an administrator, in bytes.
const MAX_REASON_BYTES: usize = 1000;

/// Which operations.
#[derive(Clone, Debug, Default)]
pub struct OperationQuery {
    /// Which page.
    pub page: ListQuery,
    /// Only those about this volume, which may be gone when it is named by its id.
    pub volume: Option<Reference>,
    /// Only those about this instance, which may be gone when it is named by its id.
    pub instance: Option<Reference>,
    /// Only those under way, or only those that are over.
    pub in_flight: Option<bool>,
    /// Those of every account. For administrators alone.
    pub all_accounts: bool,
}

/// A page of operations, newest first.
pub async fn list(cx: &Context, actor: &Actor, query: &OperationQuery) -> Result<Page<Operation>> {
    if query.all_accounts {
        check_administrator(actor)?;
    }
    let mut conn = cx.db().read().await?;
    let volume = match &query.volume {
        Some(reference) => Some(volume_id_for_list(&mut conn, actor, reference).await?),
        None => None,
    };
    let instance = match &query.instance {
        Some(reference) => Some(instance_id_for_list(&mut conn, actor, reference).await?),
        None => None,
    };
    let filter = OperationFilter {
        volume,
        instance,
        in_flight: query.in_flight,
    };
    let account = (!query.all_accounts).then_some(actor.account_id);
    let rows = operation_list(&mut conn, account, &filter, &query.page.key()).await?;
    Ok(Page::of(rows, &query.page, |row| {
        Cursor::after(row.created_at, row.id.as_uuid())
    }))
}

/// One operation. Administrators see those of every account.
pub async fn show(cx: &Context, actor: &Actor, id: OperationId) -> Result<Operation> {
    let found = operation_by_id(&mut *cx.db().read().await?, id).await?;
    visible(actor, found)
}

fn visible(actor: &Actor, found: Option<Operation>) -> Result<Operation> {
    let seen = found.filter(|o| o.account_id == actor.account_id || actor.is_administrator());
    Ok(seen.ok_or_else(|| Refusal::not_found("operation"))?)
}

/// Asks an operation to stop. Its owner may, and an administrator. One that is already being
/// cancelled is answered as it is. `key` makes a repeated request the same request.
pub async fn cancel(
    cx: &Context,
    actor: &Actor,
    id: OperationId,
    key: Option<&str>,
) -> Result<Operation> {
    let once = Once::new(actor, key, "operation_cancel", &id)?;
    let (actor, now) = (actor.clone(), cx.now());
    let operation = cx
        .db()
        .write(move |tx| {
            Box::pin(async move {
                let operation = visible(&actor, operation_by_id(tx, id).await?)?;
                if once.before(tx).await?.is_some() {
                    return Ok::<_, Error>(operation);
                }
                if operation.state.is_terminal() {
                    return Err(over(&operation).into());
                }
                once.record(tx, id.as_uuid(), now).await?;
                let Some(stopping) = engine::cancel(tx, id, now).await? else {
                    return Ok(operation);
                };
                record(tx, &actor, "operation_cancel", &operation, "", now).await?;
                Ok(stopping)
            })
        })
        .await?;
    cx.engine_bell().notify_one();
    Ok(operation)
}

fn over(operation: &Operation) -> Refusal {
    let text = format!("The operation is over: {}.", operation.state);
    Refusal::new(ProblemCode::NotEligible, text)
}

async fn record(
    tx: &mut Tx,
    actor: &Actor,
    action: &str,
    operation: &Operation,
    detail: &str,
    now: Timestamp,
) -> Result<()> {
    let entry = Entry::new(actor, action, operation.id.as_uuid());
    audit::record(tx, entry.account(operation.account_id).detail(detail), now).await
}

fn check_administrator(actor: &Actor) -> Result<(), Refusal> {
    if actor.is_administrator() {
        return Ok(());
    }
    Err(Refusal::new(
        ProblemCode::Forbidden,
        "This is for administrators alone.",
    ))
}

fn check_reason(reason: &str) -> Result<(), Refusal> {
    if !reason.trim().is_empty() && reason.len() <= MAX_REASON_BYTES {
        return Ok(());
    }
    let text = format!("Give a reason of 1 to {MAX_REASON_BYTES} bytes; it is audited.");
    Err(Refusal::new(ProblemCode::InvalidRequest, text).at("/reason"))
}

/// Ends an operation on an administrator's word: its worker is fenced off, it fails with the
/// reason, and its volume is released. `key` makes a repeated request the same request.
pub async fn release(
    cx: &Context,
    actor: &Actor,
    id: OperationId,
    reason: &str,
    key: Option<&str>,
) -> Result<Operation> {
    check_administrator(actor)?;
    check_reason(reason)?;
    let once = Once::new(actor, key, "operation_release", &(id, reason))?;
    let (actor, reason, now) = (actor.clone(), reason.to_owned(), cx.now());
    let operation = cx
        .db()
        .write(move |tx| {
            Box::pin(async move {
                let operation = visible(&actor, operation_by_id(tx, id).await?)?;
                if once.before(tx).await?.is_some() {
                    return Ok(operation);
                }
                let Some(ending) = engine::release(tx, id, &reason, now).await? else {
                    return Err(Error::from(over(&operation)));
                };
                once.record(tx, id.as_uuid(), now).await?;
                record(tx, &actor, "operation_release", &operation, &reason, now).await?;
                Ok(ending)
            })
        })
        .await?;
    cx.engine_bell().notify_one();
    Ok(operation)
}

/// Has a failed operation's work asked for again, on an administrator's word and in the name of
/// its account. Every guard rail is asked again. What failed to be made gives way to the new
/// attempt, under the same name. The new operation is answered. `key` makes a repeated request
/// the same request.
pub async fn retry(
    cx: &Context,
    actor: &Actor,
    id: OperationId,
    reason: &str,
    key: Option<&str>,
) -> Result<Operation> {
    check_administrator(actor)?;
    check_reason(reason)?;
    // The key is the administrator's, the work is its owner's.
    let once = Once::new(actor, key, "operation_retry", &(id, reason))?;
    let found = operation_run(&mut *cx.db().read().await?, id).await?;
    let run = found.ok_or_else(|| Refusal::not_found("operation"))?;
    if run.operation.state != OperationState::Failed {
        let text = format!(
            "The operation is {}; only a failed one is retried.",
            run.operation.state
        );
        return Err(Refusal::new(ProblemCode::NotEligible, text).into());
    }
    let owner = Actor {
        account_id: run.operation.account_id,
        project_id: run.operation.project_id,
        ..actor.clone()
    };
    let change = Change::default();
    let ask = Ask::of(cx, &owner, &change, once)?;
    let note = format!("operation {id} retried: {reason}");
    let answer = ask
        .admit(move |desk| Box::pin(again(desk.noting(note), run.operation, run.order)))
        .await?;
    match answer {
        Answer::Accepted(operation) => Ok(operation),
        Answer::Preview(_) => Err(Error::Inconsistent("a retry is never a dry run".to_owned())),
    }
}
