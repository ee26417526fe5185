//! Deleting an image. Whatever was made of it stays as it is: it stands on layers, not on names.
//!
//! ```text
//! begin     the image is deleting
//! drop      the node takes the name off its layer      no way back
//! finish    its row goes; the pool's upkeep merges what no name keeps apart
//! ```
//!
//! Until the node was asked, a cancel gives the image back; after that it is deleted, or listed as
//! `failed` so that it can be deleted again.

use stillpoint_model::item::ItemState;
use stillpoint_model::operation::{OperationKind, Phase};
use stillpoint_model::saga::Setback;

use super::image_create::drop_name;
use super::{Saga, Scene, Step, Undo, nothing_open, reason};

/// Deleting an image.
pub const SAGA: Saga = Saga {
    kind: OperationKind::ImageDelete,
    steps: &[
        Step::store("begin", Phase::Initiation, begin),
        Step::task("drop", Phase::CleanUp, drop_name, Undo::Nothing).point_of_no_return(),
        Step::store("finish", Phase::CleanUp, finish),
    ],
    unwound,
    answered: nothing_open,
};

fn begin(scene: &mut Scene) {
    if let Some(image) = &mut scene.image {
        image.state = ItemState::Deleting;
    }
}

fn finish(scene: &mut Scene) {
    scene.image = None;
}

fn unwound(scene: &mut Scene, setback: &Setback) {
    let begun = scene.was_begun("drop");
    let Some(image) = &mut scene.image else {
        return;
    };
    if begun {
        image.state = ItemState::Failed;
        image.failure = Some(format!("Deleting it did not end: {}", reason(setback)));
    } else if image.failure.is_some() || image.layer.is_none() {
        image.state = ItemState::Failed;
    } else {
        image.state = ItemState::Available;
    }
}
