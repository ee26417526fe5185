//! Backups: from a captured layer into the vault, and back into a new volume.
//!
//! **Again after a crash.** An upload first asks the vault whether its backup is there already;
//! then it is done. Else what earlier runs of it left is reaped, and a new run begins. A restore
//! begins anew unless its volume is finished, which is then compared once more by restoring
//! again: nobody was told of it yet.
//!
//! **Change tracking is proven.** What the pool says has changed is all that is read; each thirtieth
//! backup of a volume, and the first after a change of its size, reads everything and compares.

mod volume;

use std::collections::BTreeMap;

use stillpoint_layers::{LayerReader, Pool};
use stillpoint_model::error::with_causes;
use stillpoint_model::id::{BackupId, LayerId, VolumeId};
use stillpoint_model::task::{Directive, TaskFailure, TaskOutcome, TaskSpec};
use stillpoint_model::{ByteCount, ByteRange, ErrorKind, Timestamp};
use stillpoint_vault::{
    BackupInfo, BackupSpec, CheckLevel, Missed, PreparedBackup, Receipt, Vault, VolumeReader,
};

use super::{Hooks, TaskResult};
use crate::control_plane::ControlError;
use crate::failure::{misdirected, of_kind, of_pool, of_vault};
use crate::progress::Watch;
use crate::storage::Storage;
use volume::Source;

pub use volume::Sink;

/// How often a commit is tried when the target's answer leaves open whether it happened.
const COMMIT_ATTEMPTS: u32 = 3;

/// So many backups in a row take the word of change tracking; the next one proves it.
const TRACKED_IN_A_ROW: u16 = 29;

/// A layer as a vault reads it.
pub(super) fn layer(reader: Box<dyn LayerReader>) -> Box<dyn VolumeReader> {
    Box::new(Source(reader))
}

/// A backup and the volume it is of.
#[derive(Clone, Copy)]
pub(super) struct Backup {
    pub(super) volume_id: VolumeId,
    pub(super) backup_id: BackupId,
}

/// Does a task of a backup.
pub fn perform(
    storage: &Storage,
    pool: &dyn Pool,
    spec: &TaskSpec,
    hooks: &dyn Hooks,
) -> TaskResult {
    match *spec {
        TaskSpec::BackupUpload {
            volume_id,
            backup_id,
            vault,
            parent,
            ref notes,
            level,
            keep_until,
        } => {
            let vault = storage.vault_for_backup(vault)?.compressing_at(level);
            upload(
                pool,
                &vault,
                Backup {
                    volume_id,
                    backup_id,
                },
                (parent, keep_until),
                notes,
                hooks,
            )
        }
        TaskSpec::BackupVerify {
            volume_id,
            backup_id,
            vault,
            deep,
        } => {
            let vault = storage.vault(vault)?;
            verify(
                &vault,
                Backup {
                    volume_id,
                    backup_id,
                },
                deep,
                hooks.watch(),
            )
        }
        TaskSpec::BackupRestore {
            volume_id,
            backup_id,
            source_volume_id,
            vault,
        } => {
            let vault = storage.vault(vault)?;
            let backup = Backup {
                volume_id: source_volume_id,
                backup_id,
            };
            restore(pool, &vault, backup, volume_id, hooks.watch())
        }
        _ => Err(misdirected(spec)),
    }
}

fn upload(
    pool: &dyn Pool,
    vault: &Vault,
    backup: Backup,
    (parent, keep_until): (Option<BackupId>, Option<Timestamp>),
    notes: &BTreeMap<String, String>,
    hooks: &dyn Hooks,
) -> TaskResult {
    if let Some(info) = committed(vault, backup)? {
        return Ok(stored_of(&info));
    }
    let Backup {
        volume_id,
        backup_id,
    } = backup;
    vault
        .reap_backup(volume_id, backup_id)
        .map_err(|error| of_vault(&error))?;
    let layer = pool
        .captured_layer(volume_id, backup_id)
        .map_err(|error| of_pool(&error))?;
    let source = Source(pool.open_layer(layer).map_err(|error| of_pool(&error))?);
    let parent = usable_parent(vault, volume_id, parent)?;
    let parent_id = parent.as_ref().map(|parent| parent.backup_id);
    let changed = changed_since(pool, volume_id, parent_id, layer);
    let spec = BackupSpec {
        backup_id,
        volume_id,
        parent: parent_id,
        changed: changed.as_deref(),
        metadata: notes.clone(),
        keep_until,
    };
    let due = |parent: &BackupInfo| proof_is_due(parent.tracked, parent.provisioned, source.size());
    let prepared = match parent.as_ref().is_some_and(due) {
        true => vault.prepare_proof(&spec, &source, hooks.watch()),
        false => vault.prepare_backup(&spec, &source, hooks.watch()),
    };
    let prepared = prepared.map_err(|error| of_vault(&error))?;
    report(volume_id, prepared.missed());
    let receipt = commit(prepared, hooks)?;
    Ok(stored(&receipt))
}

