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

/// An image that arrived whole, to be made a volume of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Upload {
    /// What to name in the request for the volume. It is forgotten when it stays unused.
    pub id: Uuid,
    /// How much arrived.
    #[schema(value_type = u64)]
    pub size_bytes: ByteCount,
}
