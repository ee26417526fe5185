//! Collection over the real engine: what goes, what stays, and what makes it stop.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use stillpoint_env::SimEnv;
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::{ByteCount, ByteRange, Env, ErrorKind, Timestamp};

use super::support::*;
use crate::target::{
    Fault, FaultTarget, ListEntry, ListPage, MemoryTarget, ObjectName, Target, TargetError,
};
use crate::*;

/// Everything may go, at once.
fn at_once() -> CollectPolicy {
    CollectPolicy {
        keep_deleted: Duration::ZERO,
        grace: Duration::ZERO,
        confirmed: ByteCount::new(u64::MAX),
        ..CollectPolicy::default()
    }
}

fn collect(vault: &Vault, policy: &CollectPolicy) -> Result<Collected, Error> {
    vault.collect(policy, &NullMonitor)
}

fn disk(seed: u64) -> Disk {
    let mut disk = Disk::new(300 * CHUNK);
    (0..40).for_each(|chunk| disk.fill(chunk * 3, seed * 1000 + chunk));
    disk
}

/// Two backups, the second an increment on the first, and the first deleted.
fn first_deleted(bench: &Bench) -> (Disk, Receipt, Receipt) {
    let first = disk(1);
    let mut second = first.clone();
    (0..40).for_each(|chunk| second.fill(chunk * 3, 5000 + chunk));
    second.fill(200, 7);
    let old = bench.back_up(&first, None, None);
    let new = bench.back_up(&second, Some(old.backup_id), None);
    let vault = &bench.vault;
    vault.delete_backup(bench.volume, old.backup_id).unwrap();
    (second, old, new)
}

fn stored(bench: &Bench) -> u64 {
    let len = |name| bench.target.head(name).unwrap().get();
    bench.target.names().iter().map(len).sum()
}

#[test]
fn what_only_a_deleted_backup_has_goes_and_the_rest_restores() {
    let bench = Bench::new(1);
    let (second, old, new) = first_deleted(&bench);
    let before = stored(&bench);
    let collected = collect(&bench.vault, &at_once()).unwrap();
    assert_eq!(
        (collected.outcome, collected.backups, collected.spared),
        (Outcome::Done, 1, 0)
    );
    assert!(collected.packs > 0 && collected.freed.get() > 0);
    assert!(stored(&bench) < before - collected.freed.get() / 2);
    assert_eq!(bench.restored(new.backup_id), second);
    let gone = bench.vault.describe(bench.volume, old.backup_id);
    assert!(matches!(gone, Err(Error::BackupNotFound(_))), "{gone:?}");
    let check = bench.vault.check(CheckLevel::Decrypt, &NullMonitor);
    assert_eq!(check.unwrap().problems, vec![]);
    assert_eq!(bench.vault.unreferenced().unwrap(), Unreferenced::default());
}

#[test]
fn a_second_collection_finds_nothing_to_do() {
    let bench = Bench::new(2);
    first_deleted(&bench);
    collect(&bench.vault, &at_once()).unwrap();
    let again = collect(&bench.vault, &at_once()).unwrap();
    assert_eq!((again.outcome, again.epoch), (Outcome::NothingToDo, 2));
}

#[test]
fn a_deleted_backup_stays_as_long_as_it_can_be_undeleted() {
    let bench = Bench::new(3);
    let (_, old, _) = first_deleted(&bench);
    let policy = CollectPolicy {
        keep_deleted: Duration::from_secs(100),
        ..at_once()
    };
    let early = collect(&bench.vault, &policy).unwrap();
    assert_eq!(early.outcome, Outcome::NothingToDo);
    bench
        .vault
        .undelete_backup(bench.volume, old.backup_id)
        .unwrap();
    assert_eq!(bench.restored(old.backup_id), disk(1));
    bench
        .vault
        .delete_backup(bench.volume, old.backup_id)
        .unwrap();
    bench.env.advance(Duration::from_secs(101));
    let late = collect(&bench.vault, &policy).unwrap();
    assert_eq!((late.outcome, late.backups), (Outcome::Done, 1));
}

#[test]
fn nothing_is_deleted_before_the_grace_is_over() {
    let bench = Bench::new(4);
    first_deleted(&bench);
    let packs = stored(&bench);
    let policy = CollectPolicy {
        grace: Duration::from_secs(100),
        ..at_once()
    };
    let waits = collect(&bench.vault, &policy).unwrap();
    assert!(matches!(waits.outcome, Outcome::WaitsUntil(_)));
    assert!(stored(&bench) >= packs);
    bench.env.advance(Duration::from_secs(101));
    assert_eq!(
        collect(&bench.vault, &policy).unwrap().outcome,
        Outcome::Done
    );
}

