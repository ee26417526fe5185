//! A guest that never stops writing, while its disks are captured and merged, and while the pool,
//! the machine or both end at any moment.
//!
//! It writes to two disks in lock-step: write `n` goes to one block of the first disk, then to the
//! same block of the second, with a checksum. So what a capture shows tells when it was taken:
//! every write up to some `n` and none after it, on both disks the same but for the last. A capture
//! that comes when the machine has just crashed shows what the crash left, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stillpoint_env::{SimEnv, SystemEnv};
use stillpoint_model::id::{PoolId, SnapshotId, VolumeId};
use stillpoint_model::item::FreezePolicy;
use stillpoint_model::layer_tree::MergeCandidate;
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::{ByteCount, Env};

use super::daemon::Daemon;
use super::{LiveFolder, Machine};
use crate::conformance::Storage;
use crate::live::LiveHost;
use crate::qcow2::Qcow2Driver;
use crate::qcow2::disk::stop;
use crate::{BLOCK_SIZE, Error, LayerPool, Pool};

const ROUNDS: u64 = 24;
const KILLS: u64 = 20;
/// Where the child finds what to do.
const ORDER: &str = "STILLPOINT_LIVE_KILL_TEST";
const BLOCKS: u64 = 256;
const BLOCK: usize = 4096;
const SIZE: ByteCount = ByteCount::new(BLOCKS * BLOCK_SIZE);
/// How many writes go by between two flushes.
const FLUSH: u64 = 16;

/// The block that write `n` goes to.
const fn place(n: u64) -> u64 {
    n * 61 % BLOCKS
}

/// What write `n` leaves there.
fn content(n: u64) -> Vec<u8> {
    let mut block = vec![u8::try_from(n % 251).unwrap(); BLOCK];
    block[..8].copy_from_slice(&n.to_le_bytes());
    let hash = blake3::hash(&block[..BLOCK - 32]);
    block[BLOCK - 32..].copy_from_slice(hash.as_bytes());
    block
}

/// Which write a block is from; zero for none.
fn write_of(block: &[u8]) -> u64 {
    let n = u64::from_le_bytes(block[..8].try_into().unwrap());
    assert!(
        block.iter().all(|byte| *byte == 0) || block == content(n),
        "a block is torn: {n}"
    );
    n
}

/// The guest.
struct Writer {
    is_over: Arc<AtomicBool>,
    /// The last write that began.
    issued: Arc<AtomicU64>,
    /// The last that was flushed.
    flushed: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Writer {
    fn start(machine: &Machine, disks: [VolumeId; 2], first: u64) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let [issued, flushed] = [first, first].map(|n| Arc::new(AtomicU64::new(n - 1)));
        let mut guests = disks.map(|disk| machine.daemon().guest(disk));
        let over = Arc::clone(&is_over);
        let (began, durable) = (Arc::clone(&issued), Arc::clone(&flushed));
        let thread = std::thread::spawn(move || {
            for n in first.. {
                if over.load(Ordering::Relaxed) {
                    if guests.iter_mut().all(|guest| guest.flush().is_ok()) {
                        durable.store(n - 1, Ordering::SeqCst);
                    }
                    return;
                }
                began.store(n, Ordering::SeqCst);
                for guest in &mut guests {
                    let written = guest.write(place(n) * BLOCK_SIZE, &content(n));
                    if written.is_err() || (n % FLUSH == 0 && guest.flush().is_err()) {
                        return;
                    }
                }
                if n % FLUSH == 0 {
                    durable.store(n, Ordering::SeqCst);
                }
            }
        });
        // What is captured from here on shows that this guest writes, not what one before it left.
        while issued.load(Ordering::SeqCst) <= first && !thread.is_finished() {
            std::thread::yield_now();
        }
        Self {
            is_over,
            issued,
            flushed,
            thread,
        }
    }

    /// Ends the guest; the last write that was flushed, and the last that began.
    fn end(self) -> (u64, u64) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        let last = |n: &AtomicU64| n.load(Ordering::SeqCst);
        (last(&self.flushed), last(&self.issued))
    }
}

/// What the guest did: the first writes since the machine ended without warning.
struct History {
    epochs: Vec<u64>,
}

impl History {
    /// The last write that a capture of one disk shows; it must show all before.
    fn instant(&self, disk: &[u8], what: &str) -> u64 {
        let seen: Vec<u64> = disk.chunks(BLOCK).map(write_of).collect();
        let last = seen.iter().copied().max().unwrap();
        let epoch = self.epochs.iter().rev().find(|first| **first <= last);
        let epoch = epoch.copied().unwrap_or(1);
        for (block, seen) in (0..BLOCKS).zip(&seen) {
            let due = (epoch..=last).rev().take(usize::try_from(BLOCKS).unwrap());
            match due.into_iter().find(|n| place(*n) == block) {
                Some(due) => assert_eq!(*seen, due, "{what}: block {block} at {last}"),
                None => assert!(*seen < epoch, "{what}: block {block} at {last}"),
            }
        }
        last
    }
}

