//! Objects in a bucket of an S3-compatible server.
//!
//! A put is one conditional create (`If-None-Match: *`) of the whole object: a multipart upload
//! cannot be conditional everywhere, and no object of a vault is longer than a pack
//! (`docs/decisions/0045`). A server that accepts the condition and ignores it is what
//! [`probe`](super::probe) finds out.
//!
//! ```text
//!            200                           stored
//!  attempt ─ 412, 409 ─ read ─ nothing ──  another attempt
//!       │               └───── our bytes, and an earlier attempt left it open: stored
//!       │               └───── else        the name is taken
//!       └─── 5xx, silence, a cut line ───  left open: another attempt, after a while
//! ```
//!
//! So a put that was stored while its answer got lost is no conflict, and a create that a server
//! turned down for a race that nobody won is made again. What an attempt left open when patience
//! ends is read back a last time; if even that fails, the caller hears that it may be there.
//!
//! An absence is believed only from a server that names it (`NoSuchKey`); a 404 for the bucket or
//! from a proxy is a failure. A listing that is out of order or names what was not asked for is
//! refused. In a bucket that keeps versions a delete removes the version, so that the room comes
//! back and a locked object refuses. Where objects are locked, a name means its first version: see
//! [`versions`].
//!
//! Calls block. They are driven by the caller's thread and one of a small runtime of our own, and may
//! come from anywhere, a thread of another runtime included.

mod answer;
mod credentials;
mod get;
mod lock;
mod pace;
mod put;
mod settings;
mod versions;
mod wire;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::client::{HttpClient, HttpConnector as _};
use object_store::list::{PaginatedListOptions, PaginatedListStore as _};
use object_store::path::Path as Key;
use object_store::{ClientOptions, RetryConfig};
use stillpoint_model::error::with_causes;
use stillpoint_model::{ByteCount, ByteRange, Env, ErrorKind, Timestamp};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Semaphore;

use super::{Disturbed, ListEntry, ListPage, ObjectLock, ObjectName, Target, TargetError};
use answer::Trouble;
use credentials::Credentials;
use pace::{Attempts, Pace};
use wire::Wire;

pub use credentials::{CredentialSource, CredentialsError};
pub use settings::{InvalidBucket, S3Settings};

/// How many names one request of a listing asks for at most: no server gives more.
const MAX_PAGE: usize = 1000;

/// Where connections are driven from: one thread for all targets of a process. It is never
/// dropped, which would panic where the last owner is a task of another runtime.
static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("s3")
        .enable_all()
        .build()
});

/// A bucket, or what is below a prefix in one.
pub struct S3Target {
    bucket: Bucket,
    runtime: &'static Runtime,
}

/// What the requests are made with.
struct Bucket {
    settings: S3Settings,
    store: AmazonS3,
    http: HttpClient,
    credentials: Arc<Credentials>,
    url: String,
    env: Arc<dyn Env>,
    /// As many permits as requests may be under way.
    gate: Semaphore,
    /// Whether the last answer that could tell was one of a bucket that keeps no versions.
    unversioned: AtomicBool,
}

type Attempt<T> = Result<T, Trouble>;

impl S3Target {
    /// Gets ready to use a bucket; asks the server nothing.
    pub fn open(settings: S3Settings, env: Arc<dyn Env>) -> Result<Self, TargetError> {
        let address = settings.address();
        let unusable = |error: String| {
            invalid(
                "open",
                &address,
                ErrorKind::Invalid,
                io::Error::other(error),
            )
        };
        let url = settings.bucket_url();
        let url = url.map_err(|error| unusable(error.to_string()))?;
        let pace = || {
            let rate = settings.bandwidth?;
            Some(Pace::new(env.clone(), rate))
        };
        let wire = Wire::new(
            settings.ca_file.as_deref(),
            [pace(), pace()],
            settings.stall_timeout,
        );
        let wire = wire.map_err(|error| unusable(with_causes(&error)))?;
        let credentials = Arc::new(Credentials::new(settings.credentials.clone()));
        credentials
            .get()
            .map_err(|error| unusable(with_causes(&error)))?;
        let store = library(&settings, &url, wire.clone(), credentials.clone())
            .map_err(|error| unusable(with_causes(&error)))?;
        let runtime = RUNTIME
            .as_ref()
            .map_err(|error| unusable(error.to_string()))?;
        let http = wire
            .connect(&ClientOptions::default())
            .map_err(|error| unusable(with_causes(&error)))?;
        let bucket = Bucket {
            gate: Semaphore::new(settings.max_requests.max(1)),
            settings,
            store,
            http,
            credentials,
            url,
            env,
            unversioned: AtomicBool::new(false),
        };
        Ok(Self { bucket, runtime })
    }

