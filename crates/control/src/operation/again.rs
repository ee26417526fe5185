//! Asking again for what an operation that failed was asked for.
//!
//! The row that stands for what was not made makes way, and the request is decided anew, under the
//! plan and the guard rails of now.

use stillpoint_model::backup::Backup;
use stillpoint_model::guard::Action;
use stillpoint_model::item::{ItemKind, ItemState};
use stillpoint_model::operation::{Operation, OperationKind};
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::saga::{Order, Request, RestoreSource};
use stillpoint_model::snapshot::Snapshot;
use stillpoint_model::volume::{Volume, VolumeState};
use stillpoint_store::backup::{backup_by_id, backup_delete};
use stillpoint_store::snapshot::{snapshot_by_id, snapshot_delete};
use stillpoint_store::volume::{volume_by_id, volume_delete};

use crate::admission::{Accepted, Desk};
use crate::backup::BackupCreate;
use crate::error::{Error, Result};
use crate::instance::{self, DeleteVolumes};
use crate::instance_snapshot::{self, own_instance_snapshot};
use crate::item::{self, ItemCreate};
use crate::restore::{RestoreCreate, RestoreMode, RestorePointRef};
use crate::volume::{VolumeCreate, VolumeFromImage};
use crate::{Reference, backup, image, restore, snapshot, volume};

fn gone(what: &str) -> Error {
    Refusal::not_found(what).into()
}

/// Asks for the same again.
pub(super) async fn again(desk: Desk<'_>, operation: Operation, order: Order) -> Result<Accepted> {
    if operation.kind.is_about_image() {
        return image::again(desk, &operation, order).await;
    }
    if let Some(id) = operation.instance_snapshot_id {
        return instance_snapshot_again(desk, &operation, id.into(), order.request).await;
    }
    if let Some(id) = operation.instance_id {
        return instance_again(desk, &operation, id.into(), order.request).await;
    }
    let volume_id = operation.volume_id.ok_or_else(|| gone("volume"))?;
    match order.request {
        Request::VolumeResize { size } => volume::admit_resize(desk, volume_id.into(), size).await,
        Request::VolumeDelete => {
            let name = operation.volume_name.map(String::from);
            volume::admit_delete(desk, volume_id.into(), name).await
        }
        Request::VolumeCreate { .. }
        | Request::VolumeFromImage { .. }
        | Request::VolumeImport { .. }
        | Request::VolumeClone { .. }
        | Request::RestoreNew { .. } => volume_again(desk, &operation, order.request).await,
        Request::RestoreInPlace { source, .. } => {
            let row = volume_by_id(desk.tx, volume_id)
                .await?
                .ok_or_else(|| gone("volume"))?;
            let mode = RestoreMode::InPlace {
                confirm: Some(row.name.into()),
            };
            restore::admit_create(
                desk,
                RestoreCreate {
                    source: point(source),
                    mode,
                },
            )
            .await
        }
        Request::SnapshotCreate | Request::SnapshotDelete => {
            snapshot_again(desk, &operation, volume_id.into()).await
        }
        Request::BackupCreate { .. }
        | Request::BackupDelete { .. }
        | Request::BackupVerify { .. } => backup_again(desk, &operation, order.request).await,
        Request::InstanceCreate { .. }
        | Request::InstanceStart { .. }
        | Request::InstanceStop { .. }
        | Request::InstancePause
        | Request::InstanceResume
        | Request::InstanceDelete { .. }
        | Request::VolumeAttach { .. }
        | Request::VolumeDetach { .. }
        | Request::InstanceRebuild { .. } => Err(gone("instance")),
        Request::InstanceSnapshotCreate { .. } | Request::InstanceSnapshotDelete { .. } => {
            Err(gone("instance snapshot"))
        }
        Request::ImageCreate { .. } | Request::ImageDelete => Err(gone("image")),
    }
}

async fn instance_snapshot_again(
    desk: Desk<'_>,
    operation: &Operation,
    whole: Reference,
    request: Request,
) -> Result<Accepted> {
    let instance = operation.instance_id.map(Reference::from);
    let instance = instance.ok_or_else(|| gone("instance"));
    match request {
        Request::InstanceSnapshotCreate { memory, .. } => {
            instance_snapshot::admit_again(desk, operation, memory).await
        }
        Request::InstanceSnapshotDelete { .. } => {
            let row = own_instance_snapshot(desk.tx, &desk.actor, &whole).await?;
            instance_snapshot::admit_delete(desk, whole, Some(row.name.into())).await
        }
        Request::InstanceRebuild { go_on, .. } => {
            let name = operation.instance_name.clone().map(String::from);
            let asked = (name, go_on.is_some());
            instance_snapshot::admit_rebuild(desk, instance?, whole, asked).await
        }
        other => instance_again(desk, operation, instance?, other).await,
    }
}

