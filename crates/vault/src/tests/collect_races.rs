//! Writers, collectors, those who delete and undelete, crashes and bad listings, interleaved by seed.
//!
//! Before a call to the target anybody's next act may come in between: a backup is prepared,
//! committed or reaped, one is deleted or undeleted, another collector runs or dies on the way, packs
//! are emptied, time passes. Acts nest, so that a backup begins within a collection within a backup. The target drops
//! pages of listings now and then, and crashed processes leave what they have. After all of it every
//! backup that counts restores as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use stillpoint_model::id::BackupId;
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::{ByteCount, ByteRange};

use super::support::*;
use super::torture::{each_seed, figure};
use crate::format::names::Named;
use crate::target::{Fault, FaultTarget, ListPage, MemoryTarget, ObjectName, Target, TargetError};
use crate::*;

/// How deep acts come in between of acts.
const DEPTH: u32 = 3;

/// One volume whose content only a number determines.
fn content(version: u64) -> Disk {
    let mut disk = Disk::new(200 * CHUNK);
    for chunk in 0..24 {
        // Most chunks are of this version or one before, so that versions share.
        disk.fill(chunk * 5, 1 + chunk * 100 + (version + chunk % 4) / 4);
    }
    disk
}

/// What should be true of the backups.
#[derive(Default)]
struct Truth {
    /// Backups that were said to be available, and what is in them.
    live: BTreeMap<BackupId, u64>,
    deleted: BTreeMap<BackupId, u64>,
    /// Data is stored, the manifest is not.
    prepared: Vec<(PreparedBackup, BackupId, u64)>,
    next: u64,
    collected: usize,
    spared: usize,
    renewed: usize,
}

struct World {
    seed: u64,
    bench: Bench,
    truth: Mutex<Truth>,
    depth: AtomicU32,
    thread: ThreadId,
    /// Whether listings lack something now and then.
    bad_listings: bool,
}

/// The target, between whose calls the world goes on.
struct Between {
    world: Arc<World>,
    inner: Arc<MemoryTarget>,
}

impl World {
    fn roll(&self, bound: u64) -> u64 {
        self.bench.env.below(bound)
    }

    fn pick(&self, bound: usize) -> usize {
        usize::try_from(self.roll(bound as u64)).unwrap()
    }

    /// Lets somebody else act, perhaps.
    fn let_act(self: &Arc<Self>, one_in: u64) {
        let is_ours = std::thread::current().id() == self.thread;
        if !is_ours || self.depth.load(Ordering::SeqCst) >= DEPTH || self.roll(one_in) != 0 {
            return;
        }
        self.depth.fetch_add(1, Ordering::SeqCst);
        self.act();
        self.depth.fetch_sub(1, Ordering::SeqCst);
    }

    fn vault(self: &Arc<Self>) -> Option<Vault> {
        let target = Arc::new(Between {
            world: self.clone(),
            inner: self.bench.target.clone(),
        });
        self.bench.through(target).ok()
    }

    /// A process that dies at some call.
    fn dying(self: &Arc<Self>) -> Option<Vault> {
        let between = Arc::new(Between {
            world: self.clone(),
            inner: self.bench.target.clone(),
        });
        let fault = [Fault::CrashBefore, Fault::CrashAfter, Fault::FailAfter];
        let fault = fault[self.pick(3)];
        let nth = self.roll(120);
        self.bench
            .through(Arc::new(FaultTarget::new(between, nth, fault)))
            .ok()
    }

    fn act(self: &Arc<Self>) {
        match self.roll(14) {
            0..3 => self.prepare(),
            3..5 => self.commit(),
            5 => self.reap(),
            6 | 7 => self.delete(),
            8 => self.undelete(),
            9 => self.collect(self.vault()),
            10 => self.collect(self.dying()),
            11 => self.renew(self.vault()),
            12 => self.renew(self.dying()),
            _ => self.bench.env.advance(Duration::from_secs(self.roll(30))),
        }
    }

    fn prepare(self: &Arc<Self>) {
        let Some(vault) = self.vault() else { return };
        let id = self.bench.id();
        let (version, parent) = {
            let mut truth = self.truth.lock().unwrap();
            truth.next += 1;
            let live: Vec<BackupId> = truth.live.keys().copied().collect();
            let parent = match live.len() {
                0 => None,
                some => live.get(self.pick(some + 1)).copied(),
            };
            // Now and then an old version comes back.
            let version = truth.next - self.roll(truth.next.min(5));
            (version, parent)
        };
        let spec = self.bench.spec(id, parent, None);
        // It may fail: its parent may be gone, a listing may be bad.
        if let Ok(prepared) = vault.prepare_backup(&spec, &content(version), &NullMonitor) {
            let mut truth = self.truth.lock().unwrap();
            truth.prepared.push((prepared, id, version));
        }
    }

