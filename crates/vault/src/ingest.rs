//! Storing the content of a volume: from its bytes to packs, an index and a tree.
//!
//! ```text
//!  caller's thread                      workers                     uploaders
//!  read ─ zeros? ─ id ─ known? ─ frame ─> compress, compare,     ─> put ─┐
//!     ^                                   seal into a pack by turns      │
//!     └──── leaves whose packs are confirmed <───────────────────────────┘
//! ```
//!
//! Every channel is bounded, so a slow target stops the reading. A leaf waits until every pack it
//! names is confirmed; then it is stored, and its ancestors after it. Only subtrees that a changed
//! range touches are visited; the rest is the parent's.

mod ahead;
mod dedup;
mod heal;
mod leaf;
mod pipeline;
mod ranges;
mod tree;

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use stillpoint_model::ByteCount;
use stillpoint_model::id::RunId;
use stillpoint_model::progress::Monitor;

use crate::backup::BackupSpec;
use crate::fetch::HeaderCache;
use crate::format::CHUNK_LEN;
use crate::format::hash::ContentHash;
use crate::format::index::{Index, IndexFrame, IndexPack, prefix_of};
use crate::format::manifest::{Manifest, chunks_of};
use crate::format::names::IdBytes;
use crate::format::object::{Class, Header};
use crate::format::pack::{PackId, Spot};
use crate::format::sums::{self, Sum};
use crate::format::tree::{FrameLoc, Interior, LEAF_LEVEL, NodeRef, chunks_at, top_level};
use crate::volume::VolumeReader;
use crate::{Error, Vault};
use ahead::Ahead;
use dedup::Dedup;
use pipeline::{Feed, PackConfirmed};
pub use ranges::Missed;
use ranges::{ChunkRanges, DataCursor, Proving};
use tree::TreeWriter;

/// Sums are written when there are so many (8 GiB of packs).
const SUMS_AT_ONCE: usize = 2048;
/// An index object is written when it holds this many chunks (1 GiB of the volume).
const INDEX_CHUNKS: usize = 1 << 16;

/// What was stored.
pub(crate) struct Ingested {
    pub root: Option<NodeRef>,
    pub content_hash: ContentHash,
    pub changed: ByteCount,
    pub stored: ByteCount,
    pub bytes_read: ByteCount,
    /// How long nothing could be done but wait for the target.
    pub waited: Duration,
    /// What change tracking did not know of.
    pub missed: Missed,
    /// How many packs were stored.
    pub packs: usize,
    /// Packs that were found by deduplication, this run's among them.
    pub found: HashSet<PackId>,
}

/// How far the word of change tracking is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Only what it names is read.
    Claims,
    /// Everything is read; what differs elsewhere is reported.
    Proof,
}

/// A run whose record is in place.
pub(crate) struct OpenRun {
    pub id: RunId,
    /// Packs that it must not begin to refer to.
    pub condemned: HashSet<PackId>,
    /// Packs that it does without, as if they were damaged.
    pub avoided: HashSet<PackId>,
}

/// Stores a volume's content under a run whose record is in place.
pub(crate) fn ingest(
    vault: &Vault,
    (spec, trust): (&BackupSpec<'_>, Trust),
    run: OpenRun,
    parent: Option<&Manifest>,
    source: &dyn VolumeReader,
    monitor: &dyn Monitor,
) -> Result<Ingested, Error> {
    std::thread::scope(|scope| {
        let feed = pipeline::start(scope, vault, run.id);
        let mut ingest = Ingest::new(vault, (spec, trust), run, parent, source, monitor, feed)?;
        // When this ends early, dropping the feed ends the threads, and the scope joins them.
        let result = ingest.run(parent);
        // An error further down the pipeline is the cause of the one seen here.
        ingest.feed.failure().map_or(result, Err)
    })
}

/// The state of the caller's thread.
struct Ingest<'a> {
    vault: &'a Vault,
    source: &'a dyn VolumeReader,
    monitor: &'a dyn Monitor,
    run_id: RunId,
    size: ByteCount,
    chunks: u64,
    /// The level and the root of the parent's tree.
    parent: Option<(u8, NodeRef)>,
    changed: ChunkRanges,
    /// Whether what change tracking said is put to the test.
    proving: Option<Proving>,
    data: DataCursor,
    total: Option<ByteCount>,
    headers: HeaderCache,
    ahead: Ahead,
    /// Packs that failed verification, and others that may not be shared.
    unusable: Rc<HashSet<PackId>>,
    dedup: Dedup,
    feed: Feed<'a>,
    tree: TreeWriter<'a>,
    index: Index,
    index_chunks: usize,
    index_seq: u32,
    /// What packs hash to that are confirmed, and in no object yet.
    sums: Vec<Sum>,
    sums_seq: u32,
    /// How many packs are stored and in an object of sums.
    packs: usize,
    /// The frame that is being filled, and room to read into.
    open_frame: Vec<u8>,
    read_buf: Vec<u8>,
    bytes_read: u64,
    bytes_seen: u64,
    chunks_changed: u64,
    stored: ByteCount,
}

