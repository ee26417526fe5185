//! Backups.

use serde::Serialize;
use stillpoint_model::Timestamp;
use stillpoint_model::account::Actor;
use stillpoint_model::backup::Backup;
use stillpoint_model::name::Name;
use stillpoint_model::operation::Operation;
use stillpoint_model::plan::Confirmations;

use crate::error::Result;
use crate::item::{ItemCreate, ItemUpdate};
use crate::{Answer, Change, Context, ListQuery, Page, Permission, Reference};

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

/// A page of the account's backups, newest first.
pub async fn list(cx: &Context, actor: &Actor, query: &BackupQuery) -> Result<Page<BackupView>> {
    let _ = (cx, actor, query);
    todo!()
}

/// One backup.
pub async fn show(cx: &Context, actor: &Actor, backup: &Reference) -> Result<BackupView> {
    let _ = (cx, actor, backup);
    todo!()
}

/// Renames, describes, labels or protects a backup.
pub async fn update(
    cx: &Context,
    actor: &Actor,
    backup: &Reference,
    update: ItemUpdate,
    change: &Change,
) -> Result<BackupView> {
    let _ = (cx, actor, backup, update, change);
    todo!()
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
    let _ = (cx, actor, backup, confirm, change);
    todo!()
}

/// A request for a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BackupCreate {
    /// What is said of it.
    pub item: ItemCreate,
    /// Copy this snapshot of the volume instead of the volume as it is now.
    pub snapshot: Option<Reference>,
}

/// Backs a volume up.
pub async fn create(
    cx: &Context,
    actor: &Actor,
    volume: &Reference,
    request: BackupCreate,
    change: &Change,
) -> Result<Answer> {
    let _ = (cx, actor, volume, request, change);
    todo!()
}

/// Proves a backup's data again; `deep` decrypts and compares every chunk, too.
pub async fn verify(
    cx: &Context,
    actor: &Actor,
    backup: &Reference,
    deep: bool,
    change: &Change,
) -> Result<Answer> {
    let _ = (cx, actor, backup, deep, change);
    todo!()
}
