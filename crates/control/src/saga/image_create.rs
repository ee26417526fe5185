//! Making an image, of a snapshot, of a backup or of an upload.
//!
//! ```text
//! begin      the image is creating
//! make       the node makes a volume that nobody sees: a linked clone of the    undo: delete it
//!            snapshot, the backup written out and compared, the upload read
//!            with suspicion
//! seal       its content is sealed under the image's name                       undo: take the
//! captured   size and layer are recorded; the image is verifying                      name off
//! verify     the node proves that the layers are whole
//! release    the volume goes; the sealed layer stays, for it has a name
//! finish     the image is available
//! ```
//!
//! It holds no volume, and what it is made of cannot be deleted meanwhile. An image that failed stays
//! listed with its reason, without anything in the pool; a cancelled one goes.
//!
//! `snapshot_create` has the same three tasks in it, for a snapshot that becomes an image at once.

use stillpoint_model::image::{sealed, staged_volume};
use stillpoint_model::item::{Consistency, FreezePolicy, ItemState};
use stillpoint_model::operation::{OperationKind, Phase};
use stillpoint_model::saga::{ImageContent, Request, Setback};
use stillpoint_model::task::{TaskOutcome, TaskSpec};

use super::{Saga, Scene, Step, Undo, nothing_open, reason};

/// Making an image.
pub const SAGA: Saga = Saga {
    kind: OperationKind::ImageCreate,
    steps: &[
        Step::store("begin", Phase::Initiation, begin),
        Step::task("make", Phase::DataCapture, make, Undo::Task(release)),
        Step::task("seal", Phase::DataCapture, seal, Undo::Task(drop_name)),
        Step::store("captured", Phase::Verification, captured),
        Step::task("verify", Phase::Verification, verify, Undo::Nothing),
        Step::task("release", Phase::CleanUp, release, Undo::Nothing),
        Step::store("finish", Phase::CleanUp, made),
    ],
    unwound: not_made,
    answered: nothing_open,
};

pub(super) fn begin(scene: &mut Scene) {
    if let Some(image) = &mut scene.image {
        image.state = ItemState::Creating;
    }
}

fn make(scene: &Scene) -> Option<TaskSpec> {
    let volume_id = staged_volume(scene.run.operation.image_id?);
    let Request::ImageCreate { content } = scene.run.order.request else {
        return None;
    };
    Some(match content {
        ImageContent::RestorePoint { source } => source.into_volume(volume_id, false),
        ImageContent::Upload {
            upload,
            format,
            max_size,
        } => TaskSpec::VolumeImport {
            volume_id,
            upload,
            format,
            max_size,
        },
    })
}

pub(super) fn seal(scene: &Scene) -> Option<TaskSpec> {
    let image_id = scene.run.operation.image_id?;
    Some(TaskSpec::SnapshotSeal {
        volume_id: staged_volume(image_id),
        snapshot_id: sealed(image_id),
        // No guest ever has it open.
        freeze: FreezePolicy::Skip,
    })
}

pub(super) fn drop_name(scene: &Scene) -> Option<TaskSpec> {
    let snapshot_id = sealed(scene.run.operation.image_id?);
    Some(TaskSpec::SnapshotDrop { snapshot_id })
}

/// Reads what sealing the image's content came to.
pub(super) fn record(scene: &mut Scene, step: &str, origin: Option<Consistency>) {
    let Some(TaskOutcome::Sealed {
        layer,
        consistency,
        provisioned,
        used,
        ..
    }) = scene.outcome(step).cloned()
    else {
        return;
    };
    if let Some(image) = &mut scene.image {
        image.layer = Some(layer);
        image.size = provisioned;
        image.used = used;
        // The volume was nobody's to open: what its content promises, its origin promised.
        image.consistency = origin.or(Some(consistency));
    }
}

fn captured(scene: &mut Scene) {
    let snapshot = scene.snapshot.as_ref().and_then(|s| s.consistency);
    let backup = scene.backup.as_ref().and_then(|b| b.consistency);
    record(scene, "seal", snapshot.or(backup));
    if let Some(image) = &mut scene.image {
        image.state = ItemState::Verifying;
    }
}

fn verify(scene: &Scene) -> Option<TaskSpec> {
    let snapshot_id = sealed(scene.run.operation.image_id?);
    Some(TaskSpec::SnapshotVerify { snapshot_id })
}

pub(super) fn release(scene: &Scene) -> Option<TaskSpec> {
    let volume_id = staged_volume(scene.run.operation.image_id?);
    Some(TaskSpec::VolumeDelete { volume_id })
}

pub(super) fn made(scene: &mut Scene) {
    let duration_ms = scene.duration_ms();
    if let Some(image) = &mut scene.image {
        image.state = ItemState::Available;
        image.duration_ms = duration_ms;
        image.failure = None;
    }
}

/// An image that was to be made is not: it goes when its owner cancelled, else it stays listed with
/// the reason.
pub(super) fn not_made(scene: &mut Scene, setback: &Setback) {
    if *setback == Setback::Cancelled {
        scene.image = None;
    } else if let Some(image) = &mut scene.image {
        image.state = ItemState::Failed;
        image.layer = None;
        image.failure = Some(reason(setback));
    }
}
