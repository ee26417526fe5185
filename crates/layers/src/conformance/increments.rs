//! Chains of increments: what a backup would copy, by the word of the pool alone, against reading
//! everything.
//!
//! Between two captures a guest writes and discards, the volume is rolled back and grown, layers
//! are merged, guests and the process crash. The copy of the last capture takes from the next one
//! the ranges that the pool names and nothing else. It must be the next one then.

use stillpoint_model::id::{BackupId, SnapshotId, VolumeId};
use stillpoint_model::item::FreezePolicy;
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::{ByteCount, ByteRange};

use super::world::{SIZE, Storage, World};
use crate::{BLOCK_SIZE, Pool};

const INCREMENTS: usize = 60;
/// Chains where a layer is a file or a guest is a process, and where neither is.
const CHAINS: usize = 3;
const CHAINS_IN_MEMORY: usize = 14;

pub(super) fn chains_of_increments<S: Storage>(world: &mut World<S>) {
    let chains = if world.is_memory() {
        CHAINS_IN_MEMORY
    } else {
        CHAINS
    };
    for chain in 0..chains {
        let mut volume = Tracked::begin(world);
        for increment in 0..INCREMENTS {
            for _ in 0..=world.below(4) {
                volume.step(world);
            }
            volume.capture(world, &format!("chain {chain}, increment {increment}"));
        }
        volume.end(world);
    }
}

/// A volume that is backed up again and again.
struct Tracked {
    volume: VolumeId,
    snapshots: Vec<SnapshotId>,
    /// The last backup, and what was copied in all.
    last: Option<BackupId>,
    copy: Vec<u8>,
}

impl Tracked {
    fn begin<S: Storage>(world: &World<S>) -> Self {
        Self {
            volume: world.volume(),
            snapshots: vec![],
            last: None,
            copy: vec![],
        }
    }

    fn step<S: Storage>(&mut self, world: &mut World<S>) {
        let size = world.pool().volume(self.volume).expect("exists").size;
        let blocks = size.get() / BLOCK_SIZE;
        match world.below(16) {
            0..=7 => {
                let first = world.below(blocks);
                let count = 1 + world.below((blocks - first).min(40));
                let byte = u8::try_from(world.below(5)).unwrap();
                world.write(self.volume, first, count, byte);
            }
            8 | 9 => self.snapshots.push(world.snapshot(self.volume)),
            10 if !self.snapshots.is_empty() => self.roll_back(world),
            11 if !self.snapshots.is_empty() => {
                let oldest = self.snapshots.remove(0);
                world.pool().delete_snapshot(oldest).expect("deletes");
            }
            12 if size.get() < 2 * SIZE.get() => {
                let grown = ByteCount::new(size.get() + (1 + world.below(40)) * BLOCK_SIZE);
                world.pool().resize(self.volume, grown).expect("grows");
            }
            13 => {
                if let Some(candidate) = world.pool().merge_candidates().first() {
                    world.pool().merge(candidate, &NullMonitor).expect("merges");
                }
            }
            14 => world.crash_guests(),
            _ => world.reopen(),
        }
    }

    fn roll_back<S: Storage>(&mut self, world: &World<S>) {
        let which = world.below(self.snapshots.len() as u64);
        let snapshot = self.snapshots[usize::try_from(which).unwrap()];
        let safety = world.snapshot_id();
        world.stop(self.volume);
        world
            .pool()
            .roll_back(self.volume, snapshot, safety)
            .expect("rolls back");
        self.snapshots.push(safety);
    }

    /// As a backup: fixes what it will contain, copies what differs, keeps it for the next.
    fn capture<S: Storage>(&mut self, world: &World<S>, when: &str) {
        let backup = BackupId::generate(world.env.as_ref());
        let captured = world
            .pool()
            .capture(self.volume, backup, None, FreezePolicy::Skip)
            .expect("captures");
        let parent = self.last.map(|last| {
            let layer = world.pool().captured_layer(self.volume, last);
            layer.expect("the parent is kept")
        });
        let changed = world.pool().changed_extents(parent, captured.layer);
        let now = world.read_layer(captured.layer);
        // A volume that shrank lost its end; one that grew has zeros there.
        self.copy.resize(now.len(), 0);
        for range in changed.expect("compares") {
            let range = bounds(range);
            self.copy[range.clone()].copy_from_slice(&now[range]);
        }
        let differs = self.copy.iter().zip(&now).position(|(a, b)| a != b);
        assert_eq!(differs, None, "{when}: the first byte that was missed");
        world
            .pool()
            .settle_capture(self.volume, backup)
            .expect("settles");
        self.last = Some(backup);
    }

    fn end<S: Storage>(self, world: &World<S>) {
        world.stop(self.volume);
        world.pool().delete_volume(self.volume).expect("deletes");
        for snapshot in self.snapshots {
            world.pool().delete_snapshot(snapshot).expect("deletes");
        }
    }
}

fn bounds(range: ByteRange) -> std::ops::Range<usize> {
    let at = |offset: u64| usize::try_from(offset).unwrap();
    at(range.offset)..at(range.end())
}