    /// Where it is, as `s3://BUCKET/PREFIX`.
    pub fn address(&self) -> String {
        self.bucket.settings.address()
    }

    /// Waits for work on whatever thread this is. A thread that belongs to a runtime must not wait
    /// for another one, so there a helper does.
    fn wait<T: Send, W: Future<Output = T>>(&self, work: impl FnOnce() -> W + Send) -> T {
        let runtime = self.runtime;
        let wait = || runtime.block_on(work());
        if Handle::try_current().is_err() {
            return wait();
        }
        let waited = std::thread::scope(|scope| scope.spawn(wait).join());
        waited.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl fmt::Debug for S3Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Target({})", self.address())
    }
}

/// The library's client. It tries nothing again: what an attempt may have left behind matters
/// here, and only we know what to do about it.
fn library(
    settings: &S3Settings,
    url: &str,
    wire: Wire,
    credentials: Arc<Credentials>,
) -> object_store::Result<AmazonS3> {
    let once = RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    };
    AmazonS3Builder::new()
        .with_bucket_name(&settings.bucket)
        .with_region(&settings.region)
        // The whole URL of the bucket, whichever style it has.
        .with_endpoint(url)
        .with_virtual_hosted_style_request(true)
        .with_credentials(credentials)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_disable_tagging(true)
        .with_retry(once)
        .with_http_connector(wire)
        .build()
}

fn invalid(action: &'static str, name: &str, kind: ErrorKind, cause: io::Error) -> TargetError {
    TargetError::with_cause(action, name, kind, cause)
}

impl Bucket {
    /// Tries until it works, fails in a way that another attempt does not change, or patience is
    /// at its end.
    async fn persist<T>(
        &self,
        action: &'static str,
        name: &str,
        mut once: impl AsyncFnMut() -> Attempt<T>,
    ) -> Result<T, TargetError> {
        let mut attempts = Attempts::new(&*self.env, self.settings.patience);
        loop {
            let trouble = match self.gated(&mut once).await {
                Ok(done) => return Ok(done),
                Err(trouble) => trouble,
            };
            if trouble.kind != ErrorKind::Retry || !attempts.another().await {
                return Err(self.give_up(action, name, trouble));
            }
            tracing::debug!(action, name, %trouble, "once more");
        }
    }

    /// One attempt, when there is room for another request.
    async fn gated<T>(&self, mut once: impl AsyncFnMut() -> Attempt<T>) -> Attempt<T> {
        let _permit = self.gate.acquire().await;
        once().await
    }

    fn give_up(&self, action: &'static str, name: &str, trouble: Trouble) -> TargetError {
        let kind = trouble.kind;
        let name = format!("{}/{name}", self.settings.address());
        TargetError::with_cause(action, &name, kind, trouble.into_cause())
    }

    fn key(&self, name: &str) -> Attempt<Key> {
        let key = self.settings.key(name);
        Key::parse(key).map_err(|error| Trouble::found(ErrorKind::Invalid, error.to_string()))
    }

    /// Learns from every answer about an object whether the bucket keeps versions.
    fn note_version(&self, version: Option<&str>) {
        let named = version.is_some_and(|version| version != "null");
        self.unversioned.store(!named, Ordering::Relaxed);
    }