#[test]
fn it_waits_for_a_run_that_began_before_and_keeps_what_that_took() {
    let bench = Bench::new(5);
    let first = disk(1);
    let old = bench.back_up(&first, None, None);
    // It shares everything with the first one, by the index alone.
    let spec = bench.spec(bench.id(), None, None);
    let open = bench
        .vault
        .prepare_backup(&spec, &first, &NullMonitor)
        .unwrap();
    assert!(open.receipt().stored.get() < old.stored.get() / 2);
    let vault = &bench.vault;
    vault.delete_backup(bench.volume, old.backup_id).unwrap();
    let waits = collect(vault, &at_once()).unwrap();
    assert_eq!(waits.outcome, Outcome::WaitsForRuns(vec![open.run_id()]));
    open.commit(&mut || Ok(())).unwrap();
    let done = collect(vault, &at_once()).unwrap();
    assert_eq!((done.outcome, done.spared), (Outcome::Done, 0));
    vault
        .read_back(bench.volume, spec.backup_id, &NullMonitor)
        .unwrap();
    assert_eq!(bench.restored(spec.backup_id), first);
}

#[test]
fn a_run_that_begins_later_shares_nothing_that_is_condemned() {
    let bench = Bench::new(6);
    let first = disk(1);
    let blocker = bench.spec(bench.id(), None, None);
    let blocker = bench
        .vault
        .prepare_backup(&blocker, &disk(2), &NullMonitor)
        .unwrap();
    let old = bench.back_up(&first, None, None);
    let vault = &bench.vault;
    vault.delete_backup(bench.volume, old.backup_id).unwrap();
    collect(vault, &at_once()).unwrap();
    // As if a tombstone had been taken away by somebody who was asleep all the while.
    let names = bench.target.names();
    let tombstone = |name: &&ObjectName| name.as_str().ends_with(".tombstone");
    let tombstone = names.iter().find(tombstone).unwrap();
    bench.target.delete(tombstone).unwrap();
    let later = bench.back_up(&first, None, None);
    assert!(later.stored.get() >= old.stored.get() / 2);
    blocker.abort().unwrap();
    collect(vault, &at_once()).unwrap();
    assert_eq!(bench.restored(later.backup_id), first);
}

#[test]
fn a_parent_that_is_being_collected_is_refused() {
    let bench = Bench::new(7);
    let blocker = bench.spec(bench.id(), None, None);
    let _blocker = bench
        .vault
        .prepare_backup(&blocker, &disk(2), &NullMonitor)
        .unwrap();
    let old = bench.back_up(&disk(1), None, None);
    let vault = &bench.vault;
    vault.delete_backup(bench.volume, old.backup_id).unwrap();
    collect(vault, &at_once()).unwrap();
    let names = bench.target.names();
    let tombstone = |name: &&ObjectName| name.as_str().ends_with(".tombstone");
    bench
        .target
        .delete(names.iter().find(tombstone).unwrap())
        .unwrap();
    let spec = bench.spec(bench.id(), Some(old.backup_id), None);
    let refused = vault.prepare_backup(&spec, &disk(1), &NullMonitor);
    assert!(
        matches!(refused, Err(Error::BeingCollected(_))),
        "{refused:?}"
    );
}

#[test]
fn an_undelete_after_the_plan_is_refused_and_says_so() {
    let bench = Bench::new(8);
    let (_, old, _) = first_deleted(&bench);
    let policy = CollectPolicy {
        grace: Duration::from_secs(100),
        ..at_once()
    };
    collect(&bench.vault, &policy).unwrap();
    let refused = bench.vault.undelete_backup(bench.volume, old.backup_id);
    let refused = refused.unwrap_err();
    assert!(matches!(refused, Error::BeingCollected(_)), "{refused:?}");
    assert_eq!(refused.kind(), ErrorKind::Retry);
}

#[test]
fn more_than_the_share_needs_confirmation_of_the_amount() {
    let bench = Bench::new(9);
    first_deleted(&bench);
    let policy = CollectPolicy {
        confirmed: ByteCount::ZERO,
        ..at_once()
    };
    let Err(Error::Refused(Refusal::TooMuch { bytes, total })) = collect(&bench.vault, &policy)
    else {
        panic!("not refused");
    };
    assert!(bytes.get() * 5 > total.get());
    let confirmed = CollectPolicy {
        confirmed: bytes,
        ..policy
    };
    let done = collect(&bench.vault, &confirmed).unwrap();
    assert_eq!((done.outcome, done.freed), (Outcome::Done, bytes));
}

#[test]
fn below_the_floor_nobody_is_asked() {
    let bench = Bench::new(9);
    first_deleted(&bench);
    let policy = CollectPolicy {
        confirmed: ByteCount::ZERO,
        floor: ByteCount::from_gib(1),
        ..at_once()
    };
    let done = collect(&bench.vault, &policy).unwrap();
    assert_eq!(done.outcome, Outcome::Done);
}

