//! What an operator may set about the server's door.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stillpoint_model::{ByteCount, Env};
use tokio::sync::watch;

/// What an operator may set about the server's door.
#[derive(Clone)]
pub struct HttpSettings {
    /// Clock and randomness.
    pub env: Arc<dyn Env>,
    /// Where uploads rest until a node imports them: the node's upload folder.
    pub upload_dir: PathBuf,
    /// The largest upload.
    pub max_upload: ByteCount,
    /// Uploads that may arrive at once.
    pub max_uploads: usize,
    /// Whether cookies are for HTTPS alone. Off only where the portal is reached by plain HTTP.
    pub secure_cookies: bool,
    /// How long an ordinary request may take.
    pub request_timeout: Duration,
    /// Silence on an event stream before a heartbeat.
    pub heartbeat: Duration,
    /// How long one event stream lives; its reader resumes, and proves its credential again.
    pub stream_lifetime: Duration,
    /// Event streams that may be open at once.
    pub max_streams: usize,
    /// Becomes true when the server stops: streams end, so that nothing waits for them.
    pub closing: watch::Receiver<bool>,
}

impl HttpSettings {
    /// The usual settings, with uploads in `upload_dir`.
    pub fn new(env: Arc<dyn Env>, upload_dir: PathBuf, closing: watch::Receiver<bool>) -> Self {
        Self {
            env,
            upload_dir,
            max_upload: ByteCount::from_gib(256),
            max_uploads: 4,
            secure_cookies: false,
            request_timeout: Duration::from_secs(30),
            heartbeat: Duration::from_secs(15),
            stream_lifetime: Duration::from_secs(600),
            max_streams: 1024,
            closing,
        }
    }
}
