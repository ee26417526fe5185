//! What a read-back costs, and what it still finds.

use std::sync::Arc;

use stillpoint_model::id::BackupId;
use stillpoint_model::progress::NullMonitor;

use super::support::*;
use crate::target::{FaultTarget, Target};
use crate::*;

/// 60 leaves with a chunk or two in each.
fn wide() -> Disk {
    let mut disk = Disk::new(60 * 4096 * CHUNK);
    (0..120).for_each(|n| disk.fill(n * 2048, n + 1));
    disk
}

fn commit(bench: &Bench, disk: &Disk, parent: Option<BackupId>, touched: u64) -> BackupId {
    let changed = [chunks(touched, 1)];
    let spec = bench.spec(bench.id(), parent, parent.map(|_| &changed[..]));
    let prepared = bench.vault.prepare_backup(&spec, disk, &NullMonitor);
    let receipt = prepared.unwrap().commit(&mut || Ok(())).unwrap();
    receipt.backup_id
}

fn calls_of_read_back(bench: &Bench, backup: BackupId) -> u64 {
    let counting = Arc::new(FaultTarget::counting(bench.target.clone()));
    let vault = bench.through(counting.clone()).unwrap();
    let opened = counting.calls();
    vault.read_back(bench.volume, backup, &NullMonitor).unwrap();
    counting.calls() - opened
}

fn increment(bench: &Bench) -> (BackupId, BackupId) {
    let mut disk = wide();
    let first = commit(bench, &disk, None, 0);
    disk.fill(4096 * 7, 999);
    (first, commit(bench, &disk, Some(first), 4096 * 7))
}

#[test]
fn its_cost_follows_the_change() {
    let bench = Bench::new(80);
    let (first, second) = increment(&bench);
    let whole = calls_of_read_back(&bench, first);
    let part = calls_of_read_back(&bench, second);
    assert!(whole > 60, "{whole}");
    assert!(part < 25, "{part}");
    // Asked again, it looks at everything.
    assert!(calls_of_read_back(&bench, second) > 60);
}

#[test]
fn a_parent_that_was_not_read_back_saves_nothing() {
    let bench = Bench::new(81);
    let (_, second) = increment(&bench);
    assert!(calls_of_read_back(&bench, second) > 60);
}

#[test]
fn any_new_pack_that_is_missing_is_found() {
    let bench = Bench::new(82);
    let mut disk = wide();
    let first = bench.back_up(&disk, None, None).backup_id;
    let before = bench.target.names();
    disk.fill(4096 * 7, 999);
    let second = commit(&bench, &disk, Some(first), 4096 * 7);
    let is_new =
        |name: &target::ObjectName| name.as_str().contains("/packs/") && !before.contains(name);
    let mut tried = 0;
    for name in bench.target.names().into_iter().filter(is_new) {
        let len = bench.target.head(&name).unwrap().get();
        let range = stillpoint_model::ByteRange::new(0, len);
        let bytes = bench.target.get(&name, range).unwrap();
        bench.target.delete(&name).unwrap();
        let found = bench.vault.read_back(bench.volume, second, &NullMonitor);
        assert!(matches!(found, Err(Error::Corrupt { .. })), "{name}");
        bench.target.put_new(&name, &bytes).unwrap();
        tried += 1;
    }
    assert_eq!(tried, 2, "a pack of chunks and one of nodes");
    bench
        .vault
        .read_back(bench.volume, second, &NullMonitor)
        .unwrap();
}

#[test]
fn a_volume_that_grew_or_shrank_by_a_level_is_read_back() {
    let bench = Bench::new(83);
    let mut disk = wide();
    let first = bench.back_up(&disk, None, None).backup_id;
    disk.resize(5 << 30);
    let grown = bench.back_up(&disk, Some(first), Some(&[]));
    assert_eq!(bench.restored(grown.backup_id), disk);
    assert_eq!(grown.bytes_read.get(), 0, "nothing changed but the size");
    disk.resize(60 * 4096 * CHUNK);
    let shrunk = bench.back_up(&disk, Some(grown.backup_id), Some(&[]));
    assert_eq!(bench.restored(shrunk.backup_id), disk);
}
