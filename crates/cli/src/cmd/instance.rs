//! `stillpoint instance`.

use std::time::Duration;

use clap::{Args, Subcommand};
use stillpoint_client::{Answer, Change, DeleteVolumes};
use stillpoint_wire::instance::{
    Instance, InstanceCreate, InstancePatch, InstanceStop, InstanceVolume, StopHow,
};

use super::change::{ChangeArgs, parse_time};
use super::disk::DiskArgs;
use crate::failure::{Failure, Result, print};
use crate::output::Format;
use crate::remote::{Remote, RemoteArgs};
use crate::style::printable;
use crate::{output, prompt};

mod snapshot;

const NONE: &str =
    "No instances yet. Make one: stillpoint instance create NAME --root-volume VOLUME";

/// Virtual machines: make, start, stop, pause, delete
#[derive(Args, Debug)]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List instances
    List,
    /// Show one instance
    Show {
        /// The instance, by name or id
        instance: String,
    },
    /// Show the end of what an instance's guest wrote to its serial console
    Console {
        /// The instance, by name or id
        instance: String,
    },
    /// Make an instance, and start it
    Create {
        /// Its name; generated when absent
        name: Option<String>,
        /// What it is made of; see `stillpoint flavor list`
        #[arg(long)]
        flavor: Option<String>,
        #[command(flatten)]
        disks: DiskArgs,
        /// Its pool, by name or id; that of what the root comes from when absent
        #[arg(long)]
        pool: Option<String>,
        /// Leave it stopped
        #[arg(long)]
        no_start: bool,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Start an instance
    Start {
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Stop an instance: ask its guest to shut down, and cut its power if that takes too long
    Stop {
        /// The instance, by name or id
        instance: String,
        #[command(flatten)]
        how: StopArgs,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Have an instance stand still, with its memory kept
    Pause {
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Have a paused instance go on
    Resume {
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Give an instance another name; its guest hears of it when it starts again
    Rename {
        /// The instance, by name or id
        instance: String,
        /// Its new name
        new_name: String,
    },
    /// Points in time of whole instances: all volumes at one instant
    Snapshot {
        #[command(subcommand)]
        verb: snapshot::Verb,
    },
    /// Make a new instance of an instance snapshot
    Restore(snapshot::RestoreArgs),
    /// Put a stopped instance back; what its volumes hold now is kept for a day
    Rebuild(snapshot::RebuildArgs),
    /// Delete an instance; its volumes are detached and stay, unless they are named
    Delete {
        /// The instance, by name or id
        instance: String,
        #[command(flatten)]
        volumes: DoomedArgs,
        /// Confirms by name, without a question
        #[arg(long, value_name = "NAME")]
        yes: Option<String>,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

/// One instance, and how a change of it is asked for.
#[derive(Args, Debug)]
struct WhichArgs {
    /// The instance, by name or id
    instance: String,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Args, Debug)]
struct StopArgs {
    /// Cut its power at once
    #[arg(long, conflicts_with_all = ["within", "never_force"])]
    force: bool,
    /// How long the guest may take to shut down (90s, 5m) [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    within: Option<Duration>,
    /// Let it run on when the guest takes longer
    #[arg(long)]
    never_force: bool,
}

/// Which volumes go with an instance.
#[derive(Args, Debug)]
struct DoomedArgs {
    /// Delete this volume of it, too; may be repeated
    #[arg(long = "delete-volume", value_name = "VOLUME")]
    these: Vec<String>,
    /// Delete all of its volumes, too
    #[arg(long = "delete-all-volumes", conflicts_with = "these")]
    all: bool,
}

impl Command {
    /// Does what the verb says.
    pub async fn run(self) -> Result<()> {
        let remote = &self.remote.connect()?;
        let client = &remote.client;
        match self.verb {
            Verb::List => list(remote).await,
            Verb::Show { instance } => output::one(remote.format, &show(remote, &instance).await?),
            Verb::Console { instance } => console(remote, &instance).await,
            Verb::Create {
                name,
                flavor,
                disks,
                pool,
                no_start,
                change,
            } => {
                let (root, data) = disks.find(remote).await?;
                let request = InstanceCreate {
                    name,
                    flavor,
                    pool,
                    root,
                    data,
                    start: Some(!no_start),
                };
                let asked = client.instance_create(&request, &change.change()).await;
                settle(remote, remote.check(asked)?, &change).await
            }
            Verb::Start { which } => {
                let change = which.change.change();
                let asked = client.instance_start(&which.instance, &change).await;
                settle(remote, remote.check(asked)?, &which.change).await
            }
            Verb::Stop {
                instance,
                how,
                change,
            } => {
                let (request, asking) = (how.request()?, change.change());
                let asked = client.instance_stop(&instance, &request, &asking).await;
                settle(remote, remote.check(asked)?, &change).await
            }
            Verb::Pause { which } => {
                let change = which.change.change();
                let asked = client.instance_pause(&which.instance, &change).await;
                settle(remote, remote.check(asked)?, &which.change).await
            }
            Verb::Resume { which } => {
                let change = which.change.change();
                let asked = client.instance_resume(&which.instance, &change).await;
                settle(remote, remote.check(asked)?, &which.change).await
            }
            Verb::Snapshot { verb } => snapshot::run(remote, verb).await,
            Verb::Restore(asked) => snapshot::restore(remote, asked).await,
            Verb::Rebuild(asked) => snapshot::rebuild(remote, asked).await,
            Verb::Rename { instance, new_name } => rename(remote, &instance, new_name).await,
            Verb::Delete {
                instance,
                volumes,
                yes,
                change,
            } => delete(remote, &instance, volumes, yes.as_deref(), &change).await,
        }
    }
}

impl StopArgs {
    fn request(&self) -> Result<InstanceStop> {
        if self.force {
            return Ok(InstanceStop {
                how: StopHow::Forced,
                ..InstanceStop::default()
            });
        }
        let whole_seconds = |time: Duration| {
            u32::try_from(time.as_secs()).map_err(|_| Failure::usage("--within is too long"))
        };
        Ok(InstanceStop {
            how: StopHow::Graceful,
            bound_s: self.within.map(whole_seconds).transpose()?,
            then_force: self.never_force.then_some(false),
        })
    }
}

/// As text where a person reads it; whole for programs.
async fn console(remote: &Remote, instance: &str) -> Result<()> {
    let console = remote.check(remote.client.instance_console(instance).await)?;
    match remote.format {
        Format::Json | Format::Yaml => output::value(remote.format, &console),
        _ => print(printable(&console.text.trim_end().replace('\t', "    "))),
    }
}

async fn list(remote: &Remote) -> Result<()> {
    let client = &remote.client;
    let instances = remote
        .all(async |query| client.instance_list(&query).await)
        .await?;
    output::list(remote.format, &instances, NONE)
}

/// One instance, by name or id.
async fn show(remote: &Remote, instance: &str) -> Result<Instance> {
    remote.check(remote.client.instance_show(instance).await)
}

/// Waits, and shows the instance that was made or changed.
async fn settle(remote: &Remote, answer: Answer, change: &ChangeArgs) -> Result<()> {
    let Some(operation) = change.settle(remote, answer).await? else {
        return Ok(());
    };
    match operation.instance_id {
        Some(id) => {
            let instance = show(remote, &id.to_string()).await?;
            output::list(remote.format, &[instance], "")
        }
        None => output::list(remote.format, &[operation], ""),
    }
}

async fn rename(remote: &Remote, instance: &str, new_name: String) -> Result<()> {
    let patch = InstancePatch {
        name: Some(new_name),
    };
    let renamed = remote
        .client
        .instance_update(instance, &patch, &Change::default())
        .await;
    output::list(remote.format, &[remote.check(renamed)?], "")
}

async fn delete(
    remote: &Remote,
    instance: &str,
    doomed: DoomedArgs,
    yes: Option<&str>,
    change: &ChangeArgs,
) -> Result<()> {
    let instance = show(remote, instance).await?;
    let name = instance.name.as_str();
    let volumes = doomed.of(&instance)?;
    if !change.is_dry_run() {
        prompt::confirm_name(name, yes, &loss(&instance, &volumes))?;
    }
    // By id: between the question and the answer somebody may have reused a name.
    let id = instance.id.to_string();
    let asked = remote
        .client
        .instance_delete(&id, &volumes, Some(name), &change.change())
        .await;
    change.settle_quietly(remote, remote.check(asked)?).await
}

fn is_named(volume: &InstanceVolume, text: &str) -> bool {
    volume.name.as_str() == text || volume.id.to_string() == text.to_lowercase()
}

impl DoomedArgs {
    /// Which of the instance's volumes these are, by their ids.
    fn of(self, instance: &Instance) -> Result<DeleteVolumes> {
        if self.all {
            return Ok(DeleteVolumes::All);
        }
        let id_of = |text: &String| {
            let volume = instance.volumes.iter().find(|v| is_named(v, text));
            volume.map(|v| v.id.to_string()).ok_or_else(|| {
                let text = format!("{} has no volume {text}.", instance.name);
                Failure::usage(text).hint(format!(
                    "see those it has: stillpoint instance show {}",
                    prompt::quoted(instance.name.as_str())
                ))
            })
        };
        let ids: Vec<_> = self.these.iter().map(id_of).collect::<Result<_>>()?;
        Ok(match ids.is_empty() {
            true => DeleteVolumes::Keep,
            false => DeleteVolumes::These(ids),
        })
    }
}

/// What is lost with an instance, and what stays.
fn loss(instance: &Instance, doomed: &DeleteVolumes) -> String {
    let goes = |volume: &&InstanceVolume| match doomed {
        DeleteVolumes::Keep => false,
        DeleteVolumes::All => true,
        DeleteVolumes::These(ids) => ids.iter().any(|id| is_named(volume, id)),
    };
    let names = |volumes: Vec<&InstanceVolume>| {
        let names: Vec<_> = volumes.iter().map(|v| v.name.as_str()).collect();
        names.join(", ")
    };
    let (gone, kept): (Vec<_>, Vec<_>) = instance.volumes.iter().partition(goes);
    let mut text = format!("This deletes the instance {}", instance.name);
    if !gone.is_empty() {
        text += &format!(" and the data of its volumes {}", names(gone));
    }
    text += ".";
    if !kept.is_empty() {
        text += &format!(" Volumes that stay: {}.", names(kept));
    }
    text
}

#[cfg(test)]
mod tests;
