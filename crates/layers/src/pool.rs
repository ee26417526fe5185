//! What a pool can do, whatever it is made of.
//!
//! A pool holds a tree of layers. A volume is a tip of that tree, a snapshot a name on a sealed
//! layer. Every method blocks; asynchronous callers put it on a thread of its own.
//!
//! **Again and again.** Every method may be repeated with the same ids, after a crash or by a
//! caller that lost the answer: it finds its work done, or finishes it, and answers the same. An
//! id that exists with other content is refused ([`Error::Refused`]).
//!
//! **Concurrency.** A caller lets one task at a time change a volume. Different volumes may be
//! changed at once. A reader keeps the layers below it from being merged; a merge stops at its
//! next batch when a reader wants its layers.
//!
//! **Crash.** What a method has answered is durable. What it has not answered either happened or
//! did not; [`Pool::orphans`] names the files that a crash left behind.

use std::path::PathBuf;

use stillpoint_model::id::{BackupId, LayerId, PoolId, SnapshotId, VolumeId};
use stillpoint_model::item::{Consistency, FreezePolicy};
use stillpoint_model::layer_tree::{FillSource, Filling, LayerTree, MergeCandidate};
use stillpoint_model::progress::Monitor;
use stillpoint_model::task::{CloneSource, ImageFormat};
use stillpoint_model::{ByteCount, ByteRange};

use crate::Error;
use crate::live::SwitchAll;

/// The smallest piece that a pool stores apart from its neighbours, in bytes. Restores write in
/// multiples of it, except for the last piece of a volume.
pub const BLOCK_SIZE: u64 = 4096;

/// What every size of a volume is a multiple of, in bytes.
pub const SECTOR_SIZE: u64 = 512;

/// What a driver can do, so that nobody above asks which driver it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The kind of pool, as operators know it.
    pub kind: &'static str,
    /// Whether a volume that a running instance has open can be captured.
    pub live_capture: bool,
    /// The largest volume.
    pub max_volume_size: ByteCount,
}

/// A volume as the pool knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeInfo {
    /// The layer that takes its writes.
    pub tip: LayerId,
    /// What a guest sees as its size.
    pub size: ByteCount,
    /// Bytes allocated in the layers that it can reach, its own bookkeeping left out.
    pub used: ByteCount,
}

/// A point in time that was just fixed, or was fixed before under the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The immutable layer.
    pub layer: LayerId,
    /// The layer that takes the volume's writes now.
    pub tip: LayerId,
    /// The size at that point in time.
    pub size: ByteCount,
    /// Bytes allocated in the layers that it can reach.
    pub used: ByteCount,
    /// Bytes allocated in the sealed layer alone: what changed since the layer below was sealed.
    pub changed: ByteCount,
    /// What its content promises. It is recorded, so whoever asks again hears the same.
    pub consistency: Consistency,
}

/// An image to import. What it is was declared by whoever brought it; it is never guessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSource {
    /// A regular file on this machine.
    pub path: PathBuf,
    /// What it was declared to be.
    pub format: ImageFormat,
}

/// Part of a volume, and whether it holds anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Which part.
    pub range: ByteRange,
    /// Whether it may hold something else than zeros.
    pub data: bool,
}

/// Reads one layer through the whole chain below it. While it lives, its layers stay.
pub trait LayerReader: Send + Sync {
    /// The size of the volume at that point in time.
    fn size(&self) -> ByteCount;

    /// Fills `buf` from `offset`. Reading past the end is [`Error::OutOfBounds`].
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error>;

    /// The extent that begins at `offset`; none at the end. Neighbours may be of one kind.
    fn extent_at(&self, offset: u64) -> Result<Option<Extent>, Error>;
}

/// Writes the content of a volume that does not exist yet. It becomes a volume by
/// [`finish`](RestoreWriter::finish); dropped before that, it leaves nothing behind. What is
/// never written reads as zeros. Several threads may write at the same time, each to places of its own.
pub trait RestoreWriter: Send + Sync {
    /// Data will be written to all of a range, aligned as in [`write_at`](RestoreWriter::write_at), in
    /// parts and in any order: it gets its room in one piece, as a volume that was written from its
    /// start to its end.
    fn reserve(&self, range: ByteRange) -> Result<(), Error>;

    /// Writes `data` at `offset`. Offset and length are multiples of [`BLOCK_SIZE`], except that
    /// the end of the volume may cut the last piece. Any order, also twice.
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Error>;

