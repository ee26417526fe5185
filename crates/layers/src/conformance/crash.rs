//! Faults at every step: nothing is lost, and repeating ends the work.

use stillpoint_model::id::{BackupId, SnapshotId, VolumeId};
use stillpoint_model::task::CloneSource;

use super::world::{SIZE, Storage, World, content};
use crate::fault::Fault;
use crate::{Error, Pool};

/// The steps that one run may have at most; more means that a fault was never reached.
const MAX_STEPS: u64 = 200;

/// A volume with two snapshots, and the ids for everything that is done to it.
struct Story {
    volume: VolumeId,
    clone: VolumeId,
    staged: VolumeId,
    old: SnapshotId,
    new: SnapshotId,
    safeties: [SnapshotId; 2],
    backup: BackupId,
}

impl Story {
    fn begin<S: Storage>(world: &mut World<S>) -> Self {
        let volume = world.volume();
        world.write(volume, 0, 100, 1);
        let old = world.snapshot(volume);
        world.write(volume, 50, 100, 2);
        Self {
            volume,
            clone: world.volume_id(),
            staged: world.volume_id(),
            old,
            new: world.snapshot_id(),
            safeties: [world.snapshot_id(), world.snapshot_id()],
            backup: BackupId::generate(world.env.as_ref()),
        }
    }

    /// Everything that can be done, in an order that makes merges of both kinds.
    fn tell<S: Storage>(&self, world: &World<S>) -> Result<(), Error> {
        let pool = world.pool();
        pool.snapshot(self.volume, self.new)?;
        pool.capture(self.volume, self.backup, None)?;
        pool.clone_volume(CloneSource::Volume(self.volume), self.clone)?;
        pool.roll_back(self.volume, self.old, self.safeties[0])?;
        if pool.volume(self.staged).is_err() && pool.snapshot_layer(self.safeties[1]).is_err() {
            let mut writer = pool.begin_restore(self.staged, SIZE)?;
            writer.write_at(0, &vec![9; 8192])?;
            writer.finish()?;
        }
        pool.switch(self.volume, self.staged, self.safeties[1])?;
        pool.release_capture(self.volume, self.backup)?;
        pool.delete_snapshot(self.safeties[0])?;
        pool.delete_snapshot(self.old)?;
        pool.resize(
            self.volume,
            stillpoint_model::ByteCount::new(SIZE.get() * 2),
        )?;
        world.tidy()?;
        Ok(())
    }

    fn check<S: Storage>(&self, world: &World<S>, at: u64, what: Fault) {
        let both = content(&[(0, 50, 1), (50, 100, 2)]);
        assert!(
            world.read_volume(self.clone) == both,
            "{what:?} at {at}: the clone"
        );
        assert!(
            world.read_snapshot(self.new) == both,
            "{what:?} at {at}: the snapshot"
        );
        let safety = content(&[(0, 100, 1)]);
        assert!(
            world.read_snapshot(self.safeties[1]) == safety,
            "{what:?} at {at}: the safety"
        );
        let mut restored = content(&[(0, 2, 9)]);
        restored.resize(restored.len() * 2, 0);
        assert!(
            world.read_volume(self.volume) == restored,
            "{what:?} at {at}: the volume"
        );
    }

    fn end<S: Storage>(&self, world: &World<S>) {
        for volume in [self.volume, self.clone, self.staged] {
            world.pool().delete_volume(volume).expect("deletes");
        }
        for snapshot in [self.new, self.old, self.safeties[0], self.safeties[1]] {
            world.pool().delete_snapshot(snapshot).expect("deletes");
        }
        world.tidy().expect("tidies");
        assert_eq!(world.pool().tree().layers().count(), 0, "a layer is left");
        assert_eq!(world.pool().tree().records().count(), 0, "a record is left");
    }
}

/// The volume's first snapshot, until the story deletes it.
fn check_old<S: Storage>(world: &World<S>, story: &Story) {
    if world.pool().snapshot_layer(story.old).is_ok() {
        assert!(
            world.read_snapshot(story.old) == content(&[(0, 100, 1)]),
            "the old snapshot"
        );
    }
}

pub(super) fn crash_at_every_step<S: Storage>(world: &mut World<S>) {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        for at in 1..MAX_STEPS {
            let story = Story::begin(world);
            world.faults.inject(at, fault);
            let is_over = story.tell(world).is_ok();
            world.reopen();
            check_old(world, &story);
            story
                .tell(world)
                .unwrap_or_else(|error| panic!("{fault:?} at {at}: {error}"));
            story.check(world, at, fault);
            story.end(world);
            world.reopen();
            assert_eq!(world.pool().orphans().expect("lists"), Vec::new());
            if is_over {
                break;
            }
        }
    }
}

pub(super) fn failure_at_every_step<S: Storage>(world: &mut World<S>) {
    for at in 1..MAX_STEPS {
        let story = Story::begin(world);
        world.faults.inject(at, Fault::Fail);
        let is_over = story.tell(world).is_ok();
        world.faults.clear();
        check_old(world, &story);
        story
            .tell(world)
            .unwrap_or_else(|error| panic!("failed at {at}: {error}"));
        story.check(world, at, Fault::Fail);
        story.end(world);
        if is_over {
            break;
        }
    }
}

pub(super) fn full_at_every_step<S: Storage>(world: &mut World<S>) {
    for at in 1..MAX_STEPS {
        let story = Story::begin(world);
        world.faults.inject(at, Fault::Full);
        match story.tell(world) {
            Ok(()) => {
                world.faults.clear();
                story.end(world);
                break;
            }
            Err(error) => assert!(matches!(error, Error::Full), "full at {at}: {error}"),
        }
        check_old(world, &story);
        // Deleting needs no space.
        let other = story.safeties[0];
        world
            .pool()
            .delete_snapshot(other)
            .expect("deletes while full");
        world
            .pool()
            .delete_snapshot(story.old)
            .expect("deletes while full");
        world
            .pool()
            .delete_volume(story.clone)
            .expect("deletes while full");
        world.faults.clear();
        story.end(world);
    }
}
