//! Volumes, snapshots, clones, captures: what the tree promises.

use stillpoint_model::id::{BackupId, LayerId};
use stillpoint_model::item::FreezePolicy;
use stillpoint_model::layer_tree::Refusal;
use stillpoint_model::task::CloneSource;
use stillpoint_model::{ByteCount, ErrorKind};

use super::world::{SIZE, Storage, World, content, fill};
use crate::{Error, Pool};

pub(super) fn new_volume_is_zeros<S: Storage>(world: &mut World<S>) {
    let volume = world.volume();
    assert_eq!(world.read_volume(volume), content(&[]));
    world.write(volume, 3, 40, 7);
    assert_eq!(world.read_volume(volume), content(&[(3, 40, 7)]));
}

pub(super) fn creating_again_answers_the_same<S: Storage>(world: &mut World<S>) {
    let volume = world.volume();
    let first = world.pool().volume(volume).expect("exists");
    assert_eq!(
        world.pool().create_volume(volume, SIZE).expect("is there"),
        first
    );
    let other = world.pool().create_volume(volume, ByteCount::from_mib(2));
    assert!(matches!(other, Err(Error::Refused(Refusal::VolumeExists(id))) if id == volume));
}

pub(super) fn impossible_sizes_are_refused<S: Storage>(world: &mut World<S>) {
    for size in [0, 511, 4097, u64::MAX] {
        let answer = world
            .pool()
            .create_volume(world.volume_id(), ByteCount::new(size));
        assert_eq!(
            answer.map_err(|e| e.kind()),
            Err(ErrorKind::Invalid),
            "{size}"
        );
    }
    let volume = world.volume();
    let smaller = world.pool().resize(volume, ByteCount::new(512));
    assert_eq!(smaller.map_err(|e| e.kind()), Err(ErrorKind::Invalid));
}

pub(super) fn unknown_ids_are_refused_or_done<S: Storage>(world: &mut World<S>) {
    let (volume, snapshot) = (world.volume_id(), world.snapshot_id());
    let backup = BackupId::generate(world.env.as_ref());
    let pool = world.pool();
    let not_found = Err(ErrorKind::NotFound);
    assert_eq!(
        pool.volume(volume).map(|_| ()).map_err(|e| e.kind()),
        not_found
    );
    assert_eq!(
        pool.resize(volume, SIZE).map(|_| ()).map_err(|e| e.kind()),
        not_found
    );
    assert_eq!(
        pool.snapshot(volume, snapshot)
            .map(|_| ())
            .map_err(|e| e.kind()),
        not_found
    );
    assert_eq!(
        pool.snapshot_layer(snapshot)
            .map(|_| ())
            .map_err(|e| e.kind()),
        not_found
    );
    assert_eq!(
        pool.capture(volume, backup, None, FreezePolicy::Skip)
            .map(|_| ())
            .map_err(|e| e.kind()),
        not_found
    );
    let layer = LayerId::generate(world.env.as_ref());
    assert_eq!(
        pool.open_layer(layer).map(|_| ()).map_err(|e| e.kind()),
        not_found
    );
    let clone = pool.clone_volume(CloneSource::Snapshot(snapshot), volume);
    assert_eq!(clone.map(|_| ()).map_err(|e| e.kind()), not_found);
    pool.delete_volume(volume).expect("is deleted already");
    pool.delete_snapshot(snapshot).expect("is deleted already");
    pool.release_capture(volume, backup)
        .expect("is released already");
    pool.settle_capture(volume, backup)
        .expect("has nothing to keep");
}

pub(super) fn snapshot_stays_while_volume_changes<S: Storage>(world: &mut World<S>) {
    let volume = world.volume();
    world.write(volume, 0, 100, 1);
    let snapshot = world.snapshot_id();
    let first = world.pool().snapshot(volume, snapshot).expect("snapshots");
    world.write(volume, 50, 100, 2);
    world.write(volume, 10, 5, 0);
    let again = world.pool().snapshot(volume, snapshot).expect("is there");
    assert_eq!(
        (again.layer, again.tip, again.size),
        (first.layer, first.tip, first.size)
    );
    assert!(
        first.changed >= ByteCount::new(100 * 4096),
        "{:?}",
        first.changed
    );
    assert_eq!(world.read_snapshot(snapshot), content(&[(0, 100, 1)]));
    let now = content(&[(0, 100, 1), (50, 100, 2), (10, 5, 0)]);
    assert_eq!(world.read_volume(volume), now);
    let other = world.volume();
    let taken = world.pool().snapshot(other, snapshot);
    assert_eq!(
        taken.map(|_| ()).map_err(|e| e.kind()),
        Err(ErrorKind::Conflict)
    );
}