/// What is done, for whoever reads of a failure, and for the parent of a child that is killed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Said {
    Takes([SnapshotId; 2]),
    Took([SnapshotId; 2]),
    Drops([SnapshotId; 2]),
    Merges(MergeCandidate),
}

fn say(said: &Said) {
    eprintln!("{}", serde_json::to_string(said).unwrap());
}

/// What a child needs to go on with a scene.
#[derive(Serialize, Deserialize)]
struct Order {
    pool: PathBuf,
    id: PoolId,
    daemon: PathBuf,
    disks: [VolumeId; 2],
    taken: Vec<[SnapshotId; 2]>,
    seed: u64,
}

struct Scene {
    folder: LiveFolder,
    env: Arc<dyn Env>,
    disks: [VolumeId; 2],
    history: History,
    /// The pairs of snapshots that must be there.
    taken: Vec<[SnapshotId; 2]>,
    /// What captures of a machine that had crashed show.
    left: BTreeMap<SnapshotId, Vec<u8>>,
    next: u64,
}

impl Scene {
    fn new() -> Self {
        let env: Arc<dyn Env> = Arc::new(SimEnv::new(131));
        let folder = LiveFolder::new(env.as_ref());
        let disks = [(); 2].map(|()| VolumeId::generate(env.as_ref()));
        let scene = Self {
            folder,
            env,
            disks,
            history: History { epochs: vec![1] },
            taken: Vec::new(),
            left: BTreeMap::new(),
            next: 1,
        };
        let pool = scene.open();
        for disk in disks {
            pool.create_volume(disk, SIZE).unwrap();
        }
        scene.attach(&pool);
        scene
    }

    fn open(&self) -> LayerPool<Qcow2Driver> {
        let pool = LayerPool::open(self.folder.driver(), Arc::clone(&self.env)).unwrap();
        pool.connect(Arc::<Machine>::clone(&self.folder.machine));
        pool
    }

    fn attach(&self, pool: &LayerPool<Qcow2Driver>) {
        for disk in self.disks {
            let graph = pool.block_graph(disk).unwrap();
            self.folder.machine.daemon().attach(disk, &graph);
        }
    }

    fn below(&self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.env.fill_random(&mut bytes);
        u64::from_le_bytes(bytes) % bound
    }

    /// One thing that the pool is asked to do.
    fn act(&mut self, pool: &LayerPool<Qcow2Driver>) -> Result<(), Error> {
        match self.below(4) {
            0 | 1 if self.taken.len() < 6 => {
                let pair = [(); 2].map(|()| SnapshotId::generate(self.env.as_ref()));
                let set: Vec<_> = self.disks.into_iter().zip(pair).collect();
                say(&Said::Takes(pair));
                pool.snapshot_together(&set, FreezePolicy::Skip)?;
                say(&Said::Took(pair));
                self.taken.push(pair);
                Ok(())
            }
            2 if !self.taken.is_empty() => {
                let at = usize::try_from(self.below(self.taken.len() as u64)).unwrap();
                let pair = self.taken.swap_remove(at);
                say(&Said::Drops(pair));
                pair.into_iter().try_for_each(|s| pool.delete_snapshot(s))
            }
            _ => match pool.merge_candidates().first() {
                Some(candidate) => {
                    say(&Said::Merges(*candidate));
                    pool.merge(candidate, &NullMonitor).map(drop)
                }
                None => Ok(()),
            },
        }
    }

    /// Everything that is there proves what it is.
    fn check(&self, pool: &LayerPool<Qcow2Driver>, when: &str) {
        assert_eq!(pool.damage().unwrap(), Vec::<String>::new(), "{when}");
        for pair in &self.taken {
            let [a, b] = pair.map(|snapshot| {
                let layer = pool.snapshot_layer(snapshot).unwrap();
                pool.verify_snapshot(snapshot, &NullMonitor).unwrap();
                (snapshot, read(pool, layer))
            });
            if self.is_left(&a, when) && self.is_left(&b, when) {
                continue;
            }
            let [a, b] = [a, b].map(|(snapshot, content)| {
                let what = format!("{when}: {snapshot}");
                self.history.instant(&content, &what)
            });
            assert!(a == b || a == b + 1, "{when}: the disks show {a} and {b}");
        }
        let tree = pool.tree();
        for (_, record) in tree.records() {
            for (snapshot, taken) in &record.snapshots {
                let shown = (*snapshot, read(pool, taken.layer));
                if !self.is_left(&shown, when) {
                    let what = format!("{when}: {snapshot}, perhaps nobody was told of");
                    self.history.instant(&shown.1, &what);
                }
            }
        }
    }

