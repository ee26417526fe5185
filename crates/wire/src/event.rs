//! Events of the live stream.

use serde::{Deserialize, Serialize};
use stillpoint_model::id::{OperationId, VolumeId};
use stillpoint_model::{Timestamp, event};
use utoipa::ToSchema;

use crate::words::words;

words! {
    /// What an event is about.
    EventKind = event::EventKind {
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

/// One change. Fetch the resource to learn its new state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its place in the order of all events: the `id` of the stream, and what `Last-Event-ID`
    /// resumes after.
    pub sequence: i64,
    /// What changed: the `event` of the stream.
    pub kind: EventKind,
    /// The id of what changed.
    pub resource_id: String,
    /// The volume it belongs to.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub volume_id: Option<VolumeId>,
    /// The operation that changed it.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub operation_id: Option<OperationId>,
    /// When.
    #[schema(value_type = String, format = "date-time")]
    pub at: Timestamp,
}

impl From<event::Event> for Event {
    fn from(event: event::Event) -> Self {
        let event::Event {
            sequence,
            account_id: _,
            kind,
            resource_id,
            volume_id,
            operation_id,
            at,
        } = event;
        Self {
            sequence,
            kind: kind.into(),
            resource_id,
            volume_id,
            operation_id,
            at,
        }
    }
}
