//! Backups that are promised to stay, on a target that locks objects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use stillpoint_env::SimEnv;
use stillpoint_model::id::{AccountId, BackupId, VaultId, VolumeId};
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::{ByteCount, Env as _, ErrorKind, Timestamp};

use super::support::{self, Disk, SMALL, chunks};
use crate::format::names::Named;
use crate::target::{Fault, FaultTarget, MemoryTarget, ObjectName, Target, VersionedTarget};
use crate::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A vault on a target that locks.
struct Locked {
    env: Arc<SimEnv>,
    target: Arc<VersionedTarget>,
    root: RootKey,
    vault: Vault,
    volume: VolumeId,
}

impl Locked {
    fn new(seed: u64) -> Self {
        let env = Arc::new(SimEnv::new(seed));
        let target = Arc::new(VersionedTarget::new(env.clone()));
        let root = RootKey::generate(&*env);
        let spec = VaultSpec {
            vault_id: VaultId::generate(&*env),
            account_id: AccountId::generate(&*env),
        };
        let vault = Vault::open_or_create(target.clone(), spec, &root, env.clone()).unwrap();
        let volume = VolumeId::generate(&*env);
        Self {
            vault: vault.with_tuning(SMALL),
            env,
            target,
            root,
            volume,
        }
    }

    fn in_days(&self, days: u32) -> Timestamp {
        self.env.now().saturating_add(DAY * days)
    }

    fn spec(&self, parent: Option<BackupId>, days: Option<u32>) -> BackupSpec<'static> {
        self.env.advance(Duration::from_millis(1));
        BackupSpec {
            backup_id: BackupId::generate(&*self.env),
            volume_id: self.volume,
            parent,
            changed: None,
            metadata: BTreeMap::new(),
            keep_until: days.map(|days| self.in_days(days)),
        }
    }

    fn back_up(&self, disk: &Disk, parent: Option<BackupId>, days: Option<u32>) -> BackupId {
        let spec = self.spec(parent, days);
        let prepared = self.vault.prepare_backup(&spec, disk, &NullMonitor);
        let receipt = prepared.unwrap().commit(&mut || Ok(())).unwrap();
        let backup = receipt.backup_id;
        self.vault
            .read_back(self.volume, backup, &NullMonitor)
            .unwrap();
        backup
    }

    /// Every pack that a backup reaches.
    fn packs(&self, backup: BackupId) -> Vec<ObjectName> {
        let manifest = self.vault.current(self.volume, backup).unwrap();
        let used = self
            .vault
            .packs_below(manifest.top(), &NullMonitor)
            .unwrap();
        let names = used.into_iter();
        names.map(|pack| self.vault.names.pack(pack)).collect()
    }

    /// Everything without which a backup cannot be read.
    fn needs(&self, backup: BackupId) -> Vec<ObjectName> {
        let mut names = self.packs(backup);
        names.push(self.vault.names.manifest(self.volume, backup));
        names.push(self.vault.names.keys(1));
        names
    }

    fn locked_until(&self, name: &ObjectName) -> Option<Timestamp> {
        self.target.locked_until(name).unwrap()
    }

    fn is_held(&self, backup: BackupId, until: Timestamp) -> bool {
        let held = |name: &ObjectName| self.locked_until(name).is_some_and(|it| it >= until);
        self.needs(backup).iter().all(held)
    }

    fn restored(&self, backup: BackupId) -> Disk {
        let vault = self.opened();
        let info = vault.describe(self.volume, backup).unwrap();
        let disk = std::sync::Mutex::new(Disk::new(info.provisioned.get()));
        vault
            .restore(self.volume, backup, &disk, &NullMonitor)
            .unwrap();
        disk.into_inner().unwrap()
    }

    /// The vault, opened by somebody who has nothing but the target and the key.
    fn opened(&self) -> Vault {
        let target = self.target.clone();
        Vault::open(target, self.vault.id(), &self.root, self.env.clone()).unwrap()
    }

    fn collect(&self) -> Collected {
        let policy = CollectPolicy {
            confirmed: ByteCount::new(u64::MAX),
            ..CollectPolicy::default()
        };
        self.vault.collect(&policy, &NullMonitor).unwrap()
    }

    /// Collects day by day until nothing is left to do; gives the packs that went.
    fn collect_all(&self) -> usize {
        let mut packs = 0;
        for _ in 0..20 {
            let collected = self.collect();
            packs += collected.packs;
            if collected.outcome == Outcome::NothingToDo {
                return packs;
            }
            self.env.advance(DAY + Duration::from_secs(1));
        }
        panic!("a collection comes to no end");
    }
}

