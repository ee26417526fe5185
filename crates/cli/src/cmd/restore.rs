//! `stillpoint restore`.

use clap::{Args, Subcommand};
use stillpoint_wire::item::ItemKind;
use stillpoint_wire::restore::{RestoreCreate, RestoreMode, RestoreSource};

use super::change::ChangeArgs;
use super::{backup, snapshot, volume};
use crate::failure::Result;
use crate::output::human_time;
use crate::prompt;
use crate::remote::{Remote, RemoteArgs};

/// Bring a snapshot or a backup back: as a new volume, or over the one it was made of
#[derive(Args, Debug)]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a new volume of it; everything else stays as it is
    New {
        #[command(flatten)]
        source: SourceArgs,
        /// The new volume's name; generated when absent
        #[arg(long)]
        name: Option<String>,
        /// The new volume's pool, by name or id; that of the source when absent
        #[arg(long)]
        pool: Option<String>,
        /// Have it usable at once: it is filled from the backup while it is used
        #[arg(long)]
        instant: bool,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Put a volume back; what it holds now is kept as a safety snapshot for a day
    InPlace {
        /// The volume to overwrite, by name or id
        #[arg(long)]
        volume: String,
        #[command(flatten)]
        source: SourceArgs,
        /// Confirms by the volume's name, without a question
        #[arg(long, value_name = "NAME")]
        yes: Option<String>,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct SourceArgs {
    /// The snapshot, by name, id, or VOLUME/NAME
    #[arg(long, value_name = "SNAPSHOT")]
    from_snapshot: Option<String>,
    /// The backup, by name, id, or VOLUME/NAME
    #[arg(long, value_name = "BACKUP")]
    from_backup: Option<String>,
}

/// What is restored, as a person reads it and as the request names it.
struct Source {
    text: String,
    request: RestoreSource,
}

impl Command {
    /// Does what the verb says.
    pub async fn run(self) -> Result<()> {
        let remote = &self.remote.connect()?;
        match self.verb {
            Verb::New {
                source,
                name,
                pool,
                instant,
                change,
            } => {
                let source = source.find(remote, None).await?.request;
                let mode = RestoreMode::NewVolume;
                let request = RestoreCreate {
                    source,
                    mode,
                    name,
                    pool,
                    instant: instant.then_some(true),
                    confirm: None,
                };
                send(remote, &request, &change).await
            }
            Verb::InPlace {
                volume,
                source,
                yes,
                change,
            } => in_place(remote, &volume, &source, yes.as_deref(), &change).await,
        }
    }
}

impl SourceArgs {
    /// Looks the source up; a plain name means one of `volume`'s items when a volume is given.
    async fn find(&self, remote: &Remote, volume: Option<&str>) -> Result<Source> {
        let (kind, id, text) = match (&self.from_snapshot, &self.from_backup) {
            (Some(name), _) => {
                let found = match volume {
                    Some(volume) => snapshot::of_volume(remote, volume, name).await?,
                    None => snapshot::show(remote, name).await?,
                };
                let text = format!(
                    "snapshot {} of {}",
                    found.name,
                    human_time(found.created_at)
                );
                (ItemKind::Snapshot, found.id.to_string(), text)
            }
            (None, name) => {
                let name = name.as_deref().unwrap_or_default();
                let found = match volume {
                    Some(volume) => backup::of_volume(remote, volume, name).await?,
                    None => backup::show(remote, name).await?,
                };
                let text = format!("backup {} of {}", found.name, human_time(found.created_at));
                (ItemKind::Backup, found.id.to_string(), text)
            }
        };
        Ok(Source {
            text,
            request: RestoreSource { kind, item: id },
        })
    }
}

async fn in_place(
    remote: &Remote,
    volume: &str,
    source: &SourceArgs,
    yes: Option<&str>,
    change: &ChangeArgs,
) -> Result<()> {
    let volume = volume::show(remote, volume).await?;
    let source = source.find(remote, Some(volume.name.as_str())).await?;
    let name = volume.name.as_str();
    if !change.is_dry_run() {
        let loss = format!(
            "This puts the volume {name} back to the {}. \
             What was written since is kept as a safety snapshot for a day.",
            source.text
        );
        prompt::confirm_name(name, yes, &loss)?;
    }
    let request = RestoreCreate {
        source: source.request,
        mode: RestoreMode::InPlace,
        name: None,
        pool: None,
        instant: None,
        confirm: Some(name.to_owned()),
    };
    send(remote, &request, change).await
}

async fn send(remote: &Remote, request: &RestoreCreate, change: &ChangeArgs) -> Result<()> {
    let asked = remote
        .client
        .restore_create(request, &change.change())
        .await;
    volume::settle(remote, remote.check(asked)?, change).await
}
