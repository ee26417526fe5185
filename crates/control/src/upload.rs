//! Uploads of disk images. This crate knows no files: it only says whose an upload is, and which
//! ones may still be wanted.

use stillpoint_model::ByteCount;
use stillpoint_model::account::Actor;
use stillpoint_model::upload::Upload;
use uuid::Uuid;

use crate::Context;
use crate::error::Result;

/// Records an upload before its first byte arrives. Its id names its file.
pub async fn begin(cx: &Context, actor: &Actor) -> Result<Upload> {
    let _ = (cx, actor);
    todo!()
}

/// Records that an upload arrived whole.
pub async fn complete(cx: &Context, actor: &Actor, id: Uuid, size: ByteCount) -> Result<Upload> {
    let _ = (cx, actor, id, size);
    todo!()
}

/// Forgets an upload that did not arrive.
pub async fn abandon(cx: &Context, actor: &Actor, id: Uuid) -> Result<()> {
    let _ = (cx, actor, id);
    todo!()
}

/// Whether an upload may still be wanted: recorded, not yet used up, and not forgotten. A file
/// whose upload is not may be removed.
pub async fn is_wanted(cx: &Context, id: Uuid) -> Result<bool> {
    let _ = (cx, id);
    todo!()
}
