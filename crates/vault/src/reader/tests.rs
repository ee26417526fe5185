//! Any part of a backup is what a restore of the whole would have there.

use std::sync::Arc;

use proptest::prelude::*;
use stillpoint_model::{ByteCount, ErrorKind};

use super::{BackupReader, LEAF, ReadCache};
use crate::target::{FaultTarget, ObjectName};
use crate::tests::support::{Bench, CHUNK, Disk, SMALL, chunks};
use crate::{CHUNK_LEN, Tuning, Vault};

/// The least cache there is: one frame.
fn small() -> Arc<ReadCache> {
    ReadCache::new(ByteCount::ZERO)
}

fn part(disk: &Disk, offset: u64, len: usize) -> Vec<u8> {
    (offset..offset + len as u64)
        .map(|at| {
            let chunk = disk.chunks.get(&(at / CHUNK));
            chunk.map_or(0, |chunk| chunk[(at % CHUNK) as usize])
        })
        .collect()
}

fn read(reader: &BackupReader, offset: u64, len: usize) -> Vec<u8> {
    let mut got = vec![0xee; len];
    reader.read_at(offset, &mut got).unwrap();
    got
}

/// A backup of a volume of three and a half leaves, the second one zeros, and its increment.
fn furnished(seed: u64, places: &[u64]) -> (Bench, Vec<(Disk, BackupReader)>) {
    let bench = Bench::new(seed);
    let mut disk = Disk::new(3 * LEAF + LEAF / 2 + 777);
    let leaf = LEAF / CHUNK;
    for place in places {
        let at = place % (2 * leaf + leaf / 2);
        let at = if at < leaf { at } else { at + leaf };
        disk.fill(at, at + 1);
    }
    disk.fill(disk.size / CHUNK, 5);
    let first = bench.back_up(&disk, None, None).backup_id;
    let before = disk.clone();
    disk.fill(1, 77);
    disk.fill(2, 0);
    let changed = [chunks(1, 2)];
    let second = bench.back_up(&disk, Some(first), Some(&changed)).backup_id;
    let cache = small();
    let open = |backup| bench.vault.open_backup(bench.volume, backup, &cache);
    let all = vec![
        (before, open(first).unwrap()),
        (disk, open(second).unwrap()),
    ];
    (bench, all)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_part_is_what_was_backed_up(
        seed in any::<u64>(),
        places in proptest::collection::vec(any::<u64>(), 0..40),
        reads in proptest::collection::vec((any::<u64>(), 0..200_000_usize), 1..30),
    ) {
        let (_bench, all) = furnished(seed, &places);
        for (disk, reader) in &all {
            let near = disk.chunks.keys().map(|chunk| (chunk * CHUNK, 40_000));
            for (offset, len) in reads.iter().copied().chain(near) {
                let offset = (offset % disk.size).saturating_sub(5000);
                let len = len.min(usize::try_from(disk.size - offset).unwrap());
                prop_assert!(read(reader, offset, len) == part(disk, offset, len), "at {offset}");
            }
        }
    }

    #[test]
    fn data_is_where_the_reader_says_and_nowhere_else(
        places in proptest::collection::vec(any::<u64>(), 0..60),
    ) {
        let (_bench, all) = furnished(9, &places);
        for (disk, reader) in &all {
            let (mut at, mut found) = (0, vec![]);
            while let Some(range) = reader.next_data(at).unwrap() {
                prop_assert!(range.offset >= at && range.len > 0 && range.end() <= disk.size);
                found.extend(range.offset / CHUNK..range.end().div_ceil(CHUNK));
                at = range.end();
            }
            let data = |chunk: &Vec<u8>| chunk.iter().any(|&byte| byte != 0);
            let expected = disk.chunks.iter().filter(|(_, chunk)| data(chunk));
            let expected: Vec<u64> = expected.map(|(at, _)| *at).collect();
            prop_assert_eq!(found, expected);
        }
    }
}

#[test]
fn many_threads_read_through_one_small_cache() {
    let (_bench, all) = furnished(3, &(0..300).collect::<Vec<_>>());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (disk, reader) = &all[thread % 2];
            scope.spawn(move || {
                for step in 0..60_u64 {
                    let offset = (step * 7 + thread as u64 * 31) % 290 * CHUNK + 100;
                    let len = 3 * CHUNK_LEN;
                    assert!(read(reader, offset, len) == part(disk, offset, len));
                }
            });
        }
    });
}

