//! A small S3 server that fails as it is told: for every request a test decides whether it is
//! served, refused, cut off, ignored, or served and then denied.
//!
//! It knows no signatures; Ceph's gateway checks those in `tests/s3.rs`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it is served.
    None,
    /// It is refused with a status and a code, and changes nothing.
    Refuse(u16, &'static str),
    /// It takes effect, and is refused all the same.
    RefuseAfter(u16, &'static str),
    /// The connection is cut, and nothing is changed.
    Cut,
    /// It takes effect, and the connection is cut before an answer.
    CutAfter,
    /// It takes effect, and there is never an answer.
    SilentAfter,
    /// The answer's body ends in the middle, and the connection with it.
    Truncate,
    /// The answer's body stops in the middle, and the connection stays.
    StallInBody,
    /// The conditions of the request are ignored.
    IgnoreCondition,
    /// The range is ignored: the whole object comes with 200.
    IgnoreRange,
    /// A listing comes without its first object.
    LoseFirst,
    /// A listing comes in another order.
    Reverse,
    /// A listing is empty, and says that this is all.
    Empty,
    /// A byte of the answer's body is another.
    Flip,
    /// A version of the object is locked.
    Locked,
    /// Something between the two sends the request a second time: that answer is what comes.
    Twice,
    /// Every time in the answer is of another century.
    WrongTime,
}

/// What a test can tell a request by.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    pub query: String,
}

type Rule = Box<dyn Fn(&Call) -> Fault + Send + Sync>;

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Bytes>,
    rule: Option<Rule>,
    /// For how many requests the rule is.
    left: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    calls: AtomicUsize,
    under_way: AtomicUsize,
    most: AtomicUsize,
}

/// A server with one bucket, as long as it is there.
pub struct FakeServer {
    shared: Arc<Shared>,
    port: u16,
    _runtime: Runtime,
}

type Body = BoxBody<Bytes, io::Error>;
type Answer = Result<Response<Body>, io::Error>;

