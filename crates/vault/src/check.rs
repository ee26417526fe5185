//! Proving what a vault holds, and naming exactly what a bad object affects.
//!
//! `Present` walks the trees of all backups and compares what they name with one listing: every
//! node is read and proven, every pack must be there with its length. `Decrypt` also reads every
//! pack whole, opens every frame, proves every chunk against its id, and proves that the chunks
//! at their positions hash to what the tree says. A backup is affected by a bad object when it
//! cannot be restored because of it, and is not when only parts that it does not use are bad.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use stillpoint_model::id::{BackupId, VolumeId};
use stillpoint_model::progress::Monitor;
use stillpoint_model::{ByteCount, ByteRange};

use crate::fetch::{HeaderCache, TreeVisitor};
use crate::format::FANOUT;
use crate::format::index::{Index, MAX_INDEX_LEN};
use crate::format::manifest::Manifest;
use crate::format::names::{IdBytes, Named};
use crate::format::object::Class;
use crate::format::pack::{MAX_PACK_LEN, PackId, Spot, scan};
use crate::format::tree::{LEAF_CHUNKS, Leaf, NodeRef, scan_nodes};
use crate::target::{ListEntry, ObjectName, list_each};
use crate::vault::damaged;
use crate::{Error, Vault};

/// How deep a check looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckLevel {
    /// Everything that a backup names is there, with its length; manifests and trees are proven.
    Present,
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
    /// Checks everything in the vault. It needs no other right than to read.
    ///
    /// An error means that the check could not be done, which says nothing about the objects.
    pub fn check(&self, level: CheckLevel, monitor: &dyn Monitor) -> Result<CheckReport, Error> {
        let mut check = Check::new(self, level);
        check.list()?;
        check.small_objects()?;
        if level == CheckLevel::Decrypt {
            check.scan_packs(monitor)?;
        }
        for (volume, backup) in check.manifests.clone() {
            if monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            check.backup(volume, backup)?;
        }
        Ok(check.report())
    }

    /// Reads a backup's manifest back from the target, proves its tree, and makes sure that
    /// every pack it names is there with its length. Only after this is it available.
    pub fn read_back(
        &self,
        volume: VolumeId,
        backup: BackupId,
        monitor: &dyn Monitor,
    ) -> Result<(), Error> {
        self.verify_backup(volume, backup, CheckLevel::Present, monitor)
    }

    /// As [`Vault::read_back`], or down to every chunk of the packs that the backup uses.
    pub fn verify_backup(
        &self,
        volume: VolumeId,
        backup: BackupId,
        level: CheckLevel,
        monitor: &dyn Monitor,
    ) -> Result<(), Error> {
        let mut check = Check::new(self, level);
        let manifest = self.live_manifest(volume, backup)?;
        check.list_packs_of(&manifest)?;
        if level == CheckLevel::Decrypt {
            check.scan_packs(monitor)?;
        }
        check.backup(volume, backup)?;
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

/// What a scan of a pack found.
struct PackState {
    len: u64,
    /// The frames that are sound, once the pack was scanned.
    sound: Option<HashSet<Spot>>,
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
    /// Nodes that were walked, and the bad objects under them.
    nodes: HashMap<(PackId, u32), BTreeSet<ObjectName>>,
    headers: HeaderCache,
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
            headers: HeaderCache::default(),
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
                    self.packs.insert(
                        pack,
                        PackState {
                            len: entry.len.get(),
                            sound: None,
                        },
                    );
                }
                Some(Named::Manifest(volume, backup)) => {
                    self.manifests.insert((volume, backup));
                }
                named => self.others.push((entry, named)),
            }
            Ok::<_, Error>(())
        })
    }

    /// The packs that one backup names, each asked for once.
    fn list_packs_of(&mut self, manifest: &Manifest) -> Result<(), Error> {
        let Some(root) = &manifest.root else {
            return Ok(());
        };
        let mut named = PacksNamed::default();
        self.vault
            .walk_tree(manifest.level(), 0, root, &mut named)?;
        for pack in named.packs {
            match self.vault.target.head(&self.vault.names.pack(pack)) {
                Ok(len) => {
                    self.packs.insert(
                        pack,
                        PackState {
                            len: len.get(),
                            sound: None,
                        },
                    );
                }
                Err(error) if error.kind() == stillpoint_model::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Keys, runs, indexes and tombstones: no backup is lost with one of them, but with the keys.
    fn small_objects(&mut self) -> Result<(), Error> {
        for (entry, named) in std::mem::take(&mut self.others) {
            let vault = self.vault;
            let result = match named {
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
                Some(Named::Run(_, run)) => vault
                    .read_note(&entry.name, Class::Run, run.to_bytes())
                    .map(drop),
                Some(Named::Tombstone(volume, backup)) => vault
                    .read_note(&entry.name, Class::Tombstone, backup.to_bytes())
                    .and_then(|note| match note.volume_id == volume {
                        true => Ok(()),
                        false => Err(Error::Corrupt {
                            object: entry.name.clone(),
                            what: "it is of another volume",
                        }),
                    }),
                Some(Named::Keys(generation)) => vault.check_keys(generation, entry.len.get()),
                Some(_) => Ok(()),
                None => Err(Error::Unsupported {
                    object: entry.name.clone(),
                    what: "its name is of no class",
                }),
            };
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

    fn scan_packs(&mut self, monitor: &dyn Monitor) -> Result<(), Error> {
        let total: u64 = self.packs.values().map(|state| state.len).sum();
        let mut done = 0;
        let packs: Vec<(PackId, u64)> = self
            .packs
            .iter()
            .map(|(pack, state)| (*pack, state.len))
            .collect();
        for (pack, len) in packs {
            if monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let sound = self.scan_pack(pack, len)?;
            if let Some(state) = self.packs.get_mut(&pack) {
                state.sound = Some(sound);
            }
            done += len;
            monitor.progress(ByteCount::new(done), Some(ByteCount::new(total)));
        }
        Ok(())
    }

    fn scan_pack(&mut self, pack: PackId, len: u64) -> Result<HashSet<Spot>, Error> {
        let name = self.vault.names.pack(pack);
        if len > MAX_PACK_LEN {
            self.note(name, "it is too long", None);
            return Ok(HashSet::new());
        }
        let mut bytes = match self.vault.target.get(&name, ByteRange::new(0, len)) {
            Ok(bytes) => bytes,
            Err(error) => {
                let error = Error::from(error);
                self.judge(&name, Err(error))?;
                return Ok(HashSet::new());
            }
        };
        let header = pack.header(self.vault.keys.vault);
        let key = self
            .vault
            .keys
            .object(&header)
            .map_err(|what| damaged(&name, what))?;
        if pack.is_tree() {
            if let Err(what) = scan_nodes(&key, &header, &mut bytes) {
                let error = damaged(&name, what);
                self.note(name, describe(&error), None);
            }
            return Ok(HashSet::new());
        }
        let (sound, verdict) = scan(&key, &self.vault.keys.hasher, &header, &mut bytes);
        if let Err(what) = verdict {
            let error = damaged(&name, what);
            self.note(name, describe(&error), None);
        }
        Ok(sound)
    }

    fn backup(&mut self, volume: VolumeId, backup: BackupId) -> Result<(), Error> {
        let name = self.vault.names.manifest(volume, backup);
        let manifest = match self.vault.manifest(volume, backup) {
            Ok(manifest) => manifest,
            Err(Error::BackupNotFound(_)) => return Ok(()),
            Err(error) if error.is_of_one_object() => {
                self.backups += 1;
                self.note(name, describe(&error), Some(backup));
                return Ok(());
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
        if let Some(root) = &manifest.root {
            let bad = self.node(manifest.level(), 0, root)?;
            for object in bad {
                self.note(object, "a backup needs it", Some(backup));
            }
        }
        Ok(())
    }

    /// The bad objects that a subtree needs. Each node is walked once.
    fn node(&mut self, level: u8, index: u64, at: &NodeRef) -> Result<BTreeSet<ObjectName>, Error> {
        let place = (at.pack, at.spot.offset);
        if let Some(bad) = self.nodes.get(&place) {
            return Ok(bad.clone());
        }
        let mut bad = BTreeSet::new();
        let read = if level == crate::format::tree::LEAF_LEVEL {
            self.vault
                .leaf(at, index)
                .and_then(|leaf| self.leaf(&leaf, at, &mut bad))
        } else {
            self.vault.interior(at, level, index).and_then(|node| {
                for (child, number) in node.children.iter().zip(0_u64..) {
                    if let Some(child) = child {
                        bad.append(&mut self.node(level - 1, index * 64 + number, child)?);
                    }
                }
                Ok(())
            })
        };
        if let Err(error) = read {
            if !error.is_of_one_object() {
                return Err(error);
            }
            let name = self.vault.names.pack(at.pack);
            self.note(name.clone(), describe(&error), None);
            bad.insert(name);
        }
        self.nodes.insert(place, bad.clone());
        Ok(bad)
    }

    /// The bad packs that a leaf needs; when there is none, whether its chunks are what it says.
    fn leaf(
        &mut self,
        leaf: &Leaf,
        at: &NodeRef,
        bad: &mut BTreeSet<ObjectName>,
    ) -> Result<(), Error> {
        for frame in &leaf.frames {
            let name = self.vault.names.pack(frame.pack);
            let what = match self.packs.get(&frame.pack) {
                None => "it is missing",
                Some(state) if state.len != u64::from(frame.pack_len) => "it has the wrong length",
                Some(PackState {
                    sound: Some(sound), ..
                }) if !sound.contains(&frame.spot) => "a frame that a backup needs is damaged",
                Some(_) => continue,
            };
            self.note(name.clone(), what, None);
            let still_whole = self
                .packs
                .get(&frame.pack)
                .is_some_and(|state| match &state.sound {
                    Some(sound) => sound.contains(&frame.spot),
                    None => state.len >= frame.spot.end(),
                });
            if !still_whole {
                bad.insert(name);
            }
        }
        if self.level == CheckLevel::Decrypt && bad.is_empty() {
            self.positions(leaf, at)?;
        }
        Ok(())
    }

    /// Proves that the chunks that a leaf names hash to its spans.
    fn positions(&mut self, leaf: &Leaf, at: &NodeRef) -> Result<(), Error> {
        let hasher = &self.vault.keys.hasher;
        let mut ids = vec![None; LEAF_CHUNKS];
        let wrong = || Error::Corrupt {
            object: self.vault.names.pack(at.pack),
            what: "a leaf names other chunks than it hashes",
        };
        for extent in &leaf.extents {
            let frame = leaf
                .frames
                .get(usize::from(extent.frame))
                .ok_or_else(wrong)?;
            let known = self.headers.ids(self.vault, frame)?;
            for step in 0..extent.count {
                let id = known
                    .get(usize::from(extent.slot + step))
                    .ok_or_else(wrong)?;
                ids[usize::from(extent.first + step)] = Some(*id);
            }
        }
        let zero = hasher.zero(0);
        for (span, ids) in leaf.spans.iter().zip(ids.chunks_exact(FANOUT)) {
            let all_zero = ids.iter().all(Option::is_none);
            let hash = (!all_zero).then(|| hasher.node(1, ids.iter().map(|id| id.unwrap_or(zero))));
            if hash != *span {
                return Err(wrong());
            }
        }
        Ok(())
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
            problems: problems.collect(),
        }
    }
}

fn describe(error: &Error) -> String {
    match error {
        Error::Corrupt { what, .. } | Error::Unsupported { what, .. } => (*what).to_owned(),
        _ if error.is_missing() => "it is missing".to_owned(),
        _ => "it is shorter than it should be".to_owned(),
    }
}

/// The packs of chunks under a tree.
#[derive(Default)]
struct PacksNamed {
    packs: BTreeSet<PackId>,
}

impl TreeVisitor for PacksNamed {
    fn leaf(&mut self, _index: u64, _at: &NodeRef, leaf: Leaf) -> Result<(), Error> {
        self.packs
            .extend(leaf.frames.iter().map(|frame| frame.pack));
        Ok(())
    }
}
