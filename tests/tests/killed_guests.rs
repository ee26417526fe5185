//! `kill -9` of the server and of a machine while layers of its running guest are merged, while its
//! disk is backed up, and while it is frozen. The guest writes on, is never left paused or frozen, and
//! everything ends well.
//!
//! The guest writes numbered steps to two disks in lock-step. The first also holds files of noise,
//! each from before another snapshot, so that a merge and a backup of it take a while and whatever
//! they mix up is seen.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use blake3::Hash;
use stillpoint_client::Change;
use stillpoint_env::SimEnv;
use stillpoint_model::ByteCount;
use stillpoint_model::id::{InstanceId, VolumeId};
use stillpoint_model::item::FreezePolicy;
use stillpoint_tests::debian::guest_with;
use stillpoint_tests::guest::make_database;
use stillpoint_tests::hash::file_hash;
use stillpoint_tests::journal;
use stillpoint_tests::leftovers::no_leftovers;
use stillpoint_tests::machine::Machine;
use stillpoint_tests::mount::MountedVolume;
use stillpoint_tests::person::Person;
use stillpoint_tests::process::run;
use stillpoint_tests::scratch_folder;
use stillpoint_tests::server::Server;
use stillpoint_tests::wait::{PATIENCE, until};
use stillpoint_wire::backup::{Backup, BackupCreate};
use stillpoint_wire::instance::{InstanceCreate, InstanceDisk, InstanceState, InstanceStop, Power};
use stillpoint_wire::instance_snapshot::InstanceSnapshotCreate;
use stillpoint_wire::item::{Consistency, ItemKind, ItemState};
use stillpoint_wire::operation::{Operation, OperationState};
use stillpoint_wire::snapshot::Snapshot;
use stillpoint_wire::upload::ImageFormat;

const SIZE: ByteCount = ByteCount::from_mib(512);
/// How many files of noise there are, with a snapshot after each but the last.
const FILES: usize = 3;
const NOISE: ByteCount = ByteCount::from_mib(96);

/// How much of a merge or a backup is done when something is killed.
const MOVED: ByteCount = ByteCount::from_mib(4);

/// For how many seconds the hook of a guest that is slow to freeze sleeps.
const SLOWNESS: u32 = 3;
/// How soon a guest is thawed after whoever had it frozen was killed: at once, but for a busy host.
const THAW: Duration = Duration::from_secs(8);

/// A server with a guest that writes.
struct Trial {
    // Dropped first: it writes to the server's folder.
    tenant: Person,
    server: Server,
    instance: InstanceId,
    data: [VolumeId; 2],
    noise: Vec<Hash>,
    snapshots: Vec<Snapshot>,
    scratch: tempfile::TempDir,
}

fn disk(volume: VolumeId) -> InstanceDisk {
    InstanceDisk {
        volume: Some(volume.to_string()),
        ..InstanceDisk::default()
    }
}

/// A guest as any, with a freeze hook that takes its time.
fn make_slow_root(disk: &Path) {
    let work = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/journal.sh");
    let work = fs::read_to_string(work).unwrap();
    let hook = "/etc/qemu/fsfreeze-hook.d/slow";
    let text = format!(
        "#!/bin/sh\nprintf '#!/bin/sh\\n[ \"$1\" = thaw ] || sleep {SLOWNESS}\\n' >{hook}\n\
         chmod +x {hook}\n{work}"
    );
    let program = disk.with_extension("program");
    fs::write(&program, text).unwrap();
    guest_with(&program, disk, &[]);
}

/// Fills a volume; what the files hold, and the snapshots between them.
fn make_noise(
    files: usize,
    server: &Server,
    tenant: &Person,
    volume: VolumeId,
) -> (Vec<Hash>, Vec<Snapshot>) {
    let count = files;
    let random = SimEnv::new(3);
    let (mut files, mut snapshots) = (Vec::new(), Vec::new());
    for number in 0..count {
        if number > 0 {
            snapshots.push(tenant.snapshot(volume, &format!("before-{number}")));
        }
        let mounted = MountedVolume::open_volume(&server.pool(), volume);
        let file = mounted.root().join(noise(number));
        make_database(&file, NOISE, &random);
        files.push(file_hash(&file));
        mounted.close();
    }
    (files, snapshots)
}

impl Trial {
    fn begin() -> Self {
        Self::begin_with(FILES, FreezePolicy::Try, journal::make_root)
    }

    /// A guest that is slow to freeze, and must be frozen to be captured.
    fn begin_slow_to_freeze() -> Self {
        Self::begin_with(0, FreezePolicy::Require, make_slow_root)
    }

