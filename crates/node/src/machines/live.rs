//! A hypervisor's machines as the pools' host: whoever has volumes open.
//!
//! ```text
//! LayerPool --LiveHost--> Hypervised --Hypervisor--> the one machine that has the volume open
//! ```
//!
//! A pool says which volume, a driver wants to know whose machine. Who has a volume open is asked
//! each time, since a machine may have ended or let go of it in between.
//!
//! **Doubt.** A machine that does not answer may have a volume open. So "nobody has it open" is
//! said only when every machine that may have it answered; otherwise [`HostError::Unreachable`]. That
//! is also said when the machine was gone before it did what it was asked: the pool looks anew, or
//! asks again.
//! [`HostError::Refused`] is said of what was not begun, [`HostError::Failed`] of what may be half
//! done.
//!
//! **One instant.** Volumes of one machine are switched by one of its transactions. Two machines
//! have no instant in common, so a set that is spread over them is refused.

use std::fs::File;
use std::time::Duration;

use serde_json::Value;
use stillpoint_layers::live::{HostError, JoinEnd, JoinWatch, LiveHost, LiveJoin, LiveSwitch};
use stillpoint_machines as machines;
use stillpoint_machines::{Error, Freeze, Hypervisor, MachineLayout, Switch};
use stillpoint_model::ByteCount;
use stillpoint_model::error::with_causes;
use stillpoint_model::id::{InstanceId, VolumeId};
use stillpoint_model::item::{Consistency, FreezePolicy};
use stillpoint_model::layer_tree::Direction;

use super::Hypervised;

/// How long freezing a guest may take, and how long it may stay frozen.
const FREEZE_BOUND: Duration = Duration::from_secs(10);

/// How often it is looked up who has a volume open, while those who had it let go of it.
const LOOKS: usize = 3;

/// What became of something that a machine was asked to do.
fn became(error: Error) -> HostError {
    match error {
        Error::NoAnswer { .. } | Error::WrongState { .. } | Error::NoDisk { .. } => {
            HostError::Unreachable
        }
        Error::NotFrozen { .. } => HostError::NotFrozen(with_causes(&error)),
        Error::Refused { .. }
        | Error::BadSpec { .. }
        | Error::GuestStays { .. }
        | Error::GuestHolds { .. }
        | Error::Cancelled => HostError::Refused(with_causes(&error)),
        other => HostError::Failed(with_causes(&other)),
    }
}

/// Whatever kept a machine from being asked: what it has open is not known.
fn unknown(error: &Error) -> HostError {
    tracing::warn!(
        error = with_causes(error),
        "who has a volume open is not known"
    );
    HostError::Unreachable
}

fn join_of(join: &LiveJoin) -> machines::Join {
    let LiveJoin {
        volume,
        job,
        tip,
        child,
        parent,
        below,
        direction,
        backing_name,
    } = join.clone();
    machines::Join {
        volume,
        job,
        tip,
        child,
        parent,
        below,
        direction: match direction {
            Direction::Stream => machines::Direction::Stream,
            Direction::Commit => machines::Direction::Commit,
        },
        backing_name,
    }
}

fn driver_switches(switches: &[LiveSwitch]) -> Vec<Switch> {
    let switch = |switch: &LiveSwitch| Switch {
        volume: switch.volume,
        tip: switch.tip.clone(),
        graph: switch.graph.clone(),
    };
    switches.iter().map(switch).collect()
}

impl<H: Hypervisor> Hypervised<H> {
    /// Switches the volumes of one machine, and writes its memory of that instant.
    pub(super) fn capture_memory(
        &self,
        switches: &[LiveSwitch],
        into: &File,
    ) -> Result<MachineLayout, HostError> {
        let id = self.one_opener(switches)?.ok_or(HostError::Unreachable)?;
        let all = driver_switches(switches);
        let report = self.driver.switch_with_memory(id, &all, into);
        let report = report.map_err(became)?;
        tracing::info!(instance = %id, ?report, "captured with its memory");
        Ok(report.layout)
    }

    /// The machine that has a volume open.
    fn holder(&self, volume: VolumeId) -> Result<Option<InstanceId>, HostError> {
        self.driver.holder(volume).map_err(|error| unknown(&error))
    }

