//! Zero bytes free: deleting and reaping work, and nothing that counts is lost.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use stillpoint_model::ErrorKind;
use stillpoint_model::progress::NullMonitor;

use super::support::*;
use super::torture::each_seed;
use crate::target::{Fault, FaultTarget, LocalTarget, Target};
use crate::*;

fn disk(seed: u64) -> Disk {
    let mut disk = Disk::new(200 * CHUNK);
    (0..20).for_each(|chunk| disk.fill(chunk * 3, chunk + seed));
    disk
}

#[test]
fn a_tombstone_finds_room_on_a_full_target() {
    let bench = Bench::new(60);
    let kept = bench.back_up(&disk(1), None, None).backup_id;
    let full = Arc::new(FaultTarget::new(bench.target.clone(), 0, Fault::FullFrom));
    let vault = bench.through(full).unwrap();
    vault.delete_backup(bench.volume, kept).unwrap();
    let info = vault.describe(bench.volume, kept).unwrap();
    assert!(info.deleted.is_some());
    assert!(bench.target.head(&bench.vault.names.reserve()).is_err());
}

#[test]
fn no_backup_starts_without_the_reserve() {
    let bench = Bench::new(61);
    bench.target.delete(&bench.vault.names.reserve()).unwrap();
    let before = bench.target.names();
    let full = Arc::new(FaultTarget::new(bench.target.clone(), 0, Fault::FullFrom));
    let vault = bench.through(full).unwrap();
    let spec = bench.spec(bench.id(), None, None);
    let error = vault
        .prepare_backup(&spec, &disk(1), &NullMonitor)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert_eq!(bench.target.names(), before);
}

#[test]
fn the_reserve_comes_back_with_the_next_backup() {
    let bench = Bench::new(62);
    bench.target.delete(&bench.vault.names.reserve()).unwrap();
    bench.back_up(&disk(1), None, None);
    assert!(bench.target.head(&bench.vault.names.reserve()).is_ok());
}

/// A file system of its own in memory, gone with the test.
struct SmallFs {
    dir: tempfile::TempDir,
}

impl SmallFs {
    /// None where this process may not mount.
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "stillpoint"]);
        let mounted = mount
            .arg(dir.path())
            .output()
            .is_ok_and(|o| o.status.success());
        mounted.then_some(Self { dir })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes every byte that is left; gives the file that has them.
    fn fill_up(&self) -> PathBuf {
        use std::io::Write;
        let path = self.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        for block in [vec![7_u8; 64 << 10], vec![7; 4096], vec![7; 1]] {
            while file.write_all(&block).is_ok() {}
        }
        path
    }
}

impl Drop for SmallFs {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(self.path()).status());
    }
}

#[test]
fn deleting_and_reaping_work_on_a_directory_with_no_byte_left() {
    let Some(small) = SmallFs::mount("6m") else {
        return;
    };
    let root = small.path().join("target");
    std::fs::create_dir(&root).unwrap();
    let target = Arc::new(LocalTarget::open(&root).unwrap());
    let base = Bench::new(63);
    let ids = VaultSpec {
        vault_id: base.vault.id(),
        account_id: base.vault.account_id(),
    };
    let vault = Vault::open_or_create(target, ids, &base.root, base.now_env()).unwrap();
    let bench = Bench {
        vault: vault.with_tuning(SMALL),
        ..base
    };
    let kept = bench.back_up(&disk(1), None, None).backup_id;
    let gone = bench.back_up(&disk(50), None, None).backup_id;
    let crashed = bench.spec(bench.id(), None, None);
    let prepared = bench
        .vault
        .prepare_backup(&crashed, &disk(99), &NullMonitor);
    drop(prepared.unwrap());
    let filler = small.fill_up();

    bench.vault.delete_backup(bench.volume, gone).unwrap();
    let filled_again = small.fill_up();
    let reaped = bench.vault.reap_backup(bench.volume, crashed.backup_id);
    assert_eq!(reaped.unwrap().runs, 1);
    assert_eq!(bench.vault.unreferenced().unwrap(), Unreferenced::default());
    assert_eq!(bench.restored(kept), disk(1));
    assert_eq!(filler, filled_again);
    std::fs::remove_file(filler).unwrap();
    let next = bench.back_up(&disk(99), None, None).backup_id;
    assert_eq!(bench.restored(next), disk(99));
}

/// A life on a target that is full from its `nth` call on; how many calls it took.
fn life_until_full(seed: u64, nth: u64) -> u64 {
    let bench = Bench::new(seed);
    let kept = bench.back_up(&disk(1), None, None).backup_id;
    let gone = bench.back_up(&disk(2), Some(kept), None).backup_id;
    let full = Arc::new(FaultTarget::new(bench.target.clone(), nth, Fault::FullFrom));
    let vault = bench.through(full.clone()).unwrap();
    let mut told = vec![(kept, disk(1))];
    for version in [3, 4] {
        let spec = bench.spec(bench.id(), Some(kept), None);
        let made = vault.prepare_backup(&spec, &disk(version), &NullMonitor);
        let made = made.and_then(|prepared| prepared.commit(&mut || Ok(())));
        let made = made.and_then(|_| vault.read_back(bench.volume, spec.backup_id, &NullMonitor));
        match made {
            Ok(()) => told.push((spec.backup_id, disk(version))),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Full, "call {nth}: {error}"),
        }
    }
    // What gives room back works whatever is left.
    vault.delete_backup(bench.volume, gone).unwrap();
    for (volume, backup) in vault.open_runs().unwrap() {
        vault.reap_backup(volume, backup).unwrap();
    }
    let policy = CollectPolicy {
        keep_deleted: std::time::Duration::ZERO,
        grace: std::time::Duration::ZERO,
        confirmed: stillpoint_model::ByteCount::new(u64::MAX),
        ..CollectPolicy::default()
    };
    bench.env.advance(std::time::Duration::from_secs(1));
    let collected = vault.collect(&policy, &NullMonitor).unwrap();
    assert_eq!(collected.outcome, Outcome::Done, "call {nth}");
    assert_eq!(bench.vault.unreferenced().unwrap(), Unreferenced::default());
    for (backup, disk) in told {
        assert_eq!(bench.restored(backup), disk, "call {nth}");
    }
    full.calls()
}

#[test]
fn a_target_that_is_full_from_any_call_on_gives_room_back_and_loses_nothing() {
    let calls = life_until_full(64, u64::MAX);
    each_seed("full disk", "calls", 0..calls, |nth| {
        life_until_full(65, nth)
    });
    assert!(calls > 100, "only {calls} calls");
}