fn disk(seed: u64) -> Disk {
    let mut disk = Disk::new(200 * support::CHUNK);
    (0..60).for_each(|chunk| disk.fill(chunk, seed * 1000 + chunk + 1));
    disk
}

#[test]
fn everything_that_a_backup_needs_is_locked_as_long_as_it_is_promised() {
    let bench = Locked::new(1);
    let until = bench.in_days(30);
    let backup = bench.back_up(&disk(1), None, Some(30));
    assert!(bench.is_held(backup, until));
    let info = bench.vault.describe(bench.volume, backup).unwrap();
    let noted: Timestamp = info.metadata[LOCKED_UNTIL].parse().unwrap();
    assert!(noted >= until, "{noted}");
    assert!(noted <= bench.in_days(38), "{noted}");
}

#[test]
fn what_nobody_promised_is_not_locked() {
    let bench = Locked::new(2);
    let backup = bench.back_up(&disk(1), None, None);
    let names = bench.needs(backup);
    assert!(names.iter().all(|name| bench.locked_until(name).is_none()));
}

#[test]
fn a_promise_needs_no_target_that_locks() {
    let bench = support::Bench::new(3);
    let spec = BackupSpec {
        keep_until: Some(bench.env.now().saturating_add(DAY)),
        ..bench.spec(bench.id(), None, None)
    };
    let prepared = bench.vault.prepare_backup(&spec, &disk(1), &NullMonitor);
    prepared.unwrap().commit(&mut || Ok(())).unwrap();
    let info = bench.vault.describe(bench.volume, spec.backup_id).unwrap();
    assert!(info.metadata.contains_key(KEEP_UNTIL));
    assert!(!info.metadata.contains_key(LOCKED_UNTIL));
}

#[test]
fn daily_backups_touch_old_packs_once_a_week() {
    let bench = Locked::new(4);
    let mut disk = disk(1);
    let mut parent = bench.back_up(&disk, None, Some(30));
    let first = bench.packs(parent);
    let mut touched = vec![];
    for day in 1..=30 {
        bench.env.advance(DAY);
        disk.fill(70 + day, 5000 + day);
        let before: Vec<_> = first.iter().map(|name| bench.locked_until(name)).collect();
        let until = bench.in_days(30);
        parent = bench.back_up(&disk, Some(parent), Some(30));
        assert!(bench.is_held(parent, until), "day {day}");
        let after: Vec<_> = first.iter().map(|name| bench.locked_until(name)).collect();
        if before != after {
            touched.push(day);
        }
    }
    assert!(touched.len() <= 4, "{touched:?}");
}

#[test]
fn an_increment_that_changes_nothing_sets_no_lock_on_what_it_shares() {
    let bench = Locked::new(5);
    let disk = disk(1);
    let first = bench.back_up(&disk, None, Some(30));
    let before = bench.target.lockings();
    let spec = BackupSpec {
        changed: Some(&[]),
        ..bench.spec(Some(first), Some(30))
    };
    let prepared = bench.vault.prepare_backup(&spec, &disk, &NullMonitor);
    prepared.unwrap().commit(&mut || Ok(())).unwrap();
    assert_eq!(bench.target.lockings(), before);
}

#[test]
fn what_a_manifest_says_counts_only_as_long_as_it_is_locked_itself() {
    let bench = Locked::new(25);
    let disk = disk(1);
    let first = bench.back_up(&disk, None, Some(30));
    // As if the bucket had been filled from another one.
    bench.target.forget_locks();
    let until = bench.in_days(20);
    let second = bench.back_up(&disk, Some(first), Some(20));
    assert!(bench.is_held(second, until));
}