impl FakeServer {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a port");
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let serving = shared.clone();
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = serving.clone();
                let service = service_fn(move |request| answer(shared.clone(), request));
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Self {
            shared,
            port,
            _runtime: runtime,
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What happens to the next `count` requests.
    pub fn on_next(&self, count: usize, rule: impl Fn(&Call) -> Fault + Send + Sync + 'static) {
        let mut state = self.shared.state.lock().unwrap();
        state.rule = Some(Box::new(rule));
        state.left = count;
    }

    /// What happens to all requests from now on.
    pub fn always(&self, rule: impl Fn(&Call) -> Fault + Send + Sync + 'static) {
        self.on_next(usize::MAX, rule);
    }

    /// An object that somebody else put there.
    pub fn plant(&self, key: &str, bytes: &'static [u8]) {
        let mut state = self.shared.state.lock().unwrap();
        state
            .objects
            .insert(key.to_owned(), Bytes::from_static(bytes));
    }

    pub fn keys(&self) -> Vec<String> {
        let state = self.shared.state.lock().unwrap();
        state.objects.keys().cloned().collect()
    }

    pub fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::SeqCst)
    }

    pub fn most_at_once(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Answer {
    shared.calls.fetch_add(1, Ordering::SeqCst);
    let now = shared.under_way.fetch_add(1, Ordering::SeqCst) + 1;
    shared.most.fetch_max(now, Ordering::SeqCst);
    let answer = serve(&shared, request).await;
    shared.under_way.fetch_sub(1, Ordering::SeqCst);
    answer
}

async fn serve(shared: &Shared, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let call = Call {
        method: parts.method.clone(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
    };
    let fault = {
        let mut state = shared.state.lock().unwrap();
        match state.left.checked_sub(1) {
            Some(left) => {
                state.left = left;
                state.rule.as_ref().map_or(Fault::None, |rule| rule(&call))
            }
            None => Fault::None,
        }
    };
    match fault {
        Fault::Refuse(status, code) => return Ok(refusal(status, code)),
        Fault::Cut => return Err(io::ErrorKind::ConnectionReset.into()),
        _ => {}
    }
    let done = {
        let mut state = shared.state.lock().unwrap();
        if fault == Fault::Twice {
            drop(act(&mut state, &parts, &call, body.clone(), fault));
        }
        act(&mut state, &parts, &call, body, fault)
    };
    match fault {
        Fault::RefuseAfter(status, code) => Ok(refusal(status, code)),
        Fault::CutAfter => Err(io::ErrorKind::ConnectionReset.into()),
        Fault::SilentAfter => std::future::pending().await,
        Fault::Truncate | Fault::StallInBody => Ok(half(done, fault).await),
        Fault::WrongTime => Ok(in_another_century(done)),
        _ => Ok(done),
    }
}

/// Does what was asked for.
fn act(
    state: &mut State,
    parts: &http::request::Parts,
    call: &Call,
    body: Bytes,
    fault: Fault,
) -> Response<Body> {
    if !parts.headers.contains_key(header::AUTHORIZATION) {
        return refusal(403, "AccessDenied");
    }
    let Some(key) = parts.uri.path().strip_prefix("/backups") else {
        return refusal(404, "NoSuchBucket");
    };
    let key = key.trim_start_matches('/').to_owned();
    match (&call.method, key.as_str()) {
        (&Method::GET, "") if call.query == "object-lock" => {
            refusal(404, "ObjectLockConfigurationNotFoundError")
        }
        (&Method::GET, "") => list(state, &call.query, fault),
        (&Method::GET, _) if call.query == "retention" => refusal(400, "InvalidRequest"),
        (&Method::PUT, _) => {
            let conditional = parts.headers.contains_key(header::IF_NONE_MATCH);
            let ignored = fault == Fault::IgnoreCondition;
            if conditional && !ignored && state.objects.contains_key(&key) {
                return refusal(412, "PreconditionFailed");
            }
            state.objects.insert(key, body);
            plain(StatusCode::OK, Bytes::new())
        }
        (&Method::DELETE, _) => {
            if fault == Fault::Locked {
                return refusal(403, "AccessDenied");
            }
            state.objects.remove(&key);
            plain(StatusCode::NO_CONTENT, Bytes::new())
        }
        (method, _) => match state.objects.get(&key) {
            None if *method == Method::HEAD => plain(StatusCode::NOT_FOUND, Bytes::new()),
            None => refusal(404, "NoSuchKey"),
            Some(object) => read(object, parts, fault),
        },
    }
}

fn read(object: &Bytes, parts: &http::request::Parts, fault: Fault) -> Response<Body> {
    let range = parts.headers.get(header::RANGE);
    let range = range.filter(|_| fault != Fault::IgnoreRange);
    let Some(range) = range else {
        return plain(StatusCode::OK, object.clone());
    };
    let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
    let (start, end) = range.split_once('-').unwrap();
    let start: usize = start.parse().unwrap();
    let end = (end.parse::<usize>().unwrap() + 1).min(object.len());
    if start >= object.len() {
        return refusal(416, "InvalidRange");
    }
    let mut part = object.slice(start..end).to_vec();
    if fault == Fault::Flip {
        part[0] ^= 1;
    }
    let mut answer = plain(StatusCode::PARTIAL_CONTENT, part.into());
    let value = format!("bytes {start}-{}/{}", end - 1, object.len());
    let value = value.try_into().unwrap();
    answer.headers_mut().insert(header::CONTENT_RANGE, value);
    answer
}

fn list(state: &State, query: &str, fault: Fault) -> Response<Body> {
    let ask = |wanted: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.into_iter().find(|(key, _)| *key == wanted);
        found.map(|(_, value)| value.replace("%2F", "/"))
    };
    let prefix = ask("prefix").unwrap_or_default();
    let after = ask("start-after").unwrap_or_default();
    let limit: usize = ask("max-keys").map_or(1000, |n| n.parse().unwrap());
    let all = state
        .objects
        .iter()
        .filter(|(key, _)| key.starts_with(&prefix) && **key > after);
    let mut found: Vec<_> = all.take(limit.saturating_add(1)).collect();
    let truncated = found.len() > limit;
    found.truncate(limit);
    match fault {
        Fault::Empty => found.clear(),
        Fault::Reverse => found.reverse(),
        Fault::LoseFirst if !found.is_empty() => drop(found.remove(0)),
        _ => {}
    }
    let mut xml = format!("<ListBucketResult><IsTruncated>{truncated}</IsTruncated>");
    if truncated {
        xml += "<NextContinuationToken>unused</NextContinuationToken>";
    }
    let year = if fault == Fault::WrongTime {
        2126
    } else {
        2026
    };
    for (key, bytes) in found {
        let len = bytes.len();
        xml += &format!(
            "<Contents><Key>{key}</Key><Size>{len}</Size>\
             <LastModified>{year}-01-01T00:00:00.000Z</LastModified></Contents>"
        );
    }
    xml += "</ListBucketResult>";
    plain(StatusCode::OK, xml.into())
}

fn plain(status: StatusCode, body: Bytes) -> Response<Body> {
    let len = body.len();
    let body = Full::new(body).map_err(|never: Infallible| match never {});
    let mut answer = Response::new(body.boxed());
    *answer.status_mut() = status;
    if len > 0 || status == StatusCode::OK {
        answer
            .headers_mut()
            .insert(header::CONTENT_LENGTH, len.into());
    }
    let modified = header::HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT");
    answer.headers_mut().insert(header::LAST_MODIFIED, modified);
    let etag = header::HeaderValue::from_static("\"means nothing\"");
    answer.headers_mut().insert(header::ETAG, etag);
    answer
}

fn in_another_century(mut answer: Response<Body>) -> Response<Body> {
    for (name, time) in [
        (header::LAST_MODIFIED, "Tue, 01 Jan 2126 00:00:00 GMT"),
        (header::DATE, "Mon, 01 Jan 1926 00:00:00 GMT"),
    ] {
        let time = header::HeaderValue::from_static(time);
        answer.headers_mut().insert(name, time);
    }
    answer
}

fn refusal(status: u16, code: &str) -> Response<Body> {
    let xml = format!("<Error><Code>{code}</Code><Message>as told</Message></Error>");
    plain(StatusCode::from_u16(status).unwrap(), xml.into())
}

/// The first half of an answer's body; then the connection is cut, or nothing comes any more.
async fn half(answer: Response<Body>, fault: Fault) -> Response<Body> {
    let (mut parts, body) = answer.into_parts();
    let whole = body.collect().await.unwrap().to_bytes();
    parts
        .headers
        .insert(header::CONTENT_LENGTH, whole.len().into());
    let first = Ok(Frame::data(whole.slice(..whole.len() / 2)));
    let rest = async move {
        match fault {
            Fault::Truncate => Err(io::ErrorKind::ConnectionReset.into()),
            _ => std::future::pending().await,
        }
    };
    let frames =
        futures_util::StreamExt::chain(stream::once(std::future::ready(first)), stream::once(rest));
    Response::from_parts(parts, StreamBody::new(frames).boxed())
}
