//! Scenes between the database and the engine: loaded whole, saved as far as they changed, with
//! an event for each row that did.

use stillpoint_model::Timestamp;
use stillpoint_model::backup::Backup;
use stillpoint_model::event::EventKind;
use stillpoint_model::id::{OperationId, SnapshotId};
use stillpoint_model::image::Image;
use stillpoint_model::instance::Instance;
use stillpoint_model::instance_snapshot::InstanceSnapshot;
use stillpoint_model::name::Name;
use stillpoint_model::naming::first_free;
use stillpoint_model::operation::Operation;
use stillpoint_model::saga::{Request, Run};
use stillpoint_model::snapshot::Snapshot;
use stillpoint_model::volume::Volume;
use stillpoint_store::event::NewEvent;
use stillpoint_store::{
    Conn, Tx, backup, event, image, instance, instance_snapshot, operation, snapshot, task, volume,
};

use super::advance::Moves;
use crate::error::Result;
use crate::item::name::no_generated;
use crate::saga::Scene;

/// The snapshot that keeps what a roll back replaces.
const fn safety_of(run: &Run) -> Option<SnapshotId> {
    match run.order.request {
        Request::RestoreInPlace { safety_id, .. } => Some(safety_id),
        _ => None,
    }
}

/// The run of an operation and the rows it is about.
pub async fn load_scene(conn: &mut Conn, id: OperationId, now: Timestamp) -> Result<Option<Scene>> {
    let Some(run) = operation::operation_run(conn, id).await? else {
        return Ok(None);
    };
    let mut scene = Scene {
        now,
        run,
        volume: None,
        snapshot: None,
        backup: None,
        safety: None,
        instance: None,
        image: None,
        volumes: Vec::new(),
        instance_snapshot: None,
        snapshots: Vec::new(),
    };
    if let Some(id) = scene.run.operation.volume_id {
        scene.volume = volume::volume_by_id(conn, id).await?;
    }
    if let Some(id) = scene.run.operation.snapshot_id {
        scene.snapshot = snapshot::snapshot_by_id(conn, id).await?;
    }
    if let Some(id) = scene.run.operation.backup_id {
        scene.backup = backup::backup_by_id(conn, id).await?;
    }
    if let Some(id) = scene.run.operation.instance_id {
        scene.instance = instance::instance_by_id(conn, id).await?;
    }
    if let Some(id) = scene.run.operation.image_id {
        scene.image = image::image_by_id(conn, id).await?;
    }
    for id in scene.run.order.request.other_volumes() {
        scene.volumes.extend(volume::volume_by_id(conn, id).await?);
    }
    if let Some(id) = scene.run.operation.instance_snapshot_id {
        scene.instance_snapshot = instance_snapshot::instance_snapshot_by_id(conn, id).await?;
    }
    for id in scene.run.order.request.other_snapshots() {
        scene
            .snapshots
            .extend(snapshot::snapshot_by_id(conn, id).await?);
    }
    if let Some(id) = safety_of(&scene.run) {
        scene.safety = snapshot::snapshot_by_id(conn, id).await?;
    }
    Ok(Some(scene))
}

/// Saves what a move changed.
pub async fn save_move(tx: &mut Tx, before: &Scene, after: &Scene, moves: &Moves) -> Result<()> {
    if let Some(id) = moves.remove {
        task::task_delete(tx, id).await?;
    }
    if let Some(changed) = &moves.update {
        task::task_update(tx, changed).await?;
    }
    for new in &moves.insert {
        task::task_insert(tx, new).await?;
    }
    save_scene(tx, before, after).await?;
    operation::operation_run_save(tx, &after.run, &before.run.steps).await?;
    let (was, is) = (&before.run.operation, &after.run.operation);
    if was.state != is.state || was.progress != is.progress {
        operation_changed(tx, is, after.now).await?;
    }
    Ok(())
}

/// Saves the rows that changed, but not the run.
pub(crate) async fn save_scene(tx: &mut Tx, before: &Scene, after: &Scene) -> Result<()> {
    save_volume(tx, after, before.volume.as_ref(), after.volume.as_ref()).await?;
    for row in &before.volumes {
        let kept = after.volumes.iter().find(|kept| kept.id == row.id);
        save_volume(tx, after, Some(row), kept).await?;
    }
    // Its volumes have let go of an instance that is deleted.
    save_instance(tx, after, before.instance.as_ref()).await?;
    save_image(tx, after, before.image.as_ref()).await?;
    save_snapshot(tx, after, before.snapshot.as_ref(), after.snapshot.as_ref()).await?;
    save_snapshot(tx, after, before.safety.as_ref(), after.safety.as_ref()).await?;
    for row in &before.snapshots {
        let kept = after.snapshots.iter().find(|kept| kept.id == row.id);
        save_snapshot(tx, after, Some(row), kept).await?;
    }
    for row in &after.snapshots {
        if before.snapshots.iter().all(|old| old.id != row.id) {
            save_snapshot(tx, after, None, Some(row)).await?;
        }
    }
    // Its parts go before it does.
    save_instance_snapshot(tx, after, before.instance_snapshot.as_ref()).await?;
    if before.backup != after.backup {
        match (&before.backup, &after.backup) {
            (_, Some(row)) => {
                let row = Backup {
                    version: row.version + 1,
                    ..row.clone()
                };
                backup::backup_update(tx, &row).await?;
            }
            (Some(row), None) => backup::backup_delete(tx, row.id).await?,
            (None, None) => {}
        }
        changed(
            tx,
            after,
            EventKind::Backup,
            after.run.operation.backup_id.map(|i| i.as_uuid()),
        )
        .await?;
    }
    Ok(())
}