#[test]
fn what_deduplication_finds_is_locked_as_long_as_who_found_it() {
    let bench = Locked::new(6);
    bench.back_up(&disk(1), None, Some(2));
    let until = bench.in_days(90);
    let sibling = BackupSpec {
        volume_id: VolumeId::generate(&*bench.env),
        ..bench.spec(None, Some(90))
    };
    let prepared = bench.vault.prepare_backup(&sibling, &disk(1), &NullMonitor);
    let receipt = prepared.unwrap().commit(&mut || Ok(())).unwrap();
    bench
        .vault
        .read_back(sibling.volume_id, receipt.backup_id, &NullMonitor)
        .unwrap();
    let bench = Locked {
        volume: sibling.volume_id,
        ..bench
    };
    assert!(bench.is_held(receipt.backup_id, until));
}

#[test]
fn a_longer_promise_locks_all_of_the_tree() {
    let bench = Locked::new(7);
    let disk = disk(1);
    let first = bench.back_up(&disk, None, None);
    let until = bench.in_days(30);
    let second = bench.back_up(&disk, Some(first), Some(30));
    assert!(bench.is_held(second, until));
    let until = bench.in_days(300);
    let third = bench.back_up(&disk, Some(second), Some(300));
    assert!(bench.is_held(third, until));
}

#[test]
fn a_run_that_was_not_committed_goes_but_for_what_was_locked() {
    let bench = Locked::new(8);
    let spec = bench.spec(None, Some(10));
    let prepared = bench
        .vault
        .prepare_backup(&spec, &disk(1), &NullMonitor)
        .unwrap();
    let mut confirmed = 0;
    let mut confirm = || {
        confirmed += 1;
        match confirmed {
            1 => Ok(()),
            _ => Err(ErrorKind::Fenced),
        }
    };
    prepared.commit(&mut confirm).unwrap_err();
    let reaped = bench.vault.reap_backup(bench.volume, spec.backup_id);
    assert_eq!(reaped.unwrap().runs, 1);
    let left = bench.target.names();
    let parse = |name: &ObjectName| bench.vault.names.parse(name);
    let is_pack = |name: &&ObjectName| matches!(parse(name), Some(Named::Pack(_)));
    assert!(left.iter().any(|name| is_pack(&name)), "{left:?}");
    assert!(left.len() <= 2 + left.iter().filter(is_pack).count());
    // Nothing is planned that could not go, and nothing fails because of it.
    let collected = bench.collect();
    assert_eq!(collected.outcome, Outcome::NothingToDo);
    assert!(collected.locked > 0);
    bench.env.advance(DAY * 13);
    assert!(bench.collect_all() > 0);
    assert!(!bench.target.names().iter().any(|name| is_pack(&name)));
}

#[test]
fn a_fenced_run_locks_nothing() {
    let bench = Locked::new(9);
    let spec = bench.spec(None, Some(10));
    let prepared = bench
        .vault
        .prepare_backup(&spec, &disk(1), &NullMonitor)
        .unwrap();
    let mut fenced = || Err(ErrorKind::Fenced);
    prepared.commit(&mut fenced).unwrap_err();
    assert_eq!(bench.target.lockings(), 0);
}

#[test]
fn a_deleted_backup_stays_whole_until_its_locks_are_over() {
    let bench = Locked::new(10);
    let disk = disk(1);
    let backup = bench.back_up(&disk, None, Some(60));
    bench.vault.delete_backup(bench.volume, backup).unwrap();
    bench.env.advance(DAY * 30);
    assert_eq!(bench.collect().outcome, Outcome::NothingToDo);
    bench.vault.undelete_backup(bench.volume, backup).unwrap();
    assert!(bench.restored(backup) == disk);
    bench.vault.delete_backup(bench.volume, backup).unwrap();
    bench.env.advance(DAY * 60);
    assert!(bench.collect_all() > 0);
    let left: Vec<_> = bench.target.names();
    let kept = |name: &ObjectName| {
        let named = bench.vault.names.parse(name);
        matches!(named, Some(Named::Keys(_) | Named::Done(_)))
    };
    assert!(left.iter().all(kept), "{left:?}");
    assert_eq!(bench.target.versions(), left.len(), "nothing piles up");
}

