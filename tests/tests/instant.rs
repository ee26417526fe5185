//! An instance of a backup that runs before its volumes are whole: its guest boots and writes while
//! they are filled from a bucket, and goes on whoever is killed meanwhile.
//!
//! The bucket is slow, so that filling lasts until the test has done what it came for. The guest writes
//! numbered steps to two disks in lock-step; the first also holds noise.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use stillpoint_client::Change;
use stillpoint_env::SimEnv;
use stillpoint_model::ByteCount;
use stillpoint_model::id::{InstanceId, VolumeId};
use stillpoint_tests::browser::Browser;
use stillpoint_tests::bucket::BucketServer;
use stillpoint_tests::guest::make_database;
use stillpoint_tests::hash::file_hash;
use stillpoint_tests::journal;
use stillpoint_tests::machine::Machine;
use stillpoint_tests::mount::MountedVolume;
use stillpoint_tests::person::{Login, Person, restore_new};
use stillpoint_tests::process::run;
use stillpoint_tests::scratch_folder;
use stillpoint_tests::server::Server;
use stillpoint_tests::wait::{PATIENCE, until};
use stillpoint_wire::backup::Backup;
use stillpoint_wire::instance::{InstanceCreate, InstanceDisk, InstanceStop, Power};
use stillpoint_wire::item::ItemKind;
use stillpoint_wire::problem::ProblemCode;
use stillpoint_wire::restore::{RestoreCreate, RestoreSource};
use stillpoint_wire::snapshot::SnapshotCreate;
use stillpoint_wire::upload::ImageFormat;
use stillpoint_wire::volume::Volume;

const SIZE: ByteCount = ByteCount::from_mib(256);
const NOISE: ByteCount = ByteCount::from_mib(64);
/// So much comes from the bucket in a second while it is slow.
const SLOW: &str = "bandwidth = \"2MiB\"\n";

