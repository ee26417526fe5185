//! Images: bootable templates that new volumes start as.
//!
//! ```text
//!   snapshot ----------+
//!   instance snapshot -+
//!   backup ------------+--> hidden volume --> sealed layer, under the image's name --> volumes
//!   upload ------------+        (gone)
//! ```
//!
//! In its pool an image is a snapshot of a volume that nobody ever sees. Both have the image's id
//! ([`staged_volume`], [`sealed`]); the volume goes once its content is sealed. So an image shares
//! layers with what it was made of and with what was made of it, outlives the one, and is outlived
//! by the others: a name on a layer is all that an image's end takes away.
//!
//! Of an instance snapshot an image has the root volume: it is what an instance boots from.

use std::collections::BTreeMap;

use crate::id::{
    AccountId, ImageId, InstanceSnapshotId, LayerId, OperationId, PoolId, ProjectId, SnapshotId,
    VolumeId,
};
use crate::item::{Consistency, ItemState, RestorePointId};
use crate::name::Name;
use crate::{ByteCount, Timestamp};

/// The volume that an image's content is made in, until it is sealed.
pub const fn staged_volume(image: ImageId) -> VolumeId {
    VolumeId::from_uuid(image.as_uuid())
}

/// The name of an image's sealed layer in its pool.
pub const fn sealed(image: ImageId) -> SnapshotId {
    SnapshotId::from_uuid(image.as_uuid())
}

/// What an image was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageOrigin {
    /// A snapshot or a backup, which may be gone.
    RestorePoint(RestorePointId),
    /// The root volume of an instance snapshot, which may be gone.
    InstanceSnapshot(InstanceSnapshotId),
    /// A disk that was uploaded.
    Upload,
}

/// A bootable template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// Whose it is.
    pub account_id: AccountId,
    /// The project it is listed in.
    pub project_id: ProjectId,
    /// The pool that holds its layers.
    pub pool_id: PoolId,
    /// Unique among the project's images.
    pub name: Name,
    /// Free text.
    pub description: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// How far it is.
    pub state: ItemState,
    /// What it was made of.
    pub origin: ImageOrigin,
    /// The name of what it was made of at the time; none for an upload.
    pub origin_name: Option<Name>,
    /// What its content promises; known once made.
    pub consistency: Option<Consistency>,
    /// The size of the disk in it; known once made.
    pub size: ByteCount,
    /// Bytes that it alone or with others occupies in the pool.
    pub used: ByteCount,
    /// The sealed layer that holds its content.
    pub layer: Option<LayerId>,
    /// How long its creation took, in milliseconds.
    pub duration_ms: Option<i64>,
    /// A protected image is not deleted.
    pub protected: bool,
    /// Why it failed, for its owner to read.
    pub failure: Option<String>,
    /// The operation that makes or deletes it.
    pub operation_id: Option<OperationId>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Grows with each change; the strong `ETag`.
    pub version: i64,
}
