//! Instances: their machines are started, stopped and changed; this says how it ended.

use std::time::Duration;

use stillpoint_layers::{Error, Hold, LayerReader, Pool};
use stillpoint_model::ErrorKind;
use stillpoint_model::error::with_causes;
use stillpoint_model::id::{InstanceId, InstanceSnapshotId, VolumeId};
use stillpoint_model::instance::{MachineDisk, MachineOrder, Power, StopMode};
use stillpoint_model::progress::Monitor;
use stillpoint_model::refusal::ProblemCode;
use stillpoint_model::task::{TaskFailure, TaskOutcome, TaskSpec};

use super::{TaskResult, memory};
use crate::failure::{misdirected, of_kind, of_pool, of_reader};
use crate::machines::{MachineError, MachineResult, Machines, OpenDisk};
use crate::progress::Watch;
use crate::storage::Storage;

/// How often the layer below a tip is looked up, while upkeep that is asked to stop merges it.
const PIN_ATTEMPTS: usize = 10;

/// Does a task of a machine.
pub fn perform(storage: &Storage, spec: &TaskSpec, watch: &Watch) -> TaskResult {
    let machines = storage.machines()?;
    seen(match spec {
        TaskSpec::InstanceStart {
            instance_id,
            machine,
            memory: None,
        } => return start(storage, machines, *instance_id, machine),
        TaskSpec::InstanceStart {
            instance_id,
            machine,
            memory: Some(memory),
        } => return go_on(storage, machines, (*instance_id, machine), *memory, watch),
        TaskSpec::InstanceStop { instance_id, mode } => stop(machines, *instance_id, *mode, watch),
        TaskSpec::InstancePause { instance_id } => machines.pause(*instance_id),
        TaskSpec::InstanceResume { instance_id } => machines.resume(*instance_id),
        TaskSpec::InstanceRemove { instance_id } => machines.remove(*instance_id),
        TaskSpec::InstanceInspect { instance_id } => machines.inspect(*instance_id),
        TaskSpec::VolumePlug { instance_id, disk } => {
            let (disk, _keep) = open_disk(storage, *disk)?;
            machines.plug(*instance_id, &disk)
        }
        TaskSpec::VolumeUnplug {
            instance_id,
            volume_id,
        } => machines.unplug(*instance_id, *volume_id),
        _ => return Err(misdirected(spec)),
    })
}

fn start(
    storage: &Storage,
    machines: &dyn Machines,
    id: InstanceId,
    order: &MachineOrder,
) -> TaskResult {
    let disks = order.disks.iter().map(|disk| open_disk(storage, *disk));
    let disks: Vec<_> = disks.collect::<Result<_, _>>()?;
    let (disks, _keeps): (Vec<OpenDisk>, Vec<Keep>) = disks.into_iter().unzip();
    seen(machines.start(id, order, &disks))
}

/// Runs a machine that goes on from memory, with disks that are as they were at that instant.
fn go_on(
    storage: &Storage,
    machines: &dyn Machines,
    (id, order): (InstanceId, &MachineOrder),
    memory: InstanceSnapshotId,
    watch: &Watch,
) -> TaskResult {
    let seen_before = machines.inspect(id).map_err(|error| of_machine(&error))?;
    if seen_before.power != Power::Off {
        return seen(Ok(seen_before));
    }
    let (file, layout) = memory::to_go_on_from(storage, order, memory, watch)?;
    let disks = order.disks.iter().map(|disk| open_disk(storage, *disk));
    let disks: Vec<_> = disks.collect::<Result<_, _>>()?;
    let (disks, _keeps): (Vec<OpenDisk>, Vec<Keep>) = disks.into_iter().unzip();
    seen(machines.start_from_memory(id, order, &disks, (layout, &file)))
}

/// While it lives, what is below a volume's tip is not merged.
type Pin = Option<Box<dyn LayerReader>>;

/// Kept until a machine has a volume open.
#[expect(dead_code, reason = "kept, not read")]
enum Keep {
    /// What is below the tip.
    Layers(Pin),
    /// The reader that is below the tip.
    Reader(Box<dyn Hold>),
}

/// Keeps the layers of a graph as they are while a machine opens them; from then on its locks do.
fn pin(pool: &dyn Pool, volume: VolumeId) -> Result<Pin, Error> {
    for _ in 0..PIN_ATTEMPTS {
        let tip = pool.volume(volume)?.tip;
        let Some(below) = pool.tree().layer(tip).and_then(|layer| layer.parent) else {
            return Ok(None);
        };
        match pool.open_layer(below) {
            // It was merged since it was looked up.
            Err(Error::NoLayer(_) | Error::LayerMissing(_)) => {}
            opened => return opened.map(Some),
        }
    }
    Err(Error::InTheMaking(volume))
}

