//! Damage in every class of object: found always, and laid at the right door.

use std::collections::BTreeSet;
use std::sync::Mutex;

use stillpoint_model::id::BackupId;
use stillpoint_model::progress::NullMonitor;

use super::support::*;
use super::torture::{each_seed, figure};
use crate::target::{MemoryTarget, ObjectName, Target};
use crate::*;

/// A vault with three backups, one of another volume's content, one deleted.
fn furnished(seed: u64) -> (Bench, Vec<(BackupId, Disk)>) {
    let bench = Bench::new(seed);
    let mut disk = Disk::new(300 * CHUNK);
    (0..24).for_each(|chunk| disk.fill(chunk * 3, chunk + 1));
    let mut all = vec![];
    let first = bench.back_up(&disk, None, None).backup_id;
    all.push((first, disk.clone()));
    (0..10).for_each(|chunk| disk.fill(chunk, chunk + 500));
    let second = bench.back_up(&disk, Some(first), None).backup_id;
    all.push((second, disk.clone()));
    let mut other = Disk::new(100 * CHUNK);
    (0..20).for_each(|chunk| other.fill(chunk, chunk + 900));
    all.push((bench.back_up(&other, None, None).backup_id, other));
    bench.vault.delete_backup(bench.volume, second).unwrap();
    // A run that is under way, so that there is an object of that class, too.
    let spec = bench.spec(bench.id(), None, None);
    drop(
        bench
            .vault
            .prepare_backup(&spec, &all[2].1, &NullMonitor)
            .unwrap(),
    );
    (bench, all)
}

/// The backups that really cannot be restored.
fn lost(bench: &Bench, all: &[(BackupId, Disk)]) -> BTreeSet<BackupId> {
    let restores = |backup: BackupId, disk: &Disk| {
        let out = Mutex::new(Disk::new(disk.size));
        match bench
            .vault
            .restore(bench.volume, backup, &out, &NullMonitor)
        {
            Ok(_) => {
                assert_eq!(&*out.lock().unwrap(), disk, "a restore lied");
                true
            }
            Err(_) => false,
        }
    };
    all.iter()
        .filter(|(id, disk)| !restores(*id, disk))
        .map(|(id, _)| *id)
        .collect()
}

fn expect_found(bench: &Bench, all: &[(BackupId, Disk)], name: &ObjectName, how: &str) {
    let report = bench
        .vault
        .check(CheckLevel::Decrypt, &NullMonitor)
        .unwrap();
    assert!(!report.is_sound(), "{how} of {name} went unnoticed");
    assert!(
        report
            .problems
            .iter()
            .any(|problem| problem.object == *name),
        "{how} of {name}"
    );
    assert_eq!(
        report.affected(),
        lost(bench, all),
        "{how} of {name}: {report:?}"
    );
}

fn bytes_of(target: &MemoryTarget, name: &ObjectName) -> Vec<u8> {
    let len = target.head(name).unwrap().get();
    target
        .get(name, stillpoint_model::ByteRange::new(0, len))
        .unwrap()
}

#[test]
fn a_flipped_bit_anywhere_is_found_and_its_victims_are_named() {
    let (bench, all) = furnished(40);
    for name in bench.target.names() {
        let len = bytes_of(&bench.target, &name).len();
        let spots = [0, 13, 17, 40, 70, 81, 90, 200, len / 2];
        let ends = [len - 20, len - 3];
        for at in spots.into_iter().chain(ends).filter(|&at| at < len) {
            bench.target.tamper(&name, |bytes| bytes[at] ^= 0x10);
            expect_found(&bench, &all, &name, &format!("flip at {at} of {len}"));
            bench.target.tamper(&name, |bytes| bytes[at] ^= 0x10);
        }
    }
    assert!(
        bench
            .vault
            .check(CheckLevel::Decrypt, &NullMonitor)
            .unwrap()
            .is_sound()
    );
}

#[test]
fn a_cut_object_is_found() {
    let (bench, all) = furnished(41);
    for name in bench.target.names() {
        let whole = bytes_of(&bench.target, &name);
        for len in [0, 79, 80, whole.len() / 2, whole.len() - 1] {
            bench.target.tamper(&name, |bytes| bytes.truncate(len));
            expect_found(&bench, &all, &name, &format!("cut to {len}"));
            bench.target.tamper(&name, |bytes| *bytes = whole.clone());
        }
    }
}

