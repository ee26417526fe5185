//! Operations, as their owners and operators see them.

use stillpoint_model::account::Actor;
use stillpoint_model::id::OperationId;
use stillpoint_model::operation::Operation;

use crate::error::Result;
use crate::{Context, ListQuery, Page, Reference};

/// Which operations.
#[derive(Clone, Debug, Default)]
pub struct OperationQuery {
    /// Which page.
    pub page: ListQuery,
    /// Only those about this volume, which may be gone when it is named by its id.
    pub volume: Option<Reference>,
    /// Only those under way, or only those that are over.
    pub in_flight: Option<bool>,
    /// Those of every account. For administrators alone.
    pub all_accounts: bool,
}

/// A page of operations, newest first.
pub async fn list(cx: &Context, actor: &Actor, query: &OperationQuery) -> Result<Page<Operation>> {
    let _ = (cx, actor, query);
    todo!()
}

/// One operation. Administrators see those of every account.
pub async fn show(cx: &Context, actor: &Actor, id: OperationId) -> Result<Operation> {
    let _ = (cx, actor, id);
    todo!()
}

/// Asks an operation to stop. Its owner may, and an administrator. One that is already being
/// cancelled is answered as it is.
pub async fn cancel(cx: &Context, actor: &Actor, id: OperationId) -> Result<Operation> {
    let _ = (cx, actor, id);
    todo!()
}

/// Ends an operation on an administrator's word: its worker is fenced off, it fails with the
/// reason, and its volume is released.
pub async fn release(
    cx: &Context,
    actor: &Actor,
    id: OperationId,
    reason: &str,
) -> Result<Operation> {
    let _ = (cx, actor, id, reason);
    todo!()
}

/// Has a failed operation's work asked for again, on an administrator's word. The new operation
/// is answered.
pub async fn retry(
    cx: &Context,
    actor: &Actor,
    id: OperationId,
    reason: &str,
) -> Result<Operation> {
    let _ = (cx, actor, id, reason);
    todo!()
}
