//! Backups that were damaged and are whole again.
//!
//! Objects are never replaced, so what a damaged backup lost is stored in another one, the
//! *successor*: an ordinary backup of the same volume with the same content and a run of its own. A
//! *renewal* beside the damaged one's manifest names it. From then on the damaged backup is read by
//! its successor's tree, and its own tree is needed by nobody.
//!
//! ```text
//!  volumes/V/B.manifest ── tree of B, damaged          (reached by nobody, collected)
//!  volumes/V/B.renewed ──> volumes/V/S.manifest ── tree of S, the same content
//! ```
//!
//! A successor may be damaged in its turn, and has a renewal then. Whoever deletes a backup deletes
//! its successors after it, and whoever undeletes it takes them back before it, so that a backup
//! that is alive has all that it is read by.

use std::collections::BTreeSet;

use stillpoint_model::ErrorKind;
use stillpoint_model::id::{BackupId, VolumeId};

use crate::catalogue::Listing;
use crate::crew::{all_of, both};
use crate::format::manifest::Manifest;
use crate::format::names::IdBytes;
use crate::format::object::Class;
use crate::format::run::{MAX_NOTE_OBJECT_LEN, Note, Renewal};
use crate::locking::LOCKED_UNTIL;
use crate::vault::damaged;
use crate::{Error, Vault};

/// The note in a successor that says whose content it has.
pub const RENEWS: &str = "renews";
/// How often a backup can be renewed.
const MAX_LINEAGE: usize = 64;

impl Vault {
    /// The manifest that a backup is read by: its own, with the tree of its last successor.
    pub(crate) fn current(&self, volume: VolumeId, backup: BackupId) -> Result<Manifest, Error> {
        self.current_of_line(volume, backup)
            .map(|(_, manifest)| manifest)
    }

    /// As [`Vault::current`]; none when it is not there, or no more.
    pub(crate) fn still(
        &self,
        volume: VolumeId,
        backup: BackupId,
    ) -> Result<Option<Manifest>, Error> {
        match self.current(volume, backup) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(Error::BackupNotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A backup and its successors, and the manifest that it is read by.
    pub(crate) fn current_of_line(
        &self,
        volume: VolumeId,
        backup: BackupId,
    ) -> Result<(Vec<BackupId>, Manifest), Error> {
        let (line, own) = both(
            self.width(),
            || self.lineage(volume, backup),
            || self.manifest(volume, backup),
        );
        let line = line?;
        let manifest = self.read_by(volume, &line, own)?;
        Ok((line, manifest))
    }

    /// The manifest that the first of a line is read by, from its own.
    fn read_by(
        &self,
        volume: VolumeId,
        line: &[BackupId],
        own: Result<Manifest, Error>,
    ) -> Result<Manifest, Error> {
        let (Some(&backup), Some(&last)) = (line.first(), line.last()) else {
            return own;
        };
        if last == backup {
            return own;
        }
        let by = self.manifest(volume, last)?;
        match own {
            Ok(mut own) if own.content_hash == by.content_hash => {
                // What is below the tree of the successor is locked as long as that one says.
                own.metadata.remove(LOCKED_UNTIL);
                let locked = by.metadata.get_key_value(LOCKED_UNTIL);
                own.metadata
                    .extend(locked.map(|(k, v)| (k.clone(), v.clone())));
                own.root = by.root;
                Ok(own)
            }
            Ok(_) => Err(Error::Corrupt {
                object: self.names.renewal(volume, backup),
                what: "it names a backup of another content",
            }),
            Err(Error::BackupNotFound(_)) => Ok(by),
            Err(error) if error.is_damage() => Ok(by),
            Err(error) => Err(error),
        }
    }

    /// A backup and its successors, each renewed by the next.
    pub(crate) fn lineage(
        &self,
        volume: VolumeId,
        backup: BackupId,
    ) -> Result<Vec<BackupId>, Error> {
        let mut line = vec![backup];
        let mut last = backup;
        while let Some(renewal) = self.renewal(volume, last)? {
            if line.contains(&renewal.by) || line.len() == MAX_LINEAGE {
                return Err(Error::Corrupt {
                    object: self.names.renewal(volume, last),
                    what: "it leads to no end",
                });
            }
            last = renewal.by;
            line.push(last);
        }
        Ok(line)
    }

    /// What renewed a backup itself, if something did.
    pub(crate) fn renewal(
        &self,
        volume: VolumeId,
        backup: BackupId,
    ) -> Result<Option<Renewal>, Error> {
        let name = self.names.renewal(volume, backup);
        let id = backup.to_bytes();
        let body = match self.read_object(&name, Class::Renewal, id, 0, MAX_NOTE_OBJECT_LEN) {
            Err(error) if error.is_missing() => return Ok(None),
            other => other?,
        };
        let renewal = Renewal::decode(&body).map_err(|what| damaged(&name, what))?;
        if renewal.note.volume_id != volume {
            return Err(Error::Corrupt {
                object: name,
                what: "it is of another volume",
            });
        }
        Ok(Some(renewal))
    }

    /// Says that a backup is read by a successor from now on; false when it is by another one.
    pub(crate) fn put_renewal(
        &self,
        volume: VolumeId,
        backup: BackupId,
        by: (BackupId, &Manifest),
    ) -> Result<bool, Error> {
        let name = self.names.renewal(volume, backup);
        let header = self.header(Class::Renewal, backup.to_bytes());
        let note = Note {
            run_id: by.1.run_id,
            volume_id: volume,
            at: self.env.now(),
            epoch: 0,
        };
        let body = Renewal { note, by: by.0 }.encode();
        let object = self.seal(&name, &header, body)?;
        match self.target.put_new(&name, &object) {
            Err(error) if error.kind() == ErrorKind::Conflict => {
                let there = self.renewal(volume, backup)?.ok_or(error)?;
                if there.by != by.0 {
                    return Ok(false);
                }
            }
            other => other?,
        }
        self.lock_renewal(&name, by.1)?;
        Ok(true)
    }

    /// The successors among the backups of a listing.
    pub(crate) fn renewing(
        &self,
        listing: &Listing,
    ) -> Result<BTreeSet<(VolumeId, BackupId)>, Error> {
        let renewed: Vec<_> = listing.renewals.iter().copied().collect();
        let by = all_of(self.width(), &renewed, |&(volume, backup)| {
            let renewal = self.renewal(volume, backup)?;
            Ok(renewal.map(|renewal| (volume, renewal.by)))
        })?;
        Ok(by.into_iter().flatten().collect())
    }

    /// Refuses a backup that another one is read by.
    pub(crate) fn refuse_needed(&self, volume: VolumeId, backup: BackupId) -> Result<(), Error> {
        let Ok(manifest) = self.manifest(volume, backup) else {
            return Ok(());
        };
        let renews = manifest.metadata.get(RENEWS).and_then(|id| id.parse().ok());
        let Some(renews): Option<BackupId> = renews else {
            return Ok(());
        };
        match self.renewal(volume, renews)? {
            Some(renewal) if renewal.by == backup => Err(Error::Invalid(
                "the backup holds what another one lost, and goes with that one",
            )),
            _ => Ok(()),
        }
    }
}
