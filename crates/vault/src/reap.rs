//! Taking back runs that did not commit, and finding what no manifest names.
//!
//! Whoever reaps a run has made sure that its fence is stale. The run itself may not know yet: it
//! may have been stopped just before its manifest. So reaping first takes the manifest's name
//! with a void, which is a conditional create like the manifest: exactly one of them gets it. If
//! it is the manifest, the run committed and only its record goes. If it is the void, no manifest
//! of this run can appear until everything of it is gone, and a run that puts one after that
//! finds its first index object missing and takes the manifest away again.
//!
//! Packs that are locked already stay behind, as garbage that a collection removes when their time is over.
//!
//! Crash anywhere: the record goes last, so the next reaping goes on where this one stopped.

use std::collections::{BTreeSet, HashSet};

use stillpoint_model::ErrorKind;
use stillpoint_model::id::{BackupId, RunId, VolumeId};
use stillpoint_model::progress::{Monitor, NullMonitor};

use crate::crew::all_of;
use crate::fetch::{Position, TreeVisitor};
use crate::format::names::{IdBytes, Named};
use crate::format::object::Class;
use crate::format::pack::PackId;
use crate::format::run::Note;
use crate::format::tree::Leaf;
use crate::target::{ObjectName, TargetError, list_each};
use crate::{Error, Vault};

/// What reaping a backup's runs came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Runs that were taken back.
    pub runs: usize,
    /// Whether a run had committed: then the backup is there and was kept.
    pub committed: bool,
}

/// What no manifest names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unreferenced {
    /// Runs that are under way or crashed, with the backups they are for.
    pub runs: Vec<(BackupId, RunId)>,
    /// Packs and index objects of runs that are neither under way nor named by a manifest, and
    /// packs that are no longer used, and what was noted about packs and backups that are gone.
    pub objects: Vec<ObjectName>,
    /// Objects whose names belong to no class of this version.
    pub unknown: Vec<ObjectName>,
}

impl Vault {
    /// The backups that a run has a record for, with their volumes: under way, or left by a run that
    /// was cut off. Which of them are over only the caller can know.
    pub fn open_runs(&self) -> Result<BTreeSet<(VolumeId, BackupId)>, Error> {
        let mut records = vec![];
        list_each(&*self.target, &self.names.prefix("runs/"), |entry| {
            if let Some(Named::Run(backup, run)) = self.names.parse(&entry.name) {
                records.push((entry.name, backup, run));
            }
            Ok::<_, Error>(())
        })?;
        let open = all_of(self.width(), &records, |(name, backup, run)| {
            match self.read_note(name, Class::Run, run.to_bytes()) {
                Ok(note) => Ok(Some((note.volume_id, *backup))),
                Err(error) if error.is_missing() => Ok(None),
                Err(error) => Err(error),
            }
        })?;
        Ok(open.into_iter().flatten().collect())
    }

    /// Takes back every run for a backup that did not commit, and tidies up after one that did.
    /// The caller has fenced them. Doing it again changes nothing.
    pub fn reap_backup(&self, volume: VolumeId, backup: BackupId) -> Result<Reaped, Error> {
        let mut runs = vec![];
        let prefix = self.names.runs_of(backup);
        list_each(&*self.target, &prefix, |entry| {
            if let Some(Named::Run(_, run)) = self.names.parse(&entry.name) {
                runs.push(run);
            }
            Ok::<_, Error>(())
        })?;
        let mut reaped = Reaped::default();
        for run in runs {
            match self.reap_run(volume, backup, run)? {
                true => reaped.runs += 1,
                false => reaped.committed = true,
            }
        }
        self.target.abandon(&prefix)?;
        if reaped.runs > 0
            && let Err(error) = self.keep_reserve()
        {
            tracing::warn!(%error, "the reserve of the target is not there");
        }
        if !reaped.committed {
            reaped.committed = match self.manifest(volume, backup) {
                Ok(_) => true,
                Err(Error::BackupNotFound(_)) => false,
                Err(error) => return Err(error),
            };
        }
        Ok(reaped)
    }

