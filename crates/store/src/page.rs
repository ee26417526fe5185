//! Keyset pages: newest first, after a key that never moves. Never OFFSET.

use stillpoint_model::Timestamp;
use uuid::Uuid;

/// Which rows of a list that is ordered by age, newest first, then by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageKey {
    /// Only rows after the row with this age and id.
    pub after: Option<(Timestamp, Uuid)>,
    /// How many rows at most.
    pub limit: u32,
}

impl PageKey {
    /// The age to begin below; the end of time for the first page.
    pub(crate) fn created_at(&self) -> i64 {
        self.after.map_or(i64::MAX, |(at, _)| at.as_micros())
    }

    /// The id to begin below among rows of that age.
    pub(crate) fn id(&self) -> String {
        self.after
            .map_or_else(String::new, |(_, id)| id.to_string())
    }
}
