//! Who acts: passwords, sessions and tokens.

use stillpoint_model::Timestamp;
use stillpoint_model::account::Actor;
use stillpoint_model::id::RequestId;

use crate::error::Result;
use crate::{Context, Secret};

/// Passwords and the cache of credentials.
pub(crate) struct Gate {}

/// What a request shows to say who it is from.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// An API token, from `Authorization: Bearer`.
    Bearer(&'a str),
    /// A browser session, from the cookie.
    Session(&'a str),
}

/// A browser session that was just opened.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// What the cookie carries.
    pub session_secret: Secret,
    /// What each change must show beside the cookie.
    pub csrf_token: String,
    /// Who signed in.
    pub actor: Actor,
    /// When the session ends.
    pub expires_at: Timestamp,
}

/// Opens a browser session. A wrong password and an unknown login cost and answer the same.
pub async fn sign_in(
    cx: &Context,
    login: &str,
    password: &str,
    request_id: RequestId,
) -> Result<SignedIn> {
    let _ = (cx, login, password, request_id);
    todo!()
}

/// Ends a browser session; one that is over already is no error.
pub async fn sign_out(cx: &Context, session_secret: &str) -> Result<()> {
    let _ = (cx, session_secret);
    todo!()
}

/// Whom a credential stands for.
pub async fn authenticate(
    cx: &Context,
    credential: Credential<'_>,
    request_id: RequestId,
) -> Result<Actor> {
    let _ = (cx, credential, request_id);
    todo!()
}

/// What each change made with this session's cookie must show. Derived from the secret.
pub fn csrf_token(session_secret: &str) -> String {
    let _ = session_secret;
    todo!()
}

/// Whether a request showed the session's token; compared in constant time.
pub fn is_csrf_token(session_secret: &str, shown: &str) -> bool {
    let _ = (session_secret, shown);
    todo!()
}
