//! Sagas: what each kind of operation does, step by step, and how each step is taken back.
//!
//! One file per kind, named as the kind is; its header tells what happens when the button is
//! pressed. A step is either a **task** for the node that holds the pool, or a **store effect**:
//! a change of rows, made in the same transaction that records the step. Sagas are pure: they
//! turn a [`Scene`] (the run and the rows it is about) into the next task, or change its rows.
//! The engine loads the scene, moves it, and saves it with its events.
//!
//! **Rules for a saga**
//! - Every task may be done twice, and every undo may be done twice, also when the work it takes
//!   back was never begun.
//! - A step whose work may have happened although its worker was lost is never assumed either
//!   way: its undo asks the node ([`Undo::Ask`]).
//! - Whatever is past [`Step::past_undoing`] goes forward: a cancel comes too late, and says so by
//!   succeeding.
//!
//! [`saga`] matches on every kind, so a new kind cannot be forgotten.

use stillpoint_model::backup::Backup;
use stillpoint_model::image::Image;
use stillpoint_model::instance::Instance;
use stillpoint_model::instance_snapshot::InstanceSnapshot;
use stillpoint_model::operation::{OperationKind, Phase};
use stillpoint_model::saga::{Run, Setback, StepState};
use stillpoint_model::snapshot::Snapshot;
use stillpoint_model::task::{TaskOutcome, TaskSpec};
use stillpoint_model::volume::{Volume, VolumeState};
use stillpoint_model::{ByteCount, Timestamp};

mod backup_create;
mod backup_delete;
mod backup_verify;
mod image_create;
mod image_delete;
mod instance_create;
mod instance_delete;
mod instance_power;
mod instance_rebuild;
mod instance_snapshot_create;
mod instance_snapshot_delete;
mod restore_in_place;
mod restore_new;
mod snapshot_create;
mod snapshot_delete;
mod volume_attach;
mod volume_create;
mod volume_delete;
mod volume_resize;

/// A run and the rows that it is about.
///
/// Effects change the rows; a row set to none is deleted. The run is the engine's to move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {
    /// The time of this move.
    pub now: Timestamp,
    /// The run.
    pub run: Run,
    /// The volume that the operation makes, changes or deletes.
    pub volume: Option<Volume>,
    /// The snapshot that it makes, deletes or restores from.
    pub snapshot: Option<Snapshot>,
    /// The backup that it makes, deletes, verifies or restores from.
    pub backup: Option<Backup>,
    /// The snapshot that keeps what a roll back replaces.
    pub safety: Option<Snapshot>,
    /// The instance that it makes, changes or deletes.
    pub instance: Option<Instance>,
    /// The image that it makes, deletes or makes a volume from.
    pub image: Option<Image>,
    /// The volumes that it holds beside its own. One that is taken out is deleted.
    pub volumes: Vec<Volume>,
    /// The instance snapshot that it makes, deletes or restores from.
    pub instance_snapshot: Option<InstanceSnapshot>,
    /// The snapshots that it makes or deletes beside its own. One that is taken out is deleted,
    /// one that is put in is made.
    pub snapshots: Vec<Snapshot>,
}

/// A change of rows.
pub type Effect = fn(&mut Scene);

/// The task of a step; none when this order has nothing to do there.
pub type Ask = fn(&Scene) -> Option<TaskSpec>;

/// What a step does.
#[derive(Clone, Copy)]
pub enum Work {
    /// A node does it.
    Task(Ask),
    /// Rows change.
    Store(Effect),
}

/// How a step is taken back.
#[derive(Clone, Copy)]
pub enum Undo {
    /// There is nothing to take back.
    Nothing,
    /// A node takes it back.
    Task(Ask),
    /// Rows change.
    Store(Effect),
    /// It cannot be taken back: a node is asked whether it happened. If it did, the operation
    /// goes forward after all.
    Ask {
        /// The question.
        task: Ask,
        /// Reads the answer.
        happened: fn(&Scene, &TaskOutcome) -> bool,
    },
}

