//! Memory of machines: captured with their volumes, proven, gone on from, deleted.
//!
//! The disks are sealed and the memory is written at one instant, but recorded in two places: the
//! pool's records, and the memory's own. Done again after a crash, the task finds what is there. Disks
//! that were sealed and memory that is not whole is a capture that failed: the memory of that instant
//! cannot be had any more. The operation takes the names off again.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;

use serde::{Deserialize, Serialize};
use stillpoint_layers::Pool;
use stillpoint_layers::machine_memory::MemoryError;
use stillpoint_machines::MachineLayout;
use stillpoint_model::ErrorKind;
use stillpoint_model::error::with_causes;
use stillpoint_model::id::{InstanceSnapshotId, LayerId, SnapshotId, VolumeId};
use stillpoint_model::instance::MachineOrder;
use stillpoint_model::item::Consistency;
use stillpoint_model::refusal::ProblemCode;
use stillpoint_model::task::{SealPoint, TaskFailure, TaskOutcome, TaskSpec};

use super::{TaskResult, volume};
use crate::failure::{misdirected, of_kind, of_pool};
use crate::progress::Watch;
use crate::storage::Storage;

/// What is kept beside the memory.
#[derive(Serialize, Deserialize)]
struct Captured {
    /// What the machine was like.
    machine: MachineLayout,
    /// What its disks held.
    layers: BTreeSet<LayerId>,
}

/// Does a task of a memory.
pub fn perform(storage: &Storage, pool: &dyn Pool, spec: &TaskSpec, watch: &Watch) -> TaskResult {
    match spec {
        TaskSpec::SnapshotSealWithMemory {
            points,
            instance_snapshot_id,
        } => seal(storage, pool, points, *instance_snapshot_id),
        TaskSpec::MemoryVerify {
            instance_snapshot_id,
        } => {
            let proven = storage
                .memories(pool.id())?
                .verify(*instance_snapshot_id, watch);
            let size = proven.map_err(|error| of_memory(&error))?;
            Ok(TaskOutcome::Memory { size })
        }
        TaskSpec::MemoryDrop {
            instance_snapshot_id,
        } => {
            let removed = storage.memories(pool.id())?.remove(*instance_snapshot_id);
            removed.map_err(|error| of_memory(&error))?;
            Ok(TaskOutcome::Done)
        }
        _ => Err(misdirected(spec)),
    }
}

fn of_memory(error: &MemoryError) -> TaskFailure {
    of_kind(error.kind(), with_causes(error))
}

fn not_eligible(text: &str, detail: String) -> TaskFailure {
    let mut failure = of_kind(ErrorKind::Conflict, detail);
    failure.code = ProblemCode::NotEligible;
    text.clone_into(&mut failure.text);
    failure
}

fn seal(
    storage: &Storage,
    pool: &dyn Pool,
    points: &[SealPoint],
    id: InstanceSnapshotId,
) -> TaskResult {
    let set: Vec<_> = points
        .iter()
        .map(|p| (p.volume_id, p.snapshot_id))
        .collect();
    if !storage.memories(pool.id())?.holds(id) {
        capture(storage, pool, &set, id)?;
    }
    volume::seal_again(pool, &set)
}

fn capture(
    storage: &Storage,
    pool: &dyn Pool,
    set: &[(VolumeId, SnapshotId)],
    id: InstanceSnapshotId,
) -> Result<(), TaskFailure> {
    let (folder, machines) = (storage.memories(pool.id())?, storage.machines()?);
    let file = folder.begin(id).map_err(|error| of_memory(&error))?;
    let layout = RefCell::new(None);
    let sealed = pool.snapshot_by(set, &|switches| {
        let captured = machines.switch_with_memory(switches, &file)?;
        *layout.borrow_mut() = Some(captured);
        // It was not frozen: it would be when it goes on.
        Ok(Consistency::Crash)
    });
    let sealed = sealed.map_err(|error| of_pool(&error))?;
    let Some(machine) = layout.into_inner() else {
        let text = "The memory of that instant was not captured: the instance's machine does not \
                    run, or the capture was interrupted. Take another snapshot.";
        return Err(not_eligible(text, format!("no memory of {id} was written")));
    };
    let captured = Captured {
        machine,
        layers: sealed.iter().map(|one| one.layer).collect(),
    };
    let record = serde_json::to_value(captured)
        .map_err(|error| of_kind(ErrorKind::Internal, error.to_string()))?;
    let committed = folder.commit(id, &file, record);
    committed.map(drop).map_err(|error| of_memory(&error))
}

/// Proven memory, and what the machine was like. Refused when a disk of the order does not hold what
/// it held at that instant: the guest would write to it what it remembers of another.
pub(super) fn to_go_on_from(
    storage: &Storage,
    order: &MachineOrder,
    id: InstanceSnapshotId,
    watch: &Watch,
) -> Result<(File, MachineLayout), TaskFailure> {
    let first = order.disks.first().map(|disk| disk.pool_id);
    let text = "The memory cannot be gone on from: a volume does not hold what it held at that \
                instant. Start the instance without it.";
    let refused = |detail: String| not_eligible(text, detail);
    let folder = storage.memories(first.ok_or_else(|| refused("no disk".to_owned()))?)?;
    folder
        .verify(id, watch)
        .map_err(|error| of_memory(&error))?;
    let (file, record) = folder.read(id).map_err(|error| of_memory(&error))?;
    let captured: Captured = serde_json::from_value(record)
        .map_err(|error| of_kind(ErrorKind::Corrupt, error.to_string()))?;
    let mut below = BTreeSet::new();
    for disk in &order.disks {
        let pool = storage.pool(disk.pool_id)?;
        let tip = pool.volume(disk.volume_id).map_err(|e| of_pool(&e))?.tip;
        let parent = pool.tree().layer(tip).and_then(|layer| layer.parent);
        let parent = parent.filter(|layer| captured.layers.contains(layer));
        let parent = parent.ok_or_else(|| refused(format!("{} is another", disk.volume_id)))?;
        let changed = pool.changed_extents(Some(parent), tip);
        if !changed.map_err(|error| of_pool(&error))?.is_empty() {
            return Err(refused(format!("{} was written to", disk.volume_id)));
        }
        below.insert(parent);
    }
    if below != captured.layers {
        return Err(refused("it had other disks".to_owned()));
    }
    Ok((file, captured.machine))
}
