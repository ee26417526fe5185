//! What snapshots and backups have in common.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use stillpoint_model::operation::Operation;
use stillpoint_model::{ByteCount, item, plan};
use utoipa::ToSchema;

use crate::permission::Permission;
use crate::words::words;

words! {
    /// How far an item is.
    ItemState = item::ItemState {
        /// Accepted, not begun.
        Pending = "pending",
        /// Its data is being captured.
        Creating = "creating",
        /// Captured; its integrity is being checked.
        Verifying = "verifying",
        /// Checked and usable.
        Available = "available",
        /// On its way out.
        Deleting = "deleting",
        /// It could not be made; the reason is recorded.
        Failed = "failed",
        /// Its storage is gone.
        Lost = "lost",
        /// A verification found its data damaged. One that finds it sound makes it available again.
        Degraded = "degraded",
    }
}

words! {
    /// What an item's content promises.
    Consistency = item::Consistency {
        /// As after a power cut: the file system replays its journal.
        Crash = "crash",
        /// The guest's file systems were frozen.
        Filesystem = "filesystem",
        /// Nothing had the volume open.
        Stopped = "stopped",
    }
}

words! {
    /// Who or what asked for an item.
    Trigger = item::Trigger {
        /// A person or a program, through the API.
        Manual = "manual",
        /// A schedule.
        Scheduled = "scheduled",
        /// A roll back, so that it can be undone.
        Safety = "safety",
    }
}

words! {
    /// The two kinds of restore point.
    ItemKind = item::ItemKind {
        /// On the volume's own storage.
        Snapshot = "snapshot",
        /// An independent copy in a backup target.
        Backup = "backup",
    }
}

/// The five sizes of an item, each measured at capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ItemSizes {
    /// The volume's size as a guest sees it.
    #[schema(value_type = u64)]
    pub provisioned_bytes: ByteCount,
    /// Bytes of the volume that were ever written and not discarded.
    #[schema(value_type = u64)]
    pub used_bytes: ByteCount,
    /// Bytes that differ from the previous item of the volume.
    #[schema(value_type = u64)]
    pub changed_bytes: ByteCount,
    /// Bytes it occupies where it is kept.
    #[schema(value_type = u64)]
    pub stored_bytes: ByteCount,
    /// Bytes that deleting it would free.
    #[schema(value_type = u64)]
    pub freed_if_deleted_bytes: ByteCount,
}

impl From<item::ItemSizes> for ItemSizes {
    fn from(sizes: item::ItemSizes) -> Self {
        let item::ItemSizes {
            provisioned,
            used,
            changed,
            stored,
            freed_if_deleted,
        } = sizes;
        Self {
            provisioned_bytes: provisioned,
            used_bytes: used,
            changed_bytes: changed,
            stored_bytes: stored,
            freed_if_deleted_bytes: freed_if_deleted,
        }
    }
}

/// What the server knows of a snapshot or a backup beside the item itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemContext {
    /// Whether the volume it was made of still exists.
    pub source_exists: bool,
    /// The operation that makes, reads or deletes it now.
    pub active_operation: Option<Operation>,
    /// What a person does before something is lost.
    pub confirm: plan::Confirmations,
    /// What may be done with it now.
    pub actions: Vec<Permission>,
}

/// What people edit on a snapshot or a backup. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ItemPatch {
    /// A new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A new description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// All labels anew.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "labels"
    )]
    pub labels: Option<BTreeMap<String, String>>,
    /// Protected items are neither deleted nor rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected: Option<bool>,
}

/// Reads labels, and refuses a key that stands twice: nobody could say which value was meant.
pub(crate) fn labels<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    struct Labels;

    impl<'de> Visitor<'de> for Labels {
        type Value = Option<BTreeMap<String, String>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object whose values are strings")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut labels = BTreeMap::new();
            while let Some((key, value)) = map.next_entry::<String, String>()? {
                if labels.insert(key, value).is_some() {
                    return Err(A::Error::custom("a label is given twice"));
                }
            }
            Ok(Some(labels))
        }
    }

    deserializer.deserialize_any(Labels)
}