async fn save_volume(
    tx: &mut Tx,
    scene: &Scene,
    before: Option<&Volume>,
    after: Option<&Volume>,
) -> Result<()> {
    if before == after {
        return Ok(());
    }
    match (before, after) {
        (_, Some(row)) => {
            let row = Volume {
                version: row.version + 1,
                ..row.clone()
            };
            volume::volume_update(tx, &row).await?;
        }
        (Some(row), None) => volume::volume_delete(tx, row.id).await?,
        (None, None) => {}
    }
    let id = after.or(before).map(|row| row.id.as_uuid());
    changed(tx, scene, EventKind::Volume, id).await
}

async fn save_instance(tx: &mut Tx, scene: &Scene, before: Option<&Instance>) -> Result<()> {
    let after = scene.instance.as_ref();
    if before == after {
        return Ok(());
    }
    match (before, after) {
        (_, Some(row)) => {
            let row = Instance {
                version: row.version + 1,
                ..row.clone()
            };
            instance::instance_update(tx, &row).await?;
        }
        (Some(row), None) => instance::instance_delete(tx, row.id).await?,
        (None, None) => {}
    }
    let id = after.or(before).map(|row| row.id.as_uuid());
    changed(tx, scene, EventKind::Instance, id).await
}

async fn save_image(tx: &mut Tx, scene: &Scene, before: Option<&Image>) -> Result<()> {
    let after = scene.image.as_ref();
    if before == after {
        return Ok(());
    }
    match (before, after) {
        (_, Some(row)) => {
            let row = Image {
                version: row.version + 1,
                ..row.clone()
            };
            image::image_update(tx, &row).await?;
        }
        (Some(row), None) => image::image_delete(tx, row.id).await?,
        (None, None) => {}
    }
    let id = after.or(before).map(|row| row.id.as_uuid());
    changed(tx, scene, EventKind::Image, id).await
}

async fn save_instance_snapshot(
    tx: &mut Tx,
    scene: &Scene,
    before: Option<&InstanceSnapshot>,
) -> Result<()> {
    let after = scene.instance_snapshot.as_ref();
    if before == after {
        return Ok(());
    }
    match (before, after) {
        (_, Some(row)) => {
            let row = InstanceSnapshot {
                version: row.version + 1,
                ..row.clone()
            };
            instance_snapshot::instance_snapshot_update(tx, &row).await?;
        }
        (Some(row), None) => instance_snapshot::instance_snapshot_delete(tx, row.id).await?,
        (None, None) => {}
    }
    let id = after.or(before).map(|row| row.id.as_uuid());
    changed(tx, scene, EventKind::InstanceSnapshot, id).await
}

async fn save_snapshot(
    tx: &mut Tx,
    scene: &Scene,
    before: Option<&Snapshot>,
    after: Option<&Snapshot>,
) -> Result<()> {
    if before == after {
        return Ok(());
    }
    match (before, after) {
        (None, Some(row)) => {
            let row = Snapshot {
                name: free_name(tx, row).await?,
                ..row.clone()
            };
            snapshot::snapshot_insert(tx, &row).await?;
        }
        (Some(_), Some(row)) => {
            let row = Snapshot {
                version: row.version + 1,
                ..row.clone()
            };
            snapshot::snapshot_update(tx, &row).await?;
        }
        (Some(row), None) => snapshot::snapshot_delete(tx, row.id).await?,
        (None, None) => {}
    }
    let id = after.or(before).map(|row| row.id.as_uuid());
    changed(tx, scene, EventKind::Snapshot, id).await
}

/// The generated name of a snapshot that a saga lists, made free in its account, so that it works
/// as a reference. Sagas see no other rows; this transaction does.
async fn free_name(tx: &mut Tx, row: &Snapshot) -> Result<Name> {
    let taken = snapshot::snapshot_names_like(tx, row.account_id, &row.name).await?;
    first_free(row.name.clone(), &taken).ok_or_else(no_generated)
}

async fn changed(
    tx: &mut Tx,
    scene: &Scene,
    kind: EventKind,
    resource_id: Option<uuid::Uuid>,
) -> Result<()> {
    let Some(resource_id) = resource_id else {
        return Ok(());
    };
    let operation = &scene.run.operation;
    let new = NewEvent {
        account_id: operation.account_id,
        kind,
        resource_id,
        volume_id: operation.volume_id,
        operation_id: Some(operation.id),
        at: scene.now,
    };
    Ok(event::event_insert(tx, &[new]).await?)
}

/// Tells whoever watches that an operation moved on.
pub(crate) async fn operation_changed(
    tx: &mut Tx,
    operation: &Operation,
    now: Timestamp,
) -> Result<()> {
    let new = NewEvent {
        account_id: operation.account_id,
        kind: EventKind::Operation,
        resource_id: operation.id.as_uuid(),
        volume_id: operation.volume_id,
        operation_id: Some(operation.id),
        at: now,
    };
    Ok(event::event_insert(tx, &[new]).await?)
}
