//! What a host answers, what of it is lost, and what is refused while a volume is open.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use stillpoint_env::SimEnv;
use stillpoint_model::id::{BackupId, LayerId, SnapshotId, VolumeId};
use stillpoint_model::item::{Consistency, FreezePolicy};
use stillpoint_model::layer_tree::{Direction, MergeCandidate};
use stillpoint_model::progress::{Monitor, NullMonitor};
use stillpoint_model::task::CloneSource;
use stillpoint_model::{ByteCount, Env, ErrorKind};

use super::{LiveFolder, Machine};
use crate::conformance::Storage;
use crate::live::{HostError, JoinEnd, JoinWatch, LiveHost, LiveJoin, LiveSwitch};
use crate::qcow2::Qcow2Driver;
use crate::qcow2::tests::{check_clean, read};
use crate::{LayerPool, MergeOutcome, Pool};

const SIZE: ByteCount = ByteCount::from_mib(4);

/// What goes wrong between a host and its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    None,
    /// It does what it is asked, and the answer is lost.
    AnswerLost,
    /// It does nothing and says so.
    Refuses,
    /// It does what it is asked, and nobody can be asked afterwards.
    Gone,
    /// It cannot merge up.
    NoStream,
}

/// A machine behind a bad line.
pub(super) struct BadLine(pub(super) Arc<Machine>, pub(super) Mutex<Trouble>);

impl BadLine {
    fn now(&self) -> Trouble {
        *self.1.lock().unwrap()
    }

    pub(super) fn becomes(&self, trouble: Trouble) {
        *self.1.lock().unwrap() = trouble;
    }
}

impl LiveHost for BadLine {
    fn open_chain(&self, volume: VolumeId) -> Result<Option<Vec<String>>, HostError> {
        self.0.open_chain(volume)
    }

    fn switch(
        &self,
        switches: &[LiveSwitch],
        freeze: FreezePolicy,
    ) -> Result<Consistency, HostError> {
        match self.now() {
            Trouble::None | Trouble::NoStream => self.0.switch(switches, freeze),
            Trouble::AnswerLost => self
                .0
                .switch(switches, freeze)
                .and(Err(HostError::Unreachable)),
            Trouble::Refuses => Err(HostError::Refused("the guest does not freeze".to_owned())),
            Trouble::Gone => {
                self.0.switch(switches, freeze)?;
                self.0.cut();
                Err(HostError::Unreachable)
            }
        }
    }

    fn can_stream(&self, volume: VolumeId) -> bool {
        self.now() != Trouble::NoStream && self.0.can_stream(volume)
    }

    fn join(&self, join: &LiveJoin, watch: JoinWatch<'_>) -> Result<JoinEnd, HostError> {
        match self.now() {
            Trouble::Refuses => Err(HostError::Refused("it is busy".to_owned())),
            Trouble::AnswerLost => self
                .0
                .join(join, watch)
                .and(Err(HostError::Failed("the line broke".to_owned()))),
            Trouble::Gone => {
                self.0.daemon().begin_slow_join(join);
                Err(HostError::Failed("the pool's process ended".to_owned()))
            }
            Trouble::NoStream if join.direction == Direction::Stream => {
                panic!("it ends when it is asked to")
            }
            Trouble::None | Trouble::NoStream => self.0.join(join, watch),
        }
    }

    fn stop_joins(&self, volume: VolumeId) -> Result<(), HostError> {
        self.0.stop_joins(volume)
    }

    fn rebase(&self, volume: VolumeId, tip: &str, below: &Value) -> Result<(), HostError> {
        let done = self.0.rebase(volume, tip, below);
        match self.now() {
            Trouble::None => done,
            _ => done.and(Err(HostError::Unreachable)),
        }
    }

    fn resize(&self, volume: VolumeId, tip: &str, size: ByteCount) -> Result<(), HostError> {
        self.0.resize(volume, tip, size)
    }
}

