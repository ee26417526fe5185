//! Locking what a backup needs for as long as it is promised to stay.
//!
//! Where the target locks objects ([`Target::locks`](crate::target::Target::locks)), a backup that
//! is promised until a time is read back only once everything it needs is locked at least until then:
//! its packs and those it shares, its manifest, the vault's keys, and what is made of its packs.
//!
//! ```text
//!  new packs stored ─> what it shares is locked ─> new packs are locked ─> manifest ─> read back:
//!                                                                          the small ones are locked
//! ```
//!
//! **What it costs.** A lock is set for longer than was promised, by a quarter. Each manifest notes
//! until when *everything* below it is locked. A child that is promised for less inherits without a
//! single request; one that is promised for longer walks its tree once and locks all of it, again
//! with a quarter on top. So of daily backups that stay for a month one in a week touches old packs.
//! What is found by deduplication is asked for pack by pack.
//!
//! **Crash anywhere:** packs may be locked that no manifest reaches. They are garbage as any other,
//! and the collection leaves them until their time is over (see [`crate::collect`]). Everything up to
//! the lock of the new packs can be taken back without a trace.
//!
//! Not locked, because it is redundant or must go at any time: records of runs, proofs, tombstones,
//! marks, and the objects of a collection.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use stillpoint_model::id::{BackupId, RunId, VolumeId};
use stillpoint_model::progress::Monitor;
use stillpoint_model::{ErrorKind, Timestamp};

use crate::crew::all_of;
use crate::fetch::Position;
use crate::format::manifest::Manifest;
use crate::format::pack::PackId;
use crate::target::{ObjectName, TargetError, list_each};
use crate::vault::keys_of;
use crate::{Error, Vault};

/// The note in a backup that says until when it was promised to stay.
pub const KEEP_UNTIL: &str = "keep_until";
/// The note in a backup that says until when its target holds everything it needs.
pub const LOCKED_UNTIL: &str = "locked_until";

/// What is locked is locked for longer than it has to be, by this part.
const MARGIN: u32 = 4;
/// How many packs are locked between two looks at whether to stop.
const AT_ONCE: usize = 256;

/// How long what a run needs is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lock {
    /// The run's own packs until then.
    pub own: Timestamp,
    /// Everything at least until then.
    pub all: Timestamp,
    /// How many packs the run has.
    pub packs: usize,
}

/// The time that a note names.
pub(crate) fn noted(notes: &BTreeMap<String, String>, note: &str) -> Option<Timestamp> {
    notes.get(note)?.parse().ok()
}

/// When locks end that are set now for something that is promised until a time.
fn with_margin(promised: Timestamp, now: Timestamp) -> Timestamp {
    let promised_for = promised.duration_since(now);
    promised.saturating_add(promised_for / MARGIN)
}

impl Vault {
    /// The promise to a backup, as far as this target has to keep it: none where nothing is locked,
    /// and none that is over.
    fn promise(&self, until: Option<Timestamp>) -> Option<Timestamp> {
        until.filter(|until| self.target.locks() && *until > self.env.now())
    }

    /// Locks what a new tree shares with others; none where nothing is to be locked.
    pub(crate) fn lock_shared(
        &self,
        promised: Option<Timestamp>,
        (run, packs): (RunId, usize),
        (tree, parent): (Option<Position>, Option<(BackupId, &Manifest)>),
        found: &HashSet<PackId>,
        monitor: &dyn Monitor,
    ) -> Result<Option<Lock>, Error> {
        let Some(promised) = self.promise(promised) else {
            return Ok(None);
        };
        let own = with_margin(promised, self.env.now());
        let inherited = match parent {
            Some((id, parent)) if parent.root.is_some() => self
                .held_below(id, parent)?
                .filter(|until| *until >= promised),
            // Nothing is inherited.
            _ => Some(own),
        };
        let (all, mut shared) = match inherited {
            Some(until) => (until.min(own), found.clone()),
            None => (own, self.packs_below(tree, monitor)?),
        };
        shared.retain(|pack| pack.run != run);
        let shared: Vec<PackId> = shared.into_iter().collect();
        self.lock_packs(&shared, all, monitor)?;
        Ok(Some(Lock { own, all, packs }))
    }