impl<'a> Ingest<'a> {
    fn new(
        vault: &'a Vault,
        (spec, trust): (&'a BackupSpec<'a>, Trust),
        run: OpenRun,
        parent: Option<&Manifest>,
        source: &'a dyn VolumeReader,
        monitor: &'a dyn Monitor,
        feed: Feed<'a>,
    ) -> Result<Self, Error> {
        let size = source.size();
        let mut unusable = vault.marked_packs()?;
        unusable.extend(run.avoided);
        let unusable = Rc::new(unusable);
        let (run_id, mut excluded) = (run.id, run.condemned);
        excluded.extend(unusable.iter().copied());
        let ranges = |changed| ChunkRanges::new(changed, size, parent.map(|parent| parent.size));
        let (changed, proving) = match trust {
            Trust::Claims => (ranges(spec.changed), None),
            Trust::Proof => (ranges(None), Some(Proving::new(ranges(spec.changed)))),
        };
        Ok(Self {
            vault,
            source,
            monitor,
            run_id,
            size,
            chunks: chunks_of(size),
            parent: None,
            total: changed.bytes().or(Some(size)),
            changed,
            proving,
            data: DataCursor::default(),
            headers: HeaderCache::default(),
            ahead: Ahead::default(),
            dedup: Dedup::new(vault, excluded),
            unusable,
            feed,
            tree: TreeWriter::new(vault, run_id),
            index: Index {
                volume_id: spec.volume_id,
                backup_id: spec.backup_id,
                packs: vec![],
            },
            index_chunks: 0,
            index_seq: 0,
            sums: vec![],
            sums_seq: 0,
            packs: 0,
            open_frame: vec![],
            read_buf: vec![],
            bytes_read: 0,
            bytes_seen: 0,
            chunks_changed: 0,
            stored: ByteCount::ZERO,
        })
    }

    fn run(&mut self, parent: Option<&Manifest>) -> Result<Ingested, Error> {
        let level = top_level(self.chunks);
        self.parent = match parent {
            Some(parent) => self.align_parent(parent, level)?,
            None => None,
        };
        if let Some((top, root)) = self.parent {
            self.mend(top, &root)?;
        }
        self.visit(level, 0, None)?;
        self.send_frame()?;
        self.finish_feed()?;
        let (root, tree_bytes) = self.tree.finish()?;
        self.flush_index()?;
        self.flush_sums()?;
        self.stored += tree_bytes;
        let top = root.map_or(self.vault.keys.hasher.zero(level), |root| root.hash);
        let clip = |chunks: u64| ByteCount::new(chunks * CHUNK_LEN as u64).min(self.size);
        Ok(Ingested {
            root,
            content_hash: self.vault.keys.hasher.content(self.size.get(), level, top),
            changed: clip(self.chunks_changed),
            stored: self.stored,
            bytes_read: ByteCount::new(self.bytes_read),
            waited: self.feed.waited(),
            missed: self.proving.take().map(Proving::finish).unwrap_or_default(),
            packs: self.packs,
            found: self.dedup.take_found(),
        })
    }

    /// The parent's tree, cut down to this volume's height if it is higher; its level and root.
    fn align_parent(
        &mut self,
        parent: &Manifest,
        level: u8,
    ) -> Result<Option<(u8, NodeRef)>, Error> {
        let mut at = parent.root;
        let mut from = parent.level();
        while let Some(node) = at.filter(|_| from > level) {
            at = match self.vault.interior(&node, from, 0) {
                Ok(node) => node.children[0],
                Err(error) => {
                    self.distrust(0, self.chunks, error)?;
                    None
                }
            };
            from -= 1;
        }
        Ok(at.map(|at| (from, at)))
    }

    /// Makes the node of a place from the parent's, `old`. The parent's tree may be lower.
    fn visit(&mut self, level: u8, index: u64, old: Option<NodeRef>) -> Result<(), Error> {
        let (start, end) = (index * chunks_at(level), (index + 1) * chunks_at(level));
        let old = match self.parent {
            Some((top, root)) if top == level && index == 0 => Some(root),
            _ => old,
        };
        if start >= self.chunks {
            self.tree.child(None);
            return Ok(());
        }
        if !self.changed.touches(start, end) {
            self.tree.child(old);
            return Ok(());
        }
        let end = end.min(self.chunks);
        if self.is_expected(start, end, old.as_ref()) && !self.data.any(self.source, start, end)? {
            self.chunks_changed += old.map_or(0, |old| old.chunks);
            self.advance((end - start) * CHUNK_LEN as u64)?;
            self.tree.child(None);
            return Ok(());
        }
        if level == LEAF_LEVEL {
            return self.visit_leaf(index, old);
        }
        let read = old.map(|at| self.interior_of_parent(&at, level, index));
        let (old, node) = match read {
            Some(Ok(node)) => (self.shareable(old), node),
            Some(Err(error)) => {
                self.distrust(start, end, error)?;
                (None, Interior::empty())
            }
            None => (None, Interior::empty()),
        };
        let children = node.children.clone();
        self.tree.open(level, index, old, node);
        for (at, child) in children.iter().enumerate() {
            let first = index * 64 + at as u64;
            self.read_ahead(level - 1, first, &children[at..]);
            self.visit(level - 1, first, *child)?;
        }
        self.tree.close();
        self.settle()
    }

