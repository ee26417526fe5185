//! A node with a real machine: a guest writes to two disks in lock-step while they are captured,
//! backed up, merged and grown; [`journal`] has one that writes to file systems, [`killed`] what
//! becomes of a guest when whoever captures it is killed, and [`filling`] one whose volumes are not whole
//! yet.
//!
//! The guest here writes numbered blocks, each number to the first disk, flushed, and then to the second.
//! So a point in time shows the blocks 1 to n and nothing else, and n on the first disk is that on
//! the second or one more; anything lost, torn, late or mixed up is seen.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use stillpoint_env::SystemEnv;
use stillpoint_layers::live::LiveHost;
use stillpoint_layers::qcow2::Qcow2Driver;
use stillpoint_layers::{LayerPool, Pool};
use stillpoint_machines::Freeze;
use stillpoint_machines::conformance::script;
use stillpoint_machines::qemu::{Accelerator, DiskIo, QemuConfig, QemuDriver};
use stillpoint_model::id::{
    AccountId, BackupId, InstanceId, LayerId, PoolId, SnapshotId, TargetId, VaultId, VolumeId,
};
use stillpoint_model::instance::{MachineDisk, MachineOrder, Power, StopMode};
use stillpoint_model::item::{Consistency, FreezePolicy};
use stillpoint_model::operation::Phase;
use stillpoint_model::progress::Monitor;
use stillpoint_model::task::{Directive, ImageFormat, TaskOutcome, TaskSpec, VaultRef};
use stillpoint_model::{ByteCount, Env};
use stillpoint_node::{ControlError, Hooks, Hypervised, Machines, Storage, Watch, perform};
use stillpoint_vault::Tuning;
use tempfile::TempDir;

use freezing::{Freezing, guard_program};

#[path = "real_guest/filling.rs"]
mod filling;
#[path = "real_guest/freezing.rs"]
mod freezing;
#[path = "real_guest/journal.rs"]
mod journal;
#[path = "real_guest/killed.rs"]
mod killed;

/// How long a guest under emulation on a busy host may take for anything.
const PATIENCE: Duration = Duration::from_mins(2);
const BLOCK: usize = 4096;
const SIZE: ByteCount = ByteCount::from_mib(32);
const GROWN: ByteCount = ByteCount::from_mib(48);

/// What the guest runs from its boot on, when it writes to bare disks.
const WRITER: &str = r#"#!/bin/sh
i=0
while [ $i -lt 8000 ]; do
    i=$((i + 1))
    record=$(printf '%07d' $i)
    for disk in vdb vdc; do
        yes "$record" | dd of=/dev/$disk bs=4096 count=1 seek=$i iflag=fullblock \
            conv=notrunc,fsync 2>/dev/null
    done
    [ $((i % 5)) -ne 0 ] || echo "wrote $i of $(cat /sys/block/vdb/size)" >/dev/ttyS0
done
"#;

struct Free(Watch);

impl Hooks for Free {
    fn watch(&self) -> &Watch {
        &self.0
    }

    fn confirm(&self) -> Result<Directive, ControlError> {
        Ok(Directive::Continue)
    }
}

/// What the guest does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// It writes numbered blocks to bare disks.
    Blocks,
    /// It writes steps to file systems: see `tests/guests/journal.sh`.
    Journal,
}

/// An agent: a node's process as far as it matters here.
struct Agent {
    machines: Arc<Hypervised<Freezing>>,
    pool: Arc<LayerPool<Qcow2Driver>>,
    storage: Storage,
}

impl Agent {
    fn open(scene: &Host) -> Self {
        let path = |name: &str| scene.folder.join(name);
        let config = QemuConfig {
            run_dir: path("run"),
            program: script("qemu"),
            accelerator: Some(Accelerator::Tcg),
            disk_io: DiskIo::BEST,
            outbound: false,
            guard: guard_program(&scene.folder),
        };
        let env = &scene.env;
        let driver = QemuDriver::open(config, env.clone()).unwrap();
        let machines = Arc::new(Hypervised::new(Freezing::new(driver, scene.freeze)));
        let pool = Qcow2Driver::open(&path("pool"), scene.pool_id).unwrap();
        let pool = Arc::new(LayerPool::open(pool, env.clone()).unwrap());
        pool.connect(machines.clone());
        let target = filling::open_target(&scene.folder);
        let storage = Storage::new(env.clone(), path("uploads"), Tuning::default())
            .with_pool(pool.clone())
            .with_target(scene.vault.target_id, target, filling::root_key())
            .with_readers(filling::readers(&scene.folder))
            .with_machines(machines.clone());
        Self {
            machines,
            pool,
            storage,
        }
    }
}