    /// Takes one run back; false when it committed and was kept.
    pub(crate) fn reap_run(
        &self,
        volume: VolumeId,
        backup: BackupId,
        run: RunId,
    ) -> Result<bool, Error> {
        self.require_collectable()?;
        let name = self.names.manifest(volume, backup);
        let mut voided = match self.put_void(&name, volume, backup, run) {
            // Without room for a void even in the reserve, an index object makes room. See below.
            Err(error) if error.kind() == ErrorKind::Full => None,
            other => Some(other?),
        };
        if voided != Some(true) && self.has_committed(&name, volume, backup, run)? {
            self.target.delete(&self.names.run(backup, run))?;
            return Ok(false);
        }
        if voided == Some(true) && self.has_ended(backup, run)? {
            self.target.delete(&name)?;
            return Ok(true);
        }
        self.discard_under(&self.names.indexes_of(run))?;
        if voided.is_none() {
            voided = self.put_void(&name, volume, backup, run).ok();
            // A run that puts its manifest from here on finds its index gone. One that did so
            // just now may or may not have looked: whoever is left tells, the next time.
            if voided != Some(true) && self.has_committed(&name, volume, backup, run)? {
                return Err(TargetError::new("reap", &name, ErrorKind::Retry).into());
            }
        }
        self.discard_packs(run)?;
        if voided == Some(true) {
            self.target.delete(&name)?;
        }
        self.target.delete(&self.names.run(backup, run))?;
        Ok(true)
    }

    /// Whether the run is no more, so that its packs are not for a reaper. A collection removes no
    /// manifest whose run has a record: without one, the name was free because all is over.
    fn has_ended(&self, backup: BackupId, run: RunId) -> Result<bool, Error> {
        Ok(!self.is_there(&self.names.run(backup, run))?)
    }

