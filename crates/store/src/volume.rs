//! Volumes.

use std::collections::BTreeSet;

use sqlx::any::AnyRow;
use stillpoint_model::id::{
    AccountId, BackupId, ImageId, InstanceId, PlanId, ProjectId, SnapshotId, VolumeId,
};
use stillpoint_model::instance::Power;
use stillpoint_model::item::RestorePointId;
use stillpoint_model::name::Name;
use stillpoint_model::volume::{Attachment, OwnInstance, Volume, VolumeOrigin};
use uuid::Uuid;

use crate::error::Result;
use crate::instance::load;
use crate::page::PageKey;
use crate::row::{Columns, sql};
use crate::{Conn, Tx};

macro_rules! columns {
    () => {
        "id, account_id, project_id, pool_id, plan_id, name, role, size_bytes, state, \
         attached_instance, attached_state, instance_id, place, origin_kind, origin_id, \
         filling_backup_id, active_operation_id, cooldown_until, tip_layer_id, used_bytes, failure, created_at, \
         version"
    };
}

/// What goes with the row of an instance that has the volume.
macro_rules! instance_columns {
    () => {
        ", instance_name, instance_state, instance_power, instance_ready, instance_load, \
         instance_operation_id"
    };
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            instance_columns!(),
            " FROM volumes_attached volumes ",
            $rest
        )
    };
}

fn volume(row: &AnyRow) -> Result<Volume> {
    volume_from(&mut Columns::of("volume", row))
}

fn volume_from(columns: &mut Columns<'_>) -> Result<Volume> {
    let mut own = None;
    let mut volume = Volume {
        id: columns.parse()?,
        account_id: columns.parse()?,
        project_id: columns.parse()?,
        pool_id: columns.parse()?,
        plan_id: columns.parse()?,
        name: columns.parse()?,
        role: columns.parse()?,
        size: columns.bytes()?,
        state: columns.parse()?,
        attachment: reported(columns, &mut own)?,
        origin: origin(columns)?,
        filling: columns.optional()?,
        active_operation: columns.optional()?,
        cooldown_until: columns.optional_time()?,
        tip: columns.optional()?,
        used: columns.bytes()?,
        failure: columns.optional_text()?,
        created_at: columns.time()?,
        version: columns.integer()?,
    };
    if let Some((id, place)) = own {
        volume.attachment = Some(attached(columns, id, place)?);
    } else {
        columns.skip(6);
    }
    Ok(volume)
}

/// What the orchestrator reported; into `own` goes the instance of ours and the place in it.
fn reported(
    columns: &mut Columns<'_>,
    own: &mut Option<(InstanceId, u32)>,
) -> Result<Option<Attachment>> {
    let (instance, state) = (columns.optional()?, columns.optional()?);
    let id = columns.optional()?;
    let place = columns.optional_integer()?;
    let place = place.and_then(|place| u32::try_from(place).ok());
    *own = id.map(|id| (id, place.unwrap_or_default()));
    Ok(instance
        .zip(state)
        .map(|(instance, state)| Attachment::reported(instance, state)))
}

/// The instance of ours that has a volume.
fn attached(columns: &mut Columns<'_>, id: InstanceId, place: u32) -> Result<Attachment> {
    let instance: Name = columns.parse()?;
    let state = columns.parse()?;
    let power: Power = columns.parse()?;
    Ok(Attachment {
        instance,
        state: power.attached_state(),
        own: Some(OwnInstance {
            id,
            place,
            state,
            ready: columns.flag()?,
            load: load(columns)?,
            active_operation: columns.optional()?,
        }),
    })
}

/// The columns of an attachment: what was reported, or our instance and the place in it.
type AttachmentColumns<'a> = (
    Option<&'a Name>,
    Option<&'static str>,
    Option<InstanceId>,
    Option<u32>,
);

fn attachment_columns(attachment: Option<&Attachment>) -> AttachmentColumns<'_> {
    match attachment {
        None => (None, None, None, None),
        Some(Attachment { own: Some(own), .. }) => (None, None, Some(own.id), Some(own.place)),
        Some(reported) => (
            Some(&reported.instance),
            Some(reported.state.as_str()),
            None,
            None,
        ),
    }
}

