//! The target and a whole vault on two real servers: Ceph's RADOS gateway, which checks
//! signatures, conditions and locks, and moto, which imitates Amazon's and checks little.
//!
//! A server takes seconds to start, so that each is started once and asked everything.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use stillpoint_model::progress::NullMonitor;

use super::*;
use crate::target::{Fitness, ListPage, LockMode, conformance, probe, probe_locks};
use crate::tests::support::{CHUNK, Disk};
use crate::*;

/// A server of `scripts/s3-server`. Closing its standard input ends it, however this process does.
struct Server {
    child: Child,
    talk: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
    endpoint: String,
    dir: tempfile::TempDir,
}

impl Server {
    fn start(kind: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/s3-server");
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(script)
            .arg(kind)
            .arg(dir.path().join("server"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        stdout.read_line(&mut ready).unwrap();
        let words: Vec<_> = ready.split_whitespace().collect();
        let ["ready", endpoint, access, secret] = words[..] else {
            panic!("{kind} did not start: {ready}");
        };
        let keys = format!(
            "[default]\naws_access_key_id={access}\naws_secret_access_key={secret}\n\
             [wrong]\naws_access_key_id={access}\naws_secret_access_key=guessed\n"
        );
        std::fs::write(dir.path().join("credentials"), keys).unwrap();
        Self {
            endpoint: endpoint.to_owned(),
            talk: Mutex::new(Some((stdin, stdout))),
            child,
            dir,
        }
    }

    /// Has a command of the script done.
    fn tell(&self, command: &str) {
        let mut talk = self.talk.lock().unwrap();
        let (stdin, stdout) = talk.as_mut().unwrap();
        writeln!(stdin, "{command}").unwrap();
        let mut answer = String::new();
        stdout.read_line(&mut answer).unwrap();
        assert_eq!(answer, "ok\n", "{command}");
    }

    fn settings(&self, address: &str) -> S3Settings {
        S3Settings {
            endpoint: Some(self.endpoint.clone()),
            credentials: CredentialSource::File {
                path: self.dir.path().join("credentials"),
                profile: "default".into(),
            },
            patience: Duration::from_secs(60),
            ..S3Settings::at(address).unwrap()
        }
    }

    fn target(&self, address: &str) -> S3Target {
        S3Target::open(self.settings(address), Arc::new(SystemEnv::new())).unwrap()
    }

    fn locking(&self, address: &str, mode: LockMode) -> S3Target {
        let settings = S3Settings {
            object_lock: Some(mode),
            ..self.settings(address)
        };
        S3Target::open(settings, Arc::new(SystemEnv::new())).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        *self.talk.lock().unwrap() = None;
        self.child.wait().unwrap();
    }
}

/// A vault on a server.
struct Kept {
    env: Arc<dyn Env>,
    root: RootKey,
    spec: VaultSpec,
    vault: Vault,
    volume: stillpoint_model::id::VolumeId,
}

impl Kept {
    fn new(target: S3Target) -> Self {
        let env: Arc<dyn Env> = Arc::new(SystemEnv::new());
        let root = RootKey::generate(&*env);
        let spec = VaultSpec {
            vault_id: stillpoint_model::id::VaultId::generate(&*env),
            account_id: stillpoint_model::id::AccountId::generate(&*env),
        };
        let vault = Vault::open_or_create(Arc::new(target), spec, &root, env.clone()).unwrap();
        let volume = stillpoint_model::id::VolumeId::generate(&*env);
        Self {
            vault: vault.with_tuning(Tuning {
                pack_len: 256 << 10,
                ..Tuning::default()
            }),
            env,
            root,
            spec,
            volume,
        }
    }

    fn spec<'a>(
        &self,
        parent: Option<stillpoint_model::id::BackupId>,
        changed: Option<&'a [ByteRange]>,
    ) -> BackupSpec<'a> {
        BackupSpec {
            backup_id: stillpoint_model::id::BackupId::generate(&*self.env),
            volume_id: self.volume,
            parent,
            changed,
            metadata: Default::default(),
            keep_until: None,
        }
    }

