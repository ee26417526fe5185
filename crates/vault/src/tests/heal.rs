//! A chunk that failed verification is never shared again.

use std::sync::Mutex;

use stillpoint_model::progress::NullMonitor;
use stillpoint_model::{ByteRange, id::BackupId};

use super::support::*;
use crate::target::{ObjectName, Target};
use crate::*;

fn disk() -> Disk {
    let mut disk = Disk::new(9000 * CHUNK);
    (0..300).for_each(|chunk| disk.fill(chunk * 17, chunk + 1));
    disk
}

/// Packs of chunks, or of nodes.
fn packs(bench: &Bench, of_nodes: bool) -> Vec<ObjectName> {
    let is_pack = |name: &ObjectName| name.as_str().contains("/packs/");
    let is_tree = |name: &ObjectName| name.as_str().contains("/8");
    let names = bench.target.names().into_iter();
    names
        .filter(|name| is_pack(name) && is_tree(name) == of_nodes)
        .collect()
}

/// Rots the body of a pack's last frame, whose header stays sound.
fn rot_body(bench: &Bench, pack: &ObjectName) {
    // Behind the body come the directory and its length.
    let changed = bench.target.tamper(pack, |bytes| {
        let footer = bytes.len() - 4;
        let directory = u32::from_le_bytes(bytes[footer..].try_into().unwrap()) as usize;
        bytes[footer - directory - 40] ^= 4;
    });
    assert!(changed);
}

fn marks(bench: &Bench) -> usize {
    let names = bench.target.names();
    let is_mark = |name: &&ObjectName| name.as_str().contains("/quarantine/");
    names.iter().filter(is_mark).count()
}

fn check(bench: &Bench) -> CheckReport {
    bench
        .vault
        .check(CheckLevel::Decrypt, &NullMonitor)
        .unwrap()
}

/// The next backup is whole, though its parent is not.
fn heals(bench: &Bench, parent: BackupId, changed: Option<&[ByteRange]>) {
    let healed = bench.back_up(&disk(), Some(parent), changed).backup_id;
    assert_eq!(bench.restored(healed), disk(), "{changed:?}");
    let affected = check(bench).affected();
    assert!(affected.contains(&parent) && !affected.contains(&healed));
}

#[test]
fn after_a_check_a_backup_stores_anew_what_rotted() {
    for changed in [None, Some(&[][..]), Some(&[chunks(0, 9000)][..])] {
        let bench = Bench::new(70);
        let first = bench.back_up(&disk(), None, None).backup_id;
        let all = packs(&bench, false);
        rot_body(&bench, &all[0]);
        rot_body(&bench, &all[all.len() - 1]);
        assert!(check(&bench).affected().contains(&first));
        assert_eq!(marks(&bench), 2);
        heals(&bench, first, changed);
    }
}

#[test]
fn after_a_check_a_backup_stores_anew_what_went_missing() {
    for changed in [None, Some(&[][..])] {
        let bench = Bench::new(71);
        let first = bench.back_up(&disk(), None, None).backup_id;
        bench.target.delete(&packs(&bench, false)[1]).unwrap();
        assert!(check(&bench).affected().contains(&first));
        heals(&bench, first, changed);
    }
}

#[test]
fn after_a_check_a_backup_shares_no_node_of_a_rotten_pack() {
    for changed in [None, Some(&[][..])] {
        let bench = Bench::new(72);
        let first = bench.back_up(&disk(), None, None).backup_id;
        bench
            .target
            .tamper(&packs(&bench, true)[0], |bytes| bytes[100] ^= 1);
        assert!(check(&bench).affected().contains(&first));
        heals(&bench, first, changed);
    }
}

#[test]
fn a_restore_that_meets_rot_marks_it() {
    let bench = Bench::new(73);
    let first = bench.back_up(&disk(), None, None).backup_id;
    rot_body(&bench, &packs(&bench, false)[0]);
    let out = Mutex::new(Disk::new(disk().size));
    let restored = bench.vault.restore(bench.volume, first, &out, &NullMonitor);
    assert!(restored.is_err());
    assert_eq!(marks(&bench), 1);
    heals(&bench, first, Some(&[]));
}

#[test]
fn another_volume_does_not_share_what_rotted() {
    let bench = Bench::new(74);
    bench.back_up(&disk(), None, None);
    rot_body(&bench, &packs(&bench, false)[0]);
    check(&bench);
    let other = Bench {
        volume: stillpoint_model::id::VolumeId::generate(&*bench.env),
        ..bench
    };
    let copy = other.back_up(&disk(), None, None).backup_id;
    assert_eq!(other.restored(copy), disk());
}

#[test]
fn marks_of_packs_that_nothing_uses_are_unreferenced() {
    let bench = Bench::new(75);
    let spec = bench.spec(bench.id(), None, None);
    let prepared = bench.vault.prepare_backup(&spec, &disk(), &NullMonitor);
    drop(prepared.unwrap());
    rot_body(&bench, &packs(&bench, false)[0]);
    check(&bench);
    assert_eq!(marks(&bench), 1);
    let names = bench.vault.unreferenced().unwrap().objects;
    assert!(
        names
            .iter()
            .any(|name| name.as_str().contains("quarantine"))
    );
    bench
        .vault
        .reap_backup(bench.volume, spec.backup_id)
        .unwrap();
    assert_eq!(marks(&bench), 0);
}