/// One step.
pub struct Step {
    /// Its name, for operators and tests.
    pub name: &'static str,
    /// What the owner sees while it runs.
    pub phase: Phase,
    /// What it does.
    pub work: Work,
    /// How it is taken back.
    pub undo: Undo,
    /// Once this step was begun, a cancel comes too late. Once it is done, the operation has
    /// kept its promise: a task that fails after it is left to the upkeep of the pool.
    pub past_undoing: bool,
    /// After the promise is kept it is done now or never: nothing is left to the upkeep.
    pub now_or_never: bool,
}

impl Step {
    const fn task(name: &'static str, phase: Phase, ask: Ask, undo: Undo) -> Self {
        Self {
            name,
            phase,
            work: Work::Task(ask),
            undo,
            past_undoing: false,
            now_or_never: false,
        }
    }

    const fn store(name: &'static str, phase: Phase, effect: Effect) -> Self {
        Self {
            name,
            phase,
            work: Work::Store(effect),
            undo: Undo::Nothing,
            past_undoing: false,
            now_or_never: false,
        }
    }

    const fn now_or_never(mut self) -> Self {
        self.now_or_never = true;
        self
    }

    const fn point_of_no_return(mut self) -> Self {
        self.past_undoing = true;
        self
    }
}

/// What a kind of operation does.
pub struct Saga {
    /// The kind.
    pub kind: OperationKind,
    /// Its steps, in order.
    pub steps: &'static [Step],
    /// The rows after everything was undone.
    pub unwound: fn(&mut Scene, &Setback),
    /// The rows after the upkeep answered what the operation had left open.
    pub answered: fn(&mut Scene, &Answer<'_>),
}

/// What the upkeep found out about a step that its operation had left open.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// The node's answer.
    Found(&'a TaskOutcome),
    /// What was asked about does not exist.
    Missing,
}

/// The saga of a kind of operation.
pub const fn saga(kind: OperationKind) -> &'static Saga {
    match kind {
        OperationKind::VolumeCreate => &volume_create::CREATE,
        OperationKind::VolumeImport => &volume_create::IMPORT,
        OperationKind::VolumeClone => &volume_create::CLONE,
        OperationKind::VolumeResize => &volume_resize::SAGA,
        OperationKind::VolumeDelete => &volume_delete::SAGA,
        OperationKind::SnapshotCreate => &snapshot_create::SAGA,
        OperationKind::SnapshotDelete => &snapshot_delete::SAGA,
        OperationKind::BackupCreate => &backup_create::SAGA,
        OperationKind::BackupDelete => &backup_delete::SAGA,
        OperationKind::BackupVerify => &backup_verify::SAGA,
        OperationKind::RestoreNew => &restore_new::SAGA,
        OperationKind::RestoreInPlace => &restore_in_place::SAGA,
        OperationKind::InstanceCreate => &instance_create::SAGA,
        OperationKind::InstanceStart => &instance_power::START,
        OperationKind::InstanceStop => &instance_power::STOP,
        OperationKind::InstancePause => &instance_power::PAUSE,
        OperationKind::InstanceResume => &instance_power::RESUME,
        OperationKind::InstanceDelete => &instance_delete::SAGA,
        OperationKind::VolumeAttach => &volume_attach::ATTACH,
        OperationKind::VolumeDetach => &volume_attach::DETACH,
        OperationKind::ImageCreate => &image_create::SAGA,
        OperationKind::ImageDelete => &image_delete::SAGA,
        OperationKind::InstanceSnapshotCreate => &instance_snapshot_create::SAGA,
        OperationKind::InstanceSnapshotDelete => &instance_snapshot_delete::SAGA,
        OperationKind::InstanceRebuild => &instance_rebuild::SAGA,
    }
}

