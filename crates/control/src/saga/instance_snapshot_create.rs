//! What happens when I press *Take snapshot* on an instance.
//!
//! Admission (`control::instance_snapshot::create`) has written the rows of the whole and of its
//! parts (`pending`), and holds the instance and all its volumes. Then, as for one volume:
//!
//! ```text
//! begin      the whole and its parts are creating
//! seal       the node seals the tips of all volumes at one      undo: take the names off again,
//!            instant, each under its part's name; with          delete the memory
//!            memory, where that was asked
//! captured   sizes and consistency are recorded; verifying
//! verify     the node proves that all layers are whole
//! image      a linked clone of the root's part that nobody sees     undo: delete that
//! image-seal the clone is sealed under the image's name             undo: take that name off, too
//! image-end  the clone goes; the sealed layer stays
//! finish     all are available, in one transaction, and so is the image
//! ```
//!
//! The three in between are there when its root becomes an image at once, as in `snapshot_create`.
//!
//! A running instance is captured by one transaction of its machine; one that is off has nothing to
//! switch. What the whole promises is the least that a part does. One that failed stays listed with
//! its reason and without parts; a cancelled one goes.

use stillpoint_model::id::InstanceSnapshotId;
use stillpoint_model::image::staged_volume;
use stillpoint_model::item::{ItemSizes, ItemState};
use stillpoint_model::operation::{OperationKind, Phase};
use stillpoint_model::saga::{Request, Setback};
use stillpoint_model::snapshot::Snapshot;
use stillpoint_model::task::{CloneSource, SealPoint, TaskOutcome, TaskSpec};

use super::image_create::{
    self, drop_name as drop_image, made as image_made, not_made as image_not_made, release,
    seal as seal_image,
};
use super::{Saga, Scene, Step, Undo, all, nothing_open, outcomes, reason, record_volume};

