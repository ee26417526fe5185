//! Golden vaults: whatever was ever written must come back, to today's code and to a second reader.
//!
//! `tests/golden/vN` holds a vault of format version N as it was written then, the root key beside
//! it, and `backups`: one line for each backup with its volume's size and the SHA-256 of its bytes.
//! They are never made again; a new one is added when the format changes, or the way it is used:
//!
//! ```sh
//! cargo test -p stillpoint-vault --test golden -- --ignored make_a_golden_vault   # golden/new
//! ```
//!
//! What is in one: a backup and its increment with moved and zeroed chunks, a deleted one, a volume
//! of zeros, one that does not compress and ends inside a chunk, and a run that crashed.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use stillpoint_env::SimEnv;
use stillpoint_model::id::{AccountId, BackupId, VaultId, VolumeId};
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::{ByteCount, ByteRange, Env};
use stillpoint_vault::target::{LocalTarget, ObjectName, Target};
use stillpoint_vault::{
    BackupSpec, CheckLevel, ReadAt, Receipt, RootKey, Source, Tuning, Vault, VaultSpec, rescue,
};
use tempfile::TempDir;

const CHUNK: usize = stillpoint_vault::CHUNK_LEN;

/// What a line of `backups` says.
struct Kept {
    backup: BackupId,
    size: u64,
    deleted: bool,
    sha256: String,
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Every golden vault, by folder.
fn golden() -> Vec<PathBuf> {
    let found: Vec<PathBuf> = fs::read_dir(tests().join("golden"))
        .expect("golden vaults")
        .map(|entry| entry.expect("a folder").path())
        .filter(|path| !path.ends_with("new"))
        .collect();
    assert!(!found.is_empty(), "there are no golden vaults");
    found
}

fn kept_in(folder: &Path) -> Vec<Kept> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [backup, size, state, sha256] = fields[..] else {
            panic!("a line of another form: {line}");
        };
        Kept {
            backup: backup.parse().expect("an id"),
            size: size.parse().expect("a size"),
            deleted: state == "deleted",
            sha256: sha256.into(),
        }
    };
    let text = fs::read_to_string(folder.join("backups")).expect("what is kept");
    text.lines().map(line).collect()
}

fn sha256(bytes: &[u8]) -> String {
    let mut hex = String::new();
    for byte in digest(&SHA256, bytes).as_ref() {
        write!(hex, "{byte:02x}").expect("a string");
    }
    hex
}

#[test]
fn every_golden_backup_is_listed_checked_and_restored_to_its_known_hash() {
    for folder in golden() {
        let env: Arc<dyn Env> = Arc::new(SimEnv::new(1));
        let target: Arc<dyn Target> =
            Arc::new(LocalTarget::open(folder.join("target")).expect("a target"));
        let key = RootKey::load(&folder.join("root.key")).expect("a key");
        let (vaults, unopened) = rescue::open_all(&target, &key, &env).expect("opened");
        assert!(unopened.is_empty(), "{unopened:?}");

        let report = vaults[0]
            .check(CheckLevel::Decrypt, &NullMonitor)
            .expect("checked");
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        let listed = vaults[0].list_backups(None).expect("listed");
        let kept = kept_in(&folder);
        assert_eq!(listed.len(), kept.len());
        let out = TempDir::new().expect("a folder");
        for one in kept {
            let (vault, info) = rescue::find_backup(&vaults, one.backup).expect("found");
            assert_eq!(info.provisioned, ByteCount::new(one.size));
            assert_eq!(info.deleted.is_some(), one.deleted);
            let path = out.path().join(one.backup.to_string());
            rescue::restore_to_file(vault, &info, &path, &NullMonitor).expect("restored");
            assert_eq!(sha256(&fs::read(&path).expect("a disk")), one.sha256);
        }
    }
}

