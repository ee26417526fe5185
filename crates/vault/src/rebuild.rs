//! Making anew small objects that rotted and are redundant.
//!
//! Indexes say what the packs say, sums are hashes of packs, a proof says that a backup was read back,
//! and nobody reads the reserve. None of them loses a backup, but without them a backup deduplicates
//! less, costs a walk more, is not covered, or cannot be deleted on a full target.
//!
//! What has a number gets a fresh one, and goes only after what replaces it is there. A proof and the
//! reserve have one name: they are deleted first, which is as if they had never been put.
//!
//! **What stays damaged.** Marks, tombstones and the first index object of a run: their names say all
//! that counts, and taking one away for a moment would say something else. What the first index held is
//! put under a fresh number all the same. Records of runs end with their runs, plans and dooms with
//! their epoch, renewals are put by a repair, keys are another matter ([`crate::keys`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use stillpoint_model::id::{BackupId, RunId, VolumeId};
use stillpoint_model::progress::Monitor;
use stillpoint_model::{ByteRange, ErrorKind};

use crate::check::Scanner;
use crate::fetch::HeaderCache;
use crate::format::index::{Index, IndexFrame, IndexPack, MAX_INDEX_LEN, prefix_of};
use crate::format::names::{IdBytes, Named};
use crate::format::object::{Class, Header};
use crate::format::pack::{MAX_PACK_LEN, PackId, directory};
use crate::format::sums::{self, Sum};
use crate::format::tree::FrameLoc;
use crate::format::wire::Malformed;
use crate::scrub::read_sums;
use crate::target::{ObjectName, list_each};
use crate::vault::damaged;
use crate::{CheckReport, Error, Vault};

/// What is known of runs.
struct Runs {
    /// Those that have a record: their writers still give numbers.
    open: BTreeSet<RunId>,
    /// The backups of those that committed and are over.
    committed: BTreeMap<RunId, (VolumeId, BackupId)>,
}

/// Whether what keeps one object from being made anew keeps all of them.
fn stands_in_the_way_of_all(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Cancelled | ErrorKind::Retry | ErrorKind::Full
    )
}

fn go_on(monitor: &dyn Monitor) -> Result<(), Error> {
    match monitor.is_cancelled() {
        true => Err(Error::Cancelled),
        false => Ok(()),
    }
}

