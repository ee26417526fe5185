//! Packs that are mostly dead, beside a real server: their room is given back while backups are
//! mounted and restored, and every backup that is left is what it was.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use stillpoint_client::Change;
use stillpoint_env::SimEnv;
use stillpoint_model::Env as _;
use stillpoint_model::id::{BackupId, VolumeId};
use stillpoint_tests::mount::ExportedVolume;
use stillpoint_tests::person::Person;
use stillpoint_tests::process::bound_command;
use stillpoint_tests::scratch_folder;
use stillpoint_tests::server::{Server, stillpoint_binary};
use stillpoint_tests::wait::{PATIENCE, until};
use stillpoint_wire::admin::VaultHealth;
use stillpoint_wire::backup::{Backup, BackupVerify};
use stillpoint_wire::item::{ItemKind, ItemState};
use stillpoint_wire::upload::ImageFormat;

const LEN: usize = 88 << 20;
const CHUNK: usize = 16 << 10;
/// What nobody waits for here: the collection is told to begin at once, and to leave no time to a person.
const CARE: &str = "collect_every_s = 1\nkeep_deleted_s = 0\ngrace_s = 1\nfloor_mib = 4096";

fn start(folder: &Path) -> Server {
    let plan = include_str!("../../presets/stillpoint.toml");
    let plan = plan.replace("cooldown_s = 300", "cooldown_s = 0");
    fs::write(folder.join("plan.toml"), plan).unwrap();
    let settings = folder.join("settings.toml");
    fs::write(&settings, format!("plan = \"plan.toml\"\n[care]\n{CARE}\n")).unwrap();
    Server::start_with(&["--config", settings.to_str().unwrap()])
}

fn noise(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    SimEnv::new(seed).fill_random(&mut bytes);
    bytes
}

fn vault(admin: &Person) -> VaultHealth {
    let target = admin.get(async |client| client.target_show("local").await);
    target.vaults.into_iter().next().expect("a vault")
}

/// The bytes of all packs below a folder.
fn packs_in(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let len = |path: PathBuf| match path.is_dir() {
        true => packs_in(&path),
        // One may go meanwhile.
        false if path.to_string_lossy().contains("/packs/") => {
            fs::metadata(&path).map_or(0, |file| file.len())
        }
        false => 0,
    };
    entries.map(|entry| len(entry.unwrap().path())).sum()
}

/// The backups of a target as disk files, by a process that knows no server.
struct Mounted {
    process: Child,
    folder: PathBuf,
}

impl Mounted {
    fn of(server: &Server, folder: &Path) -> Self {
        let dir = folder.join("mounted");
        fs::create_dir(&dir).unwrap();
        let mut command = bound_command(stillpoint_binary());
        command.args(["vault", "mount", "--cache", "1MiB", "--target"]);
        command.arg(server.data().join("target"));
        command
            .arg("--key")
            .arg(server.data().join("keys/root.key"));
        let process = command.arg(&dir).stdout(Stdio::null()).spawn().unwrap();
        let mounted = Self {
            process,
            folder: dir,
        };
        until(PATIENCE, "the mounted backups", || {
            let there = fs::read_dir(&mounted.folder).unwrap().count();
            (there > 0).then_some(()).ok_or("none yet")
        });
        mounted
    }

    fn open(&self, backup: BackupId) -> File {
        File::open(self.folder.join(format!("{backup}.raw"))).unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Overwrites all but each tenth chunk.
fn wear(server: &Server, volume: VolumeId, content: &mut [u8]) {
    let other = noise(2);
    let exported = ExportedVolume::open_volume(&server.pool(), volume, true);
    let file = File::options().write(true).open(exported.path()).unwrap();
    for at in (0..LEN)
        .step_by(CHUNK)
        .filter(|at| !(at / CHUNK).is_multiple_of(10))
    {
        content[at..at + CHUNK].copy_from_slice(&other[at..at + CHUNK]);
        file.write_all_at(&other[at..at + CHUNK], at as u64)
            .unwrap();
    }
    drop(file);
    exported.close();
}

/// Restores a backup to a volume that goes again.
fn comes_back(server: &Server, tenant: &Person, backup: &Backup, content: &[u8]) {
    let volume = tenant.restore_new(ItemKind::Backup, backup.id, "again");
    let copy = server.data().with_extension("again");
    server.pool().copy_volume(volume, &copy);
    assert!(fs::read(&copy).unwrap() == content, "the volume differs");
    fs::remove_file(copy).unwrap();
    let id = volume.to_string();
    tenant.complete(async |client| {
        let change = Change::default();
        client.volume_delete(&id, Some("again"), &change).await
    });
}

#[test]
fn the_room_of_mostly_dead_packs_is_given_back_while_backups_are_read() {
    let folder = scratch_folder();
    let server = start(folder.path());
    let (tenant, admin) = (Person::tenant(&server), Person::administrator(&server));
    let mut content = noise(1);
    let image = folder.path().join("image");
    fs::write(&image, &content).unwrap();
    let volume = tenant.import("data", &image, ImageFormat::Raw);
    let first = tenant.backup(volume, "first");
    wear(&server, volume, &mut content);
    let kept = tenant.backup(volume, "kept");
    let again = tenant.backup(volume, "again");
    let target = server.data().join("target");
    let before = packs_in(&target);

    let mounted = Mounted::of(&server, folder.path());
    let reader = mounted.open(kept.id);
    let read = |at: usize, len: usize| {
        let mut part = vec![0; len];
        reader.read_exact_at(&mut part, at as u64).unwrap();
        assert!(part == content[at..at + len], "at {at}");
    };
    read(0, LEN / 4);
    tenant.delete_backup(&first);
    // What is collected in one step is deleted in another: one restore after the other runs through all.
    let given_back = || before.saturating_sub(packs_in(&target)) > LEN as u64 * 3 / 4;
    until(PATIENCE * 3, "the room of the packs", || {
        comes_back(&server, &tenant, &kept, &content);
        given_back()
            .then_some(())
            .ok_or_else(|| format!("{:?}", vault(&admin)))
    });
    assert!(server.log().contains("mostly dead packs were emptied"));
    let health = vault(&admin);
    assert!(health.freed.get() > LEN as u64 * 3 / 4, "{health:?}");
    assert_eq!((health.degraded, health.failure), (0, None));

    read(LEN / 4, LEN - LEN / 4);
    read(0, LEN / 4);
    for backup in [&kept, &again] {
        let id = backup.id.to_string();
        tenant.complete(async |client| {
            client
                .backup_verify(&id, &BackupVerify::default(), &Change::default())
                .await
        });
        let shown = tenant.get(async |client| client.backup_show(&id).await);
        assert_eq!(shown.state, ItemState::Available);
        comes_back(&server, &tenant, backup, &content);
    }
}
