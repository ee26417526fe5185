//! Machines in memory: nothing runs, everything answers.
//!
//! It does what a machine would do at once and the same way each time. Its guest shuts down when
//! asked, lets go of disks and has an agent, unless [`Simulated::set_guest`] says otherwise.
//! [`Simulated::crash`] ends a machine as a fault of its host would, [`Simulated::set_answering`]
//! has one that hangs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use stillpoint_model::ByteCount;
use stillpoint_model::id::{InstanceId, VolumeId};

use crate::{
    DiskSpec, Error, Freeze, Hypervisor, Join, JoinEnd, JoinWatch, MachineSpec, MachineState,
    MachineView, Switch, SwitchReport,
};

/// How a simulated guest behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestManners {
    /// It shuts down when asked.
    pub shuts_down: bool,
    /// It lets go of a disk when asked.
    pub lets_go: bool,
    /// Its agent answers.
    pub has_agent: bool,
    /// It stays frozen until it is thawed.
    pub stays_frozen: bool,
}

impl Default for GuestManners {
    fn default() -> Self {
        Self {
            shuts_down: true,
            lets_go: true,
            has_agent: true,
            stays_frozen: true,
        }
    }
}

struct Machine {
    spec: MachineSpec,
    state: MachineState,
    /// The nodes of each open chain, the tip first.
    chains: BTreeMap<VolumeId, Vec<String>>,
    console: String,
}

/// Machines in memory.
#[derive(Default)]
pub struct Simulated {
    machines: Mutex<BTreeMap<InstanceId, Machine>>,
    manners: Mutex<BTreeMap<InstanceId, GuestManners>>,
    /// The ones that do not answer.
    silent: Mutex<BTreeSet<InstanceId>>,
    /// The ones whose storage fails when layers are merged.
    failing: Mutex<BTreeSet<InstanceId>>,
}

/// The names of a graph's layers, the top first.
fn layers_of(graph: &Value) -> Vec<String> {
    let mut names = Vec::new();
    let mut next = graph;
    while let Some(name) = next["node-name"].as_str() {
        names.push(name.to_owned());
        next = &next["backing"];
    }
    names
}

impl Simulated {
    /// No machines.
    pub fn new() -> Self {
        Self::default()
    }

    /// How a machine's guest behaves from now on.
    pub fn set_guest(&self, id: InstanceId, manners: GuestManners) {
        let mut all = self.manners.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(id, manners);
    }

    /// Whether a machine answers from now on.
    pub fn set_answering(&self, id: InstanceId, answers: bool) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if answers {
            silent.remove(&id);
        } else {
            silent.insert(id);
        }
    }

    /// Has every join of a machine fail from now on.
    pub fn fail_joins(&self, id: InstanceId) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.insert(id);
    }

    /// Refuses what concerns a machine that is there and does not answer.
    fn check_answers(&self, id: InstanceId) -> Result<(), Error> {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        match silent.contains(&id) && self.lock().contains_key(&id) {
            true => Err(Error::NoAnswer {
                id,
                reason: "it hangs".to_owned(),
            }),
            false => Ok(()),
        }
    }

    /// Ends a machine as a fault of its host would. One that is off stays as it is.
    pub fn crash(&self, id: InstanceId) {
        if let Some(machine) = self.lock().get_mut(&id)
            && machine.state.is_on()
        {
            machine.turn_off(MachineState::Crashed);
        }
    }

    fn manners(&self, id: InstanceId) -> GuestManners {
        let all = self.manners.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&id).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Machine>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with a machine that is on.
    fn with<T>(
        &self,
        id: InstanceId,
        act: impl FnOnce(&mut Machine) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.check_answers(id)?;
        match self.lock().get_mut(&id) {
            Some(machine) if machine.state.is_on() => act(machine),
            found => Err(Error::WrongState {
                id,
                state: found.map_or(MachineState::Stopped, |machine| machine.state),
            }),
        }
    }
}

impl Machine {
    fn turn_off(&mut self, state: MachineState) {
        self.state = state;
        self.chains.clear();
    }

