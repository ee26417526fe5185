//! What operators see of the installation. Read only, for administrators alone.

use stillpoint_model::account::{Account, Actor};
use stillpoint_model::audit::AuditRecord;
use stillpoint_model::name::Name;
use stillpoint_model::place::{Node, Pool, Target};

use crate::error::Result;
use crate::{Context, ListQuery, Page};

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
    let _ = (cx, actor);
    todo!()
}

/// The pools.
pub async fn pools(cx: &Context, actor: &Actor) -> Result<Vec<Pool>> {
    let _ = (cx, actor);
    todo!()
}

/// The backup targets.
pub async fn targets(cx: &Context, actor: &Actor) -> Result<Vec<Target>> {
    let _ = (cx, actor);
    todo!()
}

/// The accounts, newest first.
pub async fn accounts(cx: &Context, actor: &Actor, query: &ListQuery) -> Result<Page<Account>> {
    let _ = (cx, actor, query);
    todo!()
}

/// The audit, newest first. The next part begins before the last record's sequence.
pub async fn audit(cx: &Context, actor: &Actor, query: &AuditQuery) -> Result<Vec<AuditRecord>> {
    let _ = (cx, actor, query);
    todo!()
}

/// Reads the whole audit and checks each record's hash and place. Answers how many there are,
/// or the sequence of the first that does not fit.
pub async fn verify_audit(cx: &Context, actor: &Actor) -> Result<Result<i64, i64>> {
    let _ = (cx, actor);
    todo!()
}
