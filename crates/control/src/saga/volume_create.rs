//! Making a volume: empty, from an image, from an upload, or from another volume as it is now.
//!
//! ```text
//! make      the node makes the volume in its pool      undo: delete it
//! finish    the volume is available, with its size
//! ```
//!
//! The volume's row exists since admission, in state `creating`, and holds its own lock. An upload
//! is parsed by bounded code on the node and refused with a sentence when it lies. A clone locks
//! the new volume only: its source is read at one instant.
//!
//! A volume that could not be made stays listed as `failed`, with the reason and without anything
//! in the pool, until its owner deletes it.

use stillpoint_model::operation::{OperationKind, Phase};
use stillpoint_model::saga::Request;
use stillpoint_model::task::{CloneSource, TaskSpec};

use super::{Saga, Scene, Step, Undo, nothing_open, unmake_volume, volume_made, volume_not_made};

const STEPS: &[Step] = &[
    Step::task("make", Phase::DataCapture, make, Undo::Task(unmake_volume)),
    Step::store("finish", Phase::CleanUp, volume_made),
];

/// An empty volume, or one from an image.
pub const CREATE: Saga = Saga {
    kind: OperationKind::VolumeCreate,
    steps: STEPS,
    unwound: volume_not_made,
    answered: nothing_open,
};

/// A volume from an uploaded image.
pub const IMPORT: Saga = Saga {
    kind: OperationKind::VolumeImport,
    ..CREATE
};

/// A volume from another volume.
pub const CLONE: Saga = Saga {
    kind: OperationKind::VolumeClone,
    ..CREATE
};

fn make(scene: &Scene) -> Option<TaskSpec> {
    let volume_id = scene.run.operation.volume_id?;
    match scene.run.order.request {
        Request::VolumeCreate { size } => Some(TaskSpec::VolumeCreate { volume_id, size }),
        Request::VolumeFromImage { image_id, size } => Some(TaskSpec::VolumeFromImage {
            volume_id,
            image_id,
            size,
        }),
        Request::VolumeImport {
            upload,
            format,
            max_size,
        } => Some(TaskSpec::VolumeImport {
            volume_id,
            upload,
            format,
            max_size,
        }),
        Request::VolumeClone { source } => Some(TaskSpec::VolumeClone {
            volume_id,
            source: CloneSource::Volume(source),
        }),
        _ => None,
    }
}
