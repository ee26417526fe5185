//! A hypervisor's driver behind the port.
//!
//! The driver does one thing at a time and says no to what makes no sense; here what is done already
//! is found done. Nothing is remembered: each call looks first.

use std::fs::File;
use std::time::Duration;

use serde_json::Value;
use stillpoint_layers::live::{HostError, LiveSwitch};
use stillpoint_machines::{
    DiskSpec, Error, Hypervisor, MachineLayout, MachineSpec, MachineState, MachineView,
};
use stillpoint_model::ByteCount;
use stillpoint_model::error::with_causes;
use stillpoint_model::id::{InstanceId, VolumeId};
use stillpoint_model::instance::{Load, MachineOrder, Power, Sight};
use stillpoint_model::progress::Monitor;

use super::{MachineError, MachineResult, MachineSeen, Machines, OpenDisk};

/// How long a guest may take to let go of a volume.
const UNPLUG_BOUND: Duration = Duration::from_secs(30);

/// The machines of a node, run by this driver.
///
/// It is also the host of the pools whose volumes these machines open
/// ([`LiveHost`](stillpoint_layers::live::LiveHost)): give it to
/// [`LayerPool::connect`](stillpoint_layers::LayerPool::connect) before the first task, and the
/// same one to [`Storage::with_machines`](crate::Storage::with_machines).
pub struct Hypervised<H> {
    pub(super) driver: H,
}

impl<H: Hypervisor> Hypervised<H> {
    /// Machines that this driver runs.
    pub const fn new(driver: H) -> Self {
        Self { driver }
    }

    fn seen(&self, id: InstanceId) -> MachineResult {
        let view = self.driver.inspect(id).map_err(said)?;
        Ok(MachineSeen {
            power: power(view.state),
            open: view.open,
        })
    }

    /// Does what a machine that is on needs to have done, and looks again.
    fn turn(
        &self,
        id: InstanceId,
        to: Power,
        turn: impl FnOnce(&H) -> Result<(), Error>,
    ) -> MachineResult {
        let before = self.seen(id)?;
        if before.power == to {
            return Ok(before);
        }
        turn(&self.driver).map_err(said)?;
        self.seen(id)
    }
}

const fn power(state: MachineState) -> Power {
    match state {
        MachineState::Running => Power::Running,
        MachineState::Paused => Power::Paused,
        MachineState::Stopped | MachineState::Crashed => Power::Off,
    }
}

/// A driver without files needs no graph; one with files refuses to do without.
fn disk_spec(open: &OpenDisk) -> DiskSpec {
    DiskSpec {
        volume: open.disk.volume_id,
        place: open.disk.place,
        graph: open.graph.clone().unwrap_or(Value::Null),
    }
}

fn machine_spec(id: InstanceId, order: &MachineOrder, disks: &[OpenDisk]) -> MachineSpec {
    MachineSpec {
        id,
        hostname: order.hostname.clone(),
        vcpus: order.vcpus,
        memory: order.memory,
        disks: disks.iter().map(disk_spec).collect(),
        forwards: Vec::new(),
    }
}

fn said(error: Error) -> MachineError {
    match error {
        Error::GuestStays { id, bound } => MachineError::GuestStays {
            instance: id,
            bound,
        },
        Error::GuestHolds { id, volume } => MachineError::GuestHolds {
            instance: id,
            volume,
        },
        Error::WrongState { id, state } => MachineError::WrongPower {
            instance: id,
            power: power(state),
        },
        Error::Cancelled => MachineError::Cancelled,
        other => MachineError::Driver {
            kind: other.kind(),
            detail: with_causes(&other),
        },
    }
}

fn sight(view: &MachineView) -> Sight {
    Sight {
        instance_id: view.id,
        power: power(view.state),
        crashed: view.state == MachineState::Crashed,
        storage_full: view.storage_full.clone(),
        agent_answered: view.agent_answered,
        load: view.load_percent.map(Load::percent),
    }
}

impl<H: Hypervisor> Machines for Hypervised<H> {
    fn start(&self, id: InstanceId, order: &MachineOrder, disks: &[OpenDisk]) -> MachineResult {
        let spec = machine_spec(id, order, disks);
        self.driver.start(&spec).map_err(said)?;
        self.seen(id)
    }

    fn switch_with_memory(
        &self,
        switches: &[LiveSwitch],
        into: &File,
    ) -> Result<MachineLayout, HostError> {
        self.capture_memory(switches, into)
    }

    fn start_from_memory(
        &self,
        id: InstanceId,
        order: &MachineOrder,
        disks: &[OpenDisk],
        (layout, from): (MachineLayout, &File),
    ) -> MachineResult {
        let spec = machine_spec(id, order, disks);
        let started = self.driver.start_from_memory(&spec, &layout, from);
        started.map_err(said)?;
        self.seen(id)
    }

    fn shut_down(&self, id: InstanceId, bound: Duration, monitor: &dyn Monitor) -> MachineResult {
        if self.seen(id)?.power == Power::Paused {
            // A guest that stands still hears nothing.
            self.driver.resume(id).map_err(said)?;
        }
        self.turn(id, Power::Off, |driver| {
            driver.shut_down(id, bound, &|| !monitor.is_cancelled())
        })
    }

