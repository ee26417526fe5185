//! What a machine is made of, and what can be seen of it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stillpoint_model::ByteCount;
use stillpoint_model::id::{InstanceId, VolumeId};

use crate::Error;

const MIB: u64 = 1 << 20;

/// What a machine is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// Whose machine it is; also the UUID that its guest sees.
    pub id: InstanceId,
    /// The guest's host name, told to the guest by its firmware tables.
    pub hostname: String,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory, in bytes: whole MiB.
    pub memory: ByteCount,
    /// Its disks.
    pub disks: Vec<DiskSpec>,
    /// Ports of the guest that the host's loopback address reaches.
    pub forwards: Vec<Forward>,
}

/// Disks of one machine at most.
pub const MAX_DISKS: usize = 16;

impl MachineSpec {
    /// Refuses what no driver could make.
    pub fn check(&self) -> Result<(), Error> {
        let volumes: BTreeSet<_> = self.disks.iter().map(|disk| disk.volume).collect();
        let is_host_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let reason = if self.vcpus == 0 || self.vcpus > 255 {
            "it takes 1 to 255 processors"
        } else if self.memory.get() < MIB || !self.memory.get().is_multiple_of(MIB) {
            "its memory is whole MiB"
        } else if self.disks.len() > MAX_DISKS {
            "it takes at most 16 disks"
        } else if volumes.len() != self.disks.len() {
            "a volume is named twice"
        } else if self.hostname.is_empty() || !self.hostname.chars().all(is_host_name) {
            "a host name is letters, digits and hyphens"
        } else if self.forwards.iter().any(|f| f.host == 0 || f.guest == 0) {
            "port 0 cannot be forwarded"
        } else {
            return Ok(());
        };
        let (id, reason) = (self.id, reason.to_owned());
        Err(Error::BadSpec { id, reason })
    }
}

/// A disk of a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskSpec {
    /// The volume.
    pub volume: VolumeId,
    /// Its place among the machine's disks; it boots from the lowest.
    pub place: u32,
    /// The explicit block graph, as QEMU's `-blockdev` takes it: every node named, every driver
    /// given, `backing` spelled out or null.
    pub graph: Value,
}

impl DiskSpec {
    /// The serial number that the guest sees: what fits in a virtio disk's 20 characters of the
    /// volume's id, its last part, which is random.
    pub fn serial(&self) -> String {
        let id = self.volume.as_uuid().simple().to_string();
        id.chars().skip(12).collect()
    }
}

/// A TCP port of the guest that the host's loopback address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The host's port; 0 is refused.
    pub host: u16,
    /// The guest's port.
    pub guest: u16,
}

/// What a machine does.
///
/// ```text
///            start              pause, storage full
///  stopped ----------> running <---------------> paused
///     ^  ^               |        resume            |
///     |  +---------------+--------------------------+  the guest shut down, or it was killed
///     |  start                                      |
///  crashed <--------------------------------------- +  its process ended and nobody had asked
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// It is off, or never was.
    Stopped,
    /// It runs.
    Running,
    /// It stands still, with its disks open.
    Paused,
    /// It ended without being asked and without its guest shutting down.
    Crashed,
}

impl MachineState {
    /// Whether it has its disks open.
    pub const fn is_on(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

impl std::fmt::Display for MachineState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Stopped => "stopped",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Crashed => "crashed",
        })
    }
}

/// What can be seen of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineView {
    /// Whose machine it is.
    pub id: InstanceId,
    /// What it does.
    pub state: MachineState,
    /// The volumes whose storage had no room for what the guest wrote. It is paused for that, with
    /// these writes kept: a resume tries them again, and pauses again if there is still no room.
    pub storage_full: Vec<VolumeId>,
    /// The volumes that it has open; none when it is off.
    pub open: Vec<VolumeId>,
    /// Whether the guest's agent answered since the machine started.
    pub agent_answered: bool,
    /// How busy its processors were since it was looked at last: percent of all of them, 0 to
    /// 100. None when it is off or was not looked at before.
    pub load_percent: Option<u8>,
    /// Ports of the guest that the host's loopback address reaches; none when it is off.
    pub forwards: Vec<Forward>,
}

impl MachineView {
    /// A machine that never was.
    pub const fn absent(id: InstanceId) -> Self {
        Self {
            id,
            state: MachineState::Stopped,
            storage_full: Vec::new(),
            open: Vec::new(),
            agent_answered: false,
            load_percent: None,
            forwards: Vec::new(),
        }
    }
}