/// What outlives an agent.
struct Host {
    folder: PathBuf,
    env: Arc<SystemEnv>,
    pool_id: PoolId,
    vault: VaultRef,
    /// Whether its guests are frozen when they are captured.
    freeze: Freeze,
}

impl Host {
    fn new(folder: &Path, pool_id: PoolId, freeze: Freeze) -> Self {
        let env = Arc::new(SystemEnv::new());
        Self {
            folder: folder.to_owned(),
            pool_id,
            vault: VaultRef {
                target_id: TargetId::generate(&*env),
                vault_id: VaultId::generate(&*env),
                account_id: AccountId::generate(&*env),
            },
            env,
            freeze,
        }
    }
}

/// A host with a pool, a vault and one machine; the machine is gone when this is dropped.
struct Scene {
    work: Work,
    host: Host,
    /// None while it is started again.
    agent: Option<Agent>,
    instance: InstanceId,
    /// The root's volume, and two for data.
    volumes: [VolumeId; 3],
    // Dropped last.
    folder: TempDir,
}

impl Scene {
    fn boot(work: Work, freeze: Freeze) -> Self {
        let scene = Self::prepare(work, freeze);
        scene.start();
        scene
    }

    /// With volumes, and a machine that does not run yet.
    fn prepare(work: Work, freeze: Freeze) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["uploads", "target"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let pool_id = PoolId::generate(&SystemEnv::new());
        let host = Host::new(folder.path(), pool_id, freeze);
        let scene = Self {
            work,
            agent: Some(Agent::open(&host)),
            instance: InstanceId::generate(&*host.env),
            volumes: [(); 3].map(|()| VolumeId::generate(&*host.env)),
            host,
            folder,
        };
        scene.make_volumes();
        scene
    }

    fn agent(&self) -> &Agent {
        self.agent.as_ref().unwrap()
    }

    fn pool(&self) -> &LayerPool<Qcow2Driver> {
        &self.agent().pool
    }

    fn data(&self) -> [VolumeId; 2] {
        [self.volumes[1], self.volumes[2]]
    }

    /// Another agent comes, which knows only what it finds.
    fn restart_agent(&mut self) {
        self.agent = None;
        self.agent = Some(Agent::open(&self.host));
    }

    fn make_volumes(&self) {
        self.import(self.volumes[0], |disk| make_guest(self.work, disk));
        for volume_id in self.data() {
            let size = SIZE;
            match self.work {
                Work::Blocks => drop(self.perform(&TaskSpec::VolumeCreate { volume_id, size })),
                Work::Journal => self.import(volume_id, |disk| journal::make_disk(disk, size)),
            }
        }
    }

    /// Makes a volume of a raw disk.
    fn import(&self, volume_id: VolumeId, make: impl FnOnce(&Path)) {
        let upload = self.volume_id().as_uuid();
        let uploads = self.host.folder.join("uploads");
        make(&uploads.join(upload.to_string()));
        self.perform(&TaskSpec::VolumeImport {
            volume_id,
            upload,
            format: ImageFormat::Raw,
            max_size: ByteCount::from_gib(1),
        });
    }

    fn start(&self) {
        let disk = |(place, volume_id)| MachineDisk {
            volume_id,
            pool_id: self.host.pool_id,
            place,
        };
        let machine = MachineOrder {
            hostname: "still-1".to_owned(),
            vcpus: 1,
            memory: ByteCount::from_mib(256),
            disks: (0..).zip(self.volumes).map(disk).collect(),
        };
        self.perform(&TaskSpec::InstanceStart {
            instance_id: self.instance,
            machine,
            memory: None,
        });
    }

    fn volume_id(&self) -> VolumeId {
        VolumeId::generate(&*self.host.env)
    }