#[test]
fn a_backup_that_the_caller_knows_and_the_vault_lacks_stops_it() {
    let bench = Bench::new(10);
    first_deleted(&bench);
    let missing = bench.id();
    let policy = CollectPolicy {
        known: BTreeSet::from([(bench.volume, missing)]),
        ..at_once()
    };
    let refused = collect(&bench.vault, &policy);
    let wanted = Refusal::KnownMissing(missing);
    assert!(
        matches!(refused, Err(Error::Refused(why)) if why == wanted),
        "{refused:?}"
    );
}

#[test]
fn a_manifest_or_a_node_that_cannot_be_read_stops_it_by_name() {
    for part in [".manifest", "/8000"] {
        let bench = Bench::new(11);
        first_deleted(&bench);
        let names = bench.target.names();
        let newest = names.iter().rfind(|name| name.as_str().contains(part));
        let damaged = newest.unwrap();
        assert!(bench.target.tamper(damaged, |bytes| bytes[100] ^= 1));
        let stopped = collect(&bench.vault, &at_once());
        assert!(
            matches!(&stopped, Err(Error::Corrupt { object, .. }) if object == damaged),
            "{stopped:?}"
        );
    }
}

#[test]
fn a_clock_behind_the_vaults_stops_it() {
    let bench = Bench::new(12);
    first_deleted(&bench);
    bench
        .env
        .jump_to(Timestamp::from_micros(1_600_000_000_000_000));
    let stopped = collect(&bench.vault, &at_once());
    assert!(
        matches!(stopped, Err(Error::Refused(Refusal::ClockBehind { .. }))),
        "{stopped:?}"
    );
}

/// A target whose listings lack some names, and that lets the wall clock jump at each of them.
struct Listing {
    inner: Arc<MemoryTarget>,
    lacks: Vec<String>,
    jumps: Option<Arc<SimEnv>>,
}

impl Target for Listing {
    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), TargetError> {
        self.inner.put_new(name, bytes)
    }

    fn get(&self, name: &ObjectName, range: ByteRange) -> Result<Vec<u8>, TargetError> {
        self.inner.get(name, range)
    }

    fn head(&self, name: &ObjectName) -> Result<ByteCount, TargetError> {
        self.inner.head(name)
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, TargetError> {
        if let Some(env) = &self.jumps {
            env.jump_to(env.now().saturating_add(Duration::from_secs(3600)));
        }
        let mut page = self.inner.list(prefix, after, limit)?;
        let is_in = |entry: &ListEntry, part: &String| entry.name.as_str().contains(part);
        let shown = |entry: &ListEntry| !self.lacks.iter().any(|part| is_in(entry, part));
        page.entries.retain(shown);
        Ok(page)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), TargetError> {
        self.inner.delete(name)
    }
}

fn with_listings(bench: &Bench, lacks: Vec<String>, jumps: Option<Arc<SimEnv>>) -> Vault {
    let inner = bench.target.clone();
    let listing = Listing {
        inner,
        lacks,
        jumps,
    };
    bench.through(Arc::new(listing)).unwrap()
}

#[test]
fn a_backup_that_every_listing_lacks_stops_it() {
    let bench = Bench::new(15);
    let (_, _, new) = first_deleted(&bench);
    let vault = with_listings(&bench, vec![format!("{}.manifest", new.backup_id)], None);
    let refused = collect(&vault, &at_once());
    let wanted = Refusal::Unlisted(new.backup_id);
    assert!(
        matches!(refused, Err(Error::Refused(why)) if why == wanted),
        "{refused:?}"
    );
}

#[test]
fn a_run_of_which_listings_show_nothing_but_packs_stops_it() {
    let bench = Bench::new(16);
    first_deleted(&bench);
    let lacks = ["/index/".to_owned(), "/volumes/".to_owned()];
    let vault = with_listings(&bench, lacks.to_vec(), None);
    let refused = collect(&vault, &at_once());
    assert!(
        matches!(refused, Err(Error::Refused(Refusal::UnlistedRun(_)))),
        "{refused:?}"
    );
}

#[test]
fn a_clock_that_jumps_while_it_collects_stops_it() {
    let bench = Bench::new(17);
    let (_, _, new) = first_deleted(&bench);
    let before = stored(&bench);
    let vault = with_listings(&bench, vec![], Some(bench.env.clone()));
    let refused = collect(&vault, &at_once());
    assert!(
        matches!(refused, Err(Error::Refused(Refusal::ClockJumped(_)))),
        "{refused:?}"
    );
    assert_eq!(stored(&bench), before);
    bench
        .vault
        .read_back(bench.volume, new.backup_id, &NullMonitor)
        .unwrap();
}

