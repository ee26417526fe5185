//! `stillpoint volume`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use stillpoint_client::{Answer, Change, Error};
use stillpoint_model::ByteCount;
use stillpoint_wire::upload::{ImageFormat, UploadSource};
use stillpoint_wire::volume::{
    Volume, VolumeAttach, VolumeClone, VolumeCreate, VolumePatch, VolumeResize, VolumeRole,
};

use super::change::ChangeArgs;
use crate::failure::{Failure, Result};
use crate::remote::{Remote, RemoteArgs, explain};
use crate::{output, prompt, size, watch};

const NONE: &str = "No volumes yet. Make one: stillpoint volume create NAME --size 10GiB";

/// Block devices: list, make, copy, grow, attach, delete
#[derive(Args, Debug)]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List volumes
    List,
    /// Show one volume
    Show {
        /// The volume, by name or id
        volume: String,
    },
    /// Make a volume: an empty one, or one that starts as an image
    Create {
        /// Its name
        name: String,
        /// Its size, such as 10GiB; with --image that of the image, when absent, or a larger one
        #[arg(long, value_parser = size::parse, required_unless_present = "image")]
        size: Option<ByteCount>,
        /// The image it starts as, by name or id
        #[arg(long)]
        image: Option<String>,
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Make a volume from a disk image
    Import {
        /// Its name
        name: String,
        /// The image
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// What the image is; it is never guessed
        #[arg(long)]
        format: ImageFormatArg,
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Make a volume that starts as a copy of another
    Clone {
        /// The volume to copy, by name or id
        volume: String,
        /// The new volume's name; generated when absent
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Make a volume larger
    Resize {
        /// The volume, by name or id
        volume: String,
        /// Its new size, such as 20GiB
        #[arg(long, value_parser = size::parse)]
        size: ByteCount,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Give a volume another name
    Rename {
        /// The volume, by name or id
        volume: String,
        /// Its new name
        new_name: String,
    },
    /// Delete a volume; its snapshots and backups stay
    Delete {
        /// The volume, by name or id
        volume: String,
        /// Confirms by name, without a question
        #[arg(long, value_name = "NAME")]
        yes: Option<String>,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Attach a volume to an instance, also to one that runs
    Attach {
        /// The volume, by name or id
        volume: String,
        /// The instance, by name or id
        #[arg(long)]
        instance: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Detach a volume from its instance; a guest that runs lets go of it first
    Detach {
        /// The volume, by name or id
        volume: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

/// What a new volume is for, and where it is kept.
#[derive(Args, Debug)]
struct PlaceArgs {
    /// What it is for; root when it starts as an image, otherwise data, when absent
    #[arg(long)]
    role: Option<VolumeRoleArg>,
    /// Its pool, by name or id; that of its image, or the default one, when absent
    #[arg(long)]
    pool: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum VolumeRoleArg {
    Root,
    Data,
}

/// What a disk that is sent is.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ImageFormatArg {
    Raw,
    Qcow2,
}

impl From<VolumeRoleArg> for VolumeRole {
    fn from(role: VolumeRoleArg) -> Self {
        match role {
            VolumeRoleArg::Root => Self::Root,
            VolumeRoleArg::Data => Self::Data,
        }
    }
}

impl From<ImageFormatArg> for ImageFormat {
    fn from(format: ImageFormatArg) -> Self {
        match format {
            ImageFormatArg::Raw => Self::Raw,
            ImageFormatArg::Qcow2 => Self::Qcow2,
        }
    }
}

impl Command {
    /// Does what the verb says.
    pub async fn run(self) -> Result<()> {
        let remote = &self.remote.connect()?;
        match self.verb {
            Verb::List => list(remote).await,
            Verb::Show { volume } => output::one(remote.format, &show(remote, &volume).await?),
            Verb::Create {
                name,
                size,
                image,
                place,
                change,
            } => {
                let request = VolumeCreate {
                    size_bytes: size,
                    image,
                    ..place.request(name)
                };
                create(remote, &request, &change).await
            }
            Verb::Import {
                name,
                file,
                format,
                place,
                change,
            } => {
                let request = place.request(name);
                import(remote, request, (&file, format), &change).await
            }
            Verb::Clone {
                volume,
                name,
                change,
            } => copy(remote, &volume, name, &change).await,
            Verb::Resize {
                volume,
                size,
                change,
            } => resize(remote, &volume, size, &change).await,
            Verb::Rename { volume, new_name } => rename(remote, &volume, new_name).await,
            Verb::Delete {
                volume,
                yes,
                change,
            } => delete(remote, &volume, yes.as_deref(), &change).await,
            Verb::Attach {
                volume,
                instance,
                change,
            } => {
                let (request, how) = (VolumeAttach { instance }, change.change());
                let asked = remote.client.volume_attach(&volume, &request, &how).await;
                settle(remote, remote.check(asked)?, &change).await
            }
            Verb::Detach { volume, change } => {
                let how = change.change();
                let asked = remote.client.volume_detach(&volume, &how).await;
                settle(remote, remote.check(asked)?, &change).await
            }
        }
    }
}

async fn copy(
    remote: &Remote,
    volume: &str,
    name: Option<String>,
    change: &ChangeArgs,
) -> Result<()> {
    let (request, how) = (VolumeClone { name }, change.change());
    let asked = remote.client.volume_clone(volume, &request, &how).await;
    settle(remote, remote.check(asked)?, change).await
}

impl PlaceArgs {
    fn request(&self, name: String) -> VolumeCreate {
        VolumeCreate {
            name,
            role: self.role.map(Into::into),
            pool: self.pool.clone(),
            ..VolumeCreate::default()
        }
    }
}

async fn list(remote: &Remote) -> Result<()> {
    let client = &remote.client;
    let volumes = remote
        .all(async |query| client.volume_list(&query).await)
        .await?;
    output::list(remote.format, &volumes, NONE)
}

/// One volume, by name or id.
pub async fn show(remote: &Remote, volume: &str) -> Result<Volume> {
    remote.check(remote.client.volume_show(volume).await)
}

async fn create(remote: &Remote, request: &VolumeCreate, change: &ChangeArgs) -> Result<()> {
    let asked = remote.client.volume_create(request, &change.change()).await;
    settle(remote, remote.check(asked)?, change).await
}

async fn import(
    remote: &Remote,
    request: VolumeCreate,
    (file, format): (&Path, ImageFormatArg),
    change: &ChangeArgs,
) -> Result<()> {
    let request = VolumeCreate {
        upload: Some(upload(remote, file, format.into(), change).await?),
        ..request
    };
    create(remote, &request, change).await
}

/// Waits, and shows the volume that was made or changed.
pub async fn settle(remote: &Remote, answer: Answer, change: &ChangeArgs) -> Result<()> {
    let Some(operation) = change.settle(remote, answer).await? else {
        return Ok(());
    };
    match operation.volume_id {
        Some(id) => {
            let volume = show(remote, &id.to_string()).await?;
            output::list(remote.format, &[volume], "")
        }
        None => output::list(remote.format, &[operation], ""),
    }
}

/// Sends a disk to the server; a dry run sends nothing, and so has no upload to name.
pub async fn upload(
    remote: &Remote,
    file: &Path,
    format: ImageFormat,
    change: &ChangeArgs,
) -> Result<UploadSource> {
    if change.is_dry_run() {
        return Err(
            Failure::usage("this cannot be tried without sending the image")
                .hint("leave out --dry-run"),
        );
    }
    let bar = watch::bytes_bar("upload");
    let moving = bar.clone();
    let sent = remote.client.upload_file(file, move |done, total| {
        watch::show_bytes(&moving, ByteCount::new(done), Some(ByteCount::new(total)));
    });
    let upload = sent.await;
    bar.finish_and_clear();
    let upload = upload.map_err(|error| match error {
        Error::UnreadableImage(source) => {
            Failure::file(format_args!("read {}", file.display()), &source)
        }
        error => explain(error),
    })?;
    Ok(UploadSource {
        id: upload.id,
        format,
    })
}

async fn resize(
    remote: &Remote,
    volume: &str,
    size_bytes: ByteCount,
    change: &ChangeArgs,
) -> Result<()> {
    let request = VolumeResize { size_bytes };
    let asked = remote
        .client
        .volume_resize(volume, &request, &change.change())
        .await;
    settle(remote, remote.check(asked)?, change).await
}

async fn rename(remote: &Remote, volume: &str, new_name: String) -> Result<()> {
    let patch = VolumePatch {
        name: Some(new_name),
    };
    let renamed = remote
        .client
        .volume_update(volume, &patch, &Change::default())
        .await;
    output::list(remote.format, &[remote.check(renamed)?], "")
}

async fn delete(
    remote: &Remote,
    volume: &str,
    yes: Option<&str>,
    change: &ChangeArgs,
) -> Result<()> {
    let volume = show(remote, volume).await?;
    let name = volume.name.as_str();
    if !change.is_dry_run() {
        let loss = format!(
            "This deletes the volume {name} ({}, {} used). Its snapshots and backups stay.",
            volume.size_bytes, volume.used_bytes
        );
        prompt::confirm_name(name, yes, &loss)?;
    }
    // By id: between the question and the answer somebody may have reused the name.
    let id = volume.id.to_string();
    let asked = remote
        .client
        .volume_delete(&id, Some(name), &change.change())
        .await;
    change.settle_quietly(remote, remote.check(asked)?).await
}
