//! The engine as a whole, over the memory target and over a directory.

mod faults;
mod increments;
mod rot;
mod support;
mod whole;
