//! What every handler can reach.

use std::sync::Arc;

use stillpoint_control::Context;
use stillpoint_model::Env;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{ApiError, Result};
use crate::settings::HttpSettings;

/// What every handler can reach. Cloning it is cheap.
#[derive(Clone)]
pub(crate) struct App {
    inner: Arc<Inner>,
}

struct Inner {
    cx: Context,
    settings: HttpSettings,
    uploads: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl App {
    pub(crate) fn new(cx: Context, settings: HttpSettings) -> Self {
        let uploads = Arc::new(Semaphore::new(settings.max_uploads));
        let streams = Arc::new(Semaphore::new(settings.max_streams));
        Self {
            inner: Arc::new(Inner {
                cx,
                settings,
                uploads,
                streams,
            }),
        }
    }

    /// The use cases.
    pub(crate) fn cx(&self) -> &Context {
        &self.inner.cx
    }

    /// Clock and randomness.
    pub(crate) fn env(&self) -> &dyn Env {
        &*self.inner.settings.env
    }

    /// What the operator set.
    pub(crate) fn settings(&self) -> &HttpSettings {
        &self.inner.settings
    }

    /// The right to upload, for as long as it is kept.
    pub(crate) fn upload_slot(&self) -> Result<OwnedSemaphorePermit> {
        let text = "As many uploads as this server takes at once are arriving.";
        slot(&self.inner.uploads, text)
    }

    /// The right to an event stream, for as long as it is kept.
    pub(crate) fn stream_slot(&self) -> Result<OwnedSemaphorePermit> {
        let text = "As many event streams as this server serves at once are open.";
        slot(&self.inner.streams, text)
    }
}

fn slot(slots: &Arc<Semaphore>, text: &str) -> Result<OwnedSemaphorePermit> {
    Arc::clone(slots)
        .try_acquire_owned()
        .map_err(|_| ApiError::too_many(text))
}