    /// Whether a snapshot shows what a crash left, and still does.
    fn is_left(&self, (snapshot, content): &(SnapshotId, Vec<u8>), when: &str) -> bool {
        let left = self.left.get(snapshot);
        assert!(
            left.is_none_or(|left| left == content),
            "{when}: {snapshot} shows something else"
        );
        left.is_some()
    }

    /// The machine crashed and is back. Captures that are not from `before` and came after the
    /// crash show what its disks show now.
    fn note_crash(&mut self, pool: &LayerPool<Qcow2Driver>, before: &BTreeSet<SnapshotId>) {
        let tree = pool.tree();
        for disk in self.disks {
            let now = self.content(disk);
            for (snapshot, taken) in &tree.record(disk).unwrap().snapshots {
                if !before.contains(snapshot) && read(pool, taken.layer) == now {
                    self.left.insert(*snapshot, now.clone());
                }
            }
        }
    }

    fn content(&self, disk: VolumeId) -> Vec<u8> {
        let mut guest = self.folder.machine.daemon().guest(disk);
        let mut content = vec![0; usize::try_from(guest.size()).unwrap()];
        guest.read(0, &mut content).unwrap();
        content
    }

    /// The guest is over: its disks show every write, or after a crash all that were flushed.
    fn check_disks(&self, (flushed, issued): (u64, u64), has_crashed: bool, when: &str) {
        for disk in self.disks {
            let content = self.content(disk);
            if !has_crashed {
                assert_eq!(self.history.instant(&content, when), issued, "{when}");
                continue;
            }
            let first = *self.history.epochs.last().unwrap();
            for (block, piece) in (0..BLOCKS).zip(content.chunks(BLOCK)) {
                let seen = write_of(piece);
                let due = (first..=flushed).rev().find(|n| place(*n) == block);
                assert!(
                    seen >= due.unwrap_or(0),
                    "{when}: block {block} is back at {seen}"
                );
                assert!(seen <= issued, "{when}: block {block} is ahead");
            }
        }
    }
}

fn read(pool: &LayerPool<Qcow2Driver>, layer: stillpoint_model::id::LayerId) -> Vec<u8> {
    let reader = pool.open_layer(layer).unwrap();
    let mut content = vec![0xff; usize::try_from(reader.size().get()).unwrap()];
    reader.read_at(0, &mut content).unwrap();
    content
}

fn snapshots(pool: &LayerPool<Qcow2Driver>) -> BTreeSet<SnapshotId> {
    let tree = pool.tree();
    let taken = tree.records().map(|(_, record)| &record.snapshots);
    taken.flat_map(BTreeMap::keys).copied().collect()
}

/// Ends the machine after a while.
fn end_later(machine: &Arc<Machine>, wait: Duration) -> JoinHandle<()> {
    let daemon = machine.daemon();
    std::thread::spawn(move || {
        let clock = SystemEnv::new();
        let start = clock.monotonic();
        while clock.monotonic().saturating_sub(start) < wait {
            std::thread::yield_now();
        }
        daemon.kill();
    })
}

#[test]
fn whatever_ends_while_a_guest_writes_every_item_proves_its_content() {
    let mut scene = Scene::new();
    let (mut cut_off, mut crashes) = (0, 0);
    for round in 0..ROUNDS {
        let when = format!("round {round}");
        let machine = Arc::clone(&scene.folder.machine);
        let writer = Writer::start(&machine, scene.disks, scene.next);
        let pool = scene.open();
        let before = snapshots(&pool);
        let crash = (round % 2 == 1)
            .then(|| end_later(&machine, Duration::from_micros(scene.below(60_000))));
        let is_cut = round % 4 != 0;
        if is_cut {
            stop::after(scene.below(150));
        }
        eprintln!("-- {when}, cut {is_cut}, crash {}", crash.is_some());
        for _ in 0..12 {
            if let Err(error) = scene.act(&pool) {
                eprintln!("{error}");
                break;
            }
        }
        drop(pool);
        cut_off += u64::from(stop::never());
        let has_crashed = crash.map(|thread| thread.join().unwrap()).is_some();
        let written = writer.end();
        scene.next = written.1 + 1;
        if has_crashed {
            crashes += 1;
            machine.revive();
        }
        let pool = scene.open();
        if has_crashed {
            scene.attach(&pool);
            scene.note_crash(&pool, &before);
        }
        scene.check(&pool, &when);
        scene.check_disks(written, has_crashed, &when);
        if has_crashed {
            scene.history.epochs.push(scene.next);
        }
    }
    assert!(
        crashes == ROUNDS / 2 && cut_off > 1,
        "{crashes} crashes, {cut_off} ends"
    );
}

