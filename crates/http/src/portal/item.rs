//! What snapshots and backups share on the page: one table, one menu, one set of dialogs.

mod choose;
mod dialog;
mod list;
mod view;

use std::collections::BTreeMap;

use stillpoint_control::backup::{self, BackupView};
use stillpoint_control::item::ItemUpdate;
use stillpoint_control::snapshot::{self, SnapshotView};
use stillpoint_control::{Answer as Outcome, Change, Permission, Reference, Result};
use stillpoint_model::Timestamp;
use stillpoint_model::account::Actor;
use stillpoint_model::guard::Action;
use stillpoint_model::id::{InstanceSnapshotId, VolumeId};
use stillpoint_model::item::{
    Consistency, ItemKind, ItemSizes, ItemState, RestorePointId, Trigger,
};
use stillpoint_model::name::Name;
use stillpoint_model::operation::Operation;
use stillpoint_model::plan::{Confirmation, Confirmations};
use stillpoint_model::refusal::Refusal;

pub(super) use choose::{keep_chosen, option, read, usable};
pub(super) use dialog::{nav, read_update, routes};
pub(super) use list::{create_fields, list_page, snapshot_tabs, volume_filter};
pub(super) use view::{consistency_words, expected_words, look_again, table};

use super::paths;
use super::ui::{self, Answer};
use crate::state::App;

/// A snapshot or a backup, with what a page shows of it.
pub(super) struct Item {
    pub(super) id: RestorePointId,
    pub(super) volume_id: VolumeId,
    pub(super) volume_name: Name,
    /// The instance snapshot that it is part of.
    pub(super) part_of: Option<InstanceSnapshotId>,
    pub(super) source_exists: bool,
    pub(super) name: Name,
    pub(super) description: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) state: ItemState,
    pub(super) consistency: Option<Consistency>,
    pub(super) trigger: Trigger,
    pub(super) sizes: ItemSizes,
    pub(super) duration_ms: Option<i64>,
    pub(super) protected: bool,
    /// Until when it was promised to stay, if that is not over.
    pub(super) keep_until: Option<Timestamp>,
    pub(super) failure: Option<String>,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) target_name: Option<Name>,
    pub(super) content_hash: Option<String>,
    pub(super) verified_at: Option<Timestamp>,
    pub(super) active: Option<Operation>,
    pub(super) confirm: Confirmations,
    pub(super) permissions: Vec<Permission>,
    pub(super) now: Timestamp,
}

impl From<SnapshotView> for Item {
    fn from(view: SnapshotView) -> Self {
        let snapshot = view.snapshot;
        Self {
            id: RestorePointId::Snapshot(snapshot.id),
            volume_id: snapshot.volume_id,
            volume_name: snapshot.volume_name,
            part_of: snapshot.instance_snapshot_id,
            source_exists: view.source_exists,
            name: snapshot.name,
            description: snapshot.description,
            labels: snapshot.labels,
            state: snapshot.state,
            consistency: snapshot.consistency,
            trigger: snapshot.trigger,
            sizes: snapshot.sizes,
            duration_ms: snapshot.duration_ms,
            protected: snapshot.protected,
            keep_until: None,
            failure: snapshot.failure,
            created_at: snapshot.created_at,
            expires_at: snapshot.expires_at,
            target_name: None,
            content_hash: None,
            verified_at: None,
            active: view.active_operation,
            confirm: view.confirm,
            permissions: view.permissions,
            now: view.now,
        }
    }
}

impl From<BackupView> for Item {
    fn from(view: BackupView) -> Self {
        let backup = view.backup;
        Self {
            id: RestorePointId::Backup(backup.id),
            volume_id: backup.volume_id,
            volume_name: backup.volume_name,
            part_of: None,
            source_exists: view.source_exists,
            name: backup.name,
            description: backup.description,
            labels: backup.labels,
            state: backup.state,
            consistency: backup.consistency,
            trigger: backup.trigger,
            sizes: backup.sizes,
            duration_ms: backup.duration_ms,
            protected: backup.protected,
            keep_until: backup.keep_until.filter(|until| *until > view.now),
            failure: backup.failure,
            created_at: backup.created_at,
            expires_at: None,
            target_name: Some(view.target_name),
            content_hash: backup.content_hash,
            verified_at: backup.verified_at,
            active: view.active_operation,
            confirm: view.confirm,
            permissions: view.permissions,
            now: view.now,
        }
    }
}

