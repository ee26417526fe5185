//! What runs in the guest, where `/mnt` has what [`super::Ground`] mounted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stillpoint_env::SystemEnv;
use stillpoint_model::id::{AccountId, BackupId, VaultId, VolumeId};
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::{ByteCount, ByteRange, Env, ErrorKind};
use stillpoint_vault::target::{NfsTarget, ObjectName, Target, TargetError, conformance};
use stillpoint_vault::{
    BackupSpec, CheckLevel, CollectPolicy, Outcome, RootKey, Vault, VaultSpec, VolumeReader,
    VolumeWriter,
};

/// Said when half of a volume is read: the backup waits for a line then.
pub const HALF_WAY: &str = "half of the volume is read";
/// A directory that is made and removed, and a name in it that is given and taken away.
pub const MADE: &str = "made-and-removed";
pub const LINKED: &str = "linked-and-removed";
/// Said now and then between puts.
pub const SO_MANY: &str = "more objects are put";
/// How often that is said.
pub const CRASHES: usize = 2;

const MIB: u64 = 1 << 20;

fn open(mount: &str) -> Arc<dyn Target> {
    let root = Path::new("/mnt").join(mount).join("target");
    Arc::new(NfsTarget::open(root).unwrap())
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

/// The names in a folder that a mount shows, whatever a target makes of them.
fn files(mount: &str, folder: &str) -> Vec<String> {
    let path = Path::new("/mnt").join(mount).join("target").join(folder);
    let entries = fs::read_dir(path).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

fn listed(target: &dyn Target) -> Vec<String> {
    let page = target.list("", None, 1000).unwrap();
    assert!(!page.more);
    let names = page.entries.iter().map(|entry| entry.name.to_string());
    names.collect()
}

#[test]
#[ignore = "runs in a guest"]
fn a_mount_conforms() {
    conformance::conforms(&open("a"), &SystemEnv::new());
    assert_eq!(files("a", ""), [""; 0]);
}

#[test]
#[ignore = "runs in a guest"]
fn two_mounts_are_one_place() {
    conformance::are_one(&*open("a"), &*open("b"));
}

#[test]
#[ignore = "runs in a guest"]
fn a_name_that_is_open_elsewhere_goes_all_the_same() {
    let (here, there) = (open("a"), open("b"));
    let at = name("s/x");
    here.put_new(&at, b"read meanwhile").unwrap();
    let reads_here = File::open("/mnt/a/target/s/x").unwrap();
    let reads_there = File::open("/mnt/b/target/s/x").unwrap();
    here.delete(&at).unwrap();
    let hidden = files("b", "s");
    assert!(
        hidden.len() == 1 && hidden[0].starts_with(".nfs"),
        "{hidden:?}"
    );
    for target in [&here, &there] {
        assert_eq!(listed(&**target), [""; 0]);
        let gone = target.get(&at, ByteRange::new(0, 4)).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    }
    // Its name is free, for what has nothing to do with it.
    there.put_new(&at, b"new").unwrap();
    assert_eq!(here.get_whole(&at, 3).unwrap(), b"new");
    here.delete(&at).unwrap();
    drop((reads_here, reads_there));
    here.abandon("s/").unwrap();
    assert_eq!(files("b", ""), [""; 0]);
    // What a client left that died is removed when nobody can have it open.
    here.put_new(&at, b"kept").unwrap();
    fs::write("/mnt/a/target/s/.nfs0000000000001", b"of a dead client").unwrap();
    fs::write("/mnt/a/target/.s+x.7.part", b"of a dead put").unwrap();
    assert_eq!(listed(&*there), ["s/x"]);
    there.abandon("s/").unwrap();
    assert_eq!(files("a", ""), ["s"]);
    assert_eq!(files("a", "s"), ["x"]);
    here.delete(&at).unwrap();
}

/// A volume that nothing repeats in and nothing compresses; its second half waits to be let go on.
struct Noise {
    seed: u64,
    size: u64,
    waits: AtomicBool,
}

impl Noise {
    fn new(seed: u64, size: u64) -> Self {
        Self {
            seed,
            size,
            waits: AtomicBool::new(false),
        }
    }
}

impl VolumeReader for Noise {
    fn size(&self) -> ByteCount {
        ByteCount::new(self.size)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if offset >= self.size / 2 && self.waits.swap(false, Ordering::SeqCst) {
            println!("{HALF_WAY}");
            let mut line = String::new();
            io::stdin().read_line(&mut line)?;
            assert_eq!(line.trim(), "go on");
        }
        let mut stream = blake3::Hasher::new()
            .update(&self.seed.to_le_bytes())
            .finalize_xof();
        stream.set_position(offset);
        stream.fill(buf);
        Ok(())
    }
}

/// A volume in memory, to restore to.
struct Memory(Mutex<Vec<u8>>);

impl Memory {
    fn new(size: u64) -> Self {
        Self(Mutex::new(vec![0; usize::try_from(size).unwrap()]))
    }

    fn part<T>(&self, range: ByteRange, act: impl FnOnce(&mut [u8]) -> T) -> T {
        let index = |at| usize::try_from(at).unwrap();
        act(&mut self.0.lock().unwrap()[index(range.offset)..index(range.end())])
    }
}

impl VolumeWriter for Memory {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let range = ByteRange::new(offset, data.len() as u64);
        self.part(range, |part| part.copy_from_slice(data));
        Ok(())
    }

    fn write_zeros(&self, range: ByteRange) -> io::Result<()> {
        self.part(range, |part| part.fill(0));
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let range = ByteRange::new(offset, buf.len() as u64);
        self.part(range, |part| buf.copy_from_slice(part));
        Ok(())
    }
}

/// A vault through a mount, and what is the same in all that this program does with it.
struct Client {
    vault: Vault,
    env: Arc<dyn Env>,
    volume: VolumeId,
}

impl Client {
    fn open(mount: &str, vault_id: VaultId) -> Self {
        let env: Arc<dyn Env> = Arc::new(SystemEnv::new());
        let root = RootKey::load(&Path::new("/mnt").join(mount).join("root.key")).unwrap();
        let spec = VaultSpec {
            vault_id,
            account_id: AccountId::from_uuid(vault_id.as_uuid()),
        };
        let vault = Vault::open_or_create(open(mount), spec, &root, Arc::clone(&env)).unwrap();
        Self {
            vault,
            env,
            volume: VolumeId::from_uuid(vault_id.as_uuid()),
        }
    }

    /// The same vault through two mounts.
    fn pair() -> (Self, Self) {
        let id = VaultId::generate(&SystemEnv::new());
        (Self::open("a", id), Self::open("b", id))
    }

    fn back_up(&self, disk: &Noise, parent: Option<BackupId>) -> BackupId {
        let backup_id = BackupId::generate(&*self.env);
        let spec = BackupSpec {
            keep_until: None,
            backup_id,
            volume_id: self.volume,
            parent,
            changed: None,
            metadata: BTreeMap::new(),
        };
        let prepared = self.vault.prepare_backup(&spec, disk, &NullMonitor);
        prepared.unwrap().commit(&mut || Ok(())).unwrap();
        let read_back = self.vault.read_back(self.volume, backup_id, &NullMonitor);
        read_back.unwrap();
        backup_id
    }

    fn is_sound(&self, backups: usize) {
        let report = self.vault.check(CheckLevel::Decrypt, &NullMonitor).unwrap();
        assert!(report.is_sound(), "{report:?}");
        assert_eq!(report.backups, backups);
    }

    fn restores(&self, backup: BackupId, disk: &Noise) {
        let memory = Memory::new(disk.size);
        let restored = self
            .vault
            .restore(self.volume, backup, &memory, &NullMonitor);
        restored.unwrap();
        let mut wanted = vec![0; usize::try_from(disk.size).unwrap()];
        VolumeReader::read_at(disk, 0, &mut wanted).unwrap();
        assert!(*memory.0.lock().unwrap() == wanted, "it differs");
    }

    /// Collects until nothing is left to do; how many backups went.
    fn collect(&self, known: &[BackupId]) -> usize {
        let policy = CollectPolicy {
            keep_deleted: Duration::ZERO,
            grace: Duration::ZERO,
            clock_skew: Duration::from_millis(50),
            max_percent: 100,
            known: known.iter().map(|id| (self.volume, *id)).collect(),
            ..CollectPolicy::default()
        };
        let mut gone = 0;
        loop {
            let collected = self.vault.collect(&policy, &NullMonitor).unwrap();
            gone += collected.backups;
            match collected.outcome {
                Outcome::NothingToDo => return gone,
                Outcome::WaitsForRuns(runs) => panic!("it waits for {runs:?}"),
                Outcome::WaitsUntil(_) | Outcome::Done => {}
            }
        }
    }
}

#[test]
#[ignore = "runs in a guest"]
fn a_vault_is_written_here_and_read_there() {
    let (here, there) = Client::pair();
    let (first, second) = (Noise::new(1, 12 * MIB), Noise::new(2, 12 * MIB));
    let old = here.back_up(&first, None);
    there.restores(old, &first);
    let new = there.back_up(&second, Some(old));
    here.restores(new, &second);
    here.is_sound(2);
    // One deletes, the other collects, and the first finds what is left whole.
    there.vault.delete_backup(there.volume, old).unwrap();
    assert_eq!(here.collect(&[new]), 1);
    there.is_sound(1);
    there.restores(new, &second);
    let gone = here.vault.describe(here.volume, old).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

#[test]
#[ignore = "runs in a guest"]
fn a_backup_goes_on_when_the_server_is_back() {
    let (here, there) = Client::pair();
    let disk = Noise::new(3, 32 * MIB);
    disk.waits.store(true, Ordering::SeqCst);
    let backup = here.back_up(&disk, None);
    assert!(!disk.waits.load(Ordering::SeqCst), "it waited");
    there.is_sound(1);
    there.restores(backup, &disk);
    assert_eq!(files("a", "").len(), 1, "no part is left");
}

/// Each of these is done by a server that dies before it answers, and asked of it again.
#[test]
#[ignore = "runs in a guest"]
fn what_is_done_is_done_once() {
    let (here, there) = (open("a"), open("b"));
    let at = name(&format!("{MADE}/{LINKED}"));
    here.put_new(&at, b"ours").unwrap();
    assert_eq!(there.get_whole(&at, 4).unwrap(), b"ours");
    here.delete(&at).unwrap();
    assert!(!there.has(&at).unwrap());
    assert_eq!(
        files("b", ""),
        [""; 0],
        "neither a part nor a directory is left"
    );
}

#[test]
#[ignore = "runs in a guest"]
fn every_put_happens_once_while_the_server_comes_and_goes() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 30;
    let (here, there) = (open("a"), open("b"));
    let run = |thread: usize| {
        for round in 0..ROUNDS {
            let at = name(&format!("crash/{thread}/{round}"));
            let text = format!("object {thread} {round}");
            here.put_new(&at, text.as_bytes()).unwrap();
            let again = here.put_new(&at, b"another").unwrap_err();
            assert_eq!(again.kind(), ErrorKind::Conflict);
            let odd = round % 2 == 1;
            if odd {
                here.delete(&at).unwrap();
            }
            if thread == 0 && round % 10 == 5 && round / 10 < CRASHES {
                println!("{SO_MANY}");
            }
        }
    };
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || run(thread)))
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
    let mut names = listed(&*there);
    names.retain(|name| name.starts_with("crash/"));
    assert_eq!(names.len(), THREADS * ROUNDS / 2);
    for text in names {
        let parts: Vec<_> = text.split('/').collect();
        let wanted = format!("object {} {}", parts[1], parts[2]);
        let found = there.get_whole(&name(&text), 100).unwrap();
        assert_eq!(found, wanted.as_bytes());
    }
    let parts = files("a", "");
    let left: Vec<_> = parts.iter().filter(|name| name.starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn put_until_refused(target: &dyn Target) -> (usize, TargetError) {
    for number in 0..100 {
        let object = vec![b'x'; usize::try_from(2 * MIB).unwrap()];
        if let Err(error) = target.put_new(&name(&format!("fill/{number}")), &object) {
            return (number, error);
        }
    }
    panic!("nothing was refused");
}

#[test]
#[ignore = "runs in a guest"]
fn a_full_server_is_full_and_works_once_something_went() {
    fs::create_dir("/mnt/tiny/target").unwrap();
    let target = open("tiny");
    let (fit, error) = put_until_refused(&*target);
    assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
    assert_eq!(listed(&*target).len(), fit, "whole ones only");
    assert_eq!(files("tiny", ""), ["fill"], "no part is left");
    target.delete(&name("fill/0")).unwrap();
    let object = vec![b'y'; usize::try_from(2 * MIB).unwrap()];
    target.put_new(&name("fill/again"), &object).unwrap();
}

#[test]
#[ignore = "runs in a guest"]
fn an_export_to_read_only_is_read() {
    let (here, archive) = (open("a"), open("archive"));
    here.put_new(&name("r/x"), b"kept").unwrap();
    assert_eq!(archive.get_whole(&name("r/x"), 4).unwrap(), b"kept");
    assert_eq!(listed(&*archive), ["r/x"]);
    for error in [
        archive.put_new(&name("r/y"), b"no").unwrap_err(),
        archive.delete(&name("r/x")).unwrap_err(),
    ] {
        let text = stillpoint_model::error::with_causes(&error);
        assert!(text.contains("Read-only file system"), "{text}");
    }
    here.delete(&name("r/x")).unwrap();
}

#[test]
#[ignore = "runs in a guest"]
fn a_mount_that_never_asks_is_refused() {
    let error = NfsTarget::open("/mnt/nocto/target").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let text = stillpoint_model::error::with_causes(&error);
    assert!(text.contains("nocto"), "{text}");
}

#[test]
#[ignore = "runs in a guest"]
fn a_mount_that_went_away_is_no_empty_target() {
    let target = open("a");
    target.put_new(&name("u/x"), b"kept").unwrap();
    let unmount = Command::new("umount").arg("/mnt/a").status().unwrap();
    assert!(unmount.success());
    fs::create_dir_all("/mnt/a/target").unwrap();
    for error in [
        target.list("", None, 10).unwrap_err(),
        target.put_new(&name("u/y"), b"no").unwrap_err(),
        target.head(&name("u/z")).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Retry, "{error:?}");
    }
    assert!(NfsTarget::open("/mnt/a/target").is_err());
    assert_eq!(files("a", ""), [""; 0], "nothing was written below");
}