impl Vault {
    /// Makes anew what a check found damaged and what is redundant; the names of the damaged ones.
    /// Done again it changes nothing. Nothing of it is needed to read a backup, so what stands in the
    /// way of one is logged, and the others are made all the same.
    pub fn rebuild(
        &self,
        report: &CheckReport,
        monitor: &dyn Monitor,
    ) -> Result<Vec<ObjectName>, Error> {
        self.require_collectable()?;
        let (mut rebuilt, mut runs) = (vec![], None);
        for problem in &report.problems {
            let name = &problem.object;
            match self.rebuild_one(name, &mut runs, monitor) {
                Ok(true) => {
                    tracing::info!(%name, "a damaged object was made anew");
                    rebuilt.push(name.clone());
                }
                Ok(false) => {}
                Err(error) if stands_in_the_way_of_all(&error) => return Err(error),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(%name, error, "a damaged object was not made anew");
                }
            }
        }
        Ok(rebuilt)
    }

    /// Whether there was something to make anew, which is done now. `runs` is filled when it is needed.
    fn rebuild_one(
        &self,
        name: &ObjectName,
        runs: &mut Option<Runs>,
        monitor: &dyn Monitor,
    ) -> Result<bool, Error> {
        go_on(monitor)?;
        match self.names.parse(name) {
            Some(Named::Index(run, seq)) => {
                match self.known_runs(runs)?.committed.get(&run).copied() {
                    Some(of) => self.rebuild_index((run, seq), of, monitor),
                    None => Ok(false),
                }
            }
            Some(Named::Sums(run, seq)) => match self.known_runs(runs)?.open.contains(&run) {
                true => Ok(false),
                false => self.rebuild_sums(run, seq, monitor),
            },
            Some(Named::Proof(volume, backup)) => self.reprove(name, volume, backup, monitor),
            Some(Named::Reserve) => {
                self.target.delete(name)?;
                self.keep_reserve()?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn known_runs<'r>(&self, runs: &'r mut Option<Runs>) -> Result<&'r Runs, Error> {
        let known = match runs.take() {
            Some(known) => known,
            None => self.runs()?,
        };
        Ok(runs.insert(known))
    }

    fn runs(&self) -> Result<Runs, Error> {
        let (mut open, mut committed) = (BTreeSet::new(), BTreeMap::new());
        for key in self.list_names(None)?.manifests {
            if let Ok(manifest) = self.manifest(key.0, key.1) {
                committed.insert(manifest.run_id, key);
            }
        }
        list_each(&*self.target, &self.names.prefix("runs/"), |entry| {
            if let Some(Named::Run(_, run)) = self.names.parse(&entry.name) {
                committed.remove(&run);
                open.insert(run);
            }
            Ok::<_, Error>(())
        })?;
        Ok(Runs { open, committed })
    }

    fn reprove(
        &self,
        name: &ObjectName,
        volume: VolumeId,
        backup: BackupId,
        monitor: &dyn Monitor,
    ) -> Result<bool, Error> {
        self.target.delete(name)?;
        match self.read_back(volume, backup, monitor) {
            Ok(()) => Ok(true),
            // It is damaged or deleted, and has no proof for as long.
            Err(error) if error.is_of_one_object() || error.kind() == ErrorKind::NotFound => {
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Puts under a fresh number what no sound index object of the run says of its packs.
    fn rebuild_index(
        &self,
        (run, bad): (RunId, u32),
        (volume_id, backup_id): (VolumeId, BackupId),
        monitor: &dyn Monitor,
    ) -> Result<bool, Error> {
        let (mut last, mut known) = (bad, BTreeSet::new());
        for (name, seq) in self.numbered(&self.names.indexes_of(run))? {
            last = last.max(seq);
            let read = self.read_object(&name, Class::Index, run.to_bytes(), seq, MAX_INDEX_LEN);
            let index = read.and_then(|body| Index::decode(&body).map_err(|w| damaged(&name, w)));
            match index {
                Ok(index) => known.extend(index.packs.iter().map(|pack| pack.seq)),
                Err(error) if error.is_of_one_object() => {}
                Err(error) => return Err(error),
            }
        }
        let (mut packs, mut headers) = (vec![], HeaderCache::default());
        for (pack, len) in self.packs_of_run(run)? {
            if pack.is_tree() || known.contains(&pack.seq) {
                continue;
            }
            go_on(monitor)?;
            match self.index_pack(pack, len, &mut headers) {
                Ok(indexed) => packs.push(indexed),
                // What it holds is stored anew, and found there.
                Err(error) if error.is_of_one_object() => {}
                Err(error) => return Err(error),
            }
        }
        if !packs.is_empty() {
            let name = self.names.index(run, last + 1);
            let header = Header {
                seq: last + 1,
                ..self.header(Class::Index, run.to_bytes())
            };
            let index = Index {
                volume_id,
                backup_id,
                packs,
            };
            let object = self.seal(&name, &header, index.encode())?;
            self.target.put_new(&name, &object)?;
        } else if bad == 0 {
            return Ok(false);
        }
        if bad != 0 {
            self.target.delete(&self.names.index(run, bad))?;
        }
        Ok(true)
    }

    fn index_pack(
        &self,
        pack: PackId,
        len: u64,
        headers: &mut HeaderCache,
    ) -> Result<IndexPack, Error> {
        let name = self.names.pack(pack);
        let bytes = self.whole_pack(&name, len)?;
        let of_pack = |what| damaged(&name, what);
        let key = self.keys.object(&pack.header(self.keys.vault));
        let items = key
            .and_then(|key| directory(&key, &bytes))
            .map_err(of_pack)?;
        let pack_len =
            u32::try_from(len).map_err(|_| of_pack(Malformed::Wrong("it is too long")))?;
        let mut frames = Vec::with_capacity(items.len());
        for (spot, _) in items {
            let at = FrameLoc {
                pack,
                pack_len,
                spot,
            };
            let ids = headers.ids(self, &at)?;
            let prefixes = ids.iter().map(prefix_of).collect();
            frames.push(IndexFrame { spot, prefixes });
        }
        Ok(IndexPack {
            seq: pack.seq,
            len: pack_len,
            frames,
        })
    }

    /// Puts under a fresh number what no sound sums of the run say of its packs. A pack has a sum only
    /// if every frame or node of it is proven.
    fn rebuild_sums(&self, run: RunId, bad: u32, monitor: &dyn Monitor) -> Result<bool, Error> {
        let (mut last, mut known) = (bad, BTreeSet::new());
        for (name, seq) in self.numbered(&self.names.sums_of(run))? {
            last = last.max(seq);
            let len = self.target.head(&name)?.get();
            match read_sums(&*self.target, self.names, (run, seq), len) {
                Ok(sums) => known.extend(sums.iter().map(|sum| sum.seq)),
                Err(error) if error.is_of_one_object() => {}
                Err(error) => return Err(error),
            }
        }
        let headers = Mutex::new(HeaderCache::with_room(1));
        let (mut new, mut scanner) = (vec![], Scanner::new(self, &headers)?);
        for (pack, len) in self.packs_of_run(run)? {
            go_on(monitor)?;
            if known.contains(&pack.seq) || scanner.pack(pack, len)?.is_some() {
                continue;
            }
            let name = self.names.pack(pack);
            let bytes = self.whole_pack(&name, len)?;
            new.push(Sum::of(pack.seq, &bytes).map_err(|what| damaged(&name, what))?);
        }
        for (part, seq) in new.chunks(sums::MAX_SUMS).zip(last + 1..) {
            let header = self.header_of_sums(run, seq);
            let object = sums::encode(&header, part.to_vec());
            self.target.put_new(&self.names.sums(run, seq), &object)?;
        }
        self.target.delete(&self.names.sums(run, bad))?;
        Ok(true)
    }

    /// The header of sums: nobody seals them, so they need no salt.
    pub(crate) fn header_of_sums(&self, run: RunId, seq: u32) -> Header {
        Header {
            seq,
            ..Header::new(Class::Sums, self.keys.vault, run.to_bytes(), [0; 16])
        }
    }

    fn whole_pack(&self, name: &ObjectName, len: u64) -> Result<Vec<u8>, Error> {
        if len > MAX_PACK_LEN {
            return Err(damaged(name, Malformed::Wrong("it is too long")));
        }
        Ok(self.target.get(name, ByteRange::new(0, len))?)
    }

    /// The packs of a run that are listed, with their lengths.
    pub(crate) fn packs_of_run(&self, run: RunId) -> Result<Vec<(PackId, u64)>, Error> {
        let mut packs = vec![];
        list_each(&*self.target, &self.names.packs_of(run), |entry| {
            if let Some(Named::Pack(pack)) = self.names.parse(&entry.name) {
                packs.push((pack, entry.len.get()));
            }
            Ok::<_, Error>(())
        })?;
        Ok(packs)
    }

    /// The index objects or sums under a prefix, with their numbers.
    fn numbered(&self, prefix: &str) -> Result<Vec<(ObjectName, u32)>, Error> {
        let mut found = vec![];
        list_each(&*self.target, prefix, |entry| {
            if let Some(Named::Index(_, seq) | Named::Sums(_, seq)) = self.names.parse(&entry.name)
            {
                found.push((entry.name, seq));
            }
            Ok::<_, Error>(())
        })?;
        Ok(found)
    }
}
