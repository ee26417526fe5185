//! Instances: their machines are started, stopped and changed; this says how it ended.

use std::time::Duration;

use stillpoint_layers::Error;
use stillpoint_model::ErrorKind;
use stillpoint_model::error::with_causes;
use stillpoint_model::id::InstanceId;
use stillpoint_model::instance::{MachineDisk, MachineOrder, StopMode};
use stillpoint_model::progress::Monitor;
use stillpoint_model::refusal::ProblemCode;
use stillpoint_model::task::{TaskFailure, TaskOutcome, TaskSpec};

use super::TaskResult;
use crate::failure::{misdirected, of_kind, of_pool};
use crate::machines::{MachineError, MachineResult, Machines, OpenDisk};
use crate::progress::Watch;
use crate::storage::Storage;

/// Does a task of a machine.
pub fn perform(storage: &Storage, spec: &TaskSpec, watch: &Watch) -> TaskResult {
    let machines = storage.machines()?;
    seen(match spec {
        TaskSpec::InstanceStart {
            instance_id,
            machine,
        } => return start(storage, machines, *instance_id, machine),
        TaskSpec::InstanceStop { instance_id, mode } => stop(machines, *instance_id, *mode, watch),
        TaskSpec::InstancePause { instance_id } => machines.pause(*instance_id),
        TaskSpec::InstanceResume { instance_id } => machines.resume(*instance_id),
        TaskSpec::InstanceRemove { instance_id } => machines.remove(*instance_id),
        TaskSpec::InstanceInspect { instance_id } => machines.inspect(*instance_id),
        TaskSpec::VolumePlug { instance_id, disk } => {
            machines.plug(*instance_id, &open_disk(storage, *disk)?)
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
    seen(machines.start(id, order, &disks))
}

/// A volume with the graph that its pool spells for it.
fn open_disk(storage: &Storage, disk: MachineDisk) -> Result<OpenDisk, TaskFailure> {
    let pool = storage.pool(disk.pool_id)?;
    let graph = match pool.block_graph(disk.volume_id) {
        Ok(graph) => Some(graph),
        Err(Error::Unsupported(_)) => None,
        Err(error) => return Err(of_pool(&error)),
    };
    Ok(OpenDisk { disk, graph })
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
