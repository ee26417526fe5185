//! How backups are copied into a second target, and what operators say about it.

use serde::{Deserialize, Serialize};
use stillpoint_model::id::BackupId;
use stillpoint_model::{ByteCount, Timestamp, care, operation};
use utoipa::ToSchema;

use crate::operation::Progress;

/// Where the backups of a target are copied to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CopyRule {
    /// The name of the target that gets the copies.
    pub to: String,
    /// Seconds between two looks for what is new.
    pub every_s: u32,
}

/// An administrator's word that the backups of a target are copied into another one, or no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CopiesSet {
    /// The target that gets the copies, by name or id; null ends the copying.
    pub to: Option<String>,
    /// Seconds between two looks for what is new, a minute to 31 days. A day when it is not said.
    #[serde(default = "daily")]
    pub every_s: u32,
}

const fn daily() -> u32 {
    24 * 3600
}

/// How the copies of a vault are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Copies {
    /// The target of the backups.
    pub from: String,
    /// The target of the copies.
    pub to: String,
    /// Whether they still follow the backups.
    pub active: bool,
    /// How far the copying is that goes on now.
    pub progress: Option<Progress>,
    /// Backups that have a copy.
    pub copied: u32,
    /// Backups that have none yet.
    pub waiting: u32,
    /// Those among them that are older than the time between two looks.
    pub behind: u32,
    /// Copies of backups that were deleted: they stay for a while.
    pub of_deleted: u32,
    /// When the first of those are deleted.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub next_deletion: Option<Timestamp>,
    /// When what is new is looked for next.
    #[schema(value_type = String, format = "date-time")]
    pub due_at: Timestamp,
    /// When everything was looked at last.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub passed_at: Option<Timestamp>,
    /// What the last pass that had something to do came to.
    pub last: Option<CopyPass>,
    /// Why the last pass failed or was cut off.
    pub failure: Option<String>,
}

impl Copies {
    /// From the model, and what the server knows beside it.
    pub fn new(
        filling: care::CopyCare,
        (from, to): (String, String),
        active: bool,
        counts: care::CopyCounts,
        next_deletion: Option<Timestamp>,
        progress: Option<operation::Progress>,
    ) -> Self {
        let care::CopyCare {
            source_id: _,
            due_at,
            last,
            passed_at,
            failure,
        } = filling;
        let care::CopyCounts {
            copied,
            waiting,
            behind,
            of_deleted,
            deleted_since: _,
        } = counts;
        Self {
            from,
            to,
            active,
            progress: progress.map(Into::into),
            copied,
            waiting,
            behind,
            of_deleted,
            next_deletion,
            due_at,
            passed_at,
            last: last.map(Into::into),
            failure,
        }
    }
}

/// What a pass over the backups of a vault copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CopyPass {
    /// Backups whose copies are there, read back.
    #[schema(value_type = Vec<String>)]
    pub copied: Vec<BackupId>,
    /// Bytes that this added to the target of the copies.
    #[schema(value_type = u64)]
    pub stored: ByteCount,
    /// Backups that could not be copied.
    pub left: Vec<NotCopied>,
    /// Backups whose copies were deleted.
    #[schema(value_type = Vec<String>)]
    pub deleted: Vec<BackupId>,
}

impl From<care::CopyPass> for CopyPass {
    fn from(pass: care::CopyPass) -> Self {
        let care::CopyPass {
            copied,
            stored,
            left,
            deleted,
            cut_off: _,
        } = pass;
        Self {
            copied,
            stored,
            left: left.into_iter().map(Into::into).collect(),
            deleted,
        }
    }
}

/// A backup that could not be copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotCopied {
    /// The backup.
    #[schema(value_type = String, format = "uuid")]
    pub backup_id: BackupId,
    /// Why.
    pub why: String,
}

impl From<care::NotCopied> for NotCopied {
    fn from(left: care::NotCopied) -> Self {
        let care::NotCopied { backup_id, why } = left;
        Self { backup_id, why }
    }
}