/// A volume with the graph that its pool spells for it, which stays true while the other is kept. One
/// that is being filled stands on a reader of its backup, which listens from now on.
fn open_disk(storage: &Storage, disk: MachineDisk) -> Result<(OpenDisk, Keep), TaskFailure> {
    let pool = storage.pool(disk.pool_id)?;
    let volume = disk.volume_id;
    if let Some(filling) = pool.filling(volume).map_err(|error| of_pool(&error))? {
        let reader = storage.readers()?.read(volume, filling.source);
        let reader = reader.map_err(|error| of_reader(&error))?;
        let opened = pool.open_filling(volume, &reader);
        let (graph, hold) = opened.map_err(|error| of_pool(&error))?;
        let graph = Some(graph);
        return Ok((OpenDisk { disk, graph }, Keep::Reader(hold)));
    }
    let pin = pin(pool, disk.volume_id).map_err(|error| of_pool(&error))?;
    let graph = match pool.block_graph(disk.volume_id) {
        Ok(graph) => Some(graph),
        Err(Error::Unsupported(_)) => None,
        Err(error) => return Err(of_pool(&error)),
    };
    Ok((OpenDisk { disk, graph }, Keep::Layers(pin)))
}

fn stop(machines: &dyn Machines, id: InstanceId, mode: StopMode, watch: &Watch) -> MachineResult {
    let StopMode::Graceful {
        bound_s,
        then_force,
    } = mode
    else {
        return machines.kill(id);
    };
    let bound = Duration::from_secs(bound_s.into());
    match machines.shut_down(id, bound, watch) {
        Err(MachineError::GuestStays { .. }) if then_force && !watch.is_cancelled() => {
            machines.kill(id)
        }
        ended => ended,
    }
}

fn seen(result: MachineResult) -> TaskResult {
    match result {
        Ok(seen) => Ok(TaskOutcome::Machine {
            power: seen.power,
            open: seen.open,
        }),
        Err(error) => Err(of_machine(&error)),
    }
}

/// What the control plane hears of a machine's error.
fn of_machine(error: &MachineError) -> TaskFailure {
    let mut failure = of_kind(error.kind(), with_causes(error));
    failure.code = match error.kind() {
        ErrorKind::Conflict => ProblemCode::NotEligible,
        _ => failure.code,
    };
    match error {
        MachineError::GuestStays { bound, .. } => {
            failure.text = format!(
                "The guest did not shut down within {} seconds. Stop the instance by force, or \
                 give the guest more time.",
                bound.as_secs()
            );
        }
        MachineError::GuestHolds { .. } => {
            failure.text = "The guest did not let go of the volume. Unmount it there, or stop the \
                            instance."
                .to_owned();
        }
        MachineError::WrongPower { power, .. } => {
            failure.text = format!("The instance's machine is {power}.");
        }
        MachineError::Cancelled | MachineError::Driver { .. } => {}
    }
    failure
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stillpoint_env::SimEnv;
    use stillpoint_layers::LayerPool;
    use stillpoint_layers::memory::{MemoryDisk, MemoryDriver};
    use stillpoint_model::ByteCount;
    use stillpoint_model::id::{PoolId, SnapshotId};

    use super::*;

    #[test]
    fn no_layer_is_merged_away_while_a_machine_opens_it() {
        let env = Arc::new(SimEnv::new(1));
        let disk = MemoryDisk::new(PoolId::generate(&*env));
        let pool = LayerPool::open(MemoryDriver::new(disk), env.clone()).unwrap();
        let (volume, snapshot) = (VolumeId::generate(&*env), SnapshotId::generate(&*env));
        pool.create_volume(volume, ByteCount::from_mib(1)).unwrap();
        assert!(pin(&pool, volume).unwrap().is_none(), "nothing is below");
        pool.snapshot(volume, snapshot).unwrap();
        pool.delete_snapshot(snapshot).unwrap();
        assert_eq!(pool.merge_candidates().len(), 1);
        let pinned = pin(&pool, volume).unwrap();
        assert!(pool.merge_candidates().is_empty());
        drop(pinned);
        assert_eq!(pool.merge_candidates().len(), 1);
    }
}
