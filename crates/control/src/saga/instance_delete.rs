//! Deleting an instance, with those of its volumes that were named.
//!
//! ```text
//! remove    the node ends the machine and removes what is left of it     no way back
//! wipe      the node deletes the volumes that go with it                 can wait: the upkeep of
//!                                                                        the pool does it later
//! finish    its row goes, with those of the volumes that went; the others are free
//! ```
//!
//! Admission has made the instance `deleting` and holds every volume that it has. Until the node was
//! asked, a cancel gives everything back. From then on the operation goes forward; when the machine
//! cannot be ended the instance is listed as `failed`, with its volumes, and can be deleted again.

use stillpoint_model::instance::InstanceState;
use stillpoint_model::operation::{OperationKind, Phase};
use stillpoint_model::saga::{Request, Setback};
use stillpoint_model::task::TaskSpec;
use stillpoint_model::volume::VolumeState;

use super::{Saga, Scene, Step, Undo, all, nothing_open, reason};

/// Deleting an instance.
pub const SAGA: Saga = Saga {
    kind: OperationKind::InstanceDelete,
    steps: &[
        Step::task("remove", Phase::Machine, remove, Undo::Nothing).point_of_no_return(),
        Step::task("wipe", Phase::CleanUp, wipe, Undo::Nothing),
        Step::store("finish", Phase::CleanUp, finish),
    ],
    unwound,
    answered: nothing_open,
};

fn remove(scene: &Scene) -> Option<TaskSpec> {
    let instance_id = scene.run.operation.instance_id?;
    Some(TaskSpec::InstanceRemove { instance_id })
}

fn wipe(scene: &Scene) -> Option<TaskSpec> {
    let Request::InstanceDelete { delete, .. } = &scene.run.order.request else {
        return None;
    };
    let delete = delete.iter();
    all(delete.map(|id| TaskSpec::VolumeDelete { volume_id: *id }))
}

fn finish(scene: &mut Scene) {
    let Request::InstanceDelete { delete, .. } = &scene.run.order.request else {
        return;
    };
    scene.volumes.retain(|volume| !delete.contains(&volume.id));
    for volume in &mut scene.volumes {
        volume.attachment = None;
        volume.state = VolumeState::Available;
    }
    scene.instance = None;
}

fn unwound(scene: &mut Scene, setback: &Setback) {
    let Request::InstanceDelete { was, .. } = scene.run.order.request else {
        return;
    };
    let begun = scene.was_begun("remove");
    for volume in &mut scene.volumes {
        volume.state = VolumeState::InUse;
    }
    let Some(instance) = &mut scene.instance else {
        return;
    };
    instance.state = was;
    if begun {
        instance.state = InstanceState::Failed;
        instance.failure = Some(format!("Deleting it did not end: {}", reason(setback)));
    }
}
