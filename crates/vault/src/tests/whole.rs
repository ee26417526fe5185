//! First backups: round trips, receipts, keys.

use stillpoint_model::ErrorKind;
use stillpoint_model::id::{RunId, VaultId};
use stillpoint_model::progress::{Monitor, NullMonitor};

use super::support::*;
use crate::target::Target;
use crate::*;

#[test]
fn restores_what_was_backed_up() {
    let bench = Bench::new(1);
    let mut disk = Disk::new(200 * CHUNK);
    for chunk in [0, 1, 2, 63, 64, 65, 120, 199] {
        disk.fill(chunk, chunk + 1);
    }
    let receipt = bench.back_up(&disk, None, None);
    assert_eq!(bench.restored(receipt.backup_id), disk);
    assert_eq!(receipt.used.get(), 8 * CHUNK);
    assert_eq!(receipt.changed, receipt.used);
    assert_eq!(receipt.bytes_read.get(), 8 * CHUNK);
}

#[test]
fn a_size_that_is_no_multiple_of_anything_survives() {
    let bench = Bench::new(2);
    for size in [
        0,
        1,
        511,
        CHUNK - 1,
        CHUNK + 1,
        65 * CHUNK + 512,
        4097 * CHUNK + 7,
    ] {
        let mut disk = Disk::new(size);
        if size > 0 {
            disk.fill(size.div_ceil(CHUNK) - 1, 5);
        }
        let receipt = bench.back_up(&disk, None, None);
        assert_eq!(bench.restored(receipt.backup_id), disk, "{size}");
    }
}

#[test]
fn stored_is_what_the_target_grew_by() {
    let bench = Bench::new(3);
    let mut disk = Disk::new(500 * CHUNK);
    (0..300).for_each(|chunk| disk.fill(chunk, chunk + 1));
    let total = || -> u64 {
        let page = bench.target.list("", None, 10_000).unwrap();
        // That it was read back is noted when it was: it counts to no backup.
        let counts = |entry: &&target::ListEntry| !entry.name.as_str().ends_with(".proven");
        let counted = page.entries.iter().filter(counts);
        counted.map(|entry| entry.len.get()).sum()
    };
    let before = total();
    let receipt = bench.back_up(&disk, None, None);
    assert_eq!(receipt.stored.get(), total() - before);
}

#[test]
fn equal_chunks_are_stored_once() {
    let bench = Bench::new(4);
    let mut disk = Disk::new(1000 * CHUNK);
    (0..1000).for_each(|chunk| disk.fill(chunk, chunk % 10 + 1));
    let receipt = bench.back_up(&disk, None, None);
    assert!(receipt.stored.get() < 12 * CHUNK, "{}", receipt.stored);
    assert_eq!(bench.restored(receipt.backup_id), disk);
}

#[test]
fn another_volume_with_the_same_chunks_stores_few() {
    let bench = Bench::new(5);
    let mut disk = Disk::new(400 * CHUNK);
    (0..400).for_each(|chunk| disk.fill(chunk, chunk + 1));
    let first = bench.back_up(&disk, None, None);
    let second = bench.back_up(&disk, None, None);
    assert!(
        second.stored.get() < first.stored.get() / 20,
        "{}",
        second.stored
    );
    assert_eq!(second.content_hash, first.content_hash);
    assert_eq!(bench.restored(second.backup_id), disk);
}