#[test]
fn a_locked_backup_outlives_its_neighbours_collection() {
    let bench = Locked::new(11);
    let mut disk = disk(1);
    let first = bench.back_up(&disk, None, Some(3));
    disk.fill(5, 4711);
    let second = bench.back_up(&disk, Some(first), Some(90));
    bench.vault.delete_backup(bench.volume, first).unwrap();
    bench.env.advance(DAY * 20);
    bench.collect_all();
    assert!(bench.restored(second) == disk);
}

/// What somebody with the credentials does to a vault, name by name.
fn rob(bench: &Locked, act: impl Fn(usize) -> u8) -> usize {
    let names = bench.target.names();
    for (number, name) in names.iter().enumerate() {
        bench.target.purge(name);
        match act(number) % 4 {
            0 => bench.target.hide(name),
            1 => bench.target.put_over(name, b"theirs"),
            2 => {
                bench.target.put_over(name, &vec![7; 300 << 10]);
                bench.target.hide(name);
            }
            _ => {}
        }
    }
    names.len()
}

#[test]
fn a_thief_deletes_everything_and_nothing_is_lost() {
    let bench = Locked::new(12);
    let disk = disk(1);
    let backup = bench.back_up(&disk, None, Some(30));
    rob(&bench, |_| 0);
    assert!(bench.restored(backup) == disk, "it is only hidden");
    let reverted = bench.opened().revert(false, &NullMonitor).unwrap();
    assert!(!reverted.restored.is_empty());
    let again = bench.opened().revert(false, &NullMonitor).unwrap();
    assert_eq!(again, Reverted::default());
    let report = bench.opened().check(CheckLevel::Decrypt, &NullMonitor);
    assert_eq!(report.unwrap().affected().len(), 0);
}

#[test]
fn an_older_version_of_a_thief_never_passes_for_ours() {
    let bench = Locked::new(13);
    let disk = disk(1);
    let backup = bench.back_up(&disk, None, Some(30));
    // A proof is not locked: the thief removed it and was the first then.
    let proof = bench.vault.names.proof(bench.volume, backup);
    let whole = bench.target.get_whole(&proof, 1 << 20).unwrap();
    assert!(bench.target.purge(&proof));
    bench.target.put_over(&proof, b"theirs");
    bench.target.put_over(&proof, &whole);
    let reverted = bench.opened().revert(false, &NullMonitor).unwrap();
    assert_eq!(reverted.restored, std::slice::from_ref(&proof));
    assert_eq!(reverted.removed, []);
    assert_eq!(bench.target.get_whole(&proof, 1 << 20).unwrap(), whole);
}

#[test]
fn a_planted_tombstone_deletes_nothing_for_long() {
    let bench = Locked::new(24);
    let disk = disk(1);
    let backup = bench.back_up(&disk, None, Some(30));
    let tombstone = bench.vault.names.tombstone(bench.volume, backup);
    bench.target.put_new(&tombstone, b"theirs").unwrap();
    bench.env.advance(DAY * 20);
    let policy = CollectPolicy::default();
    bench.vault.collect(&policy, &NullMonitor).unwrap_err();
    let reverted = bench.opened().revert(false, &NullMonitor).unwrap();
    assert_eq!(reverted.removed, std::slice::from_ref(&tombstone));
    assert!(bench.restored(backup) == disk);
    bench.collect();
}

#[test]
fn a_dry_run_reverts_nothing() {
    let bench = Locked::new(14);
    bench.back_up(&disk(1), None, Some(30));
    rob(&bench, |_| 1);
    let before = bench.target.versions();
    let would = bench.opened().revert(true, &NullMonitor).unwrap();
    assert_eq!(bench.target.versions(), before);
    let did = bench.opened().revert(false, &NullMonitor).unwrap();
    assert_eq!(would.restored, did.restored);
}

#[test]
fn what_a_thief_locked_above_an_object_is_covered_again() {
    let bench = Locked::new(15);
    let disk = disk(1);
    let backup = bench.back_up(&disk, None, Some(30));
    for name in bench.packs(backup) {
        bench
            .target
            .put_over_locked(&name, b"theirs", bench.in_days(3650));
    }
    let reverted = bench.opened().revert(false, &NullMonitor).unwrap();
    assert_eq!(reverted.lost, []);
    assert!(bench.restored(backup) == disk);
}

