//! Uploads: disk images that arrived, to be made volumes of.

use uuid::Uuid;

use crate::id::{AccountId, OperationId};
use crate::{ByteCount, Timestamp};

/// A disk image in the upload folder, which is named by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Its id, and its name in the upload folder.
    pub id: Uuid,
    /// Whose it is.
    pub account_id: AccountId,
    /// How much arrived; none while it arrives.
    pub size: Option<ByteCount>,
    /// The import that took it.
    pub operation_id: Option<OperationId>,
    /// When it began to arrive.
    pub created_at: Timestamp,
}
