//! Packs that are mostly dead are emptied, and go.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stillpoint_model::progress::NullMonitor;
use stillpoint_model::{ByteCount, ErrorKind, id::BackupId};

use super::support::*;
use crate::target::{Fault, FaultTarget};
use crate::*;

const EAGER: RepackPolicy = RepackPolicy {
    alive_percent: 25,
    at_least: ByteCount::from_mib(1),
    at_most: ByteCount::from_gib(1),
    backups: 64,
};

/// Chunks of the disk that are ever filled.
const FILLED: u64 = 640;

/// A vault whose first run left ten packs of which a tenth is still needed, by two backups.
struct Worn {
    bench: Bench,
    kept: Vec<(BackupId, Disk)>,
}

impl Worn {
    fn new(seed: u64) -> Self {
        let bench = Bench::new(seed);
        let mut disk = Disk::new(9000 * CHUNK);
        (0..FILLED).for_each(|chunk| disk.fill(chunk, chunk + 1));
        let first = bench.back_up(&disk, None, None).backup_id;
        (0..FILLED)
            .filter(|chunk| chunk % 10 != 0)
            .for_each(|chunk| disk.fill(chunk, chunk + 10_000));
        let second = bench.back_up(&disk, Some(first), None).backup_id;
        let mut kept = vec![(second, disk.clone())];
        disk.fill(5, 20_000);
        let changed = [chunks(5, 1)];
        let third = bench.back_up(&disk, Some(second), Some(&changed));
        kept.push((third.backup_id, disk));
        bench.vault.delete_backup(bench.volume, first).unwrap();
        let worn = Self { bench, kept };
        worn.collect();
        worn
    }

    fn collect(&self) {
        let policy = CollectPolicy {
            keep_deleted: Duration::ZERO,
            grace: Duration::ZERO,
            confirmed: ByteCount::new(u64::MAX),
            known: self
                .kept
                .iter()
                .map(|(id, _)| (self.bench.volume, *id))
                .collect(),
            ..CollectPolicy::default()
        };
        self.bench.env.advance(Duration::from_secs(1));
        let collect = || self.bench.vault.collect(&policy, &NullMonitor).unwrap();
        while collect().outcome != Outcome::NothingToDo {}
    }

    fn repack(&self) -> Repacked {
        let vault = &self.bench.vault;
        vault.repack(&EAGER, &mut || Ok(()), &NullMonitor).unwrap()
    }

    /// The bytes of all packs.
    fn stored(&self) -> u64 {
        let page = target::Target::list(&*self.bench.target, "", None, 100_000);
        let packs = page.unwrap().entries.into_iter();
        let packs = packs.filter(|entry| entry.name.as_str().contains("/packs/"));
        packs.map(|entry| entry.len.get()).sum()
    }

    fn is_whole(&self, what: &str) {
        for (backup, disk) in &self.kept {
            assert_eq!(self.bench.restored(*backup), *disk, "{what}: {backup}");
        }
        let report = self.bench.vault.check(CheckLevel::Decrypt, &NullMonitor);
        assert!(report.as_ref().unwrap().is_sound(), "{what}: {report:?}");
        let listed = self.bench.vault.list_backups(None).unwrap();
        let listed: BTreeSet<BackupId> = listed.iter().map(|info| info.backup_id).collect();
        let kept = self.kept.iter().map(|(id, _)| *id).collect();
        assert_eq!(listed, kept, "{what}");
    }
}

#[test]
fn what_a_tenth_of_is_needed_goes_with_the_next_collection() {
    let worn = Worn::new(500);
    let before = worn.stored();
    let repacked = worn.repack();
    assert_eq!(repacked.packs, 10);
    assert_eq!((repacked.renewed, repacked.left), (2, 0));
    assert!(
        repacked.stored.get() < before / 8,
        "what they share is stored once: {repacked:?}"
    );
    worn.is_whole("before the collection");
    worn.collect();
    let freed = before.saturating_sub(worn.stored());
    assert!(freed > before / 3, "{before} bytes, {freed} freed");
    let said = repacked.would_free.get();
    assert!(
        said.abs_diff(freed) < freed / 4,
        "{said} said, {freed} freed"
    );
    worn.is_whole("after the collection");
    assert_eq!(worn.repack(), Repacked::default(), "once is enough");
}

#[test]
fn the_next_backup_goes_on_from_the_successor() {
    let mut worn = Worn::new(501);
    worn.repack();
    let (parent, mut disk) = worn.kept[1].clone();
    disk.fill(7, 30_000);
    let changed = [chunks(7, 1)];
    let next = worn.bench.back_up(&disk, Some(parent), Some(&changed));
    assert!(next.stored.get() < 8 * CHUNK, "{}", next.stored);
    worn.kept.push((next.backup_id, disk));
    worn.collect();
    worn.is_whole("with a child");
}

