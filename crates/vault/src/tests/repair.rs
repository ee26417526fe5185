//! Damaged backups become whole again from what still has their content.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stillpoint_model::id::{BackupId, VolumeId};
use stillpoint_model::progress::{Monitor, NullMonitor};
use stillpoint_model::{ByteCount, ByteRange};

use super::support::*;
use super::torture::{each_seed, figure};
use crate::format::names::IdBytes;
use crate::format::object::Class;
use crate::target::{Fault, FaultTarget, ObjectName, Target};
use crate::*;

/// A vault with two backups of a volume, and a second vault with copies of them.
struct Pair {
    first: Bench,
    second: Bench,
    backups: Vec<(BackupId, Disk)>,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let first = Bench::new(seed);
        let second = Bench {
            volume: first.volume,
            ..Bench::new(seed + 1_000_000)
        };
        let mut disk = Disk::new(9000 * CHUNK);
        (0..90).for_each(|n| disk.fill(n * 97, n + 1));
        let one = first.back_up(&disk, None, None).backup_id;
        let mut backups = vec![(one, disk.clone())];
        (0..12).for_each(|n| disk.fill(n * 700, n + 5000));
        let two = first.back_up(&disk, Some(one), None).backup_id;
        backups.push((two, disk));
        for (backup, _) in &backups {
            let copied = second.vault.copy_backup(
                &first.vault,
                (first.volume, *backup),
                &mut || Ok(()),
                &NullMonitor,
            );
            assert!(matches!(copied, Ok(Copied::Now(_))));
        }
        Self {
            first,
            second,
            backups,
        }
    }

    fn affected(&self) -> BTreeSet<(VolumeId, BackupId)> {
        let report = self
            .first
            .vault
            .check(CheckLevel::Decrypt, &NullMonitor)
            .unwrap();
        let known = |id: &BackupId| self.backups.iter().any(|(backup, _)| backup == id);
        let affected = report.affected().into_iter().filter(known);
        affected.map(|backup| (self.first.volume, backup)).collect()
    }

    /// From the second vault.
    fn repair(&self, affected: &BTreeSet<(VolumeId, BackupId)>) -> Result<Repaired, Error> {
        let mut open = |volume, backup| {
            Ok(Vec::from_iter(Source::copy_in(
                &self.second.vault,
                volume,
                backup,
            )?))
        };
        let vault = &self.first.vault;
        vault.repair_backups(affected, &mut open, &mut || Ok(()), &NullMonitor)
    }

    /// Everything restores as it was, nothing is damaged, and what was replaced is collected.
    fn is_whole(&self, what: &str) {
        let bench = &self.first;
        for (backup, disk) in &self.backups {
            assert_eq!(bench.restored(*backup), *disk, "{what}: {backup}");
        }
        assert_eq!(self.affected(), BTreeSet::new(), "{what}");
        let listed = bench.vault.list_backups(None).unwrap();
        let listed: Vec<_> = listed.iter().map(|info| info.backup_id).collect();
        assert_eq!(
            listed,
            self.backups.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
            "{what}"
        );
        collect(bench, self.backups.iter().map(|(id, _)| *id));
        for (backup, disk) in &self.backups {
            assert_eq!(
                bench.restored(*backup),
                *disk,
                "{what}: {backup}, collected"
            );
        }
        // A pack of which a backup needs only what is sound stays, and stays named.
        let report = bench
            .vault
            .check(CheckLevel::Decrypt, &NullMonitor)
            .unwrap();
        assert_eq!(report.affected(), BTreeSet::new(), "{what}");
        let left = bench.vault.unreferenced().unwrap().objects;
        for problem in report.problems {
            assert!(!left.contains(&problem.object), "{what}: {problem:?}");
        }
    }
}

/// Collects until nothing is left to do.
fn collect(bench: &Bench, known: impl Iterator<Item = BackupId>) {
    let policy = CollectPolicy {
        keep_deleted: Duration::ZERO,
        grace: Duration::ZERO,
        confirmed: ByteCount::new(u64::MAX),
        known: known.map(|id| (bench.volume, id)).collect(),
        ..CollectPolicy::default()
    };
    bench.env.advance(Duration::from_secs(1));
    while bench.vault.collect(&policy, &NullMonitor).unwrap().outcome != Outcome::NothingToDo {}
}

fn objects(bench: &Bench, part: &str) -> Vec<ObjectName> {
    let names = bench.target.names().into_iter();
    names.filter(|name| name.as_str().contains(part)).collect()
}

