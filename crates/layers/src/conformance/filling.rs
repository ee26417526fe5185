//! Volumes that are in use before they are whole.

use serde_json::{Value, json};
use stillpoint_model::id::{AccountId, BackupId, TargetId, VaultId, VolumeId};
use stillpoint_model::item::FreezePolicy;
use stillpoint_model::layer_tree::{FillSource, Refusal};
use stillpoint_model::task::{CloneSource, VaultRef};

use super::world::{SIZE, Storage, World, content};
use crate::{BLOCK_SIZE, Error, FillOutcome, Pool};

fn source<S: Storage>(world: &World<S>) -> FillSource {
    let env = world.env.as_ref();
    FillSource {
        vault: VaultRef {
            target_id: TargetId::generate(env),
            vault_id: VaultId::generate(env),
            account_id: AccountId::generate(env),
        },
        source_volume_id: VolumeId::generate(env),
        backup_id: BackupId::generate(env),
    }
}

/// A volume that shows a backup.
fn filling<S: Storage>(world: &World<S>) -> VolumeId {
    let (volume, source) = (world.volume_id(), source(world));
    let pool = world.pool();
    let made = pool.begin_fill(volume, SIZE, source).expect("begins");
    assert_eq!(made.size, SIZE);
    assert_eq!(pool.begin_fill(volume, SIZE, source).expect("again"), made);
    let known = pool.filling(volume).expect("says");
    assert_eq!(known.map(|filling| filling.source), Some(source));
    volume
}

/// Writes some of the backup: these blocks.
fn fill<S: Storage>(world: &World<S>, volume: VolumeId, blocks: &[(u64, u64, u8)]) {
    let base = world.pool().fill_base(volume).expect("opens");
    let base = base.expect("nobody has it");
    for (first, count, byte) in blocks {
        let data = vec![*byte; usize::try_from(count * BLOCK_SIZE).unwrap()];
        base.write_at(first * BLOCK_SIZE, &data).expect("writes");
    }
    let layer = base.finish().expect("finishes").tip;
    let shown = world.read_layer(layer);
    for (first, count, byte) in blocks {
        let at = |block: u64| usize::try_from(block * BLOCK_SIZE).unwrap();
        let part = &shown[at(*first)..at(first + count)];
        assert!(part.iter().all(|found| found == byte), "it is compared");
    }
}

fn is_filling<T>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::Refused(Refusal::Filling(_))))
}

pub(super) fn nothing_is_made_of_what_is_not_whole<S: Storage>(world: &mut World<S>) {
    let volume = filling(world);
    world.reopen();
    let pool = world.pool();
    let tip = pool.volume(volume).expect("exists").tip;
    let (other, snapshot) = (world.volume_id(), world.snapshot_id());
    let backup = BackupId::generate(world.env.as_ref());
    assert!(is_filling(&pool.open_layer(tip)));
    assert!(is_filling(&pool.snapshot(volume, snapshot)));
    assert!(is_filling(
        &pool.clone_volume(CloneSource::Volume(volume), other)
    ));
    assert!(is_filling(&pool.resize(volume, SIZE + SIZE)));
    let capture = pool.capture(volume, backup, None, FreezePolicy::Skip);
    assert!(is_filling(&capture));
    let whole = world.volume();
    assert!(is_filling(&world.pool().switch(whole, volume, snapshot)));
    // Zeros would show for data.
    let graph = world.pool().block_graph(volume);
    assert!(is_filling(&graph) || world.is_memory());
    assert_eq!(world.pool().merge_candidates(), []);
    let second = source(world);
    let again = world.pool().begin_fill(volume, SIZE, second);
    assert!(again.is_err(), "of another backup");
    world.pool().delete_volume(volume).expect("deletes");
    assert_eq!(world.pool().filling(volume).expect("says"), None);
}

pub(super) fn a_volume_becomes_whole<S: Storage>(world: &mut World<S>) {
    let volume = filling(world);
    // Filled in part by a process that ended.
    fill(world, volume, &[(0, 10, 1)]);
    world.reopen();
    fill(world, volume, &[(0, 10, 1), (100, 40, 2)]);
    let pool = world.pool();
    assert_eq!(pool.end_fill(volume).expect("ends"), FillOutcome::Whole);
    assert_eq!(pool.end_fill(volume).expect("again"), FillOutcome::Whole);
    assert!(pool.fill_base(volume).is_err(), "its base is sealed");
    let used = pool.volume(volume).expect("is whole").used;
    assert!(used.get() >= 50 * BLOCK_SIZE, "{used}");
    let whole = content(&[(0, 10, 1), (100, 40, 2)]);
    assert!(world.read_volume(volume) == whole);
    world.write(volume, 5, 1, 3);
    world.stop_all();
    let snapshot = world.snapshot(volume);
    let written = content(&[(0, 10, 1), (100, 40, 2), (5, 1, 3)]);
    assert!(world.read_snapshot(snapshot) == written);
    // The base has no name any more: it is joined with what stands on it.
    assert!(world.tidy().expect("tidies") > 0);
    assert!(world.read_volume(volume) == written);
}

pub(super) fn who_opens_it_keeps_its_reader<S: Storage>(world: &mut World<S>) {
    let volume = filling(world);
    fill(world, volume, &[(7, 1, 7)]);
    let pool = world.pool();
    let reader = json!({"driver": "nbd", "node-name": "reader"});
    let opened = pool.open_filling(volume, &reader);
    if world.is_memory() {
        assert!(matches!(opened, Err(Error::Unsupported(_))));
        return;
    }
    let (graph, hold) = opened.expect("opens");
    assert_eq!(graph["backing"], reader);
    assert_eq!(graph["read-only"], false);
    assert_eq!(pool.end_fill(volume).expect("waits"), FillOutcome::GaveWay);
    drop(hold);
    assert_eq!(pool.end_fill(volume).expect("ends"), FillOutcome::Whole);
    let (graph, _hold) = pool.open_filling(volume, &reader).expect("is whole");
    assert_eq!(graph["backing"]["driver"], "qcow2");
    assert_eq!(graph["backing"]["read-only"], true);
    assert_eq!(graph["backing"]["backing"], Value::Null);
}
