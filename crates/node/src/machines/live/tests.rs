//! The tasks of a node whose pool is connected with simulated machines.

use std::path::PathBuf;
use std::sync::Arc;

use stillpoint_env::SimEnv;
use stillpoint_layers::qcow2::Qcow2Driver;
use stillpoint_layers::{LayerPool, Pool};
use stillpoint_machines::simulated::{GuestManners, Simulated};
use stillpoint_model::ErrorKind;
use stillpoint_model::id::{BackupId, PoolId, SnapshotId};
use stillpoint_model::instance::{MachineDisk, MachineOrder, StopMode};
use stillpoint_model::item::FreezePolicy;
use stillpoint_model::refusal::ProblemCode;
use stillpoint_model::task::{SealPoint, TaskOutcome, TaskSpec};
use stillpoint_vault::Tuning;
use tempfile::TempDir;

use super::*;
use crate::Storage;
use crate::tasks::tests::Free;
use crate::tasks::{TaskResult, perform};

const SIZE: ByteCount = ByteCount::from_mib(4);

/// A node with one pool and the machines that open its volumes.
struct Scene {
    _folder: TempDir,
    env: Arc<SimEnv>,
    machines: Arc<Hypervised<Simulated>>,
    pool: Arc<LayerPool<Qcow2Driver>>,
    storage: Storage,
}

impl Scene {
    fn new() -> Self {
        let (folder, env) = (tempfile::tempdir().unwrap(), Arc::new(SimEnv::new(1)));
        let path = folder.path().join("pool");
        let driver = Qcow2Driver::open(&path, PoolId::generate(&*env)).unwrap();
        let pool = Arc::new(LayerPool::open(driver, env.clone()).unwrap());
        let machines = Arc::new(Hypervised::new(Simulated::new()));
        assert!(!pool.capabilities().live_capture);
        pool.connect(machines.clone());
        assert!(pool.capabilities().live_capture);
        let storage = Storage::new(env.clone(), PathBuf::new(), Tuning::default())
            .with_pool(pool.clone())
            .with_machines(machines.clone());
        Self {
            _folder: folder,
            env,
            machines,
            pool,
            storage,
        }
    }

    fn perform(&self, spec: &TaskSpec) -> TaskResult {
        let hooks = Free::new();
        perform(&self.storage, self.pool.id(), spec, &hooks)
    }

    fn volume(&self) -> VolumeId {
        let volume_id = VolumeId::generate(&*self.env);
        let size = SIZE;
        self.perform(&TaskSpec::VolumeCreate { volume_id, size })
            .unwrap();
        volume_id
    }

    /// A machine that runs with these volumes.
    fn run(&self, volumes: &[VolumeId]) -> InstanceId {
        let instance_id = InstanceId::generate(&*self.env);
        let disk = |(place, volume_id): (u32, &VolumeId)| MachineDisk {
            volume_id: *volume_id,
            pool_id: self.pool.id(),
            place,
        };
        let machine = MachineOrder {
            hostname: "web".into(),
            vcpus: 1,
            memory: ByteCount::from_mib(256),
            disks: (0..).zip(volumes).map(disk).collect(),
        };
        self.perform(&TaskSpec::InstanceStart {
            instance_id,
            machine,
            memory: None,
        })
        .unwrap();
        instance_id
    }

    fn stop(&self, instance_id: InstanceId) {
        let mode = StopMode::Forced;
        self.perform(&TaskSpec::InstanceStop { instance_id, mode })
            .unwrap();
    }

    fn seal(&self, volume_id: VolumeId, snapshot_id: SnapshotId) -> Consistency {
        let spec = TaskSpec::SnapshotSeal {
            volume_id,
            snapshot_id,
            freeze: FreezePolicy::Skip,
        };
        promised(self.perform(&spec))
    }

    /// Two sealed layers, of which the lower one has no name.
    fn doomed_layer(&self, volume: VolumeId) {
        let [snapshot_id, kept] = [self.snapshot_id(), self.snapshot_id()];
        self.seal(volume, snapshot_id);
        self.seal(volume, kept);
        self.perform(&TaskSpec::SnapshotDrop { snapshot_id })
            .unwrap();
    }

    fn snapshot_id(&self) -> SnapshotId {
        SnapshotId::generate(&*self.env)
    }

    fn driver(&self) -> &Simulated {
        &self.machines.driver
    }

    fn open_layers(&self, volume: VolumeId) -> usize {
        self.machines.open_chain(volume).unwrap().unwrap().len()
    }
}

fn promised(result: TaskResult) -> Consistency {
    match result.unwrap() {
        TaskOutcome::Sealed { consistency, .. } => consistency,
        other => panic!("{other:?}"),
    }
}