/// Not a test: the child. It does one thing after the other until it is killed.
#[test]
#[ignore = "the child of the test below"]
fn child() {
    let Ok(order) = std::env::var(ORDER) else {
        return;
    };
    let order: Order = serde_json::from_str(&order).unwrap();
    let machine = Machine::new(Daemon::of(order.daemon, &order.disks));
    let mut scene = Scene {
        folder: LiveFolder {
            path: order.pool,
            _own: None,
            id: order.id,
            machine: Arc::new(machine),
        },
        env: Arc::new(SimEnv::new(order.seed)),
        disks: order.disks,
        history: History { epochs: Vec::new() },
        taken: order.taken,
        left: BTreeMap::new(),
        next: 0,
    };
    let pool = scene.open();
    loop {
        scene.act(&pool).unwrap();
    }
}

impl Scene {
    /// Lets a child work for a while and kills it.
    fn kill_a_child(&mut self, seed: u64) {
        let daemon = self.folder.machine.daemon();
        daemon.hang_up();
        let order = Order {
            pool: self.folder.path.clone(),
            id: self.folder.id,
            daemon: daemon.path().to_owned(),
            disks: self.disks,
            taken: self.taken.clone(),
            seed,
        };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "qcow2::tests::live::writer::child"])
            .args(["--ignored", "--nocapture"])
            .env(ORDER, serde_json::to_string(&order).unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let (lines, micros) = (1 + self.below(25), self.below(4000));
        let clock = SystemEnv::new();
        let mut count = 0;
        while let Some(Ok(line)) = said.next() {
            match serde_json::from_str(&line) {
                Ok(Said::Took(pair)) => self.taken.push(pair),
                Ok(Said::Drops(pair)) => self.taken.retain(|taken| *taken != pair),
                Ok(Said::Takes(_) | Said::Merges(_)) => {}
                Err(_) => assert!(!line.contains("panicked"), "the child: {line}"),
            }
            count += 1;
            if count == lines {
                let start = clock.monotonic();
                while clock.monotonic().saturating_sub(start) < Duration::from_micros(micros) {
                    std::thread::yield_now();
                }
                child.kill().unwrap();
            }
        }
        let _reaped = child.wait().unwrap();
    }
}

#[test]
fn killed_at_any_moment_the_pool_loses_nothing_of_a_guest_that_goes_on() {
    let mut scene = Scene::new();
    let machine = Arc::clone(&scene.folder.machine);
    let writer = Writer::start(&machine, scene.disks, 1);
    for kill in 0..KILLS {
        scene.kill_a_child(1000 + kill);
        let pool = scene.open();
        scene.check(&pool, &format!("kill {kill}"));
    }
    let written = writer.end();
    scene.check_disks(written, false, "at the end");
    assert!(written.1 > 1000, "the guest wrote {} times", written.1);
}

#[test]
fn two_disks_show_the_same_instant() {
    let mut scene = Scene::new();
    let machine = Arc::clone(&scene.folder.machine);
    let writer = Writer::start(&machine, scene.disks, 1);
    let pool = scene.open();
    for _ in 0..20 {
        let pair = [(); 2].map(|()| SnapshotId::generate(scene.env.as_ref()));
        let set: Vec<_> = scene.disks.into_iter().zip(pair).collect();
        let first = pool.snapshot_together(&set, FreezePolicy::Skip).unwrap();
        let again = pool.snapshot_together(&set, FreezePolicy::Skip).unwrap();
        for (first, again) in first.iter().zip(&again) {
            assert_eq!((first.layer, first.tip), (again.layer, again.tip));
        }
        scene.taken.push(pair);
    }
    scene.check(&pool, "while the guest writes");
    let doomed: Vec<_> = scene.taken.drain(..15).flatten().collect();
    for snapshot in doomed {
        pool.delete_snapshot(snapshot).unwrap();
    }
    while let Some(candidate) = pool.merge_candidates().first() {
        pool.merge(candidate, &NullMonitor).unwrap();
    }
    scene.check(&pool, "after merges while the guest writes");
    let written = writer.end();
    scene.check_disks(written, false, "at the end");
    let host: &dyn LiveHost = machine.as_ref();
    let depth = host.open_chain(scene.disks[0]).unwrap().unwrap().len();
    assert!(depth <= 7, "{depth} layers are open");
}
