//! API tokens.

use serde::{Deserialize, Serialize};
use stillpoint_model::id::TokenId;
use stillpoint_model::name::Name;
use stillpoint_model::{Timestamp, account};
use utoipa::ToSchema;

/// An API token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: TokenId,
    /// What its owner calls it.
    #[schema(value_type = String)]
    pub name: Name,
    /// The first characters of the secret, to tell tokens apart.
    pub prefix: String,
    /// When it was made.
    #[schema(value_type = String, format = "date-time")]
    pub created_at: Timestamp,
    /// When it stops working; null for never.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub expires_at: Option<Timestamp>,
    /// When it was last used.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub last_used_at: Option<Timestamp>,
}

impl From<account::Token> for Token {
    fn from(token: account::Token) -> Self {
        let account::Token {
            id,
            user_id: _,
            name,
            prefix,
            created_at,
            expires_at,
            last_used_at,
        } = token;
        Self {
            id,
            name,
            prefix,
            created_at,
            expires_at,
            last_used_at,
        }
    }
}

/// A request for an API token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenCreate {
    /// What its owner calls it.
    pub name: String,
    /// When it stops working; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub expires_at: Option<Timestamp>,
}

/// A new API token. The secret is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    /// The token.
    pub token: Token,
    /// What goes after `Authorization: Bearer`.
    pub secret: String,
}

/// Without the secret, so that no log can hold it.
impl std::fmt::Debug for TokenCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenCreated")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}
