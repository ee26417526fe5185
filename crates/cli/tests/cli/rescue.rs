//! `stillpoint vault`: what a person does when everything but the target and the key is lost.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::Value;
use stillpoint_env::SimEnv;
use stillpoint_model::id::{AccountId, BackupId, VaultId, VolumeId};
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::{ByteCount, Env};
use stillpoint_vault::target::{LocalTarget, Target};
use stillpoint_vault::{BackupSpec, ReadAt, RootKey, Vault, VaultSpec};
use tempfile::TempDir;

use crate::run::{Ended, command, run};

const SIZE: ByteCount = ByteCount::from_mib(4);

/// A target with one backup of a disk, and the key to it.
struct Kept {
    folder: TempDir,
    backup: BackupId,
}

impl Kept {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let env: Arc<dyn Env> = Arc::new(SimEnv::new(1));
        let mut disk = vec![0; usize::try_from(SIZE.get()).expect("small")];
        env.fill_random(&mut disk[1 << 20..2 << 20]);
        fs::write(folder.path().join("disk.raw"), disk).expect("a disk");
        let key = RootKey::create(&folder.path().join("root.key"), &*env).expect("a key");
        fs::create_dir(folder.path().join("target")).expect("a folder");
        let target: Arc<dyn Target> =
            Arc::new(LocalTarget::open(folder.path().join("target")).expect("a target"));
        let spec = VaultSpec {
            vault_id: VaultId::generate(&*env),
            account_id: AccountId::generate(&*env),
        };
        let vault = Vault::open_or_create(target, spec, &key, Arc::clone(&env)).expect("a vault");
        let backup = BackupId::generate(&*env);
        let spec = BackupSpec {
            backup_id: backup,
            volume_id: VolumeId::generate(&*env),
            parent: None,
            changed: None,
            metadata: BTreeMap::from([
                ("name".into(), "nightly".into()),
                ("volume_name".into(), "db".into()),
            ]),
            keep_until: None,
        };
        let disk = File::open(folder.path().join("disk.raw")).expect("the disk");
        let source = ReadAt::new(disk, SIZE);
        let prepared = vault
            .prepare_backup(&spec, &source, &NullMonitor)
            .expect("prepared");
        prepared.commit(&mut || Ok(())).expect("committed");
        Self { folder, backup }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `stillpoint vault VERB --target … --key … REST`.
    fn vault(&self, verb: &str, rest: &[&str]) -> Ended {
        self.run(&["vault", verb], rest)
    }

    /// The same of `stillpoint vault keys VERB`.
    fn keys(&self, verb: &str, rest: &[&str]) -> Ended {
        self.run(&["vault", "keys", verb], rest)
    }

    fn run(&self, verb: &[&str], rest: &[&str]) -> Ended {
        let (target, key) = (text(&self.path("target")), text(&self.path("root.key")));
        let place = ["--target", &target, "--key", &key];
        run(&[verb, &place, rest].concat())
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

/// Flips one bit in the middle of every pack.
fn damage_packs(folder: &Path) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            damage_packs(&path);
        } else if path.components().any(|part| part.as_os_str() == "packs") {
            let mut bytes = Vec::new();
            File::open(&path)
                .and_then(|mut f| f.read_to_end(&mut bytes))
                .expect("a pack");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::remove_file(&path).expect("removed");
            fs::write(&path, bytes).expect("written");
        }
    }
}

#[test]
fn backups_are_listed_with_names_sizes_and_times() {
    let kept = Kept::new();
    let listed = kept.vault("list", &["-o", "json"]);
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    let backups: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    assert_eq!(backups[0]["id"], kept.backup.to_string());
    assert_eq!(backups[0]["name"], "nightly");
    assert_eq!(backups[0]["volume_name"], "db");
    assert_eq!(backups[0]["size_bytes"], SIZE.get());
    assert!(kept.vault("list", &[]).stdout.contains("4.00 MiB"));
}