/// Writes the server's settings.
fn settle(bucket: &BucketServer, folder: &Path, more: &str) -> String {
    let path = folder.join("settings.toml");
    let plan = include_str!("../../presets/stillpoint.toml");
    let plan = plan.replace("cooldown_s = 300", "cooldown_s = 0");
    fs::write(folder.join("plan.toml"), plan).unwrap();
    let text = format!(
        "plan = \"plan.toml\"\n[target]\nkind = \"s3\"\naddress = \"s3://backups/stillpoint\"\n\
         endpoint = \"{}\"\ncredentials = \"{}\"\n{more}",
        bucket.endpoint(),
        bucket.credentials().display()
    );
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn disk(volume: VolumeId) -> InstanceDisk {
    InstanceDisk {
        volume: Some(volume.to_string()),
        ..InstanceDisk::default()
    }
}

/// A server whose guest runs from backups.
struct Trial {
    // Dropped first: it writes to the server's folder.
    tenant: Person,
    server: Server,
    bucket: BucketServer,
    backups: [Backup; 2],
    instance: InstanceId,
    root: VolumeId,
    data: [VolumeId; 2],
    noise: blake3::Hash,
    scratch: tempfile::TempDir,
}

impl Trial {
    fn begin() -> Self {
        let scratch = scratch_folder();
        let bucket = BucketServer::start("backups");
        let settings = settle(&bucket, scratch.path(), "");
        let mut server = Server::start_with_machines(&["--config", &settings]);
        let mut tenant = Person::tenant(&server);
        let image = scratch.path().join("image");
        let import = |name: &str| tenant.import(name, &image, ImageFormat::Raw);
        journal::make_root(&image);
        let root = import("golden-root");
        journal::make_data(&image, SIZE);
        let (first, second) = (import("golden-first"), import("second"));
        let mounted = MountedVolume::open_volume(&server.pool(), first);
        let file = mounted.root().join("noise");
        make_database(&file, NOISE, &SimEnv::new(3));
        let noise = file_hash(&file);
        mounted.close();
        let backups = [tenant.backup(root, "root"), tenant.backup(first, "first")];
        server.stop();
        settle(&bucket, scratch.path(), SLOW);
        server.resume();
        tenant.follow(&server);

        let at_once = RestoreCreate {
            instant: Some(true),
            ..restore_new(ItemKind::Backup, backups[1].id, "first")
        };
        let made = tenant
            .complete(async |client| client.restore_create(&at_once, &Change::default()).await);
        let first = made.volume_id.expect("the volume's id");
        let request = InstanceCreate {
            name: Some("writer".into()),
            root: InstanceDisk {
                name: Some("root".into()),
                source: Some(RestoreSource {
                    kind: ItemKind::Backup,
                    item: backups[0].id.to_string(),
                }),
                instant: Some(true),
                ..InstanceDisk::default()
            },
            data: [first, second].map(disk).into(),
            ..InstanceCreate::default()
        };
        let made = tenant
            .complete(async |client| client.instance_create(&request, &Change::default()).await);
        let instance = made.instance_id.expect("the instance's id");
        let id = instance.to_string();
        let shown = tenant.get(async |client| client.instance_show(&id).await);
        Self {
            tenant,
            server,
            bucket,
            backups,
            instance,
            root: shown.volumes[0].id,
            data: [first, second],
            noise,
            scratch,
        }
    }

    fn machine(&self) -> Machine {
        self.server.machine(self.instance)
    }

    fn show(&self, volume: VolumeId) -> Volume {
        let id = volume.to_string();
        self.tenant
            .get(async |client| client.volume_show(&id).await)
    }

    fn is_filling(&self, volume: VolumeId) -> bool {
        self.show(volume).filling.is_some()
    }

    /// Nothing is made of what is not whole, and its backup stays.
    fn check_guards(&self) {
        let [_, backup] = &self.backups;
        let filling = self.show(self.data[0]).filling.expect("it is not whole");
        assert_eq!(filling.backup_id, backup.id);
        let request = SnapshotCreate {
            volume: self.data[0].to_string(),
            ..SnapshotCreate::default()
        };
        let change = Change::default();
        let refused = self
            .tenant
            .refused(async |client| client.snapshot_create(&request, &change).await);
        assert_eq!(refused.code, ProblemCode::VolumeFilling);
        let (id, name) = (backup.id.to_string(), backup.name.as_str());
        let refused = self
            .tenant
            .refused(async |client| client.backup_delete(&id, Some(name), &change).await);
        assert_eq!(refused.code, ProblemCode::VolumeFilling);
    }

    /// Starts the instance again once the server has seen that its machine is gone.
    fn start_again(&self) {
        let id = self.instance.to_string();
        until(PATIENCE, "that the instance is off", || {
            let shown = self
                .tenant
                .get(async |client| client.instance_show(&id).await);
            (shown.power == Power::Off)
                .then_some(())
                .ok_or(format!("{:?}", shown.power))
        });
        self.tenant
            .complete(async |client| client.instance_start(&id, &Change::default()).await);
    }

    /// Has the bucket be as quick as it is, and waits until all volumes are whole.
    fn make_whole(&mut self) {
        self.server.stop();
        settle(&self.bucket, self.scratch.path(), "");
        self.server.resume();
        self.tenant.follow(&self.server);
        for volume in [self.root, self.data[0]] {
            until(PATIENCE * 2, "a whole volume", || {
                match self.show(volume).filling {
                    None => Ok(()),
                    Some(filling) => Err(format!("{filling:?}")),
                }
            });
        }
        until(PATIENCE, "the end of every reader", || {
            let left = self.server.readers();
            left.is_empty().then_some(()).ok_or(format!("{left:?}"))
        });
    }

    /// Stops the instance; what its disks hold is what was in the backup and what was written since.
    fn end(self) {
        self.machine().wait_for_more_steps();
        let said = self.machine().steps_said();
        let (id, stop) = (self.instance.to_string(), InstanceStop::default());
        self.tenant
            .complete(async |client| client.instance_stop(&id, &stop, &Change::default()).await);
        let copies = self.data.map(|volume| {
            let copy = self.scratch.path().join(volume.to_string());
            self.server.pool().copy_volume(volume, &copy);
            copy
        });
        let file = self.scratch.path().join("noise");
        let dump = format!("dump /noise {}", file.display());
        run(Command::new("debugfs").args(["-R", &dump]).arg(&copies[0]));
        assert_eq!(file_hash(&file), self.noise);
        let [first, second] = copies.map(|copy| journal::steps(&copy));
        assert!(
            first == second || first == second + 1,
            "{first} and {second}"
        );
        assert!(second >= said, "{second} of {said}");
    }
}

#[test]
fn a_guest_runs_from_its_backup_whoever_is_killed_until_its_volumes_are_whole() {
    let mut trial = Trial::begin();
    trial.machine().wait_for_more_steps();
    assert!(trial.is_filling(trial.data[0]), "it booted before that");
    trial.check_guards();

    // The server.
    let process = trial.machine().process();
    trial.server.kill();
    trial.machine().wait_for_writes();
    trial.server.resume();
    trial.tenant.follow(&trial.server);
    trial.machine().wait_for_more_steps();
    assert_eq!(trial.machine().process(), process);
    assert!(trial.is_filling(trial.data[0]));

    // The machine.
    trial.machine().kill();
    trial.start_again();
    trial.machine().wait_for_more_steps();
    assert!(trial.is_filling(trial.data[0]));

    let process = trial.machine().process();
    trial.make_whole();
    assert_eq!(trial.machine().process(), process);
    trial.end();
}

#[test]
fn a_volume_that_is_deleted_before_it_is_whole_leaves_nothing() {
    let trial = Trial::begin();
    trial.machine().wait_for_more_steps();
    let (id, stop) = (trial.instance.to_string(), InstanceStop::default());
    trial
        .tenant
        .complete(async |client| client.instance_stop(&id, &stop, &Change::default()).await);
    assert!(trial.is_filling(trial.data[0]));
    let all = stillpoint_client::DeleteVolumes::All;
    trial.tenant.complete(async |client| {
        client
            .instance_delete(&id, &all, Some("writer"), &Change::default())
            .await
    });
    let pool = trial.server.pool();
    until(PATIENCE, "a pool without leftovers", || {
        let there = pool.layer_files();
        let needed = pool.needed_layers()?;
        let left: Vec<_> = there.iter().filter(|l| !needed.contains(*l)).collect();
        left.is_empty().then_some(()).ok_or(format!("{left:?}"))
    });
    until(PATIENCE, "the end of every reader", || {
        let left = trial.server.readers();
        left.is_empty().then_some(()).ok_or(format!("{left:?}"))
    });
    trial.tenant.delete_backup(&trial.backups[1]);
}

#[test]
fn a_person_has_a_volume_at_once_and_sees_it_become_whole() {
    let scratch = scratch_folder();
    let bucket = BucketServer::start("backups");
    let settings = settle(&bucket, scratch.path(), "");
    let mut server = Server::start_with(&["--config", &settings]);
    let tenant = Person::tenant(&server);
    let image = scratch.path().join("image");
    make_database(&image, ByteCount::from_mib(40), &SimEnv::new(5));
    let volume = tenant.import("data", &image, ImageFormat::Raw);
    let backup = tenant.backup(volume, "monday");
    server.stop();
    settle(&bucket, scratch.path(), "bandwidth = \"1MiB\"\n");
    server.resume();

    let mut browser = Browser::start();
    let login = Login::tenant(&server);
    browser.goto(server.url());
    browser.fill("Login", &login.login);
    browser.fill("Password", &login.password);
    browser.click("button", "Sign in");
    browser.wait_until("the start page", "location.pathname === '/'");
    let dialog = format!("{}/backups/{}/restore", server.url(), backup.id);
    browser.goto(&dialog);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/screenshots");
    let pages = [("restore-instant".to_owned(), dialog)];
    let mut faults = browser.take_pictures(&pages, &folder);
    browser.fill("Name of the new volume (optional)", "copy");
    browser.click(
        "checkbox",
        "Ready at once: fill it from the backup while it is used",
    );
    browser.click("button", "Restore");
    browser.wait_for_text("Being filled from its backup");
    browser.wait_for_text("MiB/s");
    browser.wait_for_text("The volume is still being filled from its backup.");
    let pages = [
        ("volume-filling".to_owned(), browser.url()),
        (
            "volumes-filling".to_owned(),
            format!("{}/volumes", server.url()),
        ),
    ];
    faults.extend(browser.take_pictures(&pages, &folder));
    assert_eq!(faults, Vec::<String>::new());
    browser.goto(&pages[0].1);
    browser.wait_for_text("Being filled from its backup");
    browser.wait_until(
        "a whole volume",
        "!document.body.innerText.includes('Being filled')",
    );
    browser.wait_for_text("Available");
}
