//! Browser sessions.

use stillpoint_model::Timestamp;
use stillpoint_model::id::{SessionId, UserId};

use crate::error::Result;
use crate::row::{Columns, sql};
use crate::{Conn, Tx};

/// Inserts a session, known by the hash of its secret.
pub async fn session_insert(
    tx: &mut Tx,
    id: SessionId,
    user_id: UserId,
    secret_hash: &str,
    created_at: Timestamp,
    expires_at: Timestamp,
) -> Result<()> {
    sql!(
        "INSERT INTO sessions (id, user_id, secret_hash, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5)",
        id,
        user_id,
        secret_hash,
        created_at,
        expires_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Whose session this is, and when it ends.
pub async fn session_by_hash(
    conn: &mut Conn,
    secret_hash: &str,
) -> Result<Option<(SessionId, UserId, Timestamp)>> {
    sql!(
        "SELECT id, user_id, expires_at FROM sessions WHERE secret_hash = $1",
        secret_hash
    )
    .fetch_optional(conn)
    .await?
    .map(|row| {
        let mut columns = Columns::of("session", &row);
        Ok((columns.parse()?, columns.parse()?, columns.time()?))
    })
    .transpose()
}

/// Ends a session.
pub async fn session_delete(tx: &mut Tx, id: SessionId) -> Result<()> {
    sql!("DELETE FROM sessions WHERE id = $1", id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes the sessions that were over before `now`.
pub async fn session_trim(tx: &mut Tx, now: Timestamp) -> Result<u64> {
    let done = sql!("DELETE FROM sessions WHERE expires_at < $1", now)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected())
}