    /// Whether the manifest that has the name is this run's. If it is another's, this run can
    /// never get it.
    fn has_committed(
        &self,
        name: &ObjectName,
        volume: VolumeId,
        backup: BackupId,
        run: RunId,
    ) -> Result<bool, Error> {
        match self.manifest(volume, backup) {
            Ok(manifest) => Ok(manifest.run_id == run),
            // A void of another run: somebody else is reaping.
            Err(Error::BackupNotFound(_)) if self.is_there(name)? => {
                Err(TargetError::new("reap", name, ErrorKind::Retry).into())
            }
            Err(Error::BackupNotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts a void where the manifest would be; false when the name is taken by anything but a
    /// void of the same run.
    fn put_void(
        &self,
        name: &ObjectName,
        volume: VolumeId,
        backup: BackupId,
        run: RunId,
    ) -> Result<bool, Error> {
        let header = self.header(Class::Void, backup.to_bytes());
        let note = Note {
            run_id: run,
            volume_id: volume,
            at: self.env.now(),
            epoch: 0,
        };
        let object = self.seal(name, &header, note.encode())?;
        match self.put_with_reserve(name, &object) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(self
                .read_void(volume, backup)
                .is_ok_and(|there| there.run_id == run)),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn read_void(&self, volume: VolumeId, backup: BackupId) -> Result<Note, Error> {
        self.read_note(
            &self.names.manifest(volume, backup),
            Class::Void,
            backup.to_bytes(),
        )
    }

    /// Removes everything of a run that never tried to commit.
    pub(crate) fn discard_run(&self, backup: BackupId, run: RunId) -> Result<(), Error> {
        self.discard_under(&self.names.indexes_of(run))?;
        self.discard_packs(run)?;
        Ok(self.target.delete(&self.names.run(backup, run))?)
    }

    /// Removes a run's packs, what they hash to, and what says that they are damaged.
    fn discard_packs(&self, run: RunId) -> Result<(), Error> {
        self.discard_under(&self.names.packs_of(run))?;
        self.discard_under(&self.names.sums_of(run))?;
        self.discard_under(&self.names.marks_of(run))
    }

    /// Removes everything under a prefix of one run, the first name before the others.
    pub(crate) fn discard_under(&self, prefix: &str) -> Result<(), Error> {
        let mut names = vec![];
        list_each(&*self.target, prefix, |entry| {
            names.push(entry.name);
            Ok::<_, Error>(())
        })?;
        // The first goes alone: that the first index object is gone says that the rest may be.
        let (first, rest) = names.split_at(names.len().min(1));
        // What is locked is dead all the same, and goes with a later collection.
        for names in [first, rest] {
            all_of(self.width(), names, |name| self.delete_unlocked(name))?;
        }
        Ok(self.target.abandon(prefix)?)
    }

    /// Whether everything of a run was taken back: its first index object is the first to go.
    pub(crate) fn is_reaped(&self, run: RunId) -> Result<bool, Error> {
        Ok(!self.is_there(&self.names.index(run, 0))?)
    }

    /// Everything in the vault that no manifest names, deleted backups' manifests included. It
    /// reads every manifest's tree and changes nothing.
    pub fn unreferenced(&self) -> Result<Unreferenced, Error> {
        let mut committed = HashSet::new();
        let listing = self.list_names(None)?;
        let manifests = listing.backups();
        let keys: Vec<_> = manifests.iter().copied().collect();
        let mut roots = vec![];
        for manifest in all_of(self.width(), &keys, |key| self.still(key.0, key.1))? {
            let Some(manifest) = manifest else { continue };
            committed.insert(manifest.run_id);
            roots.extend(manifest.top());
        }
        let used = self.packs_below(roots, &NullMonitor)?;
        let mut found = Unreferenced::default();
        let with_packs: HashSet<RunId> = used.iter().map(|pack| pack.run).collect();
        list_each(&*self.target, &self.names.prefix(""), |entry| {
            match self.names.parse(&entry.name) {
                Some(Named::Run(backup, run)) => found.runs.push((backup, run)),
                Some(Named::Pack(pack) | Named::Quarantined(pack)) if !used.contains(&pack) => {
                    found.objects.push(entry.name);
                }
                Some(Named::Proof(volume, backup)) if !manifests.contains(&(volume, backup)) => {
                    found.objects.push(entry.name);
                }
                Some(Named::Renewal(volume, backup))
                    if !listing.manifests.contains(&(volume, backup))
                        && self.current(volume, backup).is_err() =>
                {
                    found.objects.push(entry.name);
                }
                Some(Named::Index(run, _)) if !committed.contains(&run) => {
                    found.objects.push(entry.name);
                }
                Some(Named::Sums(run, _)) if !with_packs.contains(&run) => {
                    found.objects.push(entry.name);
                }
                Some(_) => {}
                None => found.unknown.push(entry.name),
            }
            Ok::<_, Error>(())
        })?;
        Ok(found)
    }
}

impl Vault {
    /// The packs that trees reach, whatever they share. A node that cannot be read is an error: what
    /// it names is not known.
    pub(crate) fn packs_below(
        &self,
        roots: impl IntoIterator<Item = Position>,
        monitor: &dyn Monitor,
    ) -> Result<HashSet<PackId>, Error> {
        let mut used = Used {
            packs: HashSet::new(),
            nodes: HashSet::new(),
            monitor,
        };
        self.walk_trees(roots, &mut used)?;
        Ok(used.packs)
    }
}

/// The packs that trees reach, as far as they were walked. Can be called off.
struct Used<'a> {
    packs: HashSet<PackId>,
    nodes: HashSet<(PackId, u32)>,
    monitor: &'a dyn Monitor,
}

impl TreeVisitor for Used<'_> {
    fn enter(&mut self, at: &Position) -> Result<bool, Error> {
        if self.monitor.is_cancelled() {
            return Err(Error::Cancelled);
        }
        self.packs.insert(at.node.pack);
        Ok(self.nodes.insert(at.place()))
    }

    fn leaf(&mut self, _at: &Position, leaf: Leaf) -> Result<(), Error> {
        self.packs
            .extend(leaf.frames.iter().map(|frame| frame.pack));
        Ok(())
    }
}
