//! Restoring to a new volume. The source is left alone.
//!
//! ```text
//! make      from a snapshot: the node clones it, at once;      undo: delete the new volume
//!           from a backup: the node writes every block and
//!           compares the whole volume with the manifest;
//!           where that is to be done later, it makes a volume
//!           that shows the backup
//! finish    the new volume is available, and may have to be
//!           filled still ([`crate::reconcile::volume_fill`])
//! ```
//!
//! The new volume's row exists since admission and holds its own lock. When it cannot be made it
//! stays listed as `failed` with the reason, and nothing of it is in the pool.

use stillpoint_model::operation::{OperationKind, Phase};
use stillpoint_model::saga::Request;
use stillpoint_model::task::TaskSpec;

use super::{Saga, Scene, Step, Undo, nothing_open, unmake_volume, volume_made, volume_not_made};

/// Restoring to a new volume.
pub const SAGA: Saga = Saga {
    kind: OperationKind::RestoreNew,
    steps: &[
        Step::task("make", Phase::Restoring, make, Undo::Task(unmake_volume)),
        Step::store("finish", Phase::CleanUp, finish),
    ],
    unwound: volume_not_made,
    answered: nothing_open,
};

fn make(scene: &Scene) -> Option<TaskSpec> {
    let volume_id = scene.run.operation.volume_id?;
    match scene.run.order.request {
        Request::RestoreNew { source, instant } => Some(source.into_volume(volume_id, instant)),
        _ => None,
    }
}

fn finish(scene: &mut Scene) {
    volume_made(scene);
    if let (Some(volume), Request::RestoreNew { source, instant }) =
        (&mut scene.volume, &scene.run.order.request)
    {
        volume.filling = source.fills(*instant);
    }
}