    fn back_up(&self, disk: &dyn VolumeReader, spec: &BackupSpec<'_>) -> Result<Receipt, Error> {
        let prepared = self.vault.prepare_backup(spec, disk, &NullMonitor)?;
        let receipt = prepared.commit(&mut || Ok(()))?;
        let id = receipt.backup_id;
        self.vault.read_back(self.volume, id, &NullMonitor)?;
        Ok(receipt)
    }

    /// Restores with nothing but the target and the key, and compares.
    fn restores(&self, target: S3Target, backup: &Receipt, disk: &Disk) {
        let id = self.spec.vault_id;
        let vault = Vault::open(Arc::new(target), id, &self.root, self.env.clone()).unwrap();
        let info = vault.describe(self.volume, backup.backup_id).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.raw");
        rescue::restore_to_file(&vault, &info, &path, &NullMonitor).unwrap();
        let mut wanted = vec![0; usize::try_from(disk.size).unwrap()];
        disk.read_at(0, &mut wanted).unwrap();
        assert!(std::fs::read(&path).unwrap() == wanted, "it differs");
    }

    fn is_sound(&self) {
        let report = self.vault.check(CheckLevel::Decrypt, &NullMonitor).unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
    }
}

fn disk() -> Disk {
    let mut disk = Disk::new(900 * CHUNK + 512);
    (0..600).for_each(|chunk| disk.fill(chunk, chunk + 1));
    disk
}

/// First backup, increment, restores of both, full check, and nothing left over at the end.
fn keeps_a_vault(server: &Server) {
    let kept = Kept::new(server.target("s3://backups/vaults"));
    let mut disk = disk();
    let first = kept.back_up(&disk, &kept.spec(None, None)).unwrap();
    let before = disk.clone();
    (100..110).for_each(|chunk| disk.fill(chunk, 7000 + chunk));
    let changed = [ByteRange::new(100 * CHUNK, 10 * CHUNK)];
    let spec = kept.spec(Some(first.backup_id), Some(&changed));
    let second = kept.back_up(&disk, &spec).unwrap();
    assert!(second.stored.get() < first.stored.get() / 4);
    kept.restores(server.target("s3://backups/vaults"), &first, &before);
    kept.restores(server.target("s3://backups/vaults"), &second, &disk);
    kept.is_sound();
    assert_eq!(
        rescue::vault_ids(&server.target("s3://backups/vaults")).unwrap(),
        [kept.spec.vault_id]
    );
}

/// A disk whose reading makes something happen, once, in the middle.
struct Eventful<'a> {
    disk: &'a Disk,
    event: Mutex<Option<Box<dyn FnOnce() + Send + 'a>>>,
}

impl VolumeReader for Eventful<'_> {
    fn size(&self) -> ByteCount {
        self.disk.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if offset >= 300 * CHUNK
            && let Some(event) = self.event.lock().unwrap().take()
        {
            event();
        }
        self.disk.read_at(offset, buf)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<ByteRange>> {
        self.disk.next_data(offset)
    }
}

/// A server that dies in the middle of a backup and comes back: the backup never hears of it.
fn survives_a_restart(server: &Server) {
    let kept = Kept::new(server.target("s3://backups/restart"));
    let disk = disk();
    let receipt = std::thread::scope(|scope| {
        let event = Box::new(|| {
            server.tell("kill");
            scope.spawn(|| server.tell("start"));
        });
        let eventful = Eventful {
            disk: &disk,
            event: Mutex::new(Some(event)),
        };
        kept.back_up(&eventful, &kept.spec(None, None)).unwrap()
    });
    kept.restores(server.target("s3://backups/restart"), &receipt, &disk);
    kept.is_sound();
}

/// A server that dies and stays away fails the backup; what it left is reaped afterwards.
fn fails_without_a_trace(server: &Server) {
    let settings = S3Settings {
        patience: Duration::from_millis(500),
        ..server.settings("s3://backups/gone")
    };
    let target = S3Target::open(settings, Arc::new(SystemEnv::new())).unwrap();
    let kept = Kept::new(target);
    let names = || {
        let page = server.target("s3://backups/gone").list("", None, 1000);
        let entries = page.unwrap().entries.into_iter();
        entries.map(|entry| entry.name).collect::<Vec<_>>()
    };
    let before = names();
    let disk = disk();
    let eventful = Eventful {
        disk: &disk,
        event: Mutex::new(Some(Box::new(|| server.tell("kill")))),
    };
    let spec = kept.spec(None, None);
    let error = kept.back_up(&eventful, &spec).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
    server.tell("start");
    assert_ne!(names(), before, "it had begun");
    let reaped = kept.vault.reap_backup(kept.volume, spec.backup_id);
    assert_eq!(reaped.unwrap().runs, 1);
    assert_eq!(names(), before);
}

