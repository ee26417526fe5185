//! Uploads of disk images.
//!
//! The body goes to the node's upload folder as it arrives, under a name that the server made,
//! never through memory. `{id}.part` becomes `{id}` once it is whole and synchronized, and only
//! then is the upload's id given out. Whatever ends early leaves nothing: the part file goes at
//! once, or, after a crash, by [`sweep`].

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use futures_util::{Stream, StreamExt};
use stillpoint_control::Context;
use stillpoint_control::upload::{self, Begun};
use stillpoint_model::ByteCount;
use stillpoint_model::account::Actor;
use stillpoint_model::error::with_causes;
use stillpoint_model::refusal::{ProblemCode, Refusal, WayOut};
use stillpoint_wire::upload::Upload;
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::credential::Caller;
use crate::error::{ApiError, Result};
use crate::input::{IdempotencyKey, NoQuery, QueryOf};
use crate::state::App;

/// How long the sender may be silent.
const SILENCE: Duration = Duration::from_secs(60);

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(upload_create))
}

/// Upload a disk, to make a volume of it with `POST /v1/volumes`, or an image with
/// `POST /v1/images`. It is forgotten when it stays unused.
#[utoipa::path(post, path = "/v1/uploads", tag = "volumes",
    request_body(content_type = "application/octet-stream", description = "The image's bytes"),
    responses((status = 201, description = "It arrived whole", body = Upload)))]
async fn upload_create(
    State(app): State<App>,
    Caller(actor): Caller,
    _: QueryOf<NoQuery>,
    key: IdempotencyKey,
    headers: HeaderMap,
    body: Body,
) -> Result<impl IntoResponse> {
    check_headers(&app, &headers)?;
    let upload = receive_upload(&app, &actor, key.get(), body.into_data_stream()).await?;
    Ok((StatusCode::CREATED, Json(upload)))
}

/// Takes in an image, piece by piece, for whoever sends it.
pub(crate) async fn receive_upload<E>(
    app: &App,
    actor: &Actor,
    key: Option<&str>,
    mut pieces: impl Stream<Item = std::result::Result<Bytes, E>> + Unpin,
) -> Result<Upload> {
    let _slot = app.upload_slot()?;
    // Nothing is recorded before something arrived.
    let Some(first) = next_piece(&mut pieces).await? else {
        return Err(ApiError::invalid("", "The upload is empty."));
    };
    let limit = app.settings().max_upload;
    let upload = match upload::begin(app.cx(), actor, key).await? {
        Begun::New(upload) => upload,
        Begun::Before(upload, size) => return compare(upload.id, size, first, pieces).await,
    };
    let arriving = Arriving::new(app, upload.id);
    match arriving.receive(first, pieces, limit).await {
        Ok(size) => {
            upload::complete(app.cx(), actor, upload.id, size).await?;
            Ok(Upload {
                id: upload.id,
                size_bytes: size,
            })
        }
        Err(error) => {
            upload::abandon(app.cx(), actor, upload.id).await?;
            Err(error)
        }
    }
}

/// Answers a repeated upload by the one before. Its bytes are read, since a client may listen only
/// once it sent them all, and counted, since another image is another request.
async fn compare<E>(
    id: Uuid,
    size_bytes: ByteCount,
    first: Bytes,
    mut pieces: impl Stream<Item = std::result::Result<Bytes, E>> + Unpin,
) -> Result<Upload> {
    let mut arrived = len(&first);
    while arrived <= size_bytes {
        match next_piece(&mut pieces).await? {
            Some(piece) => arrived += len(&piece),
            None if arrived == size_bytes => return Ok(Upload { id, size_bytes }),
            None => break,
        }
    }
    let text = "This Idempotency-Key was used for an image of another size. Use a new one.";
    Err(Refusal::new(ProblemCode::IdempotencyMismatch, text).into())
}

fn len(piece: &Bytes) -> ByteCount {
    ByteCount::new(u64::try_from(piece.len()).unwrap_or(u64::MAX))
}

/// The next bytes that arrive; none when all did.
async fn next_piece<E>(
    pieces: &mut (impl Stream<Item = std::result::Result<Bytes, E>> + Unpin),
) -> Result<Option<Bytes>> {
    loop {
        let Ok(piece) = tokio::time::timeout(SILENCE, pieces.next()).await else {
            return Err(ApiError::invalid("", "The upload stopped arriving."));
        };
        match piece {
            None => return Ok(None),
            Some(Ok(piece)) if piece.is_empty() => {}
            Some(Ok(piece)) => return Ok(Some(piece)),
            Some(Err(_)) => {
                let text = "The upload ended before it was whole.";
                return Err(ApiError::invalid("", text));
            }
        }
    }
}

