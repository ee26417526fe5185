//! How long work says how far it is, and hears that it should stop.
//!
//! The vault and the pools take a [`Monitor`]; they never print and never ask a clock.

use crate::ByteCount;

/// Whoever waits for long work.
///
/// Called often, from whatever thread does the work: implementations only store numbers.
pub trait Monitor: Send + Sync {
    /// `done` bytes of `total` are dealt with. The total is none when it is unknown, and may
    /// change while work goes on.
    fn progress(&self, done: ByteCount, total: Option<ByteCount>);

    /// What was written is proven from now on, counted from zero. Said by work that would otherwise
    /// seem to begin anew.
    fn proving(&self) {}

    /// Whether the work should stop as soon as that leaves nothing half done.
    fn is_cancelled(&self) -> bool;
}

/// Nobody waits, nobody cancels.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullMonitor;

impl Monitor for NullMonitor {
    fn progress(&self, _done: ByteCount, _total: Option<ByteCount>) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}