/// Taking a snapshot of an instance.
pub const SAGA: Saga = Saga {
    kind: OperationKind::InstanceSnapshotCreate,
    steps: &[
        Step::store("begin", Phase::Initiation, begin),
        Step::task("seal", Phase::DataCapture, seal, Undo::Task(drop_names)),
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

fn points(scene: &Scene) -> &[SealPoint] {
    match &scene.run.order.request {
        Request::InstanceSnapshotCreate { points, .. } => points,
        _ => &[],
    }
}

fn set_state(scene: &mut Scene, state: ItemState) {
    if let Some(whole) = &mut scene.instance_snapshot {
        whole.state = state;
    }
    for part in &mut scene.snapshots {
        part.state = state;
    }
}

fn begin(scene: &mut Scene) {
    set_state(scene, ItemState::Creating);
    image_create::begin(scene);
}

fn seal(scene: &Scene) -> Option<TaskSpec> {
    match &scene.run.order.request {
        Request::InstanceSnapshotCreate { points, freeze, .. } => Some(match memory_of(scene) {
            Some(instance_snapshot_id) => TaskSpec::SnapshotSealWithMemory {
                points: points.clone(),
                instance_snapshot_id,
            },
            None => TaskSpec::SnapshotSealTogether {
                points: points.clone(),
                freeze: *freeze,
            },
        }),
        _ => None,
    }
}

/// The whole, when its memory is captured, too.
fn memory_of(scene: &Scene) -> Option<InstanceSnapshotId> {
    match scene.run.order.request {
        Request::InstanceSnapshotCreate { memory: true, .. } => {
            scene.run.operation.instance_snapshot_id
        }
        _ => None,
    }
}

fn drop_names(scene: &Scene) -> Option<TaskSpec> {
    let names = points(scene).iter().map(|point| TaskSpec::SnapshotDrop {
        snapshot_id: point.snapshot_id,
    });
    let memory = memory_of(scene).map(|instance_snapshot_id| TaskSpec::MemoryDrop {
        instance_snapshot_id,
    });
    all(names.chain(memory))
}

fn captured(scene: &mut Scene) {
    let found = outcomes(scene.outcome("seal")).to_vec();
    let points = points(scene).to_vec();
    for (point, outcome) in points.iter().zip(&found) {
        let is_it = |part: &&mut Snapshot| part.id == point.snapshot_id;
        if let Some(part) = scene.snapshots.iter_mut().find(is_it) {
            record_part(part, outcome);
        }
        let volume = scene.volumes.iter_mut().find(|v| v.id == point.volume_id);
        if let Some(volume) = volume {
            record_volume(volume, outcome);
        }
    }
    set_state(scene, ItemState::Verifying);
    let (parts, whole) = (&scene.snapshots, &mut scene.instance_snapshot);
    if let Some(whole) = whole {
        whole.consistency = parts.iter().filter_map(|part| part.consistency).min();
        whole.sizes = sum(parts);
    }
}

fn record_part(part: &mut Snapshot, outcome: &TaskOutcome) {
    let TaskOutcome::Sealed {
        layer,
        consistency,
        provisioned,
        used,
        changed,
        ..
    } = *outcome
    else {
        return;
    };
    part.layer = Some(layer);
    part.consistency = Some(consistency);
    part.sizes = ItemSizes {
        provisioned,
        used,
        changed,
        stored: changed,
        freed_if_deleted: changed,
    };
}

fn sum(parts: &[Snapshot]) -> ItemSizes {
    let mut sum = ItemSizes::default();
    for ItemSizes {
        provisioned,
        used,
        changed,
        stored,
        freed_if_deleted,
    } in parts.iter().map(|part| part.sizes)
    {
        sum.provisioned += provisioned;
        sum.used += used;
        sum.changed += changed;
        sum.stored += stored;
        sum.freed_if_deleted += freed_if_deleted;
    }
    sum
}

fn verify(scene: &Scene) -> Option<TaskSpec> {
    let parts = points(scene).iter().map(|point| TaskSpec::SnapshotVerify {
        snapshot_id: point.snapshot_id,
    });
    let memory = memory_of(scene).map(|instance_snapshot_id| TaskSpec::MemoryVerify {
        instance_snapshot_id,
    });
    all(parts.chain(memory))
}

/// What becomes the image: the root's part, which all of them were captured with.
fn root(scene: &Scene) -> Option<&Snapshot> {
    let root = scene.instance_snapshot.as_ref()?.root()?.snapshot_id;
    scene.snapshots.iter().find(|part| part.id == root)
}

/// The volume that nobody sees, in which the root's part becomes an image.
fn image(scene: &Scene) -> Option<TaskSpec> {
    Some(TaskSpec::VolumeClone {
        volume_id: staged_volume(scene.run.operation.image_id?),
        source: CloneSource::Snapshot(root(scene)?.id),
    })
}

fn finish(scene: &mut Scene) {
    let consistency = root(scene).and_then(|root| root.consistency);
    image_create::record(scene, "image-seal", consistency);
    image_made(scene);
    let duration_ms = scene.duration_ms();
    let memory = match outcomes(scene.outcome("verify")).last() {
        Some(TaskOutcome::Memory { size }) => Some(*size),
        _ => None,
    };
    set_state(scene, ItemState::Available);
    for part in &mut scene.snapshots {
        part.duration_ms = duration_ms;
    }
    if let Some(whole) = &mut scene.instance_snapshot {
        whole.duration_ms = duration_ms;
        whole.failure = None;
        whole.memory = memory;
        if let Some(memory) = memory {
            whole.sizes.stored += memory;
            whole.sizes.freed_if_deleted += memory;
        }
    }
}

fn unwound(scene: &mut Scene, setback: &Setback) {
    image_not_made(scene, setback);
    scene.snapshots.clear();
    if *setback == Setback::Cancelled {
        scene.instance_snapshot = None;
    } else if let Some(whole) = &mut scene.instance_snapshot {
        whole.state = ItemState::Failed;
        whole.consistency = None;
        whole.sizes = ItemSizes::default();
        whole.failure = Some(reason(setback));
    }
}
