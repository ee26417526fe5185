//! Errors across every crate's boundary: what a caller must do about one, and how an operator
//! reads it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The coarse kind of an error. Inside a crate errors are precise; across a boundary a caller
/// needs only to know what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Try again later: nothing is wrong with the request.
    Retry,
    /// Something else holds or has changed what was asked for.
    Conflict,
    /// It does not exist.
    NotFound,
    /// The request or the bytes given are wrong; trying again changes nothing.
    Invalid,
    /// The caller's lease or fence number is stale: stop, and change nothing.
    Fenced,
    /// Stored data is damaged or missing.
    Corrupt,
    /// This driver or version cannot do it.
    Unsupported,
    /// No space left.
    Full,
    /// Somebody asked for the work to stop.
    Cancelled,
    /// A fault of the machine or a bug.
    Internal,
}

impl ErrorKind {
    /// Whether the same request may succeed later without a change.
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Retry)
    }
}

/// An error and what caused it, on one line: for logs and operators. `Display` leaves the sources
/// out, so that each is printed once.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Retry => "retry",
            Self::Conflict => "conflict",
            Self::NotFound => "not found",
            Self::Invalid => "invalid",
            Self::Fenced => "fenced",
            Self::Corrupt => "corrupt",
            Self::Unsupported => "unsupported",
            Self::Full => "full",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        })
    }
}
