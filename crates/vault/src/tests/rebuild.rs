//! Redundant objects that rotted are made anew.

use stillpoint_model::id::BackupId;
use stillpoint_model::progress::NullMonitor;

use super::support::*;
use crate::target::{ObjectName, Target, list_each};
use crate::*;

fn objects(bench: &Bench, part: &str, end: &str) -> Vec<ObjectName> {
    let mut names = vec![];
    list_each(&*bench.target, &bench.vault.names.prefix(part), |entry| {
        names.push(entry.name);
        Ok::<_, Error>(())
    })
    .unwrap();
    names.retain(|name| name.as_str().ends_with(end));
    names
}

/// A vault with a backup that was read back.
fn furnished(seed: u64) -> (Bench, BackupId, Disk) {
    let bench = Bench::new(seed);
    let mut disk = Disk::new(900 * CHUNK);
    (0..200).for_each(|n| disk.fill(n * 4, n + 1));
    let backup = bench.back_up(&disk, None, None).backup_id;
    bench
        .vault
        .read_back(bench.volume, backup, &NullMonitor)
        .unwrap();
    (bench, backup, disk)
}

fn rot(bench: &Bench, name: &ObjectName) {
    assert!(bench.target.tamper(name, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    }));
}

fn check(bench: &Bench) -> CheckReport {
    let report = bench.vault.check(CheckLevel::Decrypt, &NullMonitor);
    report.unwrap()
}

fn rebuild(bench: &Bench) -> Vec<ObjectName> {
    bench.vault.rebuild(&check(bench), &NullMonitor).unwrap()
}

/// What a backup adds that has all its chunks at other places than the one before.
fn added_by_a_moved_copy(bench: &Bench) -> u64 {
    let mut moved = Disk::new(900 * CHUNK);
    (0..200).for_each(|n| moved.fill(n * 4 + 1, n + 1));
    bench.back_up(&moved, None, None).stored.get()
}

#[test]
fn sums_and_proofs_are_made_anew_and_nothing_is_wrong_then() {
    let (bench, backup, disk) = furnished(1);
    let sums = objects(&bench, "sums/", "").remove(0);
    let proof = objects(&bench, "volumes/", ".proven").remove(0);
    for name in [&sums, &proof] {
        rot(&bench, name);
        assert_eq!(rebuild(&bench), std::slice::from_ref(name));
        assert!(check(&bench).is_sound(), "{name}");
    }
    assert_eq!(objects(&bench, "volumes/", ".proven"), [proof]);
    assert!(
        !objects(&bench, "sums/", "").contains(&sums),
        "a fresh name"
    );
    let scrubbed = scrub(&*bench.target, &NullMonitor).unwrap().remove(0);
    assert_eq!((scrubbed.uncovered, scrubbed.damaged.len()), (0, 0));
    assert_eq!(bench.restored(backup), disk);
}

#[test]
fn what_an_index_said_is_found_again() {
    let (sound, ..) = furnished(2);
    let little = added_by_a_moved_copy(&sound);
    let (bench, ..) = furnished(2);
    let index = objects(&bench, "index/", "").remove(0);
    rot(&bench, &index);
    assert_eq!(rebuild(&bench), std::slice::from_ref(&index));
    assert_eq!(rebuild(&bench), [], "once is enough");
    // The first one stays: its name says that the run was not taken back.
    assert!(bench.target.head(&index).is_ok());
    let added = added_by_a_moved_copy(&bench);
    assert!(added < little + 4 * CHUNK, "{added} instead of {little}");
    let (lost, ..) = furnished(2);
    rot(&lost, &index);
    assert!(added_by_a_moved_copy(&lost) > 2 * added);
}

#[test]
fn sums_are_made_anew_of_what_is_proven_only() {
    let (bench, ..) = furnished(3);
    let (sums, pack) = (
        objects(&bench, "sums/", "").remove(0),
        objects(&bench, "packs/", "").remove(0),
    );
    rot(&bench, &sums);
    rot(&bench, &pack);
    assert_eq!(rebuild(&bench), [sums]);
    let scrubbed = scrub(&*bench.target, &NullMonitor).unwrap().remove(0);
    assert_eq!((scrubbed.uncovered, scrubbed.damaged.len()), (1, 0));
}

#[test]
fn a_rebuild_changes_nothing_where_nothing_is_wrong() {
    let (bench, ..) = furnished(4);
    let before = objects(&bench, "", "");
    assert_eq!(rebuild(&bench), []);
    assert_eq!(objects(&bench, "", ""), before);
}

fn check_small(bench: &Bench) -> CheckReport {
    bench.vault.check_small_objects(&NullMonitor).unwrap()
}

#[test]
fn a_look_at_small_objects_finds_each_of_them_and_reads_no_pack() {
    let (bench, ..) = furnished(5);
    let small = ["sums/", "index/", "keys/", "volumes/"].map(|part| {
        let names = objects(&bench, part, "").into_iter();
        let mut names = names.filter(|name| !name.as_str().ends_with(".manifest"));
        names.next().unwrap()
    });
    assert!(check_small(&bench).is_sound());
    rot(&bench, &objects(&bench, "packs/", "").remove(0));
    assert!(check_small(&bench).is_sound(), "packs are another look's");
    small.iter().for_each(|name| rot(&bench, name));
    let found = check_small(&bench).problems.into_iter();
    let mut wanted = small.to_vec();
    wanted.sort();
    assert_eq!(found.map(|bad| bad.object).collect::<Vec<_>>(), wanted);
}

#[test]
fn sums_of_a_run_that_goes_on_are_left_to_it() {
    let (bench, ..) = furnished(6);
    let sums = objects(&bench, "sums/", "").remove(0);
    rot(&bench, &sums);
    let run = sums.as_str().split('/').nth(2).unwrap();
    let backup = BackupId::generate(&*bench.env);
    let record = bench.vault.names.run(backup, run.parse().unwrap());
    bench
        .target
        .put_new(&record, b"its writer is at work")
        .unwrap();
    assert_eq!(rebuild(&bench), []);
    bench.target.delete(&record).unwrap();
    assert_eq!(rebuild(&bench), [sums]);
}
