//! `kill -9` at random moments: a child process walks at random on a pool and says what it does;
//! the test kills it, opens the pool, proves every item, and lets the next child go on.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use stillpoint_env::SystemEnv;
use stillpoint_model::id::{PoolId, SnapshotId, VolumeId};
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::task::CloneSource;
use stillpoint_model::{ByteCount, Env};

use super::{Bench, read};
use crate::qcow2::Qcow2Driver;
use crate::{BLOCK_SIZE, Driver, LayerPool, Pool};

const KILLS: u64 = 40;
const BLOCKS: u64 = 128;
const SIZE: ByteCount = ByteCount::new(BLOCKS * BLOCK_SIZE);
/// Where the child finds its pool and its seed.
const ORDER: &str = "STILLPOINT_KILL_TEST";

/// What the child does next.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Act {
    Create(VolumeId),
    /// First block, how many, and what they are filled with.
    Write(VolumeId, u64, u64, u8),
    Snapshot(VolumeId, SnapshotId),
    RollBack(VolumeId, SnapshotId, SnapshotId),
    Clone(SnapshotId, VolumeId),
    Restore(VolumeId, u8),
    Switch(VolumeId, VolumeId, SnapshotId),
    DeleteVolume(VolumeId),
    DeleteSnapshot(SnapshotId),
    Merge,
}

/// Does it; done before, it stays as it is.
fn act(bench: &Bench, act: Act) {
    let pool = bench.open();
    match act {
        Act::Create(volume) => drop(pool.create_volume(volume, SIZE).unwrap()),
        Act::Write(volume, first, count, byte) => {
            let tip = pool.volume(volume).unwrap().tip;
            drop(pool);
            let driver = Qcow2Driver::open(&bench.pool, bench.id).unwrap();
            let writer = driver.reopen_layer(tip, SIZE).unwrap();
            let len = usize::try_from(count * BLOCK_SIZE).unwrap();
            writer
                .write_at(first * BLOCK_SIZE, &vec![byte; len])
                .unwrap();
            writer.finish().unwrap();
        }
        Act::Snapshot(volume, snapshot) => drop(pool.snapshot(volume, snapshot).unwrap()),
        Act::RollBack(volume, snapshot, safety) => {
            pool.roll_back(volume, snapshot, safety).unwrap();
        }
        Act::Clone(snapshot, volume) => {
            let source = CloneSource::Snapshot(snapshot);
            pool.clone_volume(source, volume).unwrap();
        }
        Act::Restore(volume, _) if pool.volume(volume).is_ok() => {}
        Act::Restore(volume, byte) => {
            let writer = pool.begin_restore(volume, SIZE).unwrap();
            let half = usize::try_from(SIZE.get() / 2).unwrap();
            writer.write_at(0, &vec![byte; half]).unwrap();
            writer.finish().unwrap();
        }
        Act::Switch(volume, staged, safety) => {
            pool.switch(volume, staged, safety).unwrap();
        }
        Act::DeleteVolume(volume) => pool.delete_volume(volume).unwrap(),
        Act::DeleteSnapshot(snapshot) => pool.delete_snapshot(snapshot).unwrap(),
        Act::Merge => {
            if let Some(candidate) = pool.merge_candidates().first() {
                pool.merge(candidate, &NullMonitor).unwrap();
            }
        }
    }
}

/// Full copies of everything that must be there.
#[derive(Default)]
struct Copies {
    volumes: BTreeMap<VolumeId, Vec<u8>>,
    snapshots: BTreeMap<SnapshotId, (VolumeId, Vec<u8>)>,
}

impl Copies {
    fn apply(&mut self, act: Act) {
        let len = usize::try_from(SIZE.get()).unwrap();
        match act {
            Act::Create(volume) => drop(self.volumes.insert(volume, vec![0; len])),
            Act::Write(volume, first, count, byte) => {
                let at = |block: u64| usize::try_from(block * BLOCK_SIZE).unwrap();
                let copy = self.volumes.get_mut(&volume).unwrap();
                copy[at(first)..at(first + count)].fill(byte);
            }
            Act::Snapshot(volume, snapshot) => {
                let copy = self.volumes[&volume].clone();
                self.snapshots.insert(snapshot, (volume, copy));
            }
            Act::RollBack(volume, snapshot, safety) => {
                let content = self.snapshots[&snapshot].1.clone();
                let before = self.volumes.insert(volume, content).unwrap();
                self.snapshots.insert(safety, (volume, before));
            }
            Act::Clone(snapshot, volume) => {
                let content = self.snapshots[&snapshot].1.clone();
                self.volumes.insert(volume, content);
            }
            Act::Restore(volume, byte) => {
                let mut content = vec![byte; len / 2];
                content.resize(len, 0);
                self.volumes.insert(volume, content);
            }
            Act::Switch(volume, staged, safety) => {
                let content = self.volumes.remove(&staged).unwrap();
                let before = self.volumes.insert(volume, content).unwrap();
                self.snapshots.insert(safety, (volume, before));
            }
            Act::DeleteVolume(volume) => drop(self.volumes.remove(&volume)),
            Act::DeleteSnapshot(snapshot) => drop(self.snapshots.remove(&snapshot)),
            Act::Merge => {}
        }
    }

    fn check(&self, pool: &LayerPool<Qcow2Driver>, when: &str) {
        assert_eq!(pool.damage().unwrap(), Vec::<String>::new(), "{when}");
        for (volume, copy) in &self.volumes {
            let tip = pool.volume(*volume).unwrap().tip;
            assert!(read(pool, tip) == *copy, "{when}: volume {volume}");
        }
        for (snapshot, (_, copy)) in &self.snapshots {
            pool.verify_snapshot(*snapshot, &NullMonitor).unwrap();
            let layer = pool.snapshot_layer(*snapshot).unwrap();
            assert!(read(pool, layer) == *copy, "{when}: snapshot {snapshot}");
        }
    }
}

