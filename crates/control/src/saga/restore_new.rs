//! Restoring to a new volume. The source is left alone.
//!
//! ```text
//! make      from a snapshot: the node clones it, at once;      undo: delete the new volume
//!           from a backup: the node writes every block and
//!           compares the whole volume with the manifest
//! finish    the new volume is available
//! ```
//!
//! The new volume's row exists since admission and holds its own lock. When it cannot be made it
//! stays listed as `failed` with the reason, and nothing of it is in the pool.

use stillpoint_model::operation::{OperationKind, Phase};
use stillpoint_model::saga::RestoreSource;
use stillpoint_model::task::{CloneSource, TaskSpec};

use super::{Saga, Scene, Step, Undo, nothing_open, unmake_volume, volume_made, volume_not_made};

/// Restoring to a new volume.
pub const SAGA: Saga = Saga {
    kind: OperationKind::RestoreNew,
    steps: &[
        Step::task("make", Phase::Restoring, make, Undo::Task(unmake_volume)),
        Step::store("finish", Phase::CleanUp, volume_made),
    ],
    unwound: volume_not_made,
    answered: nothing_open,
};

fn make(scene: &Scene) -> Option<TaskSpec> {
    let volume_id = scene.run.operation.volume_id?;
    Some(match scene.restore_source()? {
        RestoreSource::Snapshot { snapshot_id } => TaskSpec::VolumeClone {
            volume_id,
            source: CloneSource::Snapshot(snapshot_id),
        },
        RestoreSource::Backup {
            backup_id,
            source_volume_id,
            vault,
        } => TaskSpec::BackupRestore {
            volume_id,
            backup_id,
            source_volume_id,
            vault,
        },
    })
}