    /// Makes a range read as zeros, aligned as in [`write_at`](RestoreWriter::write_at).
    fn zero_at(&self, range: ByteRange) -> Result<(), Error>;

    /// Makes everything durable and the volume exist.
    fn finish(self: Box<Self>) -> Result<VolumeInfo, Error>;
}

/// How filling a volume ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FillOutcome {
    /// It is a volume as any other.
    Whole,
    /// Somebody is opening it right now; ask again.
    GaveWay,
}

/// While it lives, a volume's fill does not end.
pub trait Hold: Send {}

/// How a merge ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeOutcome {
    /// The two layers are one, or the layer without a child is gone.
    Done,
    /// A reader wanted the layers; ask again later, what was moved stays moved.
    GaveWay,
}

/// Something that no volume and no layer needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Orphan {
    /// A whole layer without name and child.
    Layer(LayerId),
    /// A file that a run was making when it ended: its name inside the pool.
    Unfinished(String),
}

/// How full a pool is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What the storage can hold.
    pub capacity: ByteCount,
    /// What is left of it.
    pub free: ByteCount,
    /// What each layer occupies.
    pub layers: Vec<(LayerId, ByteCount)>,
}

/// Storage that holds volumes.
pub trait Pool: Send + Sync {
    /// Its id, written in the storage itself.
    fn id(&self) -> PoolId;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// The volume; refused also when only snapshots are left of it.
    fn volume(&self, volume: VolumeId) -> Result<VolumeInfo, Error>;

    /// The layer that a snapshot names.
    fn snapshot_layer(&self, snapshot: SnapshotId) -> Result<LayerId, Error>;

    /// The layer that a backup's capture names, while it is kept.
    fn captured_layer(&self, volume: VolumeId, backup: BackupId) -> Result<LayerId, Error>;

    /// Makes an empty volume. The size is a multiple of [`SECTOR_SIZE`].
    fn create_volume(&self, volume: VolumeId, size: ByteCount) -> Result<VolumeInfo, Error>;

    /// Makes a volume from an image, of at most `max_size` virtual bytes. An image that names
    /// another file, is damaged, or is not what it was declared to be, is refused.
    fn import(
        &self,
        volume: VolumeId,
        source: &ImageSource,
        max_size: ByteCount,
        monitor: &dyn Monitor,
    ) -> Result<VolumeInfo, Error>;

    /// Makes a volume larger.
    fn resize(&self, volume: VolumeId, size: ByteCount) -> Result<VolumeInfo, Error>;

    /// Makes a volume that starts as a copy. Of a volume: as it is now.
    fn clone_volume(&self, source: CloneSource, volume: VolumeId) -> Result<VolumeInfo, Error>;

    /// Deletes a volume, not its snapshots. One that does not exist is deleted already.
    fn delete_volume(&self, volume: VolumeId) -> Result<(), Error>;

    /// Seals the volume's content under the snapshot's name. A guest that has it open is not frozen.
    fn snapshot(&self, volume: VolumeId, snapshot: SnapshotId) -> Result<Sealed, Error>;

    /// Seals the content of several volumes at one instant, in this order. All are snapshots
    /// afterwards or none is. A guest that has them open is frozen meanwhile as `freeze` says. What
    /// is sealed says what was reached: where a freeze that was required broke only after the switch,
    /// that is `crash`, and the caller has the names to take off again.
    fn snapshot_together(
        &self,
        set: &[(VolumeId, SnapshotId)],
        freeze: FreezePolicy,
    ) -> Result<Vec<Sealed>, Error>;

    /// Reads all bookkeeping of a snapshot's layers and checks that each piece of data they
    /// name is there.
    fn verify_snapshot(&self, snapshot: SnapshotId, monitor: &dyn Monitor) -> Result<(), Error>;

    /// Takes a snapshot's name off its layer. One that does not exist is deleted already.
    fn delete_snapshot(&self, snapshot: SnapshotId) -> Result<(), Error>;

    /// Puts a volume back to one of its snapshots. What was there becomes the snapshot `safety`.
    fn roll_back(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        safety: SnapshotId,
    ) -> Result<VolumeInfo, Error>;

    /// Gives a volume the content of another, staged one, which is no more afterwards. What was
    /// there becomes the snapshot `safety`.
    fn switch(
        &self,
        volume: VolumeId,
        staged: VolumeId,
        safety: SnapshotId,
    ) -> Result<VolumeInfo, Error>;

