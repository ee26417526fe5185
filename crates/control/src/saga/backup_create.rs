//! What happens when I press *Create backup*.
//!
//! Admission has written the backup's row (`pending`), the operation and the volume's lock, and
//! has chosen the vault and the parent. Then:
//!
//! ```text
//! begin      the backup is creating
//! capture    the node seals the tip (or pins a snapshot)    undo: release the capture and
//!            as the source                                  reap what was uploaded
//! captured   the consistency is recorded
//! upload     the node stores the captured layer; right      undo: the same
//!            before the manifest is put it asks `confirm`
//! uploaded   sizes and the content hash are recorded; it is verifying
//! verify     the node reads the manifest back and proves
//!            that everything it names is there
//! available  the backup is available                        no way back from here
//! settle     the capture becomes the base of the next       can wait: the pool's upkeep
//!            increment                                      does it later
//! ```
//!
//! The manifest is the commit point of the vault, `available` that of the operation: a backup
//! whose operation did not get there is reaped, also when its manifest was already put.

use std::collections::BTreeMap;

use stillpoint_model::item::{ItemSizes, ItemState};
use stillpoint_model::operation::{OperationKind, Phase};
use stillpoint_model::saga::{Request, Setback};
use stillpoint_model::task::{TaskOutcome, TaskSpec, VaultRef};

use super::{Saga, Scene, Step, Undo, nothing_open, reason, record_volume};

/// Making a backup.
pub const SAGA: Saga = Saga {
    kind: OperationKind::BackupCreate,
    steps: &[
        Step::store("begin", Phase::Initiation, begin),
        Step::task("capture", Phase::DataCapture, capture, Undo::Task(reap)),
        Step::store("captured", Phase::DataCapture, captured),
        Step::task("upload", Phase::DataCapture, upload, Undo::Task(reap)),
        Step::store("uploaded", Phase::Verification, uploaded),
        Step::task("verify", Phase::Verification, verify, Undo::Nothing),
        Step::store("available", Phase::CleanUp, available).point_of_no_return(),
        Step::task("settle", Phase::CleanUp, settle, Undo::Nothing),
    ],
    unwound,
    answered: nothing_open,
};

fn begin(scene: &mut Scene) {
    if let Some(backup) = &mut scene.backup {
        backup.state = ItemState::Creating;
    }
}

const fn vault(scene: &Scene) -> Option<VaultRef> {
    match scene.run.order.request {
        Request::BackupCreate { vault, .. } => Some(vault),
        _ => None,
    }
}

fn capture(scene: &Scene) -> Option<TaskSpec> {
    let operation = &scene.run.operation;
    let Request::BackupCreate { snapshot_id, .. } = scene.run.order.request else {
        return None;
    };
    Some(TaskSpec::BackupCapture {
        volume_id: operation.volume_id?,
        backup_id: operation.backup_id?,
        snapshot_id,
        freeze: scene.run.order.terms.freeze,
    })
}

fn reap(scene: &Scene) -> Option<TaskSpec> {
    let operation = &scene.run.operation;
    Some(TaskSpec::BackupReap {
        volume_id: operation.volume_id?,
        backup_id: operation.backup_id?,
        vault: vault(scene)?,
    })
}

fn captured(scene: &mut Scene) {
    let Some(outcome) = scene.outcome("capture").cloned() else {
        return;
    };
    if let Some(volume) = &mut scene.volume {
        record_volume(volume, &outcome);
    }
    let TaskOutcome::Sealed {
        consistency,
        provisioned,
        ..
    } = outcome
    else {
        return;
    };
    // A copy of a snapshot promises what the snapshot promised.
    let promised = scene
        .snapshot
        .as_ref()
        .and_then(|s| s.consistency)
        .unwrap_or(consistency);
    if let Some(backup) = &mut scene.backup {
        backup.consistency = Some(promised);
        backup.sizes.provisioned = provisioned;
    }
}

fn upload(scene: &Scene) -> Option<TaskSpec> {
    let operation = &scene.run.operation;
    let Request::BackupCreate { vault, parent, .. } = scene.run.order.request else {
        return None;
    };
    Some(TaskSpec::BackupUpload {
        volume_id: operation.volume_id?,
        backup_id: operation.backup_id?,
        vault,
        parent,
        notes: notes(scene),
        level: scene.run.order.terms.compression_level,
        keep_until: scene.backup.as_ref().and_then(|backup| backup.keep_until),
    })
}

/// What the backup is called, for those who find it in the target without this database.
fn notes(scene: &Scene) -> BTreeMap<String, String> {
    let Some(backup) = &scene.backup else {
        return BTreeMap::new();
    };
    BTreeMap::from([
        ("name".to_owned(), backup.name.to_string()),
        ("volume_name".to_owned(), backup.volume_name.to_string()),
    ])
}

fn uploaded(scene: &mut Scene) {
    let Some(TaskOutcome::Stored {
        provisioned,
        used,
        changed,
        stored,
        bytes_read,
        content_hash,
    }) = scene.outcome("upload").cloned()
    else {
        return;
    };
    if let Some(backup) = &mut scene.backup {
        backup.state = ItemState::Verifying;
        backup.sizes = ItemSizes {
            provisioned,
            used,
            changed,
            stored,
            freed_if_deleted: stored,
        };
        backup.bytes_read = bytes_read;
        backup.content_hash = Some(content_hash);
    }
}

fn verify(scene: &Scene) -> Option<TaskSpec> {
    let operation = &scene.run.operation;
    Some(TaskSpec::BackupVerify {
        backup_id: operation.backup_id?,
        volume_id: operation.volume_id?,
        vault: vault(scene)?,
        deep: false,
    })
}

fn available(scene: &mut Scene) {
    let (now, duration_ms) = (scene.now, scene.duration_ms());
    if let Some(backup) = &mut scene.backup {
        backup.state = ItemState::Available;
        backup.verified_at = Some(now);
        backup.duration_ms = duration_ms;
        backup.failure = None;
    }
}

fn settle(scene: &Scene) -> Option<TaskSpec> {
    let operation = &scene.run.operation;
    Some(TaskSpec::BackupSettle {
        volume_id: operation.volume_id?,
        backup_id: operation.backup_id?,
    })
}

fn unwound(scene: &mut Scene, setback: &Setback) {
    if *setback == Setback::Cancelled {
        scene.backup = None;
    } else if let Some(backup) = &mut scene.backup {
        backup.state = ItemState::Failed;
        backup.sizes = ItemSizes::default();
        backup.content_hash = None;
        backup.failure = Some(reason(setback));
    }
}