    fn perform(&self, spec: &TaskSpec) -> TaskOutcome {
        let hooks = Free(Watch::new(Phase::DataCapture));
        let done = perform(&self.agent().storage, self.host.pool_id, spec, &hooks);
        done.unwrap_or_else(|failure| panic!("{spec:?}: {failure:?}"))
    }

    fn sealed(&self, spec: &TaskSpec) -> (LayerId, Consistency) {
        match self.perform(spec) {
            TaskOutcome::Sealed {
                layer, consistency, ..
            } => (layer, consistency),
            other => panic!("{other:?}"),
        }
    }

    /// A file of the machine's folder.
    fn machine_file(&self, name: &str) -> PathBuf {
        let machine = self.host.folder.join("run").join(self.instance.to_string());
        machine.join(name)
    }

    /// What the guest said last: how many it wrote, and how many sectors the first disk has.
    fn said(&self) -> (u64, u64) {
        let console = self.machine_file("console");
        if let Some(agent) = &self.agent {
            // Whoever looks at a machine takes what its guest wrote.
            let _it_may_be_killed = agent.machines.inspect(self.instance);
        }
        let text = fs::read(console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let said = text.lines().rev().find_map(|line| {
            let (written, sectors) = line.trim().strip_prefix("wrote ")?.split_once(" of ")?;
            Some((written.parse().ok()?, sectors.parse().ok()?))
        });
        said.unwrap_or_default()
    }

    /// Waits until the guest said something of the kind, while its machine runs.
    fn wait_until(&self, what: impl Fn((u64, u64)) -> bool) {
        let deadline = self.host.env.monotonic() + PATIENCE;
        while !what(self.said()) {
            let seen = self.agent().machines.inspect(self.instance).unwrap();
            assert_eq!(seen.power, Power::Running);
            assert!(
                self.host.env.monotonic() < deadline,
                "the guest does not go on after {:?}",
                self.said()
            );
            pause();
        }
    }

    /// Waits until the guest has written more.
    fn wait_for_more(&self) {
        let (now, _) = self.said();
        self.wait_until(|(written, _)| written > now);
    }

    /// How much of its work a layer shows; all of it is whole, and nothing else is there.
    fn written(&self, layer: LayerId) -> u64 {
        match self.work {
            Work::Blocks => self.blocks_written(layer),
            Work::Journal => self.steps_written(layer),
        }
    }

    fn blocks_written(&self, layer: LayerId) -> u64 {
        let reader = self.pool().open_layer(layer).unwrap();
        let mut block = vec![0; BLOCK];
        let (mut count, mut is_over) = (0, false);
        for number in 1..reader.size().get() / BLOCK as u64 {
            reader.read_at(number * BLOCK as u64, &mut block).unwrap();
            if block.iter().all(|byte| *byte == 0) {
                is_over = true;
                continue;
            }
            assert!(!is_over, "{number} is there, and one before it is not");
            let whole = format!("{number:07}\n").repeat(BLOCK / 8);
            assert!(block == whole.as_bytes(), "{number} is something else");
            count = number;
        }
        count
    }

    /// How much of the work both disks show at a point in time.
    fn written_together(&self, layers: [LayerId; 2]) -> u64 {
        let [first, second] = layers.map(|layer| self.written(layer));
        assert!(
            first == second || first == second + 1,
            "{first} and {second} are of different instants"
        );
        first
    }

    /// Both data disks at one instant, while the guest writes.
    fn snapshot(&self) -> [SnapshotId; 2] {
        let (ids, set) = self.new_set();
        let sealed = self
            .pool()
            .snapshot_together(&set, FreezePolicy::Skip)
            .unwrap();
        let promised = match self.host.freeze {
            Freeze::Skip => Consistency::Crash,
            Freeze::Try { .. } | Freeze::Require { .. } => Consistency::Filesystem,
        };
        assert!(sealed.iter().all(|one| one.consistency == promised));
        ids
    }

    /// New names for both data disks.
    fn new_set(&self) -> ([SnapshotId; 2], Vec<(VolumeId, SnapshotId)>) {
        let ids = [(); 2].map(|()| SnapshotId::generate(&*self.host.env));
        (ids, self.data().into_iter().zip(ids).collect())
    }

    fn layers_of(&self, snapshots: [SnapshotId; 2]) -> [LayerId; 2] {
        snapshots.map(|snapshot| self.pool().snapshot_layer(snapshot).unwrap())
    }

    fn back_up(&self, volume_id: VolumeId, parent: Option<BackupId>) -> (BackupId, u64) {
        let backup_id = BackupId::generate(&*self.host.env);
        let (layer, consistency) = self.sealed(&TaskSpec::BackupCapture {
            volume_id,
            backup_id,
            snapshot_id: None,
            freeze: FreezePolicy::Skip,
        });
        assert_eq!(consistency, Consistency::Crash);
        let captured = self.written(layer);
        let vault = self.host.vault;
        self.perform(&TaskSpec::BackupUpload {
            volume_id,
            backup_id,
            vault,
            parent,
            notes: BTreeMap::new(),
            level: Default::default(),
            keep_until: None,
        });
        self.perform(&TaskSpec::BackupVerify {
            backup_id,
            volume_id,
            vault,
            deep: true,
        });
        self.perform(&TaskSpec::BackupSettle {
            volume_id,
            backup_id,
        });
        (backup_id, captured)
    }

    /// Restores a backup of the first data disk; what it shows.
    fn restored(&self, backup_id: BackupId) -> u64 {
        let volume_id = self.volume_id();
        match self.perform(&TaskSpec::BackupRestore {
            volume_id,
            backup_id,
            source_volume_id: self.data()[0],
            vault: self.host.vault,
        }) {
            TaskOutcome::Volume { tip, .. } => self.written(tip),
            other => panic!("{other:?}"),
        }
    }

    /// The pool's upkeep, until it has nothing left to do; how many layers were merged.
    fn tidy(&self) -> u32 {
        match self.perform(&TaskSpec::PoolTidy) {
            TaskOutcome::Tidied {
                merged,
                unfinished: false,
                ..
            } => merged,
            other => panic!("{other:?}"),
        }
    }

    /// Ends the machine's process as a fault of its host would.
    fn kill(&self) {
        let pid = fs::read_to_string(self.machine_file("pid")).unwrap();
        let killed = Command::new("kill").args(["-9", pid.trim()]).status();
        assert!(killed.unwrap().success());
    }

    fn open_layers(&self) -> [usize; 2] {
        self.data().map(|volume| {
            self.agent()
                .machines
                .open_chain(volume)
                .unwrap()
                .unwrap()
                .len()
        })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the pause between two looks at a condition; the guest needs the processor"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(agent) = &self.agent {
            let _tried = agent.machines.remove(self.instance);
        }
        for volume in self.volumes {
            let _tried = filling::readers(&self.host.folder).end(volume);
        }
    }
}

