//! API tokens.

use stillpoint_model::Timestamp;
use stillpoint_model::account::{Actor, Token};
use stillpoint_model::id::TokenId;
use stillpoint_model::name::Name;

use crate::error::Result;
use crate::{Context, ListQuery, Page, Secret};

/// Makes a token that acts as its maker. The secret is shown this once.
pub async fn create(
    cx: &Context,
    actor: &Actor,
    name: Name,
    expires_at: Option<Timestamp>,
) -> Result<(Token, Secret)> {
    let _ = (cx, actor, name, expires_at);
    todo!()
}

/// The actor's tokens.
pub async fn list(cx: &Context, actor: &Actor, query: &ListQuery) -> Result<Page<Token>> {
    let _ = (cx, actor, query);
    todo!()
}

/// Takes a token out of use at once.
pub async fn revoke(cx: &Context, actor: &Actor, id: TokenId) -> Result<()> {
    let _ = (cx, actor, id);
    todo!()
}
