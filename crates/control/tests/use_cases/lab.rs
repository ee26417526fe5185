//! An installation on a database of its own, with two tenants and a scripted node.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use stillpoint_control::board::Board;
use stillpoint_control::bootstrap::{
    AccountSetup, Installation, Installed, PoolSetup, TargetSetup, ensure_installation,
};
use stillpoint_control::engine::{Engine, Limits, Stepped};
use stillpoint_control::item::ItemCreate;
use stillpoint_control::upload::Begun;
use stillpoint_control::volume::{VolumeCreate, VolumeView};
use stillpoint_control::{
    Answer, Change, Context, Error, Reference, Secret, Settings, backup, snapshot, upload, volume,
};
use stillpoint_env::SimEnv;
use stillpoint_model::ByteCount;
use stillpoint_model::account::Actor;
use stillpoint_model::id::{BackupId, LayerId, SnapshotId, VolumeId};
use stillpoint_model::instance::Power;
use stillpoint_model::item::Consistency;
use stillpoint_model::name::Name;
use stillpoint_model::operation::Operation;
use stillpoint_model::plan::Plan;
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::task::{SealPoint, TaskOutcome, TaskSpec};
use stillpoint_model::upload::Upload;
use stillpoint_model::volume::VolumeRole;
use stillpoint_store::{Db, Durability, Options};

pub const PASSWORD: &str = "correct horse battery staple";

pub struct Lab {
    pub env: Arc<SimEnv>,
    pub cx: Context,
    pub db: Db,
    pub board: Board,
    pub installed: Installed,
    pub admin: Actor,
    pub tenant: Actor,
    pub other: Actor,
    engine: Engine,
    _dir: tempfile::TempDir,
}

pub fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub fn by_name(text: &str) -> Reference {
    Reference::Name(name(text))
}

pub fn plan() -> Plan {
    toml::from_str(include_str!("../../../../presets/stillpoint.toml")).expect("a plan")
}

fn account(text: &str) -> AccountSetup {
    AccountSetup {
        account: name(text),
        login: text.to_owned(),
        password: Secret::new(PASSWORD),
    }
}

pub fn installation(target: bool) -> Installation {
    Installation {
        region: name("here"),
        node: name("node-1"),
        pool: PoolSetup {
            name: name("pool-1"),
            driver: "memory".into(),
            live_capture: false,
        },
        target: target.then(|| TargetSetup {
            name: name("target-1"),
            driver: "memory".into(),
            object_lock: None,
        }),
        second_target: target.then(|| TargetSetup {
            name: name("target-2"),
            driver: "memory".into(),
            object_lock: None,
        }),
        administrator: account("admin"),
        tenant: Some(account("tenant")),
    }
}

impl Lab {
    pub async fn new() -> Self {
        Self::with(plan(), true).await
    }

    pub async fn with(plan: Plan, target: bool) -> Self {
        let env = Arc::new(SimEnv::new(7));
        let dir = match std::path::Path::new("/dev/shm") {
            memory if memory.is_dir() => tempfile::tempdir_in(memory),
            _ => tempfile::tempdir(),
        }
        .expect("a folder");
        let options = Options {
            durability: Durability::None,
            ..Options::new(dir.path().join("db"))
        };
        let db = Db::open(&options).await.expect("a database");
        let settings = Settings {
            flavors: toml::from_str(include_str!("../../../../presets/flavors.toml"))
                .expect("flavors"),
            copies_region: Some("elsewhere-1".into()),
            ..Settings::new(plan)
        };
        let cx = Context::open(db.clone(), env.clone(), settings)
            .await
            .expect("a control plane");
        let installed = ensure_installation(&cx, &installation(target))
            .await
            .expect("an installation");
        let second = Installation {
            tenant: Some(account("other")),
            ..installation(target)
        };
        let second = ensure_installation(&cx, &second)
            .await
            .expect("a second tenant");
        let board = Board::new(cx.clone());
        board.hello(installed.node_id).await.expect("a node");
        let none = board.sighted(installed.node_id, Vec::new());
        none.await.expect("a node that runs instances");
        let actor = |user: &Option<_>| -> Actor {
            let user: &stillpoint_control::bootstrap::InstalledUser = user.as_ref().expect("one");
            user.actor.clone()
        };
        Self {
            engine: Engine::new(cx.clone(), Limits::default()),
            admin: installed.administrator.actor.clone(),
            tenant: actor(&installed.tenant),
            other: actor(&second.tenant),
            env,
            cx,
            db,
            board,
            installed,
            _dir: dir,
        }
    }

