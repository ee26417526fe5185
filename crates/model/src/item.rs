//! What snapshots and backups have in common.
//!
//! ```text
//! pending -> creating -> verifying -> available -> deleting -> (gone)
//!    |          |            |            |            |
//!    +----------+------------+--> failed  +--> lost    +--> failed
//!                                         |
//!                                         +--> degraded --> available, deleting
//! ```
//!
//! Nothing is `available` before its integrity was checked, and only `available` is billed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ByteCount;
use crate::id::{BackupId, SnapshotId};
use crate::words::words;

words! {
    /// How far an item is.
    ItemState {
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
    Consistency {
        /// As after a power cut: the file system replays its journal.
        Crash = "crash",
        /// The guest's file systems were frozen.
        Filesystem = "filesystem",
        /// Nothing had the volume open.
        Stopped = "stopped",
    }
}

words! {
    /// Whether a guest's file systems are frozen while its volumes are captured, the least that is
    /// asked for first.
    FreezePolicy {
        /// They are not.
        Skip = "skip",
        /// They are if the guest can; otherwise the capture is consistent as after a crash.
        Try = "try",
        /// They are, or there is no capture.
        Require = "require",
    }
}

impl Default for FreezePolicy {
    /// What was done before plans had a word in it.
    fn default() -> Self {
        Self::Skip
    }
}

words! {
    /// Who or what asked for an item.
    Trigger {
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
    ItemKind {
        /// On the volume's own storage.
        Snapshot = "snapshot",
        /// An independent copy in a backup target.
        Backup = "backup",
    }
}

/// The five sizes of an item, each measured at capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemSizes {
    /// The volume's size as a guest sees it.
    pub provisioned: ByteCount,
    /// Bytes of the volume that were ever written and not discarded.
    pub used: ByteCount,
    /// Bytes that differ from the previous item of the volume.
    pub changed: ByteCount,
    /// Bytes it occupies where it is kept.
    pub stored: ByteCount,
    /// Bytes that deleting it would free.
    pub freed_if_deleted: ByteCount,
}

/// A snapshot or a backup, where the difference does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
pub enum RestorePointId {
    /// A snapshot.
    Snapshot(SnapshotId),
    /// A backup.
    Backup(BackupId),
}

impl RestorePointId {
    /// Which of the two it is.
    pub const fn kind(self) -> ItemKind {
        match self {
            Self::Snapshot(_) => ItemKind::Snapshot,
            Self::Backup(_) => ItemKind::Backup,
        }
    }
}

impl fmt::Display for RestorePointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot(id) => write!(f, "snapshot {id}"),
            Self::Backup(id) => write!(f, "backup {id}"),
        }
    }
}
