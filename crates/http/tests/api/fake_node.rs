//! A node without storage: it answers every task as if all went well, at once, unless it is
//! told to hold its work.

use std::sync::Arc;
use std::time::Duration;

use stillpoint_control::board::Board;
use stillpoint_env::SimEnv;
use stillpoint_model::ByteCount;
use stillpoint_model::id::{LayerId, NodeId};
use stillpoint_model::instance::Power;
use stillpoint_model::item::{Consistency, FreezePolicy};
use stillpoint_model::question::Said;
use stillpoint_model::task::{SealPoint, TaskOutcome, TaskSpec};
use tokio::sync::watch;

/// What every volume of this node is said to hold.
const USED: ByteCount = ByteCount::from_mib(3);

/// What every guest of this node wrote to its console.
const CONSOLE: &str = "\u{1b}[1mboot\u{1b}[0m\r\n<b>web login:</b> ";

/// Works until it is dropped, or the server is gone.
pub async fn run(
    board: Board,
    node_id: NodeId,
    env: Arc<SimEnv>,
    mut holding: watch::Receiver<bool>,
) {
    if board.hello(node_id).await.is_err() {
        return;
    }
    let questions = board.clone();
    let mut answering = tokio::task::JoinSet::new();
    answering.spawn(async move { answer(&questions, node_id).await });
    while holding.wait_for(|holding| !holding).await.is_ok() {
        let task = tokio::select! {
            task = board.next_task(node_id, Duration::from_secs(3600)) => task,
            _ = holding.wait_for(|holding| *holding) => continue,
        };
        match task {
            Ok(Some(task)) => {
                let outcome = outcome(&env, &task.spec);
                // A lease that a leap of the clock ended is given again.
                let _ = board.finish(task.task_id, task.fence, Ok(outcome)).await;
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

/// Every guest wrote the same.
async fn answer(board: &Board, node_id: NodeId) {
    loop {
        let wait = Duration::from_secs(3600);
        if let Some(asked) = board.next_question(node_id, wait).await {
            let bytes = CONSOLE.into();
            board.answer(node_id, asked.number, Said::Console { bytes });
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one arm per task")]
fn outcome(env: &SimEnv, spec: &TaskSpec) -> TaskOutcome {
    let layer = || LayerId::generate(env);
    let size = ByteCount::from_mib(64);
    match spec {
        TaskSpec::VolumeCreate { size, .. }
        | TaskSpec::VolumeFromImage { size, .. }
        | TaskSpec::VolumeResize { size, .. } => TaskOutcome::Volume {
            tip: layer(),
            size: *size,
            used: USED,
        },
        TaskSpec::VolumeImport { .. }
        | TaskSpec::VolumeClone { .. }
        | TaskSpec::VolumeRollBack { .. }
        | TaskSpec::VolumeSwitch { .. }
        | TaskSpec::BackupRestore { .. }
        | TaskSpec::VolumeFillBegin { .. }
        | TaskSpec::VolumeFill { .. } => TaskOutcome::Volume {
            tip: layer(),
            size,
            used: USED,
        },
        TaskSpec::VolumeInspect { .. } => TaskOutcome::Inspected {
            tip: layer(),
            size,
            used: USED,
            witness: true,
        },
        TaskSpec::SnapshotSeal { .. } | TaskSpec::BackupCapture { .. } => TaskOutcome::Sealed {
            layer: layer(),
            tip: layer(),
            consistency: Consistency::Stopped,
            provisioned: size,
            used: USED,
            changed: USED,
        },
        TaskSpec::BackupUpload { .. } => TaskOutcome::Stored {
            provisioned: size,
            used: USED,
            changed: USED,
            stored: ByteCount::from_mib(1),
            bytes_read: USED,
            content_hash: "ab".repeat(32),
        },
        TaskSpec::SnapshotSealTogether { points, freeze } => {
            let seal = |point: &SealPoint| TaskSpec::SnapshotSeal {
                volume_id: point.volume_id,
                snapshot_id: point.snapshot_id,
                freeze: *freeze,
            };
            let outcomes = points.iter().map(seal).map(|one| outcome(env, &one));
            TaskOutcome::All {
                outcomes: outcomes.collect(),
            }
        }
        TaskSpec::SnapshotSealWithMemory { points, .. } => {
            let spec = TaskSpec::SnapshotSealTogether {
                points: points.clone(),
                freeze: FreezePolicy::Skip,
            };
            outcome(env, &spec)
        }
        TaskSpec::MemoryVerify { .. } => TaskOutcome::Memory {
            size: ByteCount::from_mib(1),
        },
        TaskSpec::All { tasks } => TaskOutcome::All {
            outcomes: tasks.iter().map(|task| outcome(env, task)).collect(),
        },
        TaskSpec::InstanceStart { machine, .. } => TaskOutcome::Machine {
            power: Power::Running,
            open: machine.disks.iter().map(|disk| disk.volume_id).collect(),
        },
        TaskSpec::VolumePlug { disk, .. } => TaskOutcome::Machine {
            power: Power::Running,
            open: vec![disk.volume_id],
        },
        TaskSpec::InstanceResume { .. } | TaskSpec::VolumeUnplug { .. } => machine(Power::Running),
        TaskSpec::InstancePause { .. } => machine(Power::Paused),
        TaskSpec::InstanceStop { .. }
        | TaskSpec::InstanceRemove { .. }
        | TaskSpec::InstanceInspect { .. } => machine(Power::Off),
        TaskSpec::PoolTidy => TIDIED,
        TaskSpec::VaultCollect { .. }
        | TaskSpec::VaultVerify { .. }
        | TaskSpec::VaultMend { .. }
        | TaskSpec::VaultCopy { .. }
        | TaskSpec::VolumeDelete { .. }
        | TaskSpec::SnapshotVerify { .. }
        | TaskSpec::SnapshotDrop { .. }
        | TaskSpec::MemoryDrop { .. }
        | TaskSpec::BackupVerify { .. }
        | TaskSpec::BackupSettle { .. }
        | TaskSpec::BackupReap { .. }
        | TaskSpec::BackupDelete { .. } => TaskOutcome::Done,
    }
}

const TIDIED: TaskOutcome = TaskOutcome::Tidied {
    merged: 0,
    removed: 0,
    unfinished: false,
};

const fn machine(power: Power) -> TaskOutcome {
    TaskOutcome::Machine {
        power,
        open: Vec::new(),
    }
}
