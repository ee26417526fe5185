//! A record that is lost is missed: its layers are no garbage, whatever became of them.

use stillpoint_model::ErrorKind;
use stillpoint_model::id::VolumeId;
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::task::CloneSource;

use super::world::{SIZE, Storage, World, content};
use crate::{BLOCK_SIZE, Pool};

/// Loses each record in turn, tidies everything that may be tidied, and puts it back.
pub(super) fn lose_each_record<S: Storage>(world: &mut World<S>) {
    world.stop_all();
    // Whatever was merged while guests ran is put right when the pool is opened.
    world.reopen();
    let volumes: Vec<VolumeId> = world.pool().tree().records().map(|(id, _)| id).collect();
    for volume in volumes {
        let before = world.pool().tree();
        let record = world.lose_record(volume);
        let damage = world.pool().damage().expect("loads");
        let is_named = damage.iter().any(|text| text.contains(&volume.to_string()));
        assert!(
            is_named,
            "the lost record {record:?} is not among {damage:?}"
        );
        for candidate in before.merge_candidates() {
            let answer = world.pool().merge(&candidate, &NullMonitor);
            answer.expect("does nothing in doubt");
        }
        world.tidy().expect("finds nothing to tidy");
        let layers: Vec<_> = before.layers().map(|(id, _)| id).collect();
        let left: Vec<_> = world.pool().tree().layers().map(|(id, _)| id).collect();
        assert_eq!(left, layers, "a layer is gone");
        let answer = world.pool().delete_volume(volume).map_err(|e| e.kind());
        assert_eq!(answer, Err(ErrorKind::Corrupt), "nobody says it is deleted");
        let answer = world.pool().create_volume(volume, SIZE);
        assert_eq!(
            answer.map(drop).map_err(|e| e.kind()),
            Err(ErrorKind::Corrupt)
        );
        world.put_back(volume, &record);
        assert_eq!(world.pool().damage().expect("loads"), Vec::<String>::new());
    }
}

pub(super) fn lost_record_of_a_volume<S: Storage>(world: &mut World<S>) {
    let volume = world.volume();
    world.write(volume, 0, 10, 1);
    let snapshot = world.snapshot(volume);
    world.write(volume, 5, 10, 2);
    let other = world.volume();
    world.write(other, 0, 3, 7);
    lose_each_record(world);
    assert!(world.read_snapshot(snapshot) == content(&[(0, 10, 1)]));
    assert!(world.read_volume(volume) == content(&[(0, 5, 1), (5, 10, 2)]));
    assert!(world.read_volume(other) == content(&[(0, 3, 7)]));
}

pub(super) fn lost_record_after_merges<S: Storage>(world: &mut World<S>) {
    for (below, above) in [(200, 20), (20, 200)] {
        let volume = world.volume();
        world.write(volume, 0, below, 1);
        let snapshot = world.snapshot(volume);
        let clone = world.volume_id();
        let source = CloneSource::Snapshot(snapshot);
        world.pool().clone_volume(source, clone).expect("clones");
        world.write(clone, 0, above, 2);
        world.stop(volume);
        world.pool().delete_volume(volume).expect("deletes");
        world.pool().delete_snapshot(snapshot).expect("deletes");
        lose_each_record(world);
        world.tidy().expect("merges");
        assert_eq!(world.pool().tree().record(volume), None, "nothing is its");
        lose_each_record(world);
        assert!(world.read_volume(clone) == content(&[(0, below, 1), (0, above, 2)]));
        world.stop(clone);
        world.pool().delete_volume(clone).expect("deletes");
        assert_eq!(world.pool().tree().records().count(), 0);
    }
}

pub(super) fn lost_record_after_a_switch<S: Storage>(world: &mut World<S>) {
    let (volume, staged) = (world.volume(), world.volume_id());
    let writer = world.pool().begin_restore(staged, SIZE).expect("begins");
    let block = vec![9; usize::try_from(BLOCK_SIZE).expect("is small")];
    writer.write_at(0, &block).expect("writes");
    writer.finish().expect("finishes");
    let safety = world.snapshot_id();
    world
        .pool()
        .switch(volume, staged, safety)
        .expect("switches");
    assert_eq!(world.pool().tree().record(staged), None, "nothing is its");
    // The only layer is the one that was staged.
    world.pool().delete_snapshot(safety).expect("deletes");
    world.tidy().expect("removes");
    lose_each_record(world);
    assert!(world.read_volume(volume) == content(&[(0, 1, 9)]));
}
