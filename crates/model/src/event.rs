//! Events: what changed, in the order it changed, for the live stream.

use crate::Timestamp;
use crate::id::{AccountId, OperationId, VolumeId};
use crate::words::words;

words! {
    /// What an event is about.
    EventKind {
        /// A volume appeared, changed or went.
        Volume = "volume",
        /// A snapshot appeared, changed or went.
        Snapshot = "snapshot",
        /// A backup appeared, changed or went.
        Backup = "backup",
        /// An image appeared, changed or went.
        Image = "image",
        /// An instance appeared, changed or went.
        Instance = "instance",
        /// An operation moved on.
        Operation = "operation",
        /// An instance snapshot appeared, changed or went.
        InstanceSnapshot = "instance_snapshot",
    }
}

/// One change. The reader fetches the resource to learn its new state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place in the order of all events; what `Last-Event-ID` carries.
    pub sequence: i64,
    /// Whose it is.
    pub account_id: AccountId,
    /// What changed.
    pub kind: EventKind,
    /// The id of what changed.
    pub resource_id: String,
    /// The volume it belongs to.
    pub volume_id: Option<VolumeId>,
    /// The operation that changed it.
    pub operation_id: Option<OperationId>,
    /// When.
    pub at: Timestamp,
}
