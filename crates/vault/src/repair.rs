//! Making damaged backups whole from what still has their content.
//!
//! ```text
//!  a check found damage          store the successor           prove         renew
//!  (packs are marked) ─> read what is sound from the backup, ─> read it ─> the backup is read by
//!                        the rest from the first source that    whole       its successor's tree
//!                        has it; dedup, packs, index, manifest
//! ```
//!
//! The successor is a backup like any other (see [`crate::renewal`]): its record, its commit under
//! a fence and its read-back are the usual ones, so a crash anywhere leaves what a crashed backup
//! leaves, or a successor that nobody names yet, which the next repair finds by its note.
//!
//! **What is believed.** A chunk of a source counts when it has the id that the frame's header has;
//! where that is lost too, the hash over the whole volume decides before anything is committed. So a
//! source that lies heals nothing. Only a backup whose own manifest is damaged has nothing that
//! could judge: there a copy is taken at the word of its vault.
//!
//! A successor is compressed as hard as the backup was: its note says how.
//!
//! No backup and no pack is deleted: what no backup needs any more goes with the next collection. Only
//! a renewal that is damaged itself is taken away, since what it named is found by its note.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use stillpoint_model::id::{BackupId, VolumeId};
use stillpoint_model::progress::Monitor;
use stillpoint_model::{ByteCount, ErrorKind};

use crate::backup::level_of;
use crate::crew::side_by_side;
use crate::fetch::HeaderCache;
use crate::format::CHUNK_LEN;
use crate::format::hash::ChunkId;
use crate::format::manifest::Manifest;
use crate::format::pack::PackId;
use crate::format::tree::LEAF_CHUNKS;
use crate::locking::{KEEP_UNTIL, noted};
use crate::reader::{BackupReader, ReadCache};
use crate::{
    BackupSpec, COPIED_FROM, CheckLevel, CheckReport, Error, RENEWS, Receipt, TAKEN, Vault,
    VolumeReader,
};

/// Memory for what was read and may be read again.
const CACHE: ByteCount = ByteCount::from_mib(16);
const LEAF: u64 = (LEAF_CHUNKS * CHUNK_LEN) as u64;

/// Something that may still have what a backup lost.
pub struct Source<'a> {
    /// Its content.
    pub reader: Box<dyn VolumeReader + 'a>,
    /// The notes of the copy, when it is a copy of this very backup and no other content; or those of the
    /// backup itself, when its copy is to be repaired.
    pub copy: Option<BTreeMap<String, String>>,
}

