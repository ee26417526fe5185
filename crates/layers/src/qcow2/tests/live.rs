//! Pools whose volumes a real `qemu-storage-daemon` has open.

mod answers;
mod daemon;
mod filling;
mod nbd;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use stillpoint_env::SimEnv;
use stillpoint_model::Env;
use stillpoint_model::id::{PoolId, VolumeId};
use stillpoint_model::item::{Consistency, FreezePolicy};
use tempfile::TempDir;

use self::daemon::Daemon;
use crate::conformance::{Guests, Part, Storage, check_cuts, check_part};
use crate::live::{HostError, JoinEnd, JoinWatch, LiveHost, LiveJoin, LiveSwitch};
use crate::qcow2::Qcow2Driver;
use crate::qcow2::disk::stop;
use crate::tests::quick_folder;

/// A folder whose volumes guests have open.
struct LiveFolder {
    path: PathBuf,
    /// None where another process made it.
    _own: Option<TempDir>,
    id: PoolId,
    machine: Arc<Machine>,
}

impl LiveFolder {
    fn new(env: &dyn Env) -> Self {
        let folder = quick_folder();
        Self {
            path: folder.path().to_owned(),
            _own: Some(folder),
            id: PoolId::generate(env),
            machine: Arc::new(Machine::new(Daemon::start())),
        }
    }
}

impl Storage for LiveFolder {
    type Driver = Qcow2Driver;

    fn driver(&self) -> Qcow2Driver {
        Qcow2Driver::open(&self.path, self.id).unwrap()
    }

    fn guests(&self) -> Option<Arc<dyn Guests>> {
        Some(Arc::new(Player(Arc::clone(&self.machine))))
    }
}

/// A daemon that is started anew after each crash.
struct Machine {
    daemon: Mutex<Arc<Daemon>>,
    /// Whether nobody can ask it what it has open.
    is_cut: AtomicBool,
}

impl Machine {
    fn new(daemon: Daemon) -> Self {
        Self {
            daemon: Mutex::new(Arc::new(daemon)),
            is_cut: AtomicBool::new(false),
        }
    }

    fn daemon(&self) -> Arc<Daemon> {
        Arc::clone(&self.daemon.lock().unwrap())
    }

    /// Starts again after it was killed.
    fn revive(&self) {
        *self.daemon.lock().unwrap() = Arc::new(Daemon::start());
    }

    fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
    }

    fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }
}

impl LiveHost for Machine {
    fn open_chain(&self, volume: VolumeId) -> Result<Option<Vec<String>>, HostError> {
        match self.is_cut.load(Ordering::SeqCst) {
            true => Err(HostError::Unreachable),
            false => self.daemon().open_chain(volume),
        }
    }

    fn switch(
        &self,
        switches: &[LiveSwitch],
        freeze: FreezePolicy,
    ) -> Result<Consistency, HostError> {
        self.daemon().switch(switches, freeze)
    }

    fn can_stream(&self, volume: VolumeId) -> bool {
        self.daemon().can_stream(volume)
    }

    fn join(&self, join: &LiveJoin, watch: JoinWatch<'_>) -> Result<JoinEnd, HostError> {
        self.daemon().join(join, watch)
    }

    fn stop_joins(&self, volume: VolumeId) -> Result<(), HostError> {
        self.daemon().stop_joins(volume)
    }

    fn rebase(&self, volume: VolumeId, tip: &str, below: &Value) -> Result<(), HostError> {
        self.daemon().rebase(volume, tip, below)
    }

    fn resize(
        &self,
        volume: VolumeId,
        tip: &str,
        size: stillpoint_model::ByteCount,
    ) -> Result<(), HostError> {
        self.daemon().resize(volume, tip, size)
    }
}

/// The guests of a machine.
struct Player(Arc<Machine>);

impl Guests for Player {
    fn host(&self) -> Arc<dyn LiveHost> {
        Arc::<Machine>::clone(&self.0)
    }

    fn running(&self) -> Vec<VolumeId> {
        self.0.daemon().attached()
    }

    fn start(&self, volume: VolumeId, graph: &Value) {
        self.0.daemon().attach(volume, graph);
    }

    fn stop(&self, volume: VolumeId) {
        self.0.daemon().detach(volume);
    }

    fn crash(&self) {
        self.0.daemon().kill();
        self.0.revive();
    }

    fn write(&self, volume: VolumeId, offset: u64, data: &[u8]) {
        let mut guest = self.0.daemon().guest(volume);
        guest.write(offset, data).unwrap();
        guest.flush().unwrap();
    }

    fn zero(&self, volume: VolumeId, offset: u64, len: u64) {
        let mut guest = self.0.daemon().guest(volume);
        guest.zero(offset, usize::try_from(len).unwrap()).unwrap();
        guest.flush().unwrap();
    }

    fn read(&self, volume: VolumeId) -> Vec<u8> {
        let mut guest = self.0.daemon().guest(volume);
        let mut content = vec![0xff; usize::try_from(guest.size()).unwrap()];
        guest.read(0, &mut content).unwrap();
        content
    }
}

fn live_passes(part: Part, seed: u64) {
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(seed));
    check_part(part, || LiveFolder::new(env.as_ref()), &env);
}

#[test]
fn the_tree_is_kept_while_guests_run() {
    live_passes(Part::Tree, 101);
}

#[test]
fn data_is_kept_while_guests_run() {
    live_passes(Part::Data, 102);
}

#[test]
fn walks_among_guests() {
    live_passes(Part::Walks, 103);
}

#[test]
fn every_change_of_guests_is_named() {
    live_passes(Part::Increments, 108);
}

#[test]
fn faults_are_survived_while_guests_run() {
    live_passes(Part::Faults, 104);
}

/// The pool's process ends between two system calls; every second time the guests do, too.
fn cut_off(first: u64) {
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(105 + first));
    let folder = LiveFolder::new(env.as_ref());
    let cuts = (first..).step_by(3);
    let with_guests = |at: u64| at % 2 == 1;
    check_cuts(folder, &env, cuts, stop::after, stop::never, with_guests);
}

#[test]
fn the_end_between_two_system_calls_while_guests_run_0() {
    cut_off(0);
}

#[test]
fn the_end_between_two_system_calls_while_guests_run_1() {
    cut_off(1);
}

#[test]
fn the_end_between_two_system_calls_while_guests_run_2() {
    cut_off(2);
}