    fn begin_with(files: usize, freeze: FreezePolicy, make_root: fn(&Path)) -> Self {
        let server = Server::start_with_instances(|plan| {
            plan.pacing.cooldown_s = 0;
            plan.pacing.in_flight_per_account = 100;
            plan.freeze = freeze;
        });
        let tenant = Person::tenant(&server);
        let scratch = scratch_folder();
        let image = scratch.path().join("image");
        let import = |name: &str| tenant.import(name, &image, ImageFormat::Raw);
        make_root(&image);
        let root = import("root");
        journal::make_data(&image, SIZE);
        let data = [import("first"), import("second")];
        let (noise, snapshots) = make_noise(files, &server, &tenant, data[0]);
        let request = InstanceCreate {
            name: Some("writer".into()),
            root: disk(root),
            data: data.map(disk).into(),
            ..InstanceCreate::default()
        };
        let made = tenant
            .complete(async |client| client.instance_create(&request, &Change::default()).await);
        let trial = Self {
            tenant,
            server,
            instance: made.instance_id.expect("the instance's id"),
            data,
            noise,
            snapshots,
            scratch,
        };
        trial.machine().wait_for_more_steps();
        trial
    }

    fn machine(&self) -> Machine {
        self.server.machine(self.instance)
    }

    /// Kills the server; its guest writes on without one.
    fn kill_server(&mut self) {
        let process = self.machine().process();
        self.server.kill();
        assert_eq!(self.machine().process(), process);
    }

    /// Starts the server again, which finds its guest as it left it.
    fn resume_server(&mut self) {
        let process = self.machine().process();
        self.server.resume();
        self.tenant.follow(&self.server);
        self.machine().wait_for_more_steps();
        assert_eq!(self.machine().process(), process);
        assert_eq!(self.power(), (InstanceState::Active, Power::Running));
    }

    fn power(&self) -> (InstanceState, Power) {
        let id = self.instance.to_string();
        let shown = self
            .tenant
            .get(async |client| client.instance_show(&id).await);
        (shown.state, shown.power)
    }

