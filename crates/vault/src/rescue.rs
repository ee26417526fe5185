//! Getting data back with nothing but a target and the root key.
//!
//! What `stillpoint vault list|check|restore` calls. No server, no database, no network.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use stillpoint_model::id::{BackupId, VaultId};
use stillpoint_model::progress::Monitor;
use stillpoint_model::{ByteCount, ByteRange, Env};

use crate::format::MAX_FRAME_CHUNKS;
use crate::target::{LocalTarget, Target};
use crate::volume::{VolumeWriter, next_extent};
use crate::{BackupInfo, CHUNK_LEN, Error, RestoreReport, RootKey, Vault};

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

/// Opens every vault in a directory that this root key opens; also says which it does not.
pub fn open_all(
    directory: &Path,
    root: &RootKey,
    env: &Arc<dyn Env>,
) -> Result<(Vec<Vault>, Vec<Unopened>), Error> {
    let target: Arc<dyn Target> = Arc::new(LocalTarget::open(directory)?);
    let (mut vaults, mut unopened) = (vec![], vec![]);
    for id in vault_ids(&*target)? {
        match Vault::open(target.clone(), id, root, env.clone()) {
            Ok(vault) => vaults.push(vault),
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

/// Restores a backup to a new sparse raw file, compares it, and makes it durable. An existing
/// file is never touched; after a failure the new one is removed.
pub fn restore_to_file(
    vault: &Vault,
    info: &BackupInfo,
    path: &Path,
    monitor: &dyn Monitor,
) -> Result<RestoreReport, Error> {
    let failed = |source| Error::Sink { offset: 0, source };
    let mut file = RawFile::create(path, info.provisioned).map_err(failed)?;
    let restored = vault.restore(info.volume_id, info.backup_id, &mut file, monitor);
    if restored.is_err()
        && let Err(error) = std::fs::remove_file(path)
    {
        tracing::warn!(path = %path.display(), %error, "a partly restored file is left");
    }
    restored
}

/// A new raw file as the sink of a restore.
#[derive(Debug)]
pub struct RawFile {
    file: File,
}

impl RawFile {
    /// Makes a file of `size` that reads as zeros. `AlreadyExists` when it is there.
    pub fn create(path: &Path, size: ByteCount) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        file.set_len(size.get())?;
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        File::open(dir)?.sync_all()?;
        Ok(Self { file })
    }
}

impl VolumeWriter for RawFile {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn write_zeros(&mut self, range: ByteRange) -> io::Result<()> {
        let zeros = vec![0; MAX_FRAME_CHUNKS * CHUNK_LEN];
        let mut at = range.offset;
        while at < range.end() {
            let len = usize::try_from(range.end() - at)
                .unwrap_or(usize::MAX)
                .min(zeros.len());
            self.file.write_all_at(&zeros[..len], at)?;
            at += len as u64;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn is_fresh(&self) -> bool {
        true
    }

    fn next_data(&mut self, offset: u64) -> io::Result<Option<ByteRange>> {
        next_extent(&self.file, offset)
    }
}
