//! Pools: storage that holds volumes as a tree of layers.
//!
//! ```text
//! Pool (trait)            what the node asks for
//!  └ LayerPool<Driver>    the tree, its planner's steps, readers against merges, crash repair
//!     ├ qcow2::Qcow2Driver     a folder of qcow2 files
//!     ├ memory::MemoryDriver   the same in memory, for simulations
//!     └ fault::FaultyDriver    any of them, failing or crashing at a chosen step
//! machine_memory          the memory of machines that were captured, as files beside the layers
//! live::LiveHost (trait)  whoever has volumes open: switches, merges and grows them as asked
//! ```
//!
//! Every driver passes the one `conformance` suite, which other crates' tests may run with the
//! feature of that name.
//!
//! **Invariant:** the only crate that touches volume data at rest. It never probes a format: what
//! an image is was declared, what a layer stands on comes from the pool's own records. It never
//! starts a process. A layer that a name refers to is never changed but by its volume.

mod chain;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod driver;
mod error;
pub mod fault;
mod image;
mod layer_pool;
pub mod live;
pub mod machine_memory;
pub mod memory;
mod pool;
pub mod qcow2;
#[cfg(test)]
mod tests;

pub use driver::{Driver, Found, Holds, Join, LayerMap, LayerWriter, LiveStorage, Run};
pub use error::Error;
pub use layer_pool::LayerPool;
pub use pool::{
    BLOCK_SIZE, Capabilities, Extent, FillOutcome, Hold, ImageSource, LayerReader, MergeOutcome,
    Orphan, Pool, RestoreWriter, SECTOR_SIZE, Sealed, Usage, VolumeInfo,
};
