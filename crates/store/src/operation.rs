//! Operations: their rows, the run that the engine moves, and who is in whose way.
//!
//! Whatever the code above does, the database itself refuses a second operation that locks a
//! volume, and a second task under way for an operation.

use sqlx::Row;
use sqlx::any::AnyRow;
use stillpoint_model::id::{AccountId, BackupId, OperationId, SnapshotId, VolumeId};
use stillpoint_model::operation::{Operation, OperationKind, Progress};
use stillpoint_model::saga::{Order, Run, StepRecord};
use stillpoint_model::{ByteCount, Timestamp};
use uuid::Uuid;

use crate::db::{Conn, Tx};
use crate::error::{Error, Result};
use crate::page::PageKey;
use crate::row::*;

/// Which operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperationFilter {
    /// Only those about this volume.
    pub volume: Option<VolumeId>,
    /// Only those under way, or only those that are over.
    pub in_flight: Option<bool>,
}
