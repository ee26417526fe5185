//! `stillpoint instance snapshot`, `restore` and `rebuild`.

use clap::{Args, Subcommand};
use stillpoint_client::Change;
use stillpoint_wire::instance_snapshot::{
    InstanceRebuild, InstanceRestore, InstanceSnapshot, InstanceSnapshotCreate,
};
use stillpoint_wire::item::ItemPatch;

use super::settle;
use crate::cmd::change::ChangeArgs;
use crate::cmd::item::{self, NewItemArgs};
use crate::failure::Result;
use crate::prompt::quoted;
use crate::remote::Remote;
use crate::{output, prompt};

const NONE: &str =
    "No instance snapshots yet. Take one: stillpoint instance snapshot create INSTANCE";

/// What is done with instance snapshots.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List instance snapshots
    List {
        /// Those of this instance, by name or id
        #[arg(long)]
        instance: Option<String>,
    },
    /// Show one instance snapshot
    Show {
        /// The instance snapshot, by name or id
        snapshot: String,
    },
    /// Take a snapshot of an instance: all its volumes at one instant
    Create {
        /// The instance, by name or id
        instance: String,
        #[command(flatten)]
        new: NewItemArgs,
        /// Make an image of its root at once, of this name: both or neither
        #[arg(long, value_name = "NAME")]
        image: Option<String>,
        /// Capture what the machine's memory holds, too; the instance must run
        #[arg(long)]
        with_memory: bool,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Give an instance snapshot another name
    Rename {
        /// The instance snapshot, by name or id
        snapshot: String,
        /// Its new name
        new_name: String,
    },
    /// Keep an instance snapshot from being deleted
    Protect {
        /// The instance snapshot, by name or id
        snapshot: String,
    },
    /// Let an instance snapshot be deleted again
    Unprotect {
        /// The instance snapshot, by name or id
        snapshot: String,
    },
    /// Delete an instance snapshot; every other one stays as it is
    Delete {
        /// The instance snapshot, by name or id
        snapshot: String,
        /// Confirms by name, without a question
        #[arg(long, value_name = "NAME")]
        yes: Option<String>,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

/// A new instance of an instance snapshot.
#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// The instance snapshot, by name or id
    snapshot: String,
    /// The new instance's name; generated when absent
    #[arg(long)]
    name: Option<String>,
    /// What it is made of; as the snapshot says when absent
    #[arg(long)]
    flavor: Option<String>,
    /// Leave it stopped
    #[arg(long)]
    no_start: bool,
    /// Go on from the memory that the snapshot holds, instead of booting
    #[arg(long)]
    with_memory: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// An instance that goes back.
#[derive(Args, Debug)]
pub struct RebuildArgs {
    /// The instance, by name or id; it must be stopped
    instance: String,
    /// The instance snapshot, by name or id
    #[arg(long, value_name = "SNAPSHOT")]
    from: String,
    /// Have it go on from the memory that the snapshot holds; it stays stopped otherwise
    #[arg(long)]
    with_memory: bool,
    /// Confirms by the instance's name, without a question
    #[arg(long, value_name = "NAME")]
    yes: Option<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Does what the verb says.
pub async fn run(remote: &Remote, verb: Verb) -> Result<()> {
    match verb {
        Verb::List { instance } => {
            let client = &remote.client;
            let instance = instance.as_deref();
            let all = remote
                .all(async |query| client.instance_snapshot_list(instance, &query).await)
                .await?;
            output::list(remote.format, &all, NONE)
        }
        Verb::Show { snapshot } => output::one(remote.format, &show(remote, &snapshot).await?),
        Verb::Create {
            instance,
            new,
            image,
            with_memory,
            change,
        } => create(remote, instance, new, (image, with_memory), &change).await,
        Verb::Rename { snapshot, new_name } => {
            update(remote, &snapshot, &item::renamed(new_name)).await
        }
        Verb::Protect { snapshot } => update(remote, &snapshot, &item::protected(true)).await,
        Verb::Unprotect { snapshot } => update(remote, &snapshot, &item::protected(false)).await,
        Verb::Delete {
            snapshot,
            yes,
            change,
        } => delete(remote, &snapshot, yes.as_deref(), &change).await,
    }
}

async fn show(remote: &Remote, snapshot: &str) -> Result<InstanceSnapshot> {
    remote.check(remote.client.instance_snapshot_show(snapshot).await)
}

async fn create(
    remote: &Remote,
    instance: String,
    new: NewItemArgs,
    (image, with_memory): (Option<String>, bool),
    change: &ChangeArgs,
) -> Result<()> {
    let labels = new.labels();
    let request = InstanceSnapshotCreate {
        instance,
        name: new.name,
        description: new.description,
        labels,
        image,
        with_memory: with_memory.then_some(true),
    };
    let asked = remote
        .client
        .instance_snapshot_create(&request, &change.change())
        .await;
    let Some(operation) = change.settle(remote, remote.check(asked)?).await? else {
        return Ok(());
    };
    match operation.instance_snapshot_id {
        Some(id) => {
            let snapshot = show(remote, &id.to_string()).await?;
            output::list(remote.format, &[snapshot], "")
        }
        None => output::list(remote.format, &[operation], ""),
    }
}

async fn update(remote: &Remote, snapshot: &str, patch: &ItemPatch) -> Result<()> {
    let updated = remote
        .client
        .instance_snapshot_update(snapshot, patch, &Change::default())
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
            "This deletes the snapshot {name} of the instance {}, taken at {}.",
            snapshot.instance_name,
            output::human_time(snapshot.created_at)
        );
        prompt::confirm_name(name, yes, &loss)?;
    }
    let id = snapshot.id.to_string();
    let asked = remote
        .client
        .instance_snapshot_delete(&id, Some(name), &change.change())
        .await;
    let answer = remote.check(asked).map_err(|failure| {
        let command = || {
            let reference = quoted(reference);
            format!("stillpoint instance snapshot unprotect {reference}")
        };
        failure.hint_on("protected", command)
    })?;
    change.settle_quietly(remote, answer).await
}

/// Makes a new instance.
pub async fn restore(remote: &Remote, asked: RestoreArgs) -> Result<()> {
    let RestoreArgs {
        snapshot,
        name,
        flavor,
        no_start,
        with_memory,
        change,
    } = asked;
    let request = InstanceRestore {
        name,
        flavor,
        start: Some(!no_start),
        with_memory: with_memory.then_some(true),
    };
    let asked = remote
        .client
        .instance_snapshot_restore(&snapshot, &request, &change.change())
        .await;
    settle(remote, remote.check(asked)?, &change).await
}

/// Puts an instance back.
pub async fn rebuild(remote: &Remote, asked: RebuildArgs) -> Result<()> {
    let RebuildArgs {
        instance,
        from,
        with_memory,
        yes,
        change,
    } = asked;
    let (instance, snapshot) = (
        super::show(remote, &instance).await?,
        show(remote, &from).await?,
    );
    let name = instance.name.as_str();
    if !change.is_dry_run() {
        let loss = format!(
            "This puts the instance {name} back to the snapshot {} of {}. What its volumes hold \
             now is kept as safety snapshots for a day.",
            snapshot.name,
            output::human_time(snapshot.created_at)
        );
        prompt::confirm_name(name, yes.as_deref(), &loss)?;
    }
    let request = InstanceRebuild {
        instance_snapshot: snapshot.id.to_string(),
        with_memory: with_memory.then_some(true),
        confirm: Some(name.to_owned()),
    };
    let id = instance.id.to_string();
    let asked = remote
        .client
        .instance_rebuild(&id, &request, &change.change())
        .await;
    settle(remote, remote.check(asked)?, &change).await
}