#[test]
fn keys_are_rotated_and_the_old_ones_stay_until_their_lock_is_over() {
    let bench = Locked::new(16);
    let disk = disk(1);
    let backup = bench.back_up(&disk, None, Some(30));
    let next = RootKey::generate(&*bench.env);
    let id = bench.vault.id();
    let rotation = keys::rotate(&*bench.target, id, &bench.root, &next, &*bench.env).unwrap();
    assert!(rotation.wrapped);
    assert_eq!((rotation.removed, rotation.locked), (0, 1));
    bench.env.advance(DAY * 40);
    let rotation = keys::rotate(&*bench.target, id, &bench.root, &next, &*bench.env).unwrap();
    assert_eq!((rotation.removed, rotation.locked), (1, 0));
    let bench = Locked {
        root: next,
        ..bench
    };
    assert!(bench.restored(backup) == disk);
}

#[test]
fn locked_backups_are_forgotten_by_a_rotation_and_the_end_of_the_old_root_key() {
    let bench = Locked::new(26);
    bench.back_up(&disk(1), None, Some(30));
    let next = RootKey::generate(&*bench.env);
    let id = bench.vault.id();
    keys::rotate(&*bench.target, id, &bench.root, &next, &*bench.env).unwrap();
    let error = keys::destroy(&*bench.target, id).unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Conflict,
        "the old generation is locked"
    );
    let opened = |root| Vault::open(bench.target.clone(), id, root, bench.env.clone());
    assert!(matches!(opened(&next), Err(Error::WrongKey { .. })));
    assert!(opened(&bench.root).is_ok(), "until that one is destroyed");
}

#[test]
fn a_copy_is_locked_as_long_as_its_backup_was_promised() {
    let bench = Locked::new(17);
    let other = Locked::new(18);
    let until = bench.in_days(20);
    let backup = bench.back_up(&disk(1), None, Some(20));
    other.env.advance(Duration::from_secs(3600));
    let key = (bench.volume, backup);
    let copied = other
        .vault
        .copy_backup(&bench.vault, key, &mut || Ok(()), &NullMonitor);
    assert!(matches!(copied.unwrap(), Copied::Now(_)));
    let other = Locked {
        volume: bench.volume,
        ..other
    };
    assert!(other.is_held(backup, until));
}

#[test]
fn a_mostly_dead_pack_that_is_locked_is_not_emptied() {
    let bench = Locked::new(19);
    let mut disk = disk(1);
    let first = bench.back_up(&disk, None, Some(10));
    (0..58).for_each(|chunk| disk.fill(chunk, 9000 + chunk));
    let second = bench.back_up(&disk, Some(first), Some(10));
    bench.env.advance(DAY * 11);
    bench.vault.delete_backup(bench.volume, first).unwrap();
    let third = bench.back_up(&disk, Some(second), Some(60));
    bench.env.advance(DAY * 9);
    bench.collect_all();
    let policy = RepackPolicy {
        at_least: ByteCount::new(1),
        ..RepackPolicy::default()
    };
    let mut fine = || Ok(());
    let repacked = bench.vault.repack(&policy, &mut fine, &NullMonitor);
    assert_eq!(repacked.unwrap().packs, 0);
    assert!(bench.restored(third) == disk);
}

