//! Attaching a volume to an instance, and detaching it.
//!
//! ```text
//! attach:  begin     the volume is in use, in its place
//!          plug      the node gives it to the machine, if that     undo: none; ask the node what
//!                    runs                                          the machine has open
//!          finish
//! detach:  unplug    the node takes it from the machine, if        undo: the same
//!                    that runs; the guest lets go of it first
//!          finish    the volume is available
//! ```
//!
//! The operation holds both the volume and the instance. A guest that has seen a disk is not made to
//! unsee it: when the worker is lost the node is asked, and if the disk is where it should be, the
//! operation goes forward and succeeds. While the answer is open the volume stays attached, so that
//! nothing is done to it that a guest which may have it open would not survive.
//!
//! A machine that is off has nothing open: there, attaching and detaching are changes of rows.

use stillpoint_model::id::VolumeId;
use stillpoint_model::operation::{OperationKind, Phase};
use stillpoint_model::saga::{Request, Setback};
use stillpoint_model::task::{TaskOutcome, TaskSpec};
use stillpoint_model::volume::{Attachment, VolumeState};

use super::{Answer, Saga, Scene, Step, Undo, inspect_instance};

/// Attaching a volume.
pub const ATTACH: Saga = Saga {
    kind: OperationKind::VolumeAttach,
    steps: &[
        Step::store("begin", Phase::Initiation, begin),
        Step::task(
            "plug",
            Phase::Machine,
            plug,
            Undo::Ask {
                task: inspect_instance,
                happened: is_plugged,
            },
        ),
        Step::store("finish", Phase::CleanUp, attached),
    ],
    unwound: not_attached,
    answered: detach_unless_plugged,
};

/// Detaching a volume.
pub const DETACH: Saga = Saga {
    kind: OperationKind::VolumeDetach,
    steps: &[
        Step::task(
            "unplug",
            Phase::Machine,
            unplug,
            Undo::Ask {
                task: inspect_instance,
                happened: is_unplugged,
            },
        ),
        Step::store("finish", Phase::CleanUp, detach),
    ],
    unwound: nothing_changed,
    answered: detach_unless_plugged,
};

fn begin(scene: &mut Scene) {
    let Request::VolumeAttach { disk } = scene.run.order.request else {
        return;
    };
    if let (Some(volume), Some(instance)) = (&mut scene.volume, &scene.instance) {
        volume.attachment = Some(Attachment::to(instance, disk.place));
        volume.state = VolumeState::InUse;
    }
}

fn plug(scene: &Scene) -> Option<TaskSpec> {
    let instance_id = scene.run.operation.instance_id?;
    match scene.run.order.request {
        Request::VolumeAttach { disk } => Some(TaskSpec::VolumePlug { instance_id, disk }),
        _ => None,
    }
}

fn unplug(scene: &Scene) -> Option<TaskSpec> {
    let operation = &scene.run.operation;
    Some(TaskSpec::VolumeUnplug {
        instance_id: operation.instance_id?,
        volume_id: operation.volume_id?,
    })
}

fn has_open(answer: &TaskOutcome, volume: Option<VolumeId>) -> Option<bool> {
    match (answer, volume) {
        (TaskOutcome::Machine { open, .. }, Some(volume)) => Some(open.contains(&volume)),
        _ => None,
    }
}

fn is_plugged(scene: &Scene, answer: &TaskOutcome) -> bool {
    has_open(answer, scene.run.operation.volume_id) == Some(true)
}

fn is_unplugged(scene: &Scene, answer: &TaskOutcome) -> bool {
    has_open(answer, scene.run.operation.volume_id) == Some(false)
}

fn attached(scene: &mut Scene) {
    if let Some(volume) = &mut scene.volume {
        volume.state = VolumeState::InUse;
    }
}

fn detach(scene: &mut Scene) {
    if let Some(volume) = &mut scene.volume {
        volume.attachment = None;
        volume.state = VolumeState::Available;
    }
}

fn not_attached(scene: &mut Scene, _: &Setback) {
    if !scene.is_open("plug") {
        detach(scene);
    }
}

const fn nothing_changed(_: &mut Scene, _: &Setback) {}

fn detach_unless_plugged(scene: &mut Scene, answer: &Answer<'_>) {
    let (Some(volume), Some(instance)) = (&scene.volume, &scene.instance) else {
        return;
    };
    let own = volume
        .own_instance()
        .is_some_and(|own| own.id == instance.id);
    let idle = volume.active_operation.is_none() && instance.active_operation.is_none();
    let open = match answer {
        Answer::Found(outcome) => has_open(outcome, Some(volume.id)),
        Answer::Missing => Some(false),
    };
    if own && idle && open == Some(false) {
        detach(scene);
    }
}