/// A pool with one open volume.
struct Scene {
    folder: LiveFolder,
    env: Arc<dyn Env>,
    line: Arc<BadLine>,
    pool: LayerPool<Qcow2Driver>,
    volume: VolumeId,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let env: Arc<dyn Env> = Arc::new(SimEnv::new(seed));
        let folder = LiveFolder::new(env.as_ref());
        let line = BadLine(Arc::clone(&folder.machine), Mutex::new(Trouble::None));
        let line = Arc::new(line);
        let pool = LayerPool::open(folder.driver(), Arc::clone(&env)).unwrap();
        assert!(!pool.capabilities().live_capture);
        pool.connect(Arc::<BadLine>::clone(&line));
        assert!(pool.capabilities().live_capture);
        let volume = VolumeId::generate(env.as_ref());
        pool.create_volume(volume, SIZE).unwrap();
        let graph = pool.block_graph(volume).unwrap();
        folder.machine.daemon().attach(volume, &graph);
        Self {
            folder,
            env,
            line,
            pool,
            volume,
        }
    }

    /// The same with another process of the pool.
    fn restarted(self) -> Self {
        let Self {
            folder,
            env,
            line,
            pool,
            volume,
        } = self;
        drop(pool);
        let pool = LayerPool::open(folder.driver(), Arc::clone(&env)).unwrap();
        pool.connect(Arc::<BadLine>::clone(&line));
        Self {
            folder,
            env,
            line,
            pool,
            volume,
        }
    }

    fn write(&self, block: u64, count: usize, byte: u8) {
        let mut guest = self.folder.machine.daemon().guest(self.volume);
        guest
            .write(block * 4096, &vec![byte; count * 4096])
            .unwrap();
        guest.flush().unwrap();
    }

    fn snapshot_id(&self) -> SnapshotId {
        SnapshotId::generate(self.env.as_ref())
    }

    fn snapshot(&self) -> SnapshotId {
        let snapshot = self.snapshot_id();
        self.pool.snapshot(self.volume, snapshot).unwrap();
        snapshot
    }

    fn first_byte(&self, snapshot: SnapshotId) -> u8 {
        read(&self.pool, self.pool.snapshot_layer(snapshot).unwrap())[0]
    }

    /// Two layers below the tip that can be one, and the upper one.
    fn two_layers(&self, direction: Direction) -> (MergeCandidate, LayerId) {
        let (below, above) = match direction {
            Direction::Commit => (300, 100),
            Direction::Stream => (100, 300),
        };
        self.write(0, below, 1);
        let doomed = self.snapshot();
        self.write(50, above, 2);
        let kept = self.snapshot();
        self.pool.delete_snapshot(doomed).unwrap();
        let layer = self.pool.snapshot_layer(kept).unwrap();
        let candidates = self.pool.merge_candidates();
        let is_it = |candidate: &&MergeCandidate| {
            matches!(candidate, MergeCandidate::Merge { child, direction: d, .. }
                if *child == layer && *d == direction)
        };
        (*candidates.iter().find(is_it).unwrap(), layer)
    }

    fn close(&self) {
        self.folder.machine.daemon().detach(self.volume);
    }
}

#[test]
fn what_a_capture_promises_is_recorded() {
    let mut scene = Scene::new(211);
    scene.write(0, 1, 1);
    let (open, backup) = (scene.snapshot(), BackupId::generate(scene.env.as_ref()));
    scene.line.becomes(Trouble::AnswerLost);
    let captured = scene
        .pool
        .capture(scene.volume, backup, None, FreezePolicy::Skip)
        .unwrap();
    assert_eq!(captured.consistency, Consistency::Crash);
    scene.close();
    let closed = scene.snapshot();
    for _ in 0..2 {
        let again = |snapshot| scene.pool.snapshot(scene.volume, snapshot).unwrap();
        assert_eq!(again(open).consistency, Consistency::Crash);
        assert_eq!(again(closed).consistency, Consistency::Stopped);
        let captured = scene
            .pool
            .capture(scene.volume, backup, None, FreezePolicy::Skip)
            .unwrap();
        assert_eq!(captured.consistency, Consistency::Crash);
        scene = scene.restarted();
    }
    scene.pool.delete_snapshot(open).unwrap();
    scene.pool.release_capture(scene.volume, backup).unwrap();
    let tree = scene.pool.tree();
    assert!(tree.record(scene.volume).unwrap().promises.is_empty());
}