    /// Starts an instance whose machine was killed, once the server has seen that.
    fn start_again(&self) {
        until(PATIENCE, "that the instance is off", || {
            match self.power() {
                (_, Power::Off) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        let id = self.instance.to_string();
        self.tenant
            .complete(async |client| client.instance_start(&id, &Change::default()).await);
        self.machine().wait_for_more_steps();
    }

    /// Deletes the snapshots, and waits until the machine is in the middle of merging what they kept
    /// apart: it moved some of it.
    fn wait_for_merge(&self) {
        let pool = self.server.pool();
        let before = pool.occupied().get();
        for snapshot in &self.snapshots {
            self.tenant.delete_snapshot(snapshot);
        }
        until(PATIENCE, "a merge", || {
            let moved = pool.occupied().get().saturating_sub(before);
            match pool.is_merged_live(self.data[0])? && moved >= MOVED.get() {
                true => Ok(()),
                false => Err(format!("{moved} bytes are moved")),
            }
        });
    }

    /// Begins to back up the first disk, and waits until some of it is stored.
    fn begin_backup(&self) -> Operation {
        let target = self.server.data().join("target");
        let before = stored(&target);
        let operation = self.ask_for_backup();
        until(PATIENCE, "a backup that stores", || {
            let now = stored(&target).saturating_sub(before);
            let is_storing = now >= MOVED.get();
            is_storing.then_some(()).ok_or(format!("{now} bytes"))
        });
        operation
    }

    /// Begins to back up the first disk.
    fn ask_for_backup(&self) -> Operation {
        let request = BackupCreate {
            volume: self.data[0].to_string(),
            ..BackupCreate::default()
        };
        self.tenant
            .begin(async |client| client.backup_create(&request, &Change::default()).await)
    }

    /// Begins to capture the instance.
    fn ask_for_instance_snapshot(&self) -> Operation {
        let request = InstanceSnapshotCreate {
            instance: self.instance.to_string(),
            ..InstanceSnapshotCreate::default()
        };
        self.tenant.begin(async |client| {
            client
                .instance_snapshot_create(&request, &Change::default())
                .await
        })
    }

    /// Has the server stand still once its guard has told the guest to freeze, and waits until it is
    /// frozen.
    fn wait_until_frozen(&self) {
        until(PATIENCE, "a guard", || {
            self.server.guard().ok_or("there is none")
        });
        self.server.suspend();
        let machine = self.machine();
        until(PATIENCE, "a frozen guest", || {
            match machine.frozen_state() {
                state if state == "frozen" => Ok(()),
                state => Err(state),
            }
        });
    }

    /// Waits until the guest is thawed, while no server runs that could do it.
    fn wait_until_thawed(&self) {
        let machine = self.machine();
        until(THAW, "a thawed guest", || match machine.frozen_state() {
            state if state == "thawed" => Ok(()),
            state => Err(state),
        });
    }

    /// What a backup of the first disk restores to is whole.
    fn check_backup(&self, backup: &Backup) {
        assert_eq!(backup.state, ItemState::Available);
        let restored = self
            .tenant
            .restore_new(ItemKind::Backup, backup.id, "restored");
        let copy = self.copy(restored);
        self.check_noise(&copy);
        journal::steps(&copy);
    }

    fn copy(&self, volume: VolumeId) -> std::path::PathBuf {
        let copy = self.scratch.path().join(volume.to_string());
        self.server.pool().copy_volume(volume, &copy);
        copy
    }

    fn check_noise(&self, copy: &Path) {
        for (number, hash) in self.noise.iter().enumerate() {
            let file = self.scratch.path().join("noise");
            let dump = format!("dump /{} {}", noise(number), file.display());
            run(Command::new("debugfs").args(["-R", &dump]).arg(copy));
            assert_eq!(file_hash(&file), *hash, "file {number} of noise");
        }
    }

    /// Stops the instance; its disks are whole and of one instant, and nothing is left over.
    fn end(self) {
        self.machine().wait_for_more_steps();
        let (id, stop) = (self.instance.to_string(), InstanceStop::default());
        self.tenant
            .complete(async |client| client.instance_stop(&id, &stop, &Change::default()).await);
        no_leftovers(&self.server, &self.tenant);
        let said = self.machine().steps_said();
        let copies = self.data.map(|volume| self.copy(volume));
        self.check_noise(&copies[0]);
        let [first, second] = copies.map(|copy| journal::steps(&copy));
        assert!(
            first == second || first == second + 1,
            "{first} and {second}"
        );
        assert!(second >= said, "{second} of {said}");
    }
}

/// How many bytes the files below a folder hold.
fn stored(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => stored(&entry.path()),
        Ok(found) => found.len(),
        // It was renamed meanwhile.
        Err(_) => 0,
    };
    entries.map(of).sum()
}

fn noise(number: usize) -> String {
    format!("noise-{number}")
}

#[test]
fn a_merge_outlives_the_server_that_began_it() {
    let mut trial = Trial::begin();
    trial.wait_for_merge();
    trial.kill_server();
    assert_eq!(trial.server.pool().is_merged_live(trial.data[0]), Ok(true));
    assert_eq!(trial.machine().jobs().len(), 1, "its machine merges");
    trial.machine().wait_for_writes();
    trial.resume_server();
    trial.end();
}

#[test]
fn a_merge_outlives_the_machine_that_did_it() {
    let trial = Trial::begin();
    trial.wait_for_merge();
    trial.machine().kill();
    trial.start_again();
    trial.end();
}

#[test]
fn a_guest_writes_on_when_the_server_is_killed_that_backs_it_up() {
    let mut trial = Trial::begin();
    let operation = trial.begin_backup();
    trial.kill_server();
    trial.machine().wait_for_writes();
    trial.resume_server();
    let ended = trial.tenant.end_of(&operation);
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    let id = ended.backup_id.expect("the backup's id").to_string();
    let backup = trial
        .tenant
        .get(async |client| client.backup_show(&id).await);
    trial.check_backup(&backup);
    trial.end();
}

#[test]
fn a_backup_outlives_the_machine_whose_disk_it_is_of() {
    let trial = Trial::begin();
    let operation = trial.begin_backup();
    trial.machine().kill();
    let ended = trial.tenant.end_of(&operation);
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    let id = ended.backup_id.expect("the backup's id").to_string();
    let backup = trial
        .tenant
        .get(async |client| client.backup_show(&id).await);
    trial.check_backup(&backup);
    trial.start_again();
    trial.end();
}

#[test]
fn a_guest_is_thawed_when_the_server_is_killed_that_captures_its_instance() {
    let mut trial = Trial::begin_slow_to_freeze();
    let operation = trial.ask_for_instance_snapshot();
    trial.wait_until_frozen();
    trial.kill_server();
    trial.wait_until_thawed();
    trial.machine().wait_for_writes();
    trial.resume_server();
    let ended = trial.tenant.end_of(&operation);
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    let id = ended.instance_snapshot_id.expect("its id").to_string();
    let snapshot = trial
        .tenant
        .get(async |client| client.instance_snapshot_show(&id).await);
    assert_eq!(snapshot.consistency, Some(Consistency::Filesystem));
    trial.end();
}

#[test]
fn a_guest_is_thawed_when_the_server_is_killed_that_captures_a_disk_for_a_backup() {
    let mut trial = Trial::begin_slow_to_freeze();
    let operation = trial.ask_for_backup();
    trial.wait_until_frozen();
    trial.kill_server();
    trial.wait_until_thawed();
    trial.machine().wait_for_writes();
    trial.resume_server();
    let ended = trial.tenant.end_of(&operation);
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    let id = ended.backup_id.expect("the backup's id").to_string();
    let backup = trial
        .tenant
        .get(async |client| client.backup_show(&id).await);
    assert_eq!(backup.consistency, Some(Consistency::Filesystem));
    trial.check_backup(&backup);
    trial.end();
}

#[test]
fn a_capture_ends_when_the_machine_is_killed_that_is_frozen_for_it() {
    let trial = Trial::begin_slow_to_freeze();
    let operation = trial.ask_for_instance_snapshot();
    trial.wait_until_frozen();
    trial.machine().kill();
    trial.server.go_on();
    // It may be captured as it is then, off; or be refused, since it cannot be frozen.
    let ended = trial.tenant.end_of(&operation);
    assert!(ended.finished_at.is_some(), "{ended:?}");
    trial.start_again();
    trial.end();
}
