//! The end of a connection whose peer may still be sending.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How long a peer may be silent before its connection is closed for good.
const SILENCE: Duration = Duration::from_secs(2);

/// Says that nothing more will be said, and takes what still arrives, for `limit` at most, so
/// that the peer gets to read the last answer.
pub(super) async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin, limit: Duration) {
    if stream.shutdown().await.is_err() {
        return;
    }
    // Whether the peer closed in time or not, the connection is over.
    let _ = tokio::time::timeout(limit, discard(&mut stream)).await;
}

/// Reads until the peer closes, fails or is silent.
async fn discard(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    // On the heap: every connection carries this future, and few get here.
    let mut piece = vec![0; 16 * 1024];
    while tokio::time::timeout(SILENCE, stream.read(&mut piece)).await?? > 0 {}
    Ok(())
}