#[test]
fn while_nobody_answers_a_new_volume_can_be_made() {
    let scene = Scene::new(212);
    scene.line.0.cut();
    let fresh = VolumeId::generate(scene.env.as_ref());
    scene.pool.create_volume(fresh, SIZE).unwrap();
    let deleted = scene.pool.delete_volume(fresh);
    assert_eq!(
        deleted.map_err(|error| error.kind()),
        Err(ErrorKind::Retry),
        "it is there by now, and may be open"
    );
}

#[test]
fn an_answer_that_is_lost_changes_nothing() {
    let scene = Scene::new(201);
    scene.write(0, 1, 1);
    scene.line.becomes(Trouble::AnswerLost);
    let snapshot = scene.snapshot();
    scene.write(0, 1, 2);
    assert_eq!(scene.first_byte(snapshot), 1);
}

#[test]
fn a_switch_that_is_refused_leaves_nothing() {
    let scene = Scene::new(202);
    scene.write(0, 1, 1);
    scene.line.becomes(Trouble::Refuses);
    let snapshot = scene.snapshot_id();
    let refused = scene.pool.snapshot(scene.volume, snapshot);
    assert_eq!(
        refused.map(drop).map_err(|e| e.kind()),
        Err(ErrorKind::Conflict)
    );
    assert!(scene.pool.snapshot_layer(snapshot).is_err());
    assert_eq!(scene.pool.tree().layers().count(), 1);
    scene.line.becomes(Trouble::None);
    scene.pool.snapshot(scene.volume, snapshot).unwrap();
    assert_eq!(scene.first_byte(snapshot), 1);
}

#[test]
fn what_nobody_can_say_waits_until_somebody_can() {
    let scene = Scene::new(203);
    scene.write(0, 1, 1);
    scene.line.becomes(Trouble::Gone);
    let snapshot = scene.snapshot_id();
    for _ in 0..2 {
        let unknown = scene.pool.snapshot(scene.volume, snapshot);
        assert_eq!(
            unknown.map(drop).map_err(|e| e.kind()),
            Err(ErrorKind::Retry)
        );
    }
    scene.folder.machine.mend();
    scene.line.becomes(Trouble::None);
    scene.write(0, 1, 2);
    let next = scene.snapshot();
    assert_eq!(scene.first_byte(snapshot), 1);
    assert_eq!(scene.first_byte(next), 2);
}

#[test]
fn an_open_volume_is_not_overwritten_or_deleted() {
    let scene = Scene::new(204);
    let snapshot = scene.snapshot();
    let (pool, volume) = (&scene.pool, scene.volume);
    let open = Err(ErrorKind::Conflict);
    let back = pool.roll_back(volume, snapshot, scene.snapshot_id());
    assert_eq!(back.map(drop).map_err(|e| e.kind()), open);
    assert_eq!(pool.delete_volume(volume).map_err(|e| e.kind()), open);
    let tip = pool.volume(volume).unwrap().tip;
    assert_eq!(pool.open_layer(tip).map(drop).map_err(|e| e.kind()), open);
    scene.close();
    pool.roll_back(volume, snapshot, scene.snapshot_id())
        .unwrap();
    pool.delete_volume(volume).unwrap();
}

#[test]
fn an_open_volume_is_copied_as_it_is_now() {
    let scene = Scene::new(209);
    let [copy, of_snapshot] = [(); 2].map(|()| VolumeId::generate(scene.env.as_ref()));
    scene.write(0, 1, 1);
    let snapshot = scene.snapshot();
    scene.write(0, 1, 2);
    let source = CloneSource::Volume(scene.volume);
    let first = scene.pool.clone_volume(source, copy).unwrap();
    scene.write(0, 1, 3);
    let source_of_snapshot = CloneSource::Snapshot(snapshot);
    let older = scene.pool.clone_volume(source_of_snapshot, of_snapshot);
    assert_eq!(
        scene.pool.clone_volume(source, copy).unwrap().tip,
        first.tip
    );
    assert_eq!(read(&scene.pool, first.tip)[0], 2);
    assert_eq!(read(&scene.pool, older.unwrap().tip)[0], 1);
}

