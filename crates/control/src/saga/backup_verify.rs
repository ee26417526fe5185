//! Proving a backup's data again.
//!
//! ```text
//! verify    the node reads the manifest, and every chunk when that was asked for
//! finish    the time of the proof is recorded
//! ```
//!
//! The backup stays usable meanwhile. Only when its data was found damaged does it become
//! `degraded`: a node that did not answer proves nothing. One that is found sound is available again.

use stillpoint_model::item::ItemState;
use stillpoint_model::operation::{OperationKind, Phase};
use stillpoint_model::refusal::ProblemCode;
use stillpoint_model::saga::{Request, Setback};
use stillpoint_model::task::TaskSpec;

use super::{Saga, Scene, Step, Undo, nothing_open, reason};

/// Proving a backup's data.
pub const SAGA: Saga = Saga {
    kind: OperationKind::BackupVerify,
    steps: &[
        Step::task("verify", Phase::Verification, verify, Undo::Nothing),
        Step::store("finish", Phase::CleanUp, finish),
    ],
    unwound,
    answered: nothing_open,
};

fn verify(scene: &Scene) -> Option<TaskSpec> {
    let Request::BackupVerify { vault, deep } = scene.run.order.request else {
        return None;
    };
    let backup = scene.backup.as_ref()?;
    Some(TaskSpec::BackupVerify {
        backup_id: backup.id,
        volume_id: backup.volume_id,
        vault,
        deep,
    })
}

fn finish(scene: &mut Scene) {
    let now = scene.now;
    if let Some(backup) = &mut scene.backup {
        backup.verified_at = Some(now);
        backup.state = ItemState::Available;
        backup.failure = None;
    }
}

fn unwound(scene: &mut Scene, setback: &Setback) {
    let damaged =
        matches!(setback, Setback::Failed(failure) if failure.code == ProblemCode::IntegrityError);
    if let (true, Some(backup)) = (damaged, &mut scene.backup) {
        backup.state = ItemState::Degraded;
        backup.failure = Some(reason(setback));
    }
}
