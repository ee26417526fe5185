//! API tokens.

use reqwest::Method;
use stillpoint_model::id::TokenId;
use stillpoint_wire::Page;
use stillpoint_wire::token::{Token, TokenCreate, TokenCreated};

use crate::error::Result;
use crate::request::{Change, Client, ListQuery};

impl Client {
    /// The user's tokens.
    pub async fn token_list(&self, query: &ListQuery) -> Result<Page<Token>> {
        self.list(&["tokens"], &(), query).await
    }

    /// A new token; its secret is in the answer, this once.
    pub async fn token_create(&self, request: &TokenCreate) -> Result<TokenCreated> {
        self.change(Method::POST, &["tokens"], Some(request), &Change::default())
            .await
    }

    /// Ends a token.
    pub async fn token_revoke(&self, id: TokenId) -> Result<()> {
        self.change_silently(Method::DELETE, &["tokens", &id.to_string()])
            .await
    }
}