#[test]
fn once_nobody_has_them_open_the_files_say_what_the_records_say() {
    for direction in [Direction::Commit, Direction::Stream] {
        let scene = Scene::new(205);
        let (candidate, layer) = scene.two_layers(direction);
        let before = read(&scene.pool, layer);
        let done = scene.pool.merge(&candidate, &NullMonitor).unwrap();
        assert_eq!(done, MergeOutcome::Done);
        let placed = |pool: &LayerPool<Qcow2Driver>| {
            let tree = pool.tree();
            tree.record(scene.volume).unwrap().placed.len()
        };
        assert_eq!(placed(&scene.pool), 1, "{direction:?}");
        assert!(read(&scene.pool, layer) == before, "{direction:?}");
        scene.write(0, 1, 9);
        scene.close();
        assert_eq!(scene.pool.merge_candidates().len(), 0, "{direction:?}");
        assert_eq!(placed(&scene.pool), 0, "{direction:?}");
        assert!(read(&scene.pool, layer) == before, "{direction:?}");
        for (id, found) in scene.pool.tree().layers() {
            let path = scene.folder.path.join(format!("layers/{id}.qcow2"));
            check_clean(&path);
            let info = Command::new("qemu-img")
                .args(["info", "-U"])
                .arg(&path)
                .output();
            let said = String::from_utf8(info.unwrap().stdout).unwrap();
            let names = |parent: LayerId| said.contains(&format!("{parent}.qcow2"));
            assert!(found.parent.is_none_or(names), "{direction:?}: {said}");
        }
    }
}

#[test]
fn a_merge_whose_answer_is_lost_is_found_done() {
    for direction in [Direction::Commit, Direction::Stream] {
        let scene = Scene::new(206);
        let (candidate, layer) = scene.two_layers(direction);
        let before = read(&scene.pool, layer);
        scene.line.becomes(Trouble::AnswerLost);
        scene.pool.merge(&candidate, &NullMonitor).unwrap_err();
        assert!(read(&scene.pool, layer) == before, "{direction:?}");
        scene.line.becomes(Trouble::Refuses);
        let done = scene.pool.merge(&candidate, &NullMonitor).unwrap();
        assert_eq!(done, MergeOutcome::Done, "nothing is left to ask for");
        assert!(read(&scene.pool, layer) == before, "{direction:?}");
        assert_eq!(scene.pool.tree().chain(layer).len(), 1);
    }
}

/// As after the pool's process ended in the middle of a merge: the machine goes on with it.
#[test]
fn a_merge_that_nobody_waits_for_is_stopped_before_the_layers_are_read() {
    for direction in [Direction::Commit, Direction::Stream] {
        let mut scene = Scene::new(210);
        let (candidate, layer) = scene.two_layers(direction);
        let before = read(&scene.pool, layer);
        scene.line.becomes(Trouble::Gone);
        scene.pool.merge(&candidate, &NullMonitor).unwrap_err();
        scene.line.becomes(Trouble::None);
        scene = scene.restarted();
        assert!(read(&scene.pool, layer) == before, "{direction:?}");
        scene.write(0, 1, 9);
        let snapshot = scene.snapshot();
        assert_eq!(scene.first_byte(snapshot), 9);
        let done = scene.pool.merge(&candidate, &NullMonitor).unwrap();
        assert_eq!(done, MergeOutcome::Done);
        assert!(read(&scene.pool, layer) == before, "{direction:?}");
        assert_eq!(scene.pool.tree().chain(layer).len(), 1);
    }
}

/// Opens a layer once a merge is about to move.
struct Interrupting<'a> {
    open: &'a (dyn Fn() + Sync),
    was_asked: AtomicBool,
}

impl Monitor for Interrupting<'_> {
    fn progress(&self, _done: ByteCount, _total: Option<ByteCount>) {
        if !self.was_asked.swap(true, Ordering::SeqCst) {
            (self.open)();
        }
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}

