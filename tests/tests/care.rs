//! The care of a vault beside a real server: what was deleted leaves the target, what rots is found,
//! and a server that was lost is rebuilt from it.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};

use stillpoint_client::Change;
use stillpoint_model::id::BackupId;
use stillpoint_tests::folder::files_under;
use stillpoint_tests::person::Person;
use stillpoint_tests::server::{Server, stillpoint_binary};
use stillpoint_tests::wait::{PATIENCE, until};
use stillpoint_wire::admin::{CollectionState, Copies, TargetDetail, VaultHealth};
use stillpoint_wire::backup::Backup;
use stillpoint_wire::item::{ItemKind, ItemState};
use stillpoint_wire::upload::ImageFormat;

const MIB: usize = 1 << 20;

/// Bytes that nothing repeats in and nothing compresses.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    let mut bytes = vec![0; len];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// A server whose vaults are cared for every few seconds.
fn start(folder: &Path, care: &str) -> Server {
    start_with(folder, care, "")
}

/// A server that has a second target, too: the folder `second`.
fn start_with_second(folder: &Path, care: &str) -> Server {
    let second = folder.join("second");
    fs::create_dir(&second).unwrap();
    let table = format!(
        "[second_target]\nkind = \"local\"\nfolder = \"{}\"\n",
        second.display()
    );
    start_with(folder, care, &table)
}

fn start_with(folder: &Path, care: &str, more: &str) -> Server {
    let plan = include_str!("../../presets/stillpoint.toml");
    let plan = plan.replace("cooldown_s = 300", "cooldown_s = 0");
    fs::write(folder.join("plan.toml"), plan).unwrap();
    let settings = folder.join("settings.toml");
    let text = format!("plan = \"plan.toml\"\n[care]\n{care}\n{more}");
    fs::write(&settings, text).unwrap();
    Server::start_with(&["--config", settings.to_str().unwrap()])
}

fn import(tenant: &Person, folder: &Path, name: &str, seed: u64) -> stillpoint_model::id::VolumeId {
    let disk = folder.join(name);
    fs::write(&disk, noise(seed, 6 * MIB)).unwrap();
    tenant.import(name, &disk, ImageFormat::Raw)
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    until(PATIENCE, what, || is_so().then_some(()).ok_or("not yet"));
}

/// The packs of a server's target, with their lengths.
fn packs(server: &Server) -> Vec<(PathBuf, u64)> {
    packs_in(&server.data().join("target"))
}

fn packs_in(target: &Path) -> Vec<(PathBuf, u64)> {
    let files = files_under(target);
    let packs = files.into_iter().filter(|path| {
        let parts: Vec<_> = path.iter().collect();
        parts.iter().any(|part| *part == "packs")
    });
    packs
        .map(|path| {
            let len = fs::metadata(&path).unwrap().len();
            (path, len)
        })
        .collect()
}

fn bytes(packs: &[(PathBuf, u64)]) -> u64 {
    packs.iter().map(|(_, len)| len).sum()
}

fn target(admin: &Person) -> TargetDetail {
    admin.get(async |client| client.target_show("local").await)
}

fn vault(admin: &Person) -> Option<VaultHealth> {
    target(admin).vaults.into_iter().next()
}

fn copies(admin: &Person) -> Option<Copies> {
    vault(admin)?.copies
}

/// Has everything copied, and waits until so much is.
fn copy_all(admin: &Person, backups: u32) {
    let copy = ["admin", "target", "copy", "local", "--to", "second"];
    cli(admin, &[&copy[..], &["--every", "1m"]].concat());
    wait_until("the copies are there", || {
        copies(admin).is_some_and(|copies| copies.copied == backups && copies.waiting == 0)
    });
}

fn delete_volume(tenant: &Person, volume: stillpoint_model::id::VolumeId, name: &str) {
    let id = volume.to_string();
    tenant.complete(async |client| {
        client
            .volume_delete(&id, Some(name), &Change::default())
            .await
    });
}