/// Whether the next backup reads everything, to prove what change tracking said: after so many that
/// relied on it, and after a change of size.
fn proof_is_due(tracked: u16, size_then: ByteCount, size_now: ByteCount) -> bool {
    tracked >= TRACKED_IN_A_ROW || size_then != size_now
}

/// Says what change tracking missed. The backup has it; the ones before it, since the last that was
/// read in full, may lack it.
fn report(volume: VolumeId, missed: &Missed) {
    if missed.bytes > ByteCount::ZERO {
        tracing::error!(%volume, bytes = %missed.bytes, first = ?missed.first, "change tracking missed writes");
    }
}

/// What the vault says of a backup that is committed and was not deleted.
fn committed(vault: &Vault, backup: Backup) -> Result<Option<BackupInfo>, TaskFailure> {
    match vault.describe(backup.volume_id, backup.backup_id) {
        Ok(info) => Ok(info.deleted.is_none().then_some(info)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(of_vault(&error)),
    }
}

/// The parent, unless it went since it was chosen. A backup needs none.
fn usable_parent(
    vault: &Vault,
    volume_id: VolumeId,
    parent: Option<BackupId>,
) -> Result<Option<BackupInfo>, TaskFailure> {
    let Some(backup_id) = parent else {
        return Ok(None);
    };
    committed(
        vault,
        Backup {
            volume_id,
            backup_id,
        },
    )
}

/// What may differ from the parent, where the pool still has the parent's capture. Without it
/// everything is read.
fn changed_since(
    pool: &dyn Pool,
    volume: VolumeId,
    parent: Option<BackupId>,
    layer: LayerId,
) -> Option<Vec<ByteRange>> {
    let base = pool.captured_layer(volume, parent?).ok()?;
    match pool.changed_extents(Some(base), layer) {
        Ok(changed) => Some(changed),
        Err(error) => {
            tracing::info!(%volume, %error, "what changed is not known; everything is read");
            None
        }
    }
}

/// Puts the manifest once the control plane has confirmed, or takes the run back.
fn commit(prepared: PreparedBackup, hooks: &dyn Hooks) -> Result<Receipt, TaskFailure> {
    let mut confirm = || match hooks.confirm() {
        Ok(Directive::Continue) => Ok(()),
        Ok(Directive::Cancel) => Err(ErrorKind::Cancelled),
        Err(ControlError::Fenced) => Err(ErrorKind::Fenced),
        Err(ControlError::Unavailable(_)) => Err(ErrorKind::Retry),
    };
    let mut attempt = 1;
    let error = loop {
        match prepared.commit(&mut confirm) {
            Ok(receipt) => return Ok(receipt),
            // The manifest may or may not be there: committing again finds out.
            Err(stillpoint_vault::Error::Target(_)) if attempt < COMMIT_ATTEMPTS => attempt += 1,
            Err(error) => break error,
        }
    };
    if let Err(left) = prepared.abort() {
        tracing::warn!(error = %left, "a run that may not commit was not taken back; reaping will");
    }
    Err(of_vault(&error))
}

fn stored(receipt: &Receipt) -> TaskOutcome {
    TaskOutcome::Stored {
        provisioned: receipt.provisioned,
        used: receipt.used,
        changed: receipt.changed,
        stored: receipt.stored,
        bytes_read: receipt.bytes_read,
        content_hash: receipt.content_hash.to_string(),
    }
}

fn stored_of(info: &BackupInfo) -> TaskOutcome {
    TaskOutcome::Stored {
        provisioned: info.provisioned,
        used: info.used,
        changed: info.changed,
        stored: info.stored,
        bytes_read: info.bytes_read,
        content_hash: info.content_hash.to_string(),
    }
}

fn verify(vault: &Vault, backup: Backup, deep: bool, watch: &Watch) -> TaskResult {
    let level = if deep {
        CheckLevel::Decrypt
    } else {
        CheckLevel::Present
    };
    match vault.verify_backup(backup.volume_id, backup.backup_id, level, watch) {
        Ok(()) => Ok(TaskOutcome::Done),
        // Something that a backup needs and that is not there is damage.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(of_kind(ErrorKind::Corrupt, with_causes(&error)))
        }
        Err(error) => Err(of_vault(&error)),
    }
}

