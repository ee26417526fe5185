//! Uploads of disk images.

use serde::{Deserialize, Serialize};
use stillpoint_model::{ByteCount, task};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::words::words;

words! {
    /// What an uploaded image is declared to be. It is never guessed.
    ImageFormat = task::ImageFormat {
        /// The bytes of the disk, one after the other.
        Raw = "raw",
        /// QEMU's format.
        Qcow2 = "qcow2",
    }
}

/// A disk that was uploaded before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadSource {
    /// The id that `POST /v1/uploads` answered.
    pub id: Uuid,
    /// What it is. It is never guessed.
    pub format: ImageFormat,
}

/// A disk that arrived whole, to be made a volume or an image of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Upload {
    /// What to name in the request for the volume or the image. It is forgotten when it stays unused.
    pub id: Uuid,
    /// How much arrived.
    #[schema(value_type = u64)]
    pub size_bytes: ByteCount,
}