fn backup(tenant: &Person, id: BackupId) -> Backup {
    tenant.get(async |client| client.backup_show(&id.to_string()).await)
}

fn cli(person: &Person, arguments: &[&str]) -> String {
    let output = person.cli(arguments);
    let (out, err) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {err}");
    String::from_utf8(out.clone()).unwrap()
}

#[test]
fn the_bytes_of_a_deleted_backup_leave_the_target_once_somebody_confirmed_so_many() {
    let folder = tempfile::tempdir().unwrap();
    let care = "collect_every_s = 1\nkeep_deleted_s = 0\ngrace_s = 1\nfloor_mib = 0";
    let server = start(folder.path(), care);
    let (tenant, admin) = (Person::tenant(&server), Person::administrator(&server));
    let kept = import(&tenant, folder.path(), "kept", 1);
    let gone = import(&tenant, folder.path(), "gone", 2);
    let kept = tenant.backup(kept, "kept");
    let gone = tenant.backup(gone, "gone");
    let before = bytes(&packs(&server));
    assert!(before > 12 * MIB as u64, "{before}");
    tenant.delete_backup(&gone);

    // Half of the vault is more than goes by itself.
    wait_until("the collection asks", || {
        let last = vault(&admin).and_then(|vault| vault.collection);
        last.is_some_and(|last| last.state == CollectionState::NeedsConfirmation)
    });
    assert_eq!(bytes(&packs(&server)), before);
    let asks = vault(&admin).unwrap();
    let asked = asks.collection.unwrap().would_free.unwrap();
    let shown = cli(&admin, &["admin", "target", "show", "local"]);
    assert!(shown.contains("needs_confirmation"), "{shown}");
    let vault_id = asks.vault_id.to_string();
    let confirm = [
        "admin", "target", "confirm", "local", "--vault", &vault_id, "--bytes",
    ];
    let bytes_text = asked.get().to_string();
    cli(&admin, &[&confirm[..], &[&bytes_text]].concat());

    wait_until("the bytes are gone", || {
        vault(&admin).is_some_and(|vault| vault.freed >= asked)
    });
    let after = bytes(&packs(&server));
    assert_eq!(before - after, asked.get());
    assert!(after > 6 * MIB as u64);
    // What stayed is whole.
    let restored = tenant.restore_new(ItemKind::Backup, kept.id, "again");
    let copy = folder.path().join("copy.raw");
    server.pool().copy_volume(restored, &copy);
    assert!(
        fs::read(&copy).unwrap() == noise(1, 6 * MIB),
        "the restored volume differs"
    );
}

/// Flips a byte in the largest pack that was not there before; what was in it, and where it is.
fn rot(server: &Server, before: &[(PathBuf, u64)]) -> (PathBuf, Vec<u8>) {
    rot_in(&server.data().join("target"), before)
}

fn rot_in(target: &Path, before: &[(PathBuf, u64)]) -> (PathBuf, Vec<u8>) {
    let all = packs_in(target).into_iter();
    let (pack, len) = all
        .filter(|pack| !before.contains(pack))
        .max_by_key(|(_, len)| *len)
        .unwrap();
    let whole = fs::read(&pack).unwrap();
    let mut rotten = whole.clone();
    rotten[usize::try_from(len / 2).unwrap()] ^= 0x10;
    overwrite(&pack, &rotten);
    (pack, whole)
}

fn comes_back(server: &Server, tenant: &Person, backup: BackupId, seed: u64) {
    let name = format!("again-{seed}");
    let restored = tenant.restore_new(ItemKind::Backup, backup, &name);
    let copy = server.data().with_extension(&name);
    server.pool().copy_volume(restored, &copy);
    let is_same = fs::read(&copy).unwrap() == noise(seed, 6 * MIB);
    assert!(is_same, "the restored volume differs");
}

