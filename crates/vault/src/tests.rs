//! The engine as a whole, over the memory target and over a directory.

mod collect;
mod collect_races;
mod copy;
mod faults;
mod full;
mod heal;
mod increments;
mod keys;
mod kill;
mod locks;
mod proof;
mod read_back;
mod rebuild;
mod repack;
mod repair;
mod rot;
mod round_trips;
mod sums;
pub(crate) mod support;
pub(crate) mod torture;
mod whole;
