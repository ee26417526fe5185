//! Comparing packs with what they hashed to when they were put.
//!
//! The sums of a run's packs lie in the clear beside them, so whoever reaches the target can tell
//! whether a pack is still what was put: the machine that has the disks, for one, without any key.
//! It costs reading and one hash; nothing is decrypted or decompressed.
//!
//! **What it proves**: that the bytes are those that were put. Not that they are what a backup says
//! (that takes the key), and nothing against somebody who writes into the target. Packs from before
//! there were sums are not covered, and counted.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use stillpoint_model::id::{RunId, VaultId};
use stillpoint_model::progress::Monitor;
use stillpoint_model::{ByteCount, ByteRange};

use crate::crew::work_on;
use crate::format::names::{IdBytes, Named, Names};
use crate::format::object::{Class, Header};
use crate::format::pack::{MAX_PACK_LEN, PackId};
use crate::format::sums::{MAX_SUMS_LEN, Sum, decode};
use crate::format::wire::Malformed;
use crate::target::{ObjectName, Target, list_each};
use crate::vault::damaged;
use crate::{Error, rescue};

/// Threads that read and compare.
const WORKERS: usize = 3;

/// What became of the packs of one vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scrubbed {
    /// The vault.
    pub vault_id: VaultId,
    /// Packs that are as they were put, or are not: those that have a sum.
    pub compared: usize,
    /// Their bytes.
    pub bytes: ByteCount,
    /// Packs that have none.
    pub uncovered: usize,
    /// Objects that are not as they were put, and what is wrong with each.
    pub damaged: Vec<(ObjectName, String)>,
}

/// Compares every pack in a target that has a sum, vault by vault. It needs no key, and writes
/// nothing. Which backups a damaged pack affects only a check with the key can tell.
pub fn scrub(target: &dyn Target, monitor: &dyn Monitor) -> Result<Vec<Scrubbed>, Error> {
    let mut scrubbed = vec![];
    for vault in rescue::vault_ids(target)? {
        scrubbed.push(scrub_vault(target, Names { vault }, monitor)?);
    }
    Ok(scrubbed)
}

fn scrub_vault(
    target: &dyn Target,
    names: Names,
    monitor: &dyn Monitor,
) -> Result<Scrubbed, Error> {
    let mut packs = vec![];
    list_each(target, &names.prefix("packs/"), |entry| {
        if let Some(Named::Pack(pack)) = names.parse(&entry.name) {
            packs.push((pack, entry.len.get()));
        }
        Ok::<_, Error>(())
    })?;
    let known = KnownSums::read(target, names, |_| true)?;
    let compared = known.compare(target, names, &packs, WORKERS, monitor)?;
    let wrong = compared.wrong.into_iter();
    let mut damaged = known.damaged;
    damaged.extend(wrong.map(|(pack, what)| (names.pack(pack), what)));
    Ok(Scrubbed {
        vault_id: names.vault,
        compared: compared.packs,
        bytes: compared.bytes,
        uncovered: packs.len() - compared.packs,
        damaged,
    })
}

/// What packs hashed to.
pub(crate) struct KnownSums {
    sums: HashMap<PackId, Sum>,
    /// Objects of sums that cannot be read, and why.
    pub damaged: Vec<(ObjectName, String)>,
}

/// What a comparison came to.
pub(crate) struct Compared {
    /// Packs that have a sum.
    pub packs: usize,
    pub bytes: ByteCount,
    /// Those that differ from it, and how.
    pub wrong: Vec<(PackId, String)>,
}

