//! The node: it does what touches data, with the pools and backup targets it was given.
//!
//! [`Node`] asks a [`ControlPlane`] for work, does it with [`Storage`], and says how it ended.
//! The control plane may be in the same process or far away; nothing here knows which.
//!
//! ```text
//! ControlPlane --assignment--> Node --> perform(task) --> stillpoint_layers::Pool
//!      ^                         |                   |         | LiveHost: open volumes
//!      |                         |                   |-> Machines: a hypervisor's driver
//!      |                         |                   |-> Readers: what reads backups for guests
//!      |                         |                   \-> stillpoint_vault::Vault
//!      +-- report, confirm, finish, sighted, answer
//! ```
//!
//! **Invariant:** it knows no SQL, no plans, no prices and no customers: ids come with the task.
//! It does nothing that it was not assigned, and makes nothing final that was not confirmed.

mod control_plane;
mod failure;
mod machines;
mod owners;
mod progress;
mod readers;
mod runner;
mod storage;
mod tasks;

pub use control_plane::{ControlError, ControlPlane};
pub use machines::{Hypervised, MachineError, MachineResult, MachineSeen, Machines, OpenDisk};
pub use progress::Watch;
pub use readers::{ReaderError, ReaderFault, ReaderProgram, Readers, run as run_reader};
pub use runner::{Node, Settings};
pub use storage::Storage;
pub use tasks::{Hooks, Sink, TaskResult, perform};
