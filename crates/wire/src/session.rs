//! Who acts, and browser sessions.

use serde::{Deserialize, Serialize};
use stillpoint_model::Timestamp;
use stillpoint_model::account::{self, Actor};
use stillpoint_model::id::{AccountId, ProjectId, UserId};
use utoipa::ToSchema;

use crate::words::words;

words! {
    /// What a user may do.
    Role = account::Role {
        /// Runs the installation: sees operator pages, may override and release with a reason.
        Administrator = "administrator",
        /// Uses it, inside one account.
        Tenant = "tenant",
    }
}

/// Who a credential stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// Whose resources requests are about.
    #[schema(value_type = String, format = "uuid")]
    pub account_id: AccountId,
    /// The project that names are looked up in.
    #[schema(value_type = String, format = "uuid")]
    pub project_id: ProjectId,
    /// Who acts.
    #[schema(value_type = String, format = "uuid")]
    pub user_id: UserId,
    /// What it signs in with.
    pub login: String,
    /// What it may do.
    pub role: Role,
}

impl From<&Actor> for WhoAmI {
    fn from(actor: &Actor) -> Self {
        let Actor {
            account_id,
            project_id,
            user_id,
            login,
            role,
            request_id: _,
        } = actor;
        Self {
            account_id: *account_id,
            project_id: *project_id,
            user_id: *user_id,
            login: login.clone(),
            role: (*role).into(),
        }
    }
}

/// A request to sign in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The login.
    pub login: String,
    /// The password.
    #[schema(format = "password")]
    pub password: String,
}

/// Without the password, so that no log can hold it.
impl std::fmt::Debug for SignIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignIn")
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

/// A browser session; its secret is in the cookie alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Who signed in.
    pub user: WhoAmI,
    /// What every change made with the cookie must show in `X-CSRF-Token`.
    pub csrf_token: String,
    /// When it ends.
    #[schema(value_type = String, format = "date-time")]
    pub expires_at: Timestamp,
}
