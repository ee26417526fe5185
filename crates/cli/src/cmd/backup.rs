//! `stillpoint backup`.

use clap::{Args, Subcommand};
use stillpoint_client::{Answer, Change};
use stillpoint_wire::backup::{Backup, BackupCreate, BackupVerify};
use stillpoint_wire::item::ItemPatch;

use super::change::ChangeArgs;
use super::item::{self, NewItemArgs};
use super::snapshot;
use crate::failure::Result;
use crate::prompt::quoted;
use crate::remote::{Remote, RemoteArgs};
use crate::{output, prompt};

const NONE: &str = "No backups yet. Make one: stillpoint backup create VOLUME";

/// Independent copies of a volume in a backup target: they survive the loss of its storage
#[derive(Args, Debug)]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List backups
    List {
        /// Those of this volume, by name or id
        #[arg(long)]
        volume: Option<String>,
    },
    /// Show one backup
    Show {
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Make a backup; only what changed since the last one is read
    Create {
        /// The volume, by name or id
        volume: String,
        /// Back up this snapshot instead of the volume as it is now
        #[arg(long)]
        snapshot: Option<String>,
        #[command(flatten)]
        new: NewItemArgs,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Prove that a backup can be restored
    Verify {
        #[command(flatten)]
        which: WhichArgs,
        /// Decrypt and compare every chunk, too
        #[arg(long)]
        deep: bool,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Give a backup another name
    Rename {
        #[command(flatten)]
        which: WhichArgs,
        /// Its new name
        new_name: String,
    },
    /// Keep a backup from being deleted
    Protect {
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Let a backup be deleted again
    Unprotect {
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Delete a backup; every other one stays as it is
    Delete {
        #[command(flatten)]
        which: WhichArgs,
        /// Confirms by name, without a question
        #[arg(long, value_name = "NAME")]
        yes: Option<String>,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

#[derive(Args, Debug)]
struct WhichArgs {
    /// The backup, by name, id, or VOLUME/NAME
    backup: String,
}

impl Command {
    /// Does what the verb says.
    pub async fn run(self) -> Result<()> {
        let remote = &self.remote.connect()?;
        match self.verb {
            Verb::List { volume } => {
                output::list(remote.format, &all(remote, volume.as_deref()).await?, NONE)
            }
            Verb::Show { which } => output::one(remote.format, &show(remote, &which.backup).await?),
            Verb::Create {
                volume,
                snapshot,
                new,
                change,
            } => create(remote, volume, snapshot, new, &change).await,
            Verb::Verify {
                which,
                deep,
                change,
            } => {
                let id = show(remote, &which.backup).await?.id.to_string();
                let request = BackupVerify { deep };
                let asked = remote
                    .client
                    .backup_verify(&id, &request, &change.change())
                    .await;
                settle(remote, remote.check(asked)?, &change).await
            }
            Verb::Rename { which, new_name } => {
                update(remote, &which.backup, &item::renamed(new_name)).await
            }
            Verb::Protect { which } => update(remote, &which.backup, &item::protected(true)).await,
            Verb::Unprotect { which } => {
                update(remote, &which.backup, &item::protected(false)).await
            }
            Verb::Delete { which, yes, change } => {
                delete(remote, &which.backup, yes.as_deref(), &change).await
            }
        }
    }
}

/// The backups of a volume, or all.
pub async fn all(remote: &Remote, volume: Option<&str>) -> Result<Vec<Backup>> {
    let client = &remote.client;
    remote
        .all(async |query| client.backup_list(volume, &query).await)
        .await
}

/// One backup, by name, id, or `VOLUME/NAME`.
pub async fn show(remote: &Remote, reference: &str) -> Result<Backup> {
    match reference.split_once('/') {
        None => remote.check(remote.client.backup_show(reference).await),
        Some((volume, name)) => of_volume(remote, volume, name).await,
    }
}

/// One backup among those of a volume, where a name is unique.
pub async fn of_volume(remote: &Remote, volume: &str, item: &str) -> Result<Backup> {
    let mut backups = all(remote, Some(volume)).await?.into_iter();
    let found = backups.find(|b| b.name.as_str() == item || b.id.to_string() == item);
    found.ok_or_else(|| item::not_found("backup", volume, item))
}

async fn create(
    remote: &Remote,
    volume: String,
    snapshot: Option<String>,
    new: NewItemArgs,
    change: &ChangeArgs,
) -> Result<()> {
    // A snapshot's name is looked up among those of the volume, where it is unique.
    let snapshot = match snapshot {
        Some(name) => Some(
            snapshot::of_volume(remote, &volume, &name)
                .await?
                .id
                .to_string(),
        ),
        None => None,
    };
    let labels = new.labels();
    let (name, description) = (new.name, new.description);
    let request = BackupCreate {
        volume,
        snapshot,
        name,
        description,
        labels,
    };
    let asked = remote
        .client
        .backup_create(&request, &change.change())
        .await;
    settle(remote, remote.check(asked)?, change).await
}

/// Waits, and shows the backup.
async fn settle(remote: &Remote, answer: Answer, change: &ChangeArgs) -> Result<()> {
    let Some(operation) = change.settle(remote, answer).await? else {
        return Ok(());
    };
    match operation.backup_id {
        Some(id) => {
            let backup = show(remote, &id.to_string()).await?;
            output::list(remote.format, &[backup], "")
        }
        None => output::list(remote.format, &[operation], ""),
    }
}

async fn update(remote: &Remote, reference: &str, patch: &ItemPatch) -> Result<()> {
    let id = show(remote, reference).await?.id.to_string();
    let updated = remote
        .client
        .backup_update(&id, patch, &Change::default())
        .await;
    output::list(remote.format, &[remote.check(updated)?], "")
}

async fn delete(
    remote: &Remote,
    reference: &str,
    yes: Option<&str>,
    change: &ChangeArgs,
) -> Result<()> {
    let backup = show(remote, reference).await?;
    let name = backup.name.as_str();
    if !change.is_dry_run() {
        let loss = format!(
            "This deletes the backup {name} of {}, made at {}.",
            backup.volume_name,
            output::human_time(backup.created_at)
        );
        prompt::confirm_name(name, yes, &loss)?;
    }
    let id = backup.id.to_string();
    let asked = remote
        .client
        .backup_delete(&id, Some(name), &change.change())
        .await;
    let answer = remote.check(asked).map_err(|failure| {
        let command = || format!("stillpoint backup unprotect {}", quoted(reference));
        failure.hint_on("protected", command)
    })?;
    change.settle_quietly(remote, answer).await
}