    fn take_prepared(&self) -> Option<(PreparedBackup, BackupId, u64)> {
        let mut truth = self.truth.lock().unwrap();
        let which = self.pick(truth.prepared.len());
        (which < truth.prepared.len()).then(|| truth.prepared.swap_remove(which))
    }

    fn commit(self: &Arc<Self>) {
        let Some((prepared, id, version)) = self.take_prepared() else {
            return;
        };
        let committed = prepared.commit(&mut || Ok(()));
        let seed = self.seed;
        committed.unwrap_or_else(|error| panic!("seed {seed}: {id} was not committed: {error:?}"));
        let read = self
            .bench
            .vault
            .read_back(self.bench.volume, id, &NullMonitor);
        read.unwrap_or_else(|error| panic!("seed {seed}: {id} is not whole: {error:?}"));
        self.truth.lock().unwrap().live.insert(id, version);
    }

    fn reap(self: &Arc<Self>) {
        if let Some((_, id, _)) = self.take_prepared()
            && let Some(vault) = self.vault()
        {
            let reaped = vault.reap_backup(self.bench.volume, id);
            // A listing without the record leaves it to a later one.
            drop(reaped);
        }
    }

    fn delete(self: &Arc<Self>) {
        let chosen = {
            let truth = self.truth.lock().unwrap();
            let which = self.pick(truth.live.len() + 1);
            truth
                .live
                .iter()
                .nth(which)
                .map(|(id, version)| (*id, *version))
        };
        let (Some((id, version)), Some(vault)) = (chosen, self.vault()) else {
            return;
        };
        // From before the call on nobody may count on it.
        let mut truth = self.truth.lock().unwrap();
        if truth.live.remove(&id).is_none() {
            return;
        }
        drop(truth);
        vault.delete_backup(self.bench.volume, id).unwrap();
        self.truth.lock().unwrap().deleted.insert(id, version);
    }

    /// Gives a backup a successor that shares nothing in some packs.
    fn renew(self: &Arc<Self>, vault: Option<Vault>) {
        let chosen = {
            let truth = self.truth.lock().unwrap();
            let which = self.pick(truth.live.len() + 1);
            truth.live.keys().nth(which).copied()
        };
        let (Some(backup), Some(vault)) = (chosen, vault) else {
            return;
        };
        // A mark keeps packs from being emptied, so that half of the histories have none.
        if self.seed.is_multiple_of(2) {
            return self.empty(&vault);
        }
        let names = self.bench.target.names();
        let is_pack = |name: &&ObjectName| name.as_str().contains("/packs/");
        let packs: Vec<&ObjectName> = names.iter().filter(is_pack).collect();
        if let Some(name) = packs.get(self.pick(packs.len().max(1)))
            && let Some(Named::Pack(pack)) = vault.names.parse(name)
        {
            vault.quarantine(pack);
        }
        // It may fail: the backup may be deleted meanwhile, a listing may be bad.
        let backups = BTreeSet::from([(self.bench.volume, backup)]);
        let (mut open, mut confirm) = (|_, _| Ok(vec![]), || Ok(()));
        if let Ok(repaired) = vault.repair_backups(&backups, &mut open, &mut confirm, &NullMonitor)
        {
            self.truth.lock().unwrap().renewed += repaired.renewed.len();
        }
    }

    /// Has backups do without packs of which anything is dead.
    fn empty(&self, vault: &Vault) {
        let eager = RepackPolicy {
            alive_percent: 100,
            at_least: ByteCount::ZERO,
            backups: 1 + self.pick(3),
            ..RepackPolicy::default()
        };
        if let Ok(repacked) = vault.repack(&eager, &mut || Ok(()), &NullMonitor) {
            self.truth.lock().unwrap().renewed += repacked.renewed;
        }
    }

    fn undelete(self: &Arc<Self>) {
        let chosen = {
            let mut truth = self.truth.lock().unwrap();
            let which = self.pick(truth.deleted.len() + 1);
            let chosen = truth.deleted.keys().nth(which).copied();
            chosen.and_then(|id| truth.deleted.remove_entry(&id))
        };
        let (Some((id, version)), Some(vault)) = (chosen, self.vault()) else {
            return;
        };
        let undeleted = vault.undelete_backup(self.bench.volume, id).is_ok();
        let mut truth = self.truth.lock().unwrap();
        if undeleted {
            truth.live.insert(id, version);
        }
    }

