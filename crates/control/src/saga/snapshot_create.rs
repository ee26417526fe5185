//! What happens when I press *Take snapshot*.
//!
//! Admission (`control::snapshot::create`) has checked the guard rails and written, in one
//! transaction, the snapshot's row (`pending`), the operation and the volume's lock. Then:
//!
//! ```text
//! begin      the snapshot is creating
//! seal       the node seals the volume's tip under the      undo: take the name off again,
//!            snapshot's name and puts an empty tip on it    which the pool's upkeep merges away
//! captured   sizes and consistency are recorded; it is verifying
//! verify     the node proves that the layers are whole
//! image      a linked clone of it that nobody sees              undo: delete that
//! image-seal the clone is sealed under the image's name         undo: take that name off, too
//! image-end  the clone goes; the sealed layer stays
//! finish     the snapshot is available, and so is the image
//! ```
//!
//! The three in between are there when the snapshot becomes an image at once (`image_create` has
//! them, too): then there are both in the end, or neither.
//!
//! At its end the engine releases the volume and starts its cooldown, in the same transaction.
//! A snapshot that failed stays listed with its reason; a cancelled one goes.

use stillpoint_model::image::staged_volume;
use stillpoint_model::item::{ItemSizes, ItemState};
use stillpoint_model::operation::{OperationKind, Phase};
use stillpoint_model::saga::Setback;
use stillpoint_model::task::{CloneSource, TaskOutcome, TaskSpec};

use super::image_create::{
    self, drop_name as drop_image, made as image_made, not_made as image_not_made, release,
    seal as seal_image,
};
use super::{Saga, Scene, Step, Undo, nothing_open, reason, record_volume};

/// Taking a snapshot.
pub const SAGA: Saga = Saga {
    kind: OperationKind::SnapshotCreate,
    steps: &[
        Step::store("begin", Phase::Initiation, begin),
        Step::task("seal", Phase::DataCapture, seal, Undo::Task(drop_name)),
        Step::store("captured", Phase::Verification, captured),
        Step::task("verify", Phase::Verification, verify, Undo::Nothing),
        Step::task("image", Phase::CleanUp, image, Undo::Task(release)),
        Step::task(
            "image-seal",
            Phase::CleanUp,
            seal_image,
            Undo::Task(drop_image),
        ),
        Step::task("image-end", Phase::CleanUp, release, Undo::Nothing),
        Step::store("finish", Phase::CleanUp, finish),
    ],
    unwound,
    answered: nothing_open,
};

fn begin(scene: &mut Scene) {
    if let Some(snapshot) = &mut scene.snapshot {
        snapshot.state = ItemState::Creating;
    }
    image_create::begin(scene);
}

fn seal(scene: &Scene) -> Option<TaskSpec> {
    let operation = &scene.run.operation;
    Some(TaskSpec::SnapshotSeal {
        volume_id: operation.volume_id?,
        snapshot_id: operation.snapshot_id?,
        freeze: scene.run.order.terms.freeze,
    })
}

fn drop_name(scene: &Scene) -> Option<TaskSpec> {
    let snapshot_id = scene.run.operation.snapshot_id?;
    Some(TaskSpec::SnapshotDrop { snapshot_id })
}

fn captured(scene: &mut Scene) {
    let Some(outcome) = scene.outcome("seal").cloned() else {
        return;
    };
    if let Some(volume) = &mut scene.volume {
        record_volume(volume, &outcome);
    }
    let TaskOutcome::Sealed {
        layer,
        consistency,
        provisioned,
        used,
        changed,
        ..
    } = outcome
    else {
        return;
    };
    if let Some(snapshot) = &mut scene.snapshot {
        snapshot.state = ItemState::Verifying;
        snapshot.layer = Some(layer);
        snapshot.consistency = Some(consistency);
        snapshot.sizes = ItemSizes {
            provisioned,
            used,
            changed,
            stored: changed,
            freed_if_deleted: changed,
        };
    }
}

fn verify(scene: &Scene) -> Option<TaskSpec> {
    let snapshot_id = scene.run.operation.snapshot_id?;
    Some(TaskSpec::SnapshotVerify { snapshot_id })
}

/// The volume that nobody sees, in which the snapshot's content becomes an image.
fn image(scene: &Scene) -> Option<TaskSpec> {
    let operation = &scene.run.operation;
    Some(TaskSpec::VolumeClone {
        volume_id: staged_volume(operation.image_id?),
        source: CloneSource::Snapshot(operation.snapshot_id?),
    })
}

fn finish(scene: &mut Scene) {
    let consistency = scene.snapshot.as_ref().and_then(|s| s.consistency);
    image_create::record(scene, "image-seal", consistency);
    image_made(scene);
    let duration_ms = scene.duration_ms();
    if let Some(snapshot) = &mut scene.snapshot {
        snapshot.state = ItemState::Available;
        snapshot.duration_ms = duration_ms;
        snapshot.failure = None;
    }
}

fn unwound(scene: &mut Scene, setback: &Setback) {
    image_not_made(scene, setback);
    if *setback == Setback::Cancelled {
        scene.snapshot = None;
    } else if let Some(snapshot) = &mut scene.snapshot {
        snapshot.state = ItemState::Failed;
        snapshot.layer = None;
        snapshot.sizes = ItemSizes::default();
        snapshot.failure = Some(reason(setback));
    }
}
