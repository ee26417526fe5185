//! Who makes a request.
//!
//! A bearer token, or the session cookie. A browser sends the cookie by itself, so whatever
//! changes something by it must also show the session's CSRF token, which only our own pages
//! know.

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use stillpoint_control::auth::{self, Credential};
use stillpoint_model::account::Actor;
use stillpoint_model::id::RequestId;
use stillpoint_wire::header::{CSRF_TOKEN, SESSION_COOKIE};

use crate::error::{ApiError, Result};
use crate::state::App;

/// Who makes the request, proved.
pub(crate) struct Caller(pub(crate) Actor);

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let request_id = request_id(parts, app);
        let headers = &parts.headers;
        if headers.contains_key(AUTHORIZATION) {
            let token = bearer(headers).ok_or_else(ApiError::unauthenticated)?;
            let credential = Credential::Bearer(token);
            return Ok(Self(
                auth::authenticate(app.cx(), credential, request_id).await?,
            ));
        }
        let secret = session_secret(headers).ok_or_else(ApiError::unauthenticated)?;
        let credential = Credential::Session(secret);
        let actor = auth::authenticate(app.cx(), credential, request_id).await?;
        if !is_safe(&parts.method) && !csrf_is_right(headers, secret) {
            let text = "Show the session's CSRF token in `X-CSRF-Token`, or use an API token.";
            return Err(ApiError::forbidden(text));
        }
        Ok(Self(actor))
    }
}

/// The id that [`crate::finish`] gave the request.
pub(crate) fn request_id(parts: &Parts, app: &App) -> RequestId {
    let given = parts.extensions.get::<RequestId>().copied();
    given.unwrap_or_else(|| RequestId::generate(app.env()))
}

/// The session's secret, from the cookie.
pub(crate) fn session_secret(headers: &HeaderMap) -> Option<&str> {
    cookie(headers, SESSION_COOKIE)
}

/// The value of a cookie.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, rest) = (values.next()?, values.next());
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    (rest.is_none() && scheme.eq_ignore_ascii_case("bearer")).then_some(token.trim())
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn csrf_is_right(headers: &HeaderMap, secret: &str) -> bool {
    let shown = headers
        .get(CSRF_TOKEN)
        .and_then(|value| value.to_str().ok());
    shown.is_some_and(|shown| auth::is_csrf_token(secret, shown))
}

/// The cookie that carries a session, or takes it back when `max_age_s` is zero.
pub(crate) fn session_cookie(app: &App, secret: &str, max_age_s: u64) -> String {
    let secure = if app.settings().secure_cookies {
        "; Secure"
    } else {
        ""
    };
    format!(
        "{SESSION_COOKIE}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={max_age_s}{secure}"
    )
}
