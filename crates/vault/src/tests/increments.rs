//! Chains of increments against full copies.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use stillpoint_model::id::BackupId;
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::{ByteRange, Env as _};

use super::support::*;
use crate::target::FaultTarget;
use crate::*;

const GIB: u64 = 1 << 30;

#[derive(Clone, Debug)]
enum Change {
    Write(u64, u64, u64),
    Zero(u64, u64),
    Copy(u64, u64),
    Resize(u64),
}

/// Chunks near the edges of spans and leaves, where mistakes live.
fn chunk() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..200, 4090_u64..4110, 60_u64..70, 8180_u64..8200]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (chunk(), 1_u64..80, 1_u64..50).prop_map(|(at, n, seed)| Change::Write(at, n, seed)),
        2 => (chunk(), 1_u64..80).prop_map(|(at, n)| Change::Zero(at, n)),
        1 => (chunk(), chunk()).prop_map(|(from, to)| Change::Copy(from, to)),
        1 => (1_u64..8300 * CHUNK).prop_map(Change::Resize),
    ]
}

/// Applies a change; notes what it touched, as a change tracker would.
fn apply(disk: &mut Disk, change: &Change, touched: &mut Vec<ByteRange>) {
    let last = disk.size.div_ceil(CHUNK);
    match *change {
        Change::Write(at, count, seed) => {
            for chunk in at..(at + count).min(last) {
                disk.fill(chunk, seed + chunk % 7);
                // Less than a whole chunk, to see it rounded out.
                touched.push(ByteRange::new(chunk * CHUNK + 100, 1));
            }
        }
        Change::Zero(at, count) => {
            for chunk in at..(at + count).min(last) {
                match chunk % 2 {
                    0 => drop(disk.chunks.remove(&chunk)),
                    _ => disk.fill(chunk, 0),
                }
            }
            touched.push(chunks(at, count));
        }
        Change::Copy(from, to) if from < last && to < last => {
            let size = disk.size;
            if let Some(data) = disk.chunks.get(&from).cloned() {
                disk.chunks.insert(to, data);
                disk.resize(size);
                touched.push(chunks(to, 1));
            }
        }
        Change::Copy(..) => {}
        Change::Resize(size) => {
            // What was cut off is zeros should the volume grow again before the next backup.
            let cut = disk.size.saturating_sub(size);
            touched.push(ByteRange::new(size, cut));
            disk.resize(size);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Any chain of increments, with or without change tracking, gives the hash that a full
    /// backup gives, and every backup restores when all others are deleted.
    #[test]
    fn every_increment_is_a_whole_backup(
        rounds in proptest::collection::vec(
            (proptest::collection::vec(change(), 0..6), any::<bool>()), 1..5),
        seed in 0_u64..1000,
    ) {
        let bench = Bench::new(seed);
        let mut disk = Disk::new(8200 * CHUNK);
        let mut parent: Option<BackupId> = None;
        let mut kept = vec![];
        for (changes, tracked) in rounds {
            let mut touched = vec![];
            for change in &changes {
                apply(&mut disk, change, &mut touched);
            }
            let changed = (tracked && parent.is_some()).then_some(touched.as_slice());
            let receipt = bench.back_up(&disk, parent, changed);
            let full = bench.back_up(&disk, None, None);
            prop_assert_eq!(receipt.content_hash, full.content_hash);
            prop_assert_eq!(receipt.used, full.used);
            bench.vault.delete_backup(bench.volume, full.backup_id).unwrap();
            parent = Some(receipt.backup_id);
            kept.push((receipt.backup_id, disk.clone()));
        }
        for (backup, _) in &kept {
            bench.vault.delete_backup(bench.volume, *backup).unwrap();
        }
        for (backup, disk) in &kept {
            prop_assert_eq!(&bench.restored(*backup), disk);
        }
    }
}

#[test]
fn an_increment_into_a_tebibyte_costs_what_changed() {
    let bench = Bench::new(20);
    let mut disk = Disk::new(1024 * GIB);
    for place in 0..2000_u64 {
        disk.fill(place * 33_333 % (1024 * GIB / CHUNK), place + 1);
    }
    let first = bench.back_up(&disk, None, None);
    let at = 777_777;
    disk.fill(at, 5_000);
    let calls = Arc::new(FaultTarget::counting(bench.target.clone()));
    let vault = bench.through(calls.clone()).unwrap();
    let changed = [chunks(at, 1)];
    let spec = bench.spec(bench.id(), Some(first.backup_id), Some(&changed));
    let prepared = vault.prepare_backup(&spec, &disk, &NullMonitor).unwrap();
    let receipt = prepared.commit(&mut || Ok(())).unwrap();
    assert_eq!(receipt.bytes_read.get(), CHUNK);
    assert_eq!(receipt.changed.get(), CHUNK);
    assert!(receipt.stored.get() < CHUNK + 16_000, "{}", receipt.stored);
    // Two of them look whether the parent was repaired, one puts what the packs hash to.
    assert!(calls.calls() < 33, "{}", calls.calls());
    assert_eq!(receipt.used.get(), first.used.get() + CHUNK);
    let whole = Mutex::new(Disk::new(disk.size));
    vault
        .restore(bench.volume, spec.backup_id, &whole, &NullMonitor)
        .unwrap();
    assert_eq!(whole.into_inner().unwrap(), disk);
}

#[test]
fn an_unchanged_volume_stores_next_to_nothing() {
    let bench = Bench::new(21);
    let mut disk = Disk::new(GIB);
    (0..500).for_each(|chunk| disk.fill(chunk * 3, chunk + 1));
    let first = bench.back_up(&disk, None, None);
    let tracked = bench.back_up(&disk, Some(first.backup_id), Some(&[]));
    assert_eq!(tracked.bytes_read.get(), 0);
    assert!(tracked.stored.get() < 1000, "{}", tracked.stored);
    let untracked = bench.back_up(&disk, Some(tracked.backup_id), None);
    assert_eq!(untracked.bytes_read.get(), 500 * CHUNK);
    assert!(untracked.stored.get() < 1000, "{}", untracked.stored);
    assert_eq!(untracked.changed.get(), 0);
    assert_eq!(bench.restored(untracked.backup_id), disk);
}

#[test]
fn chunks_reported_changed_that_are_not_store_nothing() {
    let bench = Bench::new(22);
    let mut disk = Disk::new(GIB);
    (0..500).for_each(|chunk| disk.fill(chunk, chunk + 1));
    let first = bench.back_up(&disk, None, None);
    let again = bench.back_up(&disk, Some(first.backup_id), Some(&[chunks(0, 400)]));
    assert_eq!(again.bytes_read.get(), 400 * CHUNK);
    assert_eq!(again.changed.get(), 0);
    assert!(again.stored.get() < 1000, "{}", again.stored);
}

#[test]
fn an_index_that_is_full_still_finds_some_and_breaks_nothing() {
    let mut bench = Bench::new(23);
    let tuning = Tuning {
        index_entries: 64,
        ..SMALL
    };
    bench.vault = bench.vault.clone().with_tuning(tuning);
    let mut disk = Disk::new(GIB);
    (0..1000).for_each(|chunk| disk.fill(chunk, chunk % 700 + 1));
    let first = bench.back_up(&disk, None, None);
    let second = bench.back_up(&disk, None, None);
    assert!(second.stored < first.stored);
    assert_eq!(bench.restored(second.backup_id), disk);
}

#[test]
fn a_damaged_part_of_the_parent_is_read_anew() {
    let bench = Bench::new(24);
    let mut disk = Disk::new(GIB);
    (0..500).for_each(|chunk| disk.fill(chunk, chunk + 1));
    let first = bench.back_up(&disk, None, None);
    for name in bench.target.names() {
        if name.as_str().contains("packs/") {
            bench.target.tamper(&name, |bytes| bytes[100] ^= 1);
        }
    }
    let bench = Bench {
        vault: bench.through(bench.target.clone()).unwrap(),
        ..bench
    };
    let healed = bench.back_up(&disk, Some(first.backup_id), Some(&[chunks(0, 500)]));
    assert_eq!(bench.restored(healed.backup_id), disk);
}

#[test]
fn another_level_of_compression_shares_what_is_there() {
    let bench = Bench::new(77);
    let mut disk = Disk::new(2000 * CHUNK);
    (0..200).for_each(|n| disk.fill(n * 7, n + 1));
    let first = bench.back_up(&disk, None, None);
    disk.fill(3, 9999);
    let hard = Bench {
        vault: bench.vault.clone(),
        target: bench.target.clone(),
        env: bench.env.clone(),
        root: bench.root.clone(),
        volume: bench.volume,
    }
    .compressing_at(19);
    // Everything is read again and found there, but for the one chunk.
    let second = hard.back_up(&disk, Some(first.backup_id), None);
    assert!(second.stored.get() < 8 * CHUNK, "{second:?}");
    assert_eq!(bench.restored(second.backup_id), disk);
    let other = hard.back_up(&disk, None, None);
    assert!(other.stored.get() < first.stored.get() / 8, "{other:?}");
    assert_eq!(bench.restored(other.backup_id), disk);
}

#[test]
fn a_backup_with_as_many_notes_as_it_may_have_is_read_at_any_level() {
    let bench = Bench::new(78).compressing_at(19);
    let mut disk = Disk::new(20 * CHUNK);
    disk.fill(3, 1);
    let mut spec = bench.spec(bench.id(), None, None);
    spec.metadata = (0..58).map(|n| (format!("{n}"), String::new())).collect();
    spec.keep_until = Some(bench.env.now().saturating_add(Duration::from_secs(60)));
    let own = [TAKEN, COPIED_FROM, RENEWS].map(|note| (note.to_owned(), String::new()));
    spec.metadata.extend(own);
    let prepared = bench.vault.prepare_backup(&spec, &disk, &NullMonitor);
    let receipt = prepared.unwrap().commit(&mut || Ok(())).unwrap();
    let info = bench.vault.describe(bench.volume, receipt.backup_id);
    let notes = info.unwrap().metadata;
    assert_eq!(notes[COMPRESSED_AT], "19");
    assert!(
        spec.metadata
            .iter()
            .all(|(note, text)| notes[note] == *text)
    );
    assert_eq!(bench.restored(receipt.backup_id), disk);

    spec.backup_id = bench.id();
    spec.metadata.insert("one more".to_owned(), String::new());
    let refused = bench.vault.prepare_backup(&spec, &disk, &NullMonitor);
    assert!(matches!(refused, Err(Error::Invalid(_))));
}