/// Runs the second reader with Debian's Python, which is the one that has the packages.
fn second_reader(args: &[&str]) -> Output {
    let ended = Command::new("/usr/bin/python3")
        .arg("-B")
        .arg(tests().join("second_reader.py"))
        .args(args)
        .output()
        .expect("Debian's Python: scripts/deps test");
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{args:?}: {stderr}");
    ended
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn a_reader_written_from_the_document_restores_every_golden_backup() {
    for folder in golden() {
        let (target, key) = (folder.join("target"), folder.join("root.key"));
        let listed = second_reader(&["list", text(&target), "--key", text(&key)]);
        let listed = String::from_utf8(listed.stdout).expect("UTF-8");
        let kept: Vec<Kept> = kept_in(&folder)
            .into_iter()
            .filter(|k| !k.deleted)
            .collect();
        assert_eq!(listed.lines().count(), kept.len(), "{listed}");
        let out = TempDir::new().expect("a folder");
        for one in kept {
            let id = one.backup.to_string();
            assert!(listed.contains(&id), "{listed}");
            let path = out.path().join(&id);
            let rest = ["--key", text(&key), "--backup", &id, text(&path)];
            second_reader(&[&["restore", text(&target)], &rest[..]].concat());
            assert_eq!(sha256(&fs::read(&path).expect("a disk")), one.sha256);
        }
    }
}

/// Copies a folder with everything in it.
fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_folder(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).expect("copied")),
        }
    }
}

/// Flips a bit in each pack of a target's chunks.
fn rot_packs(target: &dyn Target) {
    let page = target.list("", None, 10_000).expect("listed");
    for name in page.entries.into_iter().map(|entry| entry.name) {
        if name.as_str().contains("/packs/") && !name.as_str().contains("/8") {
            let len = target.head(&name).expect("there").get();
            let mut bytes = target.get(&name, ByteRange::new(0, len)).expect("read");
            bytes[90] ^= 1;
            target.delete(&name).expect("deleted");
            target.put_new(&name, &bytes).expect("put");
        }
    }
}

#[test]
fn the_second_reader_reads_a_repaired_backup() {
    let (folder, at) = (golden().remove(0), TempDir::new().expect("a folder"));
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(7));
    let key = RootKey::load(&folder.join("root.key")).expect("a key");
    let open = |from: &Path| {
        let target: Arc<dyn Target> = Arc::new(LocalTarget::open(from).expect("a target"));
        let (mut vaults, _) = rescue::open_all(&target, &key, &env).expect("opened");
        (target, vaults.remove(0))
    };
    let (_, whole) = open(&folder.join("target"));
    copy_folder(&folder.join("target"), &at.path().join("target"));
    let (target, vault) = open(&at.path().join("target"));
    rot_packs(&*target);
    // A rescue opens for reading only.
    let vault = Vault::open(target, vault.id(), &key, env.clone()).expect("opened");
    let report = vault
        .check(CheckLevel::Decrypt, &NullMonitor)
        .expect("checked");
    let damaged = vault.to_repair(&report).expect("listed");
    let mut from = |volume, backup| Ok(Vec::from_iter(Source::copy_in(&whole, volume, backup)?));
    let repaired = vault.repair_backups(&damaged, &mut from, &mut || Ok(()), &NullMonitor);
    let repaired = repaired.expect("repaired");
    assert!(
        repaired.left.is_empty() && repaired.renewed.len() > 1,
        "{repaired:?}"
    );
    for one in kept_in(&folder).into_iter().filter(|one| !one.deleted) {
        let id = one.backup.to_string();
        let path = at.path().join(&id);
        let key = folder.join("root.key");
        let rest = ["--key", text(&key), "--backup", &id, text(&path)];
        second_reader(&[&["restore", text(&at.path().join("target"))], &rest[..]].concat());
        assert_eq!(sha256(&fs::read(&path).expect("a disk")), one.sha256);
    }
}

#[test]
fn the_documents_vectors_are_what_the_second_reader_makes() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/vault-format.md");
    second_reader(&["vectors", text(&document)]);
}

/// A vault that is being made, and what is in it so far.
struct Maker {
    folder: PathBuf,
    env: Arc<SimEnv>,
    vault: Vault,
    backups: String,
}

impl Maker {
    fn new(folder: PathBuf) -> Self {
        fs::create_dir_all(folder.join("target")).expect("a folder");
        let env = Arc::new(SimEnv::new(1));
        let key = RootKey::create(&folder.join("root.key"), &*env).expect("a key");
        let target = Arc::new(LocalTarget::open(folder.join("target")).expect("a target"));
        let spec = VaultSpec {
            vault_id: VaultId::generate(&*env),
            account_id: AccountId::generate(&*env),
        };
        let vault = Vault::open_or_create(target, spec, &key, env.clone()).expect("a vault");
        let tuning = Tuning {
            pack_len: 64 << 10,
            ..Tuning::default()
        };
        Self {
            folder,
            env,
            vault: vault.with_tuning(tuning),
            backups: String::new(),
        }
    }

