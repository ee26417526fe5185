//! `stillpoint vault copy`: every backup a second time, somewhere else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anstream::eprintln;
use clap::Args;
use stillpoint_model::ByteCount;
use stillpoint_model::id::BackupId;
use stillpoint_vault::{BackupInfo, Copied, RootKey, Vault, VaultSpec};

use super::super::long_work;
use super::{PlaceArgs, explain, nothing_there};
use crate::config;
use crate::failure::Result;
use crate::target::{Place, TargetFile};

/// Copy backups into a second target, such as one in another region
///
/// What is there already is left alone, so that running it again copies what is new and goes on
/// where it was interrupted; run it from a timer to keep a second target up to date. Nothing is
/// deleted in either.
#[derive(Args, Debug)]
pub struct Copy {
    #[command(flatten)]
    place: PlaceArgs,
    /// The second target: a folder, or a TOML file with a [target] table as in the server's settings
    #[arg(long, value_name = "TARGET")]
    to: PathBuf,
    /// The root key of the second target [default: the same]
    #[arg(long, value_name = "FILE")]
    to_key: Option<PathBuf>,
    /// Only this backup
    #[arg(long, value_name = "ID")]
    backup: Option<BackupId>,
}

impl Copy {
    /// Does it, one backup after the other.
    pub async fn run(self) -> Result<()> {
        let opened = self.place.open()?;
        let sources = opened.vaults()?;
        let key = match &self.to_key {
            Some(file) => RootKey::load(file).map_err(|error| explain(&error))?,
            None => opened.key.clone(),
        };
        let place = second_place(&self.to)?;
        let Some(target) = place.open(None, &opened.env)? else {
            return Err(nothing_there(&self.to.display().to_string()));
        };
        let (mut copied, mut there, mut stored) = (0, 0, ByteCount::ZERO);
        for source in sources {
            let spec = VaultSpec {
                vault_id: source.id(),
                account_id: source.account_id(),
            };
            let env = Arc::clone(&opened.env);
            let vault = Vault::open_or_create(Arc::clone(&target), spec, &key, env);
            let vault = vault.map_err(|error| explain(&error))?;
            for info in wanted(&source, self.backup)? {
                match copy(&vault, &source, info).await? {
                    Copied::AlreadyThere => there += 1,
                    Copied::Now(receipt) => {
                        copied += 1;
                        stored += receipt.stored;
                    }
                }
            }
        }
        if copied + there == 0
            && let Some(backup) = self.backup
        {
            return Err(explain(&stillpoint_vault::Error::BackupNotFound(backup)));
        }
        eprintln!("{copied} copied and read back ({stored} stored), {there} there before.");
        Ok(())
    }
}

/// The backups to copy, the oldest first, so that each finds the one before it.
fn wanted(source: &Vault, only: Option<BackupId>) -> Result<Vec<BackupInfo>> {
    let all = source.list_backups(None).map_err(|error| explain(&error))?;
    let mut wanted: Vec<_> = all
        .into_iter()
        .filter(|info| info.deleted.is_none())
        .filter(|info| only.is_none_or(|id| id == info.backup_id))
        .collect();
    wanted.sort_by_key(|info| info.backup_id);
    Ok(wanted)
}

async fn copy(to: &Vault, from: &Vault, info: BackupInfo) -> Result<Copied> {
    let (to, from) = (to.clone(), from.clone());
    let copied = long_work::run("copy", move |monitor| {
        let backup = (info.volume_id, info.backup_id);
        to.copy_backup(&from, backup, &mut || Ok(()), monitor)
    });
    copied.await?.map_err(|error| explain(&error))
}

pub(super) fn second_place(to: &Path) -> Result<Place> {
    if to.extension().is_none_or(|extension| extension != "toml") {
        return Ok(Place::Folder(Some(to.to_owned())));
    }
    let file: TargetFile = config::read(to)?;
    let folder = to.parent().unwrap_or(Path::new("")).to_owned();
    Place::of_table(file.target, |path| folder.join(path))
}
