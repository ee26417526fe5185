//! Who acts.

use reqwest::Method;
use reqwest::header::SET_COOKIE;
use stillpoint_wire::header::SESSION_COOKIE;
use stillpoint_wire::session::{Session, SignIn, WhoAmI};

use crate::error::Result;
use crate::request::{Client, Credential};

/// A session that was opened by login and password.
pub struct SignedIn {
    /// Who signed in, and until when.
    pub session: Session,
    /// What the next requests show; for [`Client::with_credential`].
    pub credential: Credential,
}

impl Client {
    /// Who the credential stands for.
    pub async fn whoami(&self) -> Result<WhoAmI> {
        self.get(&["whoami"]).await
    }

    /// Opens a session.
    pub async fn sign_in(&self, login: &str, password: &str) -> Result<SignedIn> {
        let body = SignIn {
            login: login.to_owned(),
            password: password.to_owned(),
        };
        let request = self
            .request(Method::POST, self.url(&["sessions"]))
            .json(&body);
        let response = self.send(request).await?;
        let response = self.success(response).await?;
        let status = response.status();
        let secret = response
            .headers()
            .get_all(SET_COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .filter_map(|cookie| cookie.split(';').next()?.split_once('='))
            .find(|(name, _)| *name == SESSION_COOKIE)
            .map(|(_, secret)| secret.to_owned())
            .ok_or_else(|| self.unexpected(status))?;
        let session: Session = self.read(response).await?;
        let csrf_token = session.csrf_token.clone();
        Ok(SignedIn {
            session,
            credential: Credential::Session { secret, csrf_token },
        })
    }

    /// Ends the session that this client uses.
    pub async fn sign_out(&self) -> Result<()> {
        self.change_silently(Method::DELETE, &["sessions", "current"])
            .await
    }
}
