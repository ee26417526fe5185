//! Clock, randomness and ids of the real machine, and seeded ones for simulation.
//!
//! **Invariant:** the only crate that asks the operating system for time or random bytes.

mod sim;
mod system;

pub use sim::SimEnv;
pub use system::SystemEnv;
