//! Volumes.

use reqwest::Method;
use stillpoint_wire::Page;
use stillpoint_wire::volume::{
    AttachmentReport, Volume, VolumeAttach, VolumeClone, VolumeCreate, VolumePatch, VolumeResize,
};

use crate::error::Result;
use crate::request::{Answer, Change, Client, ListQuery};

impl Client {
    /// The project's volumes, newest first.
    pub async fn volume_list(&self, query: &ListQuery) -> Result<Page<Volume>> {
        self.list(&["volumes"], &(), query).await
    }

    /// One volume, by id or name.
    pub async fn volume_show(&self, volume: &str) -> Result<Volume> {
        self.get(&["volumes", volume]).await
    }

    /// A new volume: empty, started from an image, or of an upload.
    pub async fn volume_create(&self, request: &VolumeCreate, change: &Change) -> Result<Answer> {
        self.submit(Method::POST, &["volumes"], &[], Some(request), change)
            .await
    }

    /// Renames a volume.
    pub async fn volume_update(
        &self,
        volume: &str,
        patch: &VolumePatch,
        change: &Change,
    ) -> Result<Volume> {
        self.change(Method::PATCH, &["volumes", volume], Some(patch), change)
            .await
    }

    /// Makes a volume larger.
    pub async fn volume_resize(
        &self,
        volume: &str,
        request: &VolumeResize,
        change: &Change,
    ) -> Result<Answer> {
        self.submit(
            Method::POST,
            &["volumes", volume, "resize"],
            &[],
            Some(request),
            change,
        )
        .await
    }

    /// A new volume that starts as a copy of this one as it is now.
    pub async fn volume_clone(
        &self,
        volume: &str,
        request: &VolumeClone,
        change: &Change,
    ) -> Result<Answer> {
        self.submit(
            Method::POST,
            &["volumes", volume, "clone"],
            &[],
            Some(request),
            change,
        )
        .await
    }

    /// Deletes a volume; `confirm` is its name, typed, where the plan asks for that.
    pub async fn volume_delete(
        &self,
        volume: &str,
        confirm: Option<&str>,
        change: &Change,
    ) -> Result<Answer> {
        self.delete(&["volumes", volume], confirm, change).await
    }

    /// Attaches a volume to an instance.
    pub async fn volume_attach(
        &self,
        volume: &str,
        request: &VolumeAttach,
        change: &Change,
    ) -> Result<Answer> {
        let path = ["volumes", volume, "attach"];
        self.submit(Method::POST, &path, &[], Some(request), change)
            .await
    }

    /// Detaches a volume from its instance.
    pub async fn volume_detach(&self, volume: &str, change: &Change) -> Result<Answer> {
        let path = ["volumes", volume, "detach"];
        self.submit(Method::POST, &path, &[], None::<&()>, change)
            .await
    }

    /// Reports that an instance which something else runs has the volume. Administrators only.
    pub async fn volume_attachment_report(
        &self,
        volume: &str,
        report: &AttachmentReport,
    ) -> Result<Volume> {
        let path = ["volumes", volume, "attachment"];
        self.change(Method::PUT, &path, Some(report), &Change::default())
            .await
    }

    /// Reports that the instance which something else runs no longer has the volume.
    /// Administrators only.
    pub async fn volume_attachment_end(&self, volume: &str) -> Result<Volume> {
        let path = ["volumes", volume, "attachment"];
        self.change(Method::DELETE, &path, None::<&()>, &Change::default())
            .await
    }

    pub(crate) async fn delete(
        &self,
        segments: &[&str],
        confirm: Option<&str>,
        change: &Change,
    ) -> Result<Answer> {
        let query: Vec<_> = confirm.map(|name| ("confirm", name)).into_iter().collect();
        self.submit(Method::DELETE, segments, &query, None::<&()>, change)
            .await
    }
}
