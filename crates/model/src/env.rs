//! The only door to clock and randomness.
//!
//! The binary hands down the system's; tests and simulations hand down a seeded one, so that a
//! seed is a bug report. `clippy.toml` bans the direct calls everywhere else.

use std::time::Duration;

use crate::Timestamp;

/// Where time and randomness come from.
pub trait Env: Send + Sync + 'static {
    /// The wall clock. It may jump; never measure elapsed time with it.
    fn now(&self) -> Timestamp;

    /// Time since an arbitrary origin. It never jumps and never goes back.
    fn monotonic(&self) -> Duration;

    /// Fills `buf` with bytes that nobody can predict.
    fn fill_random(&self, buf: &mut [u8]);
}
