//! Restores.

use reqwest::Method;
use stillpoint_wire::restore::RestoreCreate;

use crate::error::Result;
use crate::request::{Answer, Change, Client};

impl Client {
    /// Restores a snapshot or a backup, to a new volume or in place.
    pub async fn restore_create(&self, request: &RestoreCreate, change: &Change) -> Result<Answer> {
        self.submit(Method::POST, &["restores"], &[], Some(request), change)
            .await
    }
}