/// Takes a backup back, or deletes it.
pub fn take_back(storage: &Storage, pool: &dyn Pool, spec: &TaskSpec) -> TaskResult {
    match *spec {
        TaskSpec::BackupReap {
            volume_id,
            backup_id,
            vault,
        } => {
            let vault = storage.vault_if_there(vault)?;
            reap(
                pool,
                vault.as_ref(),
                Backup {
                    volume_id,
                    backup_id,
                },
            )
        }
        TaskSpec::BackupDelete {
            volume_id,
            backup_id,
            vault,
        } => {
            let vault = storage.vault_if_there(vault)?;
            delete(
                pool,
                vault.as_ref(),
                Backup {
                    volume_id,
                    backup_id,
                },
            )
        }
        _ => Err(misdirected(spec)),
    }
}

/// Takes back a backup that will not be: its runs, its manifest if it got that far, its capture.
fn reap(pool: &dyn Pool, vault: Option<&Vault>, backup: Backup) -> TaskResult {
    let Backup {
        volume_id,
        backup_id,
    } = backup;
    if let Some(vault) = vault {
        let reaped = vault
            .reap_backup(volume_id, backup_id)
            .map_err(|error| of_vault(&error))?;
        if reaped.committed {
            vault
                .delete_backup(volume_id, backup_id)
                .map_err(|error| of_vault(&error))?;
        }
    }
    release(pool, backup)
}

/// Deletes a backup. One that is not in the vault is deleted already.
fn delete(pool: &dyn Pool, vault: Option<&Vault>, backup: Backup) -> TaskResult {
    let Backup {
        volume_id,
        backup_id,
    } = backup;
    if let Some(vault) = vault {
        match vault.delete_backup(volume_id, backup_id) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                vault
                    .reap_backup(volume_id, backup_id)
                    .map_err(|error| of_vault(&error))?;
            }
            Err(error) => return Err(of_vault(&error)),
        }
    }
    release(pool, backup)
}

fn release(pool: &dyn Pool, backup: Backup) -> TaskResult {
    pool.release_capture(backup.volume_id, backup.backup_id)
        .map_err(|error| of_pool(&error))?;
    Ok(TaskOutcome::Done)
}

pub(super) fn restore(
    pool: &dyn Pool,
    vault: &Vault,
    backup: Backup,
    volume: VolumeId,
    watch: &Watch,
) -> TaskResult {
    let info = vault
        .describe(backup.volume_id, backup.backup_id)
        .map_err(|error| of_vault(&error))?;
    // A volume that an earlier run finished was perhaps never compared.
    pool.delete_volume(volume)
        .map_err(|error| of_pool(&error))?;
    let writer = pool
        .begin_restore(volume, info.provisioned)
        .map_err(|error| of_pool(&error))?;
    let sink = Sink::new(pool, volume, info.provisioned, writer);
    let restored = vault.restore(backup.volume_id, backup.backup_id, &sink, watch);
    let compared = match restored {
        Ok(_) => sink.finish().map_err(|error| of_pool(&error)),
        Err(error) => Err(of_vault(&error)),
    };
    drop(sink);
    if let Err(failure) = compared {
        // Nothing half restored stays, whatever the reason.
        pool.delete_volume(volume)
            .map_err(|error| of_pool(&error))?;
        return Err(failure);
    }
    let info = pool.volume(volume).map_err(|error| of_pool(&error))?;
    Ok(TaskOutcome::Volume {
        tip: info.tip,
        size: info.size,
        used: info.used,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thirtieth_backup_and_a_change_of_size_prove_change_tracking() {
        let (small, large) = (ByteCount::from_mib(1), ByteCount::from_mib(2));
        let due: Vec<u16> = (0..40)
            .filter(|tracked| proof_is_due(*tracked, small, small))
            .collect();
        assert_eq!(due.first(), Some(&29));
        assert!(proof_is_due(0, small, large) && proof_is_due(0, large, small));
    }
}
