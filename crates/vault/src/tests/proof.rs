//! Putting to the test what change tracking said.

use stillpoint_model::ByteRange;
use stillpoint_model::id::BackupId;
use stillpoint_model::progress::NullMonitor;

use super::support::*;
use crate::format::pack::FIRST_TREE_SEQ;
use crate::target::Target;
use crate::*;

const SIZE: u64 = 600 * CHUNK;

fn disk() -> Disk {
    let mut disk = Disk::new(SIZE);
    (0..300).for_each(|chunk| disk.fill(chunk, chunk + 1));
    disk
}

/// A proven backup of `disk`, of which `claimed` is said to have changed.
fn prove(bench: &Bench, disk: &Disk, parent: BackupId, claimed: &[ByteRange]) -> (Receipt, Missed) {
    let spec = bench.spec(bench.id(), Some(parent), Some(claimed));
    let prepared = bench
        .vault
        .prepare_proof(&spec, disk, &NullMonitor)
        .unwrap();
    let missed = prepared.missed().clone();
    let receipt = prepared.commit(&mut || Ok(())).unwrap();
    assert_eq!(bench.restored(receipt.backup_id), *disk);
    (receipt, missed)
}

#[test]
fn what_was_said_and_is_so_is_no_miss() {
    let (bench, mut disk) = (Bench::new(81), disk());
    let first = bench.back_up(&disk, None, None).backup_id;
    disk.fill(7, 999);
    disk.fill(400, 998);
    let (receipt, missed) = prove(&bench, &disk, first, &[chunks(7, 1), chunks(300, 300)]);
    assert_eq!(missed, Missed::default());
    assert_eq!(receipt.changed.get(), 2 * CHUNK);
}

#[test]
fn what_was_not_said_is_stored_and_named() {
    let (bench, mut disk) = (Bench::new(82), disk());
    let first = bench.back_up(&disk, None, None).backup_id;
    // Written anew, zeroed, written where nothing was.
    disk.fill(7, 999);
    disk.fill(20, 0);
    disk.fill(21, 0);
    disk.fill(500, 5);
    let (receipt, missed) = prove(&bench, &disk, first, &[chunks(100, 10)]);
    assert_eq!(missed.bytes.get(), 4 * CHUNK);
    assert_eq!(missed.first, [chunks(7, 1), chunks(20, 2), chunks(500, 1)]);
    assert_eq!(receipt.changed.get(), 4 * CHUNK);
}

#[test]
fn data_that_went_without_a_word_is_named_though_its_whole_subtree_is_zeros() {
    let bench = Bench::new(83);
    let mut disk = Disk::new(3 * 4096 * CHUNK);
    disk.fill(5000, 1);
    let first = bench.back_up(&disk, None, None).backup_id;
    disk.fill(5000, 0);
    let (_, missed) = prove(&bench, &disk, first, &[]);
    assert_eq!(missed.first, [chunks(5000, 1)]);
}

#[test]
fn what_cannot_be_compared_is_no_miss() {
    let (bench, disk) = (Bench::new(84), disk());
    let first = bench.back_up(&disk, None, None).backup_id;
    for seq in [0, FIRST_TREE_SEQ] {
        let packs = bench.vault.names.prefix("packs/");
        let names = bench.target.list(&packs, None, 1000).unwrap().entries;
        let name = names
            .iter()
            .find(|entry| entry.name.as_str().ends_with(&format!("{seq:08x}")));
        bench.target.delete(&name.unwrap().name).unwrap();
        let (_, missed) = prove(&bench, &disk, first, &[]);
        assert_eq!(missed, Missed::default());
    }
}

#[test]
fn backups_that_relied_on_tracking_are_counted_until_all_is_read() {
    let (bench, disk) = (Bench::new(85), disk());
    let tracked = |id| bench.vault.describe(bench.volume, id).unwrap().tracked;
    let first = bench.back_up(&disk, None, None).backup_id;
    let second = bench.back_up(&disk, Some(first), Some(&[])).backup_id;
    let third = bench.back_up(&disk, Some(second), Some(&[])).backup_id;
    assert_eq!([first, second, third].map(tracked), [0, 1, 2]);
    let (proven, _) = prove(&bench, &disk, third, &[]);
    assert_eq!(tracked(proven.backup_id), 0);
    let in_full = bench.back_up(&disk, Some(third), None).backup_id;
    assert_eq!(tracked(in_full), 0);
}
