//! What a kind of storage must do so that a [`LayerPool`](crate::LayerPool) can be made of it.
//!
//! A driver stores layers and records, each by its own atomic, durable step, and knows nothing
//! of the tree's rules. Its steps are called with the tree locked; reading and writing data is
//! not.

use std::collections::BTreeMap;

use stillpoint_model::ByteCount;
use stillpoint_model::id::{LayerId, PoolId, VolumeId};
use stillpoint_model::layer_tree::{Direction, Layer, VolumeRecord};

use crate::{Capabilities, Error};

/// Everything that a driver finds in its storage.
#[derive(Debug, Default)]
pub struct Found {
    /// The layers that are whole, as far as their header tells.
    pub layers: BTreeMap<LayerId, Layer>,
    /// The records that are whole.
    pub records: BTreeMap<VolumeId, VolumeRecord>,
    /// What has a layer's or a record's name and cannot be trusted. While there is any, nothing
    /// is garbage: what looks unneeded may be needed by what cannot be read.
    pub damaged: Vec<Error>,
}

/// What a layer itself holds at some place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Nothing: the layer below shows.
    Below,
    /// Zeros.
    Zeros,
    /// Data.
    Data,
}

/// A stretch of a layer that is all of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// How long it is, in bytes; never zero.
    pub len: u64,
    /// What the layer holds there.
    pub holds: Holds,
}

/// One layer alone, for reading.
pub trait LayerMap: Send + Sync {
    /// Its virtual size.
    fn size(&self) -> ByteCount;

    /// What it holds from `offset`, which lies inside the layer. The run ends at its size at
    /// the latest.
    fn run_at(&self, offset: u64) -> Result<Run, Error>;

    /// Fills `buf` from a stretch that is data.
    fn read_data(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error>;

    /// Checks everything that it names.
    fn verify(&self) -> Result<(), Error> {
        let mut offset = 0;
        while offset < self.size().get() {
            offset += self.run_at(offset)?.len;
        }
        Ok(())
    }
}

/// One layer alone, for writing; offsets and lengths are multiples of
/// [`BLOCK_SIZE`](crate::BLOCK_SIZE), except at the end. Several threads may write at the same time,
/// each to places of its own.
pub trait LayerWriter: Send + Sync {
    /// Data will be stored in all of a range, in parts and in any order: a driver may give it room in
    /// one piece. Nothing changes for who reads.
    fn reserve(&self, _offset: u64, _len: u64) -> Result<(), Error> {
        Ok(())
    }

    /// Stores data.
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Error>;

    /// Stores zeros.
    fn zero_at(&self, offset: u64, len: u64) -> Result<(), Error>;

    /// Makes everything durable. A new layer exists only after this.
    fn finish(self: Box<Self>) -> Result<(), Error>;
}

/// Two layers whose data is in one of them by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    /// The layer that is no more afterwards.
    pub parent: LayerId,
    /// The layer that stays.
    pub child: LayerId,
    /// Whose the child is.
    pub owner: VolumeId,
    /// What the child stands on afterwards.
    pub grandparent: Option<LayerId>,
    /// The child's size.
    pub size: ByteCount,
    /// Whether the child is sealed.
    pub sealed: bool,
    /// Which of the two holds all data.
    pub direction: Direction,
}