impl KnownSums {
    /// Reads the sums of these runs.
    pub(crate) fn read(
        target: &dyn Target,
        names: Names,
        wanted: impl Fn(RunId) -> bool,
    ) -> Result<Self, Error> {
        let mut objects = vec![];
        list_each(target, &names.prefix("sums/"), |entry| {
            if let Some(Named::Sums(run, seq)) = names.parse(&entry.name)
                && wanted(run)
            {
                objects.push((run, seq, entry));
            }
            Ok::<_, Error>(())
        })?;
        let mut known = Self {
            sums: HashMap::new(),
            damaged: vec![],
        };
        for (run, seq, entry) in objects {
            match read_sums(target, names, (run, seq), entry.len.get()) {
                Ok(sums) => known.sums.extend(sums.into_iter().map(|sum| {
                    let pack = PackId { run, seq: sum.seq };
                    (pack, sum)
                })),
                // It went since the listing, with its packs.
                Err(error) if error.is_missing() => {}
                Err(error) if error.is_of_one_object() => {
                    known.damaged.push((entry.name, error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(known)
    }

    /// Reads and compares the packs that have a sum. An error is of the target.
    pub(crate) fn compare(
        &self,
        target: &dyn Target,
        names: Names,
        packs: &[(PackId, u64)],
        workers: usize,
        monitor: &dyn Monitor,
    ) -> Result<Compared, Error> {
        let with_sum = |(pack, len): &(PackId, u64)| Some((*pack, *len, *self.sums.get(pack)?));
        let covered: Vec<_> = packs.iter().filter_map(with_sum).collect();
        let total: u64 = covered.iter().map(|(_, len, _)| len).sum();
        let (done, wrong) = (Mutex::new(0_u64), Mutex::new(vec![]));
        let make = || {
            let (mut bytes, done, wrong) = (vec![], &done, &wrong);
            Ok(move |(pack, len, sum): (PackId, u64, Sum)| {
                let what = compare_one(target, &names.pack(pack), len, &sum, &mut bytes)?;
                if let Some(what) = what {
                    let mut wrong = wrong.lock().unwrap_or_else(PoisonError::into_inner);
                    wrong.push((pack, what));
                }
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                *done += len;
                monitor.progress(ByteCount::new(*done), Some(ByteCount::new(total)));
                match monitor.is_cancelled() {
                    true => Err(Error::Cancelled),
                    false => Ok(()),
                }
            })
        };
        work_on(workers, make, |jobs| {
            covered.iter().try_for_each(|job| jobs.send(*job))
        })?;
        let mut wrong = wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
        wrong.sort();
        Ok(Compared {
            packs: covered.len(),
            bytes: ByteCount::new(total),
            wrong,
        })
    }

    /// The packs among these that have no sum.
    pub(crate) fn uncovered(&self, packs: &[(PackId, u64)]) -> HashSet<PackId> {
        let all = packs.iter().map(|(pack, _)| *pack);
        all.filter(|pack| !self.sums.contains_key(pack)).collect()
    }
}

/// Reads one object of sums, of the length that it was listed with.
pub(crate) fn read_sums(
    target: &dyn Target,
    names: Names,
    (run, seq): (RunId, u32),
    len: u64,
) -> Result<Vec<Sum>, Error> {
    let name = names.sums(run, seq);
    if len > MAX_SUMS_LEN {
        return Err(damaged(&name, Malformed::Wrong("it is too long")));
    }
    let object = target.get(&name, ByteRange::new(0, len))?;
    let wanted = Header {
        seq,
        ..Header::new(Class::Sums, names.vault.to_bytes(), run.to_bytes(), [0; 16])
    };
    decode(&wanted, &object).map_err(|what| damaged(&name, what))
}

/// What is wrong with a pack, if something is.
fn compare_one(
    target: &dyn Target,
    name: &ObjectName,
    len: u64,
    sum: &Sum,
    bytes: &mut Vec<u8>,
) -> Result<Option<String>, Error> {
    if len != u64::from(sum.len) || len > MAX_PACK_LEN {
        return Ok(Some("it has another length than was put".to_owned()));
    }
    match target.get_into(name, ByteRange::new(0, len), bytes) {
        Ok(()) => {}
        Err(error) => {
            let error = Error::from(error);
            return match error.is_of_one_object() {
                // A collection may have removed it since the listing.
                true if error.is_missing() => Ok(None),
                true => Ok(Some(error.to_string())),
                false => Err(error),
            };
        }
    }
    let same = *blake3::hash(bytes).as_bytes() == sum.hash;
    Ok((!same).then(|| "it is not what was put".to_owned()))
}