impl Item {
    /// Its id without its kind.
    pub(super) fn uuid(&self) -> String {
        match self.id {
            RestorePointId::Snapshot(id) => id.to_string(),
            RestorePointId::Backup(id) => id.to_string(),
        }
    }

    /// How a form chooses it: `snapshot:ID` or `backup:ID`.
    pub(super) fn choice(&self) -> String {
        format!("{}:{}", self.id.kind(), self.uuid())
    }

    /// The word for it.
    pub(super) fn noun(&self) -> &'static str {
        self.id.kind().as_str()
    }

    /// What the guard rails say of deleting it.
    pub(super) fn delete_answer(&self) -> Answer {
        let action = match self.id.kind() {
            ItemKind::Snapshot => Action::SnapshotDelete,
            ItemKind::Backup => Action::BackupDelete,
        };
        ui::answer(&self.permissions, action)
    }

    /// The name that must be typed before it is deleted, where the plan asks for that.
    pub(super) fn typed_to_delete(&self) -> Option<&str> {
        (self.confirm.delete == Confirmation::TypeName).then(|| self.name.as_str())
    }

    /// Where people look at it among the others of its volume; in the list of all when the
    /// volume is gone.
    pub(super) fn home(&self) -> String {
        let list = match self.id.kind() {
            ItemKind::Snapshot => "snapshots",
            ItemKind::Backup => "backups",
        };
        if self.source_exists {
            paths::volume_tab(self.volume_id, list)
        } else {
            format!("/{list}")
        }
    }

    /// Restoring is possible when either way of it is; otherwise the reason of the first.
    pub(super) fn restore_refusal(&self) -> Option<Refusal> {
        let in_place = ui::answer(&self.permissions, Action::RestoreInPlace);
        ui::answer(&self.permissions, Action::RestoreNew)
            .err()
            .filter(|_| in_place.is_err())
    }

    /// Whether something is going on with it.
    pub(super) fn is_moving(&self) -> bool {
        self.active.is_some()
            || !matches!(
                self.state,
                ItemState::Available | ItemState::Degraded | ItemState::Failed | ItemState::Lost
            )
    }
}

/// One item. An identifier that is neither an id nor a name names nothing.
pub(super) async fn load(app: &App, actor: &Actor, kind: ItemKind, text: &str) -> Result<Item> {
    let reference = Reference::parse(text, kind.as_str())?;
    Ok(match kind {
        ItemKind::Snapshot => snapshot::show(app.cx(), actor, &reference).await?.into(),
        ItemKind::Backup => backup::show(app.cx(), actor, &reference).await?.into(),
    })
}

async fn update(
    app: &App,
    actor: &Actor,
    id: RestorePointId,
    update: ItemUpdate,
    change: &Change,
) -> Result<()> {
    match id {
        RestorePointId::Snapshot(id) => {
            snapshot::update(app.cx(), actor, &id.into(), update, change).await?;
        }
        RestorePointId::Backup(id) => {
            backup::update(app.cx(), actor, &id.into(), update, change).await?;
        }
    }
    Ok(())
}

async fn delete(
    app: &App,
    actor: &Actor,
    id: RestorePointId,
    confirm: Option<&str>,
    change: &Change,
) -> Result<Outcome> {
    match id {
        RestorePointId::Snapshot(id) => {
            snapshot::delete(app.cx(), actor, &id.into(), confirm, change).await
        }
        RestorePointId::Backup(id) => {
            backup::delete(app.cx(), actor, &id.into(), confirm, change).await
        }
    }
}