#[test]
fn a_flipped_byte_is_found_by_the_schedule_and_repaired_from_the_volume() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), "collect_every_s = 3600\nverify_every_s = 1");
    let (tenant, admin) = (Person::tenant(&server), Person::administrator(&server));
    let volume = import(&tenant, folder.path(), "data", 3);
    let first = tenant.backup(volume, "first");
    wait_until("a verification found it sound", || {
        vault(&admin).is_some_and(|vault| vault.verification.is_some_and(|v| v.bad.is_empty()))
    });
    rot(&server, &[]);
    wait_until("the schedule found and repaired it", || {
        server.log().contains("a damaged backup was repaired")
    });
    wait_until("a verification found it sound again", || {
        vault(&admin).is_some_and(|vault| vault.verification.is_some_and(|v| v.bad.is_empty()))
    });
    assert_eq!(backup(&tenant, first.id).state, ItemState::Available);
    assert!(vault(&admin).unwrap().damage.is_empty());
    comes_back(&server, &tenant, first.id, 3);
}

#[test]
fn a_flipped_byte_that_no_volume_has_any_more_is_shown_until_the_object_is_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), "collect_every_s = 3600\nverify_every_s = 1");
    let (tenant, admin) = (Person::tenant(&server), Person::administrator(&server));
    let volume = import(&tenant, folder.path(), "data", 4);
    let first = tenant.backup(volume, "first");
    delete_volume(&tenant, volume, "data");
    let (pack, whole) = rot(&server, &[]);
    wait_until("the schedule found it", || {
        backup(&tenant, first.id).state == ItemState::Degraded
    });
    let damage = vault(&admin).unwrap().damage;
    let name = pack.file_name().unwrap().to_str().unwrap();
    assert!(
        damage.iter().any(|bad| bad.object.contains(name)),
        "{damage:?}"
    );
    assert!(
        damage.iter().all(|bad| bad.affected == [first.id]),
        "{damage:?}"
    );
    let shown = cli(&admin, &["admin", "target", "show", "local"]);
    assert!(shown.contains(&first.id.to_string()), "{shown}");
    let problem = tenant.refused(async |client| {
        let restore = stillpoint_tests::person::restore_new(ItemKind::Backup, first.id, "no");
        client.restore_create(&restore, &Change::default()).await
    });
    assert!(problem.detail.contains("degraded"), "{problem:?}");

    // An operator puts the object back: the schedule finds the backup sound again.
    overwrite(&pack, &whole);
    wait_until("it is available again", || {
        backup(&tenant, first.id).state == ItemState::Available
            && vault(&admin).unwrap().damage.is_empty()
    });
    comes_back(&server, &tenant, first.id, 4);
}

#[test]
fn small_objects_that_rot_are_made_anew_by_the_schedule_and_keys_before_anybody_needs_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(folder.path(), "collect_every_s = 3600\nverify_every_s = 1");
    let (mut tenant, admin) = (Person::tenant(&server), Person::administrator(&server));
    let volume = import(&tenant, folder.path(), "data", 10);
    let first = tenant.backup(volume, "first");
    let sound = || {
        let last = vault(&admin).and_then(|vault| vault.mending);
        last.is_some_and(|last| last.objects > 4 && last.left.is_empty())
    };
    wait_until("small objects were looked at", sound);
    let target = server.data().join("target");
    let rotten = ["/sums/", ".proven", "/reserve", "/keys/"].map(|part| {
        let files = files_under(&target).into_iter();
        let mut files = files.filter(|path| path.to_string_lossy().contains(part));
        let file = files.next().expect(part);
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        overwrite(&file, &bytes);
        file.strip_prefix(&target).unwrap().to_owned()
    });
    for name in rotten {
        wait_until("a small object is made anew", || {
            let (log, name) = (server.log(), name.to_string_lossy());
            let mut lines = log.lines();
            lines.any(|line| line.contains("is made anew") && line.contains(&*name))
        });
    }
    wait_until("nothing is damaged any more", sound);
    let shown = cli(&admin, &["admin", "target", "show", "local"]);
    assert!(shown.contains("MENDED"), "{shown}");
    assert_eq!(backup(&tenant, first.id).state, ItemState::Available);
    // Nobody has the vault open any more: its keys are read again.
    server.stop();
    server.resume();
    tenant.follow(&server);
    comes_back(&server, &tenant, first.id, 10);
}

