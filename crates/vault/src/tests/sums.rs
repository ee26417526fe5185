//! Packs are compared with what they hashed to, with a key and without.

use std::time::Duration;

use stillpoint_model::ByteRange;
use stillpoint_model::id::BackupId;
use stillpoint_model::progress::NullMonitor;

use super::support::*;
use crate::target::{ObjectName, Target, list_each};
use crate::*;

fn furnished(seed: u64) -> (Bench, BackupId, Disk) {
    let bench = Bench::new(seed);
    let mut disk = Disk::new(900 * CHUNK);
    (0..200).for_each(|n| disk.fill(n * 4, n + 1));
    let backup = bench.back_up(&disk, None, None).backup_id;
    (bench, backup, disk)
}

fn objects(bench: &Bench, part: &str) -> Vec<ObjectName> {
    let mut names = vec![];
    list_each(&*bench.target, &bench.vault.names.prefix(part), |entry| {
        names.push(entry.name);
        Ok::<_, Error>(())
    })
    .unwrap();
    names
}

fn scrubbed(bench: &Bench) -> Scrubbed {
    scrub(&*bench.target, &NullMonitor).unwrap().remove(0)
}

fn check(bench: &Bench) -> CheckReport {
    let report = bench.vault.check(CheckLevel::Ciphertext, &NullMonitor);
    report.unwrap()
}

fn flip(bench: &Bench, name: &ObjectName, at: usize) {
    assert!(bench.target.tamper(name, |bytes| bytes[at] ^= 1));
}

#[test]
fn every_pack_is_covered_and_every_flipped_bit_of_one_is_found_without_a_key() {
    let (bench, ..) = furnished(1);
    let packs = objects(&bench, "packs/");
    assert!(packs.len() > 2, "chunks and nodes");
    let sound = scrubbed(&bench);
    assert_eq!((sound.compared, sound.uncovered), (packs.len(), 0));
    assert_eq!(sound.damaged, []);
    for name in &packs {
        let len = usize::try_from(bench.target.head(name).unwrap().get()).unwrap();
        for at in [0, 81, len / 2, len - 1] {
            flip(&bench, name, at);
            let found = scrubbed(&bench).damaged;
            assert_eq!(found.len(), 1, "{name} at {at}");
            assert_eq!(found[0].0, *name);
            flip(&bench, name, at);
        }
    }
}

#[test]
fn with_the_key_what_differs_is_opened_and_says_which_backups_it_affects() {
    let (bench, backup, _) = furnished(2);
    assert!(check(&bench).is_sound());
    let pack = objects(&bench, "packs/").remove(0);
    let len = usize::try_from(bench.target.head(&pack).unwrap().get()).unwrap();
    flip(&bench, &pack, len / 2);
    let cheap = check(&bench);
    assert!(cheap.affected().contains(&backup), "{cheap:?}");
    let deep = bench.vault.check(CheckLevel::Decrypt, &NullMonitor);
    assert_eq!(cheap.problems, deep.unwrap().problems);
}

#[test]
fn packs_without_a_sum_are_counted_and_damage_nothing() {
    let (bench, ..) = furnished(3);
    let packs = objects(&bench, "packs/").len();
    for name in objects(&bench, "sums/") {
        bench.target.delete(&name).unwrap();
    }
    let found = scrubbed(&bench);
    assert_eq!((found.compared, found.uncovered), (0, packs));
    let report = check(&bench);
    assert!(report.is_sound());
    assert_eq!(report.uncovered, packs);
}

#[test]
fn sums_that_rotted_are_said_and_are_no_word_on_a_pack() {
    let (bench, backup, disk) = furnished(4);
    let sums = objects(&bench, "sums/").remove(0);
    for at in [9, 20, 90, 120] {
        flip(&bench, &sums, at);
        let found = scrubbed(&bench);
        assert_eq!(found.damaged.len(), 1, "at {at}");
        assert_eq!(found.damaged[0].0, sums);
        let report = check(&bench);
        assert!(report.affected().is_empty(), "at {at}: {report:?}");
        assert_eq!(report.problems[0].object, sums);
        flip(&bench, &sums, at);
    }
    assert_eq!(bench.restored(backup), disk);
}

fn collect(bench: &Bench, known: &[BackupId]) {
    let policy = CollectPolicy {
        keep_deleted: Duration::ZERO,
        grace: Duration::ZERO,
        floor: stillpoint_model::ByteCount::from_gib(1),
        known: known.iter().map(|id| (bench.volume, *id)).collect(),
        ..CollectPolicy::default()
    };
    bench.vault.collect(&policy, &NullMonitor).unwrap();
}

#[test]
fn sums_that_a_broken_collection_left_go_with_the_next() {
    let (bench, backup, _) = furnished(6);
    let sums = objects(&bench, "sums/").remove(0);
    let len = bench.target.head(&sums).unwrap().get();
    let left = bench.target.get(&sums, ByteRange::new(0, len)).unwrap();
    bench.vault.delete_backup(bench.volume, backup).unwrap();
    collect(&bench, &[]);
    bench.target.put_new(&sums, &left).unwrap();
    assert_eq!(bench.vault.unreferenced().unwrap().objects, [sums]);
    collect(&bench, &[]);
    assert_eq!(objects(&bench, "sums/"), []);
}

#[test]
fn sums_go_with_the_last_pack_of_their_run() {
    let (bench, first, mut disk) = furnished(5);
    disk.fill(2, 77_777);
    let second = bench.back_up(&disk, Some(first), None).backup_id;
    let all = objects(&bench, "sums/").len();
    assert!(all >= 2);
    // Its packs are shared by the second.
    bench.vault.delete_backup(bench.volume, first).unwrap();
    collect(&bench, &[second]);
    assert!(scrubbed(&bench).compared > 0);
    assert_eq!(scrubbed(&bench).uncovered, 0);
    bench.vault.delete_backup(bench.volume, second).unwrap();
    collect(&bench, &[]);
    assert_eq!(objects(&bench, "packs/"), []);
    assert_eq!(objects(&bench, "sums/"), []);
}
