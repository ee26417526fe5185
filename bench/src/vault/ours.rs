//! The steps as our own engine does them, each in a process of its own.
//!
//! What is timed is what the node does: prepare, commit, read back; restore with its comparison;
//! check down to every chunk. The process says of itself how long the storing took and how much of
//! that it waited for the target.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stillpoint_env::SystemEnv;
use stillpoint_layers::qcow2::Qcow2Driver;
use stillpoint_layers::{LayerPool, Pool as _};
use stillpoint_model::id::{AccountId, BackupId, PoolId, VaultId, VolumeId};
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::{ByteCount, ByteRange, Env as _};
use stillpoint_node::Sink;
use stillpoint_vault::target::{CredentialSource, LocalTarget, S3Settings, S3Target, Target};
use stillpoint_vault::{BackupSpec, CheckLevel, ReadAt, RootKey, Vault, VaultSpec, rescue};

use super::cost::own_cpu;

/// `--vault STEP...`: does one step.
pub fn child(args: &[String]) {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["init"] => init(),
        ["idle"] => drop(Ours::open()),
        ["backup", "tracked"] => Ours::open().back_up(true),
        ["backup", "untracked"] => Ours::open().back_up(false),
        ["restore"] => Ours::open().restore(),
        ["restore", "pool"] => Ours::open().restore_into_pool(),
        ["check"] => Ours::open().check(),
        ["primitives"] => super::primitives::child(&variable("DISK")),
        other => panic!("unknown step {other:?}"),
    }
}

fn variable(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("${name} is not set")))
}

fn key_file() -> PathBuf {
    variable("STATE").join("root.key")
}

/// A folder, or a bucket whose address is `s3:`, an endpoint, `/` and its name.
fn target() -> Arc<dyn Target> {
    let repository = variable("REPO");
    let address = repository
        .to_str()
        .and_then(|text| text.strip_prefix("s3:"));
    let Some((endpoint, bucket)) = address.and_then(|address| address.rsplit_once('/')) else {
        return Arc::new(LocalTarget::open(repository).expect("a folder"));
    };
    let settings = S3Settings {
        endpoint: Some(endpoint.to_owned()),
        credentials: CredentialSource::File {
            path: variable("AWS_SHARED_CREDENTIALS_FILE"),
            profile: "default".to_owned(),
        },
        ..S3Settings::at(&format!("s3://{bucket}")).expect("the address of a bucket")
    };
    Arc::new(S3Target::open(settings, Arc::new(SystemEnv::new())).expect("a bucket"))
}

fn init() {
    let env = Arc::new(SystemEnv::new());
    let root = RootKey::create(&key_file(), &*env).expect("a key");
    let spec = VaultSpec {
        vault_id: VaultId::generate(&*env),
        account_id: AccountId::generate(&*env),
    };
    Vault::open_or_create(target(), spec, &root, env).expect("a vault");
    fs::write(variable("STATE").join("vault"), spec.vault_id.to_string()).expect("a note");
}

struct Ours {
    env: Arc<SystemEnv>,
    vault: Vault,
    state: PathBuf,
}

impl Ours {
    fn open() -> Self {
        let env = Arc::new(SystemEnv::new());
        let root = RootKey::load(&key_file()).expect("a key");
        let state = variable("STATE");
        let vault = fs::read_to_string(state.join("vault")).expect("its id");
        let vault = vault.parse().expect("an id");
        let vault = Vault::open(target(), vault, &root, env.clone()).expect("a vault");
        Self { env, vault, state }
    }

    fn back_up(&self, tracked: bool) {
        let (step, disk) = (variable("STEP"), variable("DISK"));
        let sibling = step == Path::new("sibling");
        // A, A again and B are one volume; C is another.
        let volume_id = self.remembered(if sibling { "volume-c" } else { "volume-a" });
        let volume_id = volume_id.unwrap_or_else(|| VolumeId::generate(&*self.env).to_string());
        let parent = self.remembered("first").filter(|_| !sibling);
        let changed = match (tracked && parent.is_some(), step.to_str()) {
            (true, Some("repeat")) => Some(vec![]),
            (true, _) => Some(read_ranges(&variable("CHANGED"))),
            (false, _) => None,
        };
        let spec = BackupSpec {
            backup_id: BackupId::generate(&*self.env),
            volume_id: volume_id.parse().expect("an id"),
            parent: parent.map(|id| id.parse().expect("an id")),
            changed: changed.as_deref(),
            metadata: BTreeMap::new(),
            keep_until: None,
        };
        let source = open_disk(&disk);
        let (start, cpu) = (self.env.monotonic(), own_cpu());
        let prepared = self.vault.prepare_backup(&spec, &source, &NullMonitor);
        let prepared = prepared.expect("a backup");
        println!("stored_s={}", (self.env.monotonic() - start).as_secs_f64());
        println!("stored_cpu_s={}", (own_cpu() - cpu).as_secs_f64());
        println!("waited_s={}", prepared.waited_for_target().as_secs_f64());
        prepared.commit(&mut || Ok(())).expect("a commit");
        self.vault
            .read_back(spec.volume_id, spec.backup_id, &NullMonitor)
            .expect("it is read back");
        self.remember(if sibling { "volume-c" } else { "volume-a" }, &volume_id);
        self.remember(&step.to_string_lossy(), &spec.backup_id.to_string());
    }

    fn restore(&self) {
        let backup = self.remembered("increment").expect("a backup of B");
        let backup: BackupId = backup.parse().expect("an id");
        let volume = self.vault.volume_of(backup).expect("its volume");
        let info = self.vault.describe(volume, backup).expect("its manifest");
        rescue::restore_to_file(&self.vault, &info, Path::new("disk.raw"), &NullMonitor)
            .expect("a restored disk");
    }

    /// As a node does it: a new volume in a pool.
    fn restore_into_pool(&self) {
        let backup = self.remembered("increment").expect("a backup of B");
        let backup: BackupId = backup.parse().expect("an id");
        let from = self.vault.volume_of(backup).expect("its volume");
        let info = self.vault.describe(from, backup).expect("its manifest");
        let driver = Qcow2Driver::open(Path::new("pool"), PoolId::generate(&*self.env));
        let pool = LayerPool::open(driver.expect("a pool"), self.env.clone()).expect("a pool");
        let volume = VolumeId::generate(&*self.env);
        let writer = pool.begin_restore(volume, info.provisioned);
        let sink = Sink::new(&pool, volume, info.provisioned, writer.expect("room"));
        self.vault
            .restore(from, backup, &sink, &NullMonitor)
            .expect("a restored volume");
    }

    fn check(&self) {
        let report = self.vault.check(CheckLevel::Decrypt, &NullMonitor);
        let report = report.expect("a check");
        assert!(report.is_sound(), "{report:?}");
    }

    fn remembered(&self, what: &str) -> Option<String> {
        fs::read_to_string(self.state.join(what)).ok()
    }

    fn remember(&self, what: &str, id: &str) {
        fs::write(self.state.join(what), id).expect("a note");
    }
}

/// A disk as a volume that nobody writes to.
pub fn open_disk(path: &Path) -> ReadAt {
    let file = fs::File::open(path).expect("a disk");
    let size = ByteCount::new(file.metadata().expect("its size").len());
    ReadAt::new(file, size)
}

fn read_ranges(path: &Path) -> Vec<ByteRange> {
    let text = fs::read_to_string(path).expect("the changes");
    let range = |line: &str| {
        let (offset, len) = line.split_once(' ')?;
        Some(ByteRange::new(offset.parse().ok()?, len.parse().ok()?))
    };
    text.lines().filter_map(range).collect()
}
