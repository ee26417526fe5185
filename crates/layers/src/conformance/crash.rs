//! Faults at every step: nothing is lost, and repeating ends the work.

use stillpoint_model::ByteCount;
use stillpoint_model::id::{BackupId, SnapshotId, VolumeId};
use stillpoint_model::item::FreezePolicy;
use stillpoint_model::task::CloneSource;

use super::world::{SIZE, Storage, World, content};
use crate::fault::Fault;
use crate::{Error, Pool};

/// The steps that one run may have at most; more means that a fault was never reached.
const MAX_STEPS: u64 = 200;
/// The chapters of a story.
const CHAPTERS: usize = 11;

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

    /// Does everything from this chapter on, in an order that makes merges of both kinds. As
    /// the node would, it repeats a task that failed, not those before.
    fn tell<S: Storage>(&self, world: &World<S>, from: usize) -> Result<(), (usize, Error)> {
        for chapter in from..CHAPTERS {
            self.chapter(world, chapter)
                .map_err(|error| (chapter, error))?;
        }
        Ok(())
    }

    fn chapter<S: Storage>(&self, world: &World<S>, chapter: usize) -> Result<(), Error> {
        let pool = world.pool();
        // A volume must be closed when it is copied or overwritten; the rest of the time a
        // guest may have it.
        match chapter {
            2 | 3 | 5 => world.stop(self.volume),
            6 => world.start(self.volume),
            _ => {}
        }
        match chapter {
            0 => pool.snapshot(self.volume, self.new).map(drop),
            1 => pool
                .capture(self.volume, self.backup, None, FreezePolicy::Skip)
                .map(drop),
            2 => pool
                .clone_volume(CloneSource::Volume(self.volume), self.clone)
                .map(drop),
            3 => pool
                .roll_back(self.volume, self.old, self.safeties[0])
                .map(drop),
            4 if pool.volume(self.staged).is_ok() => Ok(()),
            4 => {
                let writer = pool.begin_restore(self.staged, SIZE)?;
                writer.write_at(0, &[9; 8192])?;
                writer.finish().map(drop)
            }
            5 => pool
                .switch(self.volume, self.staged, self.safeties[1])
                .map(drop),
            6 => pool.release_capture(self.volume, self.backup),
            7 => pool.delete_snapshot(self.safeties[0]),
            8 => pool.delete_snapshot(self.old),
            9 => pool
                .resize(self.volume, ByteCount::new(SIZE.get() * 2))
                .map(drop),
            _ => world.tidy().map(drop),
        }
    }

    /// The rest of a story that was told so far, and its end.
    fn go_on<S: Storage>(
        &self,
        world: &World<S>,
        told: Result<(), (usize, Error)>,
        at: u64,
        what: Fault,
    ) {
        check_old(world, self);
        let from = told.map_or_else(|(chapter, _)| chapter, |()| CHAPTERS);
        let rest = self.tell(world, from);
        rest.unwrap_or_else(|error| panic!("{what:?} at {at}: {error:?}"));
        self.check(world, at, what);
        self.end(world);
        assert_eq!(world.pool().orphans().expect("lists"), Vec::new());
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
            world.stop(volume);
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
            if tell_with_fault(world, at, fault) {
                break;
            }
        }
    }
}

pub(super) fn failure_at_every_step<S: Storage>(world: &mut World<S>) {
    for at in 1..MAX_STEPS {
        if tell_with_fault(world, at, Fault::Fail) {
            break;
        }
    }
}

/// Tells a story that `cut` ends somewhere, and the rest of it after `heal`; whether it came to
/// the cut.
#[cfg(test)]
pub(super) fn tell_cut_off<S: Storage>(
    world: &mut World<S>,
    at: u64,
    cut: &impl Fn(u64),
    heal: &impl Fn() -> bool,
    with_guests: bool,
) -> bool {
    let story = Story::begin(world);
    cut(at);
    let told = story.tell(world, 0);
    world.close();
    let came_so_far = heal();
    if with_guests {
        world.crash_guests();
    }
    world.reopen();
    let damage = world.pool().damage().expect("loads");
    assert_eq!(damage, Vec::<String>::new(), "cut off after {at}");
    story.go_on(world, told, at, Fault::CrashAfter);
    came_so_far
}

/// Tells a story with a fault, and the rest of it without; whether the fault never came.
fn tell_with_fault<S: Storage>(world: &mut World<S>, at: u64, fault: Fault) -> bool {
    let story = Story::begin(world);
    world.faults.inject(at, fault);
    let told = story.tell(world, 0);
    if fault == Fault::Fail {
        world.faults.clear();
    } else {
        world.reopen();
    }
    let is_over = told.is_ok();
    story.go_on(world, told, at, fault);
    is_over
}

pub(super) fn full_at_every_step<S: Storage>(world: &mut World<S>) {
    for at in 1..MAX_STEPS {
        let story = Story::begin(world);
        world.faults.inject(at, Fault::Full);
        let told = story.tell(world, 0);
        if let Err((chapter, error)) = &told {
            assert!(
                matches!(error, Error::Full),
                "full at {at} in {chapter}: {error}"
            );
            check_old(world, &story);
            world.stop_all();
            // Deleting needs no space.
            world
                .pool()
                .delete_snapshot(story.safeties[0])
                .expect("deletes while full");
            world
                .pool()
                .delete_snapshot(story.old)
                .expect("deletes while full");
            world
                .pool()
                .delete_volume(story.clone)
                .expect("deletes while full");
        }
        world.faults.clear();
        story.end(world);
        if told.is_ok() {
            break;
        }
    }
}
