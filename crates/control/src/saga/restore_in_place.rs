//! Putting a volume back to a snapshot or a backup, undoable by its owner.
//!
//! ```text
//! begin      the safety snapshot is listed as creating
//! stage      from a backup only: the node restores it to a      undo: delete the staged volume
//!            staged volume and compares it whole
//! put back   the node rolls the volume back, or switches it     undo: none; ask the node whether
//!            to the staged one; what was there becomes the      the safety snapshot exists
//!            safety snapshot, in one step
//! finish     the safety snapshot is available, for a day
//! ```
//!
//! *Put back* is atomic in the pool and leaves the safety snapshot as its witness. When its
//! worker is lost, the witness says what happened: if it is there, the operation goes forward and
//! succeeds. If the node cannot even be asked (it is gone for hours, or an operator released the
//! volume), the operation ends as failed, says that the outcome is not known, and the safety
//! snapshot stays listed until the upkeep has asked.

use stillpoint_model::Timestamp;
use stillpoint_model::id::{OperationId, SnapshotId};
use stillpoint_model::item::{Consistency, ItemSizes, ItemState, Trigger};
use stillpoint_model::naming::safety_name;
use stillpoint_model::operation::{OperationKind, Phase};
use stillpoint_model::saga::{Request, RestoreSource, Setback};
use stillpoint_model::snapshot::Snapshot;
use stillpoint_model::task::{TaskOutcome, TaskSpec};
use stillpoint_model::volume::Volume;

use super::{Answer, Saga, Scene, Step, Undo, reason, record_volume};

/// Putting a volume back.
pub const SAGA: Saga = Saga {
    kind: OperationKind::RestoreInPlace,
    steps: &[
        Step::store("begin", Phase::Initiation, begin),
        Step::task("stage", Phase::Restoring, stage, Undo::Task(unstage)),
        Step::task(
            "put back",
            Phase::Restoring,
            put_back,
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

fn begin(scene: &mut Scene) {
    let Request::RestoreInPlace { safety_id, .. } = scene.run.order.request else {
        return;
    };
    let Some(volume) = &scene.volume else { return };
    scene.safety = Some(safety_of(
        volume,
        safety_id,
        scene.run.operation.id,
        scene.now,
    ));
}

/// The snapshot that keeps what a volume holds before it is put back.
pub(super) fn safety_of(
    volume: &Volume,
    id: SnapshotId,
    operation_id: OperationId,
    now: Timestamp,
) -> Snapshot {
    // The volume is held: what its row says now is what putting back will keep.
    let sizes = ItemSizes {
        provisioned: volume.size,
        used: volume.used,
        ..ItemSizes::default()
    };
    Snapshot {
        id,
        account_id: volume.account_id,
        project_id: volume.project_id,
        pool_id: volume.pool_id,
        volume_id: volume.id,
        volume_name: volume.name.clone(),
        instance_snapshot_id: None,
        name: safety_name(now).unwrap_or_else(|| volume.name.clone()),
        description: "What the volume held before it was restored.".to_owned(),
        labels: std::collections::BTreeMap::new(),
        state: ItemState::Creating,
        // A volume is only put back while nothing runs on it.
        consistency: Some(Consistency::Stopped),
        trigger: Trigger::Safety,
        sizes,
        layer: volume.tip,
        duration_ms: None,
        protected: false,
        failure: None,
        operation_id: Some(operation_id),
        created_at: now,
        expires_at: None,
        version: 1,
    }
}

fn stage(scene: &Scene) -> Option<TaskSpec> {
    let Request::RestoreInPlace {
        source, staged_id, ..
    } = scene.run.order.request
    else {
        return None;
    };
    match source {
        RestoreSource::Snapshot { .. } => None,
        RestoreSource::Backup {
            backup_id,
            source_volume_id,
            vault,
        } => Some(TaskSpec::BackupRestore {
            volume_id: staged_id,
            backup_id,
            source_volume_id,
            vault,
        }),
    }
}

fn unstage(scene: &Scene) -> Option<TaskSpec> {
    let Request::RestoreInPlace {
        source, staged_id, ..
    } = scene.run.order.request
    else {
        return None;
    };
    match source {
        RestoreSource::Snapshot { .. } => None,
        RestoreSource::Backup { .. } => Some(TaskSpec::VolumeDelete {
            volume_id: staged_id,
        }),
    }
}

fn put_back(scene: &Scene) -> Option<TaskSpec> {
    let volume_id = scene.run.operation.volume_id?;
    let Request::RestoreInPlace {
        source,
        safety_id,
        staged_id,
    } = scene.run.order.request
    else {
        return None;
    };
    Some(match source {
        RestoreSource::Snapshot { snapshot_id } => TaskSpec::VolumeRollBack {
            volume_id,
            snapshot_id,
            safety_id,
        },
        RestoreSource::Backup { .. } => TaskSpec::VolumeSwitch {
            volume_id,
            staged_id,
            safety_id,
        },
    })
}

fn inspect(scene: &Scene) -> Option<TaskSpec> {
    let volume_id = scene.run.operation.volume_id?;
    let Request::RestoreInPlace { safety_id, .. } = scene.run.order.request else {
        return None;
    };
    Some(TaskSpec::VolumeInspect {
        volume_id,
        witness: Some(safety_id),
    })
}

const fn happened(_: &Scene, answer: &TaskOutcome) -> bool {
    matches!(answer, TaskOutcome::Inspected { witness: true, .. })
}

fn finish(scene: &mut Scene) {
    if let (Some(outcome), Some(volume)) = (scene.outcome("put back").cloned(), &mut scene.volume) {
        record_volume(volume, &outcome);
    }
    keep_safety(scene);
    let duration_ms = scene.duration_ms();
    if let Some(safety) = &mut scene.safety {
        safety.duration_ms = duration_ms;
    }
}

/// Lists the safety snapshot as available, for as long as the plan keeps it.
fn keep_safety(scene: &mut Scene) {
    let expires_at = expiry(scene);
    if let Some(safety) = &mut scene.safety {
        list(safety, expires_at);
    }
}

/// When the safety snapshots of an operation that ends now go.
pub(super) fn expiry(scene: &Scene) -> Timestamp {
    let kept = scene.run.order.terms.safety_snapshot();
    scene.now.saturating_add(kept)
}

/// Lists a safety snapshot as available until then.
pub(super) fn list(safety: &mut Snapshot, expires_at: Timestamp) {
    safety.state = ItemState::Available;
    safety.failure = None;
    safety.expires_at = Some(expires_at);
}

/// What is said of a safety snapshot while nobody knows whether it exists.
pub(super) fn not_known(setback: &Setback) -> String {
    format!(
        "{} It is not known yet whether the volume was put back; if it was, this snapshot keeps \
         what was there.",
        reason(setback)
    )
}

fn unwound(scene: &mut Scene, setback: &Setback) {
    if !scene.is_open("put back") {
        scene.safety = None;
    } else if let Some(safety) = &mut scene.safety {
        safety.failure = Some(not_known(setback));
    }
}

fn answered(scene: &mut Scene, answer: &Answer<'_>) {
    match answer {
        Answer::Found(TaskOutcome::Inspected { witness: true, .. }) => keep_safety(scene),
        Answer::Found(_) | Answer::Missing => scene.safety = None,
    }
}
