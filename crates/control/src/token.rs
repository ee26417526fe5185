//! API tokens.

use stillpoint_model::Timestamp;
use stillpoint_model::account::{Actor, Token};
use stillpoint_model::id::TokenId;
use stillpoint_model::name::Name;
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_store::Tx;
use stillpoint_store::token::{token_by_hash, token_delete, token_insert, token_list};

use crate::audit::{self, Entry};
use crate::auth::hash_secret;
use crate::error::{Error, Result};
use crate::once::Once;
use crate::{Context, Cursor, ListQuery, Page, Secret};

/// Characters of the secret that are shown to tell tokens apart.
const SHOWN: usize = 10;

/// Makes a token that acts as its maker. The secret is shown this once; `key` makes a repeated
/// request the same request, which is shown it again while this process lives.
pub async fn create(
    cx: &Context,
    actor: &Actor,
    name: Name,
    expires_at: Option<Timestamp>,
    key: Option<&str>,
) -> Result<(Token, Secret)> {
    let once = Once::new(actor, key, "token_create", &(&name, expires_at))?;
    let now = cx.now();
    if expires_at.is_some_and(|end| end <= now) {
        let text = "That time has passed already.";
        return Err(Refusal::new(ProblemCode::InvalidRequest, text)
            .at("/expires_at")
            .into());
    }
    let (handle, actor) = (cx.clone(), actor.clone());
    cx.db()
        .write(move |tx| {
            Box::pin(async move {
                if let Some(id) = once.before(tx).await? {
                    return again(&handle, tx, TokenId::from_uuid(id)).await;
                }
                let id = TokenId::generate(handle.env());
                let secret = handle.gate().token_secret(id);
                let token = Token {
                    id,
                    user_id: actor.user_id,
                    name,
                    prefix: secret.expose().chars().take(SHOWN).collect(),
                    created_at: now,
                    expires_at,
                    last_used_at: None,
                };
                let hash = hash_secret(secret.expose()).to_hex();
                token_insert(tx, &token, &hash).await?;
                once.record(tx, id.as_uuid(), now).await?;
                let entry = Entry::new(&actor, "token_create", id.as_uuid());
                audit::record(tx, entry.detail(token.name.as_str()), now).await?;
                Ok((token, secret))
            })
        })
        .await
}

/// A token that the same request made before, and its secret, if it was made by this process.
async fn again(cx: &Context, tx: &mut Tx, id: TokenId) -> Result<(Token, Secret)> {
    let secret = cx.gate().token_secret(id);
    let hash = hash_secret(secret.expose()).to_hex();
    if let Some(token) = token_by_hash(tx, &hash).await? {
        return Ok((token, secret));
    }
    let text = "This request made a token before, whose secret cannot be shown again. Revoke it \
                if it is still there, and make another with a new Idempotency-Key.";
    Err(Refusal::new(ProblemCode::NotEligible, text).into())
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