/// A run that began before the renewal has the parent's old tree, and keeps its packs.
#[test]
fn a_backup_that_is_under_way_keeps_what_it_inherits() {
    let mut worn = Worn::new(502);
    let (parent, mut disk) = worn.kept[1].clone();
    disk.fill(7, 30_000);
    let changed = [chunks(7, 1)];
    let bench = &worn.bench;
    let spec = bench.spec(bench.id(), Some(parent), Some(&changed));
    let prepared = bench
        .vault
        .prepare_backup(&spec, &disk, &NullMonitor)
        .unwrap();
    assert_eq!(worn.repack().renewed, 2);
    let policy = CollectPolicy {
        keep_deleted: Duration::ZERO,
        grace: Duration::ZERO,
        confirmed: ByteCount::new(u64::MAX),
        ..CollectPolicy::default()
    };
    let waits = bench.vault.collect(&policy, &NullMonitor).unwrap();
    assert!(matches!(waits.outcome, Outcome::WaitsForRuns(_)));
    prepared.commit(&mut || Ok(())).unwrap();
    worn.kept.push((spec.backup_id, disk));
    worn.collect();
    worn.is_whole("with a child of the old tree");
}

#[test]
fn what_may_be_undeleted_is_left_alone() {
    let worn = Worn::new(503);
    let (bench, (second, _)) = (&worn.bench, &worn.kept[0]);
    bench.vault.delete_backup(bench.volume, *second).unwrap();
    assert_eq!(worn.repack(), Repacked::default());
    bench.vault.undelete_backup(bench.volume, *second).unwrap();
    assert_eq!(worn.repack().renewed, 2);
    worn.is_whole("undeleted");
}

#[test]
fn what_is_mostly_needed_is_left_alone() {
    let bench = Bench::new(504);
    let mut disk = Disk::new(9000 * CHUNK);
    (0..FILLED).for_each(|chunk| disk.fill(chunk, chunk + 1));
    let mut parent = bench.back_up(&disk, None, None).backup_id;
    // Small runs have small frames, which are needed whole.
    for day in 0..3 {
        disk.fill(day, 40_000 + day);
        let changed = [chunks(day, 1)];
        let next = bench.back_up(&disk, Some(parent), Some(&changed));
        parent = next.backup_id;
    }
    let eager = RepackPolicy {
        at_least: ByteCount::ZERO,
        ..EAGER
    };
    let repacked = bench.vault.repack(&eager, &mut || Ok(()), &NullMonitor);
    assert_eq!(repacked.unwrap(), Repacked::default());
}

/// A disk that is served, and a restore that takes its time, go on when their packs went.
#[test]
fn readers_outlive_the_packs_that_they_began_with() {
    let worn = Worn::new(505);
    let (bench, (backup, disk)) = (&worn.bench, &worn.kept[0]);
    let cache = ReadCache::new(ByteCount::ZERO);
    let reader = bench.vault.open_backup(bench.volume, *backup, &cache);
    let reader = reader.unwrap();
    worn.repack();
    worn.collect();
    let len = usize::try_from(FILLED * CHUNK).unwrap();
    let (mut got, mut wanted) = (vec![0; len], vec![0; len]);
    reader.read_at(0, &mut got).unwrap();
    disk.read_at(0, &mut wanted).unwrap();
    assert!(got == wanted);
    // That it found them gone left marks, which would keep packs from being emptied.
    let marks = || bench.vault.marked_packs().unwrap().len();
    assert!(marks() > 0);
    worn.collect();
    assert_eq!(marks(), 0);
}

/// The process dies, or the target fails, at any call.
#[test]
fn a_repack_that_dies_at_any_call_loses_nothing() {
    for fault in [Fault::FailBefore, Fault::CrashBefore, Fault::CrashAfter] {
        let mut nth = 0;
        loop {
            let worn = Worn::new(nth);
            let failing = Arc::new(FaultTarget::new(worn.bench.target.clone(), nth, fault));
            let done = worn
                .bench
                .through(failing.clone())
                .and_then(|vault| vault.repack(&EAGER, &mut || Ok(()), &NullMonitor));
            if failing.calls() <= nth {
                assert_eq!(done.unwrap().renewed, 2);
                break;
            }
            let what = format!("{fault:?} at {nth}");
            let vault = &worn.bench.vault;
            for (volume, backup) in vault.open_runs().unwrap() {
                vault.reap_backup(volume, backup).unwrap();
            }
            for (backup, disk) in &worn.kept {
                assert_eq!(worn.bench.restored(*backup), *disk, "{what}");
            }
            worn.repack();
            worn.collect();
            for (backup, disk) in &worn.kept {
                assert_eq!(worn.bench.restored(*backup), *disk, "{what}, collected");
            }
            nth += 11;
        }
        assert!(nth > 60, "only {nth} calls");
    }
}

#[test]
fn nothing_is_renewed_without_the_callers_word() {
    let worn = Worn::new(506);
    let asked = Mutex::new(0);
    let mut refuse = || {
        *asked.lock().unwrap() += 1;
        Err(ErrorKind::Fenced)
    };
    let vault = &worn.bench.vault;
    let refused = vault.repack(&EAGER, &mut refuse, &NullMonitor);
    assert!(matches!(refused, Err(Error::NotConfirmed { .. })));
    assert_eq!(asked.into_inner().unwrap(), 1);
    for (volume, backup) in vault.open_runs().unwrap() {
        vault.reap_backup(volume, backup).unwrap();
    }
    worn.is_whole("as it was");
}
