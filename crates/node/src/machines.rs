//! The machines of a node, as its tasks need them.
//!
//! [`Machines`] is a port: a hypervisor driver stands behind it, and tests put a simulated one
//! there. Every method may be repeated and finds its own work done. Two calls about one instance
//! never come at the same time ([`crate::Node`] has one owner per instance); calls about different
//! instances do.

use std::fs::File;
use std::time::Duration;

use stillpoint_layers::live::{HostError, LiveSwitch};
use stillpoint_machines::MachineLayout;
use stillpoint_model::id::{InstanceId, VolumeId};
use stillpoint_model::instance::{MachineDisk, MachineOrder, Power, Sight};
use stillpoint_model::progress::Monitor;
use stillpoint_model::{ByteCount, ErrorKind};

mod hypervisor;
mod live;

pub use hypervisor::Hypervised;

/// A volume as a machine opens it.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenDisk {
    /// The volume, in its place.
    pub disk: MachineDisk,
    /// Its explicit block graph, as its pool spells it. None where the pool's volumes are no files;
    /// a driver that needs one refuses then.
    pub graph: Option<serde_json::Value>,
}

/// What a machine does, and what it has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineSeen {
    /// What it does.
    pub power: Power,
    /// The volumes that it has open; none when it is off.
    pub open: Vec<VolumeId>,
}

impl MachineSeen {
    /// No machine, or one that is off.
    pub const OFF: Self = Self {
        power: Power::Off,
        open: Vec::new(),
    };
}

/// Why a machine did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The guest was asked to shut down and did not, within the bound.
    #[error("the guest of {instance} did not shut down within {} seconds", bound.as_secs())]
    GuestStays {
        /// The instance.
        instance: InstanceId,
        /// How long it was waited for.
        bound: Duration,
    },
    /// The guest did not let go of a volume.
    #[error("the guest of {instance} did not let go of {volume}")]
    GuestHolds {
        /// The instance.
        instance: InstanceId,
        /// The volume.
        volume: VolumeId,
    },
    /// The machine is not in the state that this needs.
    #[error("the machine of {instance} is {power}")]
    WrongPower {
        /// The instance.
        instance: InstanceId,
        /// What it does.
        power: Power,
    },
    /// Somebody asked to stop.
    #[error("it was cancelled")]
    Cancelled,
    /// The driver's own words.
    #[error("{detail}")]
    Driver {
        /// What to do about it.
        kind: ErrorKind,
        /// What an operator reads.
        detail: String,
    },
}

impl MachineError {
    /// What to do about it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::GuestStays { .. } | Self::GuestHolds { .. } | Self::WrongPower { .. } => {
                ErrorKind::Conflict
            }
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Driver { kind, .. } => *kind,
        }
    }
}

/// What machines say that capture no memory.
const NO_MEMORY: &str = "these machines capture no memory";

/// What is said of a machine.
pub type MachineResult = Result<MachineSeen, MachineError>;

/// The machines of a node. Every method blocks.
pub trait Machines: Send + Sync {
    /// Runs a machine. One that runs, or is paused, is left as it is.
    fn start(&self, id: InstanceId, order: &MachineOrder, disks: &[OpenDisk]) -> MachineResult;

    /// Puts overlays on the tips of the volumes of one machine that runs, and writes what its memory
    /// holds at that instant to an empty file; what the machine must be like to go on from it.
    fn switch_with_memory(
        &self,
        _switches: &[LiveSwitch],
        _into: &File,
    ) -> Result<MachineLayout, HostError> {
        Err(HostError::Refused(NO_MEMORY.to_owned()))
    }

    /// Runs a machine that goes on from captured memory. One that runs, or is paused, is left as it
    /// is.
    fn start_from_memory(
        &self,
        _id: InstanceId,
        _order: &MachineOrder,
        _disks: &[OpenDisk],
        _memory: (MachineLayout, &File),
    ) -> MachineResult {
        Err(MachineError::Driver {
            kind: ErrorKind::Unsupported,
            detail: NO_MEMORY.to_owned(),
        })
    }

    /// Asks the guest to shut down, and waits for it. One that is off is left as it is.
    fn shut_down(&self, id: InstanceId, bound: Duration, monitor: &dyn Monitor) -> MachineResult;

    /// Cuts the power. One that is off is left as it is.
    fn kill(&self, id: InstanceId) -> MachineResult;

    /// Has a machine stand still. One that is paused is left as it is.
    fn pause(&self, id: InstanceId) -> MachineResult;

    /// Has a machine go on. One that runs is left as it is.
    fn resume(&self, id: InstanceId) -> MachineResult;

    /// Cuts the power and removes what is left of the machine, but no volume. One that never was
    /// is removed already.
    fn remove(&self, id: InstanceId) -> MachineResult;

    /// Gives a machine that runs a volume. One that is off, or has it, is left as it is.
    fn plug(&self, id: InstanceId, disk: &OpenDisk) -> MachineResult;

    /// Takes a volume from a machine, once its guest has let go of it. One that is off, or has it
    /// not, is left as it is.
    fn unplug(&self, id: InstanceId, volume: VolumeId) -> MachineResult;

    /// What a machine does, and what it has open.
    fn inspect(&self, id: InstanceId) -> MachineResult;

    /// The end of what the guest wrote to its serial console, at most `max` bytes, also of a machine
    /// that is off. May be asked at any time, whatever else is being done to the machine.
    fn console(&self, id: InstanceId, max: ByteCount) -> Result<Vec<u8>, MachineError>;

    /// What all of them do. One that is missing here counts as off, so this fails when one cannot be
    /// looked at.
    fn sights(&self) -> Result<Vec<Sight>, MachineError>;
}
