//! Who looks at a page, and whether a form was sent from one of ours.
//!
//! The session is a cookie that scripts cannot read and other sites cannot send (`HttpOnly`,
//! `SameSite=Strict`). A form carries a token that is derived from the session, and a request
//! that a browser marks as coming from elsewhere is refused before that.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{HOST, LOCATION, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use stillpoint_control::Change;
use stillpoint_control::auth::{self, Credential};
use stillpoint_model::Timestamp;
use stillpoint_model::account::Actor;
use stillpoint_model::id::RequestId;
use stillpoint_model::refusal::{ProblemCode, Refusal};

use super::error::Failure;
use super::paths;
use super::ui::Fields;
use crate::credential::{self, cookie};
use crate::state::App;

/// The cookie that holds the theme; not secret.
const THEME_COOKIE: &str = "stillpoint_theme";
const HX_REQUEST: HeaderName = HeaderName::from_static("hx-request");
const HX_REDIRECT: HeaderName = HeaderName::from_static("hx-redirect");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The largest form, files not counted.
const FORM_LIMIT: usize = 64 * 1024;

/// Light, dark, or as the system is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Theme {
    System,
    Light,
    Dark,
}

impl Theme {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::System => "Theme of the system",
            Self::Light => "Light theme",
            Self::Dark => "Dark theme",
        }
    }

    /// What the document says; nothing when the system decides.
    pub(super) fn attribute(self) -> Option<&'static str> {
        (self != Self::System).then_some(self.as_str())
    }

    pub(super) fn parse(text: &str) -> Self {
        match text {
            "light" => Self::Light,
            "dark" => Self::Dark,
            _ => Self::System,
        }
    }

    /// The theme that the cookie asks for.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        cookie(headers, THEME_COOKIE).map_or(Self::System, Self::parse)
    }

    /// The cookie that keeps it for a year. A script of ours may write it, too.
    pub(super) fn cookie(self) -> String {
        format!(
            "{THEME_COOKIE}={}; Path=/; Max-Age=31536000; SameSite=Lax",
            self.as_str()
        )
    }
}

/// Somebody who is signed in and asks for a page.
pub(super) struct Viewer {
    pub(super) actor: Actor,
    secret: String,
    /// What every form carries back.
    pub(super) csrf: String,
    /// A fresh key for the form on this page, so that sending it twice does it once.
    pub(super) form_key: String,
    pub(super) theme: Theme,
    /// The page's own path and query.
    pub(super) here: String,
    /// Whether a script asks, which follows redirects by a header.
    pub(super) scripted: bool,
    pub(super) now: Timestamp,
}

impl Viewer {
    /// To another page after a form was accepted.
    pub(super) fn see_other(&self, path: &str) -> Response {
        redirect(self.scripted, path)
    }

    /// How a form's request is to be admitted.
    pub(super) fn change(fields: &Fields) -> Change {
        Change {
            idempotency_key: fields.optional("idempotency_key").map(str::to_owned),
            ..Change::default()
        }
    }
}

/// Leads a browser to another page, or a script that asked for it.
fn redirect(scripted: bool, path: &str) -> Response {
    let Ok(to) = HeaderValue::try_from(path) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    if scripted {
        (StatusCode::OK, [(HX_REDIRECT, to)]).into_response()
    } else {
        (StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response()
    }
}

impl FromRequestParts<App> for Viewer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let scripted = parts.headers.contains_key(HX_REQUEST);
        // Nothing is nested: a nested router would see less than the whole path here.
        let path = parts.uri.path_and_query();
        let here = path.map_or("/", PathAndQuery::as_str).to_owned();
        let sign_in = || {
            // A form that was sent is not repeated after signing in: its page is.
            let next = (parts.method == Method::GET).then_some(here.as_str());
            let path = paths::with_query("/sign-in", &[("next", next.filter(|p| *p != "/"))]);
            Failure::from(redirect(scripted, &path))
        };
        let secret = credential::session_secret(&parts.headers).ok_or_else(sign_in)?;
        let request = credential::request_id(parts, app);
        let actor = match auth::authenticate(app.cx(), Credential::Session(secret), request).await {
            Ok(actor) => actor,
            Err(error) => {
                let refusal = error.refusal();
                return Err(match refusal.code {
                    ProblemCode::Unauthenticated => sign_in(),
                    _ => Failure::plain(&refusal, Some(request)),
                });
            }
        };
        Ok(Self {
            actor,
            secret: secret.to_owned(),
            csrf: auth::csrf_token(secret),
            form_key: RequestId::generate(app.env()).to_string(),
            theme: Theme::of(&parts.headers),
            here,
            scripted,
            now: app.env().now(),
        })
    }
}

