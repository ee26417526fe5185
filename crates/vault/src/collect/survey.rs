//! Looking at a vault for a collection.
//!
//! What a listing lacks may still be there. So each run that wrote something and that no record
//! and no manifest accounts for is asked for by the name of its first index object, which says what
//! backup it was for, and that backup by the name of its manifest.

use std::collections::{BTreeMap, BTreeSet};

use stillpoint_model::ErrorKind;
use stillpoint_model::id::RunId;
use stillpoint_model::progress::Monitor;

use super::plan::{Deletion, Look, Refusal, Seen};
use crate::format::epoch::BackupKey;
use crate::format::index::{Index, MAX_INDEX_LEN};
use crate::format::manifest::Manifest;
use crate::format::names::{IdBytes, Named};
use crate::format::object::Class;
use crate::format::pack::PackId;
use crate::format::run::MAX_NOTE_OBJECT_LEN;
use crate::format::tree::NodeRef;
use crate::reap::Used;
use crate::target::{ListEntry, ObjectName, list_each};
use crate::vault::damaged;
use crate::{Error, Vault};

/// What was seen, and where each backup's tree begins.
pub(super) struct Survey {
    pub look: Look,
    trees: BTreeMap<BackupKey, (u8, NodeRef)>,
    /// What renewed a backup: as long as that stays, nothing needs the backup's own tree.
    renewed: BTreeMap<BackupKey, BackupKey>,
}

impl Survey {
    pub(super) fn take(vault: &Vault) -> Result<Self, Error> {
        let mut survey = Self {
            look: Look::default(),
            trees: BTreeMap::new(),
            renewed: BTreeMap::new(),
        };
        survey.packs_and_indexes(vault)?;
        survey.runs(vault)?;
        survey.backups(vault)?;
        for run in survey.look.unaccounted() {
            survey.ask_for(vault, run)?;
        }
        Ok(survey)
    }

    fn packs_and_indexes(&mut self, vault: &Vault) -> Result<(), Error> {
        each(vault, "packs/", |named, entry| {
            if let Named::Pack(pack) = named {
                self.look.packs.insert(pack, entry.len.get());
            }
        })?;
        each(vault, "index/", |named, _| {
            if let Named::Index(run, _) = named {
                self.look.indexed.insert(run);
            }
        })
    }

    fn runs(&mut self, vault: &Vault) -> Result<(), Error> {
        let mut records = vec![];
        each(vault, "runs/", |named, entry| {
            if let Named::Run(_, run) = named {
                records.push((run, entry.name));
            }
        })?;
        for (run, name) in records {
            match vault.read_note(&name, Class::Run, run.to_bytes()) {
                Ok(note) => drop(self.look.runs.insert(run, note.epoch)),
                // It ended since the listing.
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn backups(&mut self, vault: &Vault) -> Result<(), Error> {
        let listing = vault.list_names(None)?;
        for key in listing.backups() {
            let renewal = match listing.renewals.contains(&key) {
                true => vault.renewal(key.0, key.1)?,
                false => None,
            };
            let (run, created, root) = match (vault.manifest(key.0, key.1), renewal) {
                (Ok(own), _) => {
                    let level = own.level();
                    (own.run_id, own.created, own.root.map(|root| (level, root)))
                }
                // Nobody needs a manifest that is damaged or gone when another says the same.
                (Err(error), Some(by))
                    if error.is_damage() || error.kind() == ErrorKind::NotFound =>
                {
                    (by.note.run_id, by.note.at, None)
                }
                // A void, or it was removed since the listing.
                (Err(Error::BackupNotFound(_)), None) => continue,
                (Err(error), _) => return Err(error),
            };
            if let Some(renewal) = renewal {
                self.renewed.insert(key, (key.0, renewal.by));
            }
            let seen = Seen {
                run,
                created,
                deleted: match listing.tombstones.contains(&key) {
                    true => deletion(vault, key)?,
                    false => None,
                },
            };
            self.look.backups.insert(key, seen);
            if let Some(tree) = root {
                self.trees.insert(key, tree);
            }
        }
        Ok(())
    }

    /// Asks for the backup of a run that left something, past all listings.
    fn ask_for(&self, vault: &Vault, run: RunId) -> Result<(), Error> {
        let name = vault.names.index(run, 0);
        let body = match vault.read_object(&name, Class::Index, run.to_bytes(), 0, MAX_INDEX_LEN) {
            Ok(body) => body,
            Err(error) if error.is_missing() => return Ok(()),
            Err(error) => return Err(error),
        };
        if !self.look.indexed.contains(&run) {
            return Err(Refusal::UnlistedRun(run).into());
        }
        let index = Index::decode(&body).map_err(|what| damaged(&name, what))?;
        let key = (index.volume_id, index.backup_id);
        match vault.manifest(key.0, key.1) {
            Ok(Manifest { run_id, .. }) if run_id == run => {
                Err(Refusal::Unlisted(index.backup_id).into())
            }
            Ok(_) | Err(Error::BackupNotFound(_)) => Ok(()),
            // Another manifest stands for the one that cannot be read.
            Err(error) if error.is_damage() && self.renewed.contains_key(&key) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The packs that all backups reach but these. A node that cannot be read is an error: what
    /// it names is not known.
    pub(super) fn used_but(
        &self,
        vault: &Vault,
        gone: &BTreeSet<BackupKey>,
        monitor: &dyn Monitor,
    ) -> Result<BTreeSet<PackId>, Error> {
        let mut used = Used::default();
        for (key, (level, root)) in &self.trees {
            if monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if !gone.contains(key) && !self.is_renewed(key, gone) {
                vault.walk_tree(*level, 0, root, &mut used)?;
            }
        }
        Ok(used.packs.into_iter().collect())
    }
}

impl Survey {
    /// Whether a backup is read by the tree of another one that was seen and stays.
    fn is_renewed(&self, key: &BackupKey, gone: &BTreeSet<BackupKey>) -> bool {
        let by = self.renewed.get(key);
        by.is_some_and(|by| self.look.backups.contains_key(by) && !gone.contains(by))
    }
}

/// The deletion of a backup; none when it was undeleted since the listing.
fn deletion(vault: &Vault, (volume, backup): BackupKey) -> Result<Option<Deletion>, Error> {
    let name = vault.names.tombstone(volume, backup);
    let read = || -> Result<Deletion, Error> {
        let bytes = vault.read_raw(&name, MAX_NOTE_OBJECT_LEN)?;
        let note = vault.read_note(&name, Class::Tombstone, backup.to_bytes())?;
        Ok(Deletion {
            at: note.at,
            tombstone: *blake3::hash(&bytes).as_bytes(),
        })
    };
    match read().and_then(|first| Ok((first, read()?))) {
        // Otherwise it was taken back and put anew while it was read.
        Ok((first, again)) => Ok((first == again).then_some(first)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The plans and dooms of epochs before this one.
pub(super) fn epoch_objects_before(vault: &Vault, epoch: u32) -> Result<Vec<ObjectName>, Error> {
    let mut names = vec![];
    each(vault, "epochs/", |named, entry| {
        if let Named::Plan(number) | Named::Doom(number) = named
            && number < epoch
        {
            names.push(entry.name);
        }
    })?;
    Ok(names)
}

fn each(vault: &Vault, prefix: &str, mut visit: impl FnMut(Named, ListEntry)) -> Result<(), Error> {
    list_each(&*vault.target, &vault.names.prefix(prefix), |entry| {
        if let Some(named) = vault.names.parse(&entry.name) {
            visit(named, entry);
        }
        Ok::<_, Error>(())
    })
}
