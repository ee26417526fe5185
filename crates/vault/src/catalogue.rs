//! Which backups a vault holds; deleting and undeleting them.

use std::collections::{BTreeMap, BTreeSet};

use stillpoint_model::id::{BackupId, RunId, VolumeId};
use stillpoint_model::{ByteCount, ErrorKind, Timestamp};

use crate::crew::{all_of, both};
use crate::format::ContentHash;
use crate::format::manifest::Manifest;
use crate::format::names::{IdBytes, Named};
use crate::format::object::Class;
use crate::format::run::{MAX_NOTE_OBJECT_LEN, Note};
use crate::target::{ObjectName, list_each};
use crate::vault::damaged;
use crate::{Error, Vault};

/// What a vault says about a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupInfo {
    /// The backup.
    pub backup_id: BackupId,
    /// The volume it is of.
    pub volume_id: VolumeId,
    /// The run that made it.
    pub run_id: RunId,
    /// The backup it was compared with. It needs it no more.
    pub parent: Option<BackupId>,
    /// When its manifest was made.
    pub created: Timestamp,
    /// The volume's size.
    pub provisioned: ByteCount,
    /// Bytes in chunks that are not zero.
    pub used: ByteCount,
    /// Bytes in chunks that differ from the parent.
    pub changed: ByteCount,
    /// Bytes that it added to the target.
    pub stored: ByteCount,
    /// Bytes that were read from the volume.
    pub bytes_read: ByteCount,
    /// How many backups in a row, this one included, relied on change tracking alone.
    pub tracked: u16,
    /// The hash over the whole volume.
    pub content_hash: ContentHash,
    /// The notes that were stored with it.
    pub metadata: BTreeMap<String, String>,
    /// When it was deleted, if it was.
    pub deleted: Option<Timestamp>,
}

impl BackupInfo {
    fn new(backup_id: BackupId, manifest: Manifest, deleted: Option<Timestamp>) -> Self {
        Self {
            backup_id,
            volume_id: manifest.volume_id,
            run_id: manifest.run_id,
            parent: manifest.parent,
            created: manifest.created,
            provisioned: manifest.size,
            used: manifest.used(),
            changed: manifest.changed,
            stored: manifest.stored,
            bytes_read: manifest.bytes_read,
            tracked: manifest.tracked,
            content_hash: manifest.content_hash,
            metadata: manifest.metadata,
            deleted,
        }
    }
}

/// What is under `volumes/`, by name.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub manifests: BTreeSet<(VolumeId, BackupId)>,
    pub tombstones: BTreeSet<(VolumeId, BackupId)>,
    pub renewals: BTreeSet<(VolumeId, BackupId)>,
}

impl Listing {
    /// Every backup: one that was renewed is there without its own manifest, too.
    pub fn backups(&self) -> BTreeSet<(VolumeId, BackupId)> {
        &self.manifests | &self.renewals
    }
}

impl Vault {
    /// Every name of a backup, from one listing of one prefix.
    pub(crate) fn list_names(&self, volume: Option<VolumeId>) -> Result<Listing, Error> {
        let prefix = match volume {
            Some(volume) => self.names.volume(volume),
            None => self.names.prefix("volumes/"),
        };
        let mut listing = Listing::default();
        list_each(&*self.target, &prefix, |entry| {
            match self.names.parse(&entry.name) {
                Some(Named::Manifest(volume, backup)) => {
                    listing.manifests.insert((volume, backup));
                }
                Some(Named::Tombstone(volume, backup)) => {
                    listing.tombstones.insert((volume, backup));
                }
                Some(Named::Renewal(volume, backup)) => {
                    listing.renewals.insert((volume, backup));
                }
                _ => {}
            }
            Ok::<_, Error>(())
        })?;
        Ok(listing)
    }

    /// The backups of a volume or of the whole vault, deleted ones too, by volume and age. One
    /// that holds what another lost is shown as that other.
    ///
    /// A manifest that cannot be read is an error with its name: use [`Vault::check`] to learn
    /// about the others.
    pub fn list_backups(&self, volume: Option<VolumeId>) -> Result<Vec<BackupInfo>, Error> {
        let listing = self.list_names(volume)?;
        let hidden = self.renewing(&listing)?;
        let shown: Vec<_> = (&listing.backups() - &hidden).into_iter().collect();
        let backups = all_of(self.width(), &shown, |&(volume, backup)| {
            // A run that is being reaped, or a backup that went away since the listing.
            let Some(manifest) = self.still(volume, backup)? else {
                return Ok(None);
            };
            let deleted = match listing.tombstones.contains(&(volume, backup)) {
                true => self.deleted_at(volume, backup)?,
                false => None,
            };
            Ok(Some(BackupInfo::new(backup, manifest, deleted)))
        })?;
        Ok(backups.into_iter().flatten().collect())
    }

