//! How patient the engine is: leases, attempts, pauses, and when a run is given up.

use std::time::Duration;

use stillpoint_model::Timestamp;
use stillpoint_model::operation::Failure;
use stillpoint_model::refusal::ProblemCode;
use stillpoint_model::saga::{Direction, Run};

/// How patient the engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a node may be silent before its task is given again.
    pub lease: Duration,
    /// How often a task is handed out.
    pub attempts: u32,
    /// How often an undo is handed out.
    pub undo_attempts: u32,
    /// How long an undo may go without progress.
    pub undo_patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            attempts: 5,
            undo_attempts: 8,
            undo_patience: Duration::from_mins(5),
        }
    }
}

/// When a run is given up for want of progress or for taking too long.
pub fn deadline(run: &Run, limits: &Limits) -> Timestamp {
    let patience = match run.direction {
        Direction::Forward => run.order.terms.no_progress(),
        Direction::Backward => limits.undo_patience,
    };
    let silent = run.operation.progressed_at.saturating_add(patience);
    match (run.direction, run.order.terms.max_runtime()) {
        (Direction::Forward, Some(runtime)) => {
            silent.min(run.operation.created_at.saturating_add(runtime))
        }
        _ => silent,
    }
}

/// Why a run past its deadline is given up.
pub fn no_progress(run: &Run, now: Timestamp) -> Failure {
    let patience = run.order.terms.no_progress();
    let silent = run.operation.progressed_at.saturating_add(patience) <= now;
    let text = if silent {
        format!(
            "It made no progress for {} and was ended.",
            in_words(patience)
        )
    } else {
        let runtime = run.order.terms.max_runtime().unwrap_or_default();
        format!("It took longer than {} and was ended.", in_words(runtime))
    };
    Failure {
        code: ProblemCode::NoProgress,
        text,
    }
}

/// The pause before a task is handed out again: doubling, at most a minute.
pub fn backoff(attempt: u32) -> Duration {
    Duration::from_secs(1_u64.checked_shl(attempt.min(6)).unwrap_or(64).min(60))
}

fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let (count, unit) = match seconds {
        3600.. if seconds.is_multiple_of(3600) => (seconds / 3600, "hour"),
        60.. if seconds.is_multiple_of(60) => (seconds / 60, "minute"),
        _ => (seconds, "second"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let pauses: Vec<u64> = (0..9).map(|attempt| backoff(attempt).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn times_are_said_as_people_say_them() {
        let said = [7200, 3600, 90 * 60, 61].map(|s| in_words(Duration::from_secs(s)));
        assert_eq!(said, ["2 hours", "1 hour", "90 minutes", "61 seconds"]);
    }
}