fn origin(columns: &mut Columns<'_>) -> Result<Option<VolumeOrigin>> {
    let (kind, id) = (columns.optional_text()?, columns.optional::<Uuid>()?);
    Ok(match (kind.as_deref(), id) {
        (Some("snapshot"), Some(id)) => Some(VolumeOrigin::RestorePoint(RestorePointId::Snapshot(
            SnapshotId::from_uuid(id),
        ))),
        (Some("backup"), Some(id)) => Some(VolumeOrigin::RestorePoint(RestorePointId::Backup(
            BackupId::from_uuid(id),
        ))),
        (Some("volume"), Some(id)) => Some(VolumeOrigin::Volume(VolumeId::from_uuid(id))),
        (Some("upload"), _) => Some(VolumeOrigin::Upload),
        (Some("image"), Some(id)) => Some(VolumeOrigin::Image(ImageId::from_uuid(id))),
        _ => None,
    })
}

fn origin_columns(origin: Option<VolumeOrigin>) -> (Option<&'static str>, Option<Uuid>) {
    match origin {
        None => (None, None),
        Some(VolumeOrigin::RestorePoint(RestorePointId::Snapshot(id))) => {
            (Some("snapshot"), Some(id.as_uuid()))
        }
        Some(VolumeOrigin::RestorePoint(RestorePointId::Backup(id))) => {
            (Some("backup"), Some(id.as_uuid()))
        }
        Some(VolumeOrigin::Volume(id)) => (Some("volume"), Some(id.as_uuid())),
        Some(VolumeOrigin::Upload) => (Some("upload"), None),
        Some(VolumeOrigin::Image(id)) => (Some("image"), Some(id.as_uuid())),
    }
}

