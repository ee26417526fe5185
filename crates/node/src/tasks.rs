//! The work itself: one function per task, on a thread of its own.
//!
//! Each may be done again after a crash at any point and answers the same: ids come with the
//! task, and pool and vault find their own work done.

mod backup;
mod care;
mod fill;
mod machine;
mod memory;
mod tidy;
mod volume;

use stillpoint_model::ErrorKind;
use stillpoint_model::id::PoolId;
use stillpoint_model::progress::Monitor;
use stillpoint_model::task::{Directive, TaskFailure, TaskOutcome, TaskSpec};

use crate::control_plane::ControlError;
use crate::failure::of_kind;
use crate::progress::Watch;
use crate::storage::Storage;

pub use backup::Sink;

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
        TaskSpec::All { tasks } => all(storage, pool_id, tasks, hooks),
        TaskSpec::SnapshotSealWithMemory { .. }
        | TaskSpec::MemoryVerify { .. }
        | TaskSpec::MemoryDrop { .. } => memory::perform(storage, pool, spec, hooks.watch()),
        TaskSpec::InstanceStart { .. }
        | TaskSpec::InstanceStop { .. }
        | TaskSpec::InstancePause { .. }
        | TaskSpec::InstanceResume { .. }
        | TaskSpec::InstanceRemove { .. }
        | TaskSpec::InstanceInspect { .. }
        | TaskSpec::VolumePlug { .. }
        | TaskSpec::VolumeUnplug { .. } => machine::perform(storage, spec, hooks.watch()),
        TaskSpec::VolumeCreate { .. }
        | TaskSpec::VolumeImport { .. }
        | TaskSpec::VolumeResize { .. }
        | TaskSpec::VolumeClone { .. }
        | TaskSpec::VolumeFromImage { .. }
        | TaskSpec::VolumeDelete { .. }
        | TaskSpec::VolumeRollBack { .. }
        | TaskSpec::VolumeSwitch { .. }
        | TaskSpec::VolumeInspect { .. }
        | TaskSpec::SnapshotSeal { .. }
        | TaskSpec::SnapshotSealTogether { .. }
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
        TaskSpec::VolumeFillBegin { .. } | TaskSpec::VolumeFill { .. } => {
            fill::perform(storage, pool, spec, hooks.watch())
        }
        TaskSpec::VaultCollect { .. } => care::collect(storage, spec, hooks.watch()),
        TaskSpec::VaultVerify { .. } => care::verify(storage, pool, spec, hooks),
        TaskSpec::VaultMend { .. } => care::mend(storage, spec, hooks.watch()),
        TaskSpec::VaultCopy { .. } => care::copy(storage, spec, hooks),
        TaskSpec::PoolTidy => tidy::tidy(pool, hooks.watch()),
    }
}

/// One after the other; the first that fails ends it. What was done before it is found done by the
/// next attempt, and taken back by the undo of them all.
fn all(storage: &Storage, pool_id: PoolId, tasks: &[TaskSpec], hooks: &dyn Hooks) -> TaskResult {
    let mut outcomes = Vec::with_capacity(tasks.len());
    for task in tasks {
        outcomes.push(perform(storage, pool_id, task, hooks)?);
        if outcomes.len() < tasks.len() && hooks.watch().is_cancelled() {
            return Err(of_kind(
                ErrorKind::Cancelled,
                "between two tasks".to_owned(),
            ));
        }
    }
    Ok(TaskOutcome::All { outcomes })
}

#[cfg(test)]
pub(crate) mod tests {
    use stillpoint_model::operation::Phase;

    use super::*;

    /// Whoever gave a task lets it do what it does.
    pub(crate) struct Free(pub Watch);

    impl Free {
        pub(crate) fn new() -> Self {
            Self(Watch::new(Phase::Restoring))
        }
    }

    impl Hooks for Free {
        fn watch(&self) -> &Watch {
            &self.0
        }

        fn confirm(&self) -> Result<Directive, ControlError> {
            Ok(Directive::Continue)
        }
    }
}