/// Whether the browser says that another site made it send this.
pub(super) fn is_foreign(headers: &HeaderMap) -> bool {
    let site = headers.get(FETCH_SITE).and_then(|v| v.to_str().ok());
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return true;
    }
    let origin = headers.get(ORIGIN).and_then(|v| v.to_str().ok());
    let host = headers.get(HOST).and_then(|v| v.to_str().ok());
    match (origin.and_then(|o| o.split_once("://")), host) {
        (Some((_, origin)), Some(host)) => origin != host,
        (None, _) => origin.is_some_and(|o| o != "null") && site.is_none(),
        (Some(_), None) => true,
    }
}

/// The fields of a form without a file.
pub(super) async fn read_fields(request: Request) -> Result<Fields, Refusal> {
    let malformed = || Refusal::new(ProblemCode::InvalidRequest, "The form cannot be read.");
    let body = axum::body::to_bytes(request.into_body(), FORM_LIMIT)
        .await
        .map_err(|_| Refusal::new(ProblemCode::TooLarge, "The form is too large."))?;
    let pairs: Vec<(String, String)> =
        serde_urlencoded::from_bytes(&body).map_err(|_| malformed())?;
    Ok(Fields::new(pairs))
}

/// What a form without its token, or from elsewhere, is told.
pub(super) fn stale_form() -> Refusal {
    let text = "This form is too old or did not come from this portal. Go back, load the page \
                again and send it once more.";
    Refusal::new(ProblemCode::Forbidden, text)
}

/// A form that was sent from one of our pages by somebody who is signed in.
pub(super) struct Posted {
    pub(super) viewer: Viewer,
    pub(super) fields: Fields,
}

impl FromRequest<App> for Posted {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Result<Self, Failure> {
        let (mut parts, body) = request.into_parts();
        let viewer = Viewer::from_request_parts(&mut parts, app).await?;
        if is_foreign(&parts.headers) {
            return Err(viewer.fail(&stale_form()));
        }
        let fields = read_fields(Request::from_parts(parts, body))
            .await
            .map_err(|refusal| viewer.fail(&refusal))?;
        viewer.check_csrf(fields.get("csrf_token"))?;
        Ok(Self { viewer, fields })
    }
}

impl Viewer {
    /// Whether a form carries this session's token.
    pub(super) fn check_csrf(&self, token: &str) -> Result<(), Failure> {
        if auth::is_csrf_token(&self.secret, token) {
            Ok(())
        } else {
            Err(self.fail(&stale_form()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v)))
            .collect()
    }

    #[test]
    fn a_form_from_another_site_is_foreign() {
        for pairs in [
            &[("sec-fetch-site", "cross-site"), ("host", "a")][..],
            &[("sec-fetch-site", "same-site"), ("host", "a")],
            &[("origin", "http://b"), ("host", "a")],
            &[("origin", "http://a:81"), ("host", "a:80")],
        ] {
            assert!(is_foreign(&headers(pairs)), "{pairs:?}");
        }
    }

    #[test]
    fn a_form_from_our_own_page_is_not_foreign() {
        for pairs in [
            &[
                ("sec-fetch-site", "same-origin"),
                ("origin", "http://a:80"),
                ("host", "a:80"),
            ][..],
            &[("origin", "http://a:80"), ("host", "a:80")],
            &[("host", "a")],
        ] {
            assert!(!is_foreign(&headers(pairs)), "{pairs:?}");
        }
    }

    #[test]
    fn the_theme_is_found_among_other_cookies() {
        let headers = headers(&[(
            "cookie",
            "x=1; stillpoint_session=abc; stillpoint_theme=dark",
        )]);
        assert_eq!(Theme::of(&headers), Theme::Dark);
    }
}
