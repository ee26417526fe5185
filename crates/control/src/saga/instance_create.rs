//! Making an instance: its volumes first, then its machine.
//!
//! ```text
//! make     the node makes the new volumes: empty, or from an     undo: delete them
//!          image, a snapshot or a backup
//! made     their sizes are recorded; they are in use
//! start    the node starts the machine, where that was asked;    undo: end it and forget it
//!          it goes on from captured memory, where that was
//! finish   the instance is active, or stopped
//! ```
//!
//! The rows of the instance and of all its volumes exist since admission, attached and held by this
//! operation. An instance that could not be made stays listed as `failed`, with the reason and
//! without a volume; those that were made for it are gone, those that existed are free again. It is
//! never started, so what its undoing left to the upkeep harms nobody, however late.

use stillpoint_model::instance::{InstanceState, Power};
use stillpoint_model::operation::{OperationKind, Phase};
use stillpoint_model::saga::{DiskSource, NewDisk, Request, Setback};
use stillpoint_model::task::TaskSpec;
use stillpoint_model::volume::VolumeState;

use super::{
    Saga, Scene, Step, Undo, all, nothing_open, outcomes, reason, record_volume, settle_instance,
};

/// Making an instance.
pub const SAGA: Saga = Saga {
    kind: OperationKind::InstanceCreate,
    steps: &[
        Step::task("make", Phase::Restoring, make, Undo::Task(unmake)),
        Step::store("made", Phase::Machine, made),
        Step::task("start", Phase::Machine, start, Undo::Task(forget)),
        Step::store("finish", Phase::CleanUp, finish),
    ],
    unwound,
    answered: nothing_open,
};

fn new_disks(scene: &Scene) -> &[NewDisk] {
    match &scene.run.order.request {
        Request::InstanceCreate { make, .. } => make,
        _ => &[],
    }
}

const fn made_of(disk: &NewDisk) -> TaskSpec {
    let volume_id = disk.volume_id;
    match disk.from {
        DiskSource::Empty { size } => TaskSpec::VolumeCreate { volume_id, size },
        DiskSource::Image { image_id, size } => TaskSpec::VolumeFromImage {
            volume_id,
            image_id,
            size,
        },
        DiskSource::RestorePoint { source, instant } => source.into_volume(volume_id, instant),
    }
}

fn make(scene: &Scene) -> Option<TaskSpec> {
    all(new_disks(scene).iter().map(made_of))
}

fn unmake(scene: &Scene) -> Option<TaskSpec> {
    let volume_ids = new_disks(scene).iter().map(|disk| disk.volume_id);
    all(volume_ids.map(|volume_id| TaskSpec::VolumeDelete { volume_id }))
}

fn made(scene: &mut Scene) {
    let outcomes = outcomes(scene.outcome("make")).to_vec();
    let disks = new_disks(scene).to_vec();
    for (disk, outcome) in disks.iter().zip(&outcomes) {
        let made = scene.volumes.iter_mut().find(|v| v.id == disk.volume_id);
        if let Some(volume) = made {
            record_volume(volume, outcome);
            if let DiskSource::RestorePoint { source, instant } = disk.from {
                volume.filling = source.fills(instant);
            }
            volume.state = VolumeState::InUse;
        }
    }
}

fn start(scene: &Scene) -> Option<TaskSpec> {
    let instance_id = scene.run.operation.instance_id?;
    match &scene.run.order.request {
        Request::InstanceCreate {
            machine,
            start: true,
            memory,
            ..
        } => Some(TaskSpec::InstanceStart {
            instance_id,
            machine: machine.clone(),
            memory: *memory,
        }),
        _ => None,
    }
}

fn forget(scene: &Scene) -> Option<TaskSpec> {
    let instance_id = scene.run.operation.instance_id?;
    Some(TaskSpec::InstanceRemove { instance_id })
}

fn finish(scene: &mut Scene) {
    match scene.outcome("start").cloned() {
        Some(outcome) => settle_instance(scene, &outcome),
        None => {
            let now = scene.now;
            if let Some(instance) = &mut scene.instance {
                instance.settle(Power::Off, now);
            }
        }
    }
}

fn unwound(scene: &mut Scene, setback: &Setback) {
    let made: Vec<_> = new_disks(scene).iter().map(|d| d.volume_id).collect();
    scene.volumes.retain(|volume| !made.contains(&volume.id));
    for volume in &mut scene.volumes {
        volume.attachment = None;
        volume.state = VolumeState::Available;
    }
    if *setback == Setback::Cancelled {
        scene.instance = None;
    } else if let Some(instance) = &mut scene.instance {
        instance.state = InstanceState::Failed;
        instance.failure = Some(reason(setback));
    }
}
