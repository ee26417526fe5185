//! The decisions of a collection, without any of its doing.
//!
//! Each takes what was seen and gives what to do, or why to give up. The runner asks them about a
//! target, the model asks them about every state that it can reach.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stillpoint_model::id::{BackupId, RunId, VolumeId};
use stillpoint_model::{ByteCount, ErrorKind, Timestamp};

use crate::format::epoch::{BackupKey, Doom, MAX_NAMED, MAX_PACKS, Plan, TombstoneHash};
use crate::format::pack::PackId;

/// What a collection may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectPolicy {
    /// How long a deleted backup can be undeleted.
    pub keep_deleted: Duration,
    /// How long what was decided waits before it is done.
    pub grace: Duration,
    /// The most that goes without confirmation, in hundredths of all packs' bytes.
    pub max_percent: u8,
    /// So many bytes may go whatever share that is, because somebody confirmed them.
    pub confirmed: ByteCount,
    /// So many bytes may go without confirmation whatever share that is: of a small vault a fifth
    /// is nothing to ask a person about.
    pub floor: ByteCount,
    /// By how much clocks may disagree.
    pub clock_skew: Duration,
    /// Backups that the caller knows to be there. A vault that lacks one is not collected.
    pub known: BTreeSet<(VolumeId, BackupId)>,
}

impl Default for CollectPolicy {
    /// A week to undelete, a day of grace, a fifth of the vault and no floor, five minutes of skew.
    fn default() -> Self {
        Self {
            keep_deleted: Duration::from_secs(7 * 24 * 3600),
            grace: Duration::from_secs(24 * 3600),
            max_percent: 20,
            confirmed: ByteCount::ZERO,
            floor: ByteCount::ZERO,
            clock_skew: Duration::from_secs(300),
            known: BTreeSet::new(),
        }
    }
}

/// Why a collection did not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An object is there and a listing lacked it.
    #[error(
        "a listing lacks backup {0}, which is there: listings of this target cannot be relied on"
    )]
    Unlisted(BackupId),
    /// The index of a run is there and a listing lacked it.
    #[error("a listing lacks what run {0} wrote: listings of this target cannot be relied on")]
    UnlistedRun(RunId),
    /// A backup that the caller knows is not there.
    #[error("backup {0} should be in the vault and is not")]
    KnownMissing(BackupId),
    /// A backup went away while a collection was open, and not through it.
    #[error("backup {0} went away during the collection; the next one begins anew")]
    Vanished(BackupId),
    /// A time in the vault is in this machine's future.
    #[error("the vault says {stamp} and this machine's clock {now}: one of them is wrong")]
    ClockBehind {
        /// The time in the vault.
        stamp: Timestamp,
        /// The time here.
        now: Timestamp,
    },
    /// The wall clock did not keep step while the collection ran.
    #[error("the clock jumped by {} s during the collection", .0.as_secs())]
    ClockJumped(Duration),
    /// More would go than may without confirmation.
    #[error("{bytes} of {total} would go; confirm that many to allow it")]
    TooMuch {
        /// What would go.
        bytes: ByteCount,
        /// What all packs have.
        total: ByteCount,
    },
}

impl Refusal {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unlisted(_) | Self::UnlistedRun(_) | Self::Vanished(_) => ErrorKind::Retry,
            Self::KnownMissing(_) => ErrorKind::Corrupt,
            Self::ClockBehind { .. } | Self::ClockJumped(_) | Self::TooMuch { .. } => {
                ErrorKind::Conflict
            }
        }
    }
}

/// A deletion of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Deletion {
    pub at: Timestamp,
    pub tombstone: TombstoneHash,
}

/// A backup that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Seen {
    pub run: RunId,
    pub created: Timestamp,
    pub deleted: Option<Deletion>,
}

/// What one look at a vault gave, **in this order**: packs, index objects, run records, backups.
///
/// So a pack's run has a record here, or had ended before the backups were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// Packs, with their lengths.
    pub packs: BTreeMap<PackId, u64>,
    /// Runs that have index objects.
    pub indexed: BTreeSet<RunId>,
    /// Runs that have a record, with the epoch that it names.
    pub runs: BTreeMap<RunId, u32>,
    /// Backups that have a manifest.
    pub backups: BTreeMap<BackupKey, Seen>,
}

