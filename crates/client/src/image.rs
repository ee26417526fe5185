//! Images.

use reqwest::Method;
use stillpoint_wire::Page;
use stillpoint_wire::image::{Image, ImageCreate};
use stillpoint_wire::item::ItemPatch;

use crate::error::Result;
use crate::request::{Answer, Change, Client, ListQuery};

impl Client {
    /// The project's images, newest first.
    pub async fn image_list(&self, query: &ListQuery) -> Result<Page<Image>> {
        self.list(&["images"], &(), query).await
    }

    /// One image, by id or name.
    pub async fn image_show(&self, image: &str) -> Result<Image> {
        self.get(&["images", image]).await
    }

    /// A new image: of a snapshot, of a backup or of an upload.
    pub async fn image_create(&self, request: &ImageCreate, change: &Change) -> Result<Answer> {
        self.submit(Method::POST, &["images"], &[], Some(request), change)
            .await
    }

    /// Changes name, description, labels or protection.
    pub async fn image_update(
        &self,
        image: &str,
        patch: &ItemPatch,
        change: &Change,
    ) -> Result<Image> {
        self.change(Method::PATCH, &["images", image], Some(patch), change)
            .await
    }

    /// Deletes an image; `confirm` is its name, typed, where the plan asks for that.
    pub async fn image_delete(
        &self,
        image: &str,
        confirm: Option<&str>,
        change: &Change,
    ) -> Result<Answer> {
        self.delete(&["images", image], confirm, change).await
    }
}
