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
        .copy_backup(
            &from.vault,
            (from.volume, backup),
            &mut || Ok(()),
            &NullMonitor,
        )
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
        let ended = other.through(failing).and_then(|vault| {
            vault.copy_backup(
                &bench.vault,
                (bench.volume, backup),
                &mut || Ok(()),
                &NullMonitor,
            )
        });
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
    let refused = again.copy_backup(
        &bench.vault,
        (bench.volume, backup),
        &mut || Ok(()),
        &NullMonitor,
    );
    assert!(matches!(refused, Err(Error::Invalid(_))));
}

#[test]
fn what_was_deleted_is_not_copied() {
    let bench = Bench::new(7);
    let backup = bench.back_up(&Disk::new(CHUNK), None, None).backup_id;
    bench.vault.delete_backup(bench.volume, backup).unwrap();
    let other = second(&bench, 8);
    let refused = other.vault.copy_backup(
        &bench.vault,
        (bench.volume, backup),
        &mut || Ok(()),
        &NullMonitor,
    );
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

/// A second vault of the same id, in another target, as the server keeps it.
fn twin(of: &Bench, seed: u64) -> Bench {
    let other = Bench::new(seed);
    let spec = VaultSpec {
        vault_id: of.vault.id(),
        account_id: of.vault.account_id(),
    };
    let target: Arc<dyn Target> = other.target.clone();
    let vault = Vault::open_or_create(target, spec, &other.root, other.env.clone()).unwrap();
    Bench {
        vault,
        volume: of.volume,
        ..other
    }
}

#[test]
fn a_damaged_copy_is_repaired_from_what_it_is_a_copy_of() {
    for lost in ["manifest", "pack"] {
        let bench = Bench::new(21);
        let mut disk = Disk::new(2000 * CHUNK);
        (0..60).for_each(|n| disk.fill(n * 30, n + 1));
        let backup = bench.back_up(&disk, None, None).backup_id;
        let copies = twin(&bench, 22);
        receipt(copy(&copies, &bench, backup));
        let all = std::collections::BTreeSet::from([(copies.volume, backup)]);
        let name = match lost {
            "manifest" => copies.vault.names.manifest(copies.volume, backup),
            _ => first_under(&copies, "packs/"),
        };
        copies.target.tamper(&name, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
        let vault = &copies.vault;
        let report = vault.verify_backups(&all, CheckLevel::Decrypt, &NullMonitor);
        let damaged = vault.to_repair(&report.unwrap()).unwrap();
        assert_eq!(damaged, all, "{name}");
        let mut open = |volume, backup| {
            let source = Source::copy_in(&bench.vault, volume, backup)?;
            Ok(Vec::from_iter(source))
        };
        let repaired = vault.repair_backups(&damaged, &mut open, &mut || Ok(()), &NullMonitor);
        let repaired = repaired.unwrap();
        assert!(repaired.left.is_empty(), "{name}: {repaired:?}");
        assert_eq!(copies.restored(backup), disk, "{name}");
    }
}

/// The first object whose name goes on like this.
fn first_under(bench: &Bench, part: &str) -> target::ObjectName {
    let prefix = bench.vault.names.prefix(part);
    let mut found = None;
    target::list_each(&*bench.target, &prefix, |entry| {
        found.get_or_insert(entry.name);
        Ok::<_, Error>(())
    })
    .unwrap();
    found.unwrap()
}

#[test]
fn a_copy_whose_fence_is_lost_is_not_committed() {
    let bench = Bench::new(23);
    let mut disk = Disk::new(100 * CHUNK);
    (0..60).for_each(|n| disk.fill(n, n + 1));
    let backup = bench.back_up(&disk, None, None).backup_id;
    let other = second(&bench, 24);
    let mut lost = || Err(stillpoint_model::ErrorKind::Fenced);
    let key = (bench.volume, backup);
    let refused = other
        .vault
        .copy_backup(&bench.vault, key, &mut lost, &NullMonitor);
    assert!(matches!(refused, Err(Error::NotConfirmed { .. })));
    assert!(other.vault.list_backups(None).unwrap().is_empty());
    receipt(copy(&other, &bench, backup));
}

#[test]
fn damage_of_the_source_is_told_from_a_target_that_is_away() {
    let bench = Bench::new(25);
    let mut disk = Disk::new(100 * CHUNK);
    (0..60).for_each(|n| disk.fill(n, n + 1));
    let backup = bench.back_up(&disk, None, None).backup_id;
    let pack = first_under(&bench, "packs/");
    bench.target.tamper(&pack, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let other = second(&bench, 26);
    let key = (bench.volume, backup);
    let refused = other
        .vault
        .copy_backup(&bench.vault, key, &mut || Ok(()), &NullMonitor);
    let kind = refused.expect_err("it is damaged").kind();
    assert_eq!(kind, stillpoint_model::ErrorKind::Corrupt);
}

#[test]
fn a_copy_is_compressed_as_hard_as_its_backup() {
    let easy = Bench::new(27);
    let disk = words(80);
    let at_one = easy.back_up(&disk, None, None).stored.get();
    let hard = Bench::new(28).compressing_at(19);
    let backup = hard.back_up(&disk, None, None);
    let at_most = backup.stored.get();
    assert!(at_most < at_one * 9 / 10, "{at_most} of {at_one}");
    let notes = |bench: &Bench| {
        let info = bench.vault.describe(hard.volume, backup.backup_id);
        info.unwrap().metadata.get(COMPRESSED_AT).cloned()
    };
    assert_eq!(notes(&hard).as_deref(), Some("19"));
    let other = second(&hard, 29);
    let copied = receipt(copy(&other, &hard, backup.backup_id)).stored.get();
    assert!(
        copied.abs_diff(at_most) < at_most / 50,
        "{copied}, {at_most}"
    );
    assert_eq!(notes(&other).as_deref(), Some("19"));
    assert_eq!(other.restored(backup.backup_id), disk);
}
