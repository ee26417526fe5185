//! What tasks find out.

use serde::{Deserialize, Serialize};

use crate::ByteCount;
use crate::care::{Collection, CopyPass, Mending, Verification};
use crate::id::{LayerId, VolumeId};
use crate::instance::Power;
use crate::item::Consistency;

/// What a finished task found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum TaskOutcome {
    /// Nothing but that it is done.
    Done,
    /// A volume has this tip and size now.
    Volume {
        /// The layer that takes its writes.
        tip: LayerId,
        /// Its size.
        size: ByteCount,
        /// Bytes allocated that it can reach.
        used: ByteCount,
    },
    /// What a volume is like now.
    Inspected {
        /// The layer that takes its writes.
        tip: LayerId,
        /// Its size.
        size: ByteCount,
        /// Bytes allocated that it can reach.
        used: ByteCount,
        /// Whether the snapshot that was asked about exists.
        witness: bool,
    },
    /// A layer was sealed.
    Sealed {
        /// The sealed layer.
        layer: LayerId,
        /// The volume's new tip.
        tip: LayerId,
        /// What its content promises.
        consistency: Consistency,
        /// The volume's size.
        provisioned: ByteCount,
        /// Bytes allocated that it can reach.
        used: ByteCount,
        /// Bytes allocated since the snapshot before.
        changed: ByteCount,
    },
    /// A backup is in the vault.
    Stored {
        /// The volume's size.
        provisioned: ByteCount,
        /// Bytes that are not zero.
        used: ByteCount,
        /// Bytes that differ from the parent.
        changed: ByteCount,
        /// Bytes that it added to the vault.
        stored: ByteCount,
        /// Bytes read from the pool.
        bytes_read: ByteCount,
        /// Hex of the hash over the whole volume.
        content_hash: String,
    },
    /// What a machine does now, and what it has open.
    Machine {
        /// What it does.
        power: Power,
        /// The volumes that it has open.
        open: Vec<VolumeId>,
    },
    /// The memory of a machine is whole.
    Memory {
        /// How long it is.
        size: ByteCount,
    },
    /// What several tasks found out, in their order.
    All {
        /// One for each.
        outcomes: Vec<TaskOutcome>,
    },
    /// Layers were joined or files removed.
    Tidied {
        /// How many pairs of layers were joined.
        merged: u32,
        /// How many files of runs that are over were removed.
        removed: u32,
        /// Whether something is left to do, because other work came first.
        unfinished: bool,
    },
    /// A collection went as far as it could.
    Collected {
        /// What it came to.
        collection: Collection,
    },
    /// Backups were looked at.
    Verified {
        /// What was found.
        verification: Verification,
    },
    /// Small objects were looked at.
    Mended {
        /// What was found and done.
        mending: Mending,
    },
    /// Backups were copied.
    Copied {
        /// Which, and which not.
        pass: CopyPass,
    },
}
