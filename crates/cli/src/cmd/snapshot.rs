//! `stillpoint snapshot`.

use clap::{Args, Subcommand};
use stillpoint_client::Change;
use stillpoint_wire::item::ItemPatch;
use stillpoint_wire::snapshot::{Snapshot, SnapshotCreate};

use super::change::ChangeArgs;
use super::item::{self, NewItemArgs};
use crate::failure::Result;
use crate::prompt::quoted;
use crate::remote::{Remote, RemoteArgs};
use crate::{output, prompt};

const NONE: &str = "No snapshots yet. Take one: stillpoint snapshot create VOLUME";

/// Points in time of a volume, on its own storage: instant, but gone when that storage is
#[derive(Args, Debug)]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List snapshots
    List {
        /// Those of this volume, by name or id
        #[arg(long)]
        volume: Option<String>,
    },
    /// Show one snapshot
    Show {
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Take a snapshot
    Create {
        /// The volume, by name or id
        volume: String,
        #[command(flatten)]
        new: NewItemArgs,
        /// Make an image of it at once, of this name: both or neither
        #[arg(long, value_name = "NAME")]
        image: Option<String>,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Give a snapshot another name
    Rename {
        #[command(flatten)]
        which: WhichArgs,
        /// Its new name
        new_name: String,
    },
    /// Keep a snapshot from being deleted
    Protect {
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Let a snapshot be deleted again
    Unprotect {
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Delete a snapshot; every other one stays as it is
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
    /// The snapshot, by name, id, or VOLUME/NAME
    snapshot: String,
}

impl Command {
    /// Does what the verb says.
    pub async fn run(self) -> Result<()> {
        let remote = &self.remote.connect()?;
        match self.verb {
            Verb::List { volume } => {
                output::list(remote.format, &all(remote, volume.as_deref()).await?, NONE)
            }
            Verb::Show { which } => {
                output::one(remote.format, &show(remote, &which.snapshot).await?)
            }
            Verb::Create {
                volume,
                new,
                image,
                change,
            } => create(remote, volume, new, image, &change).await,
            Verb::Rename { which, new_name } => {
                update(remote, &which.snapshot, &item::renamed(new_name)).await
            }
            Verb::Protect { which } => {
                update(remote, &which.snapshot, &item::protected(true)).await
            }
            Verb::Unprotect { which } => {
                update(remote, &which.snapshot, &item::protected(false)).await
            }
            Verb::Delete { which, yes, change } => {
                delete(remote, &which.snapshot, yes.as_deref(), &change).await
            }
        }
    }
}

/// The snapshots of a volume, or all.
pub async fn all(remote: &Remote, volume: Option<&str>) -> Result<Vec<Snapshot>> {
    let client = &remote.client;
    remote
        .all(async |query| client.snapshot_list(volume, &query).await)
        .await
}

/// One snapshot, by name, id, or `VOLUME/NAME`.
pub async fn show(remote: &Remote, reference: &str) -> Result<Snapshot> {
    match reference.split_once('/') {
        None => remote.check(remote.client.snapshot_show(reference).await),
        Some((volume, name)) => of_volume(remote, volume, name).await,
    }
}

/// One snapshot among those of a volume, where a name is unique.
pub async fn of_volume(remote: &Remote, volume: &str, item: &str) -> Result<Snapshot> {
    let mut snapshots = all(remote, Some(volume)).await?.into_iter();
    let found = snapshots.find(|s| s.name.as_str() == item || s.id.to_string() == item);
    found.ok_or_else(|| item::not_found("snapshot", volume, item))
}

async fn create(
    remote: &Remote,
    volume: String,
    new: NewItemArgs,
    image: Option<String>,
    change: &ChangeArgs,
) -> Result<()> {
    let labels = new.labels();
    let request = SnapshotCreate {
        volume,
        name: new.name,
        description: new.description,
        labels,
        image,
    };
    let asked = remote
        .client
        .snapshot_create(&request, &change.change())
        .await;
    let answer = remote.check(asked)?;
    let Some(operation) = change.settle(remote, answer).await? else {
        return Ok(());
    };
    match operation.snapshot_id {
        Some(id) => {
            let snapshot = show(remote, &id.to_string()).await?;
            output::list(remote.format, &[snapshot], "")
        }
        None => output::list(remote.format, &[operation], ""),
    }
}

async fn update(remote: &Remote, reference: &str, patch: &ItemPatch) -> Result<()> {
    let id = show(remote, reference).await?.id.to_string();
    let updated = remote
        .client
        .snapshot_update(&id, patch, &Change::default())
        .await;
    output::list(remote.format, &[remote.check(updated)?], "")
}

async fn delete(
    remote: &Remote,
    reference: &str,
    yes: Option<&str>,
    change: &ChangeArgs,
) -> Result<()> {
    let snapshot = show(remote, reference).await?;
    let name = snapshot.name.as_str();
    if !change.is_dry_run() {
        let loss = format!(
            "This deletes the snapshot {name} of {}, taken at {}.",
            snapshot.volume_name,
            output::human_time(snapshot.created_at)
        );
        prompt::confirm_name(name, yes, &loss)?;
    }
    let id = snapshot.id.to_string();
    let asked = remote
        .client
        .snapshot_delete(&id, Some(name), &change.change())
        .await;
    let answer = remote.check(asked).map_err(|failure| {
        let command = || format!("stillpoint snapshot unprotect {}", quoted(reference));
        failure.hint_on("protected", command)
    })?;
    change.settle_quietly(remote, answer).await
}
