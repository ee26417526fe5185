//! What an admission leaves in the stream of events, and under which id in the audit.

use stillpoint_model::event::EventKind;
use stillpoint_model::id::{
    BackupId, ImageId, InstanceId, InstanceSnapshotId, SnapshotId, VolumeId,
};
use stillpoint_model::operation::{Operation, OperationKind};
use stillpoint_store::Tx;
use stillpoint_store::event::{NewEvent, event_insert};
use uuid::Uuid;

use crate::error::Result;

/// What an operation makes, changes or deletes.
pub(super) fn subject(operation: &Operation) -> Uuid {
    if let (true, Some(image)) = (operation.kind.is_about_image(), operation.image_id) {
        return image.as_uuid();
    }
    if let (
        OperationKind::InstanceSnapshotCreate | OperationKind::InstanceSnapshotDelete,
        Some(id),
    ) = (operation.kind, operation.instance_snapshot_id)
    {
        return id.as_uuid();
    }
    let volume_first = operation.kind.is_about_volume();
    let item = operation
        .backup_id
        .map(BackupId::as_uuid)
        .or(operation.snapshot_id.map(SnapshotId::as_uuid));
    let volume = operation.volume_id.map(VolumeId::as_uuid);
    let volume = volume.or(operation.instance_id.map(InstanceId::as_uuid));
    let (first, second) = if volume_first {
        (volume, item)
    } else {
        (item, volume)
    };
    first.or(second).unwrap_or_else(|| operation.id.as_uuid())
}

/// Tells whoever watches what an operation that was accepted is about.
pub(super) async fn record_events(tx: &mut Tx, operation: &Operation) -> Result<()> {
    let changed = [
        (
            EventKind::Volume,
            operation.volume_id.map(VolumeId::as_uuid),
        ),
        (
            EventKind::Snapshot,
            operation.snapshot_id.map(SnapshotId::as_uuid),
        ),
        (
            EventKind::Backup,
            operation.backup_id.map(BackupId::as_uuid),
        ),
        (
            EventKind::Instance,
            operation.instance_id.map(InstanceId::as_uuid),
        ),
        (EventKind::Image, operation.image_id.map(ImageId::as_uuid)),
        (
            EventKind::InstanceSnapshot,
            operation
                .instance_snapshot_id
                .map(InstanceSnapshotId::as_uuid),
        ),
        (EventKind::Operation, Some(operation.id.as_uuid())),
    ];
    let events: Vec<_> = changed
        .into_iter()
        .filter_map(|(kind, id)| {
            Some(NewEvent {
                account_id: operation.account_id,
                kind,
                resource_id: id?,
                volume_id: operation.volume_id,
                operation_id: Some(operation.id),
                at: operation.created_at,
            })
        })
        .collect();
    Ok(event_insert(tx, &events).await?)
}
