//! Deleting an instance snapshot, with its parts. Every other item stays, in any order of deletion.
//!
//! ```text
//! begin     the whole and its parts are deleting
//! drop      the node takes the names off their layers,    no way back
//!           and deletes the memory
//! finish    the rows go; the pool's upkeep merges what no name keeps apart
//! ```
//!
//! It holds neither the instance nor its volumes, which may be gone, and never waits for a cooldown.
//! Until the node was asked, a cancel gives all of it back; after that it is deleted, or listed as
//! `failed` with its parts, so that it can be deleted again.

use stillpoint_model::item::ItemState;
use stillpoint_model::operation::{OperationKind, Phase};
use stillpoint_model::saga::{Request, Setback};
use stillpoint_model::task::TaskSpec;

use super::{Saga, Scene, Step, Undo, all, nothing_open, reason};

/// Deleting an instance snapshot.
pub const SAGA: Saga = Saga {
    kind: OperationKind::InstanceSnapshotDelete,
    steps: &[
        Step::store("begin", Phase::Initiation, begin),
        Step::task("drop", Phase::CleanUp, drop_names, Undo::Nothing).point_of_no_return(),
        Step::store("finish", Phase::CleanUp, finish),
    ],
    unwound,
    answered: nothing_open,
};

fn begin(scene: &mut Scene) {
    if let Some(whole) = &mut scene.instance_snapshot {
        whole.state = ItemState::Deleting;
    }
    for part in &mut scene.snapshots {
        part.state = ItemState::Deleting;
    }
}

fn drop_names(scene: &Scene) -> Option<TaskSpec> {
    let Request::InstanceSnapshotDelete { snapshots } = &scene.run.order.request else {
        return None;
    };
    let names = snapshots
        .iter()
        .map(|id| TaskSpec::SnapshotDrop { snapshot_id: *id });
    let whole = scene.instance_snapshot.as_ref();
    let with_memory = whole.filter(|whole| whole.memory.is_some());
    let memory = with_memory.map(|whole| TaskSpec::MemoryDrop {
        instance_snapshot_id: whole.id,
    });
    all(names.chain(memory))
}

fn finish(scene: &mut Scene) {
    scene.snapshots.clear();
    scene.instance_snapshot = None;
}

fn unwound(scene: &mut Scene, setback: &Setback) {
    let begun = scene.was_begun("drop");
    let failure = begun.then(|| format!("Deleting it did not end: {}", reason(setback)));
    for part in &mut scene.snapshots {
        part.state = if begun || part.failure.is_some() || part.layer.is_none() {
            ItemState::Failed
        } else {
            ItemState::Available
        };
        part.failure = failure.clone().or(part.failure.take());
    }
    if let Some(whole) = &mut scene.instance_snapshot {
        whole.failure = failure.or(whole.failure.take());
        whole.state = if whole.failure.is_some() || whole.consistency.is_none() {
            ItemState::Failed
        } else {
            ItemState::Available
        };
    }
}
