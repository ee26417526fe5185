//! Who acts, and browser sessions.

use axum::Json;
use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use stillpoint_control::auth;
use stillpoint_model::id::RequestId;
use stillpoint_wire::session::{Session, SignIn, WhoAmI};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::credential::{Caller, session_cookie, session_secret};
use crate::error::{ApiError, Result};
use crate::input::{JsonBody, NoQuery, QueryOf};
use crate::state::App;

/// The longest login and the longest password: hashing costs by length, too.
const MAX_CREDENTIAL_BYTES: usize = 1024;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(whoami))
        .routes(routes!(session_create))
        .routes(routes!(session_delete))
}

/// Who the credential stands for.
#[utoipa::path(get, path = "/v1/whoami", tag = "sessions",
    responses((status = 200, description = "Who acts", body = WhoAmI)))]
async fn whoami(Caller(actor): Caller, _: QueryOf<NoQuery>) -> Json<WhoAmI> {
    Json(WhoAmI::from(&actor))
}

// The one POST that takes no `Idempotency-Key`: stillpoint_control says why, in `once`.
/// Sign in with login and password: opens a browser session. Programs use API tokens.
#[utoipa::path(post, path = "/v1/sessions", tag = "sessions", request_body = SignIn, security(),
    responses((status = 201, description = "Signed in; the session is in the cookie",
        body = Session, headers(("set-cookie" = String, description = "The session")))))]
async fn session_create(
    State(app): State<App>,
    axum::Extension(request_id): axum::Extension<RequestId>,
    _: QueryOf<NoQuery>,
    JsonBody(body): JsonBody<SignIn>,
) -> Result<impl IntoResponse> {
    for (text, pointer) in [(&body.login, "/login"), (&body.password, "/password")] {
        if text.len() > MAX_CREDENTIAL_BYTES {
            let text = format!("At most {MAX_CREDENTIAL_BYTES} bytes are read here.");
            return Err(ApiError::invalid(pointer, text));
        }
    }
    let signed_in = auth::sign_in(app.cx(), &body.login, &body.password, request_id).await?;
    let lifetime = app.cx().settings().session.as_secs();
    let cookie = session_cookie(&app, signed_in.session_secret.expose(), lifetime);
    let session = Session {
        user: WhoAmI::from(&signed_in.actor),
        csrf_token: signed_in.csrf_token,
        expires_at: signed_in.expires_at,
    };
    Ok((StatusCode::CREATED, [(SET_COOKIE, cookie)], Json(session)))
}

/// Sign out: ends the session of the cookie.
#[utoipa::path(delete, path = "/v1/sessions/current", tag = "sessions",
    responses((status = 204, description = "Signed out")))]
async fn session_delete(
    State(app): State<App>,
    _: Caller,
    _: QueryOf<NoQuery>,
    headers: HeaderMap,
) -> Result<impl IntoResponse> {
    let secret = session_secret(&headers).ok_or_else(|| ApiError::not_found("session"))?;
    auth::sign_out(app.cx(), secret).await?;
    Ok((
        StatusCode::NO_CONTENT,
        [(SET_COOKIE, session_cookie(&app, "", 0))],
    ))
}