    /// What this node reaches in a capture; nobody else would come upon it.
    pub const REACHED: Consistency = Consistency::Filesystem;

    /// Lets time pass, with a node that stays alive.
    pub async fn advance(&self, time: Duration) {
        self.env.advance(time);
        self.board
            .hello(self.installed.node_id)
            .await
            .expect("a node");
    }

    /// Past every cooldown.
    pub async fn rest(&self) {
        self.advance(Duration::from_secs(301)).await;
    }

    /// Lets the engine and the node do everything that is due.
    pub async fn settle(&self) {
        for _ in 0..10_000 {
            if self.engine.step().await.expect("a step") == Stepped::Moved {
                continue;
            }
            let node = self.installed.node_id;
            let Some(task) = self.board.take(node).await.expect("the board") else {
                return;
            };
            let outcome = self.outcome(&task.spec);
            self.board
                .finish(task.task_id, task.fence, Ok(outcome))
                .await
                .expect("a finish");
        }
        panic!("it does not settle");
    }

    fn outcome(&self, spec: &TaskSpec) -> TaskOutcome {
        let (tip, used) = (LayerId::generate(&*self.env), ByteCount::from_mib(1));
        let size = ByteCount::from_gib(1);
        let machine = |power, open| TaskOutcome::Machine { power, open };
        match *spec {
            TaskSpec::SnapshotSealTogether { ref points, freeze } => {
                let seal = |point: &SealPoint| TaskSpec::SnapshotSeal {
                    volume_id: point.volume_id,
                    snapshot_id: point.snapshot_id,
                    freeze,
                };
                let outcomes = points.iter().map(seal).map(|one| self.outcome(&one));
                TaskOutcome::All {
                    outcomes: outcomes.collect(),
                }
            }
            TaskSpec::All { ref tasks } => TaskOutcome::All {
                outcomes: tasks.iter().map(|task| self.outcome(task)).collect(),
            },
            TaskSpec::InstanceStart { ref machine, .. } => TaskOutcome::Machine {
                power: Power::Running,
                open: machine.disks.iter().map(|disk| disk.volume_id).collect(),
            },
            TaskSpec::InstanceStop { .. } | TaskSpec::InstanceRemove { .. } => {
                machine(Power::Off, Vec::new())
            }
            TaskSpec::InstancePause { .. } => machine(Power::Paused, Vec::new()),
            TaskSpec::VolumePlug { disk, .. } => machine(Power::Running, vec![disk.volume_id]),
            TaskSpec::InstanceResume { .. } | TaskSpec::VolumeUnplug { .. } => {
                machine(Power::Running, Vec::new())
            }
            TaskSpec::VolumeCreate { size, .. }
            | TaskSpec::VolumeFromImage { size, .. }
            | TaskSpec::VolumeResize { size, .. } => TaskOutcome::Volume { tip, size, used },
            TaskSpec::VolumeImport { .. }
            | TaskSpec::VolumeClone { .. }
            | TaskSpec::BackupRestore { .. }
            | TaskSpec::VolumeFillBegin { .. }
            | TaskSpec::VolumeFill { .. }
            | TaskSpec::VolumeRollBack { .. }
            | TaskSpec::VolumeSwitch { .. } => TaskOutcome::Volume { tip, size, used },
            TaskSpec::SnapshotSeal { .. } | TaskSpec::BackupCapture { .. } => TaskOutcome::Sealed {
                layer: LayerId::generate(&*self.env),
                tip,
                consistency: Self::REACHED,
                provisioned: size,
                used,
                changed: used,
            },
            TaskSpec::BackupUpload { .. } => TaskOutcome::Stored {
                provisioned: size,
                used,
                changed: used,
                stored: used,
                bytes_read: used,
                content_hash: "00".repeat(32),
            },
            TaskSpec::VolumeInspect { .. } => TaskOutcome::Inspected {
                tip,
                size,
                used,
                witness: true,
            },
            TaskSpec::PoolTidy => TaskOutcome::Tidied {
                merged: 0,
                removed: 0,
                unfinished: false,
            },
            _ => TaskOutcome::Done,
        }
    }

