//! Emptying packs that are mostly dead, so that a collection can delete them.
//!
//! ```text
//!  choose packs ─> for each backup that reaches one, the oldest first: store a successor that does
//!                  without them ─> read it back, prove what is new ─> renew the backup
//! ```
//!
//! Nothing is rewritten and nothing is deleted: a backup gets a successor as if what it has in the
//! chosen packs were damaged (see [`crate::repair`]), and is read by that from then on. Once no
//! backup reaches such a pack, it is dead as a whole, and the next collection takes it.
//!
//! **Guarantees** are those of a repair, which the model of the collection has: the old tree counts
//! until the renewal is there, and a child that began with the old tree keeps its packs. Crash or cancel
//! anywhere: what was renewed stays so, a run that was cut off is reaped, and the next call goes on with what
//! is left.
//!
//! **Left alone:** packs that a deleted backup reaches, because it may be undeleted; packs of runs
//! that are under way; packs that are locked, until they are not; backups that were renewed often. While anything is marked as damaged nothing
//! is emptied at all.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use stillpoint_model::id::{BackupId, RunId, VolumeId};
use stillpoint_model::progress::Monitor;
use stillpoint_model::{ByteCount, ErrorKind};

use crate::crew::all_of;
use crate::fetch::{Position, TreeVisitor};
use crate::format::names::Named;
use crate::format::pack::PackId;
use crate::format::tree::{Interior, Leaf};
use crate::repair::{Stored, Sum};
use crate::target::list_each;
use crate::{Error, Vault};

/// A backup that was renewed so often is not renewed to make room.
const LONG_LINE: usize = 8;
/// What a successor costs at least: its manifest, index, proof and renewal, and its nodes.
const SUCCESSOR_LEN: u64 = 128 << 10;
/// How many packs are looked at in one call: 32 GiB of them, some 10 MiB of notes.
const PACKS: usize = 8192;

/// When it pays to empty packs, and how much of that is done at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepackPolicy {
    /// Packs of which less is reached, in hundredths, are emptied.
    pub alive_percent: u8,
    /// Nothing is done for less than this.
    pub at_least: ByteCount,
    /// The most that is stored anew, about.
    pub at_most: ByteCount,
    /// The most backups that are renewed.
    pub backups: usize,
}

impl Default for RepackPolicy {
    /// A quarter, 64 MiB to be freed, 1 GiB to be stored, 64 backups.
    fn default() -> Self {
        Self {
            alive_percent: 25,
            at_least: ByteCount::from_mib(64),
            at_most: ByteCount::from_gib(1),
            backups: 64,
        }
    }
}

/// What emptying packs came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repacked {
    /// Packs that were chosen.
    pub packs: usize,
    /// About how much goes with them once no backup reaches them, beyond what is stored for it.
    pub would_free: ByteCount,
    /// Backups that were renewed.
    pub renewed: usize,
    /// What that stored.
    pub stored: ByteCount,
    /// Backups that still reach them: the next call goes on.
    pub left: usize,
}

/// What is to be done.
#[derive(Default)]
struct Choice {
    packs: HashSet<PackId>,
    /// The backups that reach them, the oldest of each volume first.
    backups: Vec<(VolumeId, BackupId)>,
    gain: u64,
}

impl Vault {
    /// Empties packs that are mostly dead: gives each backup that reaches one a successor which does
    /// without it. `confirm` says that the caller may still commit.
    ///
    /// It deletes nothing; the next collection does. Call it when a collection has nothing to do.
    pub fn repack(
        &self,
        policy: &RepackPolicy,
        confirm: &mut dyn FnMut() -> Result<(), ErrorKind>,
        monitor: &dyn Monitor,
    ) -> Result<Repacked, Error> {
        self.require_collectable()?;
        if !self.marked_packs()?.is_empty() {
            return Ok(Repacked::default());
        }
        let choice = self.choose(policy, monitor)?;
        let mut repacked = Repacked {
            packs: choice.packs.len(),
            would_free: ByteCount::new(choice.gain),
            left: choice.backups.len(),
            ..Repacked::default()
        };
        let mut sum = Sum::new(monitor);
        for &key in choice.backups.iter().take(policy.backups) {
            if monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let stored = self.do_without(key, &choice.packs, confirm, &mut sum)?;
            if let Some(stored) = stored {
                repacked.renewed += 1;
                repacked.stored += stored;
                repacked.left -= 1;
            }
        }
        Ok(repacked)
    }

