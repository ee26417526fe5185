//! The machine's own clock and random numbers.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use stillpoint_model::{Env, Timestamp};

/// The machine's own clock and random numbers.
pub struct SystemEnv {
    origin: Instant,
    random: SystemRandom,
}

impl SystemEnv {
    /// The environment of this process.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the replacement the ban names"
    )]
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
            random: SystemRandom::new(),
        }
    }
}

impl Default for SystemEnv {
    fn default() -> Self {
        Self::new()
    }
}

impl Env for SystemEnv {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the replacement the ban names"
    )]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::EPOCH.saturating_add(since_epoch)
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    #[expect(
        clippy::expect_used,
        reason = "without randomness no key is safe: stop the process"
    )]
    fn fill_random(&self, buf: &mut [u8]) {
        self.random
            .fill(buf)
            .expect("the operating system gives random bytes");
    }
}
