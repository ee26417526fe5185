//! Machines: what runs guests.
//!
//! ```text
//! Hypervisor (trait)          what the node asks for
//!  ├ qemu::QemuDriver          QEMU processes that outlive the agent, spoken to by QMP
//!  └ simulated::Simulated      the same in memory, for simulations
//! guard                       the process that freezes a guest and thaws it whatever happens
//! ```
//!
//! A machine has the id of its instance. Its disks are block graphs that somebody else spelled out;
//! a disk's nodes are known here by name alone.
//!
//! **State.** What a machine does is asked of the machine itself, each time. What an agent
//! remembers of it is a connection and nothing more, so that an agent that was restarted knows as
//! much as one that was not.
//!
//! **Concurrency.** Every method blocks, as the ports do that it stands behind (0030). What changes
//! a machine goes through that machine's own lock, one at a time; looking at it waits for nobody,
//! and machines do not wait for each other.
//!
//! **Invariant:** the only crate that knows QMP. It never touches volume data, never probes an
//! image's format, and knows neither accounts nor pools.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod error;
pub mod guard;
mod guest_agent;
mod hypervisor;
mod memory;
pub mod qemu;
mod qmp;
pub mod simulated;
mod socket;
mod spec;

pub use error::Error;
pub use hypervisor::{
    Direction, Freeze, Hypervisor, Join, JoinEnd, JoinWatch, Switch, SwitchReport,
};
pub use memory::{MachineLayout, MemoryReport};
pub use spec::{DiskSpec, Forward, MAX_DISKS, MachineSpec, MachineState, MachineView};
