//! Images: sealed once, shared ever after, whatever ends first.

use stillpoint_model::id::{SnapshotId, VolumeId};
use stillpoint_model::task::CloneSource;

use super::world::{Storage, World, content, fill};
use crate::Pool;

/// What ends, in some order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The volume that the image was made of.
    Source,
    /// The snapshot of it that the image was made of.
    Snapshot,
    /// The image.
    Image,
    /// The first volume that was made of the image.
    Clone,
}

/// Seals what a snapshot shows under an image's name, as the node does.
fn make_image<S: Storage>(world: &World<S>, snapshot: SnapshotId) -> SnapshotId {
    let (staged, image) = (world.volume_id(), world.snapshot_id());
    let source = CloneSource::Snapshot(snapshot);
    let pool = world.pool();
    pool.clone_volume(source, staged).expect("clones");
    pool.snapshot(staged, image).expect("seals");
    pool.delete_volume(staged).expect("deletes");
    pool.verify_snapshot(image, &stillpoint_model::progress::NullMonitor)
        .expect("is whole");
    image
}

fn start<S: Storage>(world: &World<S>, image: SnapshotId) -> VolumeId {
    let clone = world.volume_id();
    let source = CloneSource::Snapshot(image);
    world.pool().clone_volume(source, clone).expect("starts");
    clone
}

/// Every order of these.
fn orders(left: &[End]) -> Vec<Vec<End>> {
    if left.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for first in left {
        let rest: Vec<End> = left.iter().copied().filter(|end| end != first).collect();
        for mut order in orders(&rest) {
            order.insert(0, *first);
            all.push(order);
        }
    }
    all
}

pub(super) fn images_outlive_and_are_outlived<S: Storage>(world: &mut World<S>) {
    let all = [End::Source, End::Snapshot, End::Image, End::Clone];
    for (round, order) in orders(&all).into_iter().enumerate() {
        let volume = world.volume();
        world.write(volume, 0, 60, 1);
        let snapshot = world.snapshot(volume);
        world.write(volume, 30, 60, 2);
        let golden = content(&[(0, 60, 1)]);
        let image = make_image(world, snapshot);
        let layers = world.pool().tree().layers().count();
        let clones = [start(world, image), start(world, image)];
        let made = world.pool().tree().layers().count() - layers;
        assert_eq!(made, 2, "a clone is one empty layer");
        let mut contents = [golden.clone(), golden.clone()];
        for (n, clone) in clones.iter().enumerate() {
            let write = (10 + n as u64, 80, 5 + u8::try_from(n).unwrap());
            world.write(*clone, write.0, write.1, write.2);
            fill(&mut contents[n], &[write]);
        }
        let mut gone: Vec<End> = Vec::new();
        for end in &order {
            match end {
                End::Source => delete(world, volume),
                End::Snapshot => world.pool().delete_snapshot(snapshot).expect("deletes"),
                End::Image => world.pool().delete_snapshot(image).expect("deletes"),
                End::Clone => delete(world, clones[0]),
            }
            gone.push(*end);
            // Sometimes upkeep comes in between, sometimes a restart.
            if round % 2 == 0 {
                world.tidy().expect("merges");
            } else if round % 3 == 0 {
                world.reopen();
            }
            let told = format!("after {gone:?}");
            if !gone.contains(&End::Image) {
                assert!(world.read_snapshot(image) == golden, "{told}: the image");
            }
            for (n, clone) in clones.iter().enumerate() {
                if n == 1 || !gone.contains(&End::Clone) {
                    assert!(world.read_volume(*clone) == contents[n], "{told}: {n}");
                }
            }
        }
        delete(world, clones[1]);
        world.tidy().expect("removes");
        assert_eq!(world.pool().tree().layers().count(), 0, "{order:?}");
        assert_eq!(world.pool().tree().records().count(), 0, "{order:?}");
    }
}

fn delete<S: Storage>(world: &World<S>, volume: VolumeId) {
    world.stop(volume);
    world.pool().delete_volume(volume).expect("deletes");
}
