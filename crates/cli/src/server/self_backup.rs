//! The server's own database, backed up into the targets: where backups go, and where their copies go.
//!
//! ```text
//! wait -> copy (one moment of the database) -> store, commit, read back -> old ones go -> wait
//! ```
//!
//! The copies lie in a vault of their own, of an account that nobody signs in to, under the same root
//! key: with the target and the key alone, [`super::recover`] finds the newest and rebuilds the data
//! folder from it. The vault's id is noted beside the database, only so that no second one is made.
//!
//! It is the only writer of that vault (the data folder is locked), so whatever an earlier process left
//! there is over. A copy that could not be stored is logged and tried again; nothing waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use stillpoint_model::error::with_causes;
use stillpoint_model::id::{AccountId, BackupId, VaultId, VolumeId};
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::{ByteCount, Env};
use stillpoint_store::database_copy;
use stillpoint_vault::target::Target;
use stillpoint_vault::{BackupInfo, BackupSpec, CollectPolicy, ReadAt, RootKey, Vault, VaultSpec};

use super::data_dir::DataDir;
use crate::failure::{Exit, Failure, Result};
use crate::private_file::write_once;

/// The account of the vault: nobody's.
pub const SYSTEM_ACCOUNT: &str = "00000000-0000-0000-0000-000000000000";
/// For how long a copy is locked at least, where the target locks.
const HELD_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// The first copy after a start is made after this at the latest.
const FIRST_AFTER: Duration = Duration::from_mins(10);

/// When copies are made, and how many are kept: `[database]` of the settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseTerms {
    /// Seconds between two copies.
    pub backup_every_s: u32,
    /// So many copies are kept.
    pub keep: u16,
}

impl Default for DatabaseTerms {
    /// Every hour, for two days.
    fn default() -> Self {
        Self {
            backup_every_s: 3600,
            keep: 48,
        }
    }
}

/// Makes the copies.
pub struct SelfBackup {
    env: Arc<dyn Env>,
    targets: Vec<Arc<dyn Target>>,
    root_key: RootKey,
    terms: DatabaseTerms,
    database: PathBuf,
    /// Where a copy is until it is stored.
    copy: PathBuf,
    /// Which vault is ours.
    note: PathBuf,
}

impl SelfBackup {
    /// Of this data folder, into each of these targets.
    pub fn new(
        data: &DataDir,
        targets: Vec<Arc<dyn Target>>,
        root_key: RootKey,
        env: Arc<dyn Env>,
        terms: DatabaseTerms,
    ) -> Self {
        Self {
            env,
            targets,
            root_key,
            terms,
            database: data.database(),
            copy: data.database().with_extension("copy"),
            note: data.database_vault(),
        }
    }

    /// Makes copies until it is dropped.
    pub async fn run(self: Arc<Self>) {
        let every = Duration::from_secs(self.terms.backup_every_s.max(1).into());
        let mut pause = every.min(FIRST_AFTER);
        loop {
            tokio::time::sleep(pause).await;
            pause = every;
            if let Err(failure) = self.once().await {
                tracing::error!(%failure, "the database is not backed up; the next try follows");
            }
        }
    }

    async fn once(self: &Arc<Self>) -> Result<()> {
        self.remove_copy()?;
        database_copy(&self.database, &self.copy)
            .await
            .map_err(|error| broken(with_causes(&error)))?;
        let this = Arc::clone(self);
        let stored = tokio::task::spawn_blocking(move || this.store()).await;
        self.remove_copy()?;
        stored.map_err(|error| broken(error.to_string()))?
    }

