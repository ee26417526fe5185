//! Operations, as their owners and operators see them.

use stillpoint_model::Timestamp;
use stillpoint_model::account::Actor;
use stillpoint_model::backup::Backup;
use stillpoint_model::guard::Action;
use stillpoint_model::id::OperationId;
use stillpoint_model::item::{ItemKind, ItemState};
use stillpoint_model::operation::{Operation, OperationKind, OperationState};
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::saga::{Order, Request, RestoreSource};
use stillpoint_model::snapshot::Snapshot;
use stillpoint_model::volume::{Volume, VolumeState};
use stillpoint_store::Tx;
use stillpoint_store::backup::{backup_by_id, backup_delete};
use stillpoint_store::operation::{
    OperationFilter, operation_by_id, operation_list, operation_run,
};
use stillpoint_store::snapshot::{snapshot_by_id, snapshot_delete};
use stillpoint_store::volume::{volume_by_id, volume_delete};

use crate::admission::{Accepted, Ask, Desk};
use crate::audit::{self, Entry};
use crate::backup::BackupCreate;
use crate::engine;
use crate::error::{Error, Result};
use crate::instance::{self, DeleteVolumes};
use crate::item::{self, ItemCreate};
use crate::once::Once;
use crate::reference::{instance_id_for_list, volume_id_for_list};
use crate::restore::{RestoreCreate, RestoreMode, RestorePointRef};
use crate::volume::{VolumeCreate, VolumeFromImage};
use crate::{
    Answer, Change, Context, Cursor, ListQuery, Page, Reference, backup, image, restore, snapshot,
    volume,
};

/// The longest reason of an administrator, in bytes.
const MAX_REASON_BYTES: usize = 1000;

/// Which operations.
#[derive(Clone, Debug, Default)]
pub struct OperationQuery {
    /// Which page.
    pub page: ListQuery,
    /// Only those about this volume, which may be gone when it is named by its id.
    pub volume: Option<Reference>,
    /// Only those about this instance, which may be gone when it is named by its id.
    pub instance: Option<Reference>,
    /// Only those under way, or only those that are over.
    pub in_flight: Option<bool>,
    /// Those of every account. For administrators alone.
    pub all_accounts: bool,
}

/// A page of operations, newest first.
pub async fn list(cx: &Context, actor: &Actor, query: &OperationQuery) -> Result<Page<Operation>> {
    if query.all_accounts {
        check_administrator(actor)?;
    }
    let mut conn = cx.db().read().await?;
    let volume = match &query.volume {
        Some(reference) => Some(volume_id_for_list(&mut conn, actor, reference).await?),
        None => None,
    };
    let instance = match &query.instance {
        Some(reference) => Some(instance_id_for_list(&mut conn, actor, reference).await?),
        None => None,
    };
    let filter = OperationFilter {
        volume,
        instance,
        in_flight: query.in_flight,
    };
    let account = (!query.all_accounts).then_some(actor.account_id);
    let rows = operation_list(&mut conn, account, &filter, &query.page.key()).await?;
    Ok(Page::of(rows, &query.page, |row| {
        Cursor::after(row.created_at, row.id.as_uuid())
    }))
}

/// One operation. Administrators see those of every account.
pub async fn show(cx: &Context, actor: &Actor, id: OperationId) -> Result<Operation> {
    let found = operation_by_id(&mut *cx.db().read().await?, id).await?;
    visible(actor, found)
}

fn visible(actor: &Actor, found: Option<Operation>) -> Result<Operation> {
    let seen = found.filter(|o| o.account_id == actor.account_id || actor.is_administrator());
    Ok(seen.ok_or_else(|| Refusal::not_found("operation"))?)
}

/// Asks an operation to stop. Its owner may, and an administrator. One that is already being
/// cancelled is answered as it is. `key` makes a repeated request the same request.
pub async fn cancel(
    cx: &Context,
    actor: &Actor,
    id: OperationId,
    key: Option<&str>,
) -> Result<Operation> {
    let once = Once::new(actor, key, "operation_cancel", &id)?;
    let (actor, now) = (actor.clone(), cx.now());
    let operation = cx
        .db()
        .write(move |tx| {
            Box::pin(async move {
                let operation = visible(&actor, operation_by_id(tx, id).await?)?;
                if once.before(tx).await?.is_some() {
                    return Ok::<_, Error>(operation);
                }
                if operation.state.is_terminal() {
                    return Err(over(&operation).into());
                }
                once.record(tx, id.as_uuid(), now).await?;
                let Some(stopping) = engine::cancel(tx, id, now).await? else {
                    return Ok(operation);
                };
                record(tx, &actor, "operation_cancel", &operation, "", now).await?;
                Ok(stopping)
            })
        })
        .await?;
    cx.engine_bell().notify_one();
    Ok(operation)
}