/// Inserts a volume.
pub async fn volume_insert(tx: &mut Tx, volume: &Volume) -> Result<()> {
    let (origin_kind, origin_id) = origin_columns(volume.origin);
    let (attached_instance, attached_state, instance_id, place) =
        attachment_columns(volume.attachment.as_ref());
    sql!(
        concat!(
            "INSERT INTO volumes (",
            columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
             $18, $19, $20, $21, $22, $23)"
        ),
        volume.id,
        volume.account_id,
        volume.project_id,
        volume.pool_id,
        volume.plan_id,
        &volume.name,
        volume.role.as_str(),
        volume.size,
        volume.state.as_str(),
        attached_instance,
        attached_state,
        instance_id,
        place,
        origin_kind,
        origin_id,
        volume.filling,
        volume.active_operation,
        volume.cooldown_until,
        volume.tip,
        volume.used,
        volume.failure.as_deref(),
        volume.created_at,
        volume.version,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes everything of a volume that can change.
pub async fn volume_update(tx: &mut Tx, volume: &Volume) -> Result<()> {
    let (attached_instance, attached_state, instance_id, place) =
        attachment_columns(volume.attachment.as_ref());
    sql!(
        "UPDATE volumes SET name = $2, size_bytes = $3, state = $4, attached_instance = $5, \
         attached_state = $6, instance_id = $7, place = $8, active_operation_id = $9, \
         cooldown_until = $10, tip_layer_id = $11, used_bytes = $12, failure = $13, filling_backup_id = $14, \
         version = $15 \
         WHERE id = $1",
        volume.id,
        &volume.name,
        volume.size,
        volume.state.as_str(),
        attached_instance,
        attached_state,
        instance_id,
        place,
        volume.active_operation,
        volume.cooldown_until,
        volume.tip,
        volume.used,
        volume.failure.as_deref(),
        volume.filling,
        volume.version,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes a volume's row.
pub async fn volume_delete(tx: &mut Tx, id: VolumeId) -> Result<()> {
    sql!("DELETE FROM volumes WHERE id = $1", id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The volume of this id, whoever's it is.
pub async fn volume_by_id(conn: &mut Conn, id: VolumeId) -> Result<Option<Volume>> {
    sql!(select!("WHERE id = $1"), id)
        .fetch_optional(conn)
        .await?
        .as_ref()
        .map(volume)
        .transpose()
}

/// The project's volume of this name.
pub async fn volume_by_name(
    conn: &mut Conn,
    project_id: ProjectId,
    name: &Name,
) -> Result<Option<Volume>> {
    sql!(
        select!("WHERE project_id = $1 AND name = $2"),
        project_id,
        name
    )
    .fetch_optional(conn)
    .await?
    .as_ref()
    .map(volume)
    .transpose()
}

/// The project's names of volumes that are this one, or this one with a hyphen and more behind it.
pub async fn volume_names_like(
    conn: &mut Conn,
    project_id: ProjectId,
    name: &Name,
) -> Result<BTreeSet<String>> {
    // The full stop is what comes after the hyphen.
    sql!(
        "SELECT name FROM volumes WHERE project_id = $1 AND name >= $2 AND name < $2 || '.'",
        project_id,
        name,
    )
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| Columns::of("volume", row).text())
    .collect()
}

/// A volume, and how many snapshots and backups of it count toward its caps.
pub type CountedVolume = (Volume, (u32, u32));

macro_rules! select_counted {
    ($rest:expr) => {
        concat!(
            "SELECT ",
            columns!(),
            instance_columns!(),
            ", (SELECT COUNT(*) FROM snapshots s WHERE s.volume_id = volumes.id \
             AND s.trigger_word = 'manual' AND s.state NOT IN ('failed', 'lost')), \
             (SELECT COUNT(*) FROM backups b WHERE b.volume_id = volumes.id \
             AND b.trigger_word = 'manual' AND b.state NOT IN ('failed', 'lost')) \
             FROM volumes_attached volumes ",
            $rest
        )
    };
}

/// The volumes that the items of a page of this table were made of.
macro_rules! select_of_items {
    ($table:literal) => {
        select_counted!(concat!(
            "WHERE id IN (SELECT volume_id FROM (SELECT volume_id FROM ",
            $table,
            " WHERE project_id = $1 AND (created_at, id) < ($2, $3) AND account_id = $4 \
             ORDER BY created_at DESC, id DESC LIMIT $5) AS page)"
        ))
    };
}

fn counted(row: &AnyRow) -> Result<CountedVolume> {
    let mut columns = Columns::of("volume", row);
    let volume = volume_from(&mut columns)?;
    Ok((volume, (columns.count()?, columns.count()?)))
}

/// One volume, counted.
pub async fn volume_counted_by_id(conn: &mut Conn, id: VolumeId) -> Result<Option<CountedVolume>> {
    let row = sql!(select_counted!("WHERE id = $1"), id)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(counted).transpose()
}

/// The project's volume of this name, counted.
pub async fn volume_counted_by_name(
    conn: &mut Conn,
    project_id: ProjectId,
    name: &Name,
) -> Result<Option<CountedVolume>> {
    let statement = select_counted!("WHERE project_id = $1 AND name = $2");
    let row = sql!(statement, project_id, name)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(counted).transpose()
}

/// What a statement finds that takes a project, the three parts of a page, and an account.
async fn counted_of_page(
    conn: &mut Conn,
    statement: &'static str,
    account_id: AccountId,
    project_id: ProjectId,
    page: &PageKey,
) -> Result<Vec<CountedVolume>> {
    sql!(
        statement,
        project_id,
        page.created_at(),
        page.id(),
        account_id,
        page.limit,
    )
    .fetch_all(conn)
    .await?
    .iter()
    .map(counted)
    .collect()
}

/// A page of a project's volumes.
pub async fn volume_list(
    conn: &mut Conn,
    account_id: AccountId,
    project_id: ProjectId,
    page: &PageKey,
) -> Result<Vec<CountedVolume>> {
    let statement = select_counted!(
        "WHERE project_id = $1 AND (created_at, id) < ($2, $3) AND account_id = $4 \
         ORDER BY created_at DESC, id DESC LIMIT $5"
    );
    counted_of_page(conn, statement, account_id, project_id, page).await
}

/// The volumes that the snapshots of a page were made of, as far as they still exist.
pub async fn volume_list_of_snapshots(
    conn: &mut Conn,
    account_id: AccountId,
    project_id: ProjectId,
    page: &PageKey,
) -> Result<Vec<CountedVolume>> {
    let statement = select_of_items!("snapshots");
    counted_of_page(conn, statement, account_id, project_id, page).await
}

/// The volumes that the backups of a page were made of, as far as they still exist.
pub async fn volume_list_of_backups(
    conn: &mut Conn,
    account_id: AccountId,
    project_id: ProjectId,
    page: &PageKey,
) -> Result<Vec<CountedVolume>> {
    let statement = select_of_items!("backups");
    counted_of_page(conn, statement, account_id, project_id, page).await
}

/// How many items of a volume count toward its caps: manual ones that are neither failed nor
/// lost. Snapshots, then backups.
pub async fn volume_item_counts(conn: &mut Conn, id: VolumeId) -> Result<(u32, u32)> {
    let row = sql!(
        "SELECT \
         (SELECT COUNT(*) FROM snapshots WHERE volume_id = $1 AND trigger_word = 'manual' \
          AND state NOT IN ('failed', 'lost')), \
         (SELECT COUNT(*) FROM backups WHERE volume_id = $1 AND trigger_word = 'manual' \
          AND state NOT IN ('failed', 'lost'))",
        id,
    )
    .fetch_one(conn)
    .await?;
    let mut columns = Columns::of("volume", &row);
    Ok((columns.count()?, columns.count()?))
}

/// Moves the volumes of every version of a plan to one version.
pub async fn volume_update_plan(tx: &mut Tx, name: &str, to: PlanId) -> Result<u64> {
    let done = sql!(
        "UPDATE volumes SET plan_id = $2, version = version + 1 \
         WHERE plan_id IN (SELECT id FROM plans WHERE name = $1) AND plan_id <> $2",
        name,
        to,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

/// The volumes of an instance of ours, the root first.
pub async fn volume_list_of_instance(conn: &mut Conn, id: InstanceId) -> Result<Vec<Volume>> {
    sql!(select!("WHERE instance_id = $1 ORDER BY place"), id)
        .fetch_all(conn)
        .await?
        .iter()
        .map(volume)
        .collect()
}

/// The same, counted.
pub async fn volume_counted_of_instance(
    conn: &mut Conn,
    id: InstanceId,
) -> Result<Vec<CountedVolume>> {
    sql!(select_counted!("WHERE instance_id = $1 ORDER BY place"), id)
        .fetch_all(conn)
        .await?
        .iter()
        .map(counted)
        .collect()
}

/// The volumes of the instances of a page of a project, the root of each first.
pub async fn volume_list_of_instances(
    conn: &mut Conn,
    account_id: AccountId,
    project_id: ProjectId,
    page: &PageKey,
) -> Result<Vec<CountedVolume>> {
    let statement = select_counted!(
        "WHERE instance_id IN (SELECT id FROM instances \
         WHERE project_id = $1 AND (created_at, id) < ($2, $3) AND account_id = $4 \
         ORDER BY created_at DESC, id DESC LIMIT $5) ORDER BY instance_id, place"
    );
    counted_of_page(conn, statement, account_id, project_id, page).await
}

/// The volumes of the instances that the instance snapshots of a page were taken of, the root of each
/// first.
pub async fn volume_list_of_instance_snapshots(
    conn: &mut Conn,
    account_id: AccountId,
    project_id: ProjectId,
    page: &PageKey,
) -> Result<Vec<CountedVolume>> {
    let statement = select_counted!(
        "WHERE instance_id IN (SELECT instance_id FROM (SELECT instance_id FROM instance_snapshots \
         WHERE project_id = $1 AND (created_at, id) < ($2, $3) AND account_id = $4 \
         ORDER BY created_at DESC, id DESC LIMIT $5) AS page) ORDER BY instance_id, place"
    );
    counted_of_page(conn, statement, account_id, project_id, page).await
}
