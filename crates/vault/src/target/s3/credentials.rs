//! Who one is to a server: an access key and its secret, from the environment or from a file.
//!
//! The file is the one that every S3 tool reads: sections in brackets, in each
//! `aws_access_key_id`, `aws_secret_access_key` and, where keys are lent, `aws_session_token`.
//! It is read again when it changed, so that keys are rotated without a restart.
//!
//! **Invariant:** nothing of a secret gets into an error, a log or a `Debug` output.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;

/// Where the access key and its secret come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, if it is set, `AWS_SESSION_TOKEN`.
    Environment,
    /// A file.
    File {
        /// Where it is.
        path: PathBuf,
        /// The section to read.
        profile: String,
    },
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A variable is not set.
    #[error("the environment variable {0} is not set")]
    NotSet(&'static str),
    /// The file cannot be read.
    #[error("the credentials file {path} cannot be read")]
    Unreadable {
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file lacks the section, or the section a key.
    #[error("the credentials file {path} has no {key} in [{profile}]")]
    Missing {
        /// Where it is.
        path: PathBuf,
        /// The section.
        profile: String,
        /// What is missing in it.
        key: &'static str,
    },
}

const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
const TOKEN: &str = "AWS_SESSION_TOKEN";

/// What a file was when it was read: a rewritten one differs in one of them.
type Stamp = (u64, u64, i64, i64);

/// Gives credentials, the newest that there are.
#[derive(Debug)]
pub(super) struct Credentials {
    source: CredentialSource,
    read: Mutex<Option<(Stamp, Arc<AwsCredential>)>>,
}

impl Credentials {
    pub(super) fn new(source: CredentialSource) -> Self {
        Self {
            source,
            read: Mutex::default(),
        }
    }

    /// The credentials of this moment.
    pub(super) fn get(&self) -> Result<Arc<AwsCredential>, CredentialsError> {
        let CredentialSource::File { path, profile } = &self.source else {
            return from_environment(|name| std::env::var(name).ok()).map(Arc::new);
        };
        let unreadable = |source| CredentialsError::Unreadable {
            path: path.clone(),
            source,
        };
        let meta = fs::metadata(path).map_err(unreadable)?;
        let stamp = (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, credential)) = &*read
            && *when == stamp
        {
            return Ok(credential.clone());
        }
        if meta.mode() & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "others can read the credentials file");
        }
        let text = fs::read_to_string(path).map_err(unreadable)?;
        let credential = Arc::new(from_file(&text, path, profile)?);
        *read = Some((stamp, credential.clone()));
        Ok(credential)
    }
}

#[async_trait]
impl CredentialProvider for Credentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.get().map_err(|error| object_store::Error::Generic {
            store: "S3",
            source: Box::new(error),
        })
    }
}

fn from_environment(
    get: impl Fn(&'static str) -> Option<String>,
) -> Result<AwsCredential, CredentialsError> {
    let set = |name| get(name).filter(|value| !value.is_empty());
    Ok(AwsCredential {
        key_id: set(KEY_ID).ok_or(CredentialsError::NotSet(KEY_ID))?,
        secret_key: set(SECRET).ok_or(CredentialsError::NotSet(SECRET))?,
        token: set(TOKEN),
    })
}

fn from_file(text: &str, path: &Path, profile: &str) -> Result<AwsCredential, CredentialsError> {
    let (mut key_id, mut secret_key, mut token) = (None, None, None);
    let mut here = false;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            here = section.trim() == profile;
        } else if here && let Some((key, value)) = line.split_once('=') {
            let value = Some(value.trim().to_owned());
            match key.trim() {
                "aws_access_key_id" => key_id = value,
                "aws_secret_access_key" => secret_key = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    let missing = |key| CredentialsError::Missing {
        path: path.to_owned(),
        profile: profile.to_owned(),
        key,
    };
    Ok(AwsCredential {
        key_id: key_id.ok_or_else(|| missing("aws_access_key_id"))?,
        secret_key: secret_key.ok_or_else(|| missing("aws_secret_access_key"))?,
        token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_must_have_both_halves() {
        let pair = |name: &str| match name {
            KEY_ID => Some("id".to_owned()),
            SECRET => Some("secret".to_owned()),
            _ => None,
        };
        let given = from_environment(pair).unwrap();
        assert_eq!((given.key_id.as_str(), given.token), ("id", None));
        let error = from_environment(|name| pair(name).filter(|_| name == KEY_ID)).unwrap_err();
        assert!(matches!(error, CredentialsError::NotSet(SECRET)));
    }

    #[test]
    fn a_file_has_sections() {
        let text = "[default]\naws_access_key_id = a\naws_secret_access_key=b\n\
                    # x\n[ lent ]\naws_access_key_id=c\naws_secret_access_key=d\naws_session_token=e\n\
                    [half]\naws_access_key_id=f\n";
        let read = |profile| from_file(text, Path::new("/x"), profile);
        assert_eq!(read("default").unwrap().secret_key, "b");
        assert_eq!(read("lent").unwrap().token.as_deref(), Some("e"));
        let error = read("half").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the credentials file /x has no aws_secret_access_key in [half]"
        );
    }

    #[test]
    fn a_file_that_changed_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        let write = |id: &str| {
            let text = format!("[default]\naws_access_key_id={id}\naws_secret_access_key=s\n");
            fs::write(&path, text).unwrap();
        };
        write("first");
        let credentials = Credentials::new(CredentialSource::File {
            path: path.clone(),
            profile: "default".into(),
        });
        assert_eq!(credentials.get().unwrap().key_id, "first");
        write("the second");
        assert_eq!(credentials.get().unwrap().key_id, "the second");
    }
}
