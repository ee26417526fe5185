//! The work itself: one function per task, on a thread of its own.
//!
//! Each may be done again after a crash at any point and answers the same: ids come with the
//! task, and pool and vault find their own work done.

mod backup;
mod tidy;
mod volume;

use stillpoint_model::id::PoolId;
use stillpoint_model::task::{Directive, TaskFailure, TaskOutcome, TaskSpec};

use crate::control_plane::ControlError;
use crate::progress::Watch;
use crate::storage::Storage;

/// What a task on its thread may ask of whoever gave it.
pub trait Hooks: Sync {
    /// Where to say how far it is, and whether to stop.
    fn watch(&self) -> &Watch;

    /// Leave to make the work final.
    fn confirm(&self) -> Result<Directive, ControlError>;
}

/// How a task ended.
pub type TaskResult = Result<TaskOutcome, TaskFailure>;

/// Does a task. Blocks.
pub fn perform(
    storage: &Storage,
    pool_id: PoolId,
    spec: &TaskSpec,
    hooks: &dyn Hooks,
) -> TaskResult {
    let pool = storage.pool(pool_id)?;
    let watch = hooks.watch();
    match *spec {
        TaskSpec::VolumeCreate { volume_id, size } => volume::create(pool, volume_id, size),
        TaskSpec::VolumeImport {
            volume_id,
            upload,
            format,
            max_size,
        } => {
            let source = storage.upload(upload, format);
            volume::import(pool, volume_id, &source, max_size, watch)
        }
        TaskSpec::VolumeResize { volume_id, size } => volume::resize(pool, volume_id, size),
        TaskSpec::VolumeClone { volume_id, source } => volume::clone(pool, volume_id, source),
        TaskSpec::VolumeDelete { volume_id } => volume::delete(pool, volume_id),
        TaskSpec::SnapshotSeal {
            volume_id,
            snapshot_id,
        } => volume::seal(pool, volume_id, snapshot_id),
        TaskSpec::SnapshotVerify { snapshot_id } => volume::verify(pool, snapshot_id, watch),
        TaskSpec::SnapshotDrop { snapshot_id } => volume::drop_snapshot(pool, snapshot_id),
        TaskSpec::VolumeRollBack {
            volume_id,
            snapshot_id,
            safety_id,
        } => volume::roll_back(pool, volume_id, snapshot_id, safety_id),
        TaskSpec::VolumeSwitch {
            volume_id,
            staged_id,
            safety_id,
        } => volume::switch(pool, volume_id, staged_id, safety_id),
        TaskSpec::VolumeInspect { volume_id, witness } => volume::inspect(pool, volume_id, witness),
        TaskSpec::BackupCapture {
            volume_id,
            backup_id,
            snapshot_id,
        } => backup::capture(pool, volume_id, backup_id, snapshot_id),
        TaskSpec::BackupSettle {
            volume_id,
            backup_id,
        } => backup::settle(pool, volume_id, backup_id),
        TaskSpec::BackupUpload {
            volume_id,
            backup_id,
            vault,
            parent,
            ref notes,
        } => {
            let vault = storage.vault_for_backup(vault)?;
            let backup = backup::Backup {
                volume_id,
                backup_id,
            };
            backup::upload(pool, &vault, backup, parent, notes, hooks)
        }
        TaskSpec::BackupVerify {
            backup_id,
            volume_id,
            vault,
            deep,
        } => {
            let vault = storage.vault(vault)?;
            backup::verify(
                &vault,
                backup::Backup {
                    volume_id,
                    backup_id,
                },
                deep,
                watch,
            )
        }
        TaskSpec::BackupReap {
            volume_id,
            backup_id,
            vault,
        } => {
            let vault = storage.vault_if_there(vault)?;
            backup::reap(
                pool,
                vault.as_ref(),
                backup::Backup {
                    volume_id,
                    backup_id,
                },
            )
        }
        TaskSpec::BackupDelete {
            backup_id,
            volume_id,
            vault,
        } => {
            let vault = storage.vault_if_there(vault)?;
            backup::delete(
                pool,
                vault.as_ref(),
                backup::Backup {
                    volume_id,
                    backup_id,
                },
            )
        }
        TaskSpec::BackupRestore {
            volume_id,
            backup_id,
            source_volume_id,
            vault,
        } => {
            let vault = storage.vault(vault)?;
            let backup = backup::Backup {
                volume_id: source_volume_id,
                backup_id,
            };
            backup::restore(pool, &vault, backup, volume_id, watch)
        }
        TaskSpec::PoolTidy => tidy::tidy(pool, watch),
    }
}
