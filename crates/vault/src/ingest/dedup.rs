//! Finding chunks that the vault has already.
//!
//! The index in memory is a cache that may miss, never one that decides: a candidate counts only
//! when its frame's header, read from the target, has the whole id, and when its pack is there
//! with its length. Candidates come from committed runs and from this run, never from a run that
//! may still be taken back.
//!
//! Where answers take their time, what many look-ups will ask is asked at once beforehand
//! ([`Dedup::fetch`]); what that misses is asked when it is needed.
//!
//! It is filled as it is needed: newest index first, and never more than in proportion to what
//! was looked up, so that a small increment into a large vault stays small. When it is full, only
//! chunks whose id ends in zero bits are kept, one in 4, then one in 16.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use stillpoint_model::id::RunId;

use super::FrameAt;
use crate::crew::side_by_side;
use crate::fetch::HeaderCache;
use crate::format::hash::ChunkId;
use crate::format::index::{Index, MAX_INDEX_LEN, prefix_of};
use crate::format::names::{IdBytes, Named};
use crate::format::object::Class;
use crate::format::pack::{FIRST_TREE_SEQ, PackId};
use crate::format::tree::FrameLoc;
use crate::target::list_each;
use crate::vault::damaged;
use crate::{Error, Vault};

/// Index bytes that are read without being earned by look-ups.
const FREE_INDEX_BYTES: u64 = 1 << 20;
/// One byte of index is read for each so many bytes that were looked up.
const BYTES_PER_INDEX_BYTE: u64 = 32;
/// The most index objects that are considered.
const MAX_INDEXES: usize = 100_000;
/// The coarsest sampling: one chunk in 16.
const MAX_SAMPLING: u32 = 4;
/// The most places of own frames that are remembered.
const MAX_OWN_FRAMES: usize = 1 << 18;

/// The frame of an entry: own ones have the top bit.
const OWN: u32 = 1 << 31;

pub(super) struct Dedup {
    /// First 8 bytes of an id -> frame and slot.
    entries: HashMap<u64, (u32, u8)>,
    max_entries: usize,
    /// Only ids with this many zero bits at the end of their prefix are kept.
    sampling: u32,
    frames: Vec<FrameLoc>,
    own: VecDeque<Option<FrameLoc>>,
    own_base: u64,
    in_flight: HashMap<u64, Arc<Vec<ChunkId>>>,
    /// The ids of the frame that is being filled.
    open: Vec<ChunkId>,
    pending: Vec<(RunId, u32, u64)>,
    listed: bool,
    looked_up: u64,
    loaded: u64,
    committed: HashMap<RunId, bool>,
    packs: HashMap<PackId, bool>,
    excluded: HashSet<PackId>,
    last_hit: Option<(FrameAt, u16)>,
    /// Packs that something was found in.
    found: HashSet<PackId>,
}

impl Dedup {
    /// Starts empty. Nothing in an excluded pack is ever found.
    pub(super) fn new(vault: &Vault, excluded: HashSet<PackId>) -> Self {
        Self {
            entries: HashMap::new(),
            max_entries: vault.tuning.index_entries,
            sampling: 0,
            frames: vec![],
            own: VecDeque::new(),
            own_base: 0,
            in_flight: HashMap::new(),
            open: vec![],
            pending: vec![],
            listed: false,
            looked_up: 0,
            loaded: 0,
            committed: HashMap::new(),
            packs: HashMap::new(),
            excluded,
            last_hit: None,
            found: HashSet::new(),
        }
    }

    /// The packs that something was found in.
    pub(super) fn take_found(&mut self) -> HashSet<PackId> {
        std::mem::take(&mut self.found)
    }