    /// A page with something of ours in it, or the last one.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, TargetError> {
        let limit = limit.min(MAX_PAGE);
        let mut after = after.map(str::to_owned);
        loop {
            let from = after.as_deref();
            let once = async || self.list_once(prefix, from, limit).await;
            let (entries, more) = self.persist("list", prefix, once).await?;
            if !entries.is_empty() || more.is_none() {
                let more = more.is_some();
                return Ok(ListPage { entries, more });
            }
            after = more;
        }
    }

    /// One page of the server's: what of it is ours, and where to go on, if there is more.
    async fn list_once(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Attempt<(Vec<ListEntry>, Option<String>)> {
        let full = self.settings.key(prefix);
        let options = PaginatedListOptions {
            offset: after.map(|after| self.settings.key(after)),
            max_keys: Some(limit),
            ..PaginatedListOptions::default()
        };
        let wanted = Some(full.as_str()).filter(|full| !full.is_empty());
        let page = self.store.list_paginated(wanted, options).await;
        let page = page.map_err(|error| Trouble::of(&error, ErrorKind::Retry))?;
        let found = page.result.objects;
        let more = page.page_token.is_some() || found.len() >= limit;
        let mut last = after.map(str::to_owned);
        let mut entries = Vec::with_capacity(found.len());
        for object in found {
            let name = self.settings.name(object.location.as_ref());
            let name = name.filter(|name| name.starts_with(prefix));
            let name = name.ok_or_else(|| unordered("it lists what was not asked for"))?;
            if last.as_deref().is_some_and(|last| name <= last) {
                return Err(unordered("it does not list in the order of names"));
            }
            last = Some(name.to_owned());
            // What nobody here could have stored is left alone.
            if let Ok(name) = ObjectName::new(name) {
                let len = ByteCount::new(object.size);
                entries.push(ListEntry { name, len });
            }
        }
        let on_from = last.filter(|last| more && Some(last.as_str()) != after);
        Ok((entries, on_from))
    }
}

fn unordered(what: &str) -> Trouble {
    Trouble::found(ErrorKind::Unsupported, what)
}