impl Source<'_> {
    /// The copy of a backup in another vault, or what it is a copy of: a copy has the vault's id as
    /// well as the backup's. None when it has none that counts.
    pub fn copy_in(
        other: &Vault,
        volume: VolumeId,
        backup: BackupId,
    ) -> Result<Option<Source<'static>>, Error> {
        let opened = other
            .refuse_deleted(volume, backup)
            .and_then(|()| other.describe(volume, backup))
            .and_then(|info| {
                let reader = other.open_backup(volume, backup, &ReadCache::new(CACHE))?;
                let mut notes = info.metadata;
                let of = notes.entry(COPIED_FROM.to_owned());
                of.or_insert_with(|| other.id().to_string());
                Ok((reader, notes))
            });
        match opened {
            Ok((reader, notes)) => Ok(Some(Source {
                reader: Box::new(reader),
                copy: Some(notes),
            })),
            Err(error) if error.is_of_one_object() || error.kind() == ErrorKind::NotFound => {
                tracing::warn!(%backup, %error, "the copy of a backup cannot be read");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// What a repair came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Backups that are whole again, and what that stored.
    pub renewed: Vec<(BackupId, Receipt)>,
    /// Backups that are damaged as before, and why.
    pub left: Vec<(BackupId, String)>,
}

/// A successor that is stored and that nobody is read by yet.
pub(crate) struct Stored {
    volume: VolumeId,
    /// The last of the damaged backup's line.
    pub of: BackupId,
    pub backup: BackupId,
    pub receipt: Receipt,
}

impl Vault {
    /// The backups that a check found to be affected and that can be repaired: none that was
    /// deleted, and what another one is read by as that other.
    pub fn to_repair(&self, report: &CheckReport) -> Result<BTreeSet<(VolumeId, BackupId)>, Error> {
        let (listing, affected) = (self.list_names(None)?, report.affected());
        let successors = self.renewing(&listing)?;
        let mut backups = &(&listing.backups() - &listing.tombstones) - &successors;
        backups.retain(|(_, backup)| affected.contains(backup));
        Ok(backups)
    }

    /// Makes damaged backups whole, as far as the sources that `open` gives for each have what they
    /// lost. The caller has just checked them, so that what is damaged is marked, and asks for none
    /// that is sound or deleted. `confirm` says that the caller may still commit.
    ///
    /// What is said to be renewed was read and proven down to every chunk. An error means that the
    /// repair could not go on; what was renewed before stays so, and it can be done again.
    pub fn repair_backups<'s>(
        &self,
        backups: &BTreeSet<(VolumeId, BackupId)>,
        open: &mut dyn FnMut(VolumeId, BackupId) -> Result<Vec<Source<'s>>, Error>,
        confirm: &mut dyn FnMut() -> Result<(), ErrorKind>,
        monitor: &dyn Monitor,
    ) -> Result<Repaired, Error> {
        self.require_collectable()?;
        let (mut repaired, mut stored) = (Repaired::default(), vec![]);
        let (mut sum, none) = (Sum::new(monitor), HashSet::new());
        // The oldest first: what one stores anew the next ones find.
        for (&(volume, backup), after) in backups.iter().zip((0..backups.len()).rev()) {
            sum.next(after == 0);
            match self.store_successor((volume, backup), &none, open, confirm, &sum) {
                Ok(successor) => stored.push((backup, successor)),
                Err(error) if is_hopeless(&error) => {
                    repaired.left.push((backup, error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        let successors = stored
            .iter()
            .map(|(_, it)| (it.volume, it.backup))
            .collect();
        monitor.proving();
        let report = self.verify_backups(&successors, CheckLevel::Decrypt, monitor)?;
        let affected = report.affected();
        for (backup, it) in stored {
            if affected.contains(&it.backup) {
                // What it shares is damaged, too, and is marked now: the next repair does without it.
                self.bury(it.volume, it.backup)?;
                let why = "what it shares with others is damaged, too";
                repaired.left.push((backup, why.to_owned()));
                continue;
            }
            let manifest = self.manifest(it.volume, it.backup)?;
            if !self.put_renewal(it.volume, it.of, (it.backup, &manifest))? {
                // Somebody else repaired it meanwhile; one successor is enough.
                self.bury(it.volume, it.backup)?;
            }
            tracing::info!(%backup, by = %it.backup, "a damaged backup is whole again");
            repaired.renewed.push((backup, it.receipt));
        }
        Ok(repaired)
    }

    /// Stores the content of a damaged backup under a new one, or finds the one that an earlier
    /// repair stored.
    pub(crate) fn store_successor<'s>(
        &self,
        (volume, backup): (VolumeId, BackupId),
        avoided: &HashSet<PackId>,
        open: &mut dyn FnMut(VolumeId, BackupId) -> Result<Vec<Source<'s>>, Error>,
        confirm: &mut dyn FnMut() -> Result<(), ErrorKind>,
        monitor: &dyn Monitor,
    ) -> Result<Stored, Error> {
        self.refuse_deleted(volume, backup)?;
        let of = self.last_of_line(volume, backup)?;
        let own = match self.current(volume, backup) {
            Ok(manifest) => Some(manifest),
            Err(error) if error.is_damage() || matches!(error, Error::BackupNotFound(_)) => None,
            Err(error) => return Err(error),
        };
        if let Some((successor, receipt)) = self.unnamed_successor(volume, of, own.as_ref())? {
            return Ok(Stored {
                volume,
                of,
                backup: successor,
                receipt,
            });
        }
        let sources = open(volume, backup)?;
        let mender = Mender::new(self, (volume, backup), own.as_ref(), &sources)?;
        let successor = BackupId::generate(&*self.env);
        let metadata = notes(of, own.as_ref(), &sources);
        let spec = BackupSpec {
            backup_id: successor,
            volume_id: volume,
            parent: own.as_ref().map(|_| backup),
            changed: own.as_ref().map(|_| &[][..]),
            keep_until: noted(&metadata, KEEP_UNTIL),
            metadata,
        };
        let alike = self.clone().compressing_at(level_of(&spec.metadata));
        let prepared = match alike.prepare_without(avoided, &spec, &mender, monitor) {
            Err(Error::Source { .. }) if mender.is_lost.get() => {
                let what = "no source has what it lost";
                return Err(Error::Irreparable { backup, what });
            }
            other => other?,
        };
        let content = prepared.receipt().content_hash;
        if own.as_ref().is_some_and(|own| own.content_hash != content) {
            prepared.abort()?;
            let what = "the sources hold something else in place of what it lost";
            return Err(Error::Irreparable { backup, what });
        }
        let receipt = prepared.commit(confirm)?;
        self.read_back(volume, successor, monitor)?;
        Ok(Stored {
            volume,
            of,
            backup: successor,
            receipt,
        })
    }

    /// The last of a backup's line. A renewal that is damaged says nothing and is taken away: what
    /// it named is found by its note.
    fn last_of_line(&self, volume: VolumeId, backup: BackupId) -> Result<BackupId, Error> {
        loop {
            match self.lineage(volume, backup) {
                Err(Error::Corrupt { object, what }) => {
                    tracing::warn!(%object, what, "a renewal that is damaged is taken away");
                    self.target.delete(&object)?;
                }
                other => return Ok(other?.pop().unwrap_or(backup)),
            }
        }
    }

    /// A successor that was committed by a repair that was cut off before it could say so.
    fn unnamed_successor(
        &self,
        volume: VolumeId,
        of: BackupId,
        own: Option<&Manifest>,
    ) -> Result<Option<(BackupId, Receipt)>, Error> {
        let listing = self.list_names(Some(volume))?;
        let taken = self.renewing(&listing)?;
        let alive: Vec<_> = listing.manifests.difference(&listing.tombstones).collect();
        let read = side_by_side(self.width(), &alive, |key| self.manifest(key.0, key.1));
        for (key, manifest) in alive.into_iter().zip(read) {
            let Ok(manifest) = manifest else {
                continue;
            };
            let renews = manifest
                .metadata
                .get(RENEWS)
                .is_some_and(|id| *id == of.to_string());
            let is_same = own.is_none_or(|own| own.content_hash == manifest.content_hash);
            if renews && is_same && !taken.contains(key) {
                self.read_back(volume, key.1, &stillpoint_model::progress::NullMonitor)?;
                return Ok(Some((key.1, receipt_of(key.1, &manifest))));
            }
        }
        Ok(None)
    }
}

/// Whether another source, another day or a newer version is what a backup needs.
fn is_hopeless(error: &Error) -> bool {
    matches!(
        error,
        Error::Irreparable { .. } | Error::BackupDeleted(_) | Error::Unsupported { .. }
    )
}

fn receipt_of(backup_id: BackupId, manifest: &Manifest) -> Receipt {
    Receipt {
        backup_id,
        run_id: manifest.run_id,
        provisioned: manifest.size,
        used: manifest.used(),
        changed: manifest.changed,
        stored: manifest.stored,
        bytes_read: manifest.bytes_read,
        content_hash: manifest.content_hash,
    }
}

/// The notes of a successor: those of the backup, or of its copy, whose content it has, and when.
fn notes(of: BackupId, own: Option<&Manifest>, sources: &[Source<'_>]) -> BTreeMap<String, String> {
    let copy = sources.iter().find_map(|source| source.copy.clone());
    let mut notes = match own {
        Some(own) => own.metadata.clone(),
        None => copy.unwrap_or_default(),
    };
    if let Some(own) = own {
        let taken = own.created.to_string();
        notes.entry(TAKEN.to_owned()).or_insert(taken);
    }
    notes.remove(COPIED_FROM);
    notes.insert(RENEWS.to_owned(), of.to_string());
    notes
}

/// Several backups, one after the other, as one progress. How much there is of those to come is not
/// known.
pub(crate) struct Sum<'a> {
    monitor: &'a dyn Monitor,
    before: u64,
    now: AtomicU64,
    is_last: bool,
}

impl<'a> Sum<'a> {
    pub(crate) fn new(monitor: &'a dyn Monitor) -> Self {
        Self {
            monitor,
            before: 0,
            now: AtomicU64::new(0),
            is_last: false,
        }
    }

    /// Another one begins; none comes after the last.
    pub(crate) fn next(&mut self, is_last: bool) {
        self.before += std::mem::take(self.now.get_mut());
        self.is_last = is_last;
    }
}

impl Monitor for Sum<'_> {
    fn progress(&self, done: ByteCount, total: Option<ByteCount>) {
        self.now.store(done.get(), Ordering::Relaxed);
        let before = ByteCount::new(self.before);
        let total = total.filter(|_| self.is_last);
        self.monitor
            .progress(before + done, total.map(|total| before + total));
    }

    fn is_cancelled(&self) -> bool {
        self.monitor.is_cancelled()
    }
}

/// A backup's content: what is sound from the backup, what is not from the first source that has it.
struct Mender<'a> {
    vault: &'a Vault,
    own: Option<BackupReader>,
    sources: &'a [Source<'a>],
    size: ByteCount,
    headers: RefCell<HeaderCache>,
    /// Leaves that cannot be read: none of their chunks need be asked for.
    gone: RefCell<HashSet<u64>>,
    /// Whether something is in no source.
    is_lost: Cell<bool>,
}

impl<'a> Mender<'a> {
    fn new(
        vault: &'a Vault,
        (volume, backup): (VolumeId, BackupId),
        own: Option<&Manifest>,
        sources: &'a [Source<'a>],
    ) -> Result<Self, Error> {
        let copy = sources.iter().find(|source| {
            let from = source
                .copy
                .as_ref()
                .and_then(|notes| notes.get(COPIED_FROM));
            from.is_some_and(|from| *from == vault.id().to_string())
        });
        let size = match (own, copy) {
            (Some(own), _) => own.size,
            (None, Some(copy)) => copy.reader.size(),
            (None, None) => {
                let what = "its manifest is lost, and there is no copy of it";
                return Err(Error::Irreparable { backup, what });
            }
        };
        let open = |_| vault.open_backup(volume, backup, &ReadCache::new(CACHE));
        Ok(Self {
            vault,
            own: own.map(open).transpose()?,
            sources,
            size,
            headers: RefCell::default(),
            gone: RefCell::default(),
            is_lost: Cell::new(false),
        })
    }

    fn chunk(&self, at: u64, part: &mut [u8]) -> io::Result<()> {
        if self.is_own(at, part)? {
            return Ok(());
        }
        let wanted = self.wanted(at);
        for source in self.sources {
            // Without a manifest of our own only a copy of this backup says what it held.
            let may = self.own.is_some() || source.copy.is_some();
            let end = at + part.len() as u64;
            if !may || source.reader.size().get() < end {
                continue;
            }
            match source.reader.read_at(at, part) {
                Ok(()) if wanted.is_none_or(|id| id == self.id_of(part)) => return Ok(()),
                Ok(()) => {}
                Err(error) => tracing::warn!(at, %error, "a source of a repair cannot be read"),
            }
        }
        self.is_lost.set(true);
        Err(io::Error::other("nothing has what was there"))
    }

    /// Reads it from the backup itself, if that still has it.
    fn is_own(&self, at: u64, part: &mut [u8]) -> io::Result<bool> {
        let Some(own) = &self.own else {
            return Ok(false);
        };
        let leaf = at / LEAF;
        if self.gone.borrow().contains(&leaf) {
            return Ok(false);
        }
        match own.read_at(at, part) {
            Ok(()) => Ok(true),
            Err(error) if error.is_damage() => {
                if own.place_of(at).is_err() {
                    self.gone.borrow_mut().insert(leaf);
                }
                Ok(false)
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// The id that a chunk must have, where that is still known.
    fn wanted(&self, at: u64) -> Option<ChunkId> {
        let own = self.own.as_ref()?;
        if self.gone.borrow().contains(&(at / LEAF)) {
            return None;
        }
        let (frame, slot) = own.place_of(at).ok()??;
        let ids = self.headers.borrow_mut().ids(self.vault, &frame).ok()?;
        ids.get(slot).copied()
    }

    fn id_of(&self, part: &[u8]) -> ChunkId {
        let mut chunk = part.to_vec();
        chunk.resize(CHUNK_LEN, 0);
        self.vault.keys.hasher.chunk(&chunk)
    }
}

impl VolumeReader for Mender<'_> {
    fn size(&self) -> ByteCount {
        self.size
    }

    /// Chunk by chunk: one may be sound and its neighbour lost.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut at = offset;
        for part in buf.chunks_mut(CHUNK_LEN) {
            self.chunk(at, part)?;
            at += part.len() as u64;
        }
        Ok(())
    }
}
