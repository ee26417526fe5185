//! Uploading disk images.

use std::io;
use std::path::Path;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, Method};
use stillpoint_wire::header::IDEMPOTENCY_KEY;
use stillpoint_wire::upload::Upload;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use crate::error::{Error, Result};
use crate::request::Client;

/// How much of a file is read at once.
const PIECE_BYTES: usize = 256 * 1024;

impl Client {
    /// Uploads the image in a file. `on_progress` hears of the bytes sent so far and of all.
    pub async fn upload_file(
        &self,
        path: &Path,
        mut on_progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<Upload> {
        let file = File::open(path).await.map_err(Error::UnreadableImage)?;
        let total = file.metadata().await.map_err(Error::UnreadableImage)?.len();
        let mut sent = 0;
        let pieces = pieces(file).inspect(move |piece| {
            if let Ok(piece) = piece {
                sent += u64::try_from(piece.len()).unwrap_or(0);
                on_progress(sent, total);
            }
        });
        self.upload(pieces, Some(total)).await
    }

    /// Uploads an image as a stream of bytes, of `len` bytes when that is known.
    pub async fn upload(
        &self,
        bytes: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        len: Option<u64>,
    ) -> Result<Upload> {
        let mut request = self
            .request(Method::POST, self.url(&["uploads"]))
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(Body::wrap_stream(bytes));
        if let Some(key) = self.key(None) {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        if let Some(len) = len {
            request = request.header(CONTENT_LENGTH, len);
        }
        let response = self.send(request).await?;
        let response = self.success(response).await?;
        self.read(response).await
    }
}

fn pieces(file: File) -> impl Stream<Item = io::Result<Bytes>> {
    futures_util::stream::try_unfold(file, |mut file| async move {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let read = (&mut file)
            .take(u64::try_from(PIECE_BYTES).unwrap_or(u64::MAX))
            .read_to_end(&mut piece)
            .await?;
        Ok((read > 0).then(|| (Bytes::from(piece), file)))
    })
}
