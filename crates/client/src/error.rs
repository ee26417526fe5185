//! What can go wrong between a request and its answer.

use stillpoint_model::ErrorKind;
use stillpoint_wire::Problem;
use stillpoint_wire::problem::ProblemCode;

/// A request that did not get what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server said no, and why.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// The address is none.
    #[error("`{0}` is no address of a server; one looks like http://127.0.0.1:8080")]
    InvalidAddress(String),
    /// The credential cannot be sent.
    #[error("the token holds characters that no token has")]
    InvalidCredential,
    /// No answer came.
    #[error("no answer from {address}")]
    Unreachable {
        /// Where the request went.
        address: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The answer came from something else, or from another version.
    #[error("{address} answered {status} with something that is not Stillpoint's")]
    UnexpectedAnswer {
        /// Where the request went.
        address: String,
        /// The HTTP status.
        status: u16,
    },
    /// The event stream breaks the rules or its bounds.
    #[error("the event stream is broken: {0}")]
    BrokenStream(&'static str),
    /// The file to upload cannot be read.
    #[error("cannot read the image to upload")]
    UnreadableImage(#[source] std::io::Error),
}

/// What a request gives.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The server's refusal, if it was one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Problem(problem) => match problem.code {
                ProblemCode::VolumeBusy
                | ProblemCode::VolumeFilling
                | ProblemCode::InstanceBusy
                | ProblemCode::Cooldown
                | ProblemCode::InflightLimit
                | ProblemCode::TooManyRequests
                | ProblemCode::NodeOffline => ErrorKind::Retry,
                ProblemCode::NotFound => ErrorKind::NotFound,
                ProblemCode::PoolFull => ErrorKind::Full,
                ProblemCode::IntegrityError => ErrorKind::Corrupt,
                ProblemCode::Cancelled => ErrorKind::Cancelled,
                ProblemCode::Internal | ProblemCode::NoProgress => ErrorKind::Internal,
                ProblemCode::SnapshotLimit
                | ProblemCode::BackupLimit
                | ProblemCode::ImageLimit
                | ProblemCode::AttachedRunning
                | ProblemCode::NotEligible
                | ProblemCode::Protected
                | ProblemCode::BackupLocked
                | ProblemCode::NameTaken
                | ProblemCode::PreconditionFailed
                | ProblemCode::IdempotencyMismatch
                | ProblemCode::ReleasedByOperator => ErrorKind::Conflict,
                ProblemCode::NoBackupTarget
                | ProblemCode::IncompatibleTarget
                | ProblemCode::InsufficientCredit
                | ProblemCode::ProfileIncomplete
                | ProblemCode::NameInvalid
                | ProblemCode::InvalidRequest
                | ProblemCode::ImageRefused
                | ProblemCode::Unauthenticated
                | ProblemCode::Forbidden
                | ProblemCode::TooLarge
                | ProblemCode::MethodNotAllowed
                | ProblemCode::UnsupportedMediaType => ErrorKind::Invalid,
            },
            Self::InvalidAddress(_) | Self::InvalidCredential | Self::UnreadableImage(_) => {
                ErrorKind::Invalid
            }
            Self::Unreachable { .. } | Self::BrokenStream(_) => ErrorKind::Retry,
            Self::UnexpectedAnswer { status, .. } if *status >= 502 => ErrorKind::Retry,
            Self::UnexpectedAnswer { .. } => ErrorKind::Internal,
        }
    }
}