#[test]
fn objects_that_changed_places_are_found() {
    let (bench, all) = furnished(42);
    let names = bench.target.names();
    for (one, two) in names.iter().zip(names.iter().skip(1)) {
        let (a, b) = (bytes_of(&bench.target, one), bytes_of(&bench.target, two));
        bench.target.tamper(one, |bytes| *bytes = b.clone());
        bench.target.tamper(two, |bytes| *bytes = a.clone());
        expect_found(&bench, &all, one, "swap");
        bench.target.tamper(one, |bytes| *bytes = a);
        bench.target.tamper(two, |bytes| *bytes = b);
    }
}

#[test]
fn a_pack_that_went_missing_is_found_without_reading_packs() {
    let (bench, all) = furnished(43);
    let open = bench.vault.unreferenced().unwrap().objects;
    for name in bench.target.names() {
        if !name.as_str().contains("/packs/") || open.contains(&name) {
            continue;
        }
        let bytes = bytes_of(&bench.target, &name);
        bench.target.delete(&name).unwrap();
        let report = bench
            .vault
            .check(CheckLevel::Present, &NullMonitor)
            .unwrap();
        assert!(report.problems.iter().any(|problem| problem.object == name));
        assert_eq!(report.affected(), lost(&bench, &all), "{name}");
        for (id, _) in &all {
            let gone = report.affected().contains(id);
            let deleted = bench
                .vault
                .describe(bench.volume, *id)
                .unwrap()
                .deleted
                .is_some();
            let read_back = bench.vault.read_back(bench.volume, *id, &NullMonitor);
            assert_eq!(read_back.is_err(), gone || deleted);
        }
        bench.target.put_new(&name, &bytes).unwrap();
    }
}

#[test]
fn a_sink_that_lies_is_found_by_the_comparison() {
    struct Forgetful(Mutex<Disk>);
    impl VolumeWriter for Forgetful {
        fn write_at(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
            let mut data = data.to_vec();
            if offset == 0 {
                data[77] ^= 1;
            }
            self.0.write_at(offset, &data)
        }
        fn write_zeros(&self, range: stillpoint_model::ByteRange) -> std::io::Result<()> {
            self.0.write_zeros(range)
        }
        fn flush(&self) -> std::io::Result<()> {
            Ok(())
        }
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
            VolumeWriter::read_at(&self.0, offset, buf)
        }
    }
    let (bench, all) = furnished(44);
    let sink = Forgetful(Mutex::new(Disk::new(all[0].1.size)));
    let error = bench
        .vault
        .restore(bench.volume, all[0].0, &sink, &NullMonitor)
        .unwrap_err();
    assert!(matches!(error, Error::Mismatch(_)), "{error}");
}

#[test]
fn zeros_that_were_not_written_are_found_by_the_comparison() {
    struct Lazy(Mutex<Disk>);
    impl VolumeWriter for Lazy {
        fn write_at(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
            self.0.write_at(offset, data)
        }
        fn write_zeros(&self, _: stillpoint_model::ByteRange) -> std::io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> std::io::Result<()> {
            Ok(())
        }
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
            VolumeWriter::read_at(&self.0, offset, buf)
        }
    }
    let (bench, all) = furnished(45);
    let sink = Lazy(Mutex::new(Disk::new(all[0].1.size)));
    sink.0.lock().unwrap().fill(299, 8);
    let error = bench
        .vault
        .restore(bench.volume, all[0].0, &sink, &NullMonitor)
        .unwrap_err();
    assert!(matches!(error, Error::Mismatch(_)), "{error}");
}

#[test]
fn a_check_of_some_names_all_that_a_bad_object_affects() {
    let (bench, all) = furnished(45);
    let live: BTreeSet<_> = [all[0].0, all[2].0].into();
    let some = live.iter().map(|backup| (bench.volume, *backup)).collect();
    let verify = |level| {
        bench
            .vault
            .verify_backups(&some, level, &NullMonitor)
            .unwrap()
    };
    assert!(verify(CheckLevel::Decrypt).is_sound());
    for name in bench.target.names() {
        let whole = bytes_of(&bench.target, &name);
        bench
            .target
            .tamper(&name, |bytes| bytes[whole.len() / 2] ^= 0x10);
        let (report, lost) = (verify(CheckLevel::Decrypt), lost(&bench, &all));
        assert_eq!(
            &report.affected() & &live,
            &lost & &live,
            "flip in {name}: {report:?}"
        );
        if !report.is_sound() {
            assert_eq!(report.affected(), lost, "flip in {name}: {report:?}");
        }
        bench.target.tamper(&name, |bytes| *bytes = whole.clone());
    }
}

