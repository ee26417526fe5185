//! One backup from preparation to commit.
//!
//! ```text
//!  prepare_backup            commit                      read_back
//!  run record ─> packs ─> index ─> [fence confirmed] ─> manifest ─> still ours? ─> record gone
//!       └────────────── error, cancel, abort, reap: everything of the run goes ──┘
//! ```
//!
//! Crash anywhere: the run's record is there and says which objects are its own;
//! [`Vault::reap_backup`] removes exactly those, or, when the manifest got there, keeps the backup.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use stillpoint_model::compression::CompressionLevel;
use stillpoint_model::id::{BackupId, RunId, VolumeId};
use stillpoint_model::progress::Monitor;
use stillpoint_model::{ByteCount, ByteRange, ErrorKind, Timestamp};

use crate::collect::epoch::Visible;
use crate::crew::both;
use crate::format::ContentHash;
use crate::format::manifest::{MAX_NOTE_LEN, MAX_NOTES, Manifest};
use crate::format::names::IdBytes;
use crate::format::object::Class;
use crate::format::pack::PackId;
use crate::format::run::Note;
use crate::ingest::{Missed, OpenRun, Trust, ingest};
use crate::locking::{KEEP_UNTIL, LOCKED_UNTIL, Lock};
use crate::volume::VolumeReader;
use crate::{COPIED_FROM, Error, MAX_VOLUME_LEN, RENEWS, TAKEN, Vault};

/// The note in a backup that says how hard it was compressed, where that is not as usual. What is made
/// of it anew, such as a copy, is compressed as hard.
pub const COMPRESSED_AT: &str = "compression_level";

/// The notes that the vault sets itself. There is always room for all of them.
const OWN_NOTES: [&str; 6] = [
    COMPRESSED_AT,
    KEEP_UNTIL,
    LOCKED_UNTIL,
    TAKEN,
    COPIED_FROM,
    RENEWS,
];

/// How hard a backup with these notes was compressed.
pub(crate) fn level_of(notes: &BTreeMap<String, String>) -> CompressionLevel {
    let noted = notes.get(COMPRESSED_AT).and_then(|text| text.parse().ok());
    let level = noted.and_then(|level: u8| CompressionLevel::try_from(level).ok());
    level.unwrap_or_default()
}

/// What to back up.
#[derive(Clone, Debug)]
pub struct BackupSpec<'a> {
    /// The new backup.
    pub backup_id: BackupId,
    /// The volume it is of.
    pub volume_id: VolumeId,
    /// The backup of the same volume in this vault to compare with and to share with.
    pub parent: Option<BackupId>,
    /// What may differ from the parent, in bytes; only this is read. None reads everything.
    /// Without a parent it must be none.
    pub changed: Option<&'a [ByteRange]>,
    /// Notes that are stored with the backup and shown by [`Vault::describe`]: at most 58, at
    /// most 4 KiB each. They are encrypted.
    pub metadata: BTreeMap<String, String>,
    /// Until when it is promised to stay. On a target that locks objects, everything it needs is locked
    /// at least so long before it counts as read back.
    pub keep_until: Option<Timestamp>,
}

/// What a backup came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The backup.
    pub backup_id: BackupId,
    /// The run that made it.
    pub run_id: RunId,
    /// The volume's size.
    pub provisioned: ByteCount,
    /// Bytes in chunks that are not zero.
    pub used: ByteCount,
    /// Bytes in chunks that differ from the parent; without one, as `used`.
    pub changed: ByteCount,
    /// Bytes that were written to the target.
    pub stored: ByteCount,
    /// Bytes that were read from the volume.
    pub bytes_read: ByteCount,
    /// The hash over the whole volume.
    pub content_hash: ContentHash,
}

/// A backup whose data is stored and that does not count yet.
#[derive(Debug)]
pub struct PreparedBackup {
    vault: Vault,
    backup_id: BackupId,
    manifest: Manifest,
    sealed: Vec<u8>,
    waited: Duration,
    missed: Missed,
    lock: Option<Lock>,
}

impl Vault {
    /// Stores what a backup needs, all but its manifest.
    ///
    /// On an error or a cancellation everything that this run wrote is removed again, as far as
    /// the target lets it; what is left, [`Vault::reap_backup`] removes later. `BackupExists`
    /// when the id has a manifest already.
    pub fn prepare_backup(
        &self,
        spec: &BackupSpec<'_>,
        source: &dyn VolumeReader,
        monitor: &dyn Monitor,
    ) -> Result<PreparedBackup, Error> {
        self.prepare((spec, Trust::Claims), &HashSet::new(), source, monitor)
    }

    /// As [`Vault::prepare_backup`], but reads everything and compares it with the parent, to prove
    /// that what `spec.changed` says is all: see [`PreparedBackup::missed`].
    pub fn prepare_proof(
        &self,
        spec: &BackupSpec<'_>,
        source: &dyn VolumeReader,
        monitor: &dyn Monitor,
    ) -> Result<PreparedBackup, Error> {
        self.prepare((spec, Trust::Proof), &HashSet::new(), source, monitor)
    }

