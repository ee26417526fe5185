//! Sending requests and reading answers.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, COOKIE, HeaderMap, HeaderValue, IF_MATCH};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use stillpoint_model::Env;
use stillpoint_model::id::RequestId;
use stillpoint_wire::operation::Operation;
use stillpoint_wire::permission::Preview;
use stillpoint_wire::{Page, Problem, header};

use crate::error::{Error, Result};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an idle connection is kept for the next request. Well below the 30 s after which the
/// server closes it: a request that is sent at the very moment of the closing is lost without an
/// answer, and nobody could say whether it was done.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an ordinary answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// What a request proves its sender with.
#[derive(Clone)]
pub enum Credential {
    /// Nothing.
    None,
    /// An API token.
    Token(String),
    /// A browser session: the cookie's value and its CSRF token.
    Session {
        /// The cookie's value.
        secret: String,
        /// What changes must show.
        csrf_token: String,
    },
}

/// A client of one server. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    headers: HeaderMap,
    env: Option<Arc<dyn Env>>,
}

/// What goes with a request that changes something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Ask what would happen, and change nothing.
    pub dry_run: bool,
    /// Makes it safe to send the same POST again.
    pub idempotency_key: Option<String>,
    /// An administrator's word that the cooldown does not matter now; it is audited.
    pub override_cooldown: bool,
    /// Change it only while it has this version.
    pub if_match: Option<i64>,
}

/// The answer to a request that takes time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was accepted.
    Accepted(Box<Operation>),
    /// What would have happened.
    Preview(Preview),
}

/// Which page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ListQuery {
    /// `next_page` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
    /// How many items, 1 to 500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// An answer as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Fetches pages until there are no more.
pub async fn every_page<T, F>(mut fetch: impl FnMut(ListQuery) -> F) -> Result<Vec<T>>
where
    F: Future<Output = Result<Page<T>>>,
{
    let mut query = ListQuery {
        page: None,
        limit: Some(500),
    };
    let mut items = Vec::new();
    loop {
        let page = fetch(query.clone()).await?;
        items.extend(page.items);
        match page.next_page {
            Some(next) => query.page = Some(next),
            None => return Ok(items),
        }
    }
}

impl Client {
    /// A client of the server at `address`, such as `http://127.0.0.1:8080`.
    pub fn new(address: &str, credential: &Credential) -> Result<Self> {
        let invalid = || Error::InvalidAddress(address.to_owned());
        let base = Url::parse(address).map_err(|_| invalid())?;
        if base.cannot_be_a_base() || !matches!(base.scheme(), "http" | "https") {
            return Err(invalid());
        }
        let http = reqwest::Client::builder()
            .user_agent(concat!("stillpoint/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|source| Error::Unreachable {
                address: address.to_owned(),
                source,
            })?;
        Ok(Self {
            http,
            base,
            headers: credential.headers()?,
            env: None,
        })
    }

    /// Gives each POST that changes something an idempotency key of its own, made with `env`,
    /// where its caller named none: whatever repeats the request on its way, it is done once.
    #[must_use]
    pub fn with_keys(self, env: Arc<dyn Env>) -> Self {
        Self {
            env: Some(env),
            ..self
        }
    }

    /// The same server with another credential.
    pub fn with_credential(&self, credential: &Credential) -> Result<Self> {
        Ok(Self {
            headers: credential.headers()?,
            ..self.clone()
        })
    }