    /// Renews a backup by one that does without some packs; gives what that stored.
    fn do_without(
        &self,
        (volume, backup): (VolumeId, BackupId),
        packs: &HashSet<PackId>,
        confirm: &mut dyn FnMut() -> Result<(), ErrorKind>,
        sum: &mut Sum<'_>,
    ) -> Result<Option<ByteCount>, Error> {
        let mut none = |_, _| Ok(vec![]);
        sum.next(false);
        let stored = self.store_successor((volume, backup), packs, &mut none, confirm, sum);
        let stored: Stored = match stored {
            Ok(stored) => stored,
            // It was deleted meanwhile, or its content cannot be read: that is a check's to find.
            Err(error @ (Error::Irreparable { .. } | Error::BackupDeleted(_))) => {
                tracing::warn!(%backup, %error, "a backup keeps its packs");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let manifest = self.manifest(volume, stored.backup)?;
        sum.next(false);
        let is_sound = self.proves_run(manifest.run_id, sum)?;
        let by = (stored.backup, &manifest);
        if !is_sound || !self.put_renewal(volume, stored.of, by)? {
            self.bury(volume, stored.backup)?;
            return Ok(None);
        }
        tracing::info!(%backup, by = %stored.backup, "a backup does without mostly dead packs");
        Ok(Some(stored.receipt.stored))
    }

    fn choose(&self, policy: &RepackPolicy, monitor: &dyn Monitor) -> Result<Choice, Error> {
        let open = self.runs_with_records()?;
        let mut lengths = self.pack_lengths()?;
        lengths.retain(|(pack, _)| !open.contains(&pack.run));
        let lengths = self.some_of(lengths);
        let (movable, fixed) = self.trees(monitor)?;
        let mut alive = Alive {
            packs: lengths.iter().map(|(pack, _)| *pack).collect(),
            frames: HashMap::new(),
            nodes: HashSet::new(),
            monitor,
        };
        let tops = movable.iter().map(|(_, top)| *top);
        self.walk_trees(tops.chain(fixed.iter().copied()), &mut alive)?;
        let alive = alive.bytes();
        let mut candidates: BTreeMap<PackId, u64> = BTreeMap::new();
        for (pack, len) in lengths {
            // What nobody reaches goes without help.
            let Some(bytes) = alive.get(&pack) else {
                continue;
            };
            if *bytes < len / 100 * u64::from(policy.alive_percent) {
                candidates.insert(pack, len - bytes);
            }
        }
        self.narrow(policy, candidates, &movable, &fixed, monitor)
    }

    /// Takes what pays of some candidates, each with the bytes that are dead in it.
    fn narrow(
        &self,
        policy: &RepackPolicy,
        mut candidates: BTreeMap<PackId, u64>,
        movable: &[((VolumeId, BackupId), Position)],
        fixed: &[Position],
        monitor: &dyn Monitor,
    ) -> Result<Choice, Error> {
        if candidates.values().sum::<u64>() < policy.at_least.get() {
            return Ok(Choice::default());
        }
        let free = self.without_locked(candidates.keys().copied(), monitor)?;
        candidates.retain(|pack, _| free.contains(pack));
        let names = candidates.keys().copied().collect();
        let mut reach = Reach::new(names, monitor);
        self.walk_trees(fixed.iter().copied(), &mut reach)?;
        for top in fixed {
            for pack in reach.under(top.place()) {
                candidates.remove(&pack);
            }
        }
        self.walk_trees(movable.iter().map(|(_, top)| *top), &mut reach)?;
        let mut chosen: Vec<(PackId, u64)> = candidates.into_iter().collect();
        chosen.sort_by_key(|(_, dead)| std::cmp::Reverse(*dead));
        // Of a pack that is chosen less is alive than dead.
        let mut dead = 0;
        chosen.retain(|(_, bytes)| {
            dead += bytes;
            dead <= policy.at_most.get().saturating_mul(3)
        });
        let packs: HashSet<PackId> = chosen.iter().map(|(pack, _)| *pack).collect();
        let needs = |top: &Position, reach: &mut Reach<'_>| {
            let under = reach.under(top.place());
            under.iter().any(|pack| packs.contains(pack))
        };
        let mut backups = vec![];
        for (key, top) in movable {
            if needs(top, &mut reach) {
                backups.push(*key);
            }
        }
        let gain: u64 = chosen.iter().map(|(_, dead)| dead).sum();
        let gain = gain.saturating_sub(backups.len() as u64 * SUCCESSOR_LEN);
        match gain >= policy.at_least.get() {
            true => Ok(Choice {
                packs,
                backups,
                gain,
            }),
            false => Ok(Choice::default()),
        }
    }

    /// The packs of chunks, by name, and their lengths.
    fn pack_lengths(&self) -> Result<Vec<(PackId, u64)>, Error> {
        let mut packs = vec![];
        list_each(&*self.target, &self.names.prefix("packs/"), |entry| {
            match self.names.parse(&entry.name) {
                Some(Named::Pack(pack)) if !pack.is_tree() => packs.push((pack, entry.len.get())),
                _ => {}
            }
            Ok::<_, Error>(())
        })?;
        Ok(packs)
    }

    /// As many neighbours as are looked at in one call, from anywhere.
    fn some_of(&self, mut packs: Vec<(PackId, u64)>) -> Vec<(PackId, u64)> {
        if packs.len() > PACKS {
            let mut random = [0; 8];
            self.env.fill_random(&mut random);
            let from = u64::from_le_bytes(random) % packs.len() as u64;
            packs.rotate_left(usize::try_from(from).unwrap_or(0));
            packs.truncate(PACKS);
        }
        packs
    }

    fn runs_with_records(&self) -> Result<HashSet<RunId>, Error> {
        let mut runs = HashSet::new();
        list_each(&*self.target, &self.names.prefix("runs/"), |entry| {
            if let Some(Named::Run(_, run)) = self.names.parse(&entry.name) {
                runs.insert(run);
            }
            Ok::<_, Error>(())
        })?;
        Ok(runs)
    }

    /// The trees of backups that may be renewed, and those of all others.
    #[expect(
        clippy::type_complexity,
        reason = "two lists that only one caller sees"
    )]
    fn trees(
        &self,
        monitor: &dyn Monitor,
    ) -> Result<(Vec<((VolumeId, BackupId), Position)>, Vec<Position>), Error> {
        let listing = self.list_names(None)?;
        let hidden = self.renewing(&listing)?;
        let shown: Vec<_> = (&listing.backups() - &hidden).into_iter().collect();
        let lines = all_of(self.width(), &shown, |&(volume, backup)| {
            match self.current_of_line(volume, backup) {
                Ok(found) => Ok(Some(found)),
                Err(Error::BackupNotFound(_)) => Ok(None),
                Err(error) => Err(error),
            }
        })?;
        if monitor.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let (mut movable, mut fixed) = (vec![], vec![]);
        for (key, found) in shown.into_iter().zip(lines) {
            let Some((line, manifest)) = found else {
                continue;
            };
            let is_fixed = listing.tombstones.contains(&key) || line.len() >= LONG_LINE;
            match manifest.top() {
                Some(top) if is_fixed => fixed.push(top),
                Some(top) => movable.push((key, top)),
                None => {}
            }
        }
        Ok((movable, fixed))
    }
}

