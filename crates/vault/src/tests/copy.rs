//! Backups in a second vault.

use std::sync::Arc;

use proptest::prelude::*;
use stillpoint_model::id::BackupId;
use stillpoint_model::progress::NullMonitor;

use super::support::*;
use crate::target::{Fault, FaultTarget, Target};
use crate::*;

/// A second vault for the same volume, with a key of its own.
fn second(of: &Bench, seed: u64) -> Bench {
    let bench = Bench::new(seed);
    Bench {
        volume: of.volume,
        ..bench
    }
}

fn copy(to: &Bench, from: &Bench, backup: BackupId) -> Copied {
    to.vault
        .copy_backup(&from.vault, from.volume, backup, &NullMonitor)
        .unwrap()
}

fn receipt(copied: Copied) -> Receipt {
    match copied {
        Copied::Now(receipt) => receipt,
        Copied::AlreadyThere => panic!("it was there before"),
    }
}

#[test]
fn a_copy_restores_alone_and_says_where_it_is_from() {
    let bench = Bench::new(1);
    let mut disk = Disk::new(9000 * CHUNK + 5);
    (0..40).for_each(|n| disk.fill(n * 200, n + 1));
    let backup = bench.back_up(&disk, None, None).backup_id;
    let other = second(&bench, 2);
    receipt(copy(&other, &bench, backup));
    assert_eq!(copy(&other, &bench, backup), Copied::AlreadyThere);
    keys::destroy(&*bench.target, bench.vault.id()).unwrap();
    assert_eq!(other.restored(backup), disk);
    let notes = other.vault.describe(other.volume, backup).unwrap().metadata;
    assert_eq!(notes["name"], "web-1");
    assert_eq!(notes[COPIED_FROM], bench.vault.id().to_string());
    assert!(notes.contains_key(TAKEN));
}

#[test]
fn of_an_increment_only_what_differs_is_read() {
    let bench = Bench::new(3);
    let mut disk = Disk::new(20_000 * CHUNK);
    (0..2000).for_each(|n| disk.fill(n, n + 1));
    let first = bench.back_up(&disk, None, None).backup_id;
    disk.fill(7, 0);
    disk.fill(1000, 999_999);
    disk.fill(19_999, 5);
    let changed = [chunks(0, 20_000)];
    let second_id = bench.back_up(&disk, Some(first), Some(&changed)).backup_id;
    let other = second(&bench, 4);
    receipt(copy(&other, &bench, first));
    let copied = receipt(copy(&other, &bench, second_id));
    assert_eq!(copied.changed.get(), 3 * CHUNK);
    assert!(copied.bytes_read.get() <= 3 * CHUNK, "{copied:?}");
    assert_eq!(other.restored(second_id), disk);
}

#[test]
fn a_copy_that_dies_anywhere_is_done_again_and_leaves_nothing() {
    for nth in 0.. {
        let bench = Bench::new(5);
        let mut disk = Disk::new(600 * CHUNK);
        (0..30).for_each(|n| disk.fill(n, n + 1));
        let backup = bench.back_up(&disk, None, None).backup_id;
        let other = second(&bench, 6);
        let failing: Arc<dyn Target> = Arc::new(FaultTarget::new(
            other.target.clone(),
            nth,
            Fault::CrashAfter,
        ));
        let ended = other
            .through(failing)
            .and_then(|vault| vault.copy_backup(&bench.vault, bench.volume, backup, &NullMonitor));
        copy(&other, &bench, backup);
        assert_eq!(other.restored(backup), disk, "crash at call {nth}");
        let left = other.vault.unreferenced().unwrap();
        assert_eq!(left, Unreferenced::default(), "crash at call {nth}");
        if ended.is_ok() {
            assert!(nth > 10, "it was not made to fail");
            break;
        }
    }
}

#[test]
fn a_vault_is_not_copied_into_itself() {
    let bench = Bench::new(9);
    let backup = bench.back_up(&Disk::new(CHUNK), None, None).backup_id;
    let again = bench.through(bench.target.clone()).unwrap();
    let refused = again.copy_backup(&bench.vault, bench.volume, backup, &NullMonitor);
    assert!(matches!(refused, Err(Error::Invalid(_))));
}

#[test]
fn what_was_deleted_is_not_copied() {
    let bench = Bench::new(7);
    let backup = bench.back_up(&Disk::new(CHUNK), None, None).backup_id;
    bench.vault.delete_backup(bench.volume, backup).unwrap();
    let other = second(&bench, 8);
    let refused = other
        .vault
        .copy_backup(&bench.vault, bench.volume, backup, &NullMonitor);
    assert!(matches!(refused, Err(Error::BackupDeleted(_))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn copies_are_what_was_copied_whatever_changed_and_whatever_is_left_out(
        seed in any::<u64>(),
        steps in proptest::collection::vec(
            (0..4_usize, proptest::collection::vec((any::<u64>(), 0..6_u64), 0..12), any::<bool>()), 1..5),
    ) {
        // Below, at and above what a tree of one level holds.
        let sizes = [100, 4096, 5000, 300_000];
        let bench = Bench::new(seed);
        let other = second(&bench, seed ^ 1);
        let mut disk = Disk::new(5000 * CHUNK);
        let mut parent = None;
        let mut copied = vec![];
        for (size, writes, is_copied) in steps {
            disk.resize(sizes[size] * CHUNK - seed % CHUNK);
            let count = disk.size.div_ceil(CHUNK);
            for (at, fill) in writes {
                disk.fill(at % count, fill);
            }
            let all = [chunks(0, count)];
            let backup = bench.back_up(&disk, parent, parent.map(|_| &all[..])).backup_id;
            parent = Some(backup);
            if is_copied {
                copy(&other, &bench, backup);
                copied.push((backup, disk.clone()));
            }
        }
        for (backup, disk) in copied {
            prop_assert!(other.restored(backup) == disk);
        }
    }
}
