//! Backups: independent copies of a volume in a backup target.

use std::collections::BTreeMap;

use crate::id::{AccountId, BackupId, OperationId, ProjectId, TargetId, VolumeId};
use crate::item::{Consistency, ItemSizes, ItemState, Trigger};
use crate::name::Name;
use crate::{ByteCount, Timestamp};

/// An independent copy of a volume at a point in time, in a backup target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its id.
    pub id: BackupId,
    /// Whose it is.
    pub account_id: AccountId,
    /// The project it is listed in.
    pub project_id: ProjectId,
    /// Where its data is.
    pub target_id: TargetId,
    /// The volume it was made of, which may be gone.
    pub volume_id: VolumeId,
    /// That volume's name at capture.
    pub volume_name: Name,
    /// Given, or generated.
    pub name: Name,
    /// Free text.
    pub description: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// How far it is.
    pub state: ItemState,
    /// What its content promises; known once captured.
    pub consistency: Option<Consistency>,
    /// Who asked for it.
    pub trigger: Trigger,
    /// Its five sizes.
    pub sizes: ItemSizes,
    /// Bytes read from the volume to make it.
    pub bytes_read: ByteCount,
    /// Hex of the hash over the whole volume, from the manifest.
    pub content_hash: Option<String>,
    /// When its data was last proved, and how that ended.
    pub verified_at: Option<Timestamp>,
    /// How long its creation took, in milliseconds.
    pub duration_ms: Option<i64>,
    /// Protected items are neither deleted nor rotated.
    pub protected: bool,
    /// Until when it was promised to stay.
    pub keep_until: Option<Timestamp>,
    /// Why it failed, for its owner to read.
    pub failure: Option<String>,
    /// The operation that makes or deletes it.
    pub operation_id: Option<OperationId>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Grows with each change; the strong `ETag`.
    pub version: i64,
}