impl Look {
    /// Runs that wrote something and have neither a record nor a manifest. Nothing is concluded from
    /// that before their index object was asked for by its name.
    pub fn unaccounted(&self) -> BTreeSet<RunId> {
        let committed: BTreeSet<RunId> = self.backups.values().map(|seen| seen.run).collect();
        let wrote = self.packs.keys().map(|pack| pack.run);
        let wrote = wrote.chain(self.indexed.iter().copied());
        wrote
            .filter(|run| !self.runs.contains_key(run) && !committed.contains(run))
            .collect()
    }

    /// Runs that have index objects, no record and no backup that was not deleted.
    pub fn unaccounted_indexes(&self) -> BTreeSet<RunId> {
        let alive = self.backups.values().filter(|seen| seen.deleted.is_none());
        let alive: BTreeSet<RunId> = alive.map(|seen| seen.run).collect();
        let indexed = self.indexed.iter().copied();
        indexed
            .filter(|run| !self.runs.contains_key(run) && !alive.contains(run))
            .collect()
    }

    /// Runs that may refer to what an epoch condemned, because they may have begun before it.
    pub fn older_than(&self, epoch: u32) -> Vec<RunId> {
        let older = self.runs.iter().filter(|(_, seen)| **seen < epoch);
        older.map(|(run, _)| *run).collect()
    }
}

/// Which backups are to be removed for good, if nothing speaks against collecting at all.
///
/// A backup whose run still has a record waits until that was reaped: whoever reaps must find the
/// manifest as long as there is a record.
pub(crate) fn expired(
    look: &Look,
    now: Timestamp,
    policy: &CollectPolicy,
) -> Result<BTreeSet<BackupKey>, Refusal> {
    if let Some((_, missing)) = policy
        .known
        .iter()
        .find(|key| !look.backups.contains_key(key))
    {
        return Err(Refusal::KnownMissing(*missing));
    }
    for seen in look.backups.values() {
        refuse_future(seen.created, now, policy)?;
        if let Some(deleted) = seen.deleted {
            refuse_future(deleted.at, now, policy)?;
        }
    }
    let is_over = |seen: &Seen| {
        let deleted = seen.deleted.map(|deleted| deleted.at);
        deleted.is_some_and(|at| at.saturating_add(policy.keep_deleted) <= now)
            && !look.runs.contains_key(&seen.run)
    };
    let expired = look.backups.iter().filter(|(_, seen)| is_over(seen));
    Ok(expired.map(|(key, _)| *key).take(MAX_NAMED).collect())
}

/// A time that others wrote must not be in the future here.
pub(crate) fn refuse_future(
    stamp: Timestamp,
    now: Timestamp,
    policy: &CollectPolicy,
) -> Result<(), Refusal> {
    if stamp > now.saturating_add(policy.clock_skew) {
        return Err(Refusal::ClockBehind { stamp, now });
    }
    Ok(())
}

/// What an epoch condemns: packs that no backup reaches but expired ones, unless their run is
/// under way; and the indexes of runs that have no backup left. None when there is nothing to do.
///
/// `used` is what all backups reach that are not in `expired`.
pub(crate) fn condemn(
    look: &Look,
    expired: &BTreeSet<BackupKey>,
    used: &BTreeSet<PackId>,
    now: Timestamp,
    policy: &CollectPolicy,
) -> Result<Option<Plan>, Refusal> {
    let is_dead = |pack: &PackId| !used.contains(pack) && !look.runs.contains_key(&pack.run);
    let dead = look.packs.iter().filter(|(pack, _)| is_dead(pack));
    let dead: Vec<(PackId, u64)> = dead
        .take(MAX_PACKS)
        .map(|(pack, len)| (*pack, *len))
        .collect();
    let bytes = dead.iter().map(|(_, len)| len).sum();
    let total: u64 = look.packs.values().sum();
    let allowed = total / 100 * u64::from(policy.max_percent);
    if bytes > allowed.max(policy.confirmed.get()).max(policy.floor.get()) {
        let (bytes, total) = (ByteCount::new(bytes), ByteCount::new(total));
        return Err(Refusal::TooMuch { bytes, total });
    }
    let gone = |key: &BackupKey| {
        let deleted = look.backups.get(key)?.deleted?;
        Some((*key, deleted.tombstone))
    };
    let kept = |key: &&BackupKey| !expired.contains(key);
    let plan = Plan {
        at: now,
        backups: expired.iter().filter_map(gone).collect(),
        kept: look.backups.keys().filter(kept).copied().collect(),
        packs: dead.into_iter().map(|(pack, _)| pack).collect(),
        runs: runs_without(look, expired),
    };
    let empty = plan.backups.is_empty() && plan.packs.is_empty() && plan.runs.is_empty();
    Ok((!empty).then_some(plan))
}