/// The next act, from what the pool holds.
fn choose(bench: &Bench) -> Act {
    let tree = bench.open().tree();
    let live = tree.records().filter(|(_, record)| record.tip.is_some());
    let volumes: Vec<VolumeId> = live.map(|(id, _)| id).collect();
    let of = |(volume, record): (VolumeId, &stillpoint_model::layer_tree::VolumeRecord)| {
        let ids: Vec<_> = record.snapshots.keys().map(|s| (volume, *s)).collect();
        ids
    };
    let snapshots: Vec<(VolumeId, SnapshotId)> = tree.records().flat_map(of).collect();
    let below = |count: usize| usize::try_from(bench.below(count as u64)).unwrap();
    let byte = u8::try_from(1 + bench.below(250)).unwrap();
    if volumes.len() < 2 {
        return Act::Create(bench.volume());
    }
    let volume = volumes[below(volumes.len())];
    let other = volumes[below(volumes.len())];
    let picked = (!snapshots.is_empty()).then(|| snapshots[below(snapshots.len())]);
    match (bench.below(12), picked) {
        (0, Some((owner, snapshot))) if tree.tip(owner).is_some() => {
            Act::RollBack(owner, snapshot, bench.snapshot())
        }
        (1, Some((_, snapshot))) if volumes.len() < 5 => Act::Clone(snapshot, bench.volume()),
        (2, _) if volumes.len() < 5 => Act::Restore(bench.volume(), byte),
        (3, _) if volume != other => Act::Switch(volume, other, bench.snapshot()),
        (4, _) => Act::DeleteVolume(volume),
        (5 | 6, Some((_, snapshot))) => Act::DeleteSnapshot(snapshot),
        (7 | 8, _) => Act::Merge,
        (9, _) if snapshots.len() < 12 => Act::Snapshot(volume, bench.snapshot()),
        _ => {
            let first = bench.below(BLOCKS);
            let count = 1 + bench.below((BLOCKS - first).min(40));
            Act::Write(volume, first, count, byte)
        }
    }
}

/// Not a test: the child. It walks until it is killed.
#[test]
#[ignore = "the child of the test below"]
fn child() {
    let Ok(order) = std::env::var(ORDER) else {
        return;
    };
    let (path, id, seed): (PathBuf, PoolId, u64) = serde_json::from_str(&order).unwrap();
    let mut bench = Bench::in_folder(tempfile::tempdir().unwrap(), seed);
    bench.id = id;
    bench.pool = path.join("pool");
    let mut out = std::io::stderr();
    loop {
        let next = choose(&bench);
        writeln!(out, "{}", serde_json::to_string(&next).unwrap()).unwrap();
        act(&bench, next);
        writeln!(out, "done").unwrap();
    }
}

/// Lets a child walk, kills it, and answers what it did and what it was doing.
fn walk(bench: &Bench, seed: u64) -> (Vec<Act>, Option<Act>) {
    let clock = SystemEnv::new();
    let order = serde_json::to_string(&(bench.folder.path(), bench.id, seed)).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "qcow2::tests::kill::child",
            "--ignored",
            "--nocapture",
        ])
        .env(ORDER, order)
        // What it makes for itself goes with the parent's folder; it cannot clean up.
        .env("TMPDIR", bench.folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (lines, micros) = (5 + bench.below(120), bench.below(3000));
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let (mut done, mut doing) = (Vec::new(), None);
    let mut count = 0;
    while let Some(Ok(line)) = said.next() {
        if line == "done" {
            done.extend(doing.take());
        } else if let Ok(act) = serde_json::from_str(&line) {
            doing = Some(act);
        } else {
            // A line that was cut off tells of an act that had not begun.
            assert!(!line.contains("panicked"), "the child: {line}");
        }
        count += 1;
        if count == lines {
            let start = clock.monotonic();
            while (clock.monotonic().saturating_sub(start)).as_micros() < u128::from(micros) {
                std::thread::yield_now();
            }
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    (done, doing)
}

#[test]
fn killed_at_any_moment_nothing_is_lost_and_nothing_is_left() {
    let bench = Bench::new(61);
    let mut copies = Copies::default();
    drop(bench.open());
    let mut cut_off = 0;
    for kill in 0..KILLS {
        let (done, doing) = walk(&bench, 1000 + kill);
        done.into_iter().for_each(|act| copies.apply(act));
        if let Some(doing) = doing {
            // It happened, or not, or half: doing it again makes it whole.
            cut_off += 1;
            act(&bench, doing);
            copies.apply(doing);
        }
        let pool = bench.open();
        let when = format!("kill {kill} in {doing:?}");
        copies.check(&pool, &when);
        let orphans = pool.orphans().unwrap();
        pool.reap(&orphans).unwrap();
        copies.check(&pool, &when);
    }
    assert!(cut_off > KILLS / 3, "only {cut_off} acts were cut off");
    let pool = bench.open();
    for volume in copies.volumes.into_keys() {
        pool.delete_volume(volume).unwrap();
    }
    for snapshot in copies.snapshots.into_keys() {
        pool.delete_snapshot(snapshot).unwrap();
    }
    super::tidy(&pool);
    for folder in ["pool/layers", "pool/volumes"] {
        let left: Vec<_> = std::fs::read_dir(bench.path(folder)).unwrap().collect();
        assert!(left.is_empty(), "{left:?} is left");
    }
}