    /// A volume that is ready.
    pub async fn volume(&self, actor: &Actor, text: &str) -> VolumeId {
        let operation = accepted(self.ask_volume(actor, text, &Change::default()).await);
        self.settle().await;
        operation.volume_id.expect("a volume")
    }

    pub async fn ask_volume(
        &self,
        actor: &Actor,
        text: &str,
        change: &Change,
    ) -> Result<Answer, Error> {
        let request = VolumeCreate {
            name: name(text),
            size: ByteCount::from_gib(1),
            role: VolumeRole::Data,
            pool: None,
        };
        volume::create(&self.cx, actor, request, change).await
    }

    /// An upload that is arriving.
    pub async fn begin_upload(&self, actor: &Actor) -> Upload {
        match upload::begin(&self.cx, actor, None).await {
            Ok(Begun::New(upload)) => upload,
            other => panic!("{other:?}"),
        }
    }

    pub async fn ask_snapshot(&self, actor: &Actor, id: VolumeId) -> Result<Answer, Error> {
        let (request, change) = (ItemCreate::default(), Change::default());
        snapshot::create(&self.cx, actor, &id.into(), request, &change).await
    }

    pub async fn ask_backup(&self, actor: &Actor, id: VolumeId) -> Result<Answer, Error> {
        let (request, change) = (backup::BackupCreate::default(), Change::default());
        backup::create(&self.cx, actor, &id.into(), request, &change).await
    }

    /// A snapshot that is available, with the volume rested.
    pub async fn snapshot(&self, actor: &Actor, id: VolumeId) -> SnapshotId {
        let operation = accepted(self.ask_snapshot(actor, id).await);
        self.settle().await;
        self.rest().await;
        operation.snapshot_id.expect("a snapshot")
    }

    /// A backup that is available, with the volume rested.
    pub async fn backup(&self, actor: &Actor, id: VolumeId) -> BackupId {
        let operation = accepted(self.ask_backup(actor, id).await);
        self.settle().await;
        self.rest().await;
        operation.backup_id.expect("a backup")
    }

    /// A backup that is under way, with nothing done for it yet.
    pub async fn begin_backup(&self, actor: &Actor, id: VolumeId) -> BackupId {
        let operation = accepted(self.ask_backup(actor, id).await);
        operation.backup_id.expect("a backup")
    }

    /// Lets the engine do everything that is due, without a node.
    pub async fn step_engine(&self) {
        while self.engine.step().await.expect("a step") == Stepped::Moved {}
    }

    pub async fn show(&self, actor: &Actor, id: VolumeId) -> VolumeView {
        volume::show(&self.cx, actor, &id.into())
            .await
            .expect("a volume")
    }
}

/// The public use cases about customers' things, as the source has them: `module::name`.
pub fn use_cases() -> BTreeSet<String> {
    let modules = [
        "volume",
        "instance",
        "instance_snapshot",
        "snapshot",
        "backup",
        "image",
        "restore",
        "operation",
        "upload",
        "token",
        "event",
        "admin",
    ];
    let mut found = BTreeSet::new();
    for module in modules {
        let folder = format!("{}/src/{module}", env!("CARGO_MANIFEST_DIR"));
        let parts = std::fs::read_dir(&folder).into_iter().flatten();
        let source: String = parts
            .map(|part| part.expect("a file").path())
            .chain([format!("{folder}.rs").into()])
            .map(|path| std::fs::read_to_string(path).expect("the source"))
            .collect();
        let names = source
            .lines()
            .filter_map(|line| line.strip_prefix("pub async fn "))
            .filter_map(|rest| rest.split(['(', '<']).next());
        found.extend(names.map(|name| format!("{module}::{name}")));
    }
    found
}

pub fn accepted(answer: Result<Answer, Error>) -> Operation {
    match answer.expect("an answer") {
        Answer::Accepted(operation) => operation,
        Answer::Preview(_) => panic!("a preview"),
    }
}

pub fn refused<T>(answer: Result<T, Error>) -> Refusal {
    match answer {
        Ok(_) => panic!("it was not refused"),
        Err(Error::Refused(refusal)) => refusal,
        Err(other) => panic!("it failed: {other:?}"),
    }
}

pub fn code<T>(answer: Result<T, Error>) -> ProblemCode {
    refused(answer).code
}