/// Runs with index objects that have no record and no backup but those in `gone`.
fn runs_without(look: &Look, gone: &BTreeSet<BackupKey>) -> Vec<RunId> {
    let kept = look.backups.iter().filter(|(key, _)| !gone.contains(key));
    let kept: BTreeSet<RunId> = kept.map(|(_, seen)| seen.run).collect();
    let over = |run: &&RunId| !look.runs.contains_key(run) && !kept.contains(run);
    let over = look.indexed.iter().filter(over);
    over.copied().take(MAX_NAMED).collect()
}

/// The backups of a plan that go: those whose tombstone is the very same as before the plan was
/// published. Whoever undeletes takes the tombstone away first and looks for a plan after that, so
/// for a backup that is in neither's way one of them sees the other.
pub(crate) fn still_deleted(plan: &Plan, look: &Look) -> BTreeSet<BackupKey> {
    let same = |(key, tombstone): &&(BackupKey, TombstoneHash)| {
        let deleted = look.backups.get(key).and_then(|seen| seen.deleted);
        deleted.is_some_and(|deleted| deleted.tombstone == *tombstone)
    };
    plan.backups
        .iter()
        .filter(same)
        .map(|(key, _)| *key)
        .collect()
}

/// A backup that was to stay, and that the second look lacks.
pub(crate) fn missing(plan: &Plan, look: &Look) -> Option<BackupKey> {
    let gone = |key: &&BackupKey| !look.backups.contains_key(key);
    plan.kept.iter().find(gone).copied()
}

/// What an epoch removes: of what it condemned, what the second look proves dead.
///
/// `gone` are the backups that go, `used` is what all others reach. No run older than the epoch
/// may have been there before the second look began.
pub(crate) fn doom(
    plan: &Plan,
    look: &Look,
    gone: &BTreeSet<BackupKey>,
    used: &BTreeSet<PackId>,
    now: Timestamp,
) -> Doom {
    let dead = |pack: &&PackId| !used.contains(pack) && !look.runs.contains_key(&pack.run);
    let over: BTreeSet<RunId> = runs_without(look, gone).into_iter().collect();
    let runs = plan.runs.iter().filter(|run| over.contains(run));
    Doom {
        at: now,
        backups: gone.iter().copied().collect(),
        packs: plan.packs.iter().filter(dead).copied().collect(),
        runs: runs.copied().collect(),
    }
}

/// What is left of a doom after the last look: a pack that something reaches after all is spared.
/// With a target that keeps its promises there is none.
pub(crate) fn spare(doom: &Doom, look: &Look, used: &BTreeSet<PackId>) -> Doom {
    let gone: BTreeSet<BackupKey> = doom.backups.iter().copied().collect();
    let over: BTreeSet<RunId> = runs_without(look, &gone).into_iter().collect();
    let dead = |pack: &&PackId| !used.contains(pack) && !look.runs.contains_key(&pack.run);
    Doom {
        at: doom.at,
        backups: doom.backups.clone(),
        packs: doom.packs.iter().filter(dead).copied().collect(),
        runs: doom
            .runs
            .iter()
            .filter(|run| over.contains(run))
            .copied()
            .collect(),
    }
}