    /// The machine that must have a volume open.
    fn opener(&self, volume: VolumeId) -> Result<InstanceId, HostError> {
        self.holder(volume)?.ok_or(HostError::Unreachable)
    }

    /// What a machine is asked for. A guest whose agent never answered is not waited for where it
    /// need not be frozen.
    fn freeze(&self, id: InstanceId, policy: FreezePolicy) -> Freeze {
        let bound = FREEZE_BOUND;
        match policy {
            FreezePolicy::Require => Freeze::Require { bound },
            FreezePolicy::Try if self.driver.inspect(id).is_ok_and(|v| v.agent_answered) => {
                Freeze::Try { bound }
            }
            FreezePolicy::Try | FreezePolicy::Skip => Freeze::Skip,
        }
    }

    /// The one machine that has all of these open.
    fn one_opener(&self, switches: &[LiveSwitch]) -> Result<Option<InstanceId>, HostError> {
        let mut found = None;
        for switch in switches {
            let id = self.opener(switch.volume)?;
            if *found.get_or_insert(id) != id {
                let reason = "the volumes are open in different machines";
                return Err(HostError::Refused(reason.to_owned()));
            }
        }
        Ok(found)
    }
}

impl<H: Hypervisor> LiveHost for Hypervised<H> {
    fn open_chain(&self, volume: VolumeId) -> Result<Option<Vec<String>>, HostError> {
        for _ in 0..LOOKS {
            let Some(id) = self.holder(volume)? else {
                return Ok(None);
            };
            match self.driver.open_chain(id, volume) {
                Ok(chain) => return Ok(Some(chain)),
                // It ended, or let go of it, since it was asked who has it.
                Err(Error::WrongState { .. } | Error::NoDisk { .. }) => {}
                Err(error) => return Err(unknown(&error)),
            }
        }
        Err(HostError::Unreachable)
    }

    fn switch(
        &self,
        switches: &[LiveSwitch],
        freeze: FreezePolicy,
    ) -> Result<Consistency, HostError> {
        let Some(id) = self.one_opener(switches)? else {
            return Ok(Consistency::Crash);
        };
        let all = driver_switches(switches);
        let report = match self.driver.switch(id, &all, self.freeze(id, freeze)) {
            // The disks are switched; whoever required more hears what was reached.
            Err(Error::FreezeBroke { report, .. }) => report,
            answer => answer.map_err(became)?,
        };
        tracing::info!(instance = %id, ?report, "switched to new layers");
        Ok(match report.frozen {
            Some(_) => Consistency::Filesystem,
            None => Consistency::Crash,
        })
    }

    fn can_stream(&self, volume: VolumeId) -> bool {
        match self.driver.holder(volume) {
            Ok(None) => true,
            Ok(Some(id)) => self.driver.can_stream(id).unwrap_or(false),
            Err(_) => false,
        }
    }

    fn join(&self, join: &LiveJoin, watch: JoinWatch<'_>) -> Result<JoinEnd, HostError> {
        let id = self.opener(join.volume)?;
        let ended = self.driver.join(id, &join_of(join), watch);
        Ok(match ended.map_err(became)? {
            machines::JoinEnd::Done => JoinEnd::Done,
            machines::JoinEnd::Stopped => JoinEnd::Stopped,
        })
    }

    fn stop_joins(&self, volume: VolumeId) -> Result<(), HostError> {
        match self.holder(volume)? {
            Some(id) => self.driver.stop_joins(id, volume).map_err(became),
            None => Ok(()),
        }
    }

    fn rebase(&self, volume: VolumeId, tip: &str, below: &Value) -> Result<(), HostError> {
        let id = self.opener(volume)?;
        self.driver.rebase(id, volume, tip, below).map_err(became)
    }

    fn resize(&self, volume: VolumeId, tip: &str, size: ByteCount) -> Result<(), HostError> {
        let id = self.opener(volume)?;
        let chain = self.driver.open_chain(id, volume).map_err(became)?;
        if chain.first().is_none_or(|top| top != tip) {
            let reason = format!("{tip} is not what {volume} writes to");
            return Err(HostError::Refused(reason));
        }
        self.driver.resize(id, volume, size).map_err(became)
    }
}

#[cfg(test)]
mod tests;
