//! Names of headers and cookies that both sides spell.

/// The cookie that carries a browser session's secret.
pub const SESSION_COOKIE: &str = "stillpoint_session";

/// The header that carries [`crate::session::Session::csrf_token`].
pub const CSRF_TOKEN: &str = "x-csrf-token";

/// The header that carries a request's id, for support.
pub const REQUEST_ID: &str = "x-request-id";

/// The header that makes a POST safe to repeat.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