/// How much of some packs is reached.
struct Alive<'a> {
    packs: HashSet<PackId>,
    /// Of each frame its length, and a bit for each chunk that is reached.
    frames: HashMap<(PackId, u32), (u32, u64)>,
    nodes: HashSet<(PackId, u32)>,
    monitor: &'a dyn Monitor,
}

impl Alive<'_> {
    /// About how many bytes of each pack are reached, and never too few. How many chunks a frame
    /// has is not known: at least as many as the last one that is reached says.
    fn bytes(self) -> HashMap<PackId, u64> {
        let mut packs: HashMap<PackId, u64> = HashMap::new();
        for ((pack, _), (len, slots)) in self.frames {
            let (reached, all) = (slots.count_ones(), u64::BITS - slots.leading_zeros());
            let bytes = u64::from(len) * u64::from(reached) / u64::from(all.max(1));
            *packs.entry(pack).or_default() += bytes;
        }
        packs
    }
}

impl TreeVisitor for Alive<'_> {
    fn enter(&mut self, at: &Position) -> Result<bool, Error> {
        match self.monitor.is_cancelled() {
            true => Err(Error::Cancelled),
            false => Ok(self.nodes.insert(at.place())),
        }
    }

    fn leaf(&mut self, _at: &Position, leaf: Leaf) -> Result<(), Error> {
        for extent in &leaf.extents {
            let Some(frame) = leaf.frames.get(usize::from(extent.frame)) else {
                continue;
            };
            if !self.packs.contains(&frame.pack) {
                continue;
            }
            let place = (frame.pack, frame.spot.offset);
            let (_, slots) = self.frames.entry(place).or_insert((frame.spot.len, 0));
            for slot in extent.slot..extent.slot.saturating_add(extent.count) {
                *slots |= 1 << slot.min(63);
            }
        }
        Ok(())
    }
}