#[test]
fn zeros_and_what_was_read_lately_cost_no_look_at_the_target() {
    let (bench, all) = furnished(4, &[0, 1, 2, 3]);
    let counting = Arc::new(FaultTarget::counting(bench.target.clone()));
    let vault = bench.through(counting.clone()).unwrap();
    let backup = vault.list_backups(None).unwrap()[1].backup_id;
    let cache = ReadCache::new(ByteCount::from_mib(8));
    let reader = vault.open_backup(bench.volume, backup, &cache).unwrap();
    // The interior node; then the leaf and its frame.
    read(&reader, 2 * LEAF, 100_000);
    read(&reader, 0, 100_000);
    let before = counting.calls();
    assert!(read(&reader, 0, 100_000) == part(&all[1].0, 0, 100_000));
    assert!(read(&reader, LEAF, 100_000).iter().all(|&byte| byte == 0));
    assert!(
        read(&reader, 30 << 20, 100_000)
            .iter()
            .all(|&byte| byte == 0)
    );
    assert_eq!(counting.calls(), before);
}

#[test]
fn a_read_beyond_the_end_is_refused() {
    let (_bench, all) = furnished(5, &[]);
    let (disk, reader) = &all[0];
    let mut buf = [0; 2];
    for offset in [disk.size - 1, disk.size, u64::MAX] {
        let refused = reader.read_at(offset, &mut buf).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
    }
    reader.read_at(disk.size - 2, &mut buf).unwrap();
}

/// Flips a bit at a place in every pack of chunks.
fn damage(bench: &Bench, at: usize) -> Vec<ObjectName> {
    let packs = bench.target.names().into_iter().filter(|name| {
        let name = name.as_str();
        name.contains("/packs/") && !name.contains("/8000")
    });
    let packs: Vec<ObjectName> = packs.collect();
    for pack in &packs {
        bench.target.tamper(pack, |bytes| bytes[at] ^= 1);
    }
    packs
}

#[test]
fn damage_fails_the_reads_that_touch_it_and_no_others() {
    let mut bench = Bench::new(6);
    let tuning = Tuning {
        pack_len: 4 << 20,
        ..SMALL
    };
    bench.vault = bench.vault.with_tuning(tuning);
    let mut disk = Disk::new(300 * CHUNK);
    (0..192).for_each(|chunk| disk.fill(chunk, chunk + 1));
    let backup = bench.back_up(&disk, None, None).backup_id;
    // In the first frame of the one pack.
    assert_eq!(damage(&bench, 3000).len(), 1);
    let reader = bench.vault.open_backup(bench.volume, backup, &small());
    let reader = reader.unwrap();
    for chunk in 0..disk.size / CHUNK {
        let mut got = vec![0; CHUNK_LEN];
        match reader.read_at(chunk * CHUNK, &mut got) {
            Ok(()) => {
                assert!(chunk >= 64, "chunk {chunk} is damaged");
                assert!(
                    got == part(&disk, chunk * CHUNK, CHUNK_LEN),
                    "chunk {chunk}"
                );
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                assert!(chunk < 64, "chunk {chunk} is sound");
            }
        }
    }
}

#[test]
fn a_target_that_came_back_is_asked_again() {
    let (bench, all) = furnished(7, &[0, 1]);
    let backup = bench.vault.list_backups(None).unwrap()[0].backup_id;
    let packs = damage(&bench, 200);
    let vault: &Vault = &bench.vault;
    let reader = vault.open_backup(bench.volume, backup, &small()).unwrap();
    let mut got = vec![0; 100];
    reader.read_at(0, &mut got).unwrap_err();
    for pack in packs {
        bench.target.tamper(&pack, |bytes| bytes[200] ^= 1);
    }
    assert!(read(&reader, 0, 100) == part(&all[0].0, 0, 100));
}

#[test]
fn who_only_reads_leaves_no_mark_on_what_is_damaged() {
    let (bench, _) = furnished(8, &[0, 1]);
    let backup = bench.vault.list_backups(None).unwrap()[0].backup_id;
    damage(&bench, 200);
    let before = bench.target.names();
    let vault = bench.vault.clone().read_only();
    let reader = vault.open_backup(bench.volume, backup, &small()).unwrap();
    reader.read_at(0, &mut [0; 100]).unwrap_err();
    assert_eq!(bench.target.names(), before);
}
