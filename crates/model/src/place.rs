//! Places: regions, the nodes in them, the pools that nodes reach, and where backups go.

use std::time::Duration;

use crate::Timestamp;
use crate::id::{NodeId, PoolId, RegionId, TargetId};
use crate::name::Name;
use crate::words::words;

/// Where things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its id.
    pub id: RegionId,
    /// Its name.
    pub name: Name,
}

/// A hypervisor host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Where it is.
    pub region_id: RegionId,
    /// Its name.
    pub name: Name,
    /// When it was last heard of.
    pub last_seen_at: Option<Timestamp>,
    /// Whether it has said that it runs instances.
    pub runs_instances: bool,
}

/// Storage that holds volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its id.
    pub id: PoolId,
    /// The node that reaches it.
    pub node_id: NodeId,
    /// Its name.
    pub name: Name,
    /// What kind of storage it is, such as `qcow2`.
    pub driver: String,
    /// Whether it can capture a volume while an instance that runs has it open.
    pub live_capture: bool,
}

words! {
    /// What a backup target is for.
    TargetRole {
        /// Backups are made into it.
        Backups = "backups",
        /// It gets copies of the backups of other targets, and nothing else.
        Copies = "copies",
    }
}

words! {
    /// How a backup target locks what its backups need, for as long as they are promised to stay.
    ObjectLock {
        /// For everybody who has no right to bypass it.
        Governance = "governance",
        /// For everybody, the owner of the bucket included.
        Compliance = "compliance",
    }
}

/// What an operator says of a backup target: its backups are copied into another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyRule {
    /// The target that gets the copies.
    pub to: TargetId,
    /// Seconds between two looks for what is new.
    pub every_s: u32,
}

impl CopyRule {
    /// The shortest time between two looks, in seconds.
    pub const MIN_EVERY_S: u32 = 60;
    /// The longest.
    pub const MAX_EVERY_S: u32 = 31 * 24 * 3600;

    /// The time between two looks for what is new. A backup that is older and was not copied is
    /// behind.
    pub fn every(&self) -> Duration {
        Duration::from_secs(self.every_s.into())
    }
}

/// A place where backups go, bound to a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its id.
    pub id: TargetId,
    /// The region whose nodes reach it, and whose pools are backed up to it.
    pub region_id: RegionId,
    /// Its name.
    pub name: Name,
    /// What kind of storage it is, such as `local`.
    pub driver: String,
    /// What it is for.
    pub role: TargetRole,
    /// Where its backups are copied to, if they are.
    pub copies: Option<CopyRule>,
    /// How it locks what is to stay; none locks nothing.
    pub object_lock: Option<ObjectLock>,
}
