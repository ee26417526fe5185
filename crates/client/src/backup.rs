//! Backups.

use reqwest::Method;
use stillpoint_wire::Page;
use stillpoint_wire::backup::{Backup, BackupCreate, BackupVerify};
use stillpoint_wire::item::ItemPatch;

use crate::error::Result;
use crate::request::{Answer, Change, Client, ListQuery};

impl Client {
    /// The project's backups, or those of one volume, newest first.
    pub async fn backup_list(
        &self,
        volume: Option<&str>,
        query: &ListQuery,
    ) -> Result<Page<Backup>> {
        self.list(&["backups"], &[("volume", volume)], query).await
    }

    /// One backup, by id or name.
    pub async fn backup_show(&self, backup: &str) -> Result<Backup> {
        self.get(&["backups", backup]).await
    }

    /// Makes a backup.
    pub async fn backup_create(&self, request: &BackupCreate, change: &Change) -> Result<Answer> {
        self.submit(Method::POST, &["backups"], &[], Some(request), change)
            .await
    }

    /// Changes name, description, labels or protection.
    pub async fn backup_update(
        &self,
        backup: &str,
        patch: &ItemPatch,
        change: &Change,
    ) -> Result<Backup> {
        self.change(Method::PATCH, &["backups", backup], Some(patch), change)
            .await
    }

    /// Proves a backup's data again.
    pub async fn backup_verify(
        &self,
        backup: &str,
        request: &BackupVerify,
        change: &Change,
    ) -> Result<Answer> {
        self.submit(
            Method::POST,
            &["backups", backup, "verify"],
            &[],
            Some(request),
            change,
        )
        .await
    }

    /// Deletes a backup; `confirm` is its name, typed, where the plan asks for that.
    pub async fn backup_delete(
        &self,
        backup: &str,
        confirm: Option<&str>,
        change: &Change,
    ) -> Result<Answer> {
        self.delete(&["backups", backup], confirm, change).await
    }
}
