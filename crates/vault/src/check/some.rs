//! Checking some backups of a vault, and naming everything else that what is bad affects.
//!
//! What the backups share is read once. Only when something is wrong the trees of all other backups
//! are walked too, without reading their data: so the list of what a bad object affects is exact for the
//! whole vault, whichever backup it was found in.

use std::collections::BTreeSet;

use stillpoint_model::id::{BackupId, RunId, VolumeId};
use stillpoint_model::progress::Monitor;

use super::{Check, CheckLevel, CheckReport, PackState, Scan, describe};
use crate::crew::side_by_side;
use crate::format::names::Named;
use crate::target::list_each;
use crate::{Error, Vault};

impl Vault {
    /// Checks these backups, at the same cost as one where they share everything. One that is not
    /// there, or was deleted, is a problem.
    ///
    /// The report names every backup of the vault that what is bad affects. An error means that the
    /// check could not be done, which says nothing about the objects.
    pub fn verify_backups(
        &self,
        backups: &BTreeSet<(VolumeId, BackupId)>,
        level: CheckLevel,
        monitor: &dyn Monitor,
    ) -> Result<CheckReport, Error> {
        let mut check = Check::new(self, level);
        let (mut there, mut tops) = (vec![], vec![]);
        let keys: Vec<_> = backups.iter().copied().collect();
        let read = side_by_side(self.width(), &keys, |key| self.live_manifest(key.0, key.1));
        for ((volume, backup), manifest) in keys.into_iter().zip(read) {
            match manifest {
                Ok(manifest) => {
                    tops.extend(manifest.top());
                    there.push((volume, backup));
                }
                Err(error) => check.bad_manifest(volume, backup, error)?,
            }
        }
        check.list_packs_of(tops)?;
        check.read_packs(monitor)?;
        check.backups(&there, monitor)?;
        check.objects = check.packs.len();
        if !check.problems.is_empty() {
            check.find_others(backups, monitor)?;
        }
        Ok(check.report())
    }
}

impl Vault {
    /// Whether every pack that a run wrote is as it was written.
    pub(crate) fn proves_run(&self, run: RunId, monitor: &dyn Monitor) -> Result<bool, Error> {
        let mut check = Check::new(self, CheckLevel::Decrypt);
        list_each(&*self.target, &self.names.packs_of(run), |entry| {
            if let Some(Named::Pack(pack)) = self.names.parse(&entry.name) {
                check.packs.insert(pack, PackState::new(entry.len.get()));
            }
            Ok::<_, Error>(())
        })?;
        check.scan_packs(monitor)?;
        Ok(check.problems.is_empty())
    }
}

impl Check<'_> {
    /// A manifest that should be there: missing, deleted and damaged are problems, all else is an error.
    fn bad_manifest(
        &mut self,
        volume: VolumeId,
        backup: BackupId,
        error: Error,
    ) -> Result<(), Error> {
        let name = self.vault.names.manifest(volume, backup);
        let what = match error {
            Error::BackupNotFound(_) => "it is missing".to_owned(),
            Error::BackupDeleted(_) => "it was deleted".to_owned(),
            error if error.is_of_one_object() => describe(&error),
            error => return Err(error),
        };
        self.backups += 1;
        self.note(name, what, Some(backup));
        Ok(())
    }

    /// Walks all other backups with what is known to be bad, and adds what needs it.
    fn find_others(
        &mut self,
        seen: &BTreeSet<(VolumeId, BackupId)>,
        monitor: &dyn Monitor,
    ) -> Result<(), Error> {
        let mut wide = Check::new(self.vault, CheckLevel::Present);
        wide.list()?;
        for (pack, state) in &self.packs {
            if let Scan::Damaged(sound) = &state.scan {
                let scan = Scan::Damaged(sound.clone());
                wide.packs.insert(
                    *pack,
                    PackState {
                        len: state.len,
                        scan,
                    },
                );
            }
        }
        let others: Vec<_> = wide.manifests.difference(seen).copied().collect();
        wide.backups(&others, monitor)?;
        for (object, (what, affected)) in wide.problems {
            self.note(object.clone(), what, None);
            for backup in affected {
                self.note(object.clone(), "a backup needs it", Some(backup));
            }
        }
        Ok(())
    }
}