async fn instance_again(
    desk: Desk<'_>,
    operation: &Operation,
    instance: Reference,
    request: Request,
) -> Result<Accepted> {
    let volume = operation.volume_id.map(Reference::from);
    let volume = volume.ok_or_else(|| gone("volume"));
    match request {
        Request::InstanceStart { .. } => {
            instance::admit_power(desk, instance, Action::InstanceStart, None).await
        }
        Request::InstanceStop { mode } => {
            instance::admit_power(desk, instance, Action::InstanceStop, Some(mode)).await
        }
        Request::InstancePause => {
            instance::admit_power(desk, instance, Action::InstancePause, None).await
        }
        Request::InstanceResume => {
            instance::admit_power(desk, instance, Action::InstanceResume, None).await
        }
        Request::InstanceDelete { delete, .. } => {
            let volumes = delete.into_iter().map(Reference::from).collect();
            let name = operation.instance_name.clone().map(String::from);
            instance::admit_delete(desk, instance, DeleteVolumes::These(volumes), name).await
        }
        Request::VolumeAttach { .. } => volume::admit_attach(desk, volume?, instance).await,
        Request::VolumeDetach { .. } => volume::admit_detach(desk, volume?).await,
        _ => {
            let text = "The making of an instance is not retried. Ask for the instance again.";
            Err(Refusal::new(ProblemCode::NotEligible, text).into())
        }
    }
}

/// Makes a volume again that could not be made.
async fn volume_again(
    mut desk: Desk<'_>,
    operation: &Operation,
    request: Request,
) -> Result<Accepted> {
    let failed = make_way(&mut desk, operation).await?;
    let pool = Some(failed.pool_id.into());
    match request {
        Request::VolumeCreate { size } => {
            let request = VolumeCreate {
                name: failed.name,
                size,
                role: failed.role,
                pool,
            };
            volume::admit_create(desk, request).await
        }
        Request::VolumeFromImage { image_id, size } => {
            let request = VolumeFromImage {
                name: failed.name,
                image: image_id.into(),
                size: Some(size),
                role: failed.role,
                pool,
            };
            volume::admit_from_image(desk, request).await
        }
        Request::VolumeClone { source } => {
            volume::admit_clone(desk, source.into(), Some(failed.name)).await
        }
        Request::RestoreNew { source, instant } => {
            let mode = RestoreMode::NewVolume {
                name: Some(failed.name),
                pool,
                instant,
            };
            restore::admit_create(
                desk,
                RestoreCreate {
                    source: point(source),
                    mode,
                },
            )
            .await
        }
        _ => {
            let text = "An import is not retried. Upload the image again.";
            Err(Refusal::new(ProblemCode::NotEligible, text).into())
        }
    }
}

/// How a request names what a restore starts from.
pub(crate) fn point(source: RestoreSource) -> RestorePointRef {
    match source {
        RestoreSource::Snapshot { snapshot_id } => RestorePointRef {
            kind: ItemKind::Snapshot,
            item: snapshot_id.into(),
        },
        RestoreSource::Backup { backup_id, .. } => RestorePointRef {
            kind: ItemKind::Backup,
            item: backup_id.into(),
        },
    }
}

/// Removes the row of a volume that could not be made.
async fn make_way(desk: &mut Desk<'_>, operation: &Operation) -> Result<Volume> {
    let id = operation.volume_id.ok_or_else(|| gone("volume"))?;
    let row = volume_by_id(desk.tx, id)
        .await?
        .ok_or_else(|| gone("volume"))?;
    if row.state != VolumeState::Failed || row.tip.is_some() {
        let text = format!("The volume is {}; there is nothing to retry.", row.state);
        return Err(Refusal::new(ProblemCode::NotEligible, text).into());
    }
    volume_delete(desk.tx, id).await?;
    Ok(row)
}

/// The refusal of a retry of what is in this state.
pub(crate) fn not_failed(state: ItemState) -> Error {
    let text = format!("The item is {state}; there is nothing to retry.");
    Refusal::new(ProblemCode::NotEligible, text).into()
}

async fn snapshot_again(
    mut desk: Desk<'_>,
    operation: &Operation,
    volume: Reference,
) -> Result<Accepted> {
    let id = operation.snapshot_id.ok_or_else(|| gone("snapshot"))?;
    let row = snapshot_by_id(desk.tx, id)
        .await?
        .ok_or_else(|| gone("snapshot"))?;
    if operation.kind == OperationKind::SnapshotDelete {
        return item::change::admit_delete::<Snapshot>(desk, id.into(), Some(row.name.into()))
            .await;
    }
    if row.state != ItemState::Failed {
        return Err(not_failed(row.state));
    }
    snapshot_delete(desk.tx, id).await?;
    let image = match operation.image_id {
        Some(image) => Some(image::make_way(&mut desk, image).await?.name),
        None => None,
    };
    let request = ItemCreate {
        name: Some(row.name),
        description: row.description,
        labels: row.labels,
    };
    snapshot::admit_create(desk, volume, request, image).await
}

async fn backup_again(desk: Desk<'_>, operation: &Operation, request: Request) -> Result<Accepted> {
    let id = operation.backup_id.ok_or_else(|| gone("backup"))?;
    let row = backup_by_id(desk.tx, id)
        .await?
        .ok_or_else(|| gone("backup"))?;
    let copied = match request {
        Request::BackupDelete { .. } => {
            return item::change::admit_delete::<Backup>(desk, id.into(), Some(row.name.into()))
                .await;
        }
        Request::BackupVerify { deep, .. } => {
            return backup::admit_verify(desk, id.into(), deep).await;
        }
        Request::BackupCreate { snapshot_id, .. } => snapshot_id,
        _ => None,
    };
    if row.state != ItemState::Failed {
        return Err(not_failed(row.state));
    }
    backup_delete(desk.tx, id).await?;
    let item = ItemCreate {
        name: Some(row.name),
        description: row.description,
        labels: row.labels,
    };
    let request = BackupCreate {
        item,
        snapshot: copied.map(Reference::from),
    };
    backup::admit_create(desk, row.volume_id.into(), request).await
}