    /// As [`Vault::prepare_backup`], and has nothing to do with some packs, as if they were marked.
    pub(crate) fn prepare_without(
        &self,
        avoided: &HashSet<PackId>,
        spec: &BackupSpec<'_>,
        source: &dyn VolumeReader,
        monitor: &dyn Monitor,
    ) -> Result<PreparedBackup, Error> {
        self.prepare((spec, Trust::Claims), avoided, source, monitor)
    }

    fn prepare(
        &self,
        (spec, trust): (&BackupSpec<'_>, Trust),
        avoided: &HashSet<PackId>,
        source: &dyn VolumeReader,
        monitor: &dyn Monitor,
    ) -> Result<PreparedBackup, Error> {
        self.require_writable()?;
        validate(spec, source)?;
        let name = self.names.manifest(spec.volume_id, spec.backup_id);
        // Asked before the record is there: what a later epoch condemns waits for this run.
        let (taken, epoch) = both(
            self.width(),
            || self.is_there(&name),
            || self.visible_epoch(),
        );
        if taken? {
            return Err(Error::BackupExists(spec.backup_id));
        }
        let epoch = epoch?;
        self.keep_reserve()?;
        let run_id = RunId::generate(&*self.env);
        let run = OpenRun {
            id: run_id,
            condemned: HashSet::new(),
            avoided: avoided.clone(),
        };
        let prepared = self
            .open_run(spec, run_id, epoch.begun)
            .and_then(|()| self.prepare_in_run((spec, trust), (run, epoch), source, monitor));
        if prepared.is_err()
            && let Err(error) = self.discard_run(spec.backup_id, run_id)
        {
            tracing::warn!(%run_id, %error, "a failed run left objects; reaping will remove them");
        }
        prepared
    }

    fn open_run(&self, spec: &BackupSpec<'_>, run_id: RunId, epoch: u32) -> Result<(), Error> {
        let name = self.names.run(spec.backup_id, run_id);
        let header = self.header(Class::Run, run_id.to_bytes());
        let note = Note {
            run_id,
            volume_id: spec.volume_id,
            at: self.env.now(),
            epoch,
        };
        let record = self.seal(&name, &header, note.encode())?;
        Ok(self.target.put_new(&name, &record)?)
    }

    fn prepare_in_run(
        &self,
        (spec, trust): (&BackupSpec<'_>, Trust),
        (mut run, epoch): (OpenRun, Visible),
        source: &dyn VolumeReader,
        monitor: &dyn Monitor,
    ) -> Result<PreparedBackup, Error> {
        let size = source.size();
        // The record is there: what is condemned from now on waits for this run. The plan is read
        // before the parent, so that a parent that went with its plan is missed.
        let plan = self.open_plan(epoch.done)?;
        let live = |id| self.live_parent(plan.as_ref(), spec.volume_id, id);
        let parent = spec.parent.map(live).transpose()?;
        let parent = parent.as_ref();
        let run_id = run.id;
        run.condemned = plan.into_iter().flat_map(|plan| plan.packs).collect();
        let found = ingest(self, (spec, trust), run, parent, source, monitor)?;
        let mut manifest = Manifest {
            volume_id: spec.volume_id,
            run_id,
            parent: spec.parent,
            created: self.env.now(),
            size,
            changed: found.changed,
            stored: found.stored,
            bytes_read: found.bytes_read,
            tracked: tracked_in_a_row(spec, trust, parent),
            content_hash: found.content_hash,
            root: found.root,
            metadata: BTreeMap::new(),
        };
        let lock = self.lock_shared(
            spec.keep_until,
            (run_id, found.packs),
            (manifest.top(), spec.parent.zip(parent)),
            &found.found,
            monitor,
        )?;
        manifest.metadata = with_lock(self.noted(spec), spec, lock.as_ref());
        let name = self.names.manifest(spec.volume_id, spec.backup_id);
        let header = self.header(Class::Manifest, spec.backup_id.to_bytes());
        // The manifest counts itself: its length does not depend on the number in it.
        let len = self.seal(&name, &header, manifest.encode())?.len();
        manifest.stored += ByteCount::new(len as u64);
        let header = self.header(Class::Manifest, spec.backup_id.to_bytes());
        let sealed = self.seal(&name, &header, manifest.encode())?;
        Ok(PreparedBackup {
            vault: self.clone(),
            backup_id: spec.backup_id,
            manifest,
            sealed,
            waited: found.waited,
            missed: found.missed,
            lock,
        })
    }
}

impl Vault {
    /// The notes of a backup, with the one of how hard it is compressed.
    fn noted(&self, spec: &BackupSpec<'_>) -> BTreeMap<String, String> {
        let mut notes = spec.metadata.clone();
        let level = self.tuning.zstd_level;
        notes.remove(COMPRESSED_AT);
        if level != i32::from(CompressionLevel::default().get()) {
            notes.insert(COMPRESSED_AT.to_owned(), level.to_string());
        }
        notes
    }
}

/// Notes with what was promised of a backup and what holds.
fn with_lock(
    mut notes: BTreeMap<String, String>,
    spec: &BackupSpec<'_>,
    lock: Option<&Lock>,
) -> BTreeMap<String, String> {
    let times = [
        (KEEP_UNTIL, spec.keep_until),
        (LOCKED_UNTIL, lock.map(|lock| lock.all)),
    ];
    for (note, time) in times {
        notes.remove(note);
        notes.extend(time.map(|time| (note.to_owned(), time.to_string())));
    }
    notes
}

/// How many backups in a row relied on change tracking, with the one of `spec`.
fn tracked_in_a_row(spec: &BackupSpec<'_>, trust: Trust, parent: Option<&Manifest>) -> u16 {
    match (spec.changed, trust, parent) {
        (Some(_), Trust::Claims, Some(parent)) => parent.tracked.saturating_add(1),
        _ => 0,
    }
}

fn validate(spec: &BackupSpec<'_>, source: &dyn VolumeReader) -> Result<(), Error> {
    if source.size().get() > MAX_VOLUME_LEN {
        return Err(Error::Invalid("the volume is too large"));
    }
    if spec.parent.is_none() && spec.changed.is_some() {
        return Err(Error::Invalid("changed ranges without a parent"));
    }
    if spec.parent == Some(spec.backup_id) {
        return Err(Error::Invalid("a backup cannot be its own parent"));
    }
    let short = |text: &String| text.len() <= MAX_NOTE_LEN;
    let of_others = |note: &&String| !OWN_NOTES.contains(&note.as_str());
    if spec.metadata.keys().filter(of_others).count() > MAX_NOTES - OWN_NOTES.len()
        || !spec
            .metadata
            .iter()
            .all(|(key, value)| short(key) && short(value))
    {
        return Err(Error::Invalid("too many or too long notes"));
    }
    Ok(())
}

impl PreparedBackup {
    /// The run that stored it.
    pub fn run_id(&self) -> RunId {
        self.manifest.run_id
    }

    /// How long nothing could be done but wait for the target.
    pub fn waited_for_target(&self) -> Duration {
        self.waited
    }

    /// What differs from the parent outside of what was said to have changed, when that was to be
    /// proven. It is stored as it is; whoever said what changed was wrong.
    pub fn missed(&self) -> &Missed {
        &self.missed
    }

    /// What it came to.
    pub fn receipt(&self) -> Receipt {
        Receipt {
            backup_id: self.backup_id,
            run_id: self.manifest.run_id,
            provisioned: self.manifest.size,
            used: self.manifest.used(),
            changed: self.manifest.changed,
            stored: self.manifest.stored,
            bytes_read: self.manifest.bytes_read,
            content_hash: self.manifest.content_hash,
        }
    }

    /// Puts the manifest, after `confirm` said that the caller's fence still holds.
    ///
    /// After `NotConfirmed` nothing was put. After an error of the target it may have been:
    /// committing again finds out and gives the receipt. `Reaped` says that somebody took the
    /// run back meanwhile; then the manifest is gone, too. Call [`Vault::read_back`] before
    /// anybody is told that the backup is available.
    pub fn commit(
        &self,
        confirm: &mut dyn FnMut() -> Result<(), ErrorKind>,
    ) -> Result<Receipt, Error> {
        let (run_id, names) = (self.run_id(), self.vault.names);
        let name = names.manifest(self.manifest.volume_id, self.backup_id);
        if let Some(lock) = &self.lock {
            // Locked packs of a run that is fenced would stay for nothing.
            confirm().map_err(|kind| Error::NotConfirmed { run_id, kind })?;
            self.vault.lock_run(run_id, lock)?;
        }
        confirm().map_err(|kind| Error::NotConfirmed { run_id, kind })?;
        match self.vault.target.put_new(&name, &self.sealed) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Conflict => self.is_ours()?,
            Err(error) => return Err(error.into()),
        }
        // Whoever reaps a run takes the manifest's name before anything else goes, and gives it
        // back at the very end. So the put above can succeed late only when all is gone.
        if self.vault.is_reaped(run_id)? {
            self.vault.target.delete(&name)?;
            return Err(Error::Reaped(run_id));
        }
        if let Err(error) = self.vault.target.delete(&names.run(self.backup_id, run_id)) {
            tracing::warn!(%run_id, %error, "the record of a committed run stays until reaping");
        }
        Ok(self.receipt())
    }

    /// Whether the manifest that is there already is this run's.
    fn is_ours(&self) -> Result<(), Error> {
        match self.vault.manifest(self.manifest.volume_id, self.backup_id) {
            Ok(there) if there.run_id == self.run_id() => Ok(()),
            Ok(_) => Err(Error::BackupExists(self.backup_id)),
            Err(Error::BackupNotFound(_)) => Err(Error::Reaped(self.run_id())),
            Err(error) => Err(error),
        }
    }

    /// Takes the run back: removes what it wrote. Refuses with `Conflict` when its manifest is
    /// there, because the backup counts then.
    pub fn abort(self) -> Result<(), Error> {
        match self
            .vault
            .reap_run(self.manifest.volume_id, self.backup_id, self.run_id())?
        {
            true => Ok(()),
            false => Err(Error::BackupExists(self.backup_id)),
        }
    }
}
