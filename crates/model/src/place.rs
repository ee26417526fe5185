//! Places: regions, the nodes in them, the pools that nodes reach, and where backups go.

use crate::Timestamp;
use crate::id::{NodeId, PoolId, RegionId, TargetId};
use crate::name::Name;

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

/// A place where backups go, bound to a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its id.
    pub id: TargetId,
    /// The region whose pools are backed up to it.
    pub region_id: RegionId,
    /// Its name.
    pub name: Name,
    /// What kind of storage it is, such as `local`.
    pub driver: String,
}