    fn remove_copy(&self) -> Result<()> {
        match fs::remove_file(&self.copy) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failure::file(
                format_args!("remove {}", self.copy.display()),
                &error,
            )),
            _ => Ok(()),
        }
    }

    /// Into every target, whether the others can be reached or not.
    fn store(&self) -> Result<()> {
        let mut stored = Ok(());
        for target in &self.targets {
            stored = stored.and(self.store_into(target));
        }
        stored
    }

    fn store_into(&self, target: &Arc<dyn Target>) -> Result<()> {
        let failed = |error: &std::io::Error| {
            Failure::file(format_args!("read {}", self.copy.display()), error)
        };
        let file = File::open(&self.copy).map_err(|error| failed(&error))?;
        let len = file.metadata().map_err(|error| failed(&error))?.len();
        let vault = self.vault(target)?;
        let stored = self.store_in(&vault, &ReadAt::new(file, ByteCount::new(len)));
        let stored = stored.map_err(|error| broken(with_causes(&error)))?;
        tracing::info!(backup = %stored, bytes = len, "the database is backed up");
        // What is old costs room, nothing else.
        if let Err(error) = self.let_old_ones_go(&vault) {
            tracing::warn!(error = %with_causes(&error), "old copies of the database stay for now");
        }
        Ok(())
    }

    /// The vault of the copies; made, and noted first, when there is none.
    fn vault(&self, target: &Arc<dyn Target>) -> Result<Vault> {
        let unreadable = |what: &str| broken(format!("{}: {what}", self.note.display()));
        write_once(
            &self.note,
            format!("{}\n", VaultId::generate(&*self.env)).as_bytes(),
        )?;
        let noted = fs::read_to_string(&self.note)
            .map_err(|error| Failure::file(format_args!("read {}", self.note.display()), &error))?;
        let spec = VaultSpec {
            vault_id: noted.trim().parse().map_err(|_| unreadable("no id"))?,
            account_id: SYSTEM_ACCOUNT
                .parse()
                .map_err(|_| unreadable("no account"))?,
        };
        Vault::open_or_create(
            Arc::clone(target),
            spec,
            &self.root_key,
            Arc::clone(&self.env),
        )
        .map_err(|error| broken(with_causes(&error)))
    }

    fn store_in(
        &self,
        vault: &Vault,
        source: &ReadAt,
    ) -> std::result::Result<BackupId, stillpoint_vault::Error> {
        for (volume, backup) in vault.open_runs()? {
            vault.reap_backup(volume, backup)?;
        }
        let backup_id = BackupId::generate(&*self.env);
        let volume_id = volume_of(vault);
        let spec = BackupSpec {
            backup_id,
            volume_id,
            parent: live_copies(vault)?.last().map(|newest| newest.backup_id),
            changed: None,
            metadata: BTreeMap::from([
                ("name".to_owned(), "stillpoint-database".to_owned()),
                ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ]),
            keep_until: Some(self.env.now().saturating_add(HELD_FOR)),
        };
        let prepared = vault.prepare_backup(&spec, source, &NullMonitor)?;
        prepared.commit(&mut || Ok(()))?;
        vault.read_back(volume_id, backup_id, &NullMonitor)?;
        Ok(backup_id)
    }

    fn let_old_ones_go(&self, vault: &Vault) -> std::result::Result<(), stillpoint_vault::Error> {
        let copies = live_copies(vault)?;
        let old = copies
            .len()
            .saturating_sub(usize::from(self.terms.keep.max(1)));
        let (old, kept) = copies.split_at(old);
        for copy in old {
            vault.delete_backup(copy.volume_id, copy.backup_id)?;
        }
        let known: BTreeSet<_> = kept
            .iter()
            .map(|copy| (copy.volume_id, copy.backup_id))
            .collect();
        let policy = CollectPolicy {
            known,
            floor: ByteCount::from_gib(1),
            ..CollectPolicy::default()
        };
        vault.collect(&policy, &NullMonitor).map(drop)
    }
}

/// The volume under which a vault keeps the copies.
fn volume_of(vault: &Vault) -> VolumeId {
    VolumeId::from_uuid(vault.id().as_uuid())
}

/// The copies in a vault that were not deleted, the oldest first.
pub fn live_copies(vault: &Vault) -> std::result::Result<Vec<BackupInfo>, stillpoint_vault::Error> {
    let mut copies = vault.list_backups(Some(volume_of(vault)))?;
    copies.retain(|copy| copy.deleted.is_none());
    copies.sort_by_key(|copy| (copy.created, copy.backup_id));
    Ok(copies)
}

/// Whether a vault is one of databases.
pub fn is_of_databases(vault: &Vault) -> bool {
    SYSTEM_ACCOUNT.parse::<AccountId>() == Ok(vault.account_id())
}

fn broken(text: String) -> Failure {
    Failure::new(Exit::Other, "database_backup", text)
}
