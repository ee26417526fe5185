//! Looking at a vault for a collection.
//!
//! What a listing lacks may still be there. So each run that wrote something and that no record
//! and no manifest accounts for is asked for by the name of its first index object, which says what
//! backup it was for, and that backup by the name of its manifest.

use std::collections::{BTreeMap, BTreeSet};

use stillpoint_model::ErrorKind;
use stillpoint_model::id::{BackupId, RunId};
use stillpoint_model::progress::Monitor;

use super::plan::{Deletion, Look, Refusal, Seen};
use crate::catalogue::Listing;
use crate::crew::all_of;
use crate::fetch::Position;
use crate::format::epoch::BackupKey;
use crate::format::index::{Index, MAX_INDEX_LEN};
use crate::format::manifest::Manifest;
use crate::format::names::{IdBytes, Named};
use crate::format::object::Class;
use crate::format::pack::PackId;
use crate::format::run::{MAX_NOTE_OBJECT_LEN, Note};
use crate::target::{ListEntry, ObjectName, list_each};
use crate::vault::damaged;
use crate::{Error, Vault};

/// What was seen, and where each backup's tree begins.
pub(super) struct Survey {
    pub look: Look,
    trees: BTreeMap<BackupKey, Position>,
    /// Runs with sums of packs.
    pub summed: BTreeSet<RunId>,
    /// What renewed a backup: as long as that stays, nothing needs the backup's own tree.
    renewed: BTreeMap<BackupKey, BackupKey>,
}

impl Survey {
    pub(super) fn take(vault: &Vault) -> Result<Self, Error> {
        let mut survey = Self {
            look: Look::default(),
            trees: BTreeMap::new(),
            summed: BTreeSet::new(),
            renewed: BTreeMap::new(),
        };
        survey.packs_and_indexes(vault)?;
        survey.runs(vault)?;
        survey.backups(vault)?;
        let runs: Vec<_> = survey.look.unaccounted().into_iter().collect();
        all_of(vault.width(), &runs, |run| survey.ask_for(vault, *run))?;
        Ok(survey)
    }

    fn packs_and_indexes(&mut self, vault: &Vault) -> Result<(), Error> {
        // Before the packs: a run that has sums has packs.
        each(vault, "sums/", |named, _| {
            if let Named::Sums(run, _) = named {
                self.summed.insert(run);
            }
        })?;
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
        let runs = all_of(vault.width(), &records, |(run, name)| {
            match vault.read_note(name, Class::Run, run.to_bytes()) {
                Ok(note) => Ok(Some((*run, note.epoch))),
                // It ended since the listing.
                Err(error) if error.is_missing() => Ok(None),
                Err(error) => Err(error),
            }
        })?;
        self.look.runs = runs.into_iter().flatten().collect();
        Ok(())
    }

    fn backups(&mut self, vault: &Vault) -> Result<(), Error> {
        let listing = vault.list_names(None)?;
        let keys: Vec<_> = listing.backups().into_iter().collect();
        let found = all_of(vault.width(), &keys, |key| backup(vault, &listing, *key))?;
        for (key, found) in keys.into_iter().zip(found) {
            let Some((seen, by, tree)) = found else {
                continue;
            };
            self.look.backups.insert(key, seen);
            if let Some(by) = by {
                self.renewed.insert(key, (key.0, by));
            }
            if let Some(tree) = tree {
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
        let stays = |key: &BackupKey| !gone.contains(key) && !self.is_renewed(key, gone);
        let trees = self.trees.iter().filter(|(key, _)| stays(key));
        let used = vault.packs_below(trees.map(|(_, root)| *root), monitor)?;
        Ok(used.into_iter().collect())
    }
}

impl Survey {
    /// What a backup is read by.
    pub(super) fn renewed_by(&self, key: &BackupKey) -> Option<BackupKey> {
        self.renewed.get(key).copied()
    }

    /// Whether a backup is read by the tree of another one that was seen and stays.
    fn is_renewed(&self, key: &BackupKey, gone: &BTreeSet<BackupKey>) -> bool {
        let by = self.renewed.get(key);
        by.is_some_and(|by| self.look.backups.contains_key(by) && !gone.contains(by))
    }
}

/// What a look says of a backup, what renewed it, and where its own tree begins. None when there is
/// no such backup, or no more.
type Found = Option<(Seen, Option<BackupId>, Option<Position>)>;

fn backup(vault: &Vault, listing: &Listing, key: BackupKey) -> Result<Found, Error> {
    let renewal = match listing.renewals.contains(&key) {
        true => vault.renewal(key.0, key.1)?,
        false => None,
    };
    let (run, created, tree) = match (vault.manifest(key.0, key.1), renewal) {
        (Ok(own), _) => (own.run_id, own.created, own.top()),
        // Nobody needs a manifest that is damaged or gone when another says the same.
        (Err(error), Some(by)) if error.is_damage() || error.kind() == ErrorKind::NotFound => {
            (by.note.run_id, by.note.at, None)
        }
        // A void, or it was removed since the listing.
        (Err(Error::BackupNotFound(_)), None) => return Ok(None),
        (Err(error), _) => return Err(error),
    };
    let deleted = match listing.tombstones.contains(&key) {
        true => deletion(vault, key)?,
        false => None,
    };
    let seen = Seen {
        run,
        created,
        deleted,
    };
    Ok(Some((seen, renewal.map(|renewal| renewal.by), tree)))
}

/// The deletion of a backup; none when it was undeleted since the listing.
fn deletion(vault: &Vault, (volume, backup): BackupKey) -> Result<Option<Deletion>, Error> {
    let name = vault.names.tombstone(volume, backup);
    let read = || -> Result<Deletion, Error> {
        let bytes = vault.read_raw(&name, MAX_NOTE_OBJECT_LEN)?;
        let tombstone = *blake3::hash(&bytes).as_bytes();
        let body = vault.open_raw(&name, bytes, Class::Tombstone, backup.to_bytes(), 0)?;
        let note = Note::decode(&body).map_err(|what| damaged(&name, what))?;
        Ok(Deletion {
            at: note.at,
            tombstone,
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
