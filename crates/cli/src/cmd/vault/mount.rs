//! `stillpoint vault mount`: backups as disk files, until somebody has had enough.

use std::io;
use std::path::{Path, PathBuf};

use anstream::eprintln;
use clap::Args;
use stillpoint_model::ByteCount;
use stillpoint_model::error::with_causes;
use stillpoint_model::id::BackupId;
use stillpoint_mount::{Error, Mounted, Unmount};
use stillpoint_vault::{BackupInfo, ReadCache, Vault, rescue};
use tokio::sync::oneshot;

use super::explain;
use super::signals::Signals;
use crate::failure::{Exit, Failure, Result, print};
use crate::size;

/// What to mount, and where.
#[derive(Args, Debug)]
pub struct MountArgs {
    /// Only this backup, by id, as `vault list` shows it. May be repeated; without it, all that
    /// are not deleted
    #[arg(long = "backup", value_name = "ID")]
    backups: Vec<BackupId>,
    /// Memory for what was read lately
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size::parse)]
    cache: ByteCount,
    /// An empty folder; in it, ID.raw is the disk of backup ID
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl MountArgs {
    /// Mounts, and serves until Ctrl-C, a TERM signal or `umount`.
    pub async fn run(self, vaults: &[Vault]) -> Result<()> {
        require_empty(&self.dir)?;
        let backups = chosen(vaults, &self.backups)?;
        let count = backups.len();
        let cache = ReadCache::new(self.cache);
        let tell = Box::new(|trouble: &str| eprintln!("{trouble}"));
        let mut signals = Signals::new()?;
        let mut mounted =
            Mounted::new(backups, &self.dir, &cache, tell).map_err(|error| unmounted(&error))?;
        let mut unmounter = mounted.unmounter();
        let (ended, mut end) = oneshot::channel();
        // No task of the runtime: a second Ctrl-C does not wait for it.
        std::thread::spawn(move || ended.send(mounted.serve()));
        print(self.dir.display())?;
        eprintln!("{count} backups are mounted, for reading. Ctrl-C ends it.");
        let mut detached = false;
        loop {
            tokio::select! {
                served = &mut end => return match served {
                    Ok(Err(error)) => Err(unmounted(&error)),
                    Ok(Ok(())) | Err(_) => Ok(()),
                },
                () = signals.next() => {}
            }
            if detached {
                return Err(Failure::interrupted());
            }
            match unmounter.unmount().map_err(|error| unmounted(&error))? {
                Unmount::Gone => {}
                Unmount::InUse => eprintln!(
                    "Files in it are still open: it ends when they are closed, or with Ctrl-C."
                ),
            }
            detached = true;
        }
    }
}

fn require_empty(dir: &Path) -> Result<()> {
    let found = std::fs::read_dir(dir);
    let mut found =
        found.map_err(|error| Failure::file(format!("mount at {}", dir.display()), &error))?;
    match found.next() {
        None => Ok(()),
        Some(_) => {
            Err(Failure::usage(format!("{} is not empty", dir.display()))
                .hint("name an empty folder"))
        }
    }
}

/// The backups that were named, or all.
fn chosen(vaults: &[Vault], ids: &[BackupId]) -> Result<Vec<(Vault, BackupInfo)>> {
    let mut backups = vec![];
    for id in ids {
        let (vault, info) = rescue::find_backup(vaults, *id).map_err(|error| explain(&error))?;
        backups.push((vault.clone(), info));
    }
    if !ids.is_empty() {
        return Ok(backups);
    }
    for vault in vaults {
        let found = vault.list_backups(None).map_err(|error| explain(&error))?;
        let kept = found.into_iter().filter(|info| info.deleted.is_none());
        backups.extend(kept.map(|info| (vault.clone(), info)));
    }
    Ok(backups)
}

fn unmounted(error: &Error) -> Failure {
    let failure = Failure::new(Exit::Other, "mount", with_causes(error));
    match error {
        Error::Mount { source, .. } if source.kind() == io::ErrorKind::NotFound => failure
            .hint("be root, or install what lets others mount: apt-get install fuse3")
            .hint("/dev/fuse must be there: modprobe fuse"),
        _ => failure,
    }
}
