//! Deleting a volume. Its snapshots and backups stay as they are.
//!
//! ```text
//! begin     the volume is deleting
//! remove    the node takes the volume's name off its layers      no way back
//! finish    its row goes
//! ```
//!
//! Until the node was asked, a cancel gives the volume back. From then on the operation goes
//! forward; when that fails the volume is listed as `failed` and can be deleted again.

use stillpoint_model::operation::{OperationKind, Phase};
use stillpoint_model::saga::Setback;
use stillpoint_model::task::TaskSpec;
use stillpoint_model::volume::VolumeState;

use super::{Saga, Scene, Step, Undo, nothing_open, ready_state, unmake_volume};

/// Deleting a volume.
pub const SAGA: Saga = Saga {
    kind: OperationKind::VolumeDelete,
    steps: &[
        Step::store("begin", Phase::Initiation, begin),
        Step::task("remove", Phase::CleanUp, remove, Undo::Nothing).point_of_no_return(),
        Step::store("finish", Phase::CleanUp, finish),
    ],
    unwound,
    answered: nothing_open,
};

fn begin(scene: &mut Scene) {
    if let Some(volume) = &mut scene.volume {
        volume.state = VolumeState::Deleting;
    }
}

fn remove(scene: &Scene) -> Option<TaskSpec> {
    unmake_volume(scene)
}

fn finish(scene: &mut Scene) {
    scene.volume = None;
}

fn unwound(scene: &mut Scene, setback: &Setback) {
    let begun = scene.was_begun("remove");
    let Some(volume) = &mut scene.volume else {
        return;
    };
    if begun {
        volume.state = VolumeState::Failed;
        volume.failure = Some(format!(
            "Deleting it did not end: {}",
            super::reason(setback)
        ));
    } else if volume.failure.is_some() {
        volume.state = VolumeState::Failed;
    } else {
        volume.state = ready_state(volume);
    }
}