impl Target for S3Target {
    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), TargetError> {
        let bytes = bytes::Bytes::copy_from_slice(bytes);
        self.wait(|| self.bucket.put_new(name.as_str(), bytes))
    }

    /// What is sent is the caller's buffer itself, without a copy. While the connection still holds on
    /// to it, the caller gets an empty one.
    fn put_buffer(&self, name: &ObjectName, bytes: Vec<u8>) -> (Vec<u8>, Result<(), TargetError>) {
        let bytes = bytes::Bytes::from(bytes);
        let put = self.wait(|| self.bucket.put_new(name.as_str(), bytes.clone()));
        (bytes.try_into_mut().map(Vec::from).unwrap_or_default(), put)
    }

    fn get(&self, name: &ObjectName, range: ByteRange) -> Result<Vec<u8>, TargetError> {
        let mut bytes = vec![];
        if !self.locks() {
            self.get_into(name, range, &mut bytes)?;
            return Ok(bytes);
        }
        let (bucket, name) = (&self.bucket, name.as_str());
        let into = &mut bytes;
        self.wait(|| {
            bucket.persist("get", name, async || {
                bucket.get_first(name, range, into).await
            })
        })?;
        Ok(bytes)
    }

    fn get_into(
        &self,
        name: &ObjectName,
        range: ByteRange,
        into: &mut Vec<u8>,
    ) -> Result<(), TargetError> {
        let (bucket, name) = (&self.bucket, name.as_str());
        let locks = self.locks();
        self.wait(|| {
            bucket.persist("get", name, async || {
                match bucket.get_once(name, range, into).await {
                    Err(trouble) if locks && trouble.is_no_such_object() => {
                        bucket.get_first(name, range, into).await
                    }
                    other => other,
                }
            })
        })
    }

    fn get_whole(&self, name: &ObjectName, most: u64) -> Result<Vec<u8>, TargetError> {
        let (bucket, name) = (&self.bucket, name.as_str());
        let locks = self.locks();
        let once = async || match locks {
            true => bucket.get_first_whole(name, most).await,
            false => bucket.get_whole_once(name, most).await,
        };
        self.wait(|| bucket.persist("get", name, once))
    }

    fn has(&self, name: &ObjectName) -> Result<bool, TargetError> {
        let (bucket, name) = (&self.bucket, name.as_str());
        let locks = self.locks();
        let once = async || match locks {
            true => match bucket.first_version(name).await {
                Ok(_) => Ok(true),
                Err(trouble) if trouble.is_no_such_object() => Ok(false),
                Err(trouble) => Err(trouble),
            },
            false => bucket.has_once(name).await,
        };
        self.wait(|| bucket.persist("look for", name, once))
    }

    fn width(&self) -> usize {
        self.bucket.settings.max_requests
    }

    fn head(&self, name: &ObjectName) -> Result<ByteCount, TargetError> {
        let (bucket, name) = (&self.bucket, name.as_str());
        let locks = self.locks();
        let once = async || match locks {
            true => Ok(bucket.first_version(name).await?.len),
            false => Ok(bucket.head_once(name).await?.size),
        };
        let len = self.wait(|| bucket.persist("head", name, once))?;
        Ok(ByteCount::new(len))
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, TargetError> {
        match self.locks() {
            true => self.wait(|| self.bucket.list_first(prefix, after, limit)),
            false => self.wait(|| self.bucket.list(prefix, after, limit)),
        }
    }

    fn delete(&self, name: &ObjectName) -> Result<(), TargetError> {
        let (bucket, name) = (&self.bucket, name.as_str());
        let once = async || bucket.delete_once(name).await;
        self.wait(|| bucket.persist("delete", name, once))
    }

    fn object_lock(&self) -> Result<ObjectLock, TargetError> {
        let bucket = &self.bucket;
        let once = async || bucket.lock_of_bucket().await;
        self.wait(|| bucket.persist("look up locks of", "", once))
    }

    fn locks(&self) -> bool {
        self.bucket.settings.object_lock.is_some()
    }

    fn lock_until(&self, name: &ObjectName, until: Timestamp) -> Result<(), TargetError> {
        let (bucket, name) = (&self.bucket, name.as_str());
        let once = async || bucket.lock_once(name, until).await;
        self.wait(|| bucket.persist("lock", name, once))
    }

    fn locked_until(&self, name: &ObjectName) -> Result<Option<Timestamp>, TargetError> {
        let (bucket, name) = (&self.bucket, name.as_str());
        let once = async || bucket.locked_once(name).await;
        self.wait(|| bucket.persist("look up the lock of", name, once))
    }

    fn disturbed(&self, prefix: &str) -> Result<Vec<Disturbed>, TargetError> {
        match self.locks() {
            true => self.wait(|| self.bucket.disturbed(prefix)),
            false => Ok(vec![]),
        }
    }

    fn get_version(
        &self,
        name: &ObjectName,
        version: &str,
        most: u64,
    ) -> Result<Vec<u8>, TargetError> {
        let (bucket, name) = (&self.bucket, name.as_str());
        let once = async || bucket.get_version_once(name, version, most).await;
        self.wait(|| bucket.persist("get", name, once))
    }

    fn keep_version(&self, name: &ObjectName, version: &str) -> Result<(), TargetError> {
        let (bucket, name) = (&self.bucket, name.as_str());
        let once = async || bucket.keep_once(name, version).await;
        self.wait(|| bucket.persist("keep", name, once))
    }

    fn refuses_altered_bodies(&self, name: &ObjectName) -> Result<Option<bool>, TargetError> {
        let (bucket, name) = (&self.bucket, name.as_str());
        let once = async || bucket.put_altered(name).await;
        self.wait(|| bucket.persist("put", name, once)).map(Some)
    }
}