pub(super) fn any_order_of_deletion_keeps_the_rest<S: Storage>(world: &mut World<S>) {
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let volume = world.volume();
        let mut now = content(&[]);
        let mut kept = Vec::new();
        for step in 0u8..3 {
            let write = (u64::from(step) * 20, 90 - 30 * u64::from(step), step + 1);
            world.write(volume, write.0, write.1, write.2);
            fill(&mut now, &[write]);
            kept.push(Some((world.snapshot(volume), now.clone())));
        }
        world.write(volume, 5, 3, 0);
        fill(&mut now, &[(5, 3, 0)]);
        for index in order {
            let (snapshot, _) = kept[index].take().expect("is deleted once");
            world.pool().delete_snapshot(snapshot).expect("deletes");
            world.tidy().expect("merges");
            for (snapshot, content) in kept.iter().flatten() {
                assert!(
                    world.read_snapshot(*snapshot) == *content,
                    "{order:?} after {index}"
                );
            }
            assert!(world.read_volume(volume) == now, "{order:?} after {index}");
        }
        world.stop(volume);
        world.tidy().expect("merges the tip, too");
        assert!(world.read_volume(volume) == now, "{order:?}");
        let tip = world.pool().volume(volume).expect("exists").tip;
        assert_eq!(world.pool().tree().chain(tip).len(), 1, "one layer is left");
    }
}

pub(super) fn rolling_back_can_be_undone<S: Storage>(world: &mut World<S>) {
    let volume = world.volume();
    world.write(volume, 0, 10, 1);
    let snapshot = world.snapshot(volume);
    world.write(volume, 5, 10, 2);
    let (safety, undo) = (world.snapshot_id(), world.snapshot_id());
    world.stop(volume);
    let first = world
        .pool()
        .roll_back(volume, snapshot, safety)
        .expect("rolls back");
    assert_eq!(world.read_volume(volume), content(&[(0, 10, 1)]));
    world.stop(volume);
    let again = world
        .pool()
        .roll_back(volume, snapshot, safety)
        .expect("was done");
    assert_eq!(again.tip, first.tip);
    world.write(volume, 20, 1, 3);
    world.stop(volume);
    world
        .pool()
        .roll_back(volume, safety, undo)
        .expect("undoes");
    assert_eq!(world.read_volume(volume), content(&[(0, 5, 1), (5, 10, 2)]));
    assert_eq!(
        world.read_snapshot(undo),
        content(&[(0, 10, 1), (20, 1, 3)])
    );
    let other = world.volume();
    let foreign = world.pool().roll_back(other, snapshot, world.snapshot_id());
    assert!(matches!(
        foreign,
        Err(Error::Refused(Refusal::SnapshotOfOther { .. }))
    ));
}

pub(super) fn clones_are_independent<S: Storage>(world: &mut World<S>) {
    let volume = world.volume();
    world.write(volume, 0, 10, 1);
    let snapshot = world.snapshot(volume);
    world.write(volume, 10, 10, 2);
    let (of_snapshot, of_volume) = (world.volume_id(), world.volume_id());
    let source = CloneSource::Snapshot(snapshot);
    world
        .pool()
        .clone_volume(source, of_snapshot)
        .expect("clones");
    world
        .pool()
        .clone_volume(source, of_snapshot)
        .expect("was done");
    world.stop(volume);
    world
        .pool()
        .clone_volume(CloneSource::Volume(volume), of_volume)
        .expect("clones");
    world.write(of_snapshot, 2, 2, 3);
    world.write(of_volume, 4, 2, 4);
    world.write(volume, 6, 2, 5);
    world.pool().delete_snapshot(snapshot).expect("deletes");
    world.tidy().expect("merges");
    assert_eq!(
        world.read_volume(of_snapshot),
        content(&[(0, 10, 1), (2, 2, 3)])
    );
    assert_eq!(
        world.read_volume(of_volume),
        content(&[(0, 10, 1), (10, 10, 2), (4, 2, 4)])
    );
    world.stop(of_snapshot);
    world.pool().delete_volume(of_snapshot).expect("deletes");
    world.tidy().expect("merges");
    assert_eq!(
        world.read_volume(volume),
        content(&[(0, 10, 1), (10, 10, 2), (6, 2, 5)])
    );
    let taken = world.pool().clone_volume(source, volume);
    assert_eq!(
        taken.map(|_| ()).map_err(|e| e.kind()),
        Err(ErrorKind::Conflict)
    );
}

pub(super) fn growing_adds_zeros<S: Storage>(world: &mut World<S>) {
    let volume = world.volume();
    world.write(volume, 0, 256, 1);
    let snapshot = world.snapshot(volume);
    let size = ByteCount::new(SIZE.get() + (1 << 20) + 512);
    assert_eq!(world.pool().resize(volume, size).expect("grows").size, size);
    assert_eq!(
        world.pool().resize(volume, size).expect("was done").size,
        size
    );
    world.write(volume, 250, 10, 2);
    world.write(volume, 512, 1, 3);
    let mut now = vec![0; usize::try_from(size.get()).unwrap()];
    fill(&mut now, &[(0, 256, 1), (250, 10, 2), (512, 1, 3)]);
    assert!(world.read_volume(volume) == now);
    let safety = world.snapshot_id();
    world.stop(volume);
    let back = world
        .pool()
        .roll_back(volume, snapshot, safety)
        .expect("rolls back");
    assert_eq!(back.size, SIZE);
    assert_eq!(world.read_volume(volume), content(&[(0, 256, 1)]));
    world.stop(volume);
    world.pool().delete_volume(volume).expect("deletes");
    world.pool().delete_snapshot(snapshot).expect("deletes");
    world.tidy().expect("merges");
    assert!(
        world.read_snapshot(safety) == now,
        "merged into a smaller layer"
    );
}