/// Which of some packs each tree reaches.
struct Reach<'a> {
    packs: HashSet<PackId>,
    nodes: HashMap<(PackId, u32), Reached>,
    monitor: &'a dyn Monitor,
}

#[derive(Default)]
struct Reached {
    packs: BTreeSet<PackId>,
    /// Children that are not counted in `packs` yet.
    below: Vec<(PackId, u32)>,
}

impl<'a> Reach<'a> {
    fn new(packs: HashSet<PackId>, monitor: &'a dyn Monitor) -> Self {
        Self {
            packs,
            nodes: HashMap::new(),
            monitor,
        }
    }

    fn under(&mut self, place: (PackId, u32)) -> BTreeSet<PackId> {
        let Some(node) = self.nodes.get_mut(&place) else {
            return BTreeSet::new();
        };
        let below = std::mem::take(&mut node.below);
        let mut packs = node.packs.clone();
        if below.is_empty() {
            return packs;
        }
        for child in below {
            packs.append(&mut self.under(child));
        }
        if let Some(node) = self.nodes.get_mut(&place) {
            node.packs.clone_from(&packs);
        }
        packs
    }
}

impl TreeVisitor for Reach<'_> {
    fn enter(&mut self, at: &Position) -> Result<bool, Error> {
        if self.monitor.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let is_new = !self.nodes.contains_key(&at.place());
        self.nodes.entry(at.place()).or_default();
        Ok(is_new)
    }

    fn interior(&mut self, at: &Position, node: &Interior) {
        let below = at.children(node).map(|child| child.place());
        self.nodes.entry(at.place()).or_default().below = below.collect();
    }

    fn leaf(&mut self, at: &Position, leaf: Leaf) -> Result<(), Error> {
        let packs = leaf.frames.iter().map(|frame| frame.pack);
        let packs = packs.filter(|pack| self.packs.contains(pack)).collect();
        self.nodes.entry(at.place()).or_default().packs = packs;
        Ok(())
    }
}
