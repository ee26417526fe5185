//! What the node asks of a hypervisor.

use std::fs::File;
use std::time::Duration;

use serde_json::Value;
use stillpoint_model::ByteCount;
use stillpoint_model::id::{InstanceId, VolumeId};

use crate::{DiskSpec, Error, MachineLayout, MachineSpec, MachineView, MemoryReport};

/// A volume that goes on in an overlay.
#[derive(Clone, Debug, PartialEq)]
pub struct Switch {
    /// The volume.
    pub volume: VolumeId,
    /// The node that takes its writes by now.
    pub tip: String,
    /// The overlay's graph, as `-blockdev` takes it, with a name and without anything below it.
    pub graph: Value,
}

/// Whether a guest's file systems are frozen while its disks are captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freeze {
    /// They are not: what is captured is as after a loss of power.
    Skip,
    /// They are when the guest's agent does it within the bound; otherwise they are not.
    Try {
        /// How long freezing may take, and how long they may stay frozen.
        bound: Duration,
    },
    /// They are, or nothing is done. Should they not stay frozen until the disks are switched, that
    /// is [`Error::FreezeBroke`], and the disks are switched.
    Require {
        /// How long freezing may take, and how long they may stay frozen.
        bound: Duration,
    },
}

/// How a capture went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchReport {
    /// How long the guest's file systems were frozen, the switch within. None: they were not, or are
    /// not known to have been all the while.
    pub frozen: Option<Duration>,
    /// Why they were not, although that was tried.
    pub not_frozen_because: Option<String>,
    /// How long the machine's disks took no writes at most: the one transaction.
    pub stall: Duration,
}

/// Which of two neighbours takes the other's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The upper one.
    Stream,
    /// The lower one.
    Commit,
}

/// Two neighbours of a chain that become one.
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    /// The volume that has them open.
    pub volume: VolumeId,
    /// The name of the job, the same whenever these two are merged.
    pub job: String,
    /// The node on top of the chain.
    pub tip: String,
    /// The upper one.
    pub child: String,
    /// The lower one.
    pub parent: String,
    /// What stands below the lower one.
    pub below: Option<String>,
    /// Which takes the other's data. Never down from the tip.
    pub direction: Direction,
    /// What the file that stands on the result then says it stands on; none for nothing.
    pub backing_name: Option<String>,
}

/// How a join ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinEnd {
    /// The data is in one of the two and flushed, and the other is closed.
    Done,
    /// It was asked to stop and left the chain as it was.
    Stopped,
}

/// Hears how many bytes of how many are done; answers whether to go on.
pub type JoinWatch<'a> = &'a dyn Fn(ByteCount, ByteCount) -> bool;

/// What runs guests. Every method blocks, and may be repeated: it finds its own work done.
pub trait Hypervisor: Send + Sync {
    /// Every machine that there is something of.
    fn machines(&self) -> Vec<InstanceId>;

    /// What can be seen of a machine. One that never was is stopped.
    fn inspect(&self, id: InstanceId) -> Result<MachineView, Error>;

    /// Runs a machine. One that is on already is left as it is.
    fn start(&self, spec: &MachineSpec) -> Result<(), Error>;

    /// Asks the guest to shut down and waits. `go_on` is asked several times a second.
    fn shut_down(
        &self,
        id: InstanceId,
        bound: Duration,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), Error>;

    /// Cuts the power; returns once nothing has the disks open any more. What failed is stopped,
    /// not crashed, from then on.
    fn kill(&self, id: InstanceId) -> Result<(), Error>;

    /// Has a machine stand still.
    fn pause(&self, id: InstanceId) -> Result<(), Error>;

    /// Has a machine go on, also one that was paused because storage was full: what could not be
    /// written then is written now.
    fn resume(&self, id: InstanceId) -> Result<(), Error>;

    /// Cuts the power and removes what is left of the machine. Volumes stay.
    fn delete(&self, id: InstanceId) -> Result<(), Error>;

    /// Gives a machine that is on a disk.
    fn plug(&self, id: InstanceId, disk: &DiskSpec) -> Result<(), Error>;

    /// Takes a disk from a machine that is on, once its guest let go of it.
    fn unplug(&self, id: InstanceId, volume: VolumeId, bound: Duration) -> Result<(), Error>;

    /// Makes the node on top of a volume's chain larger, durably, and tells the guest.
    fn resize(&self, id: InstanceId, volume: VolumeId, size: ByteCount) -> Result<(), Error>;

    /// The end of what the guest wrote to its serial console, at most `max` bytes, also of a
    /// machine that is off. What one that crashed wrote after it was last looked at may be missing.
    fn console(&self, id: InstanceId, max: ByteCount) -> Result<Vec<u8>, Error>;

    /// The machine that has a volume open. None only when every machine that may have it was asked
    /// and said no.
    fn holder(&self, volume: VolumeId) -> Result<Option<InstanceId>, Error>;

    /// The nodes of a volume's chain as the machine has it, the tip first.
    fn open_chain(&self, id: InstanceId, volume: VolumeId) -> Result<Vec<String>, Error>;

    /// Puts overlays on the tips of a machine's volumes, all at one instant or none.
    fn switch(
        &self,
        id: InstanceId,
        switches: &[Switch],
        freeze: Freeze,
    ) -> Result<SwitchReport, Error>;

    /// Puts overlays on the tips of a running machine's volumes, and writes what its memory held at
    /// that instant to an empty file, while the guest goes on. Returns when that is whole; it cannot
    /// be given up. The file takes up at most the memory and a little more. When it fails after the
    /// disks were switched, they are.
    fn switch_with_memory(
        &self,
        id: InstanceId,
        _switches: &[Switch],
        _into: &File,
    ) -> Result<MemoryReport, Error> {
        Err(Error::without_memory(id))
    }

    /// Runs a machine that goes on from captured memory, with disks that hold what they held at that
    /// instant. One that is on already is left as it is. Refuses a machine that is not as it was.
    fn start_from_memory(
        &self,
        spec: &MachineSpec,
        _layout: &MachineLayout,
        _from: &File,
    ) -> Result<(), Error> {
        Err(Error::without_memory(spec.id))
    }

    /// Whether a machine that is on can do a join with [`Direction::Stream`] into a layer of which
    /// parts are written. One that cannot may end when it is asked to.
    fn can_stream(&self, id: InstanceId) -> Result<bool, Error>;

    /// Merges two layers while the guest goes on. A job of that name that runs already is waited
    /// for, whoever began it. `watch` is asked several times a second. [`Error::Failed`] when it
    /// ended with an error of the machine's storage; both layers are in the chain then.
    fn join(&self, id: InstanceId, join: &Join, watch: JoinWatch<'_>) -> Result<JoinEnd, Error>;

    /// Puts a node below a volume's tip instead of the one that is there, which shows the same and is
    /// closed. `below` is its graph, as `-blockdev` takes it.
    fn rebase(
        &self,
        id: InstanceId,
        volume: VolumeId,
        tip: &str,
        below: &Value,
    ) -> Result<(), Error>;

    /// Stops every join in a volume's chain; afterwards nobody writes below its tip. One that had
    /// ended stays done.
    fn stop_joins(&self, id: InstanceId, volume: VolumeId) -> Result<(), Error>;
}
