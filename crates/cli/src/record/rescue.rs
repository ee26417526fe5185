//! What the rescue commands find, in tables.

use serde::Serialize;
use stillpoint_model::id::{AccountId, BackupId, VaultId, VolumeId};
use stillpoint_model::{ByteCount, Timestamp};
use stillpoint_vault::target::ObjectName;
use stillpoint_vault::{BackupInfo, Problem, Vault};

use crate::output::{Cell, Column, Record};

/// One backup in a target.
#[derive(Serialize)]
pub struct KeptBackup {
    /// The backup.
    pub id: BackupId,
    /// What it was called, when that was noted with it.
    pub name: Option<String>,
    /// The volume it is of.
    pub volume_id: VolumeId,
    /// What that was called.
    pub volume_name: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// The volume's size.
    pub size_bytes: ByteCount,
    /// Bytes that are not zero.
    pub used_bytes: ByteCount,
    /// Bytes that it added to the target.
    pub stored_bytes: ByteCount,
    /// Hex of the hash over the whole volume.
    pub content_hash: String,
    /// When it was deleted, if it was.
    pub deleted: Option<Timestamp>,
    /// The vault it is in.
    pub vault_id: VaultId,
    /// Whose vault that is.
    pub account_id: AccountId,
}

impl KeptBackup {
    /// What a vault says of a backup.
    pub fn new(vault: &Vault, info: &BackupInfo) -> Self {
        let note = |key: &str| info.metadata.get(key).cloned();
        Self {
            id: info.backup_id,
            name: note("name"),
            volume_id: info.volume_id,
            volume_name: note("volume_name"),
            created: info.created,
            size_bytes: info.provisioned,
            used_bytes: info.used,
            stored_bytes: info.stored,
            content_hash: info.content_hash.to_string(),
            deleted: info.deleted,
            vault_id: vault.id(),
            account_id: vault.account_id(),
        }
    }
}

impl Record for KeptBackup {
    fn columns() -> Vec<Column<Self>> {
        vec![
            Column::new("ID", |b| Cell::text(&b.id)),
            Column::new("NAME", |b| Cell::maybe(b.name.as_ref().map(Cell::text))),
            Column::new("VOLUME", |b| match &b.volume_name {
                Some(name) => Cell::text(name),
                None => Cell::text(&b.volume_id),
            }),
            Column::new("CREATED", |b| Cell::Time(b.created)),
            Column::new("SIZE", |b| Cell::Bytes(b.size_bytes)),
            Column::new("USED", |b| Cell::Bytes(b.used_bytes)),
            Column::new("STORED", |b| Cell::Bytes(b.stored_bytes)),
            Column::wide("DELETED", |b| Cell::maybe(b.deleted.map(Cell::Time))),
            Column::wide("VOLUME ID", |b| Cell::text(&b.volume_id)),
            Column::wide("ACCOUNT ID", |b| Cell::text(&b.account_id)),
            Column::wide("VAULT ID", |b| Cell::text(&b.vault_id)),
            Column::wide("CONTENT HASH", |b| Cell::text(&b.content_hash)),
        ]
    }

    fn reference(&self) -> String {
        self.id.to_string()
    }
}

/// An object of a vault that is not as it was written.
#[derive(Serialize)]
pub struct DamagedObject {
    /// The object.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
    /// The backups that cannot be restored because of it.
    pub affected: Vec<BackupId>,
}

impl From<Problem> for DamagedObject {
    fn from(problem: Problem) -> Self {
        let Problem {
            object,
            what,
            affected,
        } = problem;
        Self {
            object: object.to_string(),
            problem: what,
            affected,
        }
    }
}

impl From<(ObjectName, String)> for DamagedObject {
    fn from((object, problem): (ObjectName, String)) -> Self {
        Self {
            object: object.to_string(),
            problem,
            affected: Vec::new(),
        }
    }
}

impl Record for DamagedObject {
    fn columns() -> Vec<Column<Self>> {
        vec![
            Column::new("OBJECT", |d| Cell::text(&d.object)),
            Column::new("PROBLEM", |d| Cell::text(&d.problem)),
            Column::new("AFFECTED BACKUPS", |d| {
                let ids: Vec<String> = d.affected.iter().map(ToString::to_string).collect();
                Cell::Text(ids.join(", "))
            }),
        ]
    }

    fn reference(&self) -> String {
        self.object.clone()
    }
}