    /// Until when everything below a backup is locked, as its manifest says. That it says so counts as
    /// long as it is locked itself: what was brought here from another bucket may not be.
    fn held_below(&self, id: BackupId, manifest: &Manifest) -> Result<Option<Timestamp>, Error> {
        let Some(noted) = noted(&manifest.metadata, LOCKED_UNTIL) else {
            return Ok(None);
        };
        let name = self.names.manifest(manifest.volume_id, id);
        match self.target.locked_until(&name) {
            Ok(until) => Ok(until.map(|until| until.min(noted))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn lock_packs(
        &self,
        packs: &[PackId],
        until: Timestamp,
        monitor: &dyn Monitor,
    ) -> Result<(), Error> {
        for some in packs.chunks(AT_ONCE) {
            if monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            all_of(self.width(), some, |pack| {
                Ok(self.target.lock_until(&self.names.pack(*pack), until)?)
            })?;
        }
        Ok(())
    }

    /// Locks every pack that a run wrote. A listing that lacks one locks nothing.
    pub(crate) fn lock_run(&self, run: RunId, lock: &Lock) -> Result<(), Error> {
        let packs = self.packs_of_run(run)?;
        if packs.len() != lock.packs {
            let prefix = self.names.packs_of(run);
            return Err(TargetError::new("lock", prefix.as_str(), ErrorKind::Retry).into());
        }
        let packs: Vec<PackId> = packs.into_iter().map(|(pack, _)| pack).collect();
        self.lock_packs(&packs, lock.own, &stillpoint_model::progress::NullMonitor)
    }

    /// Locks what makes the packs of a backup readable: its manifest and the vault's keys. And what is
    /// made of its packs, so that nothing is left to mend after somebody deleted all they could.
    pub(crate) fn lock_small(
        &self,
        volume: VolumeId,
        backup: BackupId,
        manifest: &Manifest,
    ) -> Result<(), Error> {
        let noted = noted(&manifest.metadata, LOCKED_UNTIL);
        let Some(until) = self
            .promise(noted)
            .filter(|_| self.require_writable().is_ok())
        else {
            return Ok(());
        };
        let mut names = vec![self.names.manifest(volume, backup)];
        let keys = keys_of(&*self.target, self.names)?;
        names.extend(keys.into_iter().map(|(number, _)| self.names.keys(number)));
        for prefix in [
            self.names.indexes_of(manifest.run_id),
            self.names.sums_of(manifest.run_id),
        ] {
            list_each(&*self.target, &prefix, |entry| {
                names.push(entry.name);
                Ok::<_, Error>(())
            })?;
        }
        all_of(self.width(), &names, |name| {
            Ok(self.target.lock_until(name, until)?)
        })?;
        Ok(())
    }

    /// Locks what says that a backup is read by another one, as long as that one is.
    pub(crate) fn lock_renewal(&self, name: &ObjectName, by: &Manifest) -> Result<(), Error> {
        match self.promise(noted(&by.metadata, LOCKED_UNTIL)) {
            Some(until) => Ok(self.target.lock_until(name, until)?),
            None => Ok(()),
        }
    }

    /// Whether an object is locked now. Where nobody asked for locks, nothing is asked.
    pub(crate) fn is_locked(&self, name: &ObjectName) -> Result<bool, Error> {
        if !self.target.locks() {
            return Ok(false);
        }
        match self.target.locked_until(name) {
            Ok(until) => Ok(until.is_some_and(|until| until > self.env.now())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes an object; false when it is locked and stays.
    pub(crate) fn delete_unlocked(&self, name: &ObjectName) -> Result<bool, Error> {
        match self.target.delete(name) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => {
                tracing::debug!(%name, %error, "it stays until its lock is over");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Those of some dead packs that are not locked. What a run wrote was locked at once, so that of
    /// each run no more is asked than until one is locked; the others go later.
    pub(crate) fn without_locked(
        &self,
        packs: impl Iterator<Item = PackId>,
        monitor: &dyn Monitor,
    ) -> Result<BTreeSet<PackId>, Error> {
        if !self.target.locks() {
            return Ok(packs.collect());
        }
        let mut runs: BTreeMap<RunId, Vec<PackId>> = BTreeMap::new();
        for pack in packs {
            runs.entry(pack.run).or_default().push(pack);
        }
        let runs: Vec<Vec<PackId>> = runs.into_values().collect();
        let mut free = BTreeSet::new();
        for some in runs.chunks(AT_ONCE) {
            if monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let found = all_of(self.width(), some, |packs| {
                let mut free = vec![];
                for pack in packs {
                    if self.is_locked(&self.names.pack(*pack))? {
                        break;
                    }
                    free.push(*pack);
                }
                Ok(free)
            })?;
            free.extend(found.into_iter().flatten());
        }
        Ok(free)
    }
}