/// A kind of storage for layers and records.
pub trait Driver: Send + Sync + 'static {
    /// The pool's id.
    fn id(&self) -> PoolId;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Reads everything anew, after completing or taking back what a crash cut off.
    fn load(&self) -> Result<Found, Error>;

    /// Makes an empty layer of a volume.
    fn create_layer(
        &self,
        layer: LayerId,
        owner: VolumeId,
        parent: Option<LayerId>,
        size: ByteCount,
    ) -> Result<(), Error>;

    /// Makes a layer another volume's, atomically.
    fn own_layer(&self, layer: LayerId, owner: VolumeId) -> Result<(), Error>;

    /// Makes a layer larger.
    fn grow_layer(&self, layer: LayerId, size: ByteCount) -> Result<(), Error>;

    /// Protects a layer against writes by mistake.
    fn seal_layer(&self, layer: LayerId) -> Result<(), Error>;

    /// Removes a layer. One that is not there is removed.
    fn remove_layer(&self, layer: LayerId) -> Result<(), Error>;

    /// Replaces a record atomically.
    fn put_record(&self, volume: VolumeId, record: &VolumeRecord) -> Result<(), Error>;

    /// Removes a record, after making durable that the layers removed before are gone: a layer
    /// must never come back without the record of its owner. One that is not there is removed.
    fn remove_record(&self, volume: VolumeId) -> Result<(), Error>;

    /// Bytes that a layer occupies, its fixed bookkeeping left out.
    fn allocated(&self, layer: LayerId) -> Result<ByteCount, Error>;

    /// Refuses with [`Error::LayerInUse`] when another process may write to the layer.
    fn check_unused(&self, layer: LayerId) -> Result<(), Error>;

    /// Opens one layer for reading. `parent` is what the tree says it stands on.
    fn open_layer(
        &self,
        layer: LayerId,
        parent: Option<LayerId>,
    ) -> Result<Box<dyn LayerMap>, Error>;

    /// Begins a layer of a volume that stands on nothing. Dropped before `finish`, it leaves
    /// nothing.
    fn begin_layer(
        &self,
        layer: LayerId,
        owner: VolumeId,
        size: ByteCount,
    ) -> Result<Box<dyn LayerWriter>, Error>;

    /// Opens a layer to merge another into it; `size` is the larger of the two. Refuses with
    /// [`Error::LayerInUse`] when another process has it open, and keeps others out. What a
    /// crash leaves of the writing shows only where the other layer covers it.
    fn reopen_layer(&self, layer: LayerId, size: ByteCount) -> Result<Box<dyn LayerWriter>, Error>;

    /// Makes the child stand for both, atomically, and removes what is left.
    fn join_layers(&self, join: &Join) -> Result<(), Error>;

    /// Files of layers and records that were being made: the layer, if it is one, and the name.
    fn unfinished(&self) -> Result<Vec<(Option<LayerId>, String)>, Error>;

    /// Removes one of the unfinished files.
    fn remove_unfinished(&self, name: &str) -> Result<(), Error>;

    /// Bytes that the storage can hold, and bytes left.
    fn space(&self) -> Result<(ByteCount, ByteCount), Error>;

    /// The block graph of a volume's chain, the tip first.
    fn block_graph(&self, volume: VolumeId, chain: &[LayerId]) -> Result<serde_json::Value, Error>;

    /// What it can do while somebody else has layers open; none where nobody ever has.
    fn live(&self) -> Option<&dyn LiveStorage> {
        None
    }
}

/// What storage does so that layers can change while somebody else has them open.
///
/// The file of a layer and its header are not touched while others have it open. The driver takes
/// from the records that it stores which file a layer is in by now
/// ([`Placement`](stillpoint_model::layer_tree::Placement)).
pub trait LiveStorage: Send + Sync {
    /// The name of a layer's node in a volume's block graph.
    fn node(&self, volume: VolumeId, layer: LayerId) -> String;

    /// The layer whose file it was at first that a layer is in.
    fn file_of(&self, layer: LayerId) -> LayerId;

    /// How a layer that stands on this one names it in its header.
    fn backing_name(&self, layer: LayerId) -> String;

    /// Whether another process has the layer open, for reading or writing.
    fn is_open(&self, layer: LayerId) -> Result<bool, Error>;

    /// A layer as its file says by now, and what it occupies.
    fn inspect(&self, layer: LayerId) -> Result<Layer, Error>;

    /// Lets whoever has a sealed layer open write to it.
    fn unseal(&self, layer: LayerId) -> Result<(), Error>;

    /// Makes durable what anybody wrote to a layer, and what was removed before.
    fn sync(&self, layer: LayerId) -> Result<(), Error>;

    /// Removes a file that no layer is in any more, durably.
    fn drop_file(&self, file: LayerId) -> Result<(), Error>;

    /// Makes the header and the name of a layer's file say what the tree says. Refuses with
    /// [`Error::LayerInUse`] when another process has it open.
    fn settle(&self, layer: LayerId, owner: VolumeId, parent: Option<LayerId>)
    -> Result<(), Error>;
}