/// Everything that a backup may need: packs of chunks, of nodes, manifests.
fn needed(bench: &Bench) -> Vec<ObjectName> {
    let mut names = objects(bench, "/packs/");
    names.extend(objects(bench, ".manifest"));
    names
}

fn all_renewed(repaired: &Repaired, affected: &BTreeSet<(VolumeId, BackupId)>) {
    assert_eq!(repaired.left, vec![]);
    let renewed: BTreeSet<_> = repaired.renewed.iter().map(|(backup, _)| *backup).collect();
    assert_eq!(
        renewed,
        affected.iter().map(|(_, backup)| *backup).collect()
    );
}

#[test]
fn whatever_a_backup_needs_is_repaired_from_a_second_vault() {
    let names = needed(&Pair::new(1).first);
    for name in &names {
        for what in ["header", "middle", "end", "cut", "gone"] {
            let pair = Pair::new(1);
            let target = &pair.first.target;
            match what {
                "header" => target.tamper(name, |bytes| bytes[90] ^= 1),
                "middle" => target.tamper(name, |bytes| {
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                }),
                "end" => target.tamper(name, |bytes| *bytes.last_mut().unwrap() ^= 1),
                "cut" => target.tamper(name, |bytes| bytes.truncate(bytes.len() / 2)),
                _ => target.delete(name).is_ok(),
            };
            let told = format!("{what} of {name}");
            let mut affected = pair.affected();
            if what == "gone" && name.as_str().ends_with(".manifest") {
                // A check does not know that there should be one; the caller does.
                let lost = |(id, _): &&(BackupId, Disk)| name.as_str().contains(&id.to_string());
                let (lost, _) = pair.backups.iter().find(lost).unwrap();
                affected.insert((pair.first.volume, *lost));
            }
            let repaired = pair
                .repair(&affected)
                .unwrap_or_else(|error| panic!("{told}: {error:?}"));
            all_renewed(&repaired, &affected);
            pair.is_whole(&told);
        }
    }
}

#[test]
fn what_a_live_volume_still_has_is_enough() {
    let pair = Pair::new(2);
    let (first, second) = (pair.backups[0].0, pair.backups[1].0);
    let live = pair.backups[1].1.clone();
    for pack in objects(&pair.first, "/packs/") {
        if !pack.as_str().contains("/8") {
            pair.first.target.tamper(&pack, |bytes| bytes[200] ^= 1);
        }
    }
    let affected = pair.affected();
    assert_eq!(affected.len(), 2);
    let mut open = |_, _| {
        let reader = Box::new(live.clone());
        Ok(vec![Source { reader, copy: None }])
    };
    let vault = &pair.first.vault;
    let repaired = vault.repair_backups(&affected, &mut open, &mut || Ok(()), &NullMonitor);
    let repaired = repaired.unwrap();
    // What was overwritten since the first backup is nowhere.
    assert_eq!(
        repaired
            .renewed
            .iter()
            .map(|(id, _)| *id)
            .collect::<Vec<_>>(),
        [second]
    );
    assert_eq!(repaired.left.len(), 1);
    assert!(
        repaired.left[0].1.contains("cannot be made whole"),
        "{:?}",
        repaired.left
    );
    assert_eq!(pair.first.restored(second), live);
    assert_eq!(
        pair.affected(),
        BTreeSet::from([(pair.first.volume, first)])
    );
    // And another day a second vault has the rest.
    let left = pair.affected();
    all_renewed(&pair.repair(&left).unwrap(), &left);
    pair.is_whole("after both");
}

#[test]
fn a_second_vault_that_lies_heals_nothing_and_is_said() {
    let pair = Pair::new(3);
    for pack in objects(&pair.first, "/packs/") {
        pair.first.target.tamper(&pack, |bytes| bytes[100] ^= 1);
    }
    let affected = pair.affected();
    let before = pair.first.target.names();
    // Its data rotted.
    for pack in objects(&pair.second, "/packs/") {
        pair.second.target.tamper(&pack, |bytes| bytes[100] ^= 1);
    }
    let repaired = pair.repair(&affected).unwrap();
    assert_eq!((repaired.renewed.len(), repaired.left.len()), (0, 2));
    assert_eq!(pair.first.target.names(), before, "nothing is left of it");
    // It holds other content under the same name, and proves it.
    let other = Bench {
        volume: pair.first.volume,
        ..Bench::new(4)
    };
    for (backup, disk) in &pair.backups {
        let mut disk = disk.clone();
        disk.fill(97, 4711);
        let spec = other.spec(*backup, None, None);
        let prepared = other
            .vault
            .prepare_backup(&spec, &disk, &NullMonitor)
            .unwrap();
        prepared.commit(&mut || Ok(())).unwrap();
    }
    let liar = Pair {
        second: other,
        ..pair
    };
    let repaired = liar.repair(&affected).unwrap();
    assert_eq!(
        (repaired.renewed.len(), repaired.left.len()),
        (0, 2),
        "{repaired:?}"
    );
    assert_eq!(liar.first.target.names(), before);
    assert_eq!(liar.affected(), affected);
}