#[test]
fn a_backup_comes_back_bit_for_bit_and_no_file_is_overwritten() {
    let kept = Kept::new();
    let out = kept.path("out.raw");
    let args = [&kept.backup.to_string(), "--to", &text(&out)].map(str::to_owned);
    let args = args.each_ref().map(String::as_str);
    let restored = kept.vault("restore", &args);
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    let bytes = |path: &Path| fs::read(path).expect("a disk");
    assert!(
        bytes(&out) == bytes(&kept.path("disk.raw")),
        "the restored disk differs"
    );
    assert_eq!(kept.vault("restore", &args).code, 2);
}

#[test]
fn a_sound_target_checks_clean_and_a_damaged_one_names_what_is_lost() {
    let kept = Kept::new();
    assert_eq!(kept.vault("check", &["--deep"]).code, 0);
    damage_packs(&kept.path("target"));
    let checked = kept.vault("check", &["--deep"]);
    assert_eq!(checked.code, 1, "{}", checked.stdout);
    assert!(
        checked.stdout.contains(&kept.backup.to_string()),
        "{}",
        checked.stdout
    );
    assert!(
        checked.stderr.contains("error[integrity_error]"),
        "{}",
        checked.stderr
    );
}

#[test]
fn a_wrong_key_a_missing_target_and_an_unknown_backup_say_what_to_do() {
    let kept = Kept::new();
    RootKey::create(&kept.path("other.key"), &SimEnv::new(2)).expect("a key");
    let (target, other) = (text(&kept.path("target")), text(&kept.path("other.key")));
    let wrong = run(&["vault", "list", "--target", &target, "--key", &other]);
    assert_eq!(wrong.code, 4, "{}", wrong.stderr);
    assert!(
        wrong.stderr.starts_with("error[wrong_key]"),
        "{}",
        wrong.stderr
    );
    assert!(wrong.stderr.contains("\nhint: "), "{}", wrong.stderr);

    let nowhere = run(&["vault", "list", "--target", "/nowhere", "--key", &other]);
    assert_eq!(nowhere.code, 5, "{}", nowhere.stderr);

    let unknown = BackupId::generate(&SimEnv::new(3)).to_string();
    let out = text(&kept.path("out.raw"));
    assert_eq!(kept.vault("restore", &[&unknown, "--to", &out]).code, 5);
    assert!(!kept.path("out.raw").exists());
}

#[test]
fn a_new_root_key_takes_over_and_the_old_one_is_told_so() {
    let kept = Kept::new();
    let next = text(&kept.path("next.key"));
    let rotated = kept.keys("rotate", &["--new-key", &next]);
    assert_eq!(rotated.code, 0, "{}", rotated.stderr);
    assert!(
        rotated.stderr.contains("1 vault moved"),
        "{}",
        rotated.stderr
    );
    let refused = kept.vault("list", &[]);
    assert_eq!(refused.code, 4);
    assert!(refused.stderr.contains("wrong_key"), "{}", refused.stderr);
    fs::rename(kept.path("next.key"), kept.path("root.key")).expect("the new key in its place");
    assert_eq!(kept.vault("check", &["--deep"]).code, 0);
}

#[test]
fn keys_are_destroyed_only_when_confirmed_and_a_copy_brings_them_back() {
    let kept = Kept::new();
    let copy = text(&kept.path("keys.txt"));
    let exported = kept.keys("export", &["--to", &copy]);
    assert_eq!(exported.code, 0, "{}", exported.stderr);
    assert_eq!(kept.keys("export", &["--to", &copy]).code, 2, "it exists");

    let listed = kept.vault("list", &["-o", "json"]);
    let backups: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let account = backups[0]["account_id"].as_str().expect("an account");
    let refused = kept.keys("destroy", &[account]);
    assert_eq!(refused.code, 2);
    assert!(
        refused.stderr.contains("1 backup of account"),
        "{}",
        refused.stderr
    );
    assert_eq!(kept.vault("list", &[]).code, 0, "nothing was destroyed");

    assert_eq!(kept.keys("destroy", &[account, "--yes", account]).code, 0);
    assert_eq!(kept.vault("list", &[]).code, 5);
    assert_eq!(kept.keys("import", &["--from", &copy]).code, 0);
    assert_eq!(kept.vault("check", &["--deep"]).code, 0);
}

