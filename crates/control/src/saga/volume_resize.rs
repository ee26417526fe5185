//! Making a volume larger.
//!
//! ```text
//! grow      the node grows the volume      undo: none; ask the node how large it is
//! finish    the new size is recorded
//! ```
//!
//! Growing cannot be taken back: a guest may have used the new space. When the worker is lost
//! the node is asked. If the volume has grown the operation goes forward and succeeds.

use stillpoint_model::operation::{OperationKind, Phase};
use stillpoint_model::saga::{Request, Setback};
use stillpoint_model::task::{TaskOutcome, TaskSpec};

use super::{Answer, Saga, Scene, Step, Undo, record_volume};

/// Making a volume larger.
pub const SAGA: Saga = Saga {
    kind: OperationKind::VolumeResize,
    steps: &[
        Step::task(
            "grow",
            Phase::DataCapture,
            grow,
            Undo::Ask {
                task: inspect,
                happened,
            },
        ),
        Step::store("finish", Phase::CleanUp, finish),
    ],
    unwound,
    answered,
};

fn grow(scene: &Scene) -> Option<TaskSpec> {
    let volume_id = scene.run.operation.volume_id?;
    match scene.run.order.request {
        Request::VolumeResize { size } => Some(TaskSpec::VolumeResize { volume_id, size }),
        _ => None,
    }
}

fn inspect(scene: &Scene) -> Option<TaskSpec> {
    let volume_id = scene.run.operation.volume_id?;
    Some(TaskSpec::VolumeInspect {
        volume_id,
        witness: None,
    })
}

fn happened(scene: &Scene, answer: &TaskOutcome) -> bool {
    match (&scene.run.order.request, answer) {
        (Request::VolumeResize { size: wanted }, TaskOutcome::Inspected { size, .. }) => {
            size >= wanted
        }
        _ => false,
    }
}

fn finish(scene: &mut Scene) {
    let outcome = scene.outcome("grow").cloned();
    if let (Some(volume), Some(outcome)) = (&mut scene.volume, outcome) {
        record_volume(volume, &outcome);
    }
}

const fn unwound(_: &mut Scene, _: &Setback) {}

fn answered(scene: &mut Scene, answer: &Answer<'_>) {
    if let (Some(volume), Answer::Found(outcome)) = (&mut scene.volume, answer) {
        // Only growth can be news: what a later operation recorded is never undone here.
        if let TaskOutcome::Inspected { size, .. } = outcome
            && *size > volume.size
        {
            volume.size = *size;
        }
    }
}
