//! For how long a backup is promised to stay.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// For how long nobody can delete a backup, counted from when it was asked for: in seconds, from a minute
/// to ten years. What is promised cannot be taken back, so that a slip of the pen must not last longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct KeepFor(u32);

impl KeepFor {
    /// The shortest promise.
    pub const MIN: Self = Self(60);
    /// The longest promise.
    pub const MAX: Self = Self(10 * 365 * 24 * 3600);

    /// In seconds.
    pub const fn seconds(self) -> u32 {
        self.0
    }

    /// As a duration.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }

    /// When a promise ends that is made at a time.
    pub fn from(self, at: Timestamp) -> Timestamp {
        at.saturating_add(self.duration())
    }
}

impl From<KeepFor> for u32 {
    fn from(keep: KeepFor) -> Self {
        keep.0
    }
}

/// The number is no such time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("backups are kept for 60 s to ten years (315360000 s), not for {0} s")]
pub struct InvalidKeepFor(u32);

impl TryFrom<u32> for KeepFor {
    type Error = InvalidKeepFor;

    fn try_from(seconds: u32) -> Result<Self, InvalidKeepFor> {
        match (Self::MIN.0..=Self::MAX.0).contains(&seconds) {
            true => Ok(Self(seconds)),
            false => Err(InvalidKeepFor(seconds)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_cannot_promise_for_ever() {
        for (text, seconds) in [
            ("60", Some(60)),
            ("315360000", Some(315_360_000)),
            ("59", None),
            ("315360001", None),
        ] {
            let read = serde_json::from_str::<KeepFor>(text);
            assert_eq!(read.ok().map(KeepFor::seconds), seconds, "{text}");
        }
    }
}
