//! Buffers that go round, so that a long run allocates what it needs once.
//!
//! Frames and packs are of one size class each. Allocated anew for every frame by several threads,
//! they would cost page faults and stay behind in the allocator's arenas.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Buffers that are free just now. How many there are is bounded by how many are in flight.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// A buffer with anything in it.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.lock().pop().unwrap_or_default()
    }

    /// Takes a buffer back.
    pub(crate) fn give(&self, buffer: Vec<u8>) {
        self.lock().push(buffer);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
