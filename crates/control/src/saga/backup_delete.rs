//! Deleting a backup. Every other backup of the volume stays whole.
//!
//! ```text
//! begin     the backup is deleting
//! remove    the node deletes it from its vault      no way back
//! finish    its row goes
//! ```
//!
//! A backup that never got into the vault (it failed) is deleted the same way: the node finds
//! nothing, which is what was asked for.

use stillpoint_model::item::ItemState;
use stillpoint_model::operation::{OperationKind, Phase};
use stillpoint_model::saga::{Request, Setback};
use stillpoint_model::task::TaskSpec;

use super::{Saga, Scene, Step, Undo, nothing_open, reason};

/// Deleting a backup.
pub const SAGA: Saga = Saga {
    kind: OperationKind::BackupDelete,
    steps: &[
        Step::store("begin", Phase::Initiation, begin),
        Step::task("remove", Phase::CleanUp, remove, Undo::Nothing).point_of_no_return(),
        Step::store("finish", Phase::CleanUp, finish),
    ],
    unwound,
    answered: nothing_open,
};

fn begin(scene: &mut Scene) {
    if let Some(backup) = &mut scene.backup {
        backup.state = ItemState::Deleting;
    }
}

fn remove(scene: &Scene) -> Option<TaskSpec> {
    let Request::BackupDelete { vault } = scene.run.order.request else {
        return None;
    };
    let backup = scene.backup.as_ref()?;
    Some(TaskSpec::BackupDelete {
        backup_id: backup.id,
        volume_id: backup.volume_id,
        vault,
    })
}

fn finish(scene: &mut Scene) {
    scene.backup = None;
}

fn unwound(scene: &mut Scene, setback: &Setback) {
    let begun = scene.was_begun("remove");
    let Some(backup) = &mut scene.backup else {
        return;
    };
    if begun {
        backup.state = ItemState::Failed;
        backup.failure = Some(format!("Deleting it did not end: {}", reason(setback)));
    } else if backup.failure.is_some() || backup.content_hash.is_none() {
        backup.state = ItemState::Failed;
    } else {
        backup.state = ItemState::Available;
    }
}
