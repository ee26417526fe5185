//! Instance snapshots, and what is made of them.

use reqwest::Method;
use stillpoint_wire::Page;
use stillpoint_wire::instance_snapshot::{
    InstanceRebuild, InstanceRestore, InstanceSnapshot, InstanceSnapshotCreate,
};
use stillpoint_wire::item::ItemPatch;

use crate::error::Result;
use crate::request::{Answer, Change, Client, ListQuery};

const ALL: &str = "instance-snapshots";

impl Client {
    /// The project's instance snapshots, or those of one instance, newest first.
    pub async fn instance_snapshot_list(
        &self,
        instance: Option<&str>,
        query: &ListQuery,
    ) -> Result<Page<InstanceSnapshot>> {
        self.list(&[ALL], &[("instance", instance)], query).await
    }

    /// One instance snapshot, by id or name.
    pub async fn instance_snapshot_show(&self, item: &str) -> Result<InstanceSnapshot> {
        self.get(&[ALL, item]).await
    }

    /// Takes a snapshot of an instance.
    pub async fn instance_snapshot_create(
        &self,
        request: &InstanceSnapshotCreate,
        change: &Change,
    ) -> Result<Answer> {
        self.submit(Method::POST, &[ALL], &[], Some(request), change)
            .await
    }

    /// Changes name, description, labels or protection.
    pub async fn instance_snapshot_update(
        &self,
        item: &str,
        patch: &ItemPatch,
        change: &Change,
    ) -> Result<InstanceSnapshot> {
        self.change(Method::PATCH, &[ALL, item], Some(patch), change)
            .await
    }

    /// Deletes an instance snapshot with its parts; `confirm` is its name, typed, where the plan
    /// asks for that.
    pub async fn instance_snapshot_delete(
        &self,
        item: &str,
        confirm: Option<&str>,
        change: &Change,
    ) -> Result<Answer> {
        self.delete(&[ALL, item], confirm, change).await
    }

    /// Makes a new instance of an instance snapshot.
    pub async fn instance_snapshot_restore(
        &self,
        item: &str,
        request: &InstanceRestore,
        change: &Change,
    ) -> Result<Answer> {
        let path = [ALL, item, "restore"];
        self.submit(Method::POST, &path, &[], Some(request), change)
            .await
    }

    /// Puts an instance back to a snapshot of it.
    pub async fn instance_rebuild(
        &self,
        instance: &str,
        request: &InstanceRebuild,
        change: &Change,
    ) -> Result<Answer> {
        let path = ["instances", instance, "rebuild"];
        self.submit(Method::POST, &path, &[], Some(request), change)
            .await
    }
}
