//! Uploads of disk images. This crate knows no files: it only says whose an upload is, and which
//! ones may still be wanted.

use std::time::Duration;

use stillpoint_model::ByteCount;
use stillpoint_model::account::Actor;
use stillpoint_model::id::TaskId;
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::upload::Upload;
use stillpoint_store::Tx;
use stillpoint_store::operation::operation_by_id;
use stillpoint_store::upload::{upload_by_id, upload_delete, upload_insert, upload_update_size};
use uuid::Uuid;

use crate::Context;
use crate::audit::{self, Entry};
use crate::error::{Error, Result};
use crate::once::Once;

/// When to ask again for an upload that is still arriving.
const STILL_ARRIVING: Duration = Duration::from_secs(5);

/// How an upload begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is recorded, and its bytes may arrive. Its id names its file.
    New(Upload),
    /// The same request brought it before, of this size.
    Before(Upload, ByteCount),
}

/// Records an upload before its first byte arrives. `key` makes a repeated request the same
/// request, as far as that can be said before the bytes are known: the caller compares the sizes.
pub async fn begin(cx: &Context, actor: &Actor, key: Option<&str>) -> Result<Begun> {
    let once = Once::new(actor, key, "upload_create", &())?;
    let (handle, actor, now) = (cx.clone(), actor.clone(), cx.now());
    cx.db()
        .write(move |tx| {
            Box::pin(async move {
                if let Some(begun) = again(tx, &once).await? {
                    return Ok(begun);
                }
                let upload = Upload {
                    id: TaskId::generate(handle.env()).as_uuid(),
                    account_id: actor.account_id,
                    size: None,
                    operation_id: None,
                    created_at: now,
                };
                upload_insert(tx, &upload).await?;
                once.record(tx, upload.id, now).await?;
                audit::record(tx, Entry::new(&actor, "upload_create", upload.id), now).await?;
                Ok::<_, Error>(Begun::New(upload))
            })
        })
        .await
}

/// The upload that the same request brought before. One that broke off or is forgotten may be
/// sent again under its key.
async fn again(tx: &mut Tx, once: &Once) -> Result<Option<Begun>> {
    let Some(id) = once.before(tx).await? else {
        return Ok(None);
    };
    let Some(upload) = upload_by_id(tx, id).await? else {
        once.forget(tx).await?;
        return Ok(None);
    };
    let Some(size) = upload.size else {
        let text = "An upload with this Idempotency-Key is still arriving.";
        let refusal = Refusal::new(ProblemCode::TooManyRequests, text);
        return Err(refusal.after(STILL_ARRIVING).into());
    };
    Ok(Some(Begun::Before(upload, size)))
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
