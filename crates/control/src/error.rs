//! Why a use case did not do what it was asked for.

use stillpoint_model::ErrorKind;
use stillpoint_model::refusal::{ProblemCode, Refusal};

/// The result of a use case.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a use case did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The customer is told why, and what can be done.
    #[error("refused: {}", .0.code)]
    Refused(#[from] Refusal),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] stillpoint_store::Error),
    /// A password could not be hashed.
    #[error("a password could not be hashed")]
    PasswordHash(#[source] argon2::Error),
    /// A value could not be written as JSON.
    #[error("a value could not be written as JSON")]
    Json(#[from] serde_json::Error),
    /// Work on another thread ended without an answer.
    #[error("work on another thread ended without an answer")]
    Background(#[from] tokio::task::JoinError),
    /// The database holds something that cannot be: a fault of ours.
    #[error("{0}")]
    Inconsistent(String),
}

impl Error {
    /// What a caller must do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(refusal) => match refusal.code {
                ProblemCode::NotFound => ErrorKind::NotFound,
                ProblemCode::VolumeBusy
                | ProblemCode::VolumeFilling
                | ProblemCode::InstanceBusy
                | ProblemCode::Cooldown
                | ProblemCode::InflightLimit
                | ProblemCode::TooManyRequests
                | ProblemCode::NodeOffline => ErrorKind::Retry,
                ProblemCode::PreconditionFailed | ProblemCode::NameTaken => ErrorKind::Conflict,
                _ => ErrorKind::Invalid,
            },
            Self::Store(error) => error.kind(),
            Self::PasswordHash(_) | Self::Json(_) | Self::Background(_) | Self::Inconsistent(_) => {
                ErrorKind::Internal
            }
        }
    }

    /// The same, naming the field of the request that a refusal is about.
    pub(crate) fn at(self, pointer: &str) -> Self {
        match self {
            Self::Refused(refusal) => Self::Refused(refusal.at(pointer)),
            other => other,
        }
    }

    /// The same, of a part of a request: what a refusal points at is below `prefix`.
    pub(crate) fn under(self, prefix: &str) -> Self {
        match self {
            Self::Refused(mut refusal) => {
                let below = refusal.pointer.take().unwrap_or_default();
                Self::Refused(refusal.at(format!("{prefix}{below}")))
            }
            other => other,
        }
    }

    /// What the customer reads. Whatever is not a refusal is a fault of ours and says no more
    /// than that; the edge logs the error itself, with its sources.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal.clone(),
            _ => Refusal::new(
                ProblemCode::Internal,
                "Something went wrong on our side. Try again, or show your operator the request id.",
            ),
        }
    }
}