pub(super) fn captures_keep_their_layers<S: Storage>(world: &mut World<S>) {
    let volume = world.volume();
    world.write(volume, 0, 10, 1);
    let [first, second, third] = [0; 3].map(|_| BackupId::generate(world.env.as_ref()));
    let captured = world
        .pool()
        .capture(volume, first, None, FreezePolicy::Skip)
        .expect("captures");
    world.write(volume, 5, 10, 2);
    let again = world
        .pool()
        .capture(volume, first, None, FreezePolicy::Skip)
        .expect("was done");
    assert_eq!(again.layer, captured.layer);
    let snapshot = world.snapshot(volume);
    world
        .pool()
        .capture(volume, second, Some(snapshot), FreezePolicy::Skip)
        .expect("captures the snapshot");
    let other = world
        .pool()
        .capture(volume, first, Some(snapshot), FreezePolicy::Skip);
    assert_eq!(
        other.map(|_| ()).map_err(|e| e.kind()),
        Err(ErrorKind::Conflict)
    );
    world
        .pool()
        .settle_capture(volume, second)
        .expect("settles");
    assert!(world.pool().captured_layer(volume, first).is_err());
    world.pool().delete_snapshot(snapshot).expect("deletes");
    world.tidy().expect("merges");
    let kept = world
        .pool()
        .captured_layer(volume, second)
        .expect("is kept");
    assert_eq!(world.read_layer(kept), content(&[(0, 5, 1), (5, 10, 2)]));
    world
        .pool()
        .capture(volume, third, None, FreezePolicy::Skip)
        .expect("captures");
    world
        .pool()
        .release_capture(volume, third)
        .expect("releases");
    world.stop(volume);
    world.pool().delete_volume(volume).expect("deletes");
    assert_eq!(world.pool().tree().layers().count(), 0);
}

pub(super) fn switching_takes_the_staged_content<S: Storage>(world: &mut World<S>) {
    let (volume, staged) = (world.volume(), world.volume_id());
    world.write(volume, 0, 10, 1);
    let snapshot = world.snapshot(volume);
    world.write(volume, 10, 10, 2);
    let writer = world.pool().begin_restore(staged, SIZE).expect("begins");
    writer.write_at(0, &vec![9; 4096]).expect("writes");
    writer.finish().expect("finishes");
    let safety = world.snapshot_id();
    world.stop(volume);
    let first = world
        .pool()
        .switch(volume, staged, safety)
        .expect("switches");
    assert_eq!(
        world
            .pool()
            .switch(volume, staged, safety)
            .expect("was done")
            .tip,
        first.tip
    );
    world.reopen();
    assert!(
        world.pool().volume(staged).is_err(),
        "the staged volume is no more"
    );
    assert_eq!(world.read_volume(volume), content(&[(0, 1, 9)]));
    assert_eq!(
        world.read_snapshot(safety),
        content(&[(0, 10, 1), (10, 10, 2)])
    );
    assert_eq!(world.read_snapshot(snapshot), content(&[(0, 10, 1)]));
    let itself = world.pool().switch(volume, volume, world.snapshot_id());
    assert_eq!(
        itself.map(|_| ()).map_err(|e| e.kind()),
        Err(ErrorKind::Invalid)
    );
}

pub(super) fn snapshots_outlive_their_volume<S: Storage>(world: &mut World<S>) {
    let volume = world.volume();
    world.write(volume, 0, 10, 1);
    let snapshot = world.snapshot(volume);
    world.write(volume, 0, 10, 2);
    world.stop(volume);
    world.pool().delete_volume(volume).expect("deletes");
    world.reopen();
    assert_eq!(world.read_snapshot(snapshot), content(&[(0, 10, 1)]));
    let again = world.pool().create_volume(volume, SIZE);
    assert_eq!(
        again.map(|_| ()).map_err(|e| e.kind()),
        Err(ErrorKind::Conflict)
    );
    let clone = world.volume_id();
    world
        .pool()
        .clone_volume(CloneSource::Snapshot(snapshot), clone)
        .expect("clones");
    world.pool().delete_snapshot(snapshot).expect("deletes");
    world.tidy().expect("merges");
    assert_eq!(world.read_volume(clone), content(&[(0, 10, 1)]));
    assert_eq!(world.pool().tree().record(volume), None);
}

pub(super) fn opening_again_finds_the_same_tree<S: Storage>(world: &mut World<S>) {
    let volume = world.volume();
    let snapshot = world.snapshot(volume);
    world.write(volume, 0, 10, 2);
    world
        .pool()
        .clone_volume(CloneSource::Snapshot(snapshot), world.volume_id())
        .expect("clones");
    world.pool().usage().expect("measures");
    let before = world.pool().tree();
    world.reopen();
    assert_eq!(world.pool().tree(), before);
}
