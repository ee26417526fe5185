//! Keys that make a repeated request the same request.

use stillpoint_model::Timestamp;
use stillpoint_model::id::AccountId;
use uuid::Uuid;

use crate::error::Result;
use crate::row::{Columns, sql};
use crate::{Conn, Tx};

/// Records what a request with this key led to.
pub async fn idempotency_insert(
    tx: &mut Tx,
    account_id: AccountId,
    key: &str,
    request_hash: &str,
    resource_id: Uuid,
    at: Timestamp,
) -> Result<()> {
    sql!(
        "INSERT INTO idempotency (account_id, key, request_hash, resource_id, created_at) \
         VALUES ($1, $2, $3, $4, $5)",
        account_id,
        key,
        request_hash,
        resource_id,
        at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The hash of the request that used this key, and the id of what it led to.
pub async fn idempotency_by_key(
    conn: &mut Conn,
    account_id: AccountId,
    key: &str,
) -> Result<Option<(String, Uuid)>> {
    sql!(
        "SELECT request_hash, resource_id FROM idempotency WHERE account_id = $1 AND key = $2",
        account_id,
        key,
    )
    .fetch_optional(conn)
    .await?
    .map(|row| {
        let mut columns = Columns::of("idempotency", &row);
        Ok((columns.text()?, columns.parse()?))
    })
    .transpose()
}

/// Removes a key, whose request led to nothing that lasts.
pub async fn idempotency_delete(tx: &mut Tx, account_id: AccountId, key: &str) -> Result<()> {
    sql!(
        "DELETE FROM idempotency WHERE account_id = $1 AND key = $2",
        account_id,
        key
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes keys older than `before`.
pub async fn idempotency_trim(tx: &mut Tx, before: Timestamp) -> Result<u64> {
    let done = sql!("DELETE FROM idempotency WHERE created_at < $1", before)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected())
}