    /// What the vault says about a backup, deleted or not.
    pub fn describe(&self, volume: VolumeId, backup: BackupId) -> Result<BackupInfo, Error> {
        let (deleted, manifest) = both(
            self.width(),
            || self.deleted_at(volume, backup),
            || self.current(volume, backup),
        );
        let (manifest, deleted) = (manifest?, deleted?);
        Ok(BackupInfo::new(backup, manifest, deleted))
    }

    /// The volume that a backup is of, by the names alone.
    pub fn volume_of(&self, backup: BackupId) -> Result<VolumeId, Error> {
        let listing = self.list_names(None)?;
        let all = listing.backups().into_iter();
        let mut of_backup = all.filter(|(_, id)| *id == backup);
        of_backup
            .next()
            .map(|(volume, _)| volume)
            .ok_or(Error::BackupNotFound(backup))
    }

    /// The manifest of a backup that was not deleted.
    pub(crate) fn live_manifest(
        &self,
        volume: VolumeId,
        backup: BackupId,
    ) -> Result<Manifest, Error> {
        let (_, manifest) = self.live_line(volume, backup)?;
        Ok(manifest)
    }

    /// A backup that was not deleted with its successors, and the manifest that it is read by.
    pub(crate) fn live_line(
        &self,
        volume: VolumeId,
        backup: BackupId,
    ) -> Result<(Vec<BackupId>, Manifest), Error> {
        let (alive, found) = both(
            self.width(),
            || self.refuse_deleted(volume, backup),
            || self.current_of_line(volume, backup),
        );
        let found = found?;
        alive?;
        Ok(found)
    }

    /// `BackupDeleted` when it has a tombstone.
    pub(crate) fn refuse_deleted(&self, volume: VolumeId, backup: BackupId) -> Result<(), Error> {
        match self.is_there(&self.names.tombstone(volume, backup))? {
            true => Err(Error::BackupDeleted(backup)),
            false => Ok(()),
        }
    }

    fn deleted_at(&self, volume: VolumeId, backup: BackupId) -> Result<Option<Timestamp>, Error> {
        let name = self.names.tombstone(volume, backup);
        match self.read_note(&name, Class::Tombstone, backup.to_bytes()) {
            Ok(note) if note.volume_id == volume => Ok(Some(note.at)),
            Ok(_) => Err(Error::Corrupt {
                object: name,
                what: "it is of another volume",
            }),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn read_note(
        &self,
        name: &ObjectName,
        class: Class,
        id: [u8; 16],
    ) -> Result<Note, Error> {
        let body = self.read_object(name, class, id, 0, MAX_NOTE_OBJECT_LEN)?;
        Note::decode(&body).map_err(|what| damaged(name, what))
    }

    /// Deletes a backup: writes a tombstone beside its manifest. Its data stays until a
    /// collection; until then it can be undeleted. Deleting twice is deleting once. It works on a
    /// target that is full.
    ///
    /// What was made to renew it goes with it, and only with it.
    pub fn delete_backup(&self, volume: VolumeId, backup: BackupId) -> Result<(), Error> {
        self.require_writable()?;
        self.refuse_needed(volume, backup)?;
        // The backup first: as long as it is alive, so is what it is read by.
        for backup in self.lineage(volume, backup)? {
            self.bury(volume, backup)?;
        }
        Ok(())
    }

    /// Puts the tombstone of one backup.
    pub(crate) fn bury(&self, volume: VolumeId, backup: BackupId) -> Result<(), Error> {
        let run_id = self.current(volume, backup)?.run_id;
        let name = self.names.tombstone(volume, backup);
        let header = self.header(Class::Tombstone, backup.to_bytes());
        let note = Note {
            run_id,
            volume_id: volume,
            at: self.env.now(),
            epoch: 0,
        };
        let object = self.seal(&name, &header, note.encode())?;
        match self.put_with_reserve(&name, &object) {
            Err(error) if error.kind() != ErrorKind::Conflict => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes a deletion back. `BeingCollected` when a collection has begun to remove the backup;
    /// whether it goes then is not known before that collection is done.
    pub fn undelete_backup(&self, volume: VolumeId, backup: BackupId) -> Result<(), Error> {
        self.require_collectable()?;
        self.refuse_needed(volume, backup)?;
        let mut unburied = vec![];
        for backup in self.lineage(volume, backup)?.into_iter().rev() {
            if let Err(error) = self.unbury(volume, backup) {
                // Successors do not outlive their backup.
                for successor in unburied {
                    self.bury(volume, successor)?;
                }
                return Err(error);
            }
            unburied.push(backup);
        }
        Ok(())
    }

    fn unbury(&self, volume: VolumeId, backup: BackupId) -> Result<(), Error> {
        self.refuse_collected(volume, backup)?;
        self.current(volume, backup)?;
        let name = self.names.tombstone(volume, backup);
        self.target.delete(&name)?;
        // A collection publishes what it removes, and looks at the tombstones after that.
        if let Err(error) = self.refuse_collected(volume, backup) {
            if let Err(error) = self.bury(volume, backup) {
                tracing::warn!(%name, %error, "a tombstone that was taken away is not back");
            }
            return Err(error);
        }
        self.current(volume, backup).map(drop)
    }
}