    fn chain(&mut self, volume: VolumeId) -> Result<&mut Vec<String>, Error> {
        let id = self.spec.id;
        self.chains
            .get_mut(&volume)
            .ok_or(Error::NoDisk { id, volume })
    }

    fn refuses(&self, command: &str, reason: &str) -> Error {
        Error::Refused {
            id: self.spec.id,
            command: command.to_owned(),
            reason: reason.to_owned(),
        }
    }
}

impl Hypervisor for Simulated {
    fn machines(&self) -> Vec<InstanceId> {
        self.lock().keys().copied().collect()
    }

    fn inspect(&self, id: InstanceId) -> Result<MachineView, Error> {
        let has_agent = self.manners(id).has_agent;
        self.check_answers(id)?;
        let machines = self.lock();
        let Some(machine) = machines.get(&id) else {
            return Ok(MachineView::absent(id));
        };
        let is_on = machine.state.is_on();
        Ok(MachineView {
            id,
            state: machine.state,
            storage_full: Vec::new(),
            open: machine.chains.keys().copied().collect(),
            agent_answered: is_on && has_agent,
            load_percent: is_on.then_some(0),
            forwards: if is_on {
                machine.spec.forwards.clone()
            } else {
                Vec::new()
            },
        })
    }

    fn start(&self, spec: &MachineSpec) -> Result<(), Error> {
        spec.check()?;
        let mut machines = self.lock();
        if machines.get(&spec.id).is_some_and(|m| m.state.is_on()) {
            return Ok(());
        }
        let chains = spec.disks.iter();
        let machine = Machine {
            spec: spec.clone(),
            state: MachineState::Running,
            chains: chains.map(|d| (d.volume, layers_of(&d.graph))).collect(),
            console: format!("{} login: ", spec.hostname),
        };
        machines.insert(spec.id, machine);
        Ok(())
    }

    fn shut_down(
        &self,
        id: InstanceId,
        bound: Duration,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        let shuts_down = self.manners(id).shuts_down;
        let mut machines = self.lock();
        let Some(machine) = machines.get_mut(&id).filter(|m| m.state.is_on()) else {
            return Ok(());
        };
        if !go_on() {
            return Err(Error::Cancelled);
        }
        if !shuts_down || machine.state == MachineState::Paused {
            return Err(Error::GuestStays { id, bound });
        }
        machine.turn_off(MachineState::Stopped);
        Ok(())
    }

    fn kill(&self, id: InstanceId) -> Result<(), Error> {
        if let Some(machine) = self.lock().get_mut(&id) {
            machine.turn_off(MachineState::Stopped);
        }
        Ok(())
    }

    fn pause(&self, id: InstanceId) -> Result<(), Error> {
        self.with(id, |machine| {
            machine.state = MachineState::Paused;
            Ok(())
        })
    }

    fn resume(&self, id: InstanceId) -> Result<(), Error> {
        self.with(id, |machine| {
            machine.state = MachineState::Running;
            Ok(())
        })
    }

    fn delete(&self, id: InstanceId) -> Result<(), Error> {
        self.lock().remove(&id);
        Ok(())
    }

    fn plug(&self, id: InstanceId, disk: &DiskSpec) -> Result<(), Error> {
        self.with(id, |machine| {
            let layers = layers_of(&disk.graph);
            machine.chains.entry(disk.volume).or_insert(layers);
            Ok(())
        })
    }

    fn unplug(&self, id: InstanceId, volume: VolumeId, _bound: Duration) -> Result<(), Error> {
        let lets_go = self.manners(id).lets_go;
        self.with(id, |machine| {
            if machine.chains.contains_key(&volume) && !lets_go {
                return Err(Error::GuestHolds { id, volume });
            }
            machine.chains.remove(&volume);
            Ok(())
        })
    }

    fn resize(&self, id: InstanceId, volume: VolumeId, _size: ByteCount) -> Result<(), Error> {
        self.with(id, |machine| machine.chain(volume).map(drop))
    }

    fn console(&self, id: InstanceId, max: ByteCount) -> Result<Vec<u8>, Error> {
        let machines = self.lock();
        let text = machines.get(&id).map_or("", |m| m.console.as_str());
        let max = usize::try_from(max.get()).unwrap_or(usize::MAX);
        Ok(text.as_bytes()[text.len().saturating_sub(max)..].to_vec())
    }

