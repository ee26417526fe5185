//! A visitor of the portal without scripts and without a browser: pages as text, forms as posts.

use reqwest::header::{CONTENT_TYPE, COOKIE};
use reqwest::{Method, StatusCode};
use stillpoint_client::{Client, Credential};
use stillpoint_wire::header::SESSION_COOKIE;
use tokio::runtime::Runtime;

use crate::person::Login;
use crate::server::Server;

/// Someone who is signed in to the portal.
pub struct Visitor {
    runtime: Runtime,
    http: reqwest::Client,
    url: String,
    cookie: String,
    csrf_token: String,
}

/// What the portal answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The HTTP status.
    pub status: u16,
    /// What a reader sees, in one line.
    pub text: String,
}

impl Visitor {
    /// Signs in.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn sign_in(server: &Server, login: &Login) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let url = server.url().to_owned();
        let credential = runtime
            .block_on(async {
                let anonymous = Client::new(&url, &Credential::None)?;
                anonymous.sign_in(&login.login, &login.password).await
            })
            .unwrap_or_else(|error| panic!("{} signs in: {error}", login.login))
            .credential;
        let Credential::Session { secret, csrf_token } = credential else {
            panic!("signing in opens no session");
        };
        let policy = reqwest::redirect::Policy::none();
        let http = reqwest::Client::builder()
            .redirect(policy)
            .build()
            .expect("a client");
        Self {
            runtime,
            http,
            url,
            cookie: format!("{SESSION_COOKIE}={secret}"),
            csrf_token,
        }
    }

    /// Opens a page.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn open(&self, path: &str) -> Page {
        self.send(Method::GET, path, None)
    }

    /// Sends a form.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn post(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("csrf_token", &self.csrf_token)
            .extend_pairs(fields);
        self.send(Method::POST, path, Some(form.finish()))
    }

    #[track_caller]
    fn send(&self, method: Method, path: &str, form: Option<String>) -> Page {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.url))
            .header(COOKIE, &self.cookie);
        if let Some(form) = form {
            request = request
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form);
        }
        let answer = self.runtime.block_on(async {
            let response = request.send().await?;
            let status: StatusCode = response.status();
            Ok::<_, reqwest::Error>((status, response.text().await?))
        });
        let (status, html) = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
        Page {
            status: status.as_u16(),
            text: visible_text(&html),
        }
    }
}

/// The text between the tags, with its entities resolved and its blanks joined.
fn visible_text(html: &str) -> String {
    let mut text = String::new();
    for part in html.split('<') {
        let (tag, after) = part.split_once('>').unwrap_or(("", part));
        // What stands inside a sentence does not break its words.
        let inline = ["a", "b", "span", "time", "code"]
            .iter()
            .any(|name| tag.trim_start_matches('/').split(' ').next() == Some(name));
        if !inline {
            text.push(' ');
        }
        text.push_str(after);
    }
    let text = ["&lt;<", "&gt;>", "&quot;\"", "&#39;'", "&amp;&"]
        .iter()
        .fold(text, |text, pair| {
            let (entity, sign) = pair.split_at(pair.len() - 1);
            text.replace(entity, sign)
        });
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
