//! Random sequences of everything, against a model that keeps full copies.

use std::collections::BTreeMap;

use stillpoint_model::ByteCount;
use stillpoint_model::id::{SnapshotId, VolumeId};
use stillpoint_model::task::CloneSource;

use super::lost::lose_each_record;
use super::world::{SIZE, Storage, World, content, fill};
use crate::{BLOCK_SIZE, Pool};

const WALKS: usize = 6;
const STEPS: usize = 40;

#[derive(Default)]
struct Copies {
    volumes: BTreeMap<VolumeId, Vec<u8>>,
    snapshots: BTreeMap<SnapshotId, (VolumeId, Vec<u8>)>,
}

pub(super) fn random_walk<S: Storage>(world: &mut World<S>) {
    for _ in 0..WALKS {
        let mut copies = Copies::default();
        let first = world.volume();
        copies.volumes.insert(first, content(&[]));
        for _ in 0..STEPS {
            copies.step(world);
        }
        copies.check(world);
        lose_each_record(world);
        world.tidy().expect("merges");
        copies.check(world);
        for volume in copies.volumes.into_keys() {
            world.stop(volume);
            world.pool().delete_volume(volume).expect("deletes");
        }
        for snapshot in copies.snapshots.into_keys() {
            world.pool().delete_snapshot(snapshot).expect("deletes");
        }
        world.tidy().expect("removes");
        assert_eq!(world.pool().tree().layers().count(), 0, "a layer is left");
        assert_eq!(world.pool().tree().records().count(), 0, "a record is left");
    }
}

impl Copies {
    fn step<S: Storage>(&mut self, world: &mut World<S>) {
        let Some(volume) = pick(world, self.volumes.keys()) else {
            let volume = world.volume();
            self.volumes.insert(volume, content(&[]));
            return;
        };
        let now = self.volumes[&volume].clone();
        let snapshot = pick(world, self.snapshots.keys());
        match (world.below(13), snapshot) {
            (0..=4, _) => {
                let blocks = now.len() as u64 / BLOCK_SIZE;
                let first = world.below(blocks);
                let count = 1 + world.below((blocks - first).min(80));
                let byte = u8::try_from(world.below(5)).unwrap();
                world.write(volume, first, count, byte);
                fill(
                    self.volumes.get_mut(&volume).unwrap(),
                    &[(first, count, byte)],
                );
            }
            (5 | 6, _) => {
                self.snapshots.insert(world.snapshot(volume), (volume, now));
            }
            (7, Some(snapshot)) => {
                let (owner, content) = self.snapshots[&snapshot].clone();
                let Some(before) = self.volumes.insert(owner, content) else {
                    self.volumes.remove(&owner);
                    return;
                };
                let safety = world.snapshot_id();
                world.stop(owner);
                world
                    .pool()
                    .roll_back(owner, snapshot, safety)
                    .expect("rolls back");
                self.snapshots.insert(safety, (owner, before));
            }
            (8, Some(snapshot)) => {
                let clone = world.volume_id();
                let source = CloneSource::Snapshot(snapshot);
                world.pool().clone_volume(source, clone).expect("clones");
                self.volumes
                    .insert(clone, self.snapshots[&snapshot].1.clone());
            }
            (9, Some(snapshot)) => {
                world.pool().delete_snapshot(snapshot).expect("deletes");
                self.snapshots.remove(&snapshot);
            }
            (10, _) if now.len() as u64 == SIZE.get() => {
                let size = ByteCount::new(SIZE.get() + (1 + world.below(40)) * BLOCK_SIZE);
                world.pool().resize(volume, size).expect("grows");
                let copy = self.volumes.get_mut(&volume).unwrap();
                copy.resize(usize::try_from(size.get()).unwrap(), 0);
            }
            (11, _) => {
                if let Some(candidate) = world.pool().merge_candidates().first() {
                    let monitor = stillpoint_model::progress::NullMonitor;
                    world.pool().merge(candidate, &monitor).expect("merges");
                }
            }
            (12, _) if self.volumes.len() > 1 => {
                world.stop(volume);
                world.pool().delete_volume(volume).expect("deletes");
                self.volumes.remove(&volume);
            }
            _ => world.reopen(),
        }
    }

    fn check<S: Storage>(&self, world: &World<S>) {
        for (volume, copy) in &self.volumes {
            assert!(
                world.read_volume(*volume) == *copy,
                "volume {volume} differs"
            );
        }
        for (snapshot, (_, copy)) in &self.snapshots {
            assert!(
                world.read_snapshot(*snapshot) == *copy,
                "snapshot {snapshot} differs"
            );
        }
    }
}

fn pick<'a, S: Storage, T: Copy + 'a>(
    world: &World<S>,
    all: impl ExactSizeIterator<Item = &'a T>,
) -> Option<T> {
    let mut all = all;
    let count = all.len() as u64;
    if count == 0 {
        return None;
    }
    all.nth(usize::try_from(world.below(count)).unwrap())
        .copied()
}
