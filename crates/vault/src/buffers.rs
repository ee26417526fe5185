//! Buffers that go round, so that a long run allocates what it needs once.
//!
//! Frames and packs are of one size class each. Allocated anew for every frame by several threads,
//! they would cost page faults and stay behind in the allocator's arenas.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::direct::BLOCK;

/// Buffers that are free just now. How many there are is bounded by how many are in flight.
#[derive(Debug, Default)]
pub(crate) struct Buffers<T = Vec<u8>>(Mutex<Vec<T>>);

impl<T: Default> Buffers<T> {
    /// A buffer with anything in it.
    pub(crate) fn take(&self) -> T {
        self.lock().pop().unwrap_or_default()
    }

    /// Takes a buffer back.
    pub(crate) fn give(&self, buffer: T) {
        self.lock().push(buffer);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory that starts where a block could, so that a device may read and write it itself.
#[derive(Debug, Default)]
pub(crate) struct Aligned(Vec<u8>);

impl Aligned {
    /// `len` bytes of it, with anything in them.
    pub(crate) fn room(&mut self, len: usize) -> &mut [u8] {
        if self.0.len() < len + BLOCK {
            self.0 = vec![0; len + BLOCK];
        }
        let start = self.0.as_ptr().align_offset(BLOCK).min(BLOCK);
        &mut self.0[start..start + len]
    }
}
