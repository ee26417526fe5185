//! Proving what a vault holds, and naming exactly what a bad object affects.
//!
//! `Present` walks the trees of all backups and compares what they name with one listing: every
//! node is read and proven, every pack must be there with its length. `Ciphertext` also compares every
//! pack with what it hashed to when it was put, where that is known. `Decrypt` also reads every
//! pack whole, opens every frame, proves every chunk against its id, and proves that the chunks
//! at their positions hash to what the tree says. A backup is affected by a bad object when it
//! cannot be restored because of it, and is not when only parts that it does not use are bad.
//!
//! A pack that is not as it was written is marked (see [`crate::quarantine`]), so that the next
//! backup stores anew what it holds.

mod ciphertext;
mod scan;
mod some;
mod tree;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

pub(crate) use scan::Scanner;

use stillpoint_model::id::{BackupId, VolumeId};
use stillpoint_model::progress::Monitor;

use crate::crew::{all_of, side_by_side};
use crate::fetch::{HeaderCache, Position, TreeVisitor};
use crate::format::index::{Index, MAX_INDEX_LEN};
use crate::format::manifest::Manifest;
use crate::format::names::{IdBytes, Named};
use crate::format::object::Class;
use crate::format::pack::{PackId, Spot};
use crate::format::run::MAX_NOTE_OBJECT_LEN;
use crate::format::tree::Leaf;
use crate::reserve::MAX_RESERVE_LEN;
use crate::scrub::read_sums;
use crate::target::{ListEntry, ObjectName, list_each};
use crate::vault::damaged;
use crate::{Error, Vault};
use tree::Judged;

/// How many headers of frames a check keeps from reading packs until it walks the trees: at most
/// 8 MiB, of 4 GiB of volumes. What it does not keep it reads again.
const HEADERS_KEPT: usize = 4096;

/// How deep a check looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckLevel {
    /// Everything that a backup names is there, with its length; manifests and trees are proven.
    Present,
    /// And every pack is still what was put, byte for byte, where it was noted what that is.
    Ciphertext,
    /// And every chunk decrypts and is what its id says, at its position.
    Decrypt,
}

/// An object that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The object.
    pub object: ObjectName,
    /// What is wrong with it.
    pub what: String,
    /// The backups that cannot be restored because of it, deleted ones included.
    pub affected: Vec<BackupId>,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// How many backups were looked at.
    pub backups: usize,
    /// How many objects were looked at.
    pub objects: usize,
    /// Packs that could not be compared: nothing says what they hashed to. Of `Ciphertext` only.
    pub uncovered: usize,
    /// What is wrong, by object.
    pub problems: Vec<Problem>,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// Every backup that cannot be restored.
    pub fn affected(&self) -> BTreeSet<BackupId> {
        self.problems
            .iter()
            .flat_map(|problem| problem.affected.iter().copied())
            .collect()
    }
}

impl Vault {
    /// Checks everything in the vault. It needs no other right than to read; where it may write,
    /// it marks damaged packs, and changes nothing else.
    ///
    /// An error means that the check could not be done, which says nothing about the objects.
    pub fn check(&self, level: CheckLevel, monitor: &dyn Monitor) -> Result<CheckReport, Error> {
        let mut check = Check::new(self, level);
        check.list()?;
        check.small_objects()?;
        check.read_packs(monitor)?;
        let backups: Vec<_> = check.manifests.iter().copied().collect();
        check.backups(&backups, monitor)?;
        Ok(check.report())
    }

    /// Reads what is beside packs and what backups are read by: keys, indexes, sums, proofs, marks and
    /// the like. No backup is lost with one of them but with the keys; see [`Vault::rebuild`].
    ///
    /// An error means that the check could not be done, which says nothing about the objects.
    pub fn check_small_objects(&self, monitor: &dyn Monitor) -> Result<CheckReport, Error> {
        let mut check = Check::new(self, CheckLevel::Present);
        check.list()?;
        // Those say whose tree a backup is read by: they are judged with it.
        let renews = |named: &Option<Named>| matches!(named, Some(Named::Renewal(..)));
        check.others.retain(|(_, named)| !renews(named));
        check.objects = check.others.len();
        if monitor.is_cancelled() {
            return Err(Error::Cancelled);
        }
        check.small_objects()?;
        Ok(check.report())
    }

    /// As [`Vault::read_back`], or down to every chunk of the packs that the backup uses.
    pub fn verify_backup(
        &self,
        volume: VolumeId,
        backup: BackupId,
        level: CheckLevel,
        monitor: &dyn Monitor,
    ) -> Result<(), Error> {
        if level == CheckLevel::Present {
            return self.read_back(volume, backup, monitor);
        }
        let mut check = Check::new(self, level);
        let manifest = self.live_manifest(volume, backup)?;
        check.list_packs_of(manifest.top().into_iter().collect())?;
        check.read_packs(monitor)?;
        check.backups(&[(volume, backup)], monitor)?;
        match check.problems.into_iter().next() {
            None => Ok(()),
            Some((object, (what, _))) => {
                tracing::warn!(%object, what, "a backup is damaged");
                Err(Error::Corrupt {
                    object,
                    what: "a backup cannot be restored because of it",
                })
            }
        }
    }
}

