//! Somebody who visits the portal without scripts: pages as text, forms as posts.

use std::sync::Arc;

use reqwest::RequestBuilder;
use reqwest::header::{CONTENT_TYPE, COOKIE, LOCATION};
use reqwest::redirect::Policy;
use stillpoint_client::{Client, Credential};
use stillpoint_wire::header::SESSION_COOKIE;

use crate::server::{PASSWORD, Reply, Server};

/// Somebody who is signed in to the portal.
pub struct Visitor {
    pub http: reqwest::Client,
    pub url: Arc<str>,
    cookie: String,
    csrf_token: String,
}

/// What the portal answered.
#[derive(Debug)]
pub struct Page {
    pub status: u16,
    /// Where it leads; empty when it leads nowhere.
    pub location: String,
    /// Its source.
    pub html: String,
}

impl Page {
    /// The tag with this id, from `<` to `>`.
    pub fn tag(&self, id: &str) -> &str {
        let at = self.html.find(&format!("id=\"{id}\""));
        let at = at.unwrap_or_else(|| panic!("{id} is not on the page: {}", self.html));
        let start = self.html[..at].rfind('<').unwrap();
        let end = at + self.html[at..].find('>').unwrap();
        &self.html[start..=end]
    }

    /// The text of a disabled action's reason.
    pub fn reason(&self, id: &str) -> &str {
        assert!(self.tag(id).contains("disabled"), "{}", self.tag(id));
        let reason = self.tag(&format!("{id}-reason"));
        let after = self.html.split_once(reason).unwrap().1;
        after.split_once("</p>").unwrap().0
    }

    #[track_caller]
    pub fn shows(&self, text: &str) {
        assert!(self.html.contains(text), "{text} is not in {}", self.html);
    }

    #[track_caller]
    pub fn hides(&self, text: &str) {
        assert!(!self.html.contains(text), "{text} is in {}", self.html);
    }

    /// What a form field holds that was chosen among options.
    pub fn has_option(&self, value: &str) -> bool {
        self.html.contains(&format!("<option value=\"{value}\""))
    }
}

impl Visitor {
    pub async fn sign_in(server: &Server, login: &str) -> Self {
        let anonymous = Client::new(&server.url, &Credential::None).unwrap();
        let signed_in = anonymous.sign_in(login, PASSWORD).await.unwrap();
        let Credential::Session { secret, csrf_token } = signed_in.credential else {
            panic!("signing in opens no session");
        };
        Self {
            http: reqwest::Client::builder()
                .redirect(Policy::none())
                .build()
                .unwrap(),
            url: server.url.as_str().into(),
            cookie: format!("{SESSION_COOKIE}={secret}"),
            csrf_token,
        }
    }

    /// Opens a page.
    pub async fn open(&self, path: &str) -> Page {
        self.send(self.http.get(format!("{}{path}", self.url)))
            .await
    }

    /// Sends a form.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let mut form = vec![("csrf_token", self.csrf_token.as_str())];
        form.extend(fields);
        let request = self.http.post(format!("{}{path}", self.url));
        self.send(filled(request, &form)).await
    }

    /// Sends a form with a disk at its end.
    pub async fn post_disk(&self, path: &str, fields: &[(&str, &str)], disk: &str) -> Page {
        let mut body = String::new();
        let token = ("csrf_token", self.csrf_token.as_str());
        let follows = ("image_follows", "yes");
        for (name, value) in [token].iter().chain(fields).chain(&[follows]) {
            let head = format!("Content-Disposition: form-data; name=\"{name}\"");
            body += &format!("--edge\r\n{head}\r\n\r\n{value}\r\n");
        }
        let head = "Content-Disposition: form-data; name=\"image\"; filename=\"disk.raw\"";
        body += &format!("--edge\r\n{head}\r\n\r\n{disk}\r\n--edge--\r\n");
        let request = self.http.post(format!("{}{path}", self.url));
        let kind = "multipart/form-data; boundary=edge";
        self.send(request.header(CONTENT_TYPE, kind).body(body))
            .await
    }

    /// Sends a form that must be accepted, and answers where it leads.
    pub async fn accepted(&self, path: &str, fields: &[(&str, &str)]) -> String {
        let page = self.post(path, fields).await;
        assert_eq!(page.status, 303, "{path}: {}", page.html);
        page.location
    }

    pub async fn send(&self, request: RequestBuilder) -> Page {
        let response = request.header(COOKIE, &self.cookie).send().await.unwrap();
        let location = response.headers().get(LOCATION);
        let location = location.map_or("", |l| l.to_str().unwrap()).to_owned();
        Page {
            status: response.status().as_u16(),
            location,
            html: response.text().await.unwrap(),
        }
    }
}

/// A request with these fields of a form.
pub fn filled(request: RequestBuilder, fields: &[(&str, &str)]) -> RequestBuilder {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields);
    request
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(form.finish())
}

/// Waits until nothing of the tenant is under way.
pub async fn settled(server: &Server) {
    let running = server
        .get(&server.tenant, "/v1/operations?in_flight=true")
        .await;
    for operation in running.body["items"].as_array().unwrap() {
        let id = operation["id"].as_str().unwrap().parse().unwrap();
        let client = server.client(&server.tenant);
        client.wait(id, |_| ()).await.unwrap();
    }
}

/// What the tenant is shown at a path of the API.
pub async fn shown(server: &Server, path: &str) -> Reply {
    let reply = server.get(&server.tenant, path).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply
}
