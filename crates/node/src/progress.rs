//! How a task on its thread and the reporter beside it talk: a few numbers.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use stillpoint_model::ByteCount;
use stillpoint_model::operation::{Phase, Progress};
use stillpoint_model::progress::Monitor;
use stillpoint_model::task::TaskSpec;

/// No total is known.
const UNKNOWN: u64 = u64::MAX;

/// How far a task is, and whether it is to stop. Written and read without waiting.
#[derive(Debug)]
pub struct Watch {
    phase: AtomicU8,
    done: AtomicU64,
    total: AtomicU64,
    cancelled: AtomicBool,
}

impl Watch {
    /// A watch on a task that has not begun.
    pub fn new(phase: Phase) -> Self {
        Self {
            phase: AtomicU8::new(index(phase)),
            done: AtomicU64::new(0),
            total: AtomicU64::new(UNKNOWN),
            cancelled: AtomicBool::new(false),
        }
    }

    /// Asks the task to stop.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Another phase begins, from zero bytes.
    pub fn enter(&self, phase: Phase) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(UNKNOWN, Ordering::Relaxed);
        self.phase.store(index(phase), Ordering::Relaxed);
    }

    /// How far the task is. The rate is the control plane's to work out.
    pub fn read(&self) -> Progress {
        let phase = usize::from(self.phase.load(Ordering::Relaxed));
        let total = self.total.load(Ordering::Relaxed);
        Progress {
            phase: Phase::ALL.get(phase).copied().unwrap_or(Phase::Initiation),
            bytes_done: ByteCount::new(self.done.load(Ordering::Relaxed)),
            bytes_total: (total != UNKNOWN).then_some(ByteCount::new(total)),
            rate_bytes_per_s: None,
        }
    }
}

impl Monitor for Watch {
    fn progress(&self, done: ByteCount, total: Option<ByteCount>) {
        self.done.store(done.get(), Ordering::Relaxed);
        self.total
            .store(total.map_or(UNKNOWN, ByteCount::get), Ordering::Relaxed);
    }

    fn proving(&self) {
        self.enter(Phase::Verification);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

fn index(phase: Phase) -> u8 {
    let index = Phase::ALL.iter().position(|p| *p == phase).unwrap_or(0);
    u8::try_from(index).unwrap_or(0)
}

/// What the owner of an operation sees while this task runs.
pub fn phase_of(spec: &TaskSpec) -> Phase {
    match spec {
        TaskSpec::VolumeCreate { .. }
        | TaskSpec::VolumeImport { .. }
        | TaskSpec::VolumeResize { .. }
        | TaskSpec::SnapshotSeal { .. }
        | TaskSpec::SnapshotSealTogether { .. }
        | TaskSpec::SnapshotSealWithMemory { .. }
        | TaskSpec::BackupCapture { .. }
        | TaskSpec::BackupUpload { .. } => Phase::DataCapture,
        TaskSpec::VaultCopy { .. } => Phase::Copying,
        TaskSpec::InstanceStart { .. }
        | TaskSpec::InstanceStop { .. }
        | TaskSpec::InstancePause { .. }
        | TaskSpec::InstanceResume { .. }
        | TaskSpec::InstanceRemove { .. }
        | TaskSpec::InstanceInspect { .. }
        | TaskSpec::VolumePlug { .. }
        | TaskSpec::VolumeUnplug { .. } => Phase::Machine,
        TaskSpec::All { tasks } => match tasks.first() {
            Some(first) => phase_of(first),
            None => Phase::CleanUp,
        },
        TaskSpec::VolumeClone { .. }
        | TaskSpec::VolumeFromImage { .. }
        | TaskSpec::VolumeRollBack { .. }
        | TaskSpec::VolumeSwitch { .. }
        | TaskSpec::BackupRestore { .. }
        | TaskSpec::VolumeFillBegin { .. }
        | TaskSpec::VolumeFill { .. } => Phase::Restoring,
        TaskSpec::SnapshotVerify { .. }
        | TaskSpec::MemoryVerify { .. }
        | TaskSpec::BackupVerify { .. }
        | TaskSpec::VaultVerify { .. }
        | TaskSpec::VaultMend { .. }
        | TaskSpec::VolumeInspect { .. } => Phase::Verification,
        TaskSpec::VolumeDelete { .. }
        | TaskSpec::SnapshotDrop { .. }
        | TaskSpec::MemoryDrop { .. }
        | TaskSpec::BackupSettle { .. }
        | TaskSpec::BackupReap { .. }
        | TaskSpec::BackupDelete { .. }
        | TaskSpec::VaultCollect { .. }
        | TaskSpec::PoolTidy => Phase::CleanUp,
    }
}