    fn kill(&self, id: InstanceId) -> MachineResult {
        self.turn(id, Power::Off, |driver| driver.kill(id))
    }

    fn pause(&self, id: InstanceId) -> MachineResult {
        self.turn(id, Power::Paused, |driver| driver.pause(id))
    }

    fn resume(&self, id: InstanceId) -> MachineResult {
        self.turn(id, Power::Running, |driver| driver.resume(id))
    }

    fn remove(&self, id: InstanceId) -> MachineResult {
        self.driver.delete(id).map_err(said)?;
        self.seen(id)
    }

    fn plug(&self, id: InstanceId, disk: &OpenDisk) -> MachineResult {
        let before = self.seen(id)?;
        if before.power == Power::Off || before.open.contains(&disk.disk.volume_id) {
            return Ok(before);
        }
        self.driver.plug(id, &disk_spec(disk)).map_err(said)?;
        self.seen(id)
    }

    fn unplug(&self, id: InstanceId, volume: VolumeId) -> MachineResult {
        let before = self.seen(id)?;
        if !before.open.contains(&volume) {
            return Ok(before);
        }
        self.driver.unplug(id, volume, UNPLUG_BOUND).map_err(said)?;
        self.seen(id)
    }

    fn inspect(&self, id: InstanceId) -> MachineResult {
        self.seen(id)
    }

    fn console(&self, id: InstanceId, max: ByteCount) -> Result<Vec<u8>, MachineError> {
        self.driver.console(id, max).map_err(said)
    }

    fn sights(&self) -> Result<Vec<Sight>, MachineError> {
        let look = |id| self.driver.inspect(id).map(|view| sight(&view));
        let all = self.driver.machines().into_iter().map(look);
        all.collect::<Result<_, _>>().map_err(said)
    }
}

#[cfg(test)]
mod tests {
    use stillpoint_env::SimEnv;
    use stillpoint_machines::simulated::Simulated;
    use stillpoint_model::id::PoolId;
    use stillpoint_model::instance::MachineDisk;
    use stillpoint_model::progress::NullMonitor;

    use super::*;

    fn disk(env: &SimEnv, place: u32) -> OpenDisk {
        OpenDisk {
            disk: MachineDisk {
                volume_id: VolumeId::generate(env),
                pool_id: PoolId::generate(env),
                place,
            },
            graph: None,
        }
    }

    fn started(machines: &dyn Machines, env: &SimEnv) -> (InstanceId, OpenDisk) {
        let (id, root) = (InstanceId::generate(env), disk(env, 0));
        let order = MachineOrder {
            hostname: "web".into(),
            vcpus: 1,
            memory: ByteCount::from_mib(256),
            disks: vec![root.disk],
        };
        for _ in 0..2 {
            let seen = machines
                .start(id, &order, std::slice::from_ref(&root))
                .unwrap();
            assert_eq!(seen.power, Power::Running);
        }
        (id, root)
    }

    #[test]
    fn each_thing_done_twice_is_done_once() {
        let (env, machines) = (SimEnv::new(1), Hypervised::new(Simulated::new()));
        let (id, root) = started(&machines, &env);
        let data = disk(&env, 1);
        for _ in 0..2 {
            let open = machines.plug(id, &data).unwrap().open;
            assert_eq!(open.len(), 2, "{open:?}");
        }
        for _ in 0..2 {
            let open = machines.unplug(id, data.disk.volume_id).unwrap().open;
            assert_eq!(open, [root.disk.volume_id]);
        }
        for _ in 0..2 {
            assert_eq!(machines.pause(id).unwrap().power, Power::Paused);
        }
        for _ in 0..2 {
            assert_eq!(machines.resume(id).unwrap().power, Power::Running);
        }
        for _ in 0..2 {
            assert_eq!(machines.kill(id).unwrap(), MachineSeen::OFF);
        }
        for _ in 0..2 {
            assert_eq!(machines.remove(id).unwrap(), MachineSeen::OFF);
        }
        assert_eq!(machines.sights().unwrap(), []);
    }

    #[test]
    fn a_machine_that_waits_for_room_is_seen_so() {
        let env = SimEnv::new(1);
        let view = MachineView {
            state: MachineState::Paused,
            storage_full: vec![VolumeId::generate(&env)],
            ..MachineView::absent(InstanceId::generate(&env))
        };
        let seen = sight(&view);
        assert_eq!(seen.power, Power::Paused);
        assert_eq!(seen.storage_full, view.storage_full);
    }

    #[test]
    fn a_paused_guest_hears_that_it_should_shut_down() {
        let (env, machines) = (SimEnv::new(1), Hypervised::new(Simulated::new()));
        let (id, _) = started(&machines, &env);
        machines.pause(id).unwrap();
        let bound = Duration::from_secs(5);
        let seen = machines.shut_down(id, bound, &NullMonitor).unwrap();
        assert_eq!(seen, MachineSeen::OFF);
    }
}