/// What is known of a pack.
struct PackState {
    len: u64,
    scan: Scan,
}

/// What a scan of a pack found.
enum Scan {
    /// It was not read.
    NotYet,
    /// Every frame is what it says.
    Sound,
    /// Something is wrong with it; these frames are sound.
    Damaged(HashSet<Spot>),
}

impl PackState {
    fn new(len: u64) -> Self {
        Self {
            len,
            scan: Scan::NotYet,
        }
    }
}

struct Check<'a> {
    vault: &'a Vault,
    level: CheckLevel,
    packs: BTreeMap<PackId, PackState>,
    manifests: BTreeSet<(VolumeId, BackupId)>,
    others: Vec<(ListEntry, Option<Named>)>,
    objects: usize,
    backups: usize,
    problems: BTreeMap<ObjectName, (String, BTreeSet<BackupId>)>,
    /// Nodes that were walked, by where they are stored.
    nodes: HashMap<(PackId, u32), Judged>,
    headers: HeaderCache,
    /// Packs that have no sum.
    uncovered: usize,
}

impl<'a> Check<'a> {
    fn new(vault: &'a Vault, level: CheckLevel) -> Self {
        Self {
            vault,
            level,
            packs: BTreeMap::new(),
            manifests: BTreeSet::new(),
            others: vec![],
            objects: 0,
            backups: 0,
            problems: BTreeMap::new(),
            nodes: HashMap::new(),
            headers: HeaderCache::with_room(HEADERS_KEPT),
            uncovered: 0,
        }
    }

    /// Reads the packs that are listed, as deep as the level says.
    fn read_packs(&mut self, monitor: &dyn Monitor) -> Result<(), Error> {
        match self.level {
            CheckLevel::Present => Ok(()),
            CheckLevel::Ciphertext => self.compare_packs(monitor),
            CheckLevel::Decrypt => self.scan_packs(monitor),
        }
    }

    fn note(&mut self, object: ObjectName, what: impl Into<String>, affected: Option<BackupId>) {
        let problem = self
            .problems
            .entry(object)
            .or_insert_with(|| (what.into(), BTreeSet::new()));
        problem.1.extend(affected);
    }

    fn list(&mut self) -> Result<(), Error> {
        let (vault, prefix) = (self.vault, self.vault.names.prefix(""));
        list_each(&*vault.target, &prefix, |entry| {
            self.objects += 1;
            match vault.names.parse(&entry.name) {
                Some(Named::Pack(pack)) => {
                    self.packs.insert(pack, PackState::new(entry.len.get()));
                }
                Some(Named::Manifest(volume, backup)) => {
                    self.manifests.insert((volume, backup));
                }
                Some(Named::Renewal(volume, backup)) => {
                    self.manifests.insert((volume, backup));
                    self.others
                        .push((entry, Some(Named::Renewal(volume, backup))));
                }
                named => self.others.push((entry, named)),
            }
            Ok::<_, Error>(())
        })
    }

    /// The packs that some trees name, each asked for once.
    fn list_packs_of(&mut self, tops: Vec<Position>) -> Result<(), Error> {
        let (vault, mut named) = (self.vault, PacksNamed::default());
        vault.walk_trees(tops, &mut named)?;
        let packs: Vec<_> = named.packs.into_iter().collect();
        let lengths = all_of(vault.width(), &packs, |pack| vault.pack_len(*pack))?;
        for (pack, len) in packs.into_iter().zip(lengths) {
            if let Some(len) = len {
                self.packs.insert(pack, PackState::new(len));
            }
        }
        Ok(())
    }

    /// Keys, runs, indexes, tombstones and the like: no backup is lost with one of them, but with the keys.
    fn small_objects(&mut self) -> Result<(), Error> {
        let (vault, others) = (self.vault, std::mem::take(&mut self.others));
        let results = side_by_side(vault.width(), &others, |(entry, named)| match *named {
            Some(Named::Index(run, seq)) => vault
                .read_object(
                    &entry.name,
                    Class::Index,
                    run.to_bytes(),
                    seq,
                    MAX_INDEX_LEN,
                )
                .and_then(|body| Index::decode(&body).map_err(|w| damaged(&entry.name, w)))
                .map(drop),
            Some(Named::Sums(run, seq)) => {
                read_sums(&*vault.target, vault.names, (run, seq), entry.len.get()).map(drop)
            }
            Some(Named::Run(_, run)) => vault
                .read_note(&entry.name, Class::Run, run.to_bytes())
                .map(drop),
            Some(Named::Tombstone(volume, backup)) => {
                note_of_backup(vault, &entry.name, Class::Tombstone, volume, backup)
            }
            Some(Named::Proof(volume, backup)) => {
                note_of_backup(vault, &entry.name, Class::Proof, volume, backup)
            }
            Some(Named::Renewal(volume, backup)) => vault.renewal(volume, backup).map(drop),
            Some(Named::Quarantined(pack)) => {
                let (id, max) = (pack.run.to_bytes(), MAX_NOTE_OBJECT_LEN);
                vault
                    .read_object(&entry.name, Class::Mark, id, pack.seq, max)
                    .map(drop)
            }
            Some(Named::Reserve) => {
                let id = vault.id().to_bytes();
                vault
                    .read_object(&entry.name, Class::Reserve, id, 0, MAX_RESERVE_LEN)
                    .map(drop)
            }
            Some(Named::Plan(number)) => vault.read_plan(number).map(drop),
            Some(Named::Doom(number)) => vault.read_doom(number).map(drop),
            Some(Named::Keys(generation)) => vault.check_keys(generation, entry.len.get()),
            Some(_) => Ok(()),
            None => Err(Error::Unsupported {
                object: entry.name.clone(),
                what: "its name is of no class",
            }),
        });
        for ((entry, _), result) in others.iter().zip(results) {
            self.judge(&entry.name, result)?;
        }
        Ok(())
    }

