//! `stillpoint vault`: backups without the server.
//!
//! For the day on which everything else is lost: the target and the key are enough. Nothing here
//! writes to the target but what is about its [`keys`], a [`repair`], which deletes no backup and no
//! data, and a [`revert`], which removes what others put there; a [`copy`] writes to a second one.

mod copy;
mod export;
mod keys;
mod mount;
mod repair;
mod revert;
mod serve;
mod signals;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anstream::eprintln;
use clap::{Args, Subcommand};
use stillpoint_env::SystemEnv;
use stillpoint_model::Env;
use stillpoint_model::error::with_causes;
use stillpoint_model::id::BackupId;
use stillpoint_vault::target::Target;
use stillpoint_vault::{CheckLevel, CheckReport, Error, RootKey, Vault, rescue};

use self::copy::Copy;
use self::keys::Keys;
use self::repair::Repair;
use self::revert::Revert;
use super::long_work;
use crate::failure::{Exit, Failure, Result, print};
use crate::output::{self, Format};
use crate::record::rescue::{DamagedObject, KeptBackup};
use crate::target::{BucketArgs, Place};

/// Rescue backups with nothing but the target and the key: no server is asked
#[derive(Args, Debug)]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the backups in a target
    List {
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Prove what a target holds, and name the backups that damage affects
    Check {
        #[command(flatten)]
        place: PlaceArgs,
        /// Read, decrypt and compare every chunk, too
        #[arg(long)]
        deep: bool,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Compare what is stored with what was put, byte for byte: this needs no key
    ///
    /// It tells rot, not malice, and not which backups it affects: for that there is `vault check --deep`,
    /// with the key. What older versions stored is not covered, and is counted.
    Scrub {
        /// The backup target: a folder, or s3://BUCKET/PREFIX
        #[arg(long, value_name = "TARGET")]
        target: String,
        #[command(flatten)]
        bucket: BucketArgs,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Restore a backup to a raw disk image, and compare it whole
    Restore {
        #[command(flatten)]
        place: PlaceArgs,
        /// The backup, by id, as `vault list` shows it
        backup: BackupId,
        /// The file to make; it must not exist
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Write a backup as a disk image, qcow2 or raw, to a file or to stdout
    Export {
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        what: export::ExportArgs,
    },
    /// Show each backup as a read-only raw disk file in a folder, until Ctrl-C
    Mount {
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        what: mount::MountArgs,
    },
    /// Serve a backup as a read-only network block device (NBD) on a unix socket, until Ctrl-C
    Serve {
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        what: serve::ServeArgs,
    },
    Copy(Copy),
    Repair(Repair),
    Revert(Revert),
    #[command(subcommand)]
    Keys(Keys),
}

/// Where the backups are, and what opens them.
#[derive(Args, Debug)]
struct PlaceArgs {
    /// The backup target: a folder, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "TARGET")]
    target: String,
    /// The root key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    bucket: BucketArgs,
}

/// How the answer is printed.
#[derive(Args, Debug)]
pub struct FormatArgs {
    /// How the answer is printed: table, wide, json, yaml, csv or name [default: table]
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub output: Format,
}

impl Command {
    /// Does what the verb says.
    pub async fn run(self) -> Result<()> {
        match self.verb {
            Verb::List { place, format } => list(&place.open()?.vaults()?, format.output),
            Verb::Check {
                place,
                deep,
                format,
            } => check(place.open()?.vaults()?, deep, format.output).await,
            Verb::Scrub {
                target,
                bucket,
                format,
            } => scrub(target, bucket, format.output).await,
            Verb::Restore { place, backup, to } => {
                restore(place.open()?.vaults()?, backup, to).await
            }
            Verb::Export { place, what } => what.run(&place.open()?.vaults()?).await,
            Verb::Mount { place, what } => what.run(&place.open()?.vaults()?).await,
            Verb::Serve { place, what } => what.run(&place.open()?.vaults()?).await,
            Verb::Copy(copy) => copy.run().await,
            Verb::Repair(repair) => repair.run().await,
            Verb::Revert(revert) => revert.run().await,
            Verb::Keys(keys) => keys.run(),
        }
    }
}

/// A target at hand, and the key to it.
struct Opened {
    address: String,
    target: Arc<dyn Target>,
    key: RootKey,
    env: Arc<dyn Env>,
}

impl PlaceArgs {
    fn open(self) -> Result<Opened> {
        let env: Arc<dyn Env> = Arc::new(SystemEnv::new());
        let key = RootKey::load(&self.key).map_err(|error| explain(&error))?;
        let target = open_target(&self.target, self.bucket, &env)?;
        Ok(Opened {
            address: self.target,
            target,
            key,
            env,
        })
    }
}

fn open_target(address: &str, bucket: BucketArgs, env: &Arc<dyn Env>) -> Result<Arc<dyn Target>> {
    let place = Place::of_args(address, bucket)?;
    if matches!(&place, Place::Folder(Some(folder)) if !folder.is_dir()) {
        let text = format!("there is no folder {address}");
        return Err(Failure::new(Exit::NotFound, "not_found", text));
    }
    let opened = place.open(None, env)?;
    opened.ok_or_else(|| nothing_there(address))
}

impl Opened {
    /// Every vault that the key opens. One that it does not open is said, and is a failure only
    /// when there is no other.
    fn vaults(&self) -> Result<Vec<Vault>> {
        let (vaults, unopened) = rescue::open_all(&self.target, &self.key, &self.env)
            .map_err(|error| explain(&error))?;
        let mut unopened = unopened.into_iter();
        if vaults.is_empty() {
            return Err(match unopened.next() {
                Some((_, error)) => explain(&error),
                None => nothing_there(&self.address),
            });
        }
        for (_, error) in unopened {
            eprintln!("{}", explain(&error));
        }
        Ok(vaults)
    }
}

fn nothing_there(target: &str) -> Failure {
    let text = format!("there is no vault in {target}");
    Failure::new(Exit::NotFound, "not_found", text)
        .hint("the embedded server keeps its backup target in DATA/target")
}

fn explain(error: &Error) -> Failure {
    let (exit, code) = match error {
        Error::BackupNotFound(_) | Error::VaultNotFound(_) => (Exit::NotFound, "not_found"),
        Error::BackupDeleted(_) => (Exit::NotFound, "backup_deleted"),
        Error::WrongKey { .. } => (Exit::Auth, "wrong_key"),
        Error::MalformedRootKey | Error::RootKeyFile { .. } => (Exit::Usage, "root_key"),
        Error::Corrupt { .. } | Error::Mismatch(_) | Error::Irreparable { .. } => {
            (Exit::Other, "integrity_error")
        }
        Error::Cancelled => return Failure::interrupted(),
        Error::Target(_) => (Exit::Other, "backup_target"),
        _ => (Exit::Other, "vault"),
    };
    let failure = Failure::new(exit, code, with_causes(error));
    match error {
        Error::WrongKey { .. } => failure.hint("give the key that was kept with --key FILE"),
        Error::BackupNotFound(_) => failure.hint("see what is there: stillpoint vault list"),
        Error::Corrupt { .. } => failure.hint("see what else is damaged: stillpoint vault check"),
        _ => failure,
    }
}

fn list(vaults: &[Vault], format: Format) -> Result<()> {
    let mut backups = Vec::new();
    for vault in vaults {
        let found = vault.list_backups(None).map_err(|error| explain(&error))?;
        backups.extend(found.into_iter().map(|info| KeptBackup::new(vault, &info)));
    }
    backups.sort_by_key(|backup| backup.created);
    output::list(format, &backups, "There are no backups in this target.")
}

async fn check(vaults: Vec<Vault>, deep: bool, format: Format) -> Result<()> {
    let level = if deep {
        CheckLevel::Decrypt
    } else {
        CheckLevel::Present
    };
    let mut all = CheckReport::default();
    for vault in vaults {
        let report = long_work::run("check", move |monitor| vault.check(level, monitor)).await?;
        let report = report.map_err(|error| explain(&error))?;
        all.backups += report.backups;
        all.objects += report.objects;
        all.problems.extend(report.problems);
    }
    let affected = all.affected().len();
    let damaged: Vec<DamagedObject> = all.problems.into_iter().map(DamagedObject::from).collect();
    eprintln!(
        "{} backups and {} objects were checked.",
        all.backups, all.objects
    );
    output::list(
        format,
        &damaged,
        "Everything is there and as it was written.",
    )?;
    if damaged.is_empty() {
        return Ok(());
    }
    let text = format!(
        "{} damaged objects; {affected} backups cannot be restored",
        damaged.len()
    );
    Err(Failure::new(Exit::Other, "integrity_error", text)
        .hint("every other backup can be restored as before"))
}

async fn scrub(address: String, bucket: BucketArgs, format: Format) -> Result<()> {
    let env: Arc<dyn Env> = Arc::new(SystemEnv::new());
    let target = open_target(&address, bucket, &env)?;
    let scrubbed = long_work::run("scrub", move |monitor| {
        stillpoint_vault::scrub(&*target, monitor)
    });
    let scrubbed = scrubbed.await?.map_err(|error| explain(&error))?;
    if scrubbed.is_empty() {
        return Err(nothing_there(&address));
    }
    let compared: usize = scrubbed.iter().map(|vault| vault.compared).sum();
    let uncovered: usize = scrubbed.iter().map(|vault| vault.uncovered).sum();
    eprintln!("{compared} objects were compared, {uncovered} are not covered.");
    let all = scrubbed.into_iter().flat_map(|vault| vault.damaged);
    let damaged: Vec<DamagedObject> = all.map(DamagedObject::from).collect();
    output::list(format, &damaged, "Everything compared is what was put.")?;
    if damaged.is_empty() {
        return Ok(());
    }
    let text = format!("{} objects are not what was put", damaged.len());
    Err(Failure::new(Exit::Other, "integrity_error", text)
        .hint("see which backups need them, with the key: stillpoint vault check --deep"))
}

async fn restore(vaults: Vec<Vault>, backup: BackupId, to: PathBuf) -> Result<()> {
    require_new(&to)?;
    let (vault, info) = rescue::find_backup(&vaults, backup).map_err(|error| explain(&error))?;
    let (vault, path) = (vault.clone(), to.clone());
    let restored = long_work::run("restore", move |monitor| {
        rescue::restore_to_file(&vault, &info, &path, monitor)
    });
    let report = restored.await?.map_err(|error| explain(&error))?;
    eprintln!(
        "Restored {} ({} of data) and compared it whole.",
        report.provisioned, report.written
    );
    print(to.display())
}

fn require_new(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let text = format!("{} exists; it is left as it is", path.display());
    Err(Failure::usage(text).hint("name a file that does not exist with --to"))
}