    /// Where a chunk with this id is, if that is known.
    pub(super) fn find(
        &mut self,
        vault: &Vault,
        headers: &mut HeaderCache,
        id: &ChunkId,
    ) -> Result<Option<(FrameAt, u16)>, Error> {
        self.looked_up += crate::CHUNK_LEN as u64;
        self.load_earned(vault)?;
        let next = self.last_hit.map(|(at, slot)| (at, slot + 1));
        let listed = self
            .entries
            .get(&prefix_of(id))
            .and_then(|&(frame, slot)| Some((self.resolve(frame)?, u16::from(slot))));
        for (at, slot) in next.into_iter().chain(listed) {
            if self.holds(vault, headers, &at, usize::from(slot), id) {
                self.last_hit = Some((at, slot));
                if let FrameAt::Known(loc) = at {
                    self.found.insert(loc.pack);
                }
                return Ok(Some((at, slot)));
            }
        }
        Ok(None)
    }

    fn resolve(&self, frame: u32) -> Option<FrameAt> {
        if frame & OWN == 0 {
            return self.frames.get(frame as usize).copied().map(FrameAt::Known);
        }
        // Numbers of own frames are kept modulo 2^31; far fewer are remembered.
        let low = u64::from(frame & !OWN);
        let back = self.next_own().wrapping_sub(low) & u64::from(!OWN);
        let number = self.next_own().checked_sub(back)?;
        let at = self
            .own
            .get(usize::try_from(number.checked_sub(self.own_base)?).ok()?);
        Some(
            at.copied()
                .flatten()
                .map_or(FrameAt::Own(number), FrameAt::Known),
        )
    }

    /// Whether a candidate can be used and has this very id.
    fn holds(
        &mut self,
        vault: &Vault,
        headers: &mut HeaderCache,
        at: &FrameAt,
        slot: usize,
        id: &ChunkId,
    ) -> bool {
        if *at == FrameAt::Own(self.next_own()) {
            return self.open.get(slot) == Some(id);
        }
        self.ids(vault, headers, at)
            .is_some_and(|ids| ids.get(slot) == Some(id))
    }

    /// The number of the frame that is being filled.
    pub(super) fn next_own(&self) -> u64 {
        self.own_base + self.own.len() as u64
    }

    /// The ids of a candidate's frame; none when it cannot be used.
    fn ids(
        &mut self,
        vault: &Vault,
        headers: &mut HeaderCache,
        at: &FrameAt,
    ) -> Option<Arc<Vec<ChunkId>>> {
        let loc = match at {
            FrameAt::Own(number) => match self.in_flight.get(number) {
                Some(ids) => return Some(ids.clone()),
                None => self.own_frame(*number)?,
            },
            FrameAt::Known(loc) => *loc,
        };
        if self.excluded.contains(&loc.pack) || !self.is_there(vault, &loc) {
            return None;
        }
        match headers.ids(vault, &loc) {
            Ok(ids) => Some(ids),
            Err(error) => {
                tracing::warn!(pack = %vault.names.pack(loc.pack), %error, "not deduplicated against");
                self.packs.insert(loc.pack, false);
                None
            }
        }
    }

    /// Whether a frame's pack is there with its length; asked once per run.
    pub(super) fn is_there(&mut self, vault: &Vault, loc: &FrameLoc) -> bool {
        let asked = || has_length(vault, loc);
        *self.packs.entry(loc.pack).or_insert_with(asked)
    }

    /// Asks, several at once, what [`Dedup::is_there`] will be asked.
    pub(super) fn look_for(&mut self, vault: &Vault, frames: impl Iterator<Item = FrameLoc>) {
        if vault.width() == 1 {
            return;
        }
        let mut unknown: HashMap<PackId, FrameLoc> = HashMap::new();
        unknown.extend(frames.map(|loc| (loc.pack, loc)));
        unknown.retain(|pack, _| !self.packs.contains_key(pack));
        let unknown: Vec<FrameLoc> = unknown.into_values().collect();
        let there = side_by_side(vault.width(), &unknown, |loc| has_length(vault, loc));
        let packs = unknown.iter().map(|loc| loc.pack);
        self.packs.extend(packs.zip(there));
    }

