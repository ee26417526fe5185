//! Every driver against the suite.

use std::cell::Cell;
use std::sync::Arc;

use stillpoint_env::SimEnv;
use stillpoint_model::Env;
use stillpoint_model::id::PoolId;
use tempfile::TempDir;

use crate::conformance::{Part, Storage, check_all, check_cuts, check_part};
use crate::memory::{MemoryDisk, MemoryDriver};
use crate::qcow2::Qcow2Driver;
use crate::qcow2::disk::{power, stop};

struct Memory(MemoryDisk);

impl Storage for Memory {
    type Driver = MemoryDriver;

    fn driver(&self) -> MemoryDriver {
        MemoryDriver::new(self.0.clone())
    }
}

struct Folder(TempDir, PoolId);

impl Storage for Folder {
    type Driver = Qcow2Driver;

    fn driver(&self) -> Qcow2Driver {
        Qcow2Driver::open(self.0.path(), self.1).unwrap()
    }
}

/// A folder in memory, if the machine has one: what a test asks of the file system it does, and
/// syncs cost nothing.
pub(crate) fn quick_folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

#[test]
fn memory_passes() {
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(1));
    check_all(
        || Memory(MemoryDisk::new(PoolId::generate(env.as_ref()))),
        &env,
    );
}

fn qcow2_passes(part: Part, seed: u64, folder: fn() -> TempDir) {
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(seed));
    check_part(
        part,
        || Folder(folder(), PoolId::generate(env.as_ref())),
        &env,
    );
}

#[test]
fn qcow2_keeps_the_tree() {
    qcow2_passes(Part::Tree, 2, quick_folder);
}

/// On the machine's own disk.
#[test]
fn qcow2_keeps_data() {
    qcow2_passes(Part::Data, 3, || tempfile::tempdir().unwrap());
}

#[test]
fn qcow2_misses_lost_records() {
    qcow2_passes(Part::Lost, 4, quick_folder);
}

#[test]
fn qcow2_survives_faults() {
    qcow2_passes(Part::Faults, 5, quick_folder);
}

#[test]
fn qcow2_walks() {
    qcow2_passes(Part::Walks, 6, quick_folder);
}

#[test]
fn qcow2_names_every_change() {
    qcow2_passes(Part::Increments, 8, quick_folder);
}

/// Every second system call of the story, from the first or the second on.
fn qcow2_is_cut_off(first: u64) {
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(7 + first));
    let folder = Folder(quick_folder(), PoolId::generate(env.as_ref()));
    let cuts = (first..).step_by(2);
    check_cuts(folder, &env, cuts, stop::after, stop::never, |_| false);
}

#[test]
fn qcow2_survives_the_end_before_every_even_system_call() {
    qcow2_is_cut_off(0);
}

#[test]
fn qcow2_survives_the_end_before_every_odd_system_call() {
    qcow2_is_cut_off(1);
}

/// The power goes where the run ends: what was not synced is there, or not, or in part.
fn qcow2_loses_power(first: u64) {
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(9 + first));
    let folder = Folder(quick_folder(), PoolId::generate(env.as_ref()));
    let folders = ["layers", "volumes"].map(|name| folder.0.path().join(name));
    let cuts = (first..).step_by(2);
    let cut = |at| {
        power::begin(&folders);
        stop::after(at);
    };
    let seed = Cell::new(first);
    let heal = || {
        power::lose(seed.replace(seed.get() + 2));
        stop::never()
    };
    check_cuts(folder, &env, cuts, cut, heal, |_| false);
}

#[test]
fn qcow2_survives_loss_of_power_before_every_even_system_call() {
    qcow2_loses_power(0);
}

#[test]
fn qcow2_survives_loss_of_power_before_every_odd_system_call() {
    qcow2_loses_power(1);
}
