//! One request over HTTP: the library's requests and our own go through here.
//!
//! Bodies move in pieces, at the pace that was set, and a request on which nothing moves for a
//! while is given up: neither a long transfer nor a short one hangs. Whatever is no success
//! becomes an [`Answer`]. Nothing is tried again here, and no redirect is followed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use reqwest::{Certificate, Client};

use super::answer::Answer;
use super::pace::Pace;

/// How many bytes are sent at a time: what is between two looks at the pace.
const PIECE_LEN: usize = 64 << 10;
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest document of an error that is looked at.
const MAX_ERROR_LEN: usize = 64 << 10;

/// A client of one server.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    http: Client,
    up: Option<Arc<Pace>>,
    down: Option<Arc<Pace>>,
    stall_timeout: Duration,
}

/// The client cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("the certificates in {path} cannot be read")]
    CaFile {
        path: std::path::PathBuf,
        source: io::Error,
    },
    #[error("the HTTP client cannot be set up")]
    Client(#[from] reqwest::Error),
}

impl Wire {
    /// A client that trusts the authorities in `ca_file` alone, or those of this machine.
    pub(super) fn new(
        ca_file: Option<&Path>,
        [up, down]: [Option<Pace>; 2],
        stall_timeout: Duration,
    ) -> Result<Self, WireError> {
        let mut builder = Client::builder()
            .user_agent(concat!("stillpoint/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never());
        if let Some(path) = ca_file {
            builder = builder.tls_certs_only(certificates(path)?);
        }
        Ok(Self {
            http: builder.build()?,
            up: up.map(Arc::new),
            down: down.map(Arc::new),
            stall_timeout,
        })
    }

    /// Sends a request and waits for the head of its answer.
    async fn send(&self, request: HttpRequest) -> Result<http::Response<reqwest::Body>, HttpError> {
        let (parts, body) = request.into_parts();
        let moved = Arc::new(AtomicU64::new(0));
        let body = match body.content_length() {
            0 => reqwest::Body::default(),
            _ => reqwest::Body::wrap_stream(pieces(body, self.up.clone(), moved.clone())),
        };
        let request = http::Request::from_parts(parts, body);
        let request = reqwest::Request::try_from(request).map_err(of_client)?;
        let answer = self.http.execute(request);
        let answer = unless_stalled(self.stall_timeout, &moved, answer).await?;
        Ok(answer.map_err(of_client)?.into())
    }

    /// The body of an answer, at the pace that was set.
    fn receive(&self, body: reqwest::Body) -> HttpResponseBody {
        let (pace, patience) = (self.down.clone(), self.stall_timeout);
        let next = move |mut body: reqwest::Body| {
            let pace = pace.clone();
            async move {
                let frame = match tokio::time::timeout(patience, body.frame()).await {
                    Ok(None) => return Ok(None),
                    Ok(Some(frame)) => frame.map_err(of_client)?,
                    Err(_) => return Err(stalled()),
                };
                if let (Some(pace), Some(data)) = (&pace, frame.data_ref()) {
                    pace.pass(data.len()).await;
                }
                Ok(Some((frame, body)))
            }
        };
        HttpResponseBody::new(StreamBody::new(stream::try_unfold(body, next)))
    }
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = self.send(request).await?.into_parts();
        let body = self.receive(body);
        if parts.status.is_success() {
            return Ok(HttpResponse::from_parts(parts, body));
        }
        let mut text = Vec::new();
        let mut rest = body.bytes_stream();
        while let Some(Ok(piece)) = rest.next().await {
            text.extend_from_slice(&piece);
            if text.len() > MAX_ERROR_LEN {
                break;
            }
        }
        let answer = Answer::new(parts.status, &text);
        Err(HttpError::new(HttpErrorKind::Unknown, answer))
    }
}

impl HttpConnector for Wire {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, WireError> {
    let failed = |source| WireError::CaFile {
        path: path.to_owned(),
        source,
    };
    let pem = std::fs::read(path).map_err(failed)?;
    let bundle = Certificate::from_pem_bundle(&pem)?;
    match bundle.is_empty() {
        true => Err(failed(io::Error::other("there is no certificate in it"))),
        false => Ok(bundle),
    }
}

/// A body in pieces, each when its turn has come. Counts them.
fn pieces(
    body: HttpRequestBody,
    pace: Option<Arc<Pace>>,
    moved: Arc<AtomicU64>,
) -> impl Stream<Item = Result<Bytes, HttpError>> + Send + 'static {
    let start = (body.into_data_stream(), Bytes::new());
    stream::try_unfold(start, move |(mut whole, mut part)| {
        let (pace, moved) = (pace.clone(), moved.clone());
        async move {
            while part.is_empty() {
                match whole.try_next().await? {
                    Some(next) => part = next,
                    None => return Ok(None),
                }
            }
            let piece = part.split_to(part.len().min(PIECE_LEN));
            moved.fetch_add(1, Ordering::Relaxed);
            if let Some(pace) = pace {
                pace.pass(piece.len()).await;
                moved.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Some((piece, (whole, part))))
        }
    })
}

/// Waits for `work` as long as something moves.
async fn unless_stalled<T>(
    patience: Duration,
    moved: &AtomicU64,
    work: impl Future<Output = T>,
) -> Result<T, HttpError> {
    let mut work = std::pin::pin!(work);
    let mut before = moved.load(Ordering::Relaxed);
    loop {
        if let Ok(done) = tokio::time::timeout(patience, &mut work).await {
            return Ok(done);
        }
        let now = moved.load(Ordering::Relaxed);
        if now == before {
            return Err(stalled());
        }
        before = now;
    }
}

fn stalled() -> HttpError {
    let error = io::Error::new(io::ErrorKind::TimedOut, "the server went silent");
    HttpError::new(HttpErrorKind::Timeout, error)
}

/// The address is in every message of ours already.
fn of_client(error: reqwest::Error) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, error.without_url())
}
