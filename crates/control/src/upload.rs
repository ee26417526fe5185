//! Uploads of disk images. This crate knows no files: it only says whose an upload is, and which
//! ones may still be wanted.

use stillpoint_model::ByteCount;
use stillpoint_model::account::Actor;
use stillpoint_model::id::TaskId;
use stillpoint_model::refusal::Refusal;
use stillpoint_model::upload::Upload;
use stillpoint_store::Tx;
use stillpoint_store::operation::operation_by_id;
use stillpoint_store::upload::{upload_by_id, upload_delete, upload_insert, upload_update_size};
use uuid::Uuid;

use crate::Context;
use crate::audit::{self, Entry};
use crate::error::{Error, Result};

/// Records an upload before its first byte arrives. Its id names its file.
pub async fn begin(cx: &Context, actor: &Actor) -> Result<Upload> {
    let upload = Upload {
        id: TaskId::generate(cx.env()).as_uuid(),
        account_id: actor.account_id,
        size: None,
        operation_id: None,
        created_at: cx.now(),
    };
    let row = upload.clone();
    let actor = actor.clone();
    cx.db()
        .write(move |tx| {
            Box::pin(async move {
                upload_insert(tx, &row).await?;
                let entry = Entry::new(&actor, "upload_create", row.id);
                audit::record(tx, entry, row.created_at).await
            })
        })
        .await?;
    Ok(upload)
}

/// Records that an upload arrived whole.
pub async fn complete(cx: &Context, actor: &Actor, id: Uuid, size: ByteCount) -> Result<Upload> {
    let (actor, now) = (actor.clone(), cx.now());
    cx.db()
        .write(move |tx| {
            Box::pin(async move {
                let upload = arriving(tx, &actor, id).await?;
                upload_update_size(tx, id, size).await?;
                let entry = Entry::new(&actor, "upload_complete", id);
                audit::record(tx, entry.detail(size.to_string()), now).await?;
                Ok::<_, Error>(Upload {
                    size: Some(size),
                    ..upload
                })
            })
        })
        .await
}

/// Forgets an upload that did not arrive.
pub async fn abandon(cx: &Context, actor: &Actor, id: Uuid) -> Result<()> {
    let (actor, now) = (actor.clone(), cx.now());
    cx.db()
        .write(move |tx| {
            Box::pin(async move {
                arriving(tx, &actor, id).await?;
                upload_delete(tx, id).await?;
                audit::record(tx, Entry::new(&actor, "upload_abandon", id), now).await
            })
        })
        .await
}

/// The actor's own upload that no import took.
async fn arriving(tx: &mut Tx, actor: &Actor, id: Uuid) -> Result<Upload> {
    let own = upload_by_id(tx, id)
        .await?
        .filter(|u| u.account_id == actor.account_id);
    let unused = own.filter(|upload| upload.operation_id.is_none());
    Ok(unused.ok_or_else(|| Refusal::not_found("upload"))?)
}

/// Whether an upload may still be wanted: recorded, not yet used up, and not forgotten. A file
/// whose upload is not may be removed.
pub async fn is_wanted(cx: &Context, id: Uuid) -> Result<bool> {
    let mut conn = cx.db().read().await?;
    let Some(upload) = upload_by_id(&mut conn, id).await? else {
        return Ok(false);
    };
    let Some(operation_id) = upload.operation_id else {
        return Ok(true);
    };
    let operation = operation_by_id(&mut conn, operation_id).await?;
    Ok(operation.is_some_and(|operation| !operation.state.is_terminal()))
}
