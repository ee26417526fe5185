//! Starting, stopping, pausing and resuming an instance.
//!
//! ```text
//! start | stop | pause | resume    the node does it        undo: none; ask the node what the
//!                                                          machine does
//! finish                           power and state are recorded
//! ```
//!
//! Power is not taken back: a guest that was started has written, one that was stopped has lost its
//! memory. When the worker is lost, or the operation is cancelled, the node is asked. If the machine
//! does what was asked for, the operation goes forward and succeeds. If the node cannot even be
//! asked, the operation ends as failed, and the row follows what the node sees as soon as it answers.

use stillpoint_model::instance::Power;
use stillpoint_model::operation::{OperationKind, Phase};
use stillpoint_model::saga::{Request, Setback};
use stillpoint_model::task::{TaskOutcome, TaskSpec};

use super::{Answer, Ask, Saga, Scene, Step, Undo, inspect_instance, settle_instance};

/// The step that a node does.
const fn ask(name: &'static str, ask: Ask, happened: fn(&Scene, &TaskOutcome) -> bool) -> Step {
    let undo = Undo::Ask {
        task: inspect_instance,
        happened,
    };
    Step::task(name, Phase::Machine, ask, undo)
}

const FINISH: Step = Step::store("finish", Phase::CleanUp, finish);

/// Starting an instance.
pub const START: Saga = Saga {
    kind: OperationKind::InstanceStart,
    steps: &[
        ask("start", start, |_, o| does(o, Power::has_volumes_open)),
        FINISH,
    ],
    unwound,
    answered,
};

/// Stopping an instance.
pub const STOP: Saga = Saga {
    kind: OperationKind::InstanceStop,
    steps: &[
        ask("stop", stop, |_, o| does(o, |power| power == Power::Off)),
        FINISH,
    ],
    unwound,
    answered,
};

/// Having an instance stand still.
pub const PAUSE: Saga = Saga {
    kind: OperationKind::InstancePause,
    steps: &[
        ask("pause", pause, |_, o| {
            does(o, |power| power == Power::Paused)
        }),
        FINISH,
    ],
    unwound,
    answered,
};

/// Having a paused instance go on.
pub const RESUME: Saga = Saga {
    kind: OperationKind::InstanceResume,
    steps: &[
        ask("resume", resume, |_, o| {
            does(o, |power| power == Power::Running)
        }),
        FINISH,
    ],
    unwound,
    answered,
};

fn start(scene: &Scene) -> Option<TaskSpec> {
    let instance_id = scene.run.operation.instance_id?;
    match &scene.run.order.request {
        Request::InstanceStart { machine } => Some(TaskSpec::InstanceStart {
            instance_id,
            machine: machine.clone(),
            memory: None,
        }),
        _ => None,
    }
}

fn stop(scene: &Scene) -> Option<TaskSpec> {
    let instance_id = scene.run.operation.instance_id?;
    match scene.run.order.request {
        Request::InstanceStop { mode } => Some(TaskSpec::InstanceStop { instance_id, mode }),
        _ => None,
    }
}

fn pause(scene: &Scene) -> Option<TaskSpec> {
    let instance_id = scene.run.operation.instance_id?;
    Some(TaskSpec::InstancePause { instance_id })
}

fn resume(scene: &Scene) -> Option<TaskSpec> {
    let instance_id = scene.run.operation.instance_id?;
    Some(TaskSpec::InstanceResume { instance_id })
}

fn does(answer: &TaskOutcome, wanted: impl Fn(Power) -> bool) -> bool {
    matches!(answer, TaskOutcome::Machine { power, .. } if wanted(*power))
}

fn finish(scene: &mut Scene) {
    // The first step is the only one that a node does.
    let found = scene.run.steps.iter().find_map(|step| step.outcome.clone());
    if let Some(outcome) = found {
        settle_instance(scene, &outcome);
    }
}

const fn unwound(_: &mut Scene, _: &Setback) {}

fn answered(scene: &mut Scene, answer: &Answer<'_>) {
    let idle = scene
        .instance
        .as_ref()
        .is_some_and(|instance| instance.active_operation.is_none());
    if let (true, Answer::Found(outcome)) = (idle, answer) {
        settle_instance(scene, outcome);
    }
}
