//! Versions and Object Lock: what the library has no words for, in signed requests of our own.
//!
//! A bucket with Object Lock keeps versions. A delete by name would only hide the object behind a
//! marker and always succeed; so a delete here names the version, gives the room back, and is
//! refused while the version is locked. A lock of *governance* mode binds everybody who has no right
//! to bypass it, and we never ask to; one of *compliance* mode binds everybody.
//!
//! A lock is set on the version that is the object (see [`super::versions`]), and looked at after it
//! was set: a server that says yes and forgets is found out before anybody relies on it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_lc_rs::digest::{Digest, SHA256};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use object_store::aws::AwsAuthorizer;
use object_store::client::{HttpRequest, HttpResponse};
use stillpoint_model::{ErrorKind, Timestamp};

use super::answer::{Answer, Trouble, element};
use super::{Attempt, Bucket};
use crate::target::{LockMode, ObjectLock};

/// How many versions of one name a delete removes before something is wrong.
const MAX_VERSIONS: usize = 16;
/// By how much the server's clock may be behind ours: what it refuses is still locked there.
const CLOCK_SKEW: Duration = Duration::from_secs(600);
/// Configurations are short documents.
const MAX_DOCUMENT_LEN: usize = 64 << 10;

pub(super) fn digest(bytes: &[u8]) -> Digest {
    aws_lc_rs::digest::digest(&SHA256, bytes)
}

impl Bucket {
    /// Removes an object; in a bucket that keeps versions, its versions.
    pub(super) async fn delete_once(&self, name: &str) -> Attempt<()> {
        if self.settings.object_lock.is_some() {
            return self.delete_versions(name).await;
        }
        if self.unversioned.load(Ordering::Relaxed) {
            return self.remove(name, "").await;
        }
        for _ in 0..MAX_VERSIONS {
            let version = match self.head_once(name).await {
                Ok(meta) => meta.version.filter(|version| version != "null"),
                Err(trouble) if trouble.is_no_such_object() => return Ok(()),
                Err(trouble) => return Err(trouble),
            };
            match version {
                Some(version) => self.remove(name, &version).await?,
                None => return self.remove(name, "").await,
            }
        }
        let why = "it has more versions than it should";
        Err(Trouble::found(ErrorKind::Conflict, why))
    }

    /// One request to delete a version, or with none the object. That there was nothing to delete is
    /// fine.
    pub(super) async fn remove(&self, name: &str, version: &str) -> Attempt<()> {
        let query = match version {
            "" => String::new(),
            version => versioned(version),
        };
        let asked = self.signed(Method::DELETE, Some(name), &query, Bytes::new());
        match asked.await {
            Ok(_) => Ok(()),
            Err(trouble) if trouble.is_no_such_object() => Ok(()),
            Err(trouble) => Err(self.or_locked(name, version, trouble).await),
        }
    }

    /// A refusal, or the lock that is behind it.
    async fn or_locked(&self, name: &str, version: &str, refused: Trouble) -> Trouble {
        let forbidden = |answer: &Answer| answer.status == StatusCode::FORBIDDEN;
        if !refused.answer.as_ref().is_some_and(forbidden) {
            return refused;
        }
        match self.lock_of(name, version).await {
            Ok(Some(until)) if until.saturating_add(CLOCK_SKEW) > self.env.now() => {
                Trouble::found(ErrorKind::Conflict, format!("it is locked until {until}"))
            }
            _ => refused,
        }
    }

    /// Whether the bucket has Object Lock.
    pub(super) async fn lock_of_bucket(&self) -> Attempt<ObjectLock> {
        match self
            .signed(Method::GET, None, "object-lock", Bytes::new())
            .await
        {
            Ok(answer) => {
                let document = document(answer, MAX_DOCUMENT_LEN).await?;
                let enabled = element(&document, "ObjectLockEnabled") == Some("Enabled");
                Ok(match enabled {
                    true if document.contains("<DefaultRetention>") => ObjectLock::Always,
                    true => ObjectLock::Available,
                    false => ObjectLock::Absent,
                })
            }
            // Servers without it have many ways to say so.
            Err(trouble) => match &trouble.answer {
                Some(answer) if answer.code == "NoSuchBucket" => Err(trouble),
                Some(answer) if matches!(answer.status.as_u16(), 400 | 404 | 405 | 501) => {
                    Ok(ObjectLock::Absent)
                }
                Some(answer) if answer.status == StatusCode::FORBIDDEN => Ok(ObjectLock::Unknown),
                _ => Err(trouble),
            },
        }
    }

    /// Until when the object is locked.
    pub(super) async fn locked_once(&self, name: &str) -> Attempt<Option<Timestamp>> {
        let version = match self.settings.object_lock {
            Some(_) => self.first_version(name).await?.id,
            None => String::new(),
        };
        self.lock_of(name, &version).await
    }

    /// Until when a version is locked, or with none whatever the server takes for the object.
    async fn lock_of(&self, name: &str, version: &str) -> Attempt<Option<Timestamp>> {
        let answer = self
            .signed(Method::GET, Some(name), &retention(version), Bytes::new())
            .await;
        match answer {
            Ok(answer) => {
                let document = document(answer, MAX_DOCUMENT_LEN).await?;
                let until = element(&document, "RetainUntilDate").map(str::parse);
                let until = until.transpose();
                until.map_err(|_| Trouble::found(ErrorKind::Unsupported, "its lock has no date"))
            }
            Err(trouble) => match &trouble.answer {
                Some(answer) if answer.code == "NoSuchObjectLockConfiguration" => Ok(None),
                Some(answer) if answer.code == "ObjectLockConfigurationNotFoundError" => Ok(None),
                Some(answer) if answer.code == "InvalidRequest" => Ok(None),
                _ => Err(trouble),
            },
        }
    }

