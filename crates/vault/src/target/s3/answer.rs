//! What went wrong in one attempt, and what that asks for.
//!
//! A server says no with a status and a short XML document. Both pass through the object store
//! library as the source of its errors and are found again here, so that what to do follows from
//! what the server said and from nothing else.

use std::error::Error;
use std::{fmt, io};

use http::StatusCode;
use object_store::client::HttpError;
use stillpoint_model::ErrorKind;

use super::credentials::CredentialsError;

/// A server said no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: StatusCode,
    /// The server's word for it; empty where it had none, as an answer to HEAD.
    pub code: String,
    message: String,
}

/// Where one attempt ended.
#[derive(Debug)]
pub(super) struct Trouble {
    pub kind: ErrorKind,
    /// What the server said, if it was the server that ended it.
    pub answer: Option<Answer>,
    cause: io::Error,
}

impl Answer {
    pub(super) fn new(status: StatusCode, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        Self {
            status,
            code: element(&text, "Code").unwrap_or_default().to_owned(),
            message: element(&text, "Message").unwrap_or_default().to_owned(),
        }
    }

    /// Whether the object is not there. A bucket or a whole server that is not there says 404,
    /// too, and must never pass for an object that is gone.
    pub(super) fn says_no_such_object(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
            && matches!(self.code.as_str(), "NoSuchKey" | "NoSuchVersion")
    }

    /// Whether the condition of a create was not met, or may not have been: 409 is what a server
    /// says that saw another request for the same name, and then nothing may be stored at all.
    pub(super) fn says_taken(&self) -> bool {
        matches!(
            self.status,
            StatusCode::PRECONDITION_FAILED | StatusCode::NOT_MODIFIED | StatusCode::CONFLICT
        )
    }

    fn kind(&self) -> ErrorKind {
        if self.says_no_such_object() {
            return ErrorKind::NotFound;
        }
        match (self.status.as_u16(), self.code.as_str()) {
            (_, "QuotaExceeded" | "InsufficientCapacity" | "XMinioStorageFull") => ErrorKind::Full,
            (507, _) => ErrorKind::Full,
            (_, "RequestTimeout" | "SlowDown" | "InternalError" | "OperationAborted") => {
                ErrorKind::Retry
            }
            (408 | 425 | 429 | 500 | 502 | 503 | 504, _) => ErrorKind::Retry,
            (304 | 409 | 412, _) => ErrorKind::Conflict,
            (416, _) => ErrorKind::Corrupt,
            (405 | 501, _) => ErrorKind::Unsupported,
            _ => ErrorKind::Internal,
        }
    }

    /// What an operator should look at.
    fn advice(&self) -> &'static str {
        match (self.status.as_u16(), self.code.as_str()) {
            (_, "RequestTimeTooSkewed") => "; the clock of this machine or of the server is wrong",
            (_, "SignatureDoesNotMatch" | "InvalidAccessKeyId") => "; the credentials are wrong",
            (_, "NoSuchBucket") => "; the bucket must be made first",
            (301 | 302 | 307, _) => "; the endpoint or the region is wrong",
            (401 | 403, _) => "; the credentials do not allow it",
            _ => "",
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.status.as_u16())?;
        for part in [&self.code, &self.message] {
            if !part.is_empty() {
                write!(f, " {part}")?;
            }
        }
        f.write_str(self.advice())
    }
}

impl Error for Answer {}

impl Trouble {
    /// The server's no.
    pub(super) fn answered(answer: Answer) -> Self {
        Self {
            kind: answer.kind(),
            cause: io::Error::other(answer.to_string()),
            answer: Some(answer),
        }
    }

    /// Something of our own finding.
    pub(super) fn found(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            answer: None,
            cause: io::Error::other(what.into()),
        }
    }

    /// A failure of the library: what the server said if it said something, what the network did
    /// if not. What is neither is an answer that makes no sense, which asks for `otherwise`.
    pub(super) fn of(error: &(dyn Error + 'static), otherwise: ErrorKind) -> Self {
        let mut next = Some(error);
        let mut last = error;
        let mut on_the_way = false;
        while let Some(error) = next {
            if let Some(answer) = error.downcast_ref::<Answer>() {
                return Self::answered(answer.clone());
            }
            if error.downcast_ref::<CredentialsError>().is_some() {
                let cause = stillpoint_model::error::with_causes(error);
                return Self::found(ErrorKind::Internal, cause);
            }
            on_the_way |= error.is::<HttpError>() || error.is::<reqwest::Error>();
            last = error;
            next = error.source();
        }
        let kind = if on_the_way {
            ErrorKind::Retry
        } else {
            otherwise
        };
        Self::found(kind, last.to_string())
    }

    /// Whether this attempt may have changed something although it failed.
    pub(super) fn leaves_doubt(&self) -> bool {
        self.kind == ErrorKind::Retry
    }

    pub(super) fn is_no_such_object(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }

    /// The same, asking for something else.
    pub(super) fn of_kind(self, kind: ErrorKind) -> Self {
        Self { kind, ..self }
    }

    pub(super) fn into_cause(self) -> io::Error {
        self.cause
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

/// The text of the first element of a name that has nothing but text in it.
pub(super) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, code: &str) -> Answer {
        let body = format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
        Answer::new(StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    #[test]
    fn only_the_object_may_be_missing() {
        assert_eq!(answer(404, "NoSuchKey").kind(), ErrorKind::NotFound);
        assert_eq!(answer(404, "NoSuchBucket").kind(), ErrorKind::Internal);
        let page = Answer::new(StatusCode::NOT_FOUND, b"<html>nginx</html>");
        assert_eq!(page.kind(), ErrorKind::Internal);
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        for (status, code) in [
            (503, "SlowDown"),
            (500, ""),
            (400, "RequestTimeout"),
            (429, ""),
        ] {
            assert_eq!(answer(status, code).kind(), ErrorKind::Retry, "{code}");
        }
        assert_eq!(answer(403, "AccessDenied").kind(), ErrorKind::Internal);
        assert_eq!(answer(403, "QuotaExceeded").kind(), ErrorKind::Full);
    }

    #[test]
    fn an_operator_reads_what_to_do() {
        assert_eq!(
            answer(404, "NoSuchBucket").to_string(),
            "the server answered 404 NoSuchBucket m; the bucket must be made first"
        );
    }
}
