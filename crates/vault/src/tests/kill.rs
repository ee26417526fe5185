//! A process that writes backups is killed at random moments, again and again.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use stillpoint_env::{SimEnv, SystemEnv};
use stillpoint_model::id::{AccountId, BackupId, VaultId, VolumeId};
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::{ByteCount, ByteRange, Env};

use super::support::*;
use crate::target::{ListPage, LocalTarget, ObjectName, Target, TargetError};
use crate::*;

/// Where the child works; without it the child's test does nothing.
const DIRECTORY: &str = "STILLPOINT_VAULT_KILL";
const KILLS: u64 = 20;

/// The volume as it is for its n-th backup.
fn state(n: u64) -> Disk {
    let mut disk = Disk::new(400 * CHUNK + 5);
    for step in 0..=n {
        (0..12).for_each(|chunk| disk.fill((step * 31 + chunk * 7) % 400, step * 100 + chunk));
    }
    disk
}

fn open(dir: &Path, target: Arc<dyn Target>) -> (Vault, VolumeId) {
    // Every process has the same ids and keys.
    let fixed = SimEnv::new(7);
    let root = RootKey::generate(&fixed);
    let ids = VaultSpec {
        vault_id: VaultId::generate(&fixed),
        account_id: AccountId::generate(&fixed),
    };
    let volume = VolumeId::generate(&fixed);
    assert!(dir.is_dir());
    let vault = Vault::open_or_create(target, ids, &root, Arc::new(SystemEnv::new())).unwrap();
    (vault.with_tuning(SMALL), volume)
}

/// Says each call before it is made, so that the parent can choose a moment.
struct Telling(LocalTarget);

fn tell(line: &str) {
    let mut out = std::io::stderr().lock();
    writeln!(out, "{line}").unwrap();
}

impl Target for Telling {
    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), TargetError> {
        tell("put");
        self.0.put_new(name, bytes)
    }
    fn get(&self, name: &ObjectName, range: ByteRange) -> Result<Vec<u8>, TargetError> {
        tell("get");
        self.0.get(name, range)
    }
    fn head(&self, name: &ObjectName) -> Result<ByteCount, TargetError> {
        tell("head");
        self.0.head(name)
    }
    fn list(&self, p: &str, after: Option<&str>, limit: usize) -> Result<ListPage, TargetError> {
        tell("list");
        self.0.list(p, after, limit)
    }
    fn delete(&self, name: &ObjectName) -> Result<(), TargetError> {
        tell("delete");
        self.0.delete(name)
    }
    fn can_fill_up(&self) -> bool {
        true
    }
}

/// The newest backup there, and the number of its state.
fn newest(vault: &Vault, volume: VolumeId) -> Option<(BackupId, u64)> {
    let all = vault.list_backups(Some(volume)).unwrap();
    let number = |info: &BackupInfo| info.metadata["state"].parse().unwrap();
    all.last().map(|info| (info.backup_id, number(info)))
}

/// The child: backs up one state after the other until it is killed.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let dir = Path::new(&dir);
    let (vault, volume) = open(dir, Arc::new(Telling(LocalTarget::open(dir).unwrap())));
    let env = SystemEnv::new();
    loop {
        let parent = newest(&vault, volume);
        let number = parent.map_or(0, |(_, number)| number + 1);
        let spec = BackupSpec {
            backup_id: BackupId::generate(&env),
            volume_id: volume,
            parent: parent.map(|(id, _)| id),
            changed: None,
            metadata: BTreeMap::from([("state".to_owned(), number.to_string())]),
            keep_until: None,
        };
        let prepared = vault
            .prepare_backup(&spec, &state(number), &NullMonitor)
            .unwrap();
        prepared.commit(&mut || Ok(())).unwrap();
        vault
            .read_back(volume, spec.backup_id, &NullMonitor)
            .unwrap();
        tell(&format!("available {}", spec.backup_id));
    }
}

/// Starts a child and kills it at its `calls`-th call; gives what it said was available.
fn run_and_kill(dir: &Path, calls: u64) -> Vec<BackupId> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::kill::child", "--nocapture"])
        .env(DIRECTORY, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = vec![];
    let mut made = 0;
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while made < calls {
        let line = lines.next().expect("the child died by itself").unwrap();
        assert!(!line.contains("panicked"), "{line}");
        match line.strip_prefix("available ") {
            Some(id) => told.push(id.parse().unwrap()),
            None => made += 1,
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it still said before it died counts, too.
    let rest = lines.map_while(Result::ok);
    told.extend(rest.filter_map(|line| line.strip_prefix("available ")?.parse::<BackupId>().ok()));
    told
}

/// Reaps what is under way; then nothing is left over, and every committed backup is whole.
fn prove(dir: &Path, told: &[BackupId]) {
    let (vault, volume) = open(dir, Arc::new(LocalTarget::open(dir).unwrap()));
    for (backup, _) in vault.unreferenced().unwrap().runs {
        vault.reap_backup(volume, backup).unwrap();
    }
    assert_eq!(vault.unreferenced().unwrap(), Unreferenced::default());
    let all = vault.list_backups(Some(volume)).unwrap();
    let there = |id: &BackupId| all.iter().any(|info| info.backup_id == *id);
    assert!(told.iter().all(there), "an available backup is gone");
    for info in &all {
        let number = info.metadata["state"].parse().unwrap();
        let disk = Mutex::new(Disk::new(info.provisioned.get()));
        vault
            .restore(volume, info.backup_id, &disk, &NullMonitor)
            .unwrap();
        assert_eq!(
            disk.into_inner().unwrap(),
            state(number),
            "{}",
            info.backup_id
        );
    }
    no_empty_directory(dir);
}

fn no_empty_directory(dir: &Path) {
    let entries: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(!entries.is_empty(), "{} is empty", dir.display());
    for entry in entries {
        if entry.file_type().unwrap().is_dir() {
            no_empty_directory(&entry.path());
        } else {
            assert!(!entry.file_name().to_string_lossy().starts_with('.'));
        }
    }
}

#[test]
fn a_process_killed_at_random_moments_loses_nothing_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let seed = SimEnv::new(2026);
    let mut told = vec![];
    for round in 0..KILLS {
        let mut byte = [0; 1];
        seed.fill_random(&mut byte);
        // The first calls of the first child make the vault.
        told.extend(run_and_kill(dir.path(), 4 + u64::from(byte[0] % 90)));
        if round % 2 == 1 || round == 0 {
            prove(dir.path(), &told);
        }
    }
    assert!(!told.is_empty(), "no child got as far as a whole backup");
}
