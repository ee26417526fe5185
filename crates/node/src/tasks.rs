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
    match spec {
        TaskSpec::VolumeCreate { .. }
        | TaskSpec::VolumeImport { .. }
        | TaskSpec::VolumeResize { .. }
        | TaskSpec::VolumeClone { .. }
        | TaskSpec::VolumeDelete { .. }
        | TaskSpec::VolumeRollBack { .. }
        | TaskSpec::VolumeSwitch { .. }
        | TaskSpec::VolumeInspect { .. }
        | TaskSpec::SnapshotSeal { .. }
        | TaskSpec::SnapshotVerify { .. }
        | TaskSpec::SnapshotDrop { .. }
        | TaskSpec::BackupCapture { .. }
        | TaskSpec::BackupSettle { .. } => volume::perform(storage, pool, spec, hooks.watch()),
        TaskSpec::BackupReap { .. } | TaskSpec::BackupDelete { .. } => {
            backup::take_back(storage, pool, spec)
        }
        TaskSpec::BackupUpload { .. }
        | TaskSpec::BackupVerify { .. }
        | TaskSpec::BackupRestore { .. } => backup::perform(storage, pool, spec, hooks),
        TaskSpec::PoolTidy => tidy::tidy(pool, hooks.watch()),
    }
}
