//! Machines in memory: they outlive the node's process, as real ones do, and do what they are told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stillpoint_model::ByteCount;
use stillpoint_model::id::{InstanceId, VolumeId};
use stillpoint_model::instance::{MachineOrder, Power, Sight};
use stillpoint_model::progress::Monitor;
use stillpoint_node::{MachineError, MachineResult, MachineSeen, Machines, OpenDisk};

/// The machines of one node.
#[derive(Clone, Default)]
pub struct SimMachines {
    machines: Arc<Mutex<BTreeMap<InstanceId, MachineSeen>>>,
}

impl SimMachines {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceId, MachineSeen>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a machine does; off when there is none.
    pub fn seen(&self, id: InstanceId) -> MachineSeen {
        self.lock().get(&id).cloned().unwrap_or(MachineSeen::OFF)
    }

    /// Whether nothing is left of any machine.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn turn(&self, id: InstanceId, to: Power) -> MachineResult {
        let mut machines = self.lock();
        let Some(seen) = machines.get_mut(&id) else {
            let power = Power::Off;
            return Err(MachineError::WrongPower {
                instance: id,
                power,
            });
        };
        seen.power = to;
        Ok(seen.clone())
    }
}

impl Machines for SimMachines {
    fn start(&self, id: InstanceId, order: &MachineOrder, disks: &[OpenDisk]) -> MachineResult {
        assert_eq!(order.disks.len(), disks.len());
        let mut machines = self.lock();
        let seen = machines.entry(id).or_insert_with(|| MachineSeen {
            power: Power::Running,
            open: disks.iter().map(|disk| disk.disk.volume_id).collect(),
        });
        Ok(seen.clone())
    }

    fn shut_down(&self, id: InstanceId, _: Duration, _: &dyn Monitor) -> MachineResult {
        self.kill(id)
    }

    fn kill(&self, id: InstanceId) -> MachineResult {
        self.lock().remove(&id);
        Ok(MachineSeen::OFF)
    }

    fn pause(&self, id: InstanceId) -> MachineResult {
        self.turn(id, Power::Paused)
    }

    fn resume(&self, id: InstanceId) -> MachineResult {
        self.turn(id, Power::Running)
    }

    fn remove(&self, id: InstanceId) -> MachineResult {
        self.kill(id)
    }

    fn plug(&self, id: InstanceId, disk: &OpenDisk) -> MachineResult {
        let mut machines = self.lock();
        let Some(seen) = machines.get_mut(&id) else {
            return Ok(MachineSeen::OFF);
        };
        if !seen.open.contains(&disk.disk.volume_id) {
            seen.open.push(disk.disk.volume_id);
        }
        Ok(seen.clone())
    }

    fn unplug(&self, id: InstanceId, volume: VolumeId) -> MachineResult {
        let mut machines = self.lock();
        let Some(seen) = machines.get_mut(&id) else {
            return Ok(MachineSeen::OFF);
        };
        seen.open.retain(|open| *open != volume);
        Ok(seen.clone())
    }

    fn inspect(&self, id: InstanceId) -> MachineResult {
        Ok(self.seen(id))
    }

    fn console(&self, _: InstanceId, _: ByteCount) -> Result<Vec<u8>, MachineError> {
        Ok(Vec::new())
    }

    fn sights(&self) -> Result<Vec<Sight>, MachineError> {
        let machines = self.lock();
        let sight = |(id, seen): (&InstanceId, &MachineSeen)| Sight {
            instance_id: *id,
            power: seen.power,
            crashed: false,
            storage_full: Vec::new(),
            agent_answered: false,
            load: None,
        };
        Ok(machines.iter().map(sight).collect())
    }
}