#[test]
fn backups_are_copied_and_restore_from_the_second_target_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start_with_second(folder.path(), "collect_every_s = 3600");
    let (tenant, admin) = (Person::tenant(&server), Person::administrator(&server));
    let volume = import(&tenant, folder.path(), "data", 6);
    let first = tenant.backup(volume, "first");
    let second = tenant.backup(volume, "second");
    copy_all(&admin, 2);
    let found = copies(&admin).unwrap();
    assert_eq!((found.behind, found.failure), (0, None));
    let shown = cli(&admin, &["admin", "target", "show", "local"]);
    assert!(shown.contains("2 of 2"), "{shown}");
    let there = bytes(&packs_in(&folder.path().join("second")));
    let here = bytes(&packs(&server));
    assert!(there < here + here / 8, "increments: {there} of {here}");

    let key = folder.path().join("root.key");
    fs::copy(server.data().join("keys/root.key"), &key).unwrap();
    server.stop();
    fs::remove_dir_all(server.data()).unwrap();
    for backup in [first.id, second.id] {
        let image = folder.path().join(format!("{backup}.raw"));
        let output = std::process::Command::new(stillpoint_binary())
            .args(["vault", "restore", &backup.to_string(), "--target"])
            .arg(folder.path().join("second"))
            .arg("--key")
            .arg(&key)
            .arg("--to")
            .arg(&image)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let is_same = fs::read(&image).unwrap() == noise(6, 6 * MIB);
        assert!(is_same, "the copy differs");
    }
}

#[test]
fn when_the_first_target_is_lost_the_second_takes_its_place_in_the_settings() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start_with_second(folder.path(), "collect_every_s = 3600");
    let (mut tenant, admin) = (Person::tenant(&server), Person::administrator(&server));
    let volume = import(&tenant, folder.path(), "data", 9);
    let first = tenant.backup(volume, "first");
    copy_all(&admin, 1);
    server.stop();
    fs::remove_dir_all(server.data().join("target")).unwrap();
    let second = folder.path().join("second");
    let settings = format!(
        "plan = \"plan.toml\"\n[target]\nkind = \"local\"\nfolder = \"{}\"\n",
        second.display()
    );
    fs::write(folder.path().join("settings.toml"), settings).unwrap();
    let note = server.data().join("target.chosen");
    fs::write(&note, format!("local {}\n", second.display())).unwrap();
    server.resume();
    tenant.follow(&server);
    comes_back(&server, &tenant, first.id, 9);
    // Backups go on there, as increments.
    let next = tenant.backup(volume, "next");
    let stored = next.sizes.stored_bytes.get();
    assert!(stored < MIB as u64, "{stored}");
}

#[test]
fn what_no_volume_has_any_more_is_repaired_from_its_copy_and_a_copy_from_its_backup() {
    let folder = tempfile::tempdir().unwrap();
    let care = "collect_every_s = 3600\nverify_every_s = 1";
    let server = start_with_second(folder.path(), care);
    let (tenant, admin) = (Person::tenant(&server), Person::administrator(&server));
    let volume = import(&tenant, folder.path(), "data", 7);
    let first = tenant.backup(volume, "first");
    copy_all(&admin, 1);
    delete_volume(&tenant, volume, "data");

    let repaired = || {
        server
            .log()
            .matches("a damaged backup was repaired")
            .count()
    };
    rot(&server, &[]);
    wait_until("it is repaired from its copy", || repaired() == 1);
    comes_back(&server, &tenant, first.id, 7);
    rot_in(&folder.path().join("second"), &[]);
    wait_until("the copy is repaired from it", || repaired() == 2);
    // Every object of it, the manifest with them.
    let manifests = files_under(&server.data().join("target"));
    let name = format!("{}.manifest", first.id);
    let manifest = manifests.iter().find(|path| path.ends_with(&name)).unwrap();
    for file in files_under(manifest.parent().unwrap()) {
        fs::remove_file(file).unwrap();
    }
    wait_until("it is brought back", || {
        server.log().contains("a backup that was gone is back")
    });
    wait_until("nothing is damaged any more", || {
        let shown = admin.get(async |client| client.target_show("second").await);
        vault(&admin).unwrap().damage.is_empty() && shown.vaults[0].damage.is_empty()
    });
    assert_eq!(backup(&tenant, first.id).state, ItemState::Available);
    let second = admin.get(async |client| client.target_show("second").await);
    assert_eq!(
        (second.vaults[0].backups, second.vaults[0].degraded),
        (1, 0)
    );
}

