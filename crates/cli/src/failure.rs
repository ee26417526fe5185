//! How a command ends when it does not succeed: what is printed, and the exit code.
//!
//! ```text
//! error[volume_busy]: Volume is busy with operation: snapshot
//! hint: Watch the running operation: stillpoint operation watch 0193b5a2-…
//! request: 0193b5a2-…
//! ```
//!
//! One shape for what the server refuses and for what goes wrong on this side, so that people and
//! scripts read only one. Hints are commands that can be typed as they stand wherever there is one.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write as _};

use anstream::eprintln;
use stillpoint_model::refusal::ProblemCode;

use crate::style;

/// The result of a command.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Exit codes. Scripts rely on them: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Anything that has no code of its own.
    Other = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// The operation was accepted, and then failed or was cancelled.
    OperationFailed = 3,
    /// Not signed in, or not allowed.
    Auth = 4,
    /// There is no such thing.
    NotFound = 5,
    /// Busy, resting, or too much in flight: the same command works later.
    Busy = 6,
    /// A cap or the credit is used up: somebody must make room first.
    Limit = 7,
    /// Not finished within `--timeout`; the operation goes on.
    TimedOut = 8,
    /// Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// The exit code that goes with a problem the server answered.
    pub const fn of(code: ProblemCode) -> Self {
        match code {
            ProblemCode::InvalidRequest
            | ProblemCode::NameInvalid
            | ProblemCode::TooLarge
            | ProblemCode::MethodNotAllowed
            | ProblemCode::UnsupportedMediaType => Self::Usage,
            ProblemCode::NoProgress | ProblemCode::ReleasedByOperator | ProblemCode::Cancelled => {
                Self::OperationFailed
            }
            ProblemCode::Unauthenticated | ProblemCode::Forbidden => Self::Auth,
            ProblemCode::NotFound => Self::NotFound,
            ProblemCode::VolumeBusy
            | ProblemCode::VolumeFilling
            | ProblemCode::InstanceBusy
            | ProblemCode::Cooldown
            | ProblemCode::InflightLimit
            | ProblemCode::TooManyRequests
            | ProblemCode::NodeOffline => Self::Busy,
            ProblemCode::SnapshotLimit
            | ProblemCode::BackupLimit
            | ProblemCode::ImageLimit
            | ProblemCode::InsufficientCredit => Self::Limit,
            ProblemCode::AttachedRunning
            | ProblemCode::NoBackupTarget
            | ProblemCode::IncompatibleTarget
            | ProblemCode::ProfileIncomplete
            | ProblemCode::NotEligible
            | ProblemCode::Protected
            | ProblemCode::BackupLocked
            | ProblemCode::NameTaken
            | ProblemCode::PoolFull
            | ProblemCode::IntegrityError
            | ProblemCode::ImageRefused
            | ProblemCode::PreconditionFailed
            | ProblemCode::IdempotencyMismatch
            | ProblemCode::Internal => Self::Other,
        }
    }
}

/// Why a command did not succeed.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    exit: Exit,
    code: Cow<'static, str>,
    text: String,
    hints: Vec<String>,
    request: Option<String>,
    /// Whoever read our output has gone: nothing is wrong, and nobody is there to be told.
    reader_gone: bool,
}

impl Failure {
    /// A failure with a stable code and a sentence for people.
    pub fn new(exit: Exit, code: impl Into<Cow<'static, str>>, text: impl Into<String>) -> Self {
        let (code, text) = (code.into(), text.into());
        Self {
            exit,
            code,
            text,
            hints: Vec::new(),
            request: None,
            reader_gone: false,
        }
    }

    /// The command line asks for something that makes no sense.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", text)
    }

    /// A file or folder of this machine does not play along.
    pub fn file(doing: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(Exit::Other, "file", format!("cannot {doing}: {error}"))
    }

    /// Something that whoever asked for it stopped. What there is to say was said already.
    pub fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted", "")
    }

    /// Adds what a person can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds a hint to one kind of failure.
    #[must_use]
    pub fn hint_on(self, code: &str, hint: impl FnOnce() -> String) -> Self {
        if self.code == code {
            self.hint(hint())
        } else {
            self
        }
    }

    /// Names the request, for support.
    #[must_use]
    pub fn request(mut self, id: impl fmt::Display) -> Self {
        self.request = Some(id.to_string());
        self
    }

    /// The sentence alone, for a log.
    pub fn sentence(&self) -> &str {
        &self.text
    }

    /// Prints the failure on stderr and says which exit code goes with it.
    pub fn report(&self) -> u8 {
        if self.reader_gone {
            return 0;
        }
        if !self.text.is_empty() {
            eprintln!("{self}");
        }
        self.exit as u8
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (error, note, reset) = (style::ERROR, style::NOTE, style::RESET);
        write!(
            f,
            "{error}error[{}]{reset}: {}",
            self.code,
            style::printable(&self.text)
        )?;
        for hint in &self.hints {
            write!(f, "\n{note}hint{reset}: {}", style::printable(hint))?;
        }
        if let Some(request) = &self.request {
            write!(f, "\n{note}request{reset}: {}", style::printable(request))?;
        }
        Ok(())
    }
}

/// Writing to stdout failed.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let mut failure = Self::file("write the output", &error);
        failure.reader_gone = error.kind() == io::ErrorKind::BrokenPipe;
        failure
    }
}

/// Writes to stdout, where a reader that has gone is no failure.
pub fn print(text: impl fmt::Display) -> Result<()> {
    let mut stdout = anstream::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_code_then_hints_then_request() {
        let failure = Failure::new(Exit::Busy, "volume_busy", "Volume is busy")
            .hint("Watch it: stillpoint operation watch 7")
            .request("r-1");
        assert_eq!(
            anstream::adapter::strip_str(&failure.to_string()).to_string(),
            "error[volume_busy]: Volume is busy\n\
             hint: Watch it: stillpoint operation watch 7\n\
             request: r-1"
        );
    }

    #[test]
    fn a_reader_that_has_gone_is_success() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.report(), 0);
    }

    #[test]
    fn what_works_later_is_told_from_what_needs_room() {
        assert_eq!(Exit::of(ProblemCode::Cooldown), Exit::Busy);
        assert_eq!(Exit::of(ProblemCode::SnapshotLimit), Exit::Limit);
        assert_eq!(Exit::of(ProblemCode::NotFound), Exit::NotFound);
    }
}
