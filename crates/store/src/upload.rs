//! Uploads of disk images.

use sqlx::any::AnyRow;
use stillpoint_model::id::OperationId;
use stillpoint_model::upload::Upload;
use stillpoint_model::{ByteCount, Timestamp};
use uuid::Uuid;

use crate::error::Result;
use crate::row::{Columns, sql};
use crate::{Conn, Tx};

fn upload(row: &AnyRow) -> Result<Upload> {
    let mut columns = Columns::of("upload", row);
    Ok(Upload {
        id: columns.parse()?,
        account_id: columns.parse()?,
        size: columns.optional_bytes()?,
        operation_id: columns.optional()?,
        created_at: columns.time()?,
    })
}

/// Inserts an upload.
pub async fn upload_insert(tx: &mut Tx, upload: &Upload) -> Result<()> {
    sql!(
        "INSERT INTO uploads (id, account_id, size_bytes, operation_id, created_at) \
         VALUES ($1, $2, $3, $4, $5)",
        upload.id,
        upload.account_id,
        upload.size,
        upload.operation_id,
        upload.created_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The upload of this id, whoever's it is.
pub async fn upload_by_id(conn: &mut Conn, id: Uuid) -> Result<Option<Upload>> {
    sql!(
        "SELECT id, account_id, size_bytes, operation_id, created_at FROM uploads WHERE id = $1",
        id,
    )
    .fetch_optional(conn)
    .await?
    .as_ref()
    .map(upload)
    .transpose()
}

/// Uploads that began before this time, the oldest first.
pub async fn upload_list_before(
    conn: &mut Conn,
    before: Timestamp,
    limit: u32,
) -> Result<Vec<Upload>> {
    sql!(
        "SELECT id, account_id, size_bytes, operation_id, created_at FROM uploads \
         WHERE created_at < $1 ORDER BY created_at LIMIT $2",
        before,
        limit,
    )
    .fetch_all(conn)
    .await?
    .iter()
    .map(upload)
    .collect()
}

/// Records that an upload arrived whole.
pub async fn upload_update_size(tx: &mut Tx, id: Uuid, size: ByteCount) -> Result<()> {
    sql!("UPDATE uploads SET size_bytes = $2 WHERE id = $1", id, size)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Records the import that took an upload.
pub async fn upload_update_operation(
    tx: &mut Tx,
    id: Uuid,
    operation_id: OperationId,
) -> Result<()> {
    sql!(
        "UPDATE uploads SET operation_id = $2 WHERE id = $1",
        id,
        operation_id
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets an upload.
pub async fn upload_delete(tx: &mut Tx, id: Uuid) -> Result<()> {
    sql!("DELETE FROM uploads WHERE id = $1", id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