#[test]
fn a_check_of_some_finds_what_is_gone() {
    let (bench, all) = furnished(46);
    let backup = all[0].0;
    let some = BTreeSet::from([(bench.volume, backup)]);
    let manifests = bench.target.names().into_iter();
    let name = manifests
        .filter(|name| name.as_str().ends_with(".manifest"))
        .find(|name| name.as_str().contains(&backup.to_string()))
        .unwrap();
    bench.target.delete(&name).unwrap();
    for level in [CheckLevel::Present, CheckLevel::Decrypt] {
        let report = bench.vault.verify_backups(&some, level, &NullMonitor);
        let report = report.unwrap();
        assert_eq!(report.problems[0].object, name);
        assert_eq!(report.affected(), BTreeSet::from([backup]));
    }
}

#[test]
fn the_runs_that_are_open_are_known_with_their_volumes() {
    let (bench, all) = furnished(47);
    let open = bench.vault.open_runs().unwrap();
    assert_eq!(open.len(), 1);
    let (volume, backup) = *open.first().unwrap();
    assert!(volume == bench.volume && all.iter().all(|(id, _)| *id != backup));
    bench.vault.reap_backup(volume, backup).unwrap();
    assert!(bench.vault.open_runs().unwrap().is_empty());
}

/// One thing that happens to a vault's objects, by chance; what it was done to, and what it was.
fn damage(bench: &Bench, chance: impl Fn(usize) -> usize) -> (ObjectName, &'static str) {
    let names = bench.target.names();
    let name = names[chance(names.len())].clone();
    let (whole, other) = (bytes_of(&bench.target, &name), &names[chance(names.len())]);
    let other = bytes_of(&bench.target, other);
    let at = chance(whole.len());
    let what = match chance(6) {
        0 => "a flipped bit",
        1 => "a cut",
        2 => "a sector of zeros",
        3 => "more at its end",
        4 => "another object's bytes",
        _ => "gone",
    };
    bench.target.tamper(&name, |bytes| match what {
        "a flipped bit" => bytes[at] ^= 1 << (at % 8),
        "a cut" => bytes.truncate(at),
        "a sector of zeros" => {
            let end = bytes.len().min(at + 512);
            bytes[at..end].fill(0);
        }
        "more at its end" => bytes.push(7),
        _ => *bytes = other,
    });
    if what == "gone" {
        bench.target.delete(&name).unwrap();
    }
    (name, what)
}

#[test]
fn whatever_rots_is_found_and_laid_at_the_right_door() {
    each_seed("rot", "objects damaged", 0..figure(500), |seed| {
        let (bench, all) = furnished(100 + seed);
        let with_bytes = |name: ObjectName| (name.clone(), bytes_of(&bench.target, &name));
        let before: Vec<_> = bench.target.names().into_iter().map(with_bytes).collect();
        let chance = |bound: usize| usize::try_from(bench.env.below(bound as u64)).unwrap();
        let several = 1 + chance(3);
        let damaged: Vec<_> = (0..several).map(|_| damage(&bench, chance)).collect();
        let report = bench
            .vault
            .check(CheckLevel::Decrypt, &NullMonitor)
            .unwrap();
        for (name, what) in &damaged {
            let (_, was) = before.iter().find(|(other, _)| other == name).unwrap();
            // What is gone and needed by no backup may come and go at any time. Two damages may
            // have made it good again, and another object's bytes may be the same.
            let is_there = bench.target.head(name).is_ok();
            if is_there && bytes_of(&bench.target, name) != *was {
                let found = report
                    .problems
                    .iter()
                    .any(|problem| problem.object == *name);
                assert!(found, "seed {seed}: {what} in {name} went unnoticed");
            }
        }
        // Without its manifest nobody but the caller knows that there was a backup.
        let mut lost = lost(&bench, &all);
        let manifest = |id: BackupId| bench.vault.names.manifest(bench.volume, id);
        lost.retain(|id| bench.target.head(&manifest(*id)).is_ok());
        assert_eq!(
            report.affected(),
            lost,
            "seed {seed}: {damaged:?}: {report:?}"
        );
        several as u64
    });
}