/// What can be refused before a byte arrives.
fn check_headers(app: &App, headers: &HeaderMap) -> Result<()> {
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    if content_type != Some(b"application/octet-stream") {
        let text = "Send the image as `Content-Type: application/octet-stream`.";
        return Err(Refusal::new(ProblemCode::UnsupportedMediaType, text).into());
    }
    let announced: Option<u64> = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    match announced {
        Some(bytes) if bytes > app.settings().max_upload.get() => {
            Err(too_large(app.settings().max_upload))
        }
        _ => Ok(()),
    }
}

fn too_large(limit: ByteCount) -> ApiError {
    let text = format!("An upload has at most {limit}.");
    Refusal::new(ProblemCode::TooLarge, text).into()
}

/// An upload on its way in. Dropped before it is whole, it removes what arrived.
struct Arriving {
    part: PathBuf,
    whole: PathBuf,
    folder: PathBuf,
    is_whole: bool,
}

impl Arriving {
    fn new(app: &App, id: Uuid) -> Self {
        let folder = app.settings().upload_dir.clone();
        Self {
            part: folder.join(format!("{id}.part")),
            whole: folder.join(id.to_string()),
            folder,
            is_whole: false,
        }
    }

    async fn receive<E>(
        mut self,
        first: Bytes,
        mut pieces: impl Stream<Item = std::result::Result<Bytes, E>> + Unpin,
        limit: ByteCount,
    ) -> Result<ByteCount> {
        let mut file = File::create_new(&self.part)
            .await
            .map_err(|e| storage_failed(&e))?;
        let mut size = ByteCount::ZERO;
        let mut arrived = Some(first);
        while let Some(piece) = arrived {
            size += len(&piece);
            if size > limit {
                return Err(too_large(limit));
            }
            file.write_all(&piece)
                .await
                .map_err(|e| storage_failed(&e))?;
            arrived = next_piece(&mut pieces).await?;
        }
        self.settle(file).await.map_err(|e| storage_failed(&e))?;
        Ok(size)
    }

    /// Makes it last, then gives it its name.
    async fn settle(&mut self, mut file: File) -> io::Result<()> {
        file.flush().await?;
        file.sync_all().await?;
        fs::rename(&self.part, &self.whole).await?;
        File::open(&self.folder).await?.sync_all().await?;
        self.is_whole = true;
        Ok(())
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if !self.is_whole
            && let Err(error) = std::fs::remove_file(&self.part)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a part of an upload could not be removed");
        }
    }
}

fn storage_failed(error: &io::Error) -> ApiError {
    if error.kind() == io::ErrorKind::StorageFull {
        let text = "There is no room for this upload.";
        return Refusal::new(ProblemCode::PoolFull, text)
            .or(WayOut::AskOperator)
            .into();
    }
    tracing::error!(%error, "an upload could not be stored");
    ApiError::internal()
}

/// Removes what an earlier server was still receiving when it ended. To be called before this
/// one receives anything.
pub async fn remove_cut_off(folder: &Path) -> io::Result<u32> {
    let mut removed = 0;
    let mut entries = fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        let file_name = entry.file_name();
        let name = file_name.to_string_lossy();
        let part = name.strip_suffix(".part");
        if part.is_some_and(|id| Uuid::try_parse(id).is_ok()) {
            fs::remove_file(entry.path()).await?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Removes the uploads that nobody may want any more, and what crashes left. No input but the
/// folder, safe to repeat.
pub async fn sweep(cx: &Context, folder: &Path) -> io::Result<u32> {
    let mut removed = 0;
    let mut entries = fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        let file_name = entry.file_name();
        let name = file_name.to_string_lossy();
        // Only names that this server makes: nothing else in the folder is ours to remove.
        let Ok(id) = Uuid::try_parse(name.strip_suffix(".part").unwrap_or(&name)) else {
            continue;
        };
        match upload::is_wanted(cx, id).await {
            Ok(true) => {}
            Ok(false) => {
                fs::remove_file(entry.path()).await?;
                removed += 1;
            }
            Err(error) => {
                tracing::warn!(error = with_causes(&error), "the sweep of uploads stops");
                break;
            }
        }
    }
    Ok(removed)
}