    /// Whether nothing in these chunks needs to be compared one by one if they are zeros now.
    fn is_expected(&self, start: u64, end: u64, old: Option<&NodeRef>) -> bool {
        let known = |proving: &Proving| old.is_none() || proving.expects(start, end);
        self.changed.covers(start, end) && self.proving.as_ref().is_none_or(known)
    }

    /// A chunk is not what the parent has.
    fn note_difference(&mut self, chunk: u64) {
        self.chunks_changed += 1;
        if let Some(proving) = &mut self.proving {
            proving.differs(chunk);
        }
    }

    /// A part of the parent that cannot be read heals here: its chunks are read from the source.
    fn distrust(&mut self, start: u64, end: u64, error: Error) -> Result<(), Error> {
        if !error.is_of_one_object() {
            return Err(error);
        }
        tracing::warn!(%error, start, end, "a part of the parent is damaged; reading it anew");
        self.changed.insert(start, end);
        if let Some(proving) = &mut self.proving {
            proving.excuse(start, end);
        }
        Ok(())
    }

    /// Says how far it is, and hears whether to stop.
    fn advance(&mut self, bytes: u64) -> Result<(), Error> {
        self.bytes_seen += bytes;
        self.monitor
            .progress(ByteCount::new(self.bytes_seen), self.total);
        if self.monitor.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }

    /// Takes in what was confirmed, and stores the nodes that waited for it.
    fn settle(&mut self) -> Result<(), Error> {
        while let Some(confirmed) = self.feed.try_confirmed()? {
            self.take_confirmed(confirmed)?;
        }
        let dedup = &self.dedup;
        self.tree.advance(&|number| dedup.own_frame(number))
    }

    fn finish_feed(&mut self) -> Result<(), Error> {
        self.feed.close();
        while let Some(confirmed) = self.feed.wait_confirmed()? {
            self.take_confirmed(confirmed)?;
        }
        let dedup = &self.dedup;
        self.tree.advance(&|number| dedup.own_frame(number))
    }

    fn take_confirmed(&mut self, confirmed: PackConfirmed) -> Result<(), Error> {
        let PackConfirmed {
            pack,
            len,
            sum,
            frames,
        } = confirmed;
        self.sums.push(sum);
        self.stored += ByteCount::new(len.into());
        let mut indexed = IndexPack {
            seq: pack.seq,
            len,
            frames: vec![],
        };
        for (number, spot) in frames {
            let ids = self.dedup.confirm(
                number,
                FrameLoc {
                    pack,
                    pack_len: len,
                    spot,
                },
            );
            self.index_chunks += ids.len();
            let prefixes = ids.iter().map(prefix_of).collect();
            indexed.frames.push(IndexFrame { spot, prefixes });
        }
        self.index.packs.push(indexed);
        if self.index_chunks >= INDEX_CHUNKS {
            self.flush_index()?;
        }
        self.sums.extend(self.tree.take_sums());
        if self.sums.len() >= SUMS_AT_ONCE {
            self.flush_sums()?;
        }
        Ok(())
    }

    /// Writes what packs hash to, so that they can be compared without a key.
    fn flush_sums(&mut self) -> Result<(), Error> {
        self.sums.extend(self.tree.take_sums());
        if self.sums.is_empty() {
            return Ok(());
        }
        let name = self.vault.names.sums(self.run_id, self.sums_seq);
        let header = self.vault.header_of_sums(self.run_id, self.sums_seq);
        self.packs += self.sums.len();
        let object = sums::encode(&header, std::mem::take(&mut self.sums));
        self.vault.target.put_new(&name, &object)?;
        self.stored += ByteCount::new(object.len() as u64);
        self.sums_seq += 1;
        Ok(())
    }

    /// Writes an index object. The first one is always written, even if it is empty: that it is
    /// there says that the run was not reaped.
    fn flush_index(&mut self) -> Result<(), Error> {
        if self.index.packs.is_empty() && self.index_seq > 0 {
            return Ok(());
        }
        let name = self.vault.names.index(self.run_id, self.index_seq);
        let header = Header {
            seq: self.index_seq,
            ..self.vault.header(Class::Index, self.run_id.to_bytes())
        };
        let object = self.vault.seal(&name, &header, self.index.encode())?;
        self.vault.target.put_new(&name, &object)?;
        self.stored += ByteCount::new(object.len() as u64);
        self.index.packs.clear();
        self.index_chunks = 0;
        self.index_seq += 1;
        Ok(())
    }
}

/// Where a chunk's frame is: in a pack that is known, or in one that this run is filling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum FrameAt {
    Known(FrameLoc),
    /// The number of this run's frame.
    Own(u64),
}

/// A frame of this run by its number, and where in its pack it went.
type Numbered = (u64, Spot);
