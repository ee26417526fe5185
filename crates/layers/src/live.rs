//! The port to whoever runs the guests.
//!
//! While a guest runs, its machine goes through the layers of its volumes on its own. A pool that
//! has such a host [connected](crate::LayerPool::connect) asks it to switch to new tips, to merge
//! layers, and to grow a tip; the pool says what, and records what came of it.
//!
//! **Facts.** A host is asked what it has open and is believed in that. What it says it *did* may
//! be lost by a crash on either side, so it is looked up afterwards: in the chain that it has
//! open, and, where nobody has it open any more, in the files.
//!
//! **Names.** Nodes have the names that [`Pool::block_graph`](crate::Pool::block_graph) gave them.
//! A node is named after the volume and the file, which keeps its name while anybody has it open.
//!
//! **QEMU.** What works, as the tests do it with `qemu-storage-daemon`: a switch is `blockdev-add` of
//! each overlay and one `transaction` of `blockdev-snapshot`. For a join the layer that is written
//! to is made writable by `blockdev-reopen` (`read-only`, with `file` and `backing` by node name),
//! unless it is the tip; then `block-stream` of the child with `base-node` below, or `block-commit`
//! on the tip with `top-node` child and `base-node` parent; `backing-file` as given, `auto-dismiss`
//! off; then `blockdev-reopen`, read-only again unless it is the tip, which flushes: until then its
//! tables may be in QEMU's cache alone; and `blockdev-del` of the layer that was left out, if it was
//! added by name.
//!
//! Every method blocks. None is called with a lock of the pool held but
//! [`open_chain`](LiveHost::open_chain) and [`can_stream`](LiveHost::can_stream), also when merges are
//! looked for, and
//! [`stop_joins`](LiveHost::stop_joins), when the pool finds out what a crash left.

use serde_json::Value;
use stillpoint_model::ByteCount;
use stillpoint_model::id::VolumeId;
use stillpoint_model::item::{Consistency, FreezePolicy};
use stillpoint_model::layer_tree::Direction;

/// A volume that goes on in an overlay.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveSwitch {
    /// The volume.
    pub volume: VolumeId,
    /// The node that takes its writes by now.
    pub tip: String,
    /// The node of the overlay.
    pub overlay: String,
    /// The overlay's graph, for `-blockdev`, without anything below it.
    pub graph: Value,
}

/// Two neighbours of a chain that become one.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveJoin {
    /// The volume that has them open.
    pub volume: VolumeId,
    /// The name of the job, the same whenever these two are merged.
    pub job: String,
    /// The node on top of the chain.
    pub tip: String,
    /// The upper one.
    pub child: String,
    /// The lower one.
    pub parent: String,
    /// What stands below the lower one.
    pub below: Option<String>,
    /// Down into the lower one, or up into the upper one. Never down from the tip.
    pub direction: Direction,
    /// What the file that stands on the result then says it stands on; none for nothing.
    pub backing_name: Option<String>,
}

/// How a join ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinEnd {
    /// The data is in one of the two and flushed, and the other is closed.
    Done,
    /// It was asked to stop and left the chain as it was.
    Stopped,
}

/// What a host could not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nobody can say now who has the volume open, or what came of it.
    #[error("it cannot be reached")]
    Unreachable,
    /// It will not, for this reason; nothing was changed.
    #[error("it refuses: {0}")]
    Refused(String),
    /// The guest could not be frozen, which was required; nothing was changed.
    #[error("its guest cannot be frozen: {0}")]
    NotFrozen(String),
    /// It failed, and may have done some of it.
    #[error("it failed: {0}")]
    Failed(String),
}

/// Hears how many bytes of how many are done; answers whether to go on.
pub type JoinWatch<'a> = &'a dyn Fn(ByteCount, ByteCount) -> bool;

/// Puts the overlays on the tips: see [`LiveHost::switch`].
pub type SwitchAll<'a> = &'a dyn Fn(&[LiveSwitch]) -> Result<Consistency, HostError>;

/// Whoever runs the guests that have volumes open.
pub trait LiveHost: Send + Sync {
    /// The nodes of the chain that has this volume open, the tip first; none when nobody has.
    fn open_chain(&self, volume: VolumeId) -> Result<Option<Vec<String>>, HostError>;

    /// Puts the overlays on the tips, all at one instant or none; what the content of that instant
    /// promises. Everything written before is flushed. On failure the overlays are closed again.
    /// A guest that was required to be frozen and did not stay so until the switch is no failure: the
    /// overlays are on the tips, and what was reached is `crash`.
    fn switch(
        &self,
        switches: &[LiveSwitch],
        freeze: FreezePolicy,
    ) -> Result<Consistency, HostError>;

    /// Whether whoever has a volume open can merge up into a layer of which parts are written; true
    /// when nobody has. What cannot is never asked to.
    fn can_stream(&self, volume: VolumeId) -> bool;

    /// Merges two layers while the guest goes on. A job of that name that runs already is
    /// waited for. `watch` is asked several times a second, so that the join can give way.
    fn join(&self, join: &LiveJoin, watch: JoinWatch<'_>) -> Result<JoinEnd, HostError>;

    /// Stops every join in a volume's chain; afterwards nobody writes below its tip. One that
    /// had ended stays done.
    fn stop_joins(&self, volume: VolumeId) -> Result<(), HostError>;

    /// Puts the node of `below` under a volume's tip instead of what is there and shows the same.
    /// What was there is closed.
    fn rebase(&self, volume: VolumeId, tip: &str, below: &Value) -> Result<(), HostError>;

    /// Makes the tip larger, durably.
    fn resize(&self, volume: VolumeId, tip: &str, size: ByteCount) -> Result<(), HostError>;
}