#[test]
fn a_merge_in_an_open_chain_gives_way_to_a_reader() {
    let scene = Scene::new(207);
    let (candidate, layer) = scene.two_layers(Direction::Stream);
    let pool = &scene.pool;
    let before = read(pool, layer);
    let outcome = std::thread::scope(|scope| {
        let (ask, asked) = std::sync::mpsc::channel::<()>();
        let reader = scope.spawn(move || {
            asked.recv().unwrap();
            read(pool, layer)
        });
        let monitor = Interrupting {
            open: &|| {
                ask.send(()).unwrap();
                while !pool.is_wanted(layer) {
                    std::thread::yield_now();
                }
            },
            was_asked: AtomicBool::new(false),
        };
        let outcome = pool.merge(&candidate, &monitor).unwrap();
        assert!(reader.join().unwrap() == before);
        outcome
    });
    assert_eq!(outcome, MergeOutcome::GaveWay);
    let done = pool.merge(&candidate, &NullMonitor).unwrap();
    assert_eq!(done, MergeOutcome::Done);
    assert!(read(pool, layer) == before);
}

#[test]
fn a_tip_is_merged_while_its_guest_writes() {
    for direction in [Direction::Commit, Direction::Stream] {
        let scene = Scene::new(208);
        let (below, above) = match direction {
            Direction::Commit => (300, 20),
            Direction::Stream => (20, 300),
        };
        scene.write(0, below, 1);
        let doomed = scene.snapshot();
        scene.write(5, above, 2);
        scene.pool.delete_snapshot(doomed).unwrap();
        let tree = scene.pool.tree();
        let tip = tree.tip(scene.volume).unwrap();
        let parent = tree.layer(tip).unwrap().parent.unwrap();
        let candidate = MergeCandidate::Merge {
            parent,
            child: tip,
            direction,
            bytes: ByteCount::ZERO,
        };
        let done = scene.pool.merge(&candidate, &NullMonitor).unwrap();
        assert_eq!(done, MergeOutcome::Done);
        scene.write(6, 1, 3);
        let kept = scene.snapshot();
        let content = read(&scene.pool, scene.pool.snapshot_layer(kept).unwrap());
        let blocks: Vec<u8> = content.chunks(4096).map(|block| block[0]).collect();
        assert_eq!(blocks[..8], [1, 1, 1, 1, 1, 2, 3, 2], "{direction:?}");
        let is_there = scene.pool.tree().layer(parent).is_some();
        assert!(!is_there, "{direction:?}: the parent is no more");
    }
}

/// QEMU before 8.2 ends when it is asked to copy up into clusters that are written in part.
#[test]
fn where_nobody_can_merge_up_layers_merge_down_or_wait() {
    let scene = Scene::new(213);
    let (upward, layer) = scene.two_layers(Direction::Stream);
    let before = read(&scene.pool, layer);
    scene.line.becomes(Trouble::NoStream);
    let offered = scene.pool.merge_candidates();
    let is_down = |candidate: &MergeCandidate| {
        matches!(candidate, MergeCandidate::Merge { child, direction: Direction::Commit, .. }
            if *child == layer)
    };
    assert!(offered.iter().any(is_down), "{offered:?}");
    // Whoever chose it before its machine was started.
    let done = scene.pool.merge(&upward, &NullMonitor).unwrap();
    assert_eq!(done, MergeOutcome::Done);
    assert!(read(&scene.pool, layer) == before);
    assert_eq!(scene.pool.tree().chain(layer).len(), 1);

    // A tip takes little up only when its machine has stopped.
    scene.write(0, 10, 3);
    let doomed = scene.snapshot();
    scene.write(0, 300, 4);
    scene.pool.delete_snapshot(doomed).unwrap();
    assert_eq!(scene.pool.merge_candidates(), []);
    scene.close();
    let offered = scene.pool.merge_candidates();
    let [candidate] = offered.as_slice() else {
        panic!("{offered:?}");
    };
    let done = scene.pool.merge(candidate, &NullMonitor).unwrap();
    assert_eq!(done, MergeOutcome::Done);
}