    fn collect(self: &Arc<Self>, vault: Option<Vault>) {
        let policy = CollectPolicy {
            keep_deleted: Duration::from_secs(20),
            grace: Duration::from_secs(self.roll(2) * 15),
            confirmed: ByteCount::new(u64::MAX),
            ..CollectPolicy::default()
        };
        if let Some(Ok(collected)) = vault.map(|vault| vault.collect(&policy, &NullMonitor)) {
            let mut truth = self.truth.lock().unwrap();
            truth.collected += collected.packs;
            truth.spared += collected.spared;
        }
    }

    fn check(&self) {
        let seed = self.seed;
        let truth = self.truth.lock().unwrap();
        for (id, version) in &truth.live {
            let restored = self.bench.restored(*id);
            assert_eq!(restored, content(*version), "seed {seed}: backup {id}");
        }
    }
}

impl Target for Between {
    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), TargetError> {
        self.world.let_act(30);
        self.inner.put_new(name, bytes)
    }

    fn get(&self, name: &ObjectName, range: ByteRange) -> Result<Vec<u8>, TargetError> {
        self.world.let_act(100);
        self.inner.get(name, range)
    }

    fn can_fill_up(&self) -> bool {
        true
    }

    fn head(&self, name: &ObjectName) -> Result<ByteCount, TargetError> {
        self.world.let_act(100);
        self.inner.head(name)
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, TargetError> {
        self.world.let_act(30);
        // A few names at a time, so that much happens between the pages.
        let mut page = self.inner.list(prefix, after, limit.min(20))?;
        if self.world.bad_listings && self.world.roll(60) == 0 {
            match self.world.roll(3) {
                0 => page = ListPage::default(),
                1 => page.more = false,
                _ => drop(page.entries.pop()),
            }
        }
        Ok(page)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), TargetError> {
        self.world.let_act(30);
        self.inner.delete(name)
    }
}

/// One history; how many packs went in it.
fn history(seed: u64, bad_listings: bool) -> usize {
    let bench = Bench::new(seed);
    let world = Arc::new(World {
        seed,
        bench,
        truth: Mutex::default(),
        depth: AtomicU32::new(0),
        thread: std::thread::current().id(),
        bad_listings,
    });
    for _ in 0..40 {
        world.act();
        world.bench.env.advance(Duration::from_secs(world.roll(10)));
    }
    world.check();
    // What is under way ends, and on a target that keeps its promises all that is dead goes.
    let prepared = std::mem::take(&mut world.truth.lock().unwrap().prepared);
    for (prepared, _, _) in prepared {
        prepared.abort().unwrap();
    }
    let vault = world.bench.through(world.bench.target.clone()).unwrap();
    for (backup, _) in vault.unreferenced().unwrap().runs {
        vault.reap_backup(world.bench.volume, backup).unwrap();
    }
    let policy = CollectPolicy {
        keep_deleted: Duration::ZERO,
        grace: Duration::ZERO,
        confirmed: ByteCount::new(u64::MAX),
        known: {
            let truth = world.truth.lock().unwrap();
            let known = truth.live.keys().map(|id| (world.bench.volume, *id));
            known.collect()
        },
        ..CollectPolicy::default()
    };
    world.bench.env.advance(Duration::from_secs(1));
    loop {
        let collected = vault.collect(&policy, &NullMonitor);
        match collected.unwrap_or_else(|error| panic!("seed {seed}: {error:?}")) {
            Collected {
                outcome: Outcome::NothingToDo,
                ..
            } => break,
            collected => world.truth.lock().unwrap().collected += collected.packs,
        }
    }
    world.check();
    let left = vault.unreferenced().unwrap();
    assert_eq!(left.runs, vec![], "seed {seed}");
    let truth = world.truth.lock().unwrap();
    assert!(
        bad_listings || truth.spared == 0,
        "seed {seed}: a doomed pack was in use"
    );
    truth.collected
}

#[test]
fn whatever_comes_in_between_every_backup_restores() {
    each_seed("collection", "packs collected", 0..figure(400), |seed| {
        history(seed, false) as u64
    });
}

#[test]
fn listings_that_lack_something_lose_nothing() {
    let seeds = 1_000_000..1_000_000 + figure(100);
    each_seed(
        "collection, bad listings",
        "packs collected",
        seeds,
        |seed| history(seed, true) as u64,
    );
}