    /// Locks an object and looks whether it is; a lock that ends later stays as it is.
    pub(super) async fn lock_once(&self, name: &str, until: Timestamp) -> Attempt<()> {
        let Some(mode) = self.settings.object_lock else {
            let why = "nothing is locked here";
            return Err(Trouble::found(ErrorKind::Unsupported, why));
        };
        let until = whole_second(until);
        let version = self.first_version(name).await?.id;
        if self.is_locked_until(name, &version, until).await? {
            return Ok(());
        }
        let mode = match mode {
            LockMode::Governance => "GOVERNANCE",
            LockMode::Compliance => "COMPLIANCE",
        };
        let body = format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>"
        );
        let asked = self
            .signed(Method::PUT, Some(name), &retention(&version), body.into())
            .await;
        if let Err(trouble) = asked {
            return Err(match &trouble.answer {
                Some(answer) if answer.code == "InvalidRequest" => {
                    trouble.of_kind(ErrorKind::Unsupported)
                }
                _ => trouble,
            });
        }
        match self.is_locked_until(name, &version, until).await? {
            true => Ok(()),
            false => {
                let why = "the server said that it is locked, and it is not";
                Err(Trouble::found(ErrorKind::Unsupported, why))
            }
        }
    }

    async fn is_locked_until(&self, name: &str, version: &str, until: Timestamp) -> Attempt<bool> {
        let locked = self.lock_of(name, version).await?;
        Ok(locked.is_some_and(|now| now >= until))
    }

    /// A request of our own.
    pub(super) async fn signed(
        &self,
        method: Method,
        name: Option<&str>,
        query: &str,
        body: Bytes,
    ) -> Attempt<HttpResponse> {
        let digest = digest(&body);
        self.signed_as(method, name, query, body, &digest).await
    }

    /// A request of our own that says of its body that it has a certain digest.
    pub(super) async fn signed_as(
        &self,
        method: Method,
        name: Option<&str>,
        query: &str,
        body: Bytes,
        digest: &Digest,
    ) -> Attempt<HttpResponse> {
        let mut url = self.url.clone();
        if let Some(name) = name {
            url.push('/');
            url.push_str(&self.settings.key(name));
        }
        if !query.is_empty() {
            url.push('?');
            url.push_str(query);
        }
        let broken = |error: &dyn std::error::Error| {
            Trouble::found(
                ErrorKind::Internal,
                stillpoint_model::error::with_causes(error),
            )
        };
        let mut request = HttpRequest::new(body.clone().into());
        *request.method_mut() = method;
        *request.uri_mut() = url.parse().map_err(|error| broken(&error))?;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        if !body.is_empty() {
            let checksum = BASE64_STANDARD.encode(digest);
            let checksum = HeaderValue::try_from(checksum).map_err(|error| broken(&error))?;
            headers.insert("x-amz-checksum-sha256", checksum);
            // No body of ours may ever replace an object, not even on a server that does not know
            // what `?retention` means and takes the request for a put.
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let credential = self.credentials.get().map_err(|error| broken(&error))?;
        AwsAuthorizer::new(&credential, "s3", &self.settings.region)
            .try_authorize(&mut request, Some(digest.as_ref()))
            .map_err(|error| broken(&error))?;
        let answer = self.http.execute(request).await;
        answer.map_err(|error| Trouble::of(&error, ErrorKind::Retry))
    }
}

/// The query of a request about the lock of a version.
fn retention(version: &str) -> String {
    match version {
        "" => "retention".to_owned(),
        version => format!("retention&{}", versioned(version)),
    }
}

fn versioned(version: &str) -> String {
    format!("versionId={}", escaped(version))
}

/// A value for a query.
pub(super) fn escaped(text: &str) -> String {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    let mut query = String::with_capacity(text.len());
    for byte in text.bytes() {
        match fine(byte) {
            true => query.push(char::from(byte)),
            false => query.push_str(&format!("%{byte:02X}")),
        }
    }
    query
}

/// Servers keep whole seconds; a lock ends at the next one, never earlier than asked.
fn whole_second(until: Timestamp) -> Timestamp {
    let left = until.as_micros().rem_euclid(1_000_000);
    match left {
        0 => until,
        left => Timestamp::from_micros(until.as_micros().saturating_add(1_000_000 - left)),
    }
}

pub(super) async fn document(answer: HttpResponse, most: usize) -> Attempt<String> {
    use futures_util::TryStreamExt as _;
    let mut text = Vec::new();
    let mut pieces = answer.into_body().bytes_stream();
    let cut = |error| Trouble::of(&error, ErrorKind::Retry);
    while let Some(piece) = pieces.try_next().await.map_err(cut)? {
        text.extend_from_slice(&piece);
        if text.len() > most {
            return Err(Trouble::found(
                ErrorKind::Unsupported,
                "its answer is too long",
            ));
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_passes_through_a_query_unchanged() {
        assert_eq!(versioned("a.B-1_~"), "versionId=a.B-1_~");
        assert_eq!(versioned("a+/="), "versionId=a%2B%2F%3D");
    }
}