/// Ends a machine in the middle of a merge that it does.
struct KillsIt<'a>(&'a Scene);

impl Monitor for KillsIt<'_> {
    fn progress(&self, _: ByteCount, _: Option<ByteCount>) {
        self.0.kill();
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}

/// The small guest, with its work in it.
fn make_guest(work: Work, disk: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let writer = folder.path().join("writer");
    let program = match work {
        Work::Blocks => WRITER,
        Work::Journal => include_str!("../../../tests/guests/journal.sh"),
    };
    fs::write(&writer, program).unwrap();
    run_script("guest-with", &[writer.as_ref(), disk.as_ref()]);
}

/// Runs one of our scripts; what it says.
#[track_caller]
fn run_script(name: &str, args: &[&OsStr]) -> String {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts");
    let output = Command::new(scripts.join(name)).args(args).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn disks_are_captured_backed_up_merged_and_grown_while_their_guest_writes() {
    let mut scene = Scene::boot(Work::Blocks, Freeze::Skip);
    scene.wait_for_more();

    // Points in time, of both disks at one instant.
    let mut points = Vec::new();
    for _ in 0..4 {
        let point = scene.snapshot();
        points.push((point, scene.written_together(scene.layers_of(point))));
        scene.wait_for_more();
    }
    assert!(points.is_sorted_by(|(_, a), (_, b)| a < b), "{points:?}");

    // Backups from the sealed layers, the second of what changed.
    let (first, in_first) = scene.back_up(scene.data()[0], None);
    scene.wait_for_more();
    let (second, in_second) = scene.back_up(scene.data()[0], Some(first));
    assert!(in_first < in_second);

    // All but one go; their layers are merged by the machine, and what is left shows the same.
    let before = scene.open_layers();
    let (kept, in_kept) = points.remove(1);
    for (snapshots, _) in points {
        for snapshot_id in snapshots {
            scene.perform(&TaskSpec::SnapshotDrop { snapshot_id });
        }
    }
    let merged = scene.tidy();
    assert!(merged > 0);
    let after = scene.open_layers();
    assert!(after[0] < before[0] && after[1] < before[1], "{after:?}");
    assert_eq!(scene.written_together(scene.layers_of(kept)), in_kept);

    // Another agent adopts the machine and goes on.
    scene.restart_agent();
    scene.wait_for_more();
    let later = scene.snapshot();
    let in_later = scene.written_together(scene.layers_of(later));
    assert!(in_later > in_second);

    // The guest sees a larger disk.
    scene.perform(&TaskSpec::VolumeResize {
        volume_id: scene.data()[0],
        size: GROWN,
    });
    scene.wait_until(|(_, sectors)| sectors == GROWN.get() / 512);

    // Once it is off, everything is as it was captured.
    let mode = StopMode::Graceful {
        bound_s: 60,
        then_force: false,
    };
    let instance_id = scene.instance;
    scene.perform(&TaskSpec::InstanceStop { instance_id, mode });
    let ends = scene.data().map(|volume_id| {
        let snapshot_id = SnapshotId::generate(&*scene.host.env);
        let (layer, consistency) = scene.sealed(&TaskSpec::SnapshotSeal {
            volume_id,
            snapshot_id,
            freeze: FreezePolicy::Skip,
        });
        assert_eq!(consistency, Consistency::Stopped);
        scene.perform(&TaskSpec::SnapshotVerify { snapshot_id });
        layer
    });
    scene.tidy();
    assert!(scene.written_together(ends) > in_later);
    assert_eq!(scene.written_together(scene.layers_of(kept)), in_kept);
    assert_eq!(scene.written_together(scene.layers_of(later)), in_later);
    assert_eq!(scene.restored(first), in_first);
    assert_eq!(scene.restored(second), in_second);
    assert_eq!(scene.pool().damage().unwrap(), Vec::<String>::new());
}

#[test]
fn what_a_guest_flushed_outlives_its_machine_and_the_merge_in_it() {
    let scene = Scene::boot(Work::Blocks, Freeze::Skip);
    scene.wait_for_more();
    let doomed = scene.snapshot();
    scene.wait_for_more();
    let kept = scene.snapshot();
    let in_kept = scene.written_together(scene.layers_of(kept));
    scene.wait_for_more();
    for snapshot_id in doomed {
        scene.perform(&TaskSpec::SnapshotDrop { snapshot_id });
    }
    let (flushed, _) = scene.said();
    let [candidate, ..] = scene.pool().merge_candidates()[..] else {
        panic!("nothing to merge");
    };
    let ended = scene.pool().merge(&candidate, &KillsIt(&scene));
    assert!(ended.is_err(), "{ended:?}");

    // Nobody has the volumes open any more: the pool does it itself.
    let seen = scene.agent().machines.inspect(scene.instance).unwrap();
    assert_eq!(seen.power, Power::Off);
    assert!(scene.tidy() > 0);
    assert_eq!(scene.written_together(scene.layers_of(kept)), in_kept);
    let (_, set) = scene.new_set();
    let sealed = scene
        .pool()
        .snapshot_together(&set, FreezePolicy::Skip)
        .unwrap();
    let at_the_end = scene.written_together([sealed[0].layer, sealed[1].layer]);
    assert!(at_the_end >= flushed, "{at_the_end} of {flushed}");

    // It starts again and is merged by its machine again.
    scene.start();
    for (_, snapshot_id) in set {
        scene.perform(&TaskSpec::SnapshotDrop { snapshot_id });
    }
    scene.snapshot();
    assert!(scene.tidy() > 0);
    assert_eq!(scene.pool().damage().unwrap(), Vec::<String>::new());
}