fn tidied(result: TaskResult) -> (u32, bool) {
    match result.unwrap() {
        TaskOutcome::Tidied {
            merged, unfinished, ..
        } => (merged, unfinished),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_captured_says_whether_a_machine_had_it_open() {
    let scene = Scene::new();
    let (volume, open, closed) = (scene.volume(), scene.snapshot_id(), scene.snapshot_id());
    let instance = scene.run(&[volume]);
    for _ in 0..2 {
        assert_eq!(scene.seal(volume, open), Consistency::Crash);
    }
    let backup_id = BackupId::generate(&*scene.env);
    let capture = TaskSpec::BackupCapture {
        volume_id: volume,
        backup_id,
        snapshot_id: None,
        freeze: FreezePolicy::Skip,
    };
    assert_eq!(promised(scene.perform(&capture)), Consistency::Crash);
    assert_eq!(scene.open_layers(volume), 3);
    scene.stop(instance);
    for _ in 0..2 {
        assert_eq!(scene.seal(volume, closed), Consistency::Stopped);
        assert_eq!(scene.seal(volume, open), Consistency::Crash);
    }
}

#[test]
fn layers_without_a_name_are_merged_while_the_machine_runs() {
    let scene = Scene::new();
    let volume = scene.volume();
    scene.run(&[volume]);
    scene.doomed_layer(volume);
    assert_eq!(scene.open_layers(volume), 3);
    assert_eq!(tidied(scene.perform(&TaskSpec::PoolTidy)), (1, false));
    assert_eq!(scene.open_layers(volume), 2);
    assert_eq!(scene.pool.tree().layers().count(), 2);
}

#[test]
fn a_merge_that_fails_keeps_no_other_from_going_on() {
    let scene = Scene::new();
    let volumes = [scene.volume(), scene.volume()];
    let instances = volumes.map(|volume| scene.run(&[volume]));
    for volume in volumes {
        scene.doomed_layer(volume);
    }
    scene.driver().fail_joins(instances[0]);
    let (merged, unfinished) = tidied(scene.perform(&TaskSpec::PoolTidy));
    assert_eq!((merged, unfinished), (1, true));
    assert_eq!(volumes.map(|volume| scene.open_layers(volume)), [3, 2]);
    // What it left is settled, and the volume can be used.
    scene.seal(volumes[0], scene.snapshot_id());
}

#[test]
fn a_join_that_ended_with_an_error_failed() {
    let scene = Scene::new();
    let (volume, snapshot) = (scene.volume(), scene.snapshot_id());
    let instance = scene.run(&[volume]);
    scene.seal(volume, snapshot);
    let chain = scene.machines.open_chain(volume).unwrap().unwrap();
    let join = LiveJoin {
        volume,
        job: "join".to_owned(),
        tip: chain[0].clone(),
        child: chain[0].clone(),
        parent: chain[1].clone(),
        below: None,
        direction: Direction::Stream,
        backing_name: None,
    };
    let stopped = scene.machines.join(&join, &|_, _| false);
    assert_eq!(stopped, Ok(JoinEnd::Stopped));
    scene.driver().fail_joins(instance);
    let failed = scene.machines.join(&join, &|_, _| true);
    assert!(matches!(failed, Err(HostError::Failed(_))), "{failed:?}");
    let refused = scene.machines.join(
        &LiveJoin {
            child: "none".to_owned(),
            ..join
        },
        &|_, _| true,
    );
    assert!(matches!(refused, Err(HostError::Refused(_))), "{refused:?}");
}

#[test]
fn nobody_has_a_volume_open_only_when_everybody_said_so() {
    let scene = Scene::new();
    let [mine, other, idle] = [scene.volume(), scene.volume(), scene.volume()];
    let instance = scene.run(&[mine]);
    scene.run(&[other]);
    let open = |volume| scene.machines.open_chain(volume);
    assert_eq!(open(idle), Ok(None));
    scene.driver().set_answering(instance, false);
    for volume in [mine, idle] {
        assert_eq!(open(volume), Err(HostError::Unreachable));
        let spec = TaskSpec::SnapshotSeal {
            volume_id: volume,
            snapshot_id: scene.snapshot_id(),
            freeze: FreezePolicy::Skip,
        };
        let failure = scene.perform(&spec).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Retry);
    }
    assert!(open(other).unwrap().is_some(), "its own machine answers");
    scene.driver().set_answering(instance, true);
    assert!(open(mine).unwrap().is_some());
    scene.stop(instance);
    assert_eq!(open(mine), Ok(None));
    assert_eq!(scene.machines.stop_joins(mine), Ok(()));
}

#[test]
fn volumes_of_one_machine_are_switched_at_one_instant_and_of_two_not_at_all() {
    let scene = Scene::new();
    let [a, b, c] = [scene.volume(), scene.volume(), scene.volume()];
    scene.run(&[a, b]);
    scene.run(&[c]);
    let together = |volumes: [VolumeId; 2]| {
        let set = volumes.map(|volume| (volume, scene.snapshot_id()));
        scene.pool.snapshot_together(&set, FreezePolicy::Skip)
    };
    let sealed = together([a, b]).unwrap();
    let promises = sealed.iter().map(|sealed| sealed.consistency);
    assert!(promises.eq([Consistency::Crash; 2]));
    assert_eq!([a, b, c].map(|volume| scene.open_layers(volume)), [2, 2, 1]);
    let refused = together([a, c]);
    let kind = refused.map(drop).map_err(|error| error.kind());
    assert_eq!(kind, Err(ErrorKind::Conflict));
    assert_eq!([a, b, c].map(|volume| scene.open_layers(volume)), [2, 2, 1]);
    assert_eq!(scene.pool.tree().layers().count(), 5);
}

#[test]
fn a_machine_that_writes_elsewhere_is_not_grown() {
    let scene = Scene::new();
    let volume = scene.volume();
    let instance = scene.run(&[volume]);
    let chain = scene.machines.open_chain(volume).unwrap().unwrap();
    let grow = |tip: &str| scene.machines.resize(volume, tip, SIZE);
    assert_eq!(grow(&chain[0]), Ok(()));
    assert!(matches!(grow("another"), Err(HostError::Refused(_))));
    scene.driver().crash(instance);
    assert_eq!(grow(&chain[0]), Err(HostError::Unreachable));
}

#[test]
fn upkeep_ends_where_merging_into_an_open_tip_is_not_worth_it() {
    let scene = Scene::new();
    let (volume, snapshot_id) = (scene.volume(), scene.snapshot_id());
    scene.run(&[volume]);
    scene.seal(volume, snapshot_id);
    scene
        .perform(&TaskSpec::SnapshotDrop { snapshot_id })
        .unwrap();
    // The machine has it open, whether its files are locked or not.
    assert_eq!(tidied(scene.perform(&TaskSpec::PoolTidy)), (0, false));
}

/// A guest with these manners and two volumes, captured under this policy: what each volume
/// promises, or the code of the failure; and how many layers each has open then.
fn captured(
    manners: GuestManners,
    freeze: FreezePolicy,
) -> (Result<Vec<Consistency>, ProblemCode>, Vec<usize>) {
    let scene = Scene::new();
    let volumes = [scene.volume(), scene.volume()];
    let instance = scene.run(&volumes);
    scene.driver().set_guest(instance, manners);
    let points = volumes.map(|volume_id| SealPoint {
        volume_id,
        snapshot_id: scene.snapshot_id(),
    });
    let spec = TaskSpec::SnapshotSealTogether {
        points: points.to_vec(),
        freeze,
    };
    let first = together(scene.perform(&spec));
    assert_eq!(
        together(scene.perform(&spec)),
        first,
        "the same when asked again"
    );
    let open = volumes.map(|volume| scene.open_layers(volume));
    (first, open.to_vec())
}

fn together(result: TaskResult) -> Result<Vec<Consistency>, ProblemCode> {
    match result {
        Ok(TaskOutcome::All { outcomes }) => {
            Ok(outcomes.into_iter().map(|one| promised(Ok(one))).collect())
        }
        Ok(other) => panic!("{other:?}"),
        Err(failure) => Err(failure.code),
    }
}

#[test]
fn the_plan_says_whether_a_guest_is_frozen_and_the_capture_says_whether_it_was() {
    use FreezePolicy::{Require, Skip, Try};
    let good = GuestManners::default();
    let mute = GuestManners {
        has_agent: false,
        ..good
    };
    let restless = GuestManners {
        stays_frozen: false,
        ..good
    };
    let crash = || Ok(vec![Consistency::Crash; 2]);
    let filesystem = || Ok(vec![Consistency::Filesystem; 2]);
    let refused = || Err(ProblemCode::NotEligible);
    for (manners, freeze, expected, open) in [
        (good, Skip, crash(), 2),
        (good, Try, filesystem(), 2),
        (good, Require, filesystem(), 2),
        (mute, Try, crash(), 2),
        // Nothing was begun.
        (mute, Require, refused(), 1),
        (restless, Try, crash(), 2),
        // The disks are switched, and there is no capture: the undo takes the names off.
        (restless, Require, refused(), 2),
    ] {
        let (reached, layers) = captured(manners, freeze);
        assert_eq!(reached, expected, "{manners:?} {freeze}");
        assert_eq!(layers, [open; 2], "{manners:?} {freeze}");
    }
}

#[test]
fn volumes_of_a_machine_that_is_off_are_stopped_whatever_the_plan_asks() {
    let scene = Scene::new();
    let volumes = [scene.volume(), scene.volume()];
    let instance = scene.run(&volumes);
    scene.stop(instance);
    let points = volumes.map(|volume_id| SealPoint {
        volume_id,
        snapshot_id: scene.snapshot_id(),
    });
    let spec = TaskSpec::SnapshotSealTogether {
        points: points.to_vec(),
        freeze: FreezePolicy::Require,
    };
    let reached = together(scene.perform(&spec));
    assert_eq!(reached, Ok(vec![Consistency::Stopped; 2]));
}