#[test]
fn a_second_target_holds_what_the_first_did_under_a_key_of_its_own() {
    let kept = Kept::new();
    fs::create_dir(kept.path("second")).expect("a folder");
    fs::write(
        kept.path("second.toml"),
        "[target]\nkind = 'local'\nfolder = 'second'\n",
    )
    .expect("settings");
    let next = kept.path("next.key");
    RootKey::create(&next, &SimEnv::new(2)).expect("a key");
    let args = [
        "--to",
        &text(&kept.path("second.toml")),
        "--to-key",
        &text(&next),
    ];
    let copied = kept.vault("copy", &args);
    assert_eq!(copied.code, 0, "{}", copied.stderr);
    assert!(copied.stderr.contains("1 copied"), "{}", copied.stderr);
    let again = kept.vault("copy", &args);
    assert!(again.stderr.contains("0 copied"), "{}", again.stderr);
    assert!(again.stderr.contains("1 there before"), "{}", again.stderr);
    let itself = kept.vault("copy", &["--to", &text(&kept.path("target"))]);
    assert_ne!(itself.code, 0, "{}", itself.stderr);

    damage_packs(&kept.path("target"));
    fs::rename(kept.path("second"), kept.path("target.new")).expect("moved");
    fs::remove_dir_all(kept.path("target")).expect("the first is gone");
    fs::rename(kept.path("target.new"), kept.path("target")).expect("the second in its place");
    assert_eq!(
        kept.vault("list", &[]).code,
        4,
        "the first key opens the first target only"
    );
    fs::rename(next, kept.path("root.key")).expect("the second key");
    let out = text(&kept.path("out.raw"));
    let restored = kept.vault("restore", &[&kept.backup.to_string(), "--to", &out]);
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    let bytes = |name: &str| fs::read(kept.path(name)).expect("a disk");
    assert!(
        bytes("out.raw") == bytes("disk.raw"),
        "the restored disk differs"
    );
}

#[test]
fn a_backup_is_exported_as_qcow2_and_into_a_pipe() {
    let kept = Kept::new();
    let (id, out) = (kept.backup.to_string(), kept.path("out.qcow2"));
    let exported = kept.vault("export", &[&id, "--to", &text(&out)]);
    assert_eq!(exported.code, 0, "{}", exported.stderr);
    let compared = Command::new("qemu-img")
        .args(["compare", "-q", "-f", "raw", "-F", "qcow2"])
        .args([kept.path("disk.raw"), out])
        .status();
    assert!(compared.expect("qemu-img").success());

    let piped = command(kept.folder.path())
        .args(["vault", "export", &id, "--format", "raw", "--to", "-"])
        .arg("--target")
        .arg(kept.path("target"))
        .arg("--key")
        .arg(kept.path("root.key"))
        .output()
        .expect("started");
    assert!(piped.status.success(), "{piped:?}");
    assert!(piped.stdout == fs::read(kept.path("disk.raw")).expect("the disk"));
}

