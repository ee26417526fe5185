//! How often a target that answers slowly is waited for.
//!
//! Its answers come in rounds: a request waits until as many are there as it answers at once, or
//! until nobody else has come for a while. So what is asked one after the other takes a round each.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use stillpoint_model::id::{BackupId, VolumeId};
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::{ByteCount, ByteRange};

use super::support::*;
use crate::target::{ListPage, ObjectName, Target, TargetError};
use crate::*;

const WIDTH: usize = 8;
/// For how long a round waits for somebody else: threads are started in much less.
const PATIENCE: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Gate {
    waiting: usize,
    rounds: u64,
    requests: u64,
}

/// Answers in rounds of at most [`WIDTH`] requests.
struct Rounds {
    inner: Arc<dyn Target>,
    gate: Mutex<Gate>,
    opened: Condvar,
}

impl Rounds {
    fn before(inner: Arc<dyn Target>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            gate: Mutex::default(),
            opened: Condvar::new(),
        })
    }

    /// Waits for the end of the round.
    fn wait(&self) {
        let mut gate = self.gate.lock().unwrap();
        let mine = gate.rounds;
        gate.requests += 1;
        gate.waiting += 1;
        while gate.rounds == mine {
            let before = gate.waiting;
            let full = before == WIDTH;
            let alone = !full && {
                let (again, waited) = self.opened.wait_timeout(gate, PATIENCE).unwrap();
                gate = again;
                waited.timed_out() && gate.waiting == before
            };
            if gate.rounds == mine && (full || alone) {
                gate.rounds += 1;
                gate.waiting = 0;
                self.opened.notify_all();
            }
        }
    }

    /// Rounds and requests since it was asked last.
    fn taken(&self) -> (u64, u64) {
        let mut gate = self.gate.lock().unwrap();
        (
            std::mem::take(&mut gate.rounds),
            std::mem::take(&mut gate.requests),
        )
    }
}

impl Target for Rounds {
    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), TargetError> {
        self.wait();
        self.inner.put_new(name, bytes)
    }

    fn get(&self, name: &ObjectName, range: ByteRange) -> Result<Vec<u8>, TargetError> {
        self.wait();
        self.inner.get(name, range)
    }

    fn get_whole(&self, name: &ObjectName, most: u64) -> Result<Vec<u8>, TargetError> {
        self.wait();
        self.inner.get_whole(name, most)
    }

    fn has(&self, name: &ObjectName) -> Result<bool, TargetError> {
        self.wait();
        self.inner.has(name)
    }

    fn width(&self) -> usize {
        WIDTH
    }

    fn head(&self, name: &ObjectName) -> Result<ByteCount, TargetError> {
        self.wait();
        self.inner.head(name)
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, TargetError> {
        self.wait();
        self.inner.list(prefix, after, limit)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), TargetError> {
        self.wait();
        self.inner.delete(name)
    }
}

/// A vault with a backup of 24 leaves, in about 20 packs.
struct Slow {
    bench: Bench,
    rounds: Arc<Rounds>,
    vault: Vault,
    disk: Disk,
    first: BackupId,
    packs: u64,
}

/// Chunks of a leaf that hold data: a MiB and a half.
const FILLED: u64 = 96;
const LEAVES: u64 = 24;

impl Slow {
    fn new(seed: u64) -> Self {
        let bench = Bench::new(seed);
        let rounds = Rounds::before(bench.target.clone());
        let mut disk = Disk::new(LEAVES * 4096 * CHUNK);
        for leaf in 0..LEAVES {
            (0..FILLED).for_each(|chunk| disk.fill(leaf * 4096 + chunk, leaf * 4096 + chunk + 1));
        }
        let tuned = |vault: Vault| {
            vault.with_tuning(Tuning {
                pack_len: 1 << 20,
                ..SMALL
            })
        };
        let vault = tuned(bench.through(rounds.clone()).unwrap());
        let bench = Bench {
            vault: tuned(bench.vault),
            ..bench
        };
        let first = bench.back_up(&disk, None, None).backup_id;
        let is_pack = |name: &&ObjectName| name.as_str().contains("/packs/");
        let packs = bench.target.names().iter().filter(is_pack).count() as u64;
        rounds.taken();
        Self {
            bench,
            rounds,
            vault,
            disk,
            first,
            packs,
        }
    }

    fn back_up(&self, volume: VolumeId, parent: Option<BackupId>, disk: &Disk) -> Receipt {
        let spec = BackupSpec {
            volume_id: volume,
            ..self.bench.spec(self.bench.id(), parent, None)
        };
        let prepared = self.vault.prepare_backup(&spec, disk, &NullMonitor);
        let receipt = prepared.unwrap().commit(&mut || Ok(())).unwrap();
        self.vault
            .read_back(volume, receipt.backup_id, &NullMonitor)
            .unwrap();
        receipt
    }
}

/// What a backup, a check or a restore asks whatever it is of.
const ALWAYS: u64 = 24;

