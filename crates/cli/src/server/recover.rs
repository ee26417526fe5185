//! `stillpoint server recover`: a data folder rebuilt from the target and the root key.
//!
//! The newest copy of the database that the key opens is restored, compared with its hash, checked
//! for consistency and put in its place last: a recovery that was cut off leaves no database, and
//! is simply begun again. A folder that has a database is never touched. What was in flight when the
//! copy was made is taken up by the next start, as after a crash; backups that were made after it
//! stay in their vaults, though the server does not list them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anstream::eprintln;
use clap::Args;
use stillpoint_env::SystemEnv;
use stillpoint_model::Env;
use stillpoint_model::error::with_causes;
use stillpoint_model::id::BackupId;
use stillpoint_model::progress::NullMonitor;
use stillpoint_store::database_check;
use stillpoint_vault::{BackupInfo, RootKey, Vault, rescue};

use super::backup_target::note_of;
use super::data_dir::DataDir;
use super::self_backup::{is_of_databases, live_copies};
use super::settings::default_data;
use crate::failure::{Exit, Failure, Result, print};
use crate::private_file::write_once;
use crate::target::{BucketArgs, Place};

/// Where the copies are, what opens them, and where the server is to be.
#[derive(Args, Debug)]
pub struct RecoverArgs {
    /// The backup target: a folder, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "TARGET")]
    target: String,
    /// The root key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The data folder to rebuild; it must have no database
    #[arg(long, value_name = "DIR", env = "STILLPOINT_DATA")]
    data: Option<PathBuf>,
    /// An older copy, by id, instead of the newest
    #[arg(long, value_name = "ID")]
    backup: Option<BackupId>,
    #[command(flatten)]
    bucket: BucketArgs,
}

/// Rebuilds a data folder.
pub async fn recover(args: RecoverArgs) -> Result<()> {
    let folder = args.data.unwrap_or_else(default_data);
    let data = DataDir::open(&folder)?;
    let database = data.database();
    if database.exists() {
        let text = format!("{} has a database; it is left as it is", folder.display());
        return Err(Failure::new(Exit::Usage, "data_in_use", text)
            .hint("name an empty folder with --data, or move the old database away"));
    }
    let place = own_or(Place::of_args(&args.target, args.bucket)?, &data)?;
    let text = fs::read(&args.key)
        .map_err(|error| Failure::file(format_args!("read {}", args.key.display()), &error))?;
    let key = RootKey::load(&args.key).map_err(|error| broken(&error))?;
    let copy = database.with_extension("copy");
    let (from, to) = (place.clone(), copy.clone());
    let found = tokio::task::spawn_blocking(move || fetch(&from, &key, args.backup, &to));
    let (vault, info) = found.await.map_err(|error| broken(&error))??;
    database_check(&copy)
        .await
        .map_err(|error| broken(&error))?;
    keep_key(&data, &text)?;
    write_once(&data.target_note(), note_of(&place).as_bytes())?;
    write_once(
        &data.database_vault(),
        format!("{}\n", vault.id()).as_bytes(),
    )?;
    put_in_place(&copy, &database)?;
    eprintln!("The server is as it was at {}.", info.created);
    if let Place::Folder(Some(target)) = &place {
        eprintln!(
            "Start it with [target] kind = \"local\", folder = \"{}\" in its settings.",
            target.display()
        );
    }
    print(folder.display())
}

/// The target of a data folder's own, if that is the one that was named.
fn own_or(place: Place, data: &DataDir) -> Result<Place> {
    let Place::Folder(Some(folder)) = place else {
        return Ok(place);
    };
    let real = fs::canonicalize(&folder)
        .map_err(|error| Failure::file(format_args!("open {}", folder.display()), &error))?;
    Ok(match real == data.target() {
        true => Place::Folder(None),
        false => Place::Folder(Some(real)),
    })
}

/// Restores the newest copy, or the one that was named, to a new file.
fn fetch(
    place: &Place,
    key: &RootKey,
    wanted: Option<BackupId>,
    to: &Path,
) -> Result<(Vault, BackupInfo)> {
    let env: Arc<dyn Env> = Arc::new(SystemEnv::new());
    let own = to.parent().map(|data| data.join("target"));
    let nothing = || {
        let text = "no copy of a server's database was found that this key opens";
        Failure::new(Exit::NotFound, "not_found", text)
    };
    let target = place.open(own, &env)?.ok_or_else(nothing)?;
    let (vaults, unopened) = rescue::open_all(&target, key, &env).map_err(|e| broken(&e))?;
    for (vault, error) in unopened {
        tracing::debug!(%vault, %error, "a vault of another key is passed over");
    }
    let mut copies = vec![];
    for vault in vaults.into_iter().filter(is_of_databases) {
        for info in live_copies(&vault).map_err(|error| broken(&error))? {
            copies.push((vault.clone(), info));
        }
    }
    copies.retain(|(_, info)| wanted.is_none_or(|id| id == info.backup_id));
    let newest = copies
        .into_iter()
        .max_by_key(|(_, info)| (info.created, info.backup_id));
    let (vault, info) = newest.ok_or_else(nothing)?;
    // What a recovery that was cut off left.
    if to.exists() {
        fs::remove_file(to)
            .map_err(|error| Failure::file(format_args!("remove {}", to.display()), &error))?;
    }
    rescue::restore_to_file(&vault, &info, to, &NullMonitor).map_err(|error| broken(&error))?;
    Ok((vault, info))
}

fn keep_key(data: &DataDir, text: &[u8]) -> Result<()> {
    let path = data.root_key();
    if write_once(&path, text)? {
        return Ok(());
    }
    let there = fs::read(&path)
        .map_err(|error| Failure::file(format_args!("read {}", path.display()), &error))?;
    if there == text {
        return Ok(());
    }
    let text = format!("{} is another key", path.display());
    Err(Failure::new(Exit::Usage, "root_key", text).hint("name an empty folder with --data"))
}

fn put_in_place(copy: &Path, database: &Path) -> Result<()> {
    let put = || {
        fs::rename(copy, database)?;
        match database.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    put().map_err(|error| Failure::file(format_args!("write {}", database.display()), &error))
}

fn broken(error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Other, "recover", with_causes(error))
}
