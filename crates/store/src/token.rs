//! API tokens.

use stillpoint_model::Timestamp;
use stillpoint_model::account::Token;
use stillpoint_model::id::{TokenId, UserId};

use crate::error::Result;
use crate::page::PageKey;
use crate::row::{Columns, sql};
use crate::{Conn, Tx};

fn token(row: &sqlx::any::AnyRow) -> Result<Token> {
    let mut columns = Columns::of("token", row);
    Ok(Token {
        id: columns.parse()?,
        user_id: columns.parse()?,
        name: columns.parse()?,
        prefix: columns.text()?,
        created_at: columns.time()?,
        expires_at: columns.optional_time()?,
        last_used_at: columns.optional_time()?,
    })
}

/// Inserts a token, known by the hash of its secret.
pub async fn token_insert(tx: &mut Tx, token: &Token, secret_hash: &str) -> Result<()> {
    sql!(
        "INSERT INTO tokens (id, user_id, name, prefix, secret_hash, created_at, expires_at, \
         last_used_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        token.id,
        token.user_id,
        &token.name,
        &token.prefix,
        secret_hash,
        token.created_at,
        token.expires_at,
        token.last_used_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The token whose secret has this hash.
pub async fn token_by_hash(conn: &mut Conn, secret_hash: &str) -> Result<Option<Token>> {
    sql!(
        "SELECT id, user_id, name, prefix, created_at, expires_at, last_used_at FROM tokens \
         WHERE secret_hash = $1",
        secret_hash,
    )
    .fetch_optional(conn)
    .await?
    .as_ref()
    .map(token)
    .transpose()
}

/// A page of a user's tokens.
pub async fn token_list(conn: &mut Conn, user_id: UserId, page: &PageKey) -> Result<Vec<Token>> {
    sql!(
        "SELECT id, user_id, name, prefix, created_at, expires_at, last_used_at FROM tokens \
         WHERE user_id = $1 AND (created_at, id) < ($2, $3) \
         ORDER BY created_at DESC, id DESC LIMIT $4",
        user_id,
        page.created_at(),
        page.id(),
        page.limit,
    )
    .fetch_all(conn)
    .await?
    .iter()
    .map(token)
    .collect()
}

/// Records that a token was used.
pub async fn token_touch(tx: &mut Tx, id: TokenId, at: Timestamp) -> Result<()> {
    sql!("UPDATE tokens SET last_used_at = $2 WHERE id = $1", id, at)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes a user's token; answers whether there was one.
pub async fn token_delete(tx: &mut Tx, user_id: UserId, id: TokenId) -> Result<bool> {
    let done = sql!(
        "DELETE FROM tokens WHERE id = $1 AND user_id = $2",
        id,
        user_id
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}
