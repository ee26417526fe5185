//! Signing in and out, and the theme, which the door wears too.

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;
use stillpoint_control::auth;
use stillpoint_model::id::RequestId;
use stillpoint_model::refusal::Refusal;

use super::error::{Failure, refusal, status};
use super::icon::{Icon, logo};
use super::layout::head;
use super::paths;
use super::session::{Posted, Theme, is_foreign, read_fields, stale_form};
use super::ui::{self, Fields};
use crate::credential::{session_cookie, session_secret};
use crate::state::App;

/// The longest login and the longest password: hashing costs by length, too.
const MAX_CREDENTIAL_BYTES: usize = 1024;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/sign-in", get(open).post(sign_in))
        .route("/sign-out", post(sign_out))
        .route("/theme", post(theme))
}

/// Where to go afterwards.
#[derive(Deserialize)]
struct Next {
    next: Option<String>,
}

async fn open(headers: HeaderMap, Query(Next { next }): Query<Next>) -> Markup {
    let fields = Fields::default().with("next", next.unwrap_or_default());
    door(Theme::of(&headers), &fields, None)
}

async fn sign_in(
    State(app): State<App>,
    axum::Extension(request_id): axum::Extension<RequestId>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Failure> {
    let plain = |refusal: &Refusal| Failure::plain(refusal, Some(request_id));
    if is_foreign(&headers) {
        return Err(plain(&stale_form()));
    }
    let fields = read_fields(request)
        .await
        .map_err(|refusal| plain(&refusal))?;
    // A password may begin and end with blanks.
    let (login, password) = (fields.get("login"), fields.raw("password"));
    let too_long = login.len().max(password.len()) > MAX_CREDENTIAL_BYTES;
    let outcome = if too_long {
        auth::sign_in(app.cx(), "", "", request_id).await
    } else {
        auth::sign_in(app.cx(), login, password, request_id).await
    };
    match outcome {
        Ok(signed_in) => {
            let lifetime = app.cx().settings().session.as_secs();
            let cookie = session_cookie(&app, signed_in.session_secret.expose(), lifetime);
            let next = paths::local(fields.get("next"));
            Ok(([(SET_COOKIE, cookie)], Redirect::to(next)).into_response())
        }
        Err(error) => {
            let refusal = refusal(&error);
            let page = door(Theme::of(&headers), &fields, Some((&refusal, request_id)));
            Ok((status(&refusal), page).into_response())
        }
    }
}

async fn sign_out(
    State(app): State<App>,
    headers: HeaderMap,
    posted: Posted,
) -> Result<Response, Failure> {
    if let Some(secret) = session_secret(&headers) {
        auth::sign_out(app.cx(), secret)
            .await
            .map_err(|e| posted.viewer.sorry(&e))?;
    }
    let cookie = session_cookie(&app, "", 0);
    Ok(([(SET_COOKIE, cookie)], Redirect::to("/sign-in")).into_response())
}

async fn theme(Posted { viewer, fields }: Posted) -> Response {
    let cookie = Theme::parse(fields.get("theme")).cookie();
    let back = paths::local(fields.get("back")).to_owned();
    (
        StatusCode::OK,
        [(SET_COOKIE, cookie)],
        viewer.see_other(&back),
    )
        .into_response()
}

/// The page that asks who you are.
fn door(theme: Theme, fields: &Fields, refused: Option<(&Refusal, RequestId)>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" data-theme=[theme.attribute()] {
            (head("Sign in", None))
            body {
                main.door {
                    section.card aria-labelledby="sign-in" {
                        p.brand { (logo()) "Stillpoint" }
                        form method="post" action="/sign-in" {
                            h1.visually-hidden #sign-in { "Sign in" }
                            @if let Some((refusal, request)) = refused { (refused_note(refusal, request)) }
                            div.field {
                                label for="login" { "Login" }
                                input #login type="text" name="login" value=(fields.raw("login")) autocomplete="username"
                                    autocapitalize="none" spellcheck="false" required autofocus[fields.raw("login").is_empty()];
                            }
                            div.field {
                                label for="password" { "Password" }
                                input #password type="password" name="password" autocomplete="current-password"
                                    required autofocus[!fields.raw("login").is_empty()];
                            }
                            (ui::hidden("next", fields.get("next")))
                            button.button.primary type="submit" { "Sign in" }
                        }
                    }
                }
            }
        }
    }
}

fn refused_note(refusal: &Refusal, request: RequestId) -> Markup {
    html! {
        div.alert.bad role="alert" {
            (Icon::Alert)
            div {
                h2 { "That did not work" }
                p { (refusal.text) }
                p.request { "Code " code { (refusal.code) } " · Request " code { (request) } }
            }
        }
    }
}
