//! Getting data back with nothing but a target and the root key.
//!
//! What `stillpoint vault` calls. No server, no database. The vaults are opened for reading only:
//! whoever rescues may have to leave everything as it was found.

mod export;
mod qcow2;

use std::path::Path;
use std::sync::Arc;

use stillpoint_model::Env;
use stillpoint_model::id::{BackupId, VaultId};
use stillpoint_model::progress::Monitor;

pub use crate::raw_file::RawFile;
pub use export::{DiskFormat, export_to_file, export_to_pipe};

use crate::target::Target;
use crate::{BackupInfo, Error, RestoreReport, RootKey, Vault};

/// The vaults in a target.
pub fn vault_ids(target: &dyn Target) -> Result<Vec<VaultId>, Error> {
    let mut vaults = vec![];
    let mut after: Option<String> = None;
    loop {
        let page = target.list("", after.as_deref(), 1)?;
        let Some(entry) = page.entries.first() else {
            return Ok(vaults);
        };
        let first = entry.name.as_str().split('/').next().unwrap_or_default();
        if let Ok(vault) = first.parse() {
            vaults.push(vault);
        }
        // `0` is the character after `/`: on with what is not below this one.
        after = Some(format!("{first}0"));
    }
}

/// A vault that could not be opened, and why.
pub type Unopened = (VaultId, Error);

/// Opens every vault in a target that this root key opens, for reading; also says which it does
/// not.
pub fn open_all(
    target: &Arc<dyn Target>,
    root: &RootKey,
    env: &Arc<dyn Env>,
) -> Result<(Vec<Vault>, Vec<Unopened>), Error> {
    let (mut vaults, mut unopened) = (vec![], vec![]);
    for id in vault_ids(&**target)? {
        match Vault::open(target.clone(), id, root, env.clone()) {
            Ok(vault) => vaults.push(vault.read_only()),
            Err(error) => unopened.push((id, error)),
        }
    }
    Ok((vaults, unopened))
}

/// The vault that holds a backup, and what it says about it.
pub fn find_backup(vaults: &[Vault], backup: BackupId) -> Result<(&Vault, BackupInfo), Error> {
    for vault in vaults {
        match vault.volume_of(backup) {
            Ok(volume) => return Ok((vault, vault.describe(volume, backup)?)),
            Err(Error::BackupNotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::BackupNotFound(backup))
}

/// Restores a backup to a new sparse raw file: see [`export_to_file`].
pub fn restore_to_file(
    vault: &Vault,
    info: &BackupInfo,
    path: &Path,
    monitor: &dyn Monitor,
) -> Result<RestoreReport, Error> {
    export_to_file(vault, info, DiskFormat::Raw, path, monitor)
}
