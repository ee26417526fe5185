//! Snapshots.

use stillpoint_model::Timestamp;
use stillpoint_model::account::Actor;
use stillpoint_model::operation::Operation;
use stillpoint_model::plan::Confirmations;
use stillpoint_model::snapshot::Snapshot;

use crate::error::Result;
use crate::item::{ItemCreate, ItemUpdate};
use crate::{Answer, Change, Context, ListQuery, Page, Permission, Reference};

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

/// A page of the account's snapshots, newest first.
pub async fn list(cx: &Context, actor: &Actor, query: &SnapshotQuery) -> Result<Page<SnapshotView>> {
    let _ = (cx, actor, query);
    todo!()
}

/// One snapshot.
pub async fn show(cx: &Context, actor: &Actor, snapshot: &Reference) -> Result<SnapshotView> {
    let _ = (cx, actor, snapshot);
    todo!()
}

/// Renames, describes, labels or protects a snapshot.
pub async fn update(
    cx: &Context,
    actor: &Actor,
    snapshot: &Reference,
    update: ItemUpdate,
    change: &Change,
) -> Result<SnapshotView> {
    let _ = (cx, actor, snapshot, update, change);
    todo!()
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
    let _ = (cx, actor, snapshot, confirm, change);
    todo!()
}

/// Takes a snapshot of a volume.
pub async fn create(
    cx: &Context,
    actor: &Actor,
    volume: &Reference,
    request: ItemCreate,
    change: &Change,
) -> Result<Answer> {
    let _ = (cx, actor, volume, request, change);
    todo!()
}
