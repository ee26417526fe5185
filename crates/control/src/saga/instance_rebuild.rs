//! Putting an instance back to a snapshot of it, undoable by its owner.
//!
//! ```text
//! begin      a safety snapshot of each volume is listed as creating
//! check      the node proves that the layers to go back to are whole
//! put back   the node rolls each volume back; what was there       undo: none; ask the node which
//!            becomes its safety snapshot, in one step each         safety snapshots exist
//! go on      the node starts the machine from the snapshot's       undo: none; it is done now or never
//!            memory, where that was asked
//! finish     the safety snapshots are available, for a day; the instance is stopped, or goes on
//! ```
//!
//! The instance is off and held, so nothing opens a volume between the first and the last. A volume
//! is put back in one step, an instance in several: when its worker is lost, the safety snapshots
//! say which steps happened. If all did, the operation goes forward and succeeds; if none did,
//! nothing happened. If some did, the operation fails, the instance says which volumes were put
//! back, and their safety snapshots stay; rebuilding again does the rest. That is what *check* comes
//! first for: what can be known to fail fails before anything changes.
//!
//! When its machine does not go on from the memory, the instance was put back all the same: it stays
//! stopped, says so, and boots when it is started. Were it started later from memory, by somebody who
//! does not know what was written to its volumes since, its guest would wreck them.
//!
//! Nothing is rolled forward or back later: by then the owner may have started the instance.

use stillpoint_model::Timestamp;
use stillpoint_model::instance::{InstanceState, MachineOrder, Power};
use stillpoint_model::operation::{OperationKind, Phase};
use stillpoint_model::saga::{PutBack, Request, Setback};
use stillpoint_model::task::{TaskOutcome, TaskSpec};

use super::restore_in_place::{expiry, list, not_known, safety_of};
use super::{
    Answer, Saga, Scene, Step, Undo, all, outcomes, reason, record_volume, settle_instance,
};

/// What the owner reads of an instance that was put back and did not go on.
const DID_NOT_GO_ON: &str = "Its volumes were put back, but it could not go on from its memory. \
                             Start it: it boots.";

/// Putting an instance back.
pub const SAGA: Saga = Saga {
    kind: OperationKind::InstanceRebuild,
    steps: &[
        Step::store("begin", Phase::Initiation, begin),
        Step::task("check", Phase::Validation, check, Undo::Nothing),
        Step::task(
            "put back",
            Phase::Restoring,
            put_back,
            Undo::Ask {
                task: inspect,
                happened,
            },
        )
        .point_of_no_return(),
        Step::task("go on", Phase::Machine, go_on, Undo::Nothing).now_or_never(),
        Step::store("finish", Phase::CleanUp, finish),
    ],
    unwound,
    answered,
};

fn to_put_back(scene: &Scene) -> &[PutBack] {
    match &scene.run.order.request {
        Request::InstanceRebuild { put_back, .. } => put_back,
        _ => &[],
    }
}

fn begin(scene: &mut Scene) {
    let operation_id = scene.run.operation.id;
    let safeties: Vec<_> = to_put_back(scene)
        .iter()
        .filter_map(|one| {
            let volume = scene.volumes.iter().find(|v| v.id == one.volume_id)?;
            Some(safety_of(volume, one.safety_id, operation_id, scene.now))
        })
        .collect();
    scene.snapshots = safeties;
}

fn check(scene: &Scene) -> Option<TaskSpec> {
    let snapshots = to_put_back(scene).iter().map(|one| one.snapshot_id);
    all(snapshots.map(|snapshot_id| TaskSpec::SnapshotVerify { snapshot_id }))
}

fn put_back(scene: &Scene) -> Option<TaskSpec> {
    all(to_put_back(scene)
        .iter()
        .map(|one| TaskSpec::VolumeRollBack {
            volume_id: one.volume_id,
            snapshot_id: one.snapshot_id,
            safety_id: one.safety_id,
        }))
}

fn machine(scene: &Scene) -> Option<&MachineOrder> {
    match &scene.run.order.request {
        Request::InstanceRebuild { go_on, .. } => go_on.as_ref(),
        _ => None,
    }
}

fn go_on(scene: &Scene) -> Option<TaskSpec> {
    Some(TaskSpec::InstanceStart {
        instance_id: scene.run.operation.instance_id?,
        machine: machine(scene)?.clone(),
        memory: scene.run.operation.instance_snapshot_id,
    })
}

fn inspect(scene: &Scene) -> Option<TaskSpec> {
    all(to_put_back(scene)
        .iter()
        .map(|one| TaskSpec::VolumeInspect {
            volume_id: one.volume_id,
            witness: Some(one.safety_id),
        }))
}