    /// Asks, several at once, what finding these chunks will ask.
    pub(super) fn fetch<'a>(
        &mut self,
        vault: &Vault,
        headers: &mut HeaderCache,
        ids: impl Iterator<Item = &'a ChunkId>,
    ) -> Result<(), Error> {
        if vault.width() == 1 {
            return Ok(());
        }
        self.load_earned(vault)?;
        let candidates: HashSet<FrameLoc> = ids
            .filter_map(|id| self.entries.get(&prefix_of(id)))
            .filter_map(|&(frame, _)| match self.resolve(frame)? {
                FrameAt::Known(loc) => Some(loc),
                FrameAt::Own(_) => None,
            })
            .filter(|loc| !self.excluded.contains(&loc.pack))
            .collect();
        self.look_for(vault, candidates.iter().copied());
        let there = |loc: &FrameLoc| self.packs.get(&loc.pack) == Some(&true);
        headers.fetch(vault, candidates.into_iter().filter(there));
        Ok(())
    }

    /// Puts a new chunk into the frame that is being filled; gives its frame and slot.
    pub(super) fn add_own(&mut self, id: &ChunkId) -> (FrameAt, u16) {
        let (number, slot) = (self.next_own(), self.open.len());
        let low = u32::try_from(number & u64::from(!OWN)).unwrap_or(0);
        self.insert(prefix_of(id), OWN | low, slot);
        self.open.push(*id);
        (
            FrameAt::Own(number),
            u16::try_from(slot).unwrap_or(u16::MAX),
        )
    }

    /// The frame that was being filled is on its way; gives its number and ids.
    pub(super) fn sent(&mut self) -> (u64, Arc<Vec<ChunkId>>) {
        let (number, ids) = (self.next_own(), Arc::new(std::mem::take(&mut self.open)));
        self.own.push_back(None);
        self.in_flight.insert(number, ids.clone());
        if self.own.len() > MAX_OWN_FRAMES && self.own.front().is_some_and(Option::is_some) {
            self.own.pop_front();
            self.own_base += 1;
        }
        (number, ids)
    }

    /// A frame of this run is stored; gives its ids.
    pub(super) fn confirm(&mut self, number: u64, loc: FrameLoc) -> Arc<Vec<ChunkId>> {
        let at = number
            .checked_sub(self.own_base)
            .and_then(|at| usize::try_from(at).ok());
        if let Some(entry) = at.and_then(|at| self.own.get_mut(at)) {
            *entry = Some(loc);
        }
        self.packs.insert(loc.pack, true);
        self.in_flight.remove(&number).unwrap_or_default()
    }

    /// Where a frame of this run is, once it is stored.
    pub(super) fn own_frame(&self, number: u64) -> Option<FrameLoc> {
        let at = usize::try_from(number.checked_sub(self.own_base)?).ok()?;
        self.own.get(at).copied().flatten()
    }

    /// Whether it was taken in.
    fn insert(&mut self, prefix: u64, frame: u32, slot: usize) -> bool {
        while self.entries.len() >= self.max_entries && self.sampling < MAX_SAMPLING {
            self.sampling += 2;
            let mask = (1 << self.sampling) - 1;
            self.entries.retain(|prefix, _| (prefix >> 32) & mask == 0);
        }
        let mask = (1 << self.sampling) - 1;
        let room = self.entries.len() < self.max_entries && (prefix >> 32) & mask == 0;
        if room {
            self.entries
                .entry(prefix)
                .or_insert((frame, u8::try_from(slot).unwrap_or(0)));
        }
        room
    }

    /// Reads index objects, newest first, as far as the look-ups have earned it.
    fn load_earned(&mut self, vault: &Vault) -> Result<(), Error> {
        if !self.listed {
            self.listed = true;
            self.list(vault)?;
        }
        let earned = FREE_INDEX_BYTES + self.looked_up / BYTES_PER_INDEX_BYTE;
        loop {
            let mut due = vec![];
            while let Some(&(run, seq, len)) = self.pending.last()
                && self.loaded + len <= earned
                && due.len() < vault.width()
            {
                self.pending.pop();
                self.loaded += len;
                due.push((run, seq));
            }
            if due.is_empty() {
                return Ok(());
            }
            self.load(vault, &due);
        }
    }

    /// Lists the index objects. Ids of runs sort by age, and so do their names.
    fn list(&mut self, vault: &Vault) -> Result<(), Error> {
        let pending = &mut self.pending;
        list_each(&*vault.target, &vault.names.prefix("index/"), |entry| {
            if let Some(Named::Index(run, seq)) = vault.names.parse(&entry.name) {
                pending.push((run, seq, entry.len.get()));
            }
            if pending.len() >= 2 * MAX_INDEXES {
                pending.drain(..MAX_INDEXES);
            }
            Ok(())
        })
    }

    /// Reads some index objects and takes in those of committed runs.
    fn load(&mut self, vault: &Vault, due: &[(RunId, u32)]) {
        let read = side_by_side(vault.width(), due, |&(run, seq)| {
            read_index(vault, run, seq)
        });
        let mut indexes = vec![];
        for (&(run, seq), index) in due.iter().zip(read) {
            match index {
                Ok(index) => indexes.push((run, index)),
                Err(error) => {
                    tracing::warn!(index = %vault.names.index(run, seq), %error, "index not used");
                }
            }
        }
        let mut unknown: Vec<&(RunId, Index)> = indexes.iter().collect();
        unknown.retain(|(run, _)| !self.committed.contains_key(run));
        unknown.dedup_by_key(|(run, _)| *run);
        let known = side_by_side(vault.width(), &unknown, |(run, index)| {
            is_committed(vault, *run, index)
        });
        let runs = unknown.iter().map(|(run, _)| *run);
        self.committed.extend(runs.zip(known));
        for (run, index) in indexes {
            if self.committed.get(&run) == Some(&true) {
                self.take_in(run, &index);
            }
        }
    }

    /// Notes what an index says, as far as there is room.
    fn take_in(&mut self, run: RunId, index: &Index) {
        for pack in index.packs.iter().filter(|pack| pack.seq < FIRST_TREE_SEQ) {
            let id = PackId { run, seq: pack.seq };
            if self.excluded.contains(&id) {
                continue;
            }
            for frame in &pack.frames {
                let Ok(number) = u32::try_from(self.frames.len()) else {
                    return;
                };
                if number >= OWN {
                    return;
                }
                let mut taken = false;
                for (slot, &prefix) in frame.prefixes.iter().enumerate() {
                    taken |= self.insert(prefix, number, slot);
                }
                if taken {
                    self.frames.push(FrameLoc {
                        pack: id,
                        pack_len: pack.len,
                        spot: frame.spot,
                    });
                }
            }
        }
    }
}

/// Whether a frame's pack is in the target with its length; no when that cannot be told.
fn has_length(vault: &Vault, loc: &FrameLoc) -> bool {
    let len = vault.pack_len(loc.pack);
    len.is_ok_and(|len| len == Some(u64::from(loc.pack_len)))
}

fn read_index(vault: &Vault, run: RunId, seq: u32) -> Result<Index, Error> {
    let name = vault.names.index(run, seq);
    let body = vault.read_object(&name, Class::Index, run.to_bytes(), seq, MAX_INDEX_LEN)?;
    Index::decode(&body).map_err(|what| damaged(&name, what))
}

/// Whether a manifest names the run. Anything else, an error too, is a no.
fn is_committed(vault: &Vault, run: RunId, index: &Index) -> bool {
    let (volume, backup) = (index.volume_id, index.backup_id);
    let manifest = vault.manifest(volume, backup);
    manifest.is_ok_and(|manifest| manifest.run_id == run)
        && vault.refuse_deleted(volume, backup).is_ok()
}
