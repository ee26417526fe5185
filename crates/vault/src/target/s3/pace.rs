//! A limit on bytes per second, and the wait between attempts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stillpoint_model::{ByteCount, Env};

/// The first wait after a failure; each further one may be twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Bytes pass at a steady rate: whoever has some waits until those before have had their time.
pub(super) struct Pace {
    env: Arc<dyn Env>,
    bytes_per_second: u64,
    /// When the next byte may pass, on the monotonic clock.
    free: Mutex<Duration>,
}

impl std::fmt::Debug for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pace({} bytes/s)", self.bytes_per_second)
    }
}

impl Pace {
    pub(super) fn new(env: Arc<dyn Env>, rate: ByteCount) -> Self {
        Self {
            env,
            bytes_per_second: rate.get().max(1),
            free: Mutex::default(),
        }
    }

    /// Lets so many bytes pass when it is their turn.
    pub(super) async fn pass(&self, bytes: usize) {
        let wait = self.book(bytes as u64);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes a place in the row; gives how long it is until then.
    fn book(&self, bytes: u64) -> Duration {
        let now = self.env.monotonic();
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let starts = (*free).max(now);
        *free = starts.saturating_add(takes);
        starts - now
    }
}

/// The attempts at one thing: how many there were and for how long it may go on.
pub(super) struct Attempts<'a> {
    env: &'a dyn Env,
    until: Duration,
    failed: u32,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(env: &'a dyn Env, patience: Duration) -> Self {
        Self {
            until: env.monotonic().saturating_add(patience),
            env,
            failed: 0,
        }
    }

    /// Waits a little before the next attempt; false, at once, when patience is at its end.
    pub(super) async fn another(&mut self) -> bool {
        let Some(left) = self.until.checked_sub(self.env.monotonic()) else {
            return false;
        };
        let wait = self.wait();
        if wait > left {
            return false;
        }
        self.failed += 1;
        tokio::time::sleep(wait).await;
        true
    }

    /// Between half and all of the backoff, by chance, so that those who failed together do not
    /// come back together.
    fn wait(&self) -> Duration {
        let backoff = FIRST_WAIT
            .saturating_mul(1 << self.failed.min(16))
            .min(LONGEST_WAIT);
        let mut random = [0; 1];
        self.env.fill_random(&mut random);
        backoff.mul_f64(0.5 + f64::from(random[0]) / 512.0)
    }
}

#[cfg(test)]
mod tests {
    use stillpoint_env::SimEnv;

    use super::*;

    #[test]
    fn bytes_pass_at_the_rate_whoever_sends_them() {
        let env = Arc::new(SimEnv::new(1));
        let pace = Pace::new(env.clone(), ByteCount::new(1000));
        assert_eq!(pace.book(500), Duration::ZERO);
        assert_eq!(pace.book(100), Duration::from_millis(500));
        assert_eq!(pace.book(0), Duration::from_millis(600));
        env.advance(Duration::from_secs(2));
        assert_eq!(pace.book(1), Duration::ZERO, "a pause is not saved up");
    }

    #[test]
    fn waits_grow_to_a_limit_and_differ() {
        let env = SimEnv::new(2);
        let mut attempts = Attempts::new(&env, Duration::from_secs(60));
        for failed in 0..40 {
            attempts.failed = failed;
            let most = FIRST_WAIT
                .saturating_mul(1 << failed.min(16))
                .min(LONGEST_WAIT);
            let wait = attempts.wait();
            assert!(wait >= most / 2 && wait <= most, "{failed}: {wait:?}");
        }
        attempts.failed = 20;
        let mut waits: Vec<_> = (0..16).map(|_| attempts.wait()).collect();
        waits.sort();
        waits.dedup();
        assert!(waits.len() > 8);
    }
}