#[test]
fn a_backup_that_went_away_by_itself_gives_the_collection_up() {
    let bench = Bench::new(18);
    let (_, _, new) = first_deleted(&bench);
    let lost = bench.back_up(&disk(3), None, None);
    let blocker = bench.spec(bench.id(), None, None);
    let blocker = bench
        .vault
        .prepare_backup(&blocker, &disk(2), &NullMonitor)
        .unwrap();
    collect(&bench.vault, &at_once()).unwrap();
    blocker.abort().unwrap();
    let packs = || {
        let names = bench.target.names();
        let packs = names
            .iter()
            .filter(|name| name.as_str().contains("/packs/"));
        packs.count()
    };
    let before = packs();
    let names = bench.target.names();
    let manifest = format!("{}.manifest", lost.backup_id);
    let manifest = names.iter().find(|name| name.as_str().ends_with(&manifest));
    bench.target.delete(manifest.unwrap()).unwrap();
    let given_up = collect(&bench.vault, &at_once());
    let wanted = Refusal::Vanished(lost.backup_id);
    assert!(
        matches!(given_up, Err(Error::Refused(why)) if why == wanted),
        "{given_up:?}"
    );
    let ended = collect(&bench.vault, &at_once()).unwrap();
    assert_eq!((ended.outcome, packs()), (Outcome::Done, before));
    bench
        .vault
        .read_back(bench.volume, new.backup_id, &NullMonitor)
        .unwrap();
}

#[test]
fn a_damaged_plan_is_given_up_and_the_next_collection_works() {
    let bench = Bench::new(13);
    let (second, _, new) = first_deleted(&bench);
    let blocker = bench.spec(bench.id(), None, None);
    let blocker = bench
        .vault
        .prepare_backup(&blocker, &disk(2), &NullMonitor)
        .unwrap();
    collect(&bench.vault, &at_once()).unwrap();
    blocker.abort().unwrap();
    let names = bench.target.names();
    let plan = names.iter().find(|name| name.as_str().ends_with(".plan"));
    assert!(bench.target.tamper(plan.unwrap(), |bytes| bytes[90] ^= 1));
    let given_up = collect(&bench.vault, &at_once()).unwrap();
    assert_eq!((given_up.outcome, given_up.packs), (Outcome::Done, 0));
    let done = collect(&bench.vault, &at_once()).unwrap();
    assert_eq!((done.outcome, done.backups), (Outcome::Done, 1));
    assert_eq!(bench.restored(new.backup_id), second);
}

#[test]
fn a_reaper_that_slept_takes_nothing_of_a_collected_backup() {
    let bench = Bench::new(14);
    let (second, old, new) = first_deleted(&bench);
    collect(&bench.vault, &at_once()).unwrap();
    // It listed the run's record before the run ended.
    let reaped = bench
        .vault
        .reap_run(bench.volume, old.backup_id, old.run_id)
        .unwrap();
    assert!(reaped);
    assert_eq!(bench.restored(new.backup_id), second);
    let check = bench.vault.check(CheckLevel::Decrypt, &NullMonitor);
    assert_eq!(check.unwrap().problems, vec![]);
}

/// Collects with a fault at call `nth`, then again without; false when it has fewer calls.
fn collect_with(fault: Fault, nth: u64) -> bool {
    let bench = Bench::new(nth);
    let (second, _, new) = first_deleted(&bench);
    let failing = Arc::new(FaultTarget::new(bench.target.clone(), nth, fault));
    let first = bench
        .through(failing.clone())
        .and_then(|vault| collect(&vault, &at_once()));
    if failing.calls() <= nth {
        assert!(first.is_ok(), "{first:?}");
        return false;
    }
    let context = format!("{fault:?} at {nth}");
    let vault = bench.through(bench.target.clone()).unwrap();
    vault
        .read_back(bench.volume, new.backup_id, &NullMonitor)
        .unwrap_or_else(|error| panic!("{context}: {error:?}"));
    while collect(&vault, &at_once()).unwrap().outcome != Outcome::NothingToDo {}
    assert_eq!(bench.restored(new.backup_id), second, "{context}");
    assert_eq!(
        vault.unreferenced().unwrap(),
        Unreferenced::default(),
        "{context}"
    );
    let left = bench.target.names();
    let left: Vec<_> = left
        .iter()
        .filter(|name| name.as_str().contains("/epochs/") || name.as_str().contains(".tombstone"))
        .filter(|name| !name.as_str().ends_with(".done"))
        .collect();
    assert!(left.is_empty(), "{context}: {left:?}");
    true
}

#[test]
fn a_fault_at_any_call_loses_nothing_and_leaves_nothing() {
    for fault in [
        Fault::FailBefore,
        Fault::FailAfter,
        Fault::CrashBefore,
        Fault::CrashAfter,
        Fault::FullFrom,
    ] {
        let calls = (0..).take_while(|&nth| collect_with(fault, nth)).count();
        assert!(calls > 30, "only {calls} calls were tried");
    }
}