/// For sagas that leave nothing open.
const fn nothing_open(_: &mut Scene, _: &Answer<'_>) {}

impl Scene {
    /// The steps of its operation.
    pub fn saga(&self) -> &'static Saga {
        saga(self.run.operation.kind)
    }

    /// What a step found out.
    fn outcome(&self, step: &str) -> Option<&TaskOutcome> {
        self.run
            .steps
            .iter()
            .find(|s| s.name == step)?
            .outcome
            .as_ref()
    }

    /// Whether a step's work was ever handed out.
    fn was_begun(&self, step: &str) -> bool {
        self.run.steps.iter().any(|s| s.name == step)
    }

    /// Whether the node may still do a step, because its undoing was left to the upkeep.
    fn is_open(&self, step: &str) -> bool {
        self.run
            .steps
            .iter()
            .any(|s| s.name == step && s.state == StepState::Deferred)
    }

    /// How long the operation has taken, in milliseconds.
    fn duration_ms(&self) -> Option<i64> {
        let since = self
            .run
            .operation
            .started_at
            .unwrap_or(self.run.operation.created_at);
        i64::try_from(self.now.duration_since(since).as_millis()).ok()
    }
}

/// The sentence that stays with an item that could not be made.
fn reason(setback: &Setback) -> String {
    match setback {
        Setback::Failed(failure) => failure.text.clone(),
        Setback::Cancelled => "It was cancelled.".to_owned(),
    }
}

/// What a volume is that works.
const fn ready_state(volume: &Volume) -> VolumeState {
    if volume.attachment.is_some() {
        VolumeState::InUse
    } else {
        VolumeState::Available
    }
}

/// Records what a volume is like now.
fn record_volume(volume: &mut Volume, outcome: &TaskOutcome) {
    let (tip, size, used): (_, _, ByteCount) = match *outcome {
        TaskOutcome::Volume { tip, size, used }
        | TaskOutcome::Inspected {
            tip, size, used, ..
        } => (tip, size, used),
        TaskOutcome::Sealed {
            tip,
            provisioned,
            used,
            ..
        } => (tip, provisioned, used),
        TaskOutcome::Done
        | TaskOutcome::Stored { .. }
        | TaskOutcome::Tidied { .. }
        | TaskOutcome::Machine { .. }
        | TaskOutcome::Collected { .. }
        | TaskOutcome::Verified { .. }
        | TaskOutcome::Mended { .. }
        | TaskOutcome::Memory { .. }
        | TaskOutcome::Copied { .. }
        | TaskOutcome::All { .. } => return,
    };
    volume.tip = Some(tip);
    volume.size = size;
    volume.used = used;
}

/// These tasks as one; none when there are none.
fn all(tasks: impl IntoIterator<Item = TaskSpec>) -> Option<TaskSpec> {
    let tasks: Vec<_> = tasks.into_iter().collect();
    (!tasks.is_empty()).then_some(TaskSpec::All { tasks })
}

/// What several tasks found out, in their order.
fn outcomes(outcome: Option<&TaskOutcome>) -> &[TaskOutcome] {
    match outcome {
        Some(TaskOutcome::All { outcomes }) => outcomes,
        _ => &[],
    }
}

/// Asks what a machine does.
fn inspect_instance(scene: &Scene) -> Option<TaskSpec> {
    let instance_id = scene.run.operation.instance_id?;
    Some(TaskSpec::InstanceInspect { instance_id })
}

/// Records what an instance's machine does now, and what that makes of its state.
fn settle_instance(scene: &mut Scene, outcome: &TaskOutcome) {
    let now = scene.now;
    if let (Some(instance), TaskOutcome::Machine { power, .. }) = (&mut scene.instance, outcome) {
        instance.settle(*power, now);
        instance.failure = None;
    }
}

/// A volume that was to be made is not: it goes when its owner cancelled, else it stays listed
/// with the reason.
fn volume_not_made(scene: &mut Scene, setback: &Setback) {
    if *setback == Setback::Cancelled {
        scene.volume = None;
    } else if let Some(volume) = &mut scene.volume {
        volume.state = VolumeState::Failed;
        volume.failure = Some(reason(setback));
    }
}

/// A new volume is ready.
fn volume_made(scene: &mut Scene) {
    let outcome = scene.outcome("make").cloned();
    if let Some(volume) = &mut scene.volume {
        volume.state = ready_state(volume);
        volume.failure = None;
        if let Some(outcome) = &outcome {
            record_volume(volume, outcome);
        }
    }
}

/// Takes back the making of a volume.
fn unmake_volume(scene: &Scene) -> Option<TaskSpec> {
    let volume_id = scene.run.operation.volume_id?;
    Some(TaskSpec::VolumeDelete { volume_id })
}