#[test]
fn a_copy_of_another_vault_is_no_word_on_a_lost_manifest() {
    let pair = Pair::new(5);
    let (lost, disk) = &pair.backups[1];
    let name = pair.first.vault.names.manifest(pair.first.volume, *lost);
    pair.first.target.tamper(&name, |bytes| bytes[100] ^= 1);
    let stranger = Bench {
        volume: pair.first.volume,
        ..Bench::new(6)
    };
    let spec = stranger.spec(*lost, None, None);
    let prepared = stranger
        .vault
        .prepare_backup(&spec, disk, &NullMonitor)
        .unwrap();
    prepared.commit(&mut || Ok(())).unwrap();
    let pair = Pair {
        second: stranger,
        ..pair
    };
    let repaired = pair.repair(&pair.affected()).unwrap();
    assert_eq!(
        (repaired.renewed.len(), repaired.left.len()),
        (0, 1),
        "{repaired:?}"
    );
}

#[test]
fn it_can_be_damaged_and_repaired_again_and_is_deleted_as_one() {
    let pair = Pair::new(7);
    for round in 0..3 {
        for pack in objects(&pair.first, "/packs/") {
            pair.first.target.tamper(&pack, |bytes| bytes[100] ^= 1);
        }
        let affected = pair.affected();
        assert_eq!(affected.len(), 2, "round {round}");
        all_renewed(&pair.repair(&affected).unwrap(), &affected);
        if round % 2 == 1 {
            pair.is_whole("a round");
        }
    }
    let bench = &pair.first;
    let (gone, kept) = (pair.backups[0].0, pair.backups[1].0);
    bench.vault.delete_backup(bench.volume, gone).unwrap();
    bench.vault.undelete_backup(bench.volume, gone).unwrap();
    assert_eq!(bench.restored(gone), pair.backups[0].1);
    bench.vault.delete_backup(bench.volume, gone).unwrap();
    collect(bench, [kept].into_iter());
    let left = bench.target.names();
    assert!(
        !left
            .iter()
            .any(|name| name.as_str().contains(&gone.to_string()))
    );
    assert_eq!(bench.vault.unreferenced().unwrap(), Unreferenced::default());
    assert_eq!(bench.restored(kept), pair.backups[1].1);
    // An increment stands on what was renewed.
    let mut disk = pair.backups[1].1.clone();
    disk.fill(4000, 99);
    let changed = [chunks(4000, 1)];
    let next = bench.back_up(&disk, Some(kept), Some(&changed));
    assert!(next.bytes_read.get() <= CHUNK);
    assert_eq!(bench.restored(next.backup_id), disk);
}