#[test]
fn a_deletion_follows_in_the_second_target_when_the_time_for_copies_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let care = "collect_every_s = 1\nkeep_deleted_s = 0\ngrace_s = 1\nkeep_copies_s = 3";
    let server = start_with_second(folder.path(), care);
    let (tenant, admin) = (Person::tenant(&server), Person::administrator(&server));
    let volume = import(&tenant, folder.path(), "data", 8);
    let first = tenant.backup(volume, "first");
    copy_all(&admin, 1);
    let second = folder.path().join("second");
    tenant.delete_backup(&first);
    wait_until("the backup's data is gone", || packs(&server).is_empty());
    assert!(!packs_in(&second).is_empty(), "the copy stays longer");
    wait_until("the copy is gone, too", || {
        // An operator looks at what is new without waiting for the next time.
        let copy = ["admin", "target", "copy", "local", "--to", "second"];
        cli(&admin, &copy);
        packs_in(&second).is_empty()
    });
    assert_eq!(copies(&admin).unwrap().of_deleted, 0);
}

fn overwrite(path: &Path, content: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn a_server_whose_data_folder_is_lost_is_rebuilt_from_target_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    fs::create_dir(&target).unwrap();
    let settings = folder.path().join("settings.toml");
    let text = format!(
        "[target]\nkind = \"local\"\nfolder = \"{}\"\n[database]\nbackup_every_s = 1\nkeep = 2\n",
        target.display()
    );
    fs::write(&settings, text).unwrap();
    let mut server = Server::start_with(&["--config", settings.to_str().unwrap()]);
    let mut tenant = Person::tenant(&server);
    let volume = import(&tenant, folder.path(), "data", 5);
    let backup = tenant.backup(volume, "kept");
    // A copy that began after now has the backup.
    let stored = |server: &Server| server.log().matches("the database is backed up").count();
    let before = stored(&server);
    wait_until("two more copies", || stored(&server) >= before + 2);
    server.stop();
    let key = folder.path().join("root.key");
    fs::copy(server.data().join("keys/root.key"), &key).unwrap();
    fs::remove_dir_all(server.data()).unwrap();

    let recover = || {
        std::process::Command::new(stillpoint_binary())
            .args(["server", "recover", "--target"])
            .arg(&target)
            .arg("--key")
            .arg(&key)
            .arg("--data")
            .arg(server.data())
            .output()
            .unwrap()
    };
    let output = recover();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!recover().status.success(), "a database is never replaced");

    server.resume();
    tenant.follow(&server);
    let listed = self::backup(&tenant, backup.id);
    assert_eq!(
        (listed.state, listed.content_hash),
        (ItemState::Available, backup.content_hash)
    );
    let restored = tenant.restore_new(ItemKind::Backup, backup.id, "again");
    let copy = folder.path().join("copy.raw");
    server.pool().copy_volume(restored, &copy);
    assert!(
        fs::read(&copy).unwrap() == noise(5, 6 * MIB),
        "the restored volume differs"
    );
    // The copies go on, in the same vault.
    let before = stored(&server);
    wait_until("another copy", || stored(&server) > before);
    let vaults = fs::read_dir(&target).unwrap().count();
    assert_eq!(vaults, 2, "one of the tenant, one of the database");
}
