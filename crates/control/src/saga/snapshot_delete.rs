//! Deleting a snapshot. Every other item of the volume stays, in any order of deletion.
//!
//! ```text
//! begin     the snapshot is deleting
//! drop      the node takes the name off its layer      no way back
//! finish    its row goes; the pool's upkeep merges what no name keeps apart
//! ```
//!
//! It takes no lock of the volume and never waits for its cooldown. Until the node was asked, a
//! cancel gives the snapshot back; after that it is deleted, or listed as `failed` so that it
//! can be deleted again.

use stillpoint_model::item::ItemState;
use stillpoint_model::operation::{OperationKind, Phase};
use stillpoint_model::saga::Setback;
use stillpoint_model::task::TaskSpec;

use super::{Saga, Scene, Step, Undo, nothing_open, reason};

/// Deleting a snapshot.
pub const SAGA: Saga = Saga {
    kind: OperationKind::SnapshotDelete,
    steps: &[
        Step::store("begin", Phase::Initiation, begin),
        Step::task("drop", Phase::CleanUp, drop_name, Undo::Nothing).point_of_no_return(),
        Step::store("finish", Phase::CleanUp, finish),
    ],
    unwound,
    answered: nothing_open,
};

fn begin(scene: &mut Scene) {
    if let Some(snapshot) = &mut scene.snapshot {
        snapshot.state = ItemState::Deleting;
    }
}

fn drop_name(scene: &Scene) -> Option<TaskSpec> {
    let snapshot_id = scene.run.operation.snapshot_id?;
    Some(TaskSpec::SnapshotDrop { snapshot_id })
}

fn finish(scene: &mut Scene) {
    scene.snapshot = None;
}

fn unwound(scene: &mut Scene, setback: &Setback) {
    let begun = scene.was_begun("drop");
    let Some(snapshot) = &mut scene.snapshot else {
        return;
    };
    if begun {
        snapshot.state = ItemState::Failed;
        snapshot.failure = Some(format!("Deleting it did not end: {}", reason(setback)));
    } else if snapshot.failure.is_some() || snapshot.layer.is_none() {
        snapshot.state = ItemState::Failed;
    } else {
        snapshot.state = ItemState::Available;
    }
}
