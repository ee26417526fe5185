//! Images.

use std::collections::BTreeSet;

use sqlx::any::AnyRow;
use stillpoint_model::id::{
    AccountId, BackupId, ImageId, InstanceSnapshotId, ProjectId, SnapshotId,
};
use stillpoint_model::image::{Image, ImageOrigin};
use stillpoint_model::item::{Consistency, RestorePointId};
use stillpoint_model::name::Name;
use uuid::Uuid;

use crate::error::Result;
use crate::page::PageKey;
use crate::row::{Columns, json, sql};
use crate::{Conn, Tx};

macro_rules! columns {
    () => {
        "id, account_id, project_id, pool_id, name, description, labels, state, origin_kind, \
         origin_id, origin_name, consistency, size_bytes, used_bytes, layer_id, duration_ms, \
         protected, failure, operation_id, created_at, version"
    };
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", columns!(), " FROM images ", $rest)
    };
}

fn image(row: &AnyRow) -> Result<Image> {
    let mut columns = Columns::of("image", row);
    Ok(Image {
        id: columns.parse()?,
        account_id: columns.parse()?,
        project_id: columns.parse()?,
        pool_id: columns.parse()?,
        name: columns.parse()?,
        description: columns.text()?,
        labels: columns.json()?,
        state: columns.parse()?,
        origin: origin(&mut columns)?,
        origin_name: columns.optional()?,
        consistency: columns.optional()?,
        size: columns.bytes()?,
        used: columns.bytes()?,
        layer: columns.optional()?,
        duration_ms: columns.optional_integer()?,
        protected: columns.flag()?,
        failure: columns.optional_text()?,
        operation_id: columns.optional()?,
        created_at: columns.time()?,
        version: columns.integer()?,
    })
}

fn origin(columns: &mut Columns<'_>) -> Result<ImageOrigin> {
    let (kind, id) = (columns.text()?, columns.optional::<Uuid>()?);
    let point = match (kind.as_str(), id) {
        ("snapshot", Some(id)) => RestorePointId::Snapshot(SnapshotId::from_uuid(id)),
        ("backup", Some(id)) => RestorePointId::Backup(BackupId::from_uuid(id)),
        ("instance_snapshot", Some(id)) => {
            let id = InstanceSnapshotId::from_uuid(id);
            return Ok(ImageOrigin::InstanceSnapshot(id));
        }
        ("upload", _) => return Ok(ImageOrigin::Upload),
        _ => return Err(columns.corrupt(&kind)),
    };
    Ok(ImageOrigin::RestorePoint(point))
}

fn origin_columns(origin: ImageOrigin) -> (&'static str, Option<Uuid>) {
    match origin {
        ImageOrigin::RestorePoint(RestorePointId::Snapshot(id)) => ("snapshot", Some(id.as_uuid())),
        ImageOrigin::RestorePoint(RestorePointId::Backup(id)) => ("backup", Some(id.as_uuid())),
        ImageOrigin::InstanceSnapshot(id) => ("instance_snapshot", Some(id.as_uuid())),
        ImageOrigin::Upload => ("upload", None),
    }
}

/// Inserts an image.
pub async fn image_insert(tx: &mut Tx, image: &Image) -> Result<()> {
    let (origin_kind, origin_id) = origin_columns(image.origin);
    sql!(
        concat!(
            "INSERT INTO images (",
            columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
             $18, $19, $20, $21)"
        ),
        image.id,
        image.account_id,
        image.project_id,
        image.pool_id,
        &image.name,
        &image.description,
        json(&image.labels)?,
        image.state.as_str(),
        origin_kind,
        origin_id,
        image.origin_name.as_ref(),
        image.consistency.map(Consistency::as_str),
        image.size,
        image.used,
        image.layer,
        image.duration_ms,
        image.protected,
        image.failure.as_deref(),
        image.operation_id,
        image.created_at,
        image.version,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes everything of an image that can change.
pub async fn image_update(tx: &mut Tx, image: &Image) -> Result<()> {
    sql!(
        "UPDATE images SET name = $2, description = $3, labels = $4, state = $5, \
         consistency = $6, size_bytes = $7, used_bytes = $8, layer_id = $9, duration_ms = $10, \
         protected = $11, failure = $12, operation_id = $13, version = $14 WHERE id = $1",
        image.id,
        &image.name,
        &image.description,
        json(&image.labels)?,
        image.state.as_str(),
        image.consistency.map(Consistency::as_str),
        image.size,
        image.used,
        image.layer,
        image.duration_ms,
        image.protected,
        image.failure.as_deref(),
        image.operation_id,
        image.version,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes an image's row.
pub async fn image_delete(tx: &mut Tx, id: ImageId) -> Result<()> {
    sql!("DELETE FROM images WHERE id = $1", id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The image of this id, whoever's it is.
pub async fn image_by_id(conn: &mut Conn, id: ImageId) -> Result<Option<Image>> {
    sql!(select!("WHERE id = $1"), id)
        .fetch_optional(conn)
        .await?
        .as_ref()
        .map(image)
        .transpose()
}

/// The project's image of this name.
pub async fn image_by_name(
    conn: &mut Conn,
    project_id: ProjectId,
    name: &Name,
) -> Result<Option<Image>> {
    sql!(
        select!("WHERE project_id = $1 AND name = $2"),
        project_id,
        name
    )
    .fetch_optional(conn)
    .await?
    .as_ref()
    .map(image)
    .transpose()
}

/// The project's names of images that are this one, or this one with a hyphen and more behind it.
pub async fn image_names_like(
    conn: &mut Conn,
    project_id: ProjectId,
    name: &Name,
) -> Result<BTreeSet<String>> {
    // The full stop is what comes after the hyphen.
    sql!(
        "SELECT name FROM images WHERE project_id = $1 AND name >= $2 AND name < $2 || '.'",
        project_id,
        name,
    )
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| Columns::of("image", row).text())
    .collect()
}

/// How many images of an account count toward its cap: all but those that could not be made.
pub async fn image_count(conn: &mut Conn, account_id: AccountId) -> Result<u32> {
    let row = sql!(
        "SELECT COUNT(*) FROM images WHERE account_id = $1 \
         AND NOT (state = 'failed' AND layer_id IS NULL)",
        account_id
    )
    .fetch_one(conn)
    .await?;
    Columns::of("image", &row).count()
}

/// A page of a project's images, newest first.
pub async fn image_list(
    conn: &mut Conn,
    account_id: AccountId,
    project_id: ProjectId,
    page: &PageKey,
) -> Result<Vec<Image>> {
    sql!(
        select!(
            "WHERE project_id = $1 AND (created_at, id) < ($2, $3) AND account_id = $4 \
             ORDER BY created_at DESC, id DESC LIMIT $5"
        ),
        project_id,
        page.created_at(),
        page.id(),
        account_id,
        page.limit,
    )
    .fetch_all(conn)
    .await?
    .iter()
    .map(image)
    .collect()
}
