//! How a change is asked for, and what is answered.

use stillpoint_model::guard::Allowed;
use stillpoint_model::operation::Operation;

/// How a change is to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Only say what would happen.
    pub dry_run: bool,
    /// Makes a repeated request the same request, for 24 hours. 1 to 255 printable characters.
    pub idempotency_key: Option<String>,
    /// Pass the cooldown. For administrators alone, and audited.
    pub override_cooldown: bool,
    /// Only if the thing still has this version.
    pub if_match: Option<i64>,
}

/// What a request for work is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was accepted; this is the operation that does it.
    Accepted(Operation),
    /// It would be accepted.
    Preview(Preview),
}

/// What would happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// What the guard rails say.
    pub allowed: Allowed,
}
