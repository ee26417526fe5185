//! The objects of a collection's epoch: what it condemned, what it doomed, that it is done.
//!
//! An epoch is numbered, one is open at a time, and its two decisions are objects that are put once.
//! Whoever collects reads them and goes on from there, so it does not matter who made them.

use stillpoint_model::Timestamp;
use stillpoint_model::id::{BackupId, RunId, VolumeId};

use super::names::IdBytes;
use super::pack::PackId;
use super::wire::{Malformed, Reader, Writer};

/// The most packs that one epoch condemns.
pub(crate) const MAX_PACKS: usize = 1 << 19;
/// The most backups or runs that an epoch's object names in one list.
pub(crate) const MAX_NAMED: usize = 1 << 19;
/// The longest of these objects.
pub(crate) const MAX_EPOCH_OBJECT_LEN: u64 = 64 << 20;

/// A backup by name.
pub(crate) type BackupKey = (VolumeId, BackupId);

/// The BLAKE3 hash of a tombstone's bytes: which deletion it was.
pub(crate) type TombstoneHash = [u8; 32];

/// What a collection means to remove, published before anything is waited for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Plan {
    /// When the collector's clock said that it was made.
    pub at: Timestamp,
    /// Backups whose time to be undeleted is over, with the tombstones that said so.
    pub backups: Vec<(BackupKey, TombstoneHash)>,
    /// Backups that were there and stay.
    pub kept: Vec<BackupKey>,
    /// Packs that nobody may begin to refer to.
    pub packs: Vec<PackId>,
    /// Runs whose index objects go.
    pub runs: Vec<RunId>,
}

/// What a collection removes, decided after the second look. Empty when it was given up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Doom {
    /// When the collector's clock said that it was decided.
    pub at: Timestamp,
    /// Backups to remove.
    pub backups: Vec<BackupKey>,
    /// Packs to delete.
    pub packs: Vec<PackId>,
    /// Runs whose index objects go.
    pub runs: Vec<RunId>,
}

const KEY_LEN: usize = 32;

fn write_key(w: &mut Writer, (volume, backup): BackupKey) {
    w.raw(&volume.to_bytes()).raw(&backup.to_bytes());
}

fn read_key(r: &mut Reader<'_>) -> Result<BackupKey, Malformed> {
    Ok((
        VolumeId::of_bytes(r.array()?),
        BackupId::of_bytes(r.array()?),
    ))
}

fn read_each<T>(
    r: &mut Reader<'_>,
    (max, len): (usize, usize),
    read: impl Fn(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let count = r.count(max, len)?;
    (0..count).map(|_| read(r)).collect()
}

fn write_packs_and_runs(w: &mut Writer, packs: &[PackId], runs: &[RunId]) {
    w.count(packs.len());
    packs.iter().for_each(|pack| pack.write(w));
    w.count(runs.len());
    for run in runs {
        w.raw(&run.to_bytes());
    }
}

fn read_packs_and_runs(r: &mut Reader<'_>) -> Result<(Vec<PackId>, Vec<RunId>), Malformed> {
    let packs = read_each(r, (MAX_PACKS, PackId::LEN), PackId::read)?;
    let runs = read_each(r, (MAX_NAMED, 16), |r| Ok(RunId::of_bytes(r.array()?)))?;
    Ok((packs, runs))
}

impl Plan {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.i64(self.at.as_micros()).count(self.backups.len());
        for (key, tombstone) in &self.backups {
            write_key(&mut w, *key);
            w.raw(tombstone);
        }
        w.count(self.kept.len());
        self.kept.iter().for_each(|key| write_key(&mut w, *key));
        write_packs_and_runs(&mut w, &self.packs, &self.runs);
        w.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let at = Timestamp::from_micros(r.i64()?);
        let backups = read_each(&mut r, (MAX_NAMED, KEY_LEN + 32), |r| {
            Ok((read_key(r)?, r.array()?))
        })?;
        let kept = read_each(&mut r, (MAX_NAMED, KEY_LEN), read_key)?;
        let (packs, runs) = read_packs_and_runs(&mut r)?;
        r.finish()?;
        Ok(Self {
            at,
            backups,
            kept,
            packs,
            runs,
        })
    }
}

impl Doom {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.i64(self.at.as_micros()).count(self.backups.len());
        self.backups.iter().for_each(|key| write_key(&mut w, *key));
        write_packs_and_runs(&mut w, &self.packs, &self.runs);
        w.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let at = Timestamp::from_micros(r.i64()?);
        let backups = read_each(&mut r, (MAX_NAMED, KEY_LEN), read_key)?;
        let (packs, runs) = read_packs_and_runs(&mut r)?;
        r.finish()?;
        Ok(Self {
            at,
            backups,
            packs,
            runs,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> BackupKey {
        (VolumeId::of_bytes([n; 16]), BackupId::of_bytes([n + 1; 16]))
    }

    fn plan() -> Plan {
        let run = RunId::of_bytes([9; 16]);
        Plan {
            at: Timestamp::from_micros(5),
            backups: vec![(key(1), [7; 32])],
            kept: vec![key(3), key(5)],
            packs: vec![PackId { run, seq: 4 }],
            runs: vec![run],
        }
    }

    #[test]
    fn a_plan_reads_back_as_it_was_written() {
        assert_eq!(Plan::decode(&plan().encode()), Ok(plan()));
    }

    #[test]
    fn a_doom_reads_back_as_it_was_written() {
        let Plan {
            at, packs, runs, ..
        } = plan();
        let doom = Doom {
            at,
            backups: vec![key(1)],
            packs,
            runs,
        };
        assert_eq!(Doom::decode(&doom.encode()), Ok(doom));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            drop((Plan::decode(&bytes), Doom::decode(&bytes)));
        }

        #[test]
        fn a_cut_plan_is_refused(cut in 0_usize..100) {
            let whole = plan().encode();
            let len = whole.len().saturating_sub(1 + cut);
            prop_assert!(Plan::decode(&whole[..len]).is_err());
        }
    }
}
