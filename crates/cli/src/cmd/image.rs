//! `stillpoint image`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use stillpoint_client::Change;
use stillpoint_wire::image::{Image, ImageCreate};
use stillpoint_wire::item::{ItemKind, ItemPatch};
use stillpoint_wire::restore::RestoreSource;

use super::change::ChangeArgs;
use super::item::{self, NewItemArgs};
use super::volume::{ImageFormatArg, upload};
use super::{backup, snapshot};
use crate::failure::{Failure, Result};
use crate::prompt::quoted;
use crate::remote::{Remote, RemoteArgs};
use crate::{output, prompt};

const NONE: &str = "No images yet. Make one: stillpoint image create --from-snapshot SNAPSHOT";

/// Bootable templates: new volumes and instances start from them at once
#[derive(Args, Debug)]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List images: what instances can boot from
    List,
    /// Show one image
    Show {
        /// The image, by name or id
        image: String,
    },
    /// Make an image of a snapshot, a backup or an instance snapshot; it outlives them
    Create {
        #[command(flatten)]
        source: SourceArgs,
        #[command(flatten)]
        new: NewItemArgs,
        /// Its pool, by name or id; that of its source when absent
        #[arg(long)]
        pool: Option<String>,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Make an image of a disk that is sent
    Upload {
        /// The disk
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// What it is; it is never guessed
        #[arg(long)]
        format: ImageFormatArg,
        #[command(flatten)]
        new: NewItemArgs,
        /// Its pool, by name or id; the default one when absent
        #[arg(long)]
        pool: Option<String>,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Give an image another name
    Rename {
        /// The image, by name or id
        image: String,
        /// Its new name
        new_name: String,
    },
    /// Keep an image from being deleted
    Protect {
        /// The image, by name or id
        image: String,
    },
    /// Let an image be deleted again
    Unprotect {
        /// The image, by name or id
        image: String,
    },
    /// Delete an image; what was made of it stays as it is
    Delete {
        /// The image, by name or id
        image: String,
        /// Confirms by name, without a question
        #[arg(long, value_name = "NAME")]
        yes: Option<String>,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

/// What an image is made of.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct SourceArgs {
    /// Make it of this snapshot, by name, id, or VOLUME/NAME
    #[arg(long, value_name = "SNAPSHOT")]
    from_snapshot: Option<String>,
    /// Make it of this backup, by name, id, or VOLUME/NAME
    #[arg(long, value_name = "BACKUP")]
    from_backup: Option<String>,
    /// Make it of the root volume of this instance snapshot, by name or id
    #[arg(long, value_name = "SNAPSHOT")]
    from_instance_snapshot: Option<String>,
}

impl Command {
    /// Does what the verb says.
    pub async fn run(self) -> Result<()> {
        let remote = &self.remote.connect()?;
        match self.verb {
            Verb::List => list(remote).await,
            Verb::Show { image } => output::one(remote.format, &show(remote, &image).await?),
            Verb::Create {
                source,
                new,
                pool,
                change,
            } => {
                let (source, instance_snapshot) = source.find(remote).await?;
                let request = ImageCreate {
                    source,
                    instance_snapshot,
                    pool,
                    ..request(new)
                };
                create(remote, &request, &change).await
            }
            Verb::Upload {
                file,
                format,
                new,
                pool,
                change,
            } => {
                let request = ImageCreate {
                    upload: Some(upload(remote, &file, format.into(), &change).await?),
                    pool,
                    ..request(new)
                };
                create(remote, &request, &change).await
            }
            Verb::Rename { image, new_name } => {
                update(remote, &image, &item::renamed(new_name)).await
            }
            Verb::Protect { image } => update(remote, &image, &item::protected(true)).await,
            Verb::Unprotect { image } => update(remote, &image, &item::protected(false)).await,
            Verb::Delete { image, yes, change } => {
                delete(remote, &image, yes.as_deref(), &change).await
            }
        }
    }
}

impl SourceArgs {
    /// The snapshot or backup, or else the instance snapshot, by its id.
    async fn find(self, remote: &Remote) -> Result<(Option<RestoreSource>, Option<String>)> {
        let source = |kind, item| Some(RestoreSource { kind, item });
        if let Some(name) = self.from_snapshot {
            let id = snapshot::show(remote, &name).await?.id.to_string();
            return Ok((source(ItemKind::Snapshot, id), None));
        }
        if let Some(name) = self.from_backup {
            let id = backup::show(remote, &name).await?.id.to_string();
            return Ok((source(ItemKind::Backup, id), None));
        }
        let Some(name) = self.from_instance_snapshot else {
            return Err(Failure::usage("say what the image is made of"));
        };
        let shown = remote.client.instance_snapshot_show(&name).await;
        Ok((None, Some(remote.check(shown)?.id.to_string())))
    }
}

/// What is said of a new image.
fn request(new: NewItemArgs) -> ImageCreate {
    let labels = new.labels();
    ImageCreate {
        name: new.name,
        description: new.description,
        labels,
        ..ImageCreate::default()
    }
}

async fn list(remote: &Remote) -> Result<()> {
    let client = &remote.client;
    let images = remote
        .all(async |query| client.image_list(&query).await)
        .await?;
    output::list(remote.format, &images, NONE)
}

/// One image, by name or id.
async fn show(remote: &Remote, image: &str) -> Result<Image> {
    remote.check(remote.client.image_show(image).await)
}

async fn create(remote: &Remote, request: &ImageCreate, change: &ChangeArgs) -> Result<()> {
    let asked = remote.client.image_create(request, &change.change()).await;
    let answer = remote.check(asked)?;
    let Some(operation) = change.settle(remote, answer).await? else {
        return Ok(());
    };
    match operation.image_id {
        Some(id) => {
            let image = show(remote, &id.to_string()).await?;
            output::list(remote.format, &[image], "")
        }
        None => output::list(remote.format, &[operation], ""),
    }
}

async fn update(remote: &Remote, image: &str, patch: &ItemPatch) -> Result<()> {
    let updated = remote
        .client
        .image_update(image, patch, &Change::default())
        .await;
    output::list(remote.format, &[remote.check(updated)?], "")
}

async fn delete(
    remote: &Remote,
    reference: &str,
    yes: Option<&str>,
    change: &ChangeArgs,
) -> Result<()> {
    let image = show(remote, reference).await?;
    let name = image.name.as_str();
    if !change.is_dry_run() {
        let loss = format!(
            "This deletes the image {name} ({}). What was made of it stays as it is.",
            image.size_bytes
        );
        prompt::confirm_name(name, yes, &loss)?;
    }
    // By id: between the question and the answer somebody may have reused the name.
    let id = image.id.to_string();
    let asked = remote
        .client
        .image_delete(&id, Some(name), &change.change())
        .await;
    let answer = remote.check(asked).map_err(|failure| {
        let command = || format!("stillpoint image unprotect {}", quoted(reference));
        failure.hint_on("protected", command)
    })?;
    change.settle_quietly(remote, answer).await
}
