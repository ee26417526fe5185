//! How fast a task moves: a moving average of the bytes between its reports.

use std::time::Duration;

use stillpoint_model::ByteCount;
use stillpoint_model::operation::{Phase, Progress};

/// The weight of the newest second in the moving average of the rate.
const NEWEST: f64 = 0.3;

/// How fast a task moves.
pub(super) struct Meter {
    pub(super) fence: i64,
    pub(super) at: Duration,
    pub(super) done: ByteCount,
    pub(super) phase: Phase,
    pub(super) rate: Option<f64>,
    pub(super) written_at: Duration,
    pub(super) written: Progress,
}

impl Meter {
    /// Takes in a report.
    pub(super) fn turn(&mut self, progress: &Progress, at: Duration) {
        if progress.phase != self.phase || progress.bytes_done < self.done {
            self.phase = progress.phase;
            self.done = progress.bytes_done;
            self.at = at;
            self.rate = None;
            return;
        }
        let elapsed = at.saturating_sub(self.at).as_secs_f64();
        if elapsed < 0.2 {
            return;
        }
        let bytes = progress.bytes_done.saturating_sub(self.done).get();
        #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
        let newest = bytes as f64 / elapsed;
        let weight = 1.0 - (1.0 - NEWEST).powf(elapsed);
        self.rate = Some(
            self.rate
                .map_or(newest, |rate| rate + (newest - rate) * weight),
        );
        self.done = progress.bytes_done;
        self.at = at;
    }

    pub(super) fn rate_in_bytes(&self) -> Option<ByteCount> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float becomes the nearest integer that there is"
        )]
        let rate = self.rate? as u64;
        (rate > 0).then_some(ByteCount::new(rate))
    }
}
