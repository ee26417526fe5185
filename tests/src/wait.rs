//! Waiting for a condition, with a deadline.

use std::fmt::Display;
use std::time::Duration;

use stillpoint_env::SystemEnv;
use stillpoint_model::Env;

/// How long anything may take on a busy machine before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition that nobody announces is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// Asks `probe` until it answers `Ok`, and gives the answer. Panics after `patience` with
/// `what` and the last error, so let the error say what was seen instead.
#[track_caller]
pub fn until<T, E: Display>(
    patience: Duration,
    what: impl Display,
    mut probe: impl FnMut() -> Result<T, E>,
) -> T {
    let env = SystemEnv::new();
    let deadline = env.monotonic() + patience;
    loop {
        match probe() {
            Ok(answer) => return answer,
            Err(error) if env.monotonic() >= deadline => {
                panic!("waited {patience:?} for {what}: {error}")
            }
            Err(_) => pause(),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the pause between two looks at a condition"
)]
fn pause() {
    std::thread::sleep(INTERVAL);
}

/// Lets time pass, for what must happen at a random moment and not after anything in particular.
#[expect(
    clippy::disallowed_methods,
    reason = "a moment of time is what is meant"
)]
pub fn wait_out(time: Duration) {
    std::thread::sleep(time);
}
