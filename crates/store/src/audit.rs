//! The audit's records. The chain is made by who writes them.

use sqlx::any::AnyRow;
use stillpoint_model::audit::AuditRecord;

use crate::error::Result;
use crate::row::{Columns, sql};
use crate::{Conn, Tx};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT sequence, at, account_id, user_id, login, request_id, action, resource_id, \
             detail, hash FROM audit ",
            $rest
        )
    };
}

fn record(row: &AnyRow) -> Result<AuditRecord> {
    let mut columns = Columns::of("audit", row);
    Ok(AuditRecord {
        sequence: columns.integer()?,
        at: columns.time()?,
        account_id: columns.optional()?,
        user_id: columns.optional()?,
        login: columns.text()?,
        request_id: columns.optional()?,
        action: columns.text()?,
        resource_id: columns.text()?,
        detail: columns.text()?,
        hash: columns.text()?,
    })
}

/// Inserts a record.
pub async fn audit_insert(tx: &mut Tx, record: &AuditRecord) -> Result<()> {
    sql!(
        "INSERT INTO audit (sequence, at, account_id, user_id, login, request_id, action, \
         resource_id, detail, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        record.sequence,
        record.at,
        record.account_id,
        record.user_id,
        &record.login,
        record.request_id,
        &record.action,
        &record.resource_id,
        &record.detail,
        &record.hash,
    )
    .execute(&mut **tx)
    .await?;
    tx.tail.audit = Some((record.sequence, record.hash.clone()));
    Ok(())
}

/// The place and the hash of the newest record. Known to the writer after its first record.
pub async fn audit_last(tx: &mut Tx) -> Result<Option<(i64, String)>> {
    if let Some(last) = &tx.tail.audit {
        return Ok(Some(last.clone()));
    }
    sql!("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")
        .fetch_optional(&mut **tx)
        .await?
        .map(|row| {
            let mut columns = Columns::of("audit", &row);
            Ok((columns.integer()?, columns.text()?))
        })
        .transpose()
}

/// Records before a place, the newest first.
pub async fn audit_list(conn: &mut Conn, before: i64, limit: u32) -> Result<Vec<AuditRecord>> {
    sql!(
        select!("WHERE sequence < $1 ORDER BY sequence DESC LIMIT $2"),
        before,
        limit
    )
    .fetch_all(conn)
    .await?
    .iter()
    .map(record)
    .collect()
}

/// Records after a place, the oldest first.
pub async fn audit_list_after(conn: &mut Conn, after: i64, limit: u32) -> Result<Vec<AuditRecord>> {
    sql!(
        select!("WHERE sequence > $1 ORDER BY sequence LIMIT $2"),
        after,
        limit
    )
    .fetch_all(conn)
    .await?
    .iter()
    .map(record)
    .collect()
}