/// A backup that fails at any call either is not there or is held as long as it was promised.
#[test]
fn wherever_it_fails_a_backup_that_counts_is_held() {
    let bench = Locked::new(20);
    let mut disk = disk(1);
    let first = bench.back_up(&disk, None, Some(2));
    disk.fill(3, 31);
    for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::FailAfter] {
        let mut nth = 0;
        loop {
            let target = Arc::new(FaultTarget::new(bench.target.clone(), nth, fault));
            let id = bench.vault.id();
            let vault = Vault::open(target.clone(), id, &bench.root, bench.env.clone());
            let spec = bench.spec(Some(first), Some(30));
            let done = vault.and_then(|vault| {
                let vault = vault.with_tuning(SMALL);
                let prepared = vault.prepare_backup(&spec, &disk, &NullMonitor)?;
                prepared.commit(&mut || Ok(()))?;
                vault.read_back(bench.volume, spec.backup_id, &NullMonitor)
            });
            let until = spec.keep_until.unwrap();
            if done.is_ok() {
                assert!(bench.is_held(spec.backup_id, until), "{fault:?} at {nth}");
            } else if bench.vault.manifest(bench.volume, spec.backup_id).is_ok() {
                let packs = bench.packs(spec.backup_id);
                let held = |name: &ObjectName| bench.locked_until(name) >= Some(until);
                assert!(packs.iter().all(held), "{fault:?} at {nth}");
            }
            let reaped = bench.vault.reap_backup(bench.volume, spec.backup_id);
            reaped.unwrap();
            if target.calls() <= nth {
                break;
            }
            nth += 7;
        }
    }
}

#[test]
fn a_target_without_locks_costs_no_request_more() {
    let target = Arc::new(FaultTarget::counting(Arc::new(MemoryTarget::new())));
    let name = ObjectName::new("a").unwrap();
    target.put_new(&name, b"1").unwrap();
    let bench = support::Bench::new(21);
    let vault = bench.vault.clone();
    assert!(!vault.is_locked(&name).unwrap());
    assert!(!target.locks());
    assert_eq!(target.calls(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever a thief does, what was promised is restored byte for byte.
    #[test]
    fn whatever_a_thief_does_what_was_promised_is_there(
        acts in prop::collection::vec(any::<u8>(), 64),
        again in prop::collection::vec(any::<u8>(), 64),
        edits in prop::collection::vec((0_u64..80, 1_u64..50), 1..6),
    ) {
        let bench = Locked::new(22);
        let mut disk = disk(2);
        let first = bench.back_up(&disk, None, Some(30));
        let before = disk.clone();
        edits.iter().for_each(|(chunk, seed)| disk.fill(*chunk, *seed));
        let second = bench.back_up(&disk, Some(first), Some(30));
        for acts in [acts, again] {
            rob(&bench, |number| acts[number % acts.len()]);
            let reverted = bench.opened().revert(false, &NullMonitor).unwrap();
            let lost = reverted.lost.iter().map(|(name, _)| bench.vault.names.parse(name));
            let needed = lost.filter(|named| matches!(
                named,
                Some(Named::Pack(_) | Named::Manifest(..) | Named::Keys(_))
            ));
            prop_assert_eq!(needed.count(), 0);
            prop_assert!(bench.restored(first) == before);
            prop_assert!(bench.restored(second) == disk);
        }
    }
}

#[test]
fn a_tracked_increment_is_held_too() {
    let bench = Locked::new(23);
    let mut disk = disk(1);
    let first = bench.back_up(&disk, None, Some(5));
    disk.fill(9, 77);
    let changed = [chunks(9, 1)];
    let spec = BackupSpec {
        changed: Some(&changed),
        ..bench.spec(Some(first), Some(50))
    };
    let prepared = bench.vault.prepare_backup(&spec, &disk, &NullMonitor);
    prepared.unwrap().commit(&mut || Ok(())).unwrap();
    bench
        .vault
        .read_back(bench.volume, spec.backup_id, &NullMonitor)
        .unwrap();
    assert!(bench.is_held(spec.backup_id, spec.keep_until.unwrap()));
}

#[test]
fn keys_that_rot_while_they_are_locked_are_mended_once_and_go_when_their_time_is_over() {
    let bench = Locked::new(24);
    let backup = bench.back_up(&disk(3), None, Some(10));
    let rotted = bench.vault.names.keys(1);
    bench.target.rot(&rotted);
    let mend = || keys::mend(&bench.vault, &bench.root).unwrap();
    assert_eq!(mend(), Some(rotted.clone()));
    assert_eq!(mend(), None);
    assert!(bench.target.has(&rotted).unwrap(), "its lock holds it");
    assert!(bench.restored(backup) == disk(3));
    bench.env.advance(DAY * 20);
    assert_eq!(mend(), Some(rotted.clone()));
    assert!(!bench.target.has(&rotted).unwrap());
}
