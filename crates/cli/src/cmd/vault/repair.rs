//! `stillpoint vault repair`: what rotted in one target, from the copies in another.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use anstream::eprintln;
use clap::Args;
use stillpoint_model::id::{BackupId, VolumeId};
use stillpoint_vault::target::ObjectName;
use stillpoint_vault::{CheckLevel, Copied, Error, Repaired, RootKey, Source, Vault};

use super::super::long_work;
use super::copy::second_place;
use super::{Opened, PlaceArgs, explain, nothing_there};
use crate::failure::{Exit, Failure, Result};

/// Make damaged backups whole again from a second target that `vault copy` filled
///
/// Everything in the target is read and proven first, as by `vault check --deep`. What a damaged
/// backup lost is then read from its copy, proven, and stored anew; what is sound is shared. Only
/// what was read back and proven whole is said to be repaired. Small objects that rotted and say only what
/// others say (indexes, sums, proofs, the reserve) are made anew.
///
/// No backup and no data is deleted: what no backup needs any more goes with the server's next
/// collection. Taken away are the small objects that are replaced, and a renewal (of an earlier repair) that
/// is damaged itself.
///
/// Stop the server first, or let it rest: a repair beside its collections is safe, but they wait for it.
#[derive(Args, Debug)]
pub struct Repair {
    #[command(flatten)]
    place: PlaceArgs,
    /// The second target: a folder, or a TOML file with a [target] table as in the server's settings
    #[arg(long, value_name = "TARGET")]
    from: PathBuf,
    /// The root key of the second target [default: the same]
    #[arg(long, value_name = "FILE")]
    from_key: Option<PathBuf>,
    /// Only this backup; it is brought back even when nothing of it is left
    #[arg(long, value_name = "ID")]
    backup: Option<BackupId>,
}

/// What became of all vaults.
#[derive(Default)]
struct Tally {
    found: usize,
    whole: usize,
    left: usize,
}

impl Repair {
    /// Does it, one vault after the other.
    pub async fn run(self) -> Result<()> {
        let opened = self.place.open()?;
        let key = match &self.from_key {
            Some(file) => RootKey::load(file).map_err(|error| explain(&error))?,
            None => opened.key.clone(),
        };
        let Some(target) = second_place(&self.from)?.open(None, &opened.env)? else {
            return Err(nothing_there(&self.from.display().to_string()));
        };
        let mut tally = Tally::default();
        for found in opened.vaults()? {
            // Those of a rescue are for reading only.
            let (from, env) = (Arc::clone(&opened.target), Arc::clone(&opened.env));
            let vault = Vault::open(from, found.id(), &opened.key, env);
            let vault = vault.map_err(|error| explain(&error))?;
            let env = Arc::clone(&opened.env);
            let copies = match Vault::open(Arc::clone(&target), vault.id(), &key, env) {
                Ok(copies) => Some(copies),
                Err(Error::VaultNotFound(_)) => None,
                Err(error) => return Err(explain(&error)),
            };
            one_vault(&vault, copies, self.backup, &mut tally).await?;
        }
        tally.say(self.backup, &opened)
    }
}

async fn one_vault(
    vault: &Vault,
    copies: Option<Vault>,
    only: Option<BackupId>,
    tally: &mut Tally,
) -> Result<()> {
    if let (Some(backup), Some(copies)) = (only, &copies)
        && matches!(vault.volume_of(backup), Err(Error::BackupNotFound(_)))
        && let Ok(volume) = copies.volume_of(backup)
    {
        tally.found += 1;
        bring_back(vault, copies.clone(), volume, backup).await?;
        tally.whole += 1;
        return Ok(());
    }
    let (mut damaged, rebuilt) = damaged(vault).await?;
    for name in rebuilt {
        eprintln!("{name} was damaged and is made anew; no backup needs it");
    }
    damaged.retain(|(_, backup)| only.is_none_or(|only| only == *backup));
    tally.found += damaged.len();
    if damaged.is_empty() {
        return Ok(());
    }
    let Some(copies) = copies else {
        eprintln!("The second target has no vault {}.", vault.id());
        tally.left += damaged.len();
        return Ok(());
    };
    let repaired = renew(vault, copies, damaged).await?;
    for (backup, receipt) in &repaired.renewed {
        eprintln!("backup {backup} is whole again ({} stored)", receipt.stored);
    }
    for (_, why) in &repaired.left {
        eprintln!("{why}");
    }
    tally.whole += repaired.renewed.len();
    tally.left += repaired.left.len();
    Ok(())
}

/// The backups that are damaged now, and what was made anew of the objects that are redundant. Whatever
/// shows damage is marked.
async fn damaged(vault: &Vault) -> Result<(BTreeSet<(VolumeId, BackupId)>, Vec<ObjectName>)> {
    let vault = vault.clone();
    let found = long_work::run("check", move |monitor| {
        let report = vault.check(CheckLevel::Decrypt, monitor)?;
        let rebuilt = vault.rebuild(&report, monitor)?;
        Ok::<_, Error>((vault.to_repair(&report)?, rebuilt))
    });
    found.await?.map_err(|error| explain(&error))
}

async fn renew(
    vault: &Vault,
    copies: Vault,
    damaged: BTreeSet<(VolumeId, BackupId)>,
) -> Result<Repaired> {
    let vault = vault.clone();
    let repaired = long_work::run("repair", move |monitor| {
        let mut open = |volume, backup| {
            let copy = Source::copy_in(&copies, volume, backup)?;
            Ok(Vec::from_iter(copy))
        };
        vault.repair_backups(&damaged, &mut open, &mut || Ok(()), monitor)
    });
    repaired.await?.map_err(|error| explain(&error))
}

/// A backup of which even the manifest is gone is copied back under its id.
async fn bring_back(vault: &Vault, from: Vault, volume: VolumeId, backup: BackupId) -> Result<()> {
    let vault = vault.clone();
    let copied = long_work::run("copy", move |monitor| {
        vault.copy_backup(&from, (volume, backup), &mut || Ok(()), monitor)
    });
    match copied.await?.map_err(|error| explain(&error))? {
        Copied::AlreadyThere => eprintln!("backup {backup} is there"),
        Copied::Now(receipt) => {
            eprintln!("backup {backup} is back ({} stored)", receipt.stored);
        }
    }
    Ok(())
}

impl Tally {
    fn say(&self, only: Option<BackupId>, opened: &Opened) -> Result<()> {
        match (self.found, self.left, only) {
            (0, _, Some(backup)) => {
                eprintln!("Backup {backup} is not damaged in {}.", opened.address);
                Ok(())
            }
            (0, _, None) => {
                eprintln!("Every backup is as it was written.");
                Ok(())
            }
            (_, 0, _) => {
                eprintln!("{} repaired, each read back and proven whole.", self.whole);
                Ok(())
            }
            (found, left, _) => {
                let text = format!("{left} of {found} damaged backups could not be repaired");
                Err(Failure::new(Exit::Other, "integrity_error", text)
                    .hint("try another target that has copies; every other backup is whole"))
            }
        }
    }
}