    fn holder(&self, volume: VolumeId) -> Result<Option<InstanceId>, Error> {
        let mut unknown = None;
        for id in self.machines() {
            match self.inspect(id) {
                Ok(view) if view.open.contains(&volume) => return Ok(Some(id)),
                Ok(_) => {}
                Err(error) => unknown = Some(error),
            }
        }
        unknown.map_or(Ok(None), Err)
    }

    fn open_chain(&self, id: InstanceId, volume: VolumeId) -> Result<Vec<String>, Error> {
        self.with(id, |machine| machine.chain(volume).cloned())
    }

    fn switch(
        &self,
        id: InstanceId,
        switches: &[Switch],
        freeze: Freeze,
    ) -> Result<SwitchReport, Error> {
        let manners = self.manners(id);
        self.with(id, |machine| {
            let can_freeze = manners.has_agent && machine.state == MachineState::Running;
            let no_agent = "its agent does not answer".to_owned();
            if matches!(freeze, Freeze::Require { .. }) && !can_freeze {
                return Err(Error::NotFrozen {
                    id,
                    reason: no_agent,
                });
            }
            for switch in switches {
                if machine.chain(switch.volume)?.first() != Some(&switch.tip) {
                    return Err(machine.refuses("a switch", "that node is not the tip"));
                }
            }
            for switch in switches {
                let overlay = layers_of(&switch.graph);
                machine.chain(switch.volume)?.splice(0..0, overlay);
            }
            let tried = freeze != Freeze::Skip;
            let (held, thawed) = (can_freeze && manners.stays_frozen, "it thawed".to_owned());
            let reason = if can_freeze { thawed } else { no_agent };
            let report = SwitchReport {
                frozen: (tried && held).then_some(Duration::ZERO),
                not_frozen_because: (tried && !held).then_some(reason),
                stall: Duration::ZERO,
            };
            match freeze {
                Freeze::Require { .. } if !held => Err(Error::FreezeBroke { id, report }),
                _ => Ok(report),
            }
        })
    }

    fn can_stream(&self, id: InstanceId) -> Result<bool, Error> {
        self.with(id, |_| Ok(true))
    }

    fn join(&self, id: InstanceId, join: &Join, watch: JoinWatch<'_>) -> Result<JoinEnd, Error> {
        let fails = {
            let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
            failing.contains(&id)
        };
        self.with(id, |machine| {
            let chain = machine.chain(join.volume)?;
            let Some(at) = chain.iter().position(|node| *node == join.child) else {
                return Err(machine.refuses("a join", "the upper node is not in the chain"));
            };
            if chain.get(at + 1) != Some(&join.parent) {
                return Err(machine.refuses("a join", "the two are no neighbours"));
            }
            if !watch(ByteCount::ZERO, ByteCount::ZERO) {
                return Ok(JoinEnd::Stopped);
            }
            if fails {
                return Err(Error::Failed {
                    id,
                    command: "a join".to_owned(),
                    reason: "Input/output error".to_owned(),
                });
            }
            let gone = match join.direction {
                crate::Direction::Stream => at + 1,
                crate::Direction::Commit => at,
            };
            machine.chain(join.volume)?.remove(gone);
            Ok(JoinEnd::Done)
        })
    }

    fn rebase(
        &self,
        id: InstanceId,
        volume: VolumeId,
        tip: &str,
        below: &Value,
    ) -> Result<(), Error> {
        let node = below["node-name"].as_str().unwrap_or_default().to_owned();
        self.with(id, |machine| {
            let chain = machine.chain(volume)?;
            if chain.first().is_none_or(|top| top != tip) {
                return Err(machine.refuses("a rebase", "that is not the tip"));
            }
            chain.truncate(1);
            chain.push(node);
            Ok(())
        })
    }

    fn stop_joins(&self, id: InstanceId, volume: VolumeId) -> Result<(), Error> {
        self.with(id, |machine| machine.chain(volume).map(drop))
    }
}

#[cfg(test)]
mod tests;