    /// [`snapshot_together`](Pool::snapshot_together), with the switch of what is open made by the
    /// caller. It is not called when nothing is open, or when all is sealed already.
    fn snapshot_by(
        &self,
        set: &[(VolumeId, SnapshotId)],
        switch: SwitchAll<'_>,
    ) -> Result<Vec<Sealed>, Error>;

    /// Fixes what a backup will contain: the volume as it is now, or one of its snapshots. `freeze`
    /// as for [`snapshot_together`](Pool::snapshot_together).
    fn capture(
        &self,
        volume: VolumeId,
        backup: BackupId,
        snapshot: Option<SnapshotId>,
        freeze: FreezePolicy,
    ) -> Result<Sealed, Error>;

    /// Keeps this capture as the base of the next increment and releases the volume's others.
    /// A capture that is not there (its volume is gone) is nothing to keep.
    fn settle_capture(&self, volume: VolumeId, backup: BackupId) -> Result<(), Error>;

    /// Releases a capture. One that does not exist is released already.
    fn release_capture(&self, volume: VolumeId, backup: BackupId) -> Result<(), Error>;

    /// Opens a layer with everything below it.
    fn open_layer(&self, layer: LayerId) -> Result<Box<dyn LayerReader>, Error>;

    /// What may differ between two layers, in order, at most a million ranges (neighbours are
    /// joined beyond that). From nothing: what may hold something else than zeros. Ranges end
    /// at the size of `to`.
    fn changed_extents(&self, from: Option<LayerId>, to: LayerId) -> Result<Vec<ByteRange>, Error>;

    /// Begins to write the content of a new volume.
    fn begin_restore(
        &self,
        volume: VolumeId,
        size: ByteCount,
    ) -> Result<Box<dyn RestoreWriter>, Error>;

    /// What could be merged or removed now, the least work first. Layers that somebody reads
    /// are left out.
    fn merge_candidates(&self) -> Vec<MergeCandidate>;

    /// Does one of the [`merge_candidates`](Pool::merge_candidates). One that is none any more
    /// is done.
    fn merge(
        &self,
        candidate: &MergeCandidate,
        monitor: &dyn Monitor,
    ) -> Result<MergeOutcome, Error>;

    /// The tree as it is recorded in the pool itself.
    fn tree(&self) -> LayerTree;

    /// Files of runs that are over. Files that the pool does not know are never among them.
    fn orphans(&self) -> Result<Vec<Orphan>, Error>;

    /// Removes what [`orphans`](Pool::orphans) named, unless somebody needs it by now.
    fn reap(&self, orphans: &[Orphan]) -> Result<u32, Error>;

    /// How full it is.
    fn usage(&self) -> Result<Usage, Error>;

    /// The explicit block graph of a volume, for QEMU's `-blockdev`: every node named, every
    /// driver given, every backing chain spelled out. [`Error::Unsupported`] where volumes are
    /// no files.
    ///
    /// A volume that is being filled has one over a reader alone
    /// ([`open_filling`](Pool::open_filling)): without it zeros would show for data.
    fn block_graph(&self, volume: VolumeId) -> Result<serde_json::Value, Error>;

    /// Makes a volume of this size that shows a backup until it is filled.
    fn begin_fill(
        &self,
        volume: VolumeId,
        size: ByteCount,
        source: FillSource,
    ) -> Result<VolumeInfo, Error>;

    /// How a volume is being filled; none when it is whole, or is not there.
    fn filling(&self, volume: VolumeId) -> Result<Option<Filling>, Error>;

    /// The block graph of a volume that is being filled, over the node that reads its backup. The
    /// hold is kept until whoever opens it has it open. One that is whole has its own graph.
    fn open_filling(
        &self,
        volume: VolumeId,
        reader: &serde_json::Value,
    ) -> Result<(serde_json::Value, Box<dyn Hold>), Error>;

    /// Writes what a volume stands on, whoever has the volume open. `finish` makes it durable and
    /// answers with the layer that was written, for whoever compares it. None when whoever has it open
    /// went over to the base already, and only the record lacks: then the fill is to be ended.
    fn fill_base(&self, volume: VolumeId) -> Result<Option<Box<dyn RestoreWriter>>, Error>;

    /// What a volume stands on is all there and was compared with the backup: from now on it is a
    /// volume as any other. Whoever has it open does not read its backup any more.
    fn end_fill(&self, volume: VolumeId) -> Result<FillOutcome, Error>;
}