    fn spec(&self, name: &str, volume_id: VolumeId) -> BackupSpec<'static> {
        self.env.advance(std::time::Duration::from_secs(3600));
        BackupSpec {
            backup_id: BackupId::generate(&*self.env),
            volume_id,
            parent: None,
            changed: None,
            metadata: BTreeMap::from([("name".into(), name.into())]),
            keep_until: None,
        }
    }

    fn source(&self, disk: &[u8]) -> ReadAt {
        let path = self.folder.join("disk");
        fs::write(&path, disk).expect("a disk");
        let file = fs::File::open(&path).expect("the disk");
        fs::remove_file(&path).expect("the disk");
        ReadAt::new(file, ByteCount::new(disk.len() as u64))
    }

    fn back_up(&mut self, spec: &BackupSpec<'_>, disk: &[u8], state: &str) -> Receipt {
        let source = self.source(disk);
        let prepared = self.vault.prepare_backup(spec, &source, &NullMonitor);
        let receipt = prepared.expect("prepared").commit(&mut || Ok(()));
        let receipt = receipt.expect("committed");
        self.vault
            .read_back(spec.volume_id, spec.backup_id, &NullMonitor)
            .expect("read back");
        let (backup, size) = (spec.backup_id, disk.len());
        writeln!(self.backups, "{backup} {size} {state} {}", sha256(disk)).expect("a string");
        receipt
    }
}

/// A chunk that compresses well and is like no other.
fn fill(disk: &mut [u8], chunk: usize, seed: usize) {
    let line = format!("chunk {chunk} of the disk {seed}, ");
    let start = chunk * CHUNK;
    let end = disk.len().min(start + CHUNK);
    for (byte, text) in disk[start..end].iter_mut().zip(line.bytes().cycle()) {
        *byte = text;
    }
}

fn chunks(first: usize, count: usize) -> ByteRange {
    ByteRange::new((first * CHUNK) as u64, (count * CHUNK) as u64)
}

#[test]
#[ignore = "writes a new golden vault to tests/golden/new"]
fn make_a_golden_vault() {
    let mut maker = Maker::new(tests().join("golden/new"));
    let db = VolumeId::generate(&*maker.env);
    // Two leaves, so that there is an interior node; a last chunk that the volume's end cuts.
    let mut disk = vec![0; (70 << 20) + 5000];
    let last = disk.len() / CHUNK;
    for chunk in (0..40).chain([2000]).chain(4096..4120).chain([last]) {
        fill(&mut disk, chunk, 1);
    }
    let monday = maker.spec("monday", db);
    maker.back_up(&monday, &disk, "kept");

    for chunk in [1, 30, 700, 4200] {
        fill(&mut disk, chunk, 2);
    }
    disk.copy_within(3 * CHUNK..9 * CHUNK, 3000 * CHUNK);
    disk[10 * CHUNK..14 * CHUNK].fill(0);
    let ranges = [(0, 64), (700, 1), (3000, 6), (4200, 1)].map(|(at, n)| chunks(at, n));
    let tuesday = BackupSpec {
        parent: Some(monday.backup_id),
        changed: Some(&ranges),
        ..maker.spec("tuesday", db)
    };
    maker.back_up(&tuesday, &disk, "kept");

    fill(&mut disk, 64, 3);
    let wednesday = maker.spec("wednesday", db);
    maker.back_up(&wednesday, &disk, "deleted");
    let deleted = maker.vault.delete_backup(db, wednesday.backup_id);
    deleted.expect("deleted");

    let empty = maker.spec("empty", VolumeId::generate(&*maker.env));
    maker.back_up(&empty, &vec![0; 96 << 20], "kept");
    let mut noise = vec![0; 5 * CHUNK + 100];
    maker.env.fill_random(&mut noise);
    let noisy = maker.spec("noise", VolumeId::generate(&*maker.env));
    maker.back_up(&noisy, &noise, "kept");

    let crashed = maker.spec("crashed", db);
    fill(&mut disk, 65, 4);
    let source = maker.source(&disk);
    drop(maker.vault.prepare_backup(&crashed, &source, &NullMonitor));

    fs::write(maker.folder.join("backups"), &maker.backups).expect("written");
    // The reserve is 256 KiB of noise that nobody reads; a vault may have given it up.
    let reserve = ObjectName::new(format!("{}/reserve", maker.vault.id())).expect("a name");
    let target = LocalTarget::open(maker.folder.join("target")).expect("a target");
    target.delete(&reserve).expect("deleted");
}