#[test]
fn a_foreign_root_key_says_which_one_is_needed() {
    let bench = Bench::new(6);
    let other = RootKey::generate(&*bench.env);
    let id = bench.vault.id();
    let opened = Vault::open(bench.target.clone(), id, &other, bench.now_env());
    match opened {
        Err(Error::WrongKey { needed, given, .. }) => {
            assert_eq!((needed, given), (bench.root.id(), other.id()));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn objects_of_one_vault_do_not_open_in_another() {
    let (a, b) = (Bench::new(7), Bench::new(8));
    let mut disk = Disk::new(10 * CHUNK);
    disk.fill(3, 3);
    let receipt = a.back_up(&disk, None, None);
    for name in a.target.names() {
        let rest = name.as_str().split_once('/').unwrap().1;
        if rest.starts_with("keys") || rest == "reserve" {
            continue;
        }
        let len = a.target.head(&name).unwrap().get();
        let bytes = a
            .target
            .get(&name, stillpoint_model::ByteRange::new(0, len))
            .unwrap();
        let moved = target::ObjectName::new(format!("{}/{rest}", b.vault.id())).unwrap();
        b.target.put_new(&moved, &bytes).unwrap();
    }
    let error = b.vault.describe(a.volume, receipt.backup_id).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[test]
fn a_vault_that_is_not_there_is_not_found() {
    let bench = Bench::new(9);
    let id = VaultId::generate(&*bench.env);
    let error = Vault::open(bench.target.clone(), id, &bench.root, bench.now_env()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn an_unconfirmed_fence_puts_no_manifest() {
    let bench = Bench::new(10);
    let mut disk = Disk::new(10 * CHUNK);
    disk.fill(1, 1);
    let before = bench.target.names();
    let spec = bench.spec(bench.id(), None, None);
    let prepared = bench
        .vault
        .prepare_backup(&spec, &disk, &NullMonitor)
        .unwrap();
    let error = prepared.commit(&mut || Err(ErrorKind::Fenced)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert_eq!(bench.vault.list_backups(None).unwrap(), []);
    prepared.abort().unwrap();
    assert_eq!(bench.target.names(), before);
}

#[test]
fn a_run_that_was_reaped_cannot_commit() {
    let bench = Bench::new(11);
    let mut disk = Disk::new(10 * CHUNK);
    disk.fill(1, 1);
    let before = bench.target.names();
    let spec = bench.spec(bench.id(), None, None);
    let prepared = bench
        .vault
        .prepare_backup(&spec, &disk, &NullMonitor)
        .unwrap();
    let reaped = bench
        .vault
        .reap_backup(bench.volume, spec.backup_id)
        .unwrap();
    assert_eq!((reaped.runs, reaped.committed), (1, false));
    let error = prepared.commit(&mut || Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    assert_eq!(bench.target.names(), before);
}

#[test]
fn committing_again_gives_the_same_receipt() {
    let bench = Bench::new(12);
    let disk = Disk::new(10 * CHUNK);
    let spec = bench.spec(bench.id(), None, None);
    let prepared = bench
        .vault
        .prepare_backup(&spec, &disk, &NullMonitor)
        .unwrap();
    let receipt = prepared.commit(&mut || Ok(())).unwrap();
    assert_eq!(prepared.commit(&mut || Ok(())).unwrap(), receipt);
    let again = bench
        .vault
        .prepare_backup(&spec, &disk, &NullMonitor)
        .unwrap_err();
    assert!(matches!(again, Error::BackupExists(_)));
    assert!(prepared.abort().is_err());
    assert_eq!(bench.restored(receipt.backup_id), disk);
}

struct CancelAfter(std::sync::atomic::AtomicU64);

impl Monitor for CancelAfter {
    fn progress(&self, _: stillpoint_model::ByteCount, _: Option<stillpoint_model::ByteCount>) {}

    fn is_cancelled(&self) -> bool {
        use std::sync::atomic::Ordering::SeqCst;
        self.0
            .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
            .is_err()
    }
}

#[test]
fn a_cancelled_backup_leaves_nothing() {
    let bench = Bench::new(13);
    let mut disk = Disk::new(600 * CHUNK);
    (0..600).for_each(|chunk| disk.fill(chunk, chunk + 1));
    let before = bench.target.names();
    let spec = bench.spec(bench.id(), None, None);
    let error = bench
        .vault
        .prepare_backup(&spec, &disk, &CancelAfter(6.into()))
        .unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert_eq!(bench.target.names(), before);
}

#[test]
fn what_is_prepared_and_not_committed_is_unreferenced() {
    let bench = Bench::new(14);
    let mut disk = Disk::new(10 * CHUNK);
    disk.fill(1, 1);
    let kept = bench.back_up(&disk, None, None);
    assert_eq!(bench.vault.unreferenced().unwrap(), Unreferenced::default());
    disk.fill(2, 2);
    let spec = bench.spec(bench.id(), Some(kept.backup_id), None);
    let prepared = bench
        .vault
        .prepare_backup(&spec, &disk, &NullMonitor)
        .unwrap();
    let found = bench.vault.unreferenced().unwrap();
    assert_eq!(found.runs, [(spec.backup_id, prepared.run_id())]);
    assert_eq!(found.objects.len(), 4, "{found:?}");
    let run: RunId = prepared.run_id();
    assert!(
        found
            .objects
            .iter()
            .all(|name| name.as_str().contains(&run.to_string()))
    );
}

#[test]
fn an_uncommitted_runs_chunks_are_no_hits_for_others() {
    let bench = Bench::new(15);
    let mut disk = Disk::new(100 * CHUNK);
    (0..100).for_each(|chunk| disk.fill(chunk, chunk + 1));
    let spec = bench.spec(bench.id(), None, None);
    let open = bench
        .vault
        .prepare_backup(&spec, &disk, &NullMonitor)
        .unwrap();
    let other = bench.back_up(&disk, None, None);
    assert!(other.stored.get() >= 50 * CHUNK / 2, "{}", other.stored);
    open.abort().unwrap();
    assert_eq!(bench.restored(other.backup_id), disk);
}

#[test]
fn deleting_is_a_tombstone_that_can_be_taken_back() {
    let bench = Bench::new(16);
    let mut disk = Disk::new(10 * CHUNK);
    disk.fill(1, 1);
    let receipt = bench.back_up(&disk, None, None);
    bench
        .vault
        .delete_backup(bench.volume, receipt.backup_id)
        .unwrap();
    bench
        .vault
        .delete_backup(bench.volume, receipt.backup_id)
        .unwrap();
    let info = bench
        .vault
        .describe(bench.volume, receipt.backup_id)
        .unwrap();
    assert!(info.deleted.is_some());
    let spec = bench.spec(bench.id(), Some(receipt.backup_id), None);
    let error = bench
        .vault
        .prepare_backup(&spec, &disk, &NullMonitor)
        .unwrap_err();
    assert!(matches!(error, Error::BackupDeleted(_)));
    bench
        .vault
        .undelete_backup(bench.volume, receipt.backup_id)
        .unwrap();
    let info = bench
        .vault
        .describe(bench.volume, receipt.backup_id)
        .unwrap();
    assert_eq!(info.deleted, None);
    assert_eq!(info.metadata["name"], "web-1");
}

#[test]
fn rescues_to_a_file_from_a_directory_and_a_key_file() {
    let dir = tempfile::tempdir().unwrap();
    let env = std::sync::Arc::new(stillpoint_env::SystemEnv::new());
    let key_file = dir.path().join("root.key");
    let root = RootKey::create(&key_file, &*env).unwrap();
    assert!(
        RootKey::create(&key_file, &*env).is_err(),
        "a key file is never replaced"
    );
    let store = dir.path().join("target");
    std::fs::create_dir(&store).unwrap();
    let target = target::LocalTarget::open(&store).unwrap();
    let target: std::sync::Arc<dyn Target> = std::sync::Arc::new(target);
    target::probe(&*target, &*env).unwrap();
    let spec = VaultSpec {
        vault_id: VaultId::generate(&*env),
        account_id: stillpoint_model::id::AccountId::generate(&*env),
    };
    let vault = Vault::open_or_create(target.clone(), spec, &root, env.clone()).unwrap();
    let mut disk = Disk::new(300 * CHUNK);
    (0..100).for_each(|chunk| disk.fill(2 * chunk, chunk + 1));
    let bench = Bench::new(17);
    let backup = bench.spec(bench.id(), None, None);
    let prepared = vault.prepare_backup(&backup, &disk, &NullMonitor).unwrap();
    prepared.commit(&mut || Ok(())).unwrap();
    drop((vault, root));

    let env: std::sync::Arc<dyn stillpoint_model::Env> = env;
    let root = RootKey::load(&key_file).unwrap();
    let (vaults, unopened) = rescue::open_all(&target, &root, &env).unwrap();
    assert!(unopened.is_empty());
    let (vault, info) = rescue::find_backup(&vaults, backup.backup_id).unwrap();
    assert!(
        vault
            .check(CheckLevel::Decrypt, &NullMonitor)
            .unwrap()
            .is_sound()
    );
    let out = dir.path().join("disk.raw");
    rescue::restore_to_file(vault, &info, &out, &NullMonitor).unwrap();
    let mut expected = vec![0; 300 * CHUNK_LEN];
    VolumeReader::read_at(&disk, 0, &mut expected).unwrap();
    assert_eq!(std::fs::read(&out).unwrap(), expected);
    assert!(rescue::restore_to_file(vault, &info, &out, &NullMonitor).is_err());
    assert_eq!(
        std::fs::read(&out).unwrap(),
        expected,
        "an existing file is never touched"
    );
}
