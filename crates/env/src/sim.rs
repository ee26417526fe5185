//! A seeded environment: the same seed gives the same run.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use stillpoint_model::{Env, Timestamp};

struct State {
    wall: Timestamp,
    monotonic: Duration,
    random: ChaCha8Rng,
}

/// A clock that moves only when told to, and random numbers from one seed.
pub struct SimEnv {
    state: Mutex<State>,
}

impl SimEnv {
    /// Starts at 2026-01-01T00:00:00Z.
    pub fn new(seed: u64) -> Self {
        let state = State {
            wall: Timestamp::from_micros(1_767_225_600_000_000),
            monotonic: Duration::ZERO,
            random: ChaCha8Rng::seed_from_u64(seed),
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        let mut state = self.lock();
        state.wall = state.wall.saturating_add(by);
        state.monotonic += by;
    }

    /// Sets the wall clock alone, as an administrator or a broken time server does.
    pub fn jump_to(&self, wall: Timestamp) {
        self.lock().wall = wall;
    }

    /// A random number below `bound`, which must not be zero.
    pub fn below(&self, bound: u64) -> u64 {
        self.lock().random.next_u64() % bound.max(1)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Env for SimEnv {
    fn now(&self) -> Timestamp {
        self.lock().wall
    }

    fn monotonic(&self) -> Duration {
        self.lock().monotonic
    }

    fn fill_random(&self, buf: &mut [u8]) {
        self.lock().random.fill_bytes(buf);
    }
}

#[cfg(test)]
mod tests {
    use stillpoint_model::id::VolumeId;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_ids() {
        let (a, b) = (SimEnv::new(7), SimEnv::new(7));
        assert_eq!(VolumeId::generate(&a), VolumeId::generate(&b));
        assert_ne!(VolumeId::generate(&a), VolumeId::generate(&SimEnv::new(8)));
    }
}