#[test]
fn what_another_backup_is_read_by_is_not_deleted_alone() {
    let pair = Pair::new(8);
    let pack = &objects(&pair.first, "/packs/")[0];
    pair.first.target.tamper(pack, |bytes| bytes[100] ^= 1);
    pair.repair(&pair.affected()).unwrap();
    let bench = &pair.first;
    let names = bench.vault.list_names(None).unwrap();
    for (volume, backup) in bench.vault.renewing(&names).unwrap() {
        let refused = bench.vault.delete_backup(volume, backup);
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
}

#[test]
fn a_repair_that_dies_at_any_call_is_done_again() {
    let mut nth = 0;
    loop {
        let pair = Pair::new(9);
        for pack in objects(&pair.first, "/packs/").iter().take(2) {
            pair.first.target.tamper(pack, |bytes| bytes[100] ^= 1);
        }
        let affected = pair.affected();
        let target = Arc::new(FaultTarget::new(
            pair.first.target.clone(),
            nth,
            Fault::CrashAfter,
        ));
        let vault = pair.first.through(target.clone());
        let mut open = |volume, backup| {
            Ok(Vec::from_iter(Source::copy_in(
                &pair.second.vault,
                volume,
                backup,
            )?))
        };
        let died = vault.and_then(|vault| {
            vault.repair_backups(&affected, &mut open, &mut || Ok(()), &NullMonitor)
        });
        let is_over = target.calls() <= nth;
        assert_eq!(died.is_ok(), is_over, "call {nth}");
        for (volume, backup) in pair.first.vault.open_runs().unwrap() {
            pair.first.vault.reap_backup(volume, backup).unwrap();
        }
        let left = pair.affected();
        all_renewed(&pair.repair(&left).unwrap(), &left);
        pair.is_whole(&format!("call {nth}"));
        if is_over {
            break;
        }
        nth += 7;
    }
    assert!(nth > 40, "only {nth} calls");
}

#[test]
fn nothing_is_committed_when_the_caller_may_not_any_more() {
    let pair = Pair::new(10);
    let pack = &objects(&pair.first, "/packs/")[0];
    pair.first.target.tamper(pack, |bytes| bytes[100] ^= 1);
    let affected = pair.affected();
    let mut open = |volume, backup| {
        Ok(Vec::from_iter(Source::copy_in(
            &pair.second.vault,
            volume,
            backup,
        )?))
    };
    let mut fenced = || Err(stillpoint_model::ErrorKind::Fenced);
    let vault = &pair.first.vault;
    let failed = vault.repair_backups(&affected, &mut open, &mut fenced, &NullMonitor);
    assert!(
        matches!(failed, Err(Error::NotConfirmed { .. })),
        "{failed:?}"
    );
    assert_eq!(objects(&pair.first, ".renewed"), vec![]);
}

#[test]
fn whatever_rots_is_repaired_where_a_copy_exists() {
    each_seed("rot, repaired", "backups renewed", 0..figure(20), |seed| {
        let pair = Pair::new(100 + seed);
        let chance = |bound: usize| usize::try_from(pair.first.env.below(bound as u64)).unwrap();
        let names = needed(&pair.first);
        for _ in 0..=chance(4) {
            let name = &names[chance(names.len())];
            let Ok(len) = pair.first.target.head(name) else {
                continue;
            };
            let at = chance(usize::try_from(len.get()).unwrap());
            let range = ByteRange::new(0, len.get());
            let other = pair.first.target.get(name, range).unwrap();
            match chance(4) {
                0 => drop(pair.first.target.tamper(name, |bytes| bytes[at] ^= 1)),
                1 => drop(pair.first.target.tamper(name, |bytes| bytes.truncate(at))),
                2 if !name.as_str().ends_with(".manifest") => {
                    pair.first.target.delete(name).unwrap()
                }
                _ => {
                    let second = &names[chance(names.len())];
                    pair.first.target.tamper(second, |bytes| *bytes = other);
                }
            }
        }
        let affected = pair.affected();
        all_renewed(&pair.repair(&affected).unwrap(), &affected);
        pair.is_whole(&format!("seed {seed}"));
        affected.len() as u64
    });
}

/// A disk that is served to a guest, say, goes on through a repair and the collection after it.
#[test]
fn a_reader_that_was_open_before_a_repair_goes_on_by_the_successor() {
    let pair = Pair::new(9);
    let (bench, (backup, disk)) = (&pair.first, &pair.backups[0]);
    let cache = ReadCache::new(ByteCount::ZERO);
    let open = || bench.vault.open_backup(bench.volume, *backup, &cache);
    let (reader, wanted) = (open().unwrap(), disk.clone());
    let is_whole = || {
        let (mut got, mut all) = (vec![0; 4096 * 64], vec![0; 4096 * 64]);
        let ends = (0..wanted.size).step_by(got.len());
        for at in ends.filter(|at| at + 4096 * 64 <= wanted.size) {
            reader.read_at(at, &mut got)?;
            VolumeReader::read_at(&wanted, at, &mut all).unwrap();
            assert!(got == all, "at {at}");
        }
        Ok::<_, Error>(())
    };
    is_whole().unwrap();
    for pack in objects(bench, "/packs/") {
        bench.target.tamper(&pack, |bytes| bytes[120] ^= 1);
    }
    assert!(is_whole().is_err());
    let affected = pair.affected();
    assert_eq!(affected.len(), 2);
    all_renewed(&pair.repair(&affected).unwrap(), &affected);
    bench.env.advance(Duration::from_secs(60));
    is_whole().unwrap();
    collect(bench, pair.backups.iter().map(|(id, _)| *id));
    is_whole().unwrap();
    assert!(reader.next_data(0).unwrap().is_some());
}

/// Writes down how far work says that it is.
#[derive(Default)]
struct Witness {
    seen: Mutex<Vec<(u64, Option<u64>)>>,
    /// How much was said when what was stored began to be proven.
    proving: Mutex<Vec<usize>>,
}

impl Monitor for Witness {
    fn progress(&self, done: ByteCount, total: Option<ByteCount>) {
        let mut seen = self.seen.lock().unwrap();
        seen.push((done.get(), total.map(ByteCount::get)));
    }

    fn proving(&self) {
        let seen = self.seen.lock().unwrap().len();
        self.proving.lock().unwrap().push(seen);
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}

#[test]
fn a_repair_compresses_as_hard_as_the_backup_was_and_says_how_far_it_is() {
    let bench = Bench::new(901).compressing_at(19);
    let copies = Bench {
        volume: bench.volume,
        ..Bench::new(902)
    };
    let disk = words(80);
    let backup = bench.back_up(&disk, None, None);
    let key = (bench.volume, backup.backup_id);
    let copied = copies
        .vault
        .copy_backup(&bench.vault, key, &mut || Ok(()), &NullMonitor);
    assert!(matches!(copied, Ok(Copied::Now(_))));
    for pack in objects(&bench, "/packs/") {
        bench.target.tamper(&pack, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
    }
    // Whoever repairs knows of no plan.
    let vault = bench.through(bench.target.clone()).unwrap();
    let report = vault.check(CheckLevel::Decrypt, &NullMonitor).unwrap();
    let damaged = vault.to_repair(&report).unwrap();
    let mut open = |volume, backup| {
        let source = Source::copy_in(&copies.vault, volume, backup)?;
        Ok(Vec::from_iter(source))
    };
    let witness = Witness::default();
    let repaired = vault.repair_backups(&damaged, &mut open, &mut || Ok(()), &witness);
    let renewed = repaired.unwrap().renewed;
    let (stored, before) = (renewed[0].1.stored.get(), backup.stored.get());
    assert!(stored.abs_diff(before) < before / 20, "{stored}, {before}");
    assert_eq!(bench.restored(backup.backup_id), disk);

    let (seen, proving) = (witness.seen.into_inner(), witness.proving.into_inner());
    let (seen, proving) = (seen.unwrap(), proving.unwrap());
    let [at] = proving[..] else {
        panic!("{proving:?}");
    };
    let stored = &seen[..at];
    assert!(stored.is_sorted(), "{stored:?}");
    let (done, total) = stored[at - 1];
    assert_eq!(Some(done), total);
    assert_eq!(done, disk.size);
    assert!(seen.len() > at, "the proof is counted, too");
}

/// Seals a manifest with a flag that no version here knows, as a newer one would.
fn as_a_newer_version(bench: &Bench, name: &ObjectName, backup: BackupId) {
    let vault = &bench.vault;
    let manifest = vault.manifest(bench.volume, backup).unwrap();
    let mut header = vault.header(Class::Manifest, backup.to_bytes());
    header.flags.read = 1;
    let sealed = vault.seal(name, &header, manifest.encode()).unwrap();
    assert!(bench.target.tamper(name, |bytes| *bytes = sealed));
}

#[test]
fn a_flag_that_rotted_is_damage_and_one_that_was_sealed_stops_no_repair_of_others() {
    let pair = Pair::new(11);
    let [rotted, newer] = [0, 1].map(|at| pair.backups[at].0);
    let bench = &pair.first;
    let name_of = |backup| bench.vault.names.manifest(bench.volume, backup);
    let flags_at = 16;
    let flipped = |bytes: &mut Vec<u8>| bytes[flags_at] ^= 1;
    assert!(bench.target.tamper(&name_of(rotted), flipped));
    let error = bench.vault.manifest(bench.volume, rotted).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    as_a_newer_version(bench, &name_of(newer), newer);
    let error = bench.vault.manifest(bench.volume, newer).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");

    let both = BTreeSet::from([rotted, newer].map(|backup| (bench.volume, backup)));
    pair.affected();
    let repaired = pair.repair(&both).unwrap();
    let renewed: Vec<_> = repaired.renewed.iter().map(|(backup, _)| *backup).collect();
    assert_eq!(renewed, [rotted]);
    let left: Vec<_> = repaired.left.iter().map(|(backup, _)| *backup).collect();
    assert_eq!(left, [newer]);
}
