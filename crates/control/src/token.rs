//! API tokens.

use stillpoint_model::Timestamp;
use stillpoint_model::account::{Actor, Token};
use stillpoint_model::id::TokenId;
use stillpoint_model::name::Name;
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_store::token::{token_delete, token_insert, token_list};

use crate::audit::{self, Entry};
use crate::auth::{TOKEN_PREFIX, generate_secret, hash_secret};
use crate::error::{Error, Result};
use crate::{Context, Cursor, ListQuery, Page, Secret};

/// Characters of the secret that are shown to tell tokens apart.
const SHOWN: usize = 10;

/// Makes a token that acts as its maker. The secret is shown this once.
pub async fn create(
    cx: &Context,
    actor: &Actor,
    name: Name,
    expires_at: Option<Timestamp>,
) -> Result<(Token, Secret)> {
    let now = cx.now();
    if expires_at.is_some_and(|end| end <= now) {
        let text = "That time has passed already.";
        return Err(Refusal::new(ProblemCode::InvalidRequest, text)
            .at("/expires_at")
            .into());
    }
    let secret = generate_secret(cx.env(), TOKEN_PREFIX);
    let hash = hash_secret(secret.expose()).to_hex();
    let token = Token {
        id: TokenId::generate(cx.env()),
        user_id: actor.user_id,
        name,
        prefix: secret.expose().chars().take(SHOWN).collect(),
        created_at: now,
        expires_at,
        last_used_at: None,
    };
    let (row, actor) = (token.clone(), actor.clone());
    cx.db()
        .write(move |tx| {
            Box::pin(async move {
                token_insert(tx, &row, &hash).await?;
                let entry = Entry::new(&actor, "token_create", row.id.as_uuid());
                audit::record(tx, entry.detail(row.name.as_str()), now).await
            })
        })
        .await?;
    Ok((token, secret))
}

/// The actor's tokens.
pub async fn list(cx: &Context, actor: &Actor, query: &ListQuery) -> Result<Page<Token>> {
    let mut conn = cx.db().read().await?;
    let tokens = token_list(&mut conn, actor.user_id, &query.key()).await?;
    Ok(Page::of(tokens, query, |t| {
        Cursor::after(t.created_at, t.id.as_uuid())
    }))
}

/// Takes a token out of use at once.
pub async fn revoke(cx: &Context, actor: &Actor, id: TokenId) -> Result<()> {
    let (actor, now) = (actor.clone(), cx.now());
    cx.db()
        .write(move |tx| {
            Box::pin(async move {
                if !token_delete(tx, actor.user_id, id).await? {
                    return Err(Error::from(Refusal::not_found("token")));
                }
                audit::record(tx, Entry::new(&actor, "token_delete", id.as_uuid()), now).await
            })
        })
        .await?;
    cx.gate().forget();
    Ok(())
}