/// Whether this says that a volume was put back.
const fn was_put_back(outcome: &TaskOutcome) -> bool {
    matches!(
        outcome,
        TaskOutcome::Volume { .. } | TaskOutcome::Inspected { witness: true, .. }
    )
}

fn happened(_: &Scene, answer: &TaskOutcome) -> bool {
    let answers = outcomes(Some(answer));
    !answers.is_empty() && answers.iter().all(was_put_back)
}

fn finish(scene: &mut Scene) {
    let found = outcomes(scene.outcome("put back")).to_vec();
    let expires_at = expiry(scene);
    record_safeties(scene, &found, expires_at);
    record_volumes(scene, &found);
    let duration_ms = scene.duration_ms();
    for safety in &mut scene.snapshots {
        safety.duration_ms = duration_ms;
    }
    let went_on = scene.outcome("go on").cloned();
    let failure = (machine(scene).is_some() && went_on.is_none()).then(|| DID_NOT_GO_ON.to_owned());
    if let Some(instance) = &mut scene.instance {
        instance.ready = false;
    }
    match went_on {
        Some(outcome) => settle_instance(scene, &outcome),
        None => settle(scene),
    }
    if let Some(instance) = &mut scene.instance {
        instance.failure = failure;
    }
}

/// Safety snapshots that do not exist go; those that do stay until then. What was found is in the
/// order of the request.
fn record_safeties(scene: &mut Scene, found: &[TaskOutcome], expires_at: Timestamp) {
    let wanted = to_put_back(scene).to_vec();
    for (index, one) in wanted.iter().enumerate() {
        if !found.get(index).is_some_and(was_put_back) {
            scene.snapshots.retain(|safety| safety.id != one.safety_id);
            continue;
        }
        let safeties = scene.snapshots.iter_mut();
        for safety in safeties.filter(|safety| safety.id == one.safety_id) {
            list(safety, expires_at);
        }
    }
}

/// Records what the volumes are like that were put back.
fn record_volumes(scene: &mut Scene, found: &[TaskOutcome]) {
    let wanted = to_put_back(scene).to_vec();
    for (one, outcome) in wanted.iter().zip(found) {
        let volume = scene.volumes.iter_mut().find(|v| v.id == one.volume_id);
        if let Some(volume) = volume.filter(|_| was_put_back(outcome)) {
            record_volume(volume, outcome);
        }
    }
}

/// The instance is off, as it was.
fn settle(scene: &mut Scene) {
    let now = scene.now;
    if let Some(instance) = &mut scene.instance
        && instance.state == InstanceState::Rebuilding
    {
        instance.settle(Power::Off, now);
    }
}

fn unwound(scene: &mut Scene, setback: &Setback) {
    settle(scene);
    if scene.is_open("put back") {
        for safety in &mut scene.snapshots {
            safety.failure = Some(not_known(setback));
        }
        if let Some(instance) = &mut scene.instance {
            let why = reason(setback);
            instance.failure = Some(format!("{why} It is not known yet what was put back."));
        }
        return;
    }
    let found = outcomes(scene.outcome("put back")).to_vec();
    let expires_at = expiry(scene);
    record_safeties(scene, &found, expires_at);
    record_volumes(scene, &found);
    let why = reason(setback);
    tell_what_was_put_back(scene, &found, &why);
}

/// Says at the instance which volumes were put back, when it is only some.
fn tell_what_was_put_back(scene: &mut Scene, found: &[TaskOutcome], why: &str) {
    let (done, left): (Vec<_>, Vec<_>) = to_put_back(scene)
        .iter()
        .enumerate()
        .partition(|(index, _)| found.get(*index).is_some_and(was_put_back));
    let names = |which: Vec<(usize, &PutBack)>| {
        let name = |(_, one): (usize, &PutBack)| {
            let volume = scene.volumes.iter().find(|v| v.id == one.volume_id)?;
            Some(volume.name.to_string())
        };
        which.into_iter().filter_map(name).collect::<Vec<_>>()
    };
    let failure = (!done.is_empty() && !left.is_empty()).then(|| {
        let (done, left) = (names(done).join(", "), names(left).join(", "));
        format!("{why} Put back: {done}. Not put back: {left}. Rebuild the instance again.")
    });
    if let (Some(instance), Some(_)) = (&mut scene.instance, &failure) {
        instance.failure = failure;
    }
}

fn answered(scene: &mut Scene, answer: &Answer<'_>) {
    let found = match answer {
        Answer::Found(outcome) => outcomes(Some(outcome)).to_vec(),
        Answer::Missing => Vec::new(),
    };
    let expires_at = expiry(scene);
    record_safeties(scene, &found, expires_at);
}