fn over(operation: &Operation) -> Refusal {
    let text = format!("The operation is over: {}.", operation.state);
    Refusal::new(ProblemCode::NotEligible, text)
}

async fn record(
    tx: &mut Tx,
    actor: &Actor,
    action: &str,
    operation: &Operation,
    detail: &str,
    now: Timestamp,
) -> Result<()> {
    let entry = Entry::new(actor, action, operation.id.as_uuid());
    audit::record(tx, entry.account(operation.account_id).detail(detail), now).await
}

fn check_administrator(actor: &Actor) -> Result<(), Refusal> {
    if actor.is_administrator() {
        return Ok(());
    }
    Err(Refusal::new(
        ProblemCode::Forbidden,
        "This is for administrators alone.",
    ))
}

fn check_reason(reason: &str) -> Result<(), Refusal> {
    if !reason.trim().is_empty() && reason.len() <= MAX_REASON_BYTES {
        return Ok(());
    }
    let text = format!("Give a reason of 1 to {MAX_REASON_BYTES} bytes; it is audited.");
    Err(Refusal::new(ProblemCode::InvalidRequest, text).at("/reason"))
}

/// Ends an operation on an administrator's word: its worker is fenced off, it fails with the
/// reason, and its volume is released. `key` makes a repeated request the same request.
pub async fn release(
    cx: &Context,
    actor: &Actor,
    id: OperationId,
    reason: &str,
    key: Option<&str>,
) -> Result<Operation> {
    check_administrator(actor)?;
    check_reason(reason)?;
    let once = Once::new(actor, key, "operation_release", &(id, reason))?;
    let (actor, reason, now) = (actor.clone(), reason.to_owned(), cx.now());
    let operation = cx
        .db()
        .write(move |tx| {
            Box::pin(async move {
                let operation = visible(&actor, operation_by_id(tx, id).await?)?;
                if once.before(tx).await?.is_some() {
                    return Ok(operation);
                }
                let Some(ending) = engine::release(tx, id, &reason, now).await? else {
                    return Err(Error::from(over(&operation)));
                };
                once.record(tx, id.as_uuid(), now).await?;
                record(tx, &actor, "operation_release", &operation, &reason, now).await?;
                Ok(ending)
            })
        })
        .await?;
    cx.engine_bell().notify_one();
    Ok(operation)
}

/// Has a failed operation's work asked for again, on an administrator's word and in the name of
/// its account. Every guard rail is asked again. What failed to be made gives way to the new
/// attempt, under the same name. The new operation is answered. `key` makes a repeated request
/// the same request.
pub async fn retry(
    cx: &Context,
    actor: &Actor,
    id: OperationId,
    reason: &str,
    key: Option<&str>,
) -> Result<Operation> {
    check_administrator(actor)?;
    check_reason(reason)?;
    // The key is the administrator's, the work is its owner's.
    let once = Once::new(actor, key, "operation_retry", &(id, reason))?;
    let found = operation_run(&mut *cx.db().read().await?, id).await?;
    let run = found.ok_or_else(|| Refusal::not_found("operation"))?;
    if run.operation.state != OperationState::Failed {
        let text = format!(
            "The operation is {}; only a failed one is retried.",
            run.operation.state
        );
        return Err(Refusal::new(ProblemCode::NotEligible, text).into());
    }
    let owner = Actor {
        account_id: run.operation.account_id,
        project_id: run.operation.project_id,
        ..actor.clone()
    };
    let change = Change::default();
    let ask = Ask::of(cx, &owner, &change, once)?;
    let note = format!("operation {id} retried: {reason}");
    let answer = ask
        .admit(move |desk| Box::pin(again(desk.noting(note), run.operation, run.order)))
        .await?;
    match answer {
        Answer::Accepted(operation) => Ok(operation),
        Answer::Preview(_) => Err(Error::Inconsistent("a retry is never a dry run".to_owned())),
    }
}

fn gone(what: &str) -> Error {
    Refusal::not_found(what).into()
}

/// Asks for the same again.
async fn again(desk: Desk<'_>, operation: Operation, order: Order) -> Result<Accepted> {
    if let Some(id) = operation.instance_id {
        return instance_again(desk, &operation, id.into(), order.request).await;
    }
    if operation.kind.is_about_image() {
        return image::again(desk, &operation, order).await;
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
        | Request::VolumeDetach { .. } => Err(gone("instance")),
        Request::ImageCreate { .. } | Request::ImageDelete => Err(gone("image")),
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
        Request::RestoreNew { source } => {
            let mode = RestoreMode::NewVolume {
                name: Some(failed.name),
                pool,
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