    /// Notes an error that is about one object; passes on one that is about the target.
    fn judge(&mut self, object: &ObjectName, result: Result<(), Error>) -> Result<(), Error> {
        match result {
            Ok(()) => Ok(()),
            // It was there in the listing and went away: a run ended or was reaped meanwhile.
            Err(error) if error.is_missing() => Ok(()),
            Err(error) if error.is_of_one_object() => {
                self.note(object.clone(), describe(&error), None);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Walks the trees of backups, several at once, and notes who needs what is bad.
    fn backups(
        &mut self,
        backups: &[(VolumeId, BackupId)],
        monitor: &dyn Monitor,
    ) -> Result<(), Error> {
        let (vault, width) = (self.vault, self.vault.width());
        for some in backups.chunks(width) {
            if monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let read = side_by_side(width, some, |key| vault.current(key.0, key.1));
            let mut there = vec![];
            for ((volume, backup), manifest) in some.iter().zip(read) {
                if let Some(top) = self.manifest(*volume, *backup, manifest)? {
                    there.push((*backup, top));
                }
            }
            vault.walk_trees(there.iter().map(|(_, top)| *top), self)?;
            for (backup, top) in there {
                for object in self.under(top.place()) {
                    self.note(object, "a backup needs it", Some(backup));
                }
            }
        }
        Ok(())
    }

    /// Judges a manifest, and gives the root of its tree.
    fn manifest(
        &mut self,
        volume: VolumeId,
        backup: BackupId,
        read: Result<Manifest, Error>,
    ) -> Result<Option<Position>, Error> {
        let name = self.vault.names.manifest(volume, backup);
        let manifest = match read {
            Ok(manifest) => manifest,
            Err(Error::BackupNotFound(_)) => return Ok(None),
            Err(error) if error.is_of_one_object() => {
                self.backups += 1;
                self.note(name, describe(&error), Some(backup));
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.backups += 1;
        let hasher = &self.vault.keys.hasher;
        let top = manifest
            .root
            .map_or(hasher.zero(manifest.level()), |root| root.hash);
        if hasher.content(manifest.size.get(), manifest.level(), top) != manifest.content_hash {
            self.note(
                name,
                "its tree is not what its content hash says",
                Some(backup),
            );
        }
        Ok(manifest.top())
    }

    fn report(self) -> CheckReport {
        let problems = self
            .problems
            .into_iter()
            .map(|(object, (what, affected))| Problem {
                object,
                what,
                affected: affected.into_iter().collect(),
            });
        CheckReport {
            backups: self.backups,
            objects: self.objects,
            uncovered: self.uncovered,
            problems: problems.collect(),
        }
    }
}

/// That a note beside a manifest is of its backup.
fn note_of_backup(
    vault: &Vault,
    name: &ObjectName,
    class: Class,
    volume: VolumeId,
    backup: BackupId,
) -> Result<(), Error> {
    let note = vault.read_note(name, class, backup.to_bytes())?;
    if note.volume_id == volume {
        return Ok(());
    }
    Err(Error::Corrupt {
        object: name.clone(),
        what: "it is of another volume",
    })
}

fn describe(error: &Error) -> String {
    match error {
        Error::Corrupt { what, .. } | Error::Unsupported { what, .. } => (*what).to_owned(),
        _ if error.is_missing() => "it is missing".to_owned(),
        _ => "it is shorter than it should be".to_owned(),
    }
}

/// The packs of chunks under some trees.
#[derive(Default)]
struct PacksNamed {
    packs: BTreeSet<PackId>,
    nodes: HashSet<(PackId, u32)>,
}

impl TreeVisitor for PacksNamed {
    fn enter(&mut self, at: &Position) -> Result<bool, Error> {
        Ok(self.nodes.insert(at.place()))
    }

    fn leaf(&mut self, _at: &Position, leaf: Leaf) -> Result<(), Error> {
        self.packs
            .extend(leaf.frames.iter().map(|frame| frame.pack));
        Ok(())
    }

    /// The walk that judges the tree finds it again, and says what needs it.
    fn unreadable(&mut self, _at: &Position, error: Error) -> Result<(), Error> {
        match error.is_of_one_object() {
            true => Ok(()),
            false => Err(error),
        }
    }
}
