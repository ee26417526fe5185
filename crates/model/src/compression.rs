//! How hard backups are compressed.

use serde::{Deserialize, Serialize};

/// A level of zstd: the higher, the less is stored and the longer it takes. 3 unless a plan says
/// otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct CompressionLevel(u8);

impl CompressionLevel {
    /// The fastest that is accepted.
    pub const MIN: Self = Self(1);
    /// The hardest: above it a level takes more memory than a backup may.
    pub const MAX: Self = Self(19);

    /// The level, as zstd counts.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for CompressionLevel {
    fn default() -> Self {
        Self(3)
    }
}

impl std::fmt::Display for CompressionLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl From<CompressionLevel> for u8 {
    fn from(level: CompressionLevel) -> Self {
        level.0
    }
}

/// The number is no level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a compression level is 1 to 19, not {0}")]
pub struct InvalidLevel(u8);

impl TryFrom<u8> for CompressionLevel {
    type Error = InvalidLevel;

    fn try_from(level: u8) -> Result<Self, InvalidLevel> {
        match (Self::MIN.0..=Self::MAX.0).contains(&level) {
            true => Ok(Self(level)),
            false => Err(InvalidLevel(level)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_cannot_ask_for_a_level_that_there_is_not() {
        for (text, level) in [("1", Some(1)), ("19", Some(19)), ("0", None), ("20", None)] {
            let read = serde_json::from_str::<CompressionLevel>(text);
            assert_eq!(read.ok().map(CompressionLevel::get), level, "{text}");
        }
        assert_eq!(CompressionLevel::default().get(), 3);
    }
}