fn refuses_wrong_keys(server: &Server) {
    let mut settings = server.settings("s3://backups");
    settings.credentials = CredentialSource::File {
        path: server.dir.path().join("credentials"),
        profile: "wrong".into(),
    };
    let target = S3Target::open(settings, Arc::new(SystemEnv::new())).unwrap();
    let error = target.list("", None, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    let text = with_causes(&error);
    assert!(text.contains("the credentials are wrong"), "{text}");
    assert!(!text.contains("guessed"), "{text}");
}

/// A locked object stays until its time, and a lock is made longer and never shorter.
fn locks_objects(server: &Server, mode: LockMode) {
    let target = server.locking(&format!("s3://locked/x/{}", mode.word()), mode);
    assert_eq!(target.object_lock().unwrap(), ObjectLock::Available);
    let (name, now) = (name("kept"), SystemEnv::new().now());
    let later = |seconds| now.saturating_add(Duration::from_secs(seconds));
    target.put_new(&name, b"evidence").unwrap();
    assert_eq!(target.locked_until(&name).unwrap(), None);
    target.lock_until(&name, later(3600)).unwrap();
    target.lock_until(&name, later(60)).unwrap();
    let locked = |name| target.locked_until(name).unwrap().unwrap();
    // Servers keep whole seconds; what is asked for is the next one.
    let is = |a: Timestamp, b: Timestamp| a >= b && a.duration_since(b) < Duration::from_secs(1);
    assert!(is(locked(&name), later(3600)), "{}", locked(&name));
    let error = target.delete(&name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(with_causes(&error).contains("locked until"), "{error}");
    let there = target.get(&name, ByteRange::new(0, 8)).unwrap();
    assert_eq!(there, b"evidence");
    target.lock_until(&name, later(7200)).unwrap();
    assert!(is(locked(&name), later(7200)));
}

/// The server itself refuses to delete a locked version, until its time is over.
fn unlocks_in_time(server: &Server) {
    let target = server.locking("s3://locked/t", LockMode::Compliance);
    let env = SystemEnv::new();
    let name = name("kept");
    target.put_new(&name, b"evidence").unwrap();
    let until = env.now().saturating_add(Duration::from_secs(3));
    target.lock_until(&name, until).unwrap();
    let mut refused = 0;
    while let Err(error) = target.delete(&name) {
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        refused += 1;
    }
    assert!(refused > 0);
    // The server's seconds are whole.
    assert!(env.now() >= until.saturating_sub(Duration::from_secs(1)));
    assert_eq!(target.list("", None, 10).unwrap(), ListPage::default());
}

/// What others put over an object or hide it with changes nothing, and goes when it is asked to.
fn the_first_version_is_the_object(server: &Server) {
    let target = server.locking("s3://locked/f", LockMode::Governance);
    let (one, two) = (name("a/one"), name("a/two"));
    let until = SystemEnv::new()
        .now()
        .saturating_add(Duration::from_secs(600));
    for name in [&one, &two] {
        target.put_new(name, b"ours").unwrap();
        target.lock_until(name, until).unwrap();
    }
    let thief = Thief::at(server, "s3://locked/f");
    thief.hide(&one);
    thief.put_over(&two, b"theirs, and longer");
    let all = ByteRange::new(0, 4);
    for name in [&one, &two] {
        assert!(target.has(name).unwrap());
        assert_eq!(target.head(name).unwrap().get(), 4);
        assert_eq!(target.get(name, all).unwrap(), b"ours");
        assert_eq!(target.get_whole(name, 100).unwrap(), b"ours");
        let taken = target.put_new(name, b"anew").unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::Conflict);
    }
    let mut part = vec![];
    target.get_into(&one, all, &mut part).unwrap();
    assert_eq!(part, b"ours");
    let page = target.list("a/", None, 10).unwrap();
    let lens: Vec<_> = page
        .entries
        .iter()
        .map(|e| (e.name.clone(), e.len.get()))
        .collect();
    assert_eq!(lens, [(one.clone(), 4), (two.clone(), 4)]);
    for page in 1..3 {
        let first = target.list("a/", None, page).unwrap();
        assert_eq!(first.entries[0].name, one);
        let second = target.list("a/", Some(one.as_str()), page).unwrap();
        assert_eq!(second.entries[0].name, two);
    }
    let disturbed = target.disturbed("a/").unwrap();
    assert_eq!(disturbed.len(), 2, "{disturbed:?}");
    for at in disturbed {
        target.keep_version(&at.name, &at.versions[0]).unwrap();
    }
    assert_eq!(target.disturbed("a/").unwrap(), []);
    target.get_into(&two, all, &mut part).unwrap();
    assert_eq!(part, b"ours");
}

/// Somebody who has our credentials and asks for what we never ask for.
struct Thief(S3Target);

impl Thief {
    fn at(server: &Server, address: &str) -> Self {
        Self(server.target(address))
    }

    fn ask(&self, method: http::Method, name: &ObjectName, query: &str, body: &'static [u8]) {
        let bucket = &self.0.bucket;
        let body = bytes::Bytes::from_static(body);
        let asked = self
            .0
            .wait(|| bucket.signed(method, Some(name.as_str()), query, body));
        asked.map(drop).unwrap();
    }

    /// A delete by name.
    fn hide(&self, name: &ObjectName) {
        self.ask(http::Method::DELETE, name, "", b"");
    }

    /// A put without any condition.
    fn put_over(&self, name: &ObjectName, bytes: &'static [u8]) {
        let key = self.0.bucket.key(name.as_str()).unwrap();
        let put = object_store::PutPayload::from_static(bytes);
        let options = object_store::PutOptions::default();
        let store = &self.0.bucket.store;
        let put = self
            .0
            .wait(|| object_store::ObjectStore::put_opts(store, &key, put, options));
        put.unwrap();
    }

    /// Deletes of every version of every object; says how many were refused.
    fn purge(&self) -> usize {
        let mut refused = 0;
        for at in self.everything() {
            let versions = self
                .0
                .wait(|| self.0.bucket.versions_of(at.as_str()))
                .unwrap();
            for version in versions {
                let gone = self
                    .0
                    .wait(|| self.0.bucket.remove(at.as_str(), &version.id));
                refused += usize::from(gone.is_err());
            }
        }
        refused
    }

    fn everything(&self) -> Vec<ObjectName> {
        let mut names = vec![];
        target::list_each(&self.0, "", |entry| {
            names.push(entry.name);
            Ok::<_, TargetError>(())
        })
        .unwrap();
        names
    }
}

/// Somebody with the credentials deletes every version they can, hides every object, and puts
/// something else over each third one. Nothing that was promised is lost.
fn outlasts_a_thief(server: &Server) {
    let address = "s3://locked/attacked";
    let target = || server.locking(address, LockMode::Compliance);
    let kept = Kept::new(target());
    let mut disk = disk();
    let keep_until = Some(kept.env.now().saturating_add(Duration::from_secs(900)));
    let first = BackupSpec {
        keep_until,
        ..kept.spec(None, None)
    };
    let first = kept.back_up(&disk, &first).unwrap();
    let before = disk.clone();
    (100..110).for_each(|chunk| disk.fill(chunk, 7000 + chunk));
    let changed = [ByteRange::new(100 * CHUNK, 10 * CHUNK)];
    let second = BackupSpec {
        keep_until,
        ..kept.spec(Some(first.backup_id), Some(&changed))
    };
    let second = kept.back_up(&disk, &second).unwrap();

    let thief = Thief::at(server, address);
    let names = thief.everything();
    assert!(thief.purge() > 0, "what is locked refuses to go");
    for (number, name) in names.iter().enumerate() {
        match number % 3 {
            0 => thief.put_over(name, b"theirs"),
            _ => thief.hide(name),
        }
    }

    let there = Vault::open(
        Arc::new(target()),
        kept.spec.vault_id,
        &kept.root,
        kept.env.clone(),
    );
    let there = there.unwrap();
    let reverted = there.revert(false, &NullMonitor).unwrap();
    assert!(reverted.restored.len() * 3 > names.len(), "{reverted:?}");
    kept.restores(target(), &first, &before);
    kept.restores(target(), &second, &disk);
    // By its plain name, too, for tools that know nothing of versions.
    kept.restores(server.target(address), &second, &disk);
    let report = there.check(CheckLevel::Decrypt, &NullMonitor).unwrap();
    assert_eq!(report.affected().len(), 0, "{:?}", report.problems);
    assert_eq!(report.backups, 2);
}

/// What is deleted in a bucket that keeps versions leaves none.
fn deletes_versions(server: &Server) {
    let target = server.target("s3://locked/v");
    for bytes in [&b"one"[..], b"three"] {
        target.put_new(&name("a/b"), bytes).unwrap();
        target.delete(&name("a/b")).unwrap();
        target.delete(&name("a/b")).unwrap();
        assert!(target.head(&name("a/b")).is_err());
    }
    assert_eq!(target.list("", None, 10).unwrap(), ListPage::default());
}

/// Ceph 16 ignores the condition in buckets that keep versions, which buckets with Object
/// Lock do: 16 of 16 racers are told that they were first. Where objects are locked the first version
/// counts, so that one of them finds out that it was.
fn finds_the_condition_ignored(server: &Server) {
    let verdict = probe(&server.target("s3://locked/p"), &SystemEnv::new());
    let Err(Error::UnfitTarget(why)) = verdict else {
        panic!("{verdict:?}");
    };
    assert!(why.contains("If-None-Match"), "{why}");
    let target = server.locking("s3://locked/q", LockMode::Compliance);
    let fitness = probe(&target, &SystemEnv::new()).unwrap();
    assert_eq!(fitness.object_lock, ObjectLock::Available);
    let rules = server.locking("s3://locked/rules", LockMode::Governance);
    conformance::keeps_the_rules(&(Arc::new(rules) as _));
}

/// moto takes locks and cannot say until when: it is refused where locks are asked for.
fn forgets_its_locks(server: &Server) {
    let target = server.locking("s3://locked/l", LockMode::Compliance);
    let verdict = probe(&target, &SystemEnv::new());
    let Err(Error::UnfitTarget(why)) = verdict else {
        panic!("{verdict:?}");
    };
    assert!(why.contains("does not lock objects"), "{why}");
}

/// A bucket without Object Lock is refused where locks are asked for, with a way out.
fn refuses_a_plain_bucket(server: &Server) {
    let target = server.locking("s3://backups/l", LockMode::Governance);
    let Err(Error::UnfitTarget(why)) = probe_locks(&target, &SystemEnv::new()) else {
        panic!("it was accepted");
    };
    assert!(why.contains("no Object Lock"), "{why}");
    assert!(why.contains("`object_lock`"), "{why}");
}

#[test]
fn ceph_rados_gateway() {
    let server = Server::start("ceph");
    server.tell("bucket backups");
    server.tell("bucket locked lock");
    let env = SystemEnv::new();
    let fitness = probe(&server.target("s3://backups/probed"), &env).unwrap();
    let wanted = Fitness {
        object_lock: ObjectLock::Absent,
        refuses_altered_bodies: Some(true),
    };
    assert_eq!(fitness, wanted);
    conformance::conforms(
        &(Arc::new(server.target("s3://backups/conforms")) as _),
        &SystemEnv::new(),
    );
    refuses_wrong_keys(&server);
    finds_the_condition_ignored(&server);
    refuses_a_plain_bucket(&server);
    deletes_versions(&server);
    locks_objects(&server, LockMode::Governance);
    locks_objects(&server, LockMode::Compliance);
    the_first_version_is_the_object(&server);
    unlocks_in_time(&server);
    outlasts_a_thief(&server);
    keeps_a_vault(&server);
    survives_a_restart(&server);
    fails_without_a_trace(&server);
}

#[test]
fn moto() {
    let server = Server::start("moto");
    server.tell("bucket backups");
    server.tell("bucket locked lock");
    for place in ["s3://backups/conforms", "s3://locked/conforms"] {
        conformance::conforms(&(Arc::new(server.target(place)) as _), &SystemEnv::new());
    }
    deletes_versions(&server);
    refuses_a_plain_bucket(&server);
    forgets_its_locks(&server);
    keeps_a_vault(&server);
}