    /// Sends a request by hand: `path` begins with `/` and may have a query.
    pub async fn raw(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<RawAnswer> {
        let url = self
            .base
            .join(path)
            .map_err(|_| Error::InvalidAddress(path.to_owned()))?;
        // A path such as `//elsewhere/` must not carry the credential to another host.
        if url.origin() != self.base.origin() {
            return Err(Error::InvalidAddress(path.to_owned()));
        }
        let mut request = self.request(method, url).timeout(ANSWER_TIMEOUT);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = self.send(request).await?;
        let status = response.status().as_u16();
        let body = response.text().await.map_err(|e| self.unreachable(e))?;
        Ok(RawAnswer { status, body })
    }

    /// The URL of a path given in segments, each encoded, so that names are safe in it.
    pub(crate) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("v1").extend(segments);
        }
        url
    }

    pub(crate) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.http.request(method, url).headers(self.headers.clone())
    }

    /// The key of a POST: the given one, else a new one when this client makes them.
    pub(crate) fn key(&self, given: Option<&str>) -> Option<String> {
        let fresh = || {
            let env = self.env.as_deref()?;
            Some(RequestId::generate(env).to_string())
        };
        given.map(str::to_owned).or_else(fresh)
    }

    pub(crate) fn unreachable(&self, source: reqwest::Error) -> Error {
        // The address alone: a URL could carry a name or a confirmation into a log.
        let address = self.base.origin().ascii_serialization();
        Error::Unreachable {
            address,
            source: source.without_url(),
        }
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response> {
        request.send().await.map_err(|e| self.unreachable(e))
    }

    /// The response, or the problem that it tells of.
    pub(crate) async fn success(&self, response: Response) -> Result<Response> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(|e| self.unreachable(e))?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(Error::Problem(Box::new(problem))),
            Err(_) => Err(self.unexpected(status)),
        }
    }

    pub(crate) fn unexpected(&self, status: StatusCode) -> Error {
        let address = self.base.origin().ascii_serialization();
        Error::UnexpectedAnswer {
            address,
            status: status.as_u16(),
        }
    }

    pub(crate) async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T> {
        let status = response.status();
        let body = response.bytes().await.map_err(|e| self.unreachable(e))?;
        serde_json::from_slice(&body).map_err(|_| self.unexpected(status))
    }

    async fn ordinary(&self, request: RequestBuilder) -> Result<Response> {
        let response = self.send(request.timeout(ANSWER_TIMEOUT)).await?;
        self.success(response).await
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<T> {
        let request = self.request(Method::GET, self.url(segments));
        let response = self.ordinary(request).await?;
        self.read(response).await
    }

    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        filter: &impl Serialize,
        query: &ListQuery,
    ) -> Result<Page<T>> {
        let request = self
            .request(Method::GET, self.url(segments))
            .query(filter)
            .query(query);
        let response = self.ordinary(request).await?;
        self.read(response).await
    }

    /// Sends a change that is done at once.
    pub(crate) async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        segments: &[&str],
        body: Option<&(impl Serialize + Sync)>,
        change: &Change,
    ) -> Result<T> {
        let response = self
            .send_change(method, segments, &[], body, change)
            .await?;
        self.read(response).await
    }

    /// Sends a change that has no answer but that it was done.
    pub(crate) async fn change_silently(&self, method: Method, segments: &[&str]) -> Result<()> {
        self.send_change(method, segments, &[], None::<&()>, &Change::default())
            .await?;
        Ok(())
    }

    /// Sends a change that takes time, or asks what it would do.
    pub(crate) async fn submit(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        body: Option<&(impl Serialize + Sync)>,
        change: &Change,
    ) -> Result<Answer> {
        let response = self
            .send_change(method, segments, query, body, change)
            .await?;
        match response.status() {
            StatusCode::ACCEPTED => self.read(response).await.map(Answer::Accepted),
            _ => self.read(response).await.map(Answer::Preview),
        }
    }

    async fn send_change(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        body: Option<&(impl Serialize + Sync)>,
        change: &Change,
    ) -> Result<Response> {
        let given = change.idempotency_key.as_deref();
        let key = if method == Method::POST && !change.dry_run {
            self.key(given)
        } else {
            given.map(str::to_owned)
        };
        let mut request = self.request(method, self.url(segments)).query(query);
        if change.dry_run {
            request = request.query(&[("dry_run", "true")]);
        }
        if change.override_cooldown {
            request = request.query(&[("override_cooldown", "true")]);
        }
        if let Some(key) = key {
            request = request.header(header::IDEMPOTENCY_KEY, key);
        }
        if let Some(version) = change.if_match {
            request = request.header(IF_MATCH, format!("\"{version}\""));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        self.ordinary(request).await
    }
}

impl Credential {
    fn headers(&self) -> Result<HeaderMap> {
        let secret = |text: String| {
            let mut value = HeaderValue::try_from(text).map_err(|_| Error::InvalidCredential)?;
            value.set_sensitive(true);
            Ok(value)
        };
        let mut headers = HeaderMap::new();
        headers.insert(
            ACCEPT,
            HeaderValue::from_static("application/json, application/problem+json"),
        );
        match self {
            Self::None => {}
            Self::Token(token) => {
                headers.insert(AUTHORIZATION, secret(format!("Bearer {token}"))?);
            }
            Self::Session {
                secret: session,
                csrf_token,
            } => {
                headers.insert(
                    COOKIE,
                    secret(format!("{}={session}", header::SESSION_COOKIE))?,
                );
                headers.insert(header::CSRF_TOKEN, secret(csrf_token.clone())?);
            }
        }
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        Client::new(
            "http://127.0.0.1:1/base/",
            &Credential::Token("stp_x".into()),
        )
        .unwrap()
    }

    #[test]
    fn a_name_stays_one_segment_of_the_path() {
        let url = client().url(&["volumes", "a b/?#%2f\u{fc}", "resize"]);
        assert_eq!(
            url.path(),
            "/base/v1/volumes/a%20b%2F%3F%23%252f%C3%BC/resize"
        );
        assert_eq!((url.query(), url.fragment()), (None, None));
    }

    #[tokio::test]
    async fn the_credential_goes_to_no_other_host() {
        for path in [
            "//elsewhere.example/v1/whoami",
            "http://elsewhere.example/",
            "https:/v1",
        ] {
            let outcome = client().raw(Method::GET, path, None).await;
            assert!(
                matches!(outcome, Err(Error::InvalidAddress(_))),
                "{path}: {outcome:?}"
            );
        }
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for address in [
            "",
            "localhost",
            "127.0.0.1:8080",
            "file:///etc",
            "mailto:a@b",
        ] {
            let outcome = Client::new(address, &Credential::None);
            assert!(
                matches!(outcome, Err(Error::InvalidAddress(_))),
                "{address}"
            );
        }
        let token = Credential::Token("stp_\n".into());
        let outcome = Client::new("http://127.0.0.1:1", &token);
        assert!(matches!(outcome, Err(Error::InvalidCredential)));
    }
}