#[test]
fn backups_are_mounted_until_they_are_interrupted() {
    let kept = Kept::new();
    let dir = kept.path("mnt");
    fs::create_dir(&dir).expect("a folder");
    let mut mounting = command(kept.folder.path())
        .args(["vault", "mount", &text(&dir)])
        .arg("--target")
        .arg(kept.path("target"))
        .arg("--key")
        .arg(kept.path("root.key"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut first = String::new();
    let answer = mounting.stdout.take().expect("stdout");
    BufReader::new(answer)
        .read_line(&mut first)
        .expect("a line");
    assert_eq!(first.trim_end(), text(&dir), "it says when it is mounted");
    let disk = dir.join(format!("{}.raw", kept.backup));
    assert!(
        fs::read(disk).expect("a disk") == fs::read(kept.path("disk.raw")).expect("the disk"),
        "the mounted disk differs"
    );
    let pid = rustix::process::Pid::from_child(&mounting);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
    assert!(mounting.wait().expect("ended").success());
    let left = fs::read_dir(&dir).expect("the folder").count();
    assert_eq!(left, 0, "it is unmounted");

    fs::write(dir.join("file"), "").expect("a file");
    let refused = kept.vault("mount", &[&text(&dir)]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
}

#[test]
fn a_backup_is_served_as_a_block_device_until_it_is_interrupted() {
    let kept = Kept::new();
    let (id, socket) = (kept.backup.to_string(), kept.path("nbd"));
    let mut serving = command(kept.folder.path())
        .args(["vault", "serve", &id, "--socket", &text(&socket)])
        .arg("--target")
        .arg(kept.path("target"))
        .arg("--key")
        .arg(kept.path("root.key"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut first = String::new();
    let answer = serving.stdout.take().expect("stdout");
    BufReader::new(answer)
        .read_line(&mut first)
        .expect("a line");
    assert_eq!(first.trim_end(), text(&socket), "it says when it is there");
    let compared = Command::new("qemu-img")
        .args(["compare", "-q", "-f", "raw", "-F", "raw"])
        .arg(kept.path("disk.raw"))
        .arg(format!("nbd+unix:///?socket={}", text(&socket)))
        .status();
    assert!(compared.expect("qemu-img").success());
    let again = kept.vault("serve", &[&id, "--socket", &text(&socket)]);
    assert_eq!(again.code, 1, "{}", again.stderr);
    let pid = rustix::process::Pid::from_child(&serving);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
    assert!(serving.wait().expect("ended").success());
    assert!(!socket.exists(), "nothing is left");
}

#[test]
fn what_rotted_is_repaired_from_a_second_target_and_what_cannot_be_is_said() {
    let kept = Kept::new();
    let second = text(&kept.path("second"));
    fs::create_dir(&second).expect("a folder");
    let copied = kept.vault("copy", &["--to", &second]);
    assert_eq!(copied.code, 0, "{}", copied.stderr);
    damage_packs(&kept.path("target"));
    assert_ne!(kept.vault("check", &["--deep"]).code, 0);

    // An empty target has no copy.
    let empty = text(&kept.path("empty"));
    fs::create_dir(&empty).expect("a folder");
    let refused = kept.vault("repair", &["--from", &empty]);
    assert_ne!(refused.code, 0);
    assert!(
        refused
            .stderr
            .contains("1 of 1 damaged backups could not be repaired"),
        "{}",
        refused.stderr
    );

    let repaired = kept.vault("repair", &["--from", &second]);
    assert_eq!(repaired.code, 0, "{}", repaired.stderr);
    let said = format!("backup {} is whole again", kept.backup);
    assert!(repaired.stderr.contains(&said), "{}", repaired.stderr);
    let (id, out) = (kept.backup.to_string(), text(&kept.path("out.raw")));
    let restored = kept.vault("restore", &[&id, "--to", &out]);
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    let same =
        fs::read(&out).expect("restored") == fs::read(kept.path("disk.raw")).expect("a disk");
    assert!(same, "the restored disk differs");
    let listed = kept.vault("list", &["-o", "name"]);
    assert_eq!(listed.stdout.lines().count(), 1, "{}", listed.stdout);
    let again = kept.vault("repair", &["--from", &second]);
    assert!(
        again.stderr.contains("Every backup is as it was written."),
        "{}",
        again.stderr
    );
}

#[test]
fn a_backup_that_is_gone_altogether_is_brought_back_when_it_is_named() {
    let kept = Kept::new();
    let second = text(&kept.path("second"));
    fs::create_dir(&second).expect("a folder");
    assert_eq!(kept.vault("copy", &["--to", &second]).code, 0);
    remove_manifests(&kept.path("target"));
    assert_eq!(
        kept.vault("list", &["-o", "name"]).stdout.lines().count(),
        0
    );
    let id = kept.backup.to_string();
    let repaired = kept.vault("repair", &["--from", &second, "--backup", &id]);
    assert_eq!(repaired.code, 0, "{}", repaired.stderr);
    assert!(repaired.stderr.contains("is back"), "{}", repaired.stderr);
    assert_eq!(
        kept.vault("list", &["-o", "name"]).stdout.lines().count(),
        1
    );
}

fn remove_manifests(folder: &Path) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            remove_manifests(&path);
        } else if path.extension().is_some_and(|end| end == "manifest") {
            fs::remove_file(&path).expect("removed");
        }
    }
}