#[test]
fn a_repeat_that_reads_everything_waits_for_a_few_rounds() {
    let slow = Slow::new(400);
    assert!(slow.packs > 12, "{}", slow.packs);
    let receipt = slow.back_up(slow.bench.volume, Some(slow.first), &slow.disk);
    assert_eq!(receipt.changed.get(), 0);
    let (rounds, requests) = slow.rounds.taken();
    // Each leaf and each pack is asked for, none of the frames.
    assert!(requests < LEAVES + slow.packs + 2 * ALWAYS, "{requests}");
    let wide = (LEAVES + slow.packs).div_ceil(WIDTH as u64) + LEAVES / 2;
    assert!(rounds < wide + ALWAYS, "{rounds} for {requests}");
}

#[test]
fn a_sibling_waits_for_many_frames_at_once() {
    let slow = Slow::new(401);
    let other = VolumeId::generate(&*slow.bench.env);
    // The same data, all of it together in another place.
    let mut sibling = Disk::new(slow.disk.size);
    for (at, (_, data)) in (5000..).zip(&slow.disk.chunks) {
        sibling.chunks.insert(at, data.clone());
    }
    let receipt = slow.back_up(other, None, &sibling);
    assert!(receipt.stored.get() < 64 * CHUNK, "{}", receipt.stored);
    let (rounds, requests) = slow.rounds.taken();
    let frames = LEAVES * 2;
    assert!(requests > frames, "{requests}");
    assert!(rounds < requests / 3 + ALWAYS, "{rounds} for {requests}");
}

#[test]
fn a_check_waits_for_many_nodes_and_packs_at_once() {
    for level in [CheckLevel::Present, CheckLevel::Decrypt] {
        let slow = Slow::new(402);
        let report = slow.vault.check(level, &NullMonitor).unwrap();
        assert!(report.is_sound(), "{report:?}");
        let (rounds, requests) = slow.rounds.taken();
        assert!(requests >= LEAVES, "{requests}");
        assert!(
            rounds <= requests / 4 + 8,
            "{level:?}: {rounds} for {requests}"
        );
    }
}

#[test]
fn many_small_backups_are_looked_at_together() {
    let slow = Slow::new(403);
    let mut parent = slow.first;
    let mut disk = slow.disk.clone();
    for day in 0..16 {
        disk.fill(day * 4096, 77_000 + day);
        let changed = [chunks(day * 4096, 1)];
        let receipt = slow.bench.back_up(&disk, Some(parent), Some(&changed));
        parent = receipt.backup_id;
    }
    let policy = CollectPolicy::default();
    slow.vault.collect(&policy, &NullMonitor).unwrap();
    let (rounds, requests) = slow.rounds.taken();
    assert!(requests > 16 * 4, "{requests}");
    assert!(
        rounds < requests / 3,
        "a collection: {rounds} for {requests}"
    );
    assert_eq!(slow.vault.list_backups(None).unwrap().len(), 17);
    let (rounds, requests) = slow.rounds.taken();
    assert!(rounds < requests / 2, "a listing: {rounds} for {requests}");
}

#[test]
fn a_restore_waits_for_many_frames_at_once() {
    let slow = Slow::new(404);
    let out = Mutex::new(Disk::new(slow.disk.size));
    slow.vault
        .restore(slow.bench.volume, slow.first, &out, &NullMonitor)
        .unwrap();
    assert_eq!(out.into_inner().unwrap(), slow.disk);
    let (rounds, requests) = slow.rounds.taken();
    assert!(rounds < requests / 3, "{rounds} for {requests}");
}

/// An increment whose changes are scattered asks for the spans of many of them at once.
#[test]
fn a_scattered_increment_waits_for_a_few_rounds() {
    let slow = Slow::new(406);
    let mut disk = slow.disk.clone();
    let mut changed = vec![];
    for (leaf, place) in (0..LEAVES).flat_map(|leaf| [(leaf, 3), (leaf, 70)]) {
        let chunk = leaf * 4096 + place;
        disk.fill(chunk, 90_000 + chunk);
        changed.push(chunks(chunk, 1));
    }
    let spec = slow
        .bench
        .spec(slow.bench.id(), Some(slow.first), Some(&changed));
    let prepared = slow.vault.prepare_backup(&spec, &disk, &NullMonitor);
    let receipt = prepared.unwrap().commit(&mut || Ok(())).unwrap();
    assert_eq!(receipt.changed.get(), LEAVES * 2 * CHUNK);
    assert_eq!(slow.bench.restored(receipt.backup_id), disk);
    let (rounds, requests) = slow.rounds.taken();
    // Its two headers for each leaf, together.
    assert!(requests >= LEAVES * 3, "{requests}");
    assert!(rounds < LEAVES + 10 + ALWAYS, "{rounds} for {requests}");
}

/// What several threads read comes to the same as what one reads.
#[test]
fn a_slow_target_gives_the_same_backups() {
    let slow = Slow::new(405);
    let mut disk = slow.disk.clone();
    for at in 0..200 {
        disk.fill(at * 331 % (LEAVES * 4096), at + 50_000);
    }
    let wide = slow.back_up(slow.bench.volume, Some(slow.first), &disk);
    let narrow = slow.bench.back_up(&disk, Some(slow.first), None);
    assert_eq!(wide.content_hash, narrow.content_hash);
    assert_eq!(wide.changed, narrow.changed);
    assert_eq!(wide.bytes_read, narrow.bytes_read);
    assert_eq!(slow.bench.restored(wide.backup_id), disk);
}
