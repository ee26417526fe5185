//! Snapshots.

use reqwest::Method;
use stillpoint_wire::Page;
use stillpoint_wire::item::ItemPatch;
use stillpoint_wire::snapshot::{Snapshot, SnapshotCreate};

use crate::error::Result;
use crate::request::{Answer, Change, Client, ListQuery};

impl Client {
    /// The project's snapshots, or those of one volume, newest first.
    pub async fn snapshot_list(
        &self,
        volume: Option<&str>,
        query: &ListQuery,
    ) -> Result<Page<Snapshot>> {
        self.list(&["snapshots"], &[("volume", volume)], query)
            .await
    }

    /// One snapshot, by id or name.
    pub async fn snapshot_show(&self, snapshot: &str) -> Result<Snapshot> {
        self.get(&["snapshots", snapshot]).await
    }

    /// Takes a snapshot.
    pub async fn snapshot_create(
        &self,
        request: &SnapshotCreate,
        change: &Change,
    ) -> Result<Answer> {
        self.submit(Method::POST, &["snapshots"], &[], Some(request), change)
            .await
    }

    /// Changes name, description, labels or protection.
    pub async fn snapshot_update(
        &self,
        snapshot: &str,
        patch: &ItemPatch,
        change: &Change,
    ) -> Result<Snapshot> {
        self.change(Method::PATCH, &["snapshots", snapshot], Some(patch), change)
            .await
    }

    /// Deletes a snapshot; `confirm` is its name, typed, where the plan asks for that.
    pub async fn snapshot_delete(
        &self,
        snapshot: &str,
        confirm: Option<&str>,
        change: &Change,
    ) -> Result<Answer> {
        self.delete(&["snapshots", snapshot], confirm, change).await
    }
}
