//! The node against a control plane that says what a test tells it to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use stillpoint_env::SimEnv;
use stillpoint_layers::memory::{MemoryDisk, MemoryDriver};
use stillpoint_layers::qcow2::Qcow2Driver;
use stillpoint_layers::{LayerPool, Pool};
use stillpoint_model::id::{AccountId, BackupId, TargetId, VaultId, VolumeId};
use stillpoint_model::item::FreezePolicy;
use stillpoint_model::task::VaultRef;
use stillpoint_model::{ByteCount, ErrorKind, Timestamp};
use stillpoint_vault::target::MemoryTarget;
use stillpoint_vault::{RootKey, Tuning};
use tokio::sync::mpsc;

use super::*;
use crate::tasks::tests::Free;

/// What the control plane hears.
#[derive(Debug, PartialEq)]
enum Heard {
    Reported,
    Finished(Result<TaskOutcome, TaskFailure>),
}

/// A control plane that answers from a script.
struct Script {
    tasks: Mutex<VecDeque<Assignment>>,
    reports: Mutex<VecDeque<Result<Directive, ControlError>>>,
    finishes: Mutex<VecDeque<Result<(), ControlError>>>,
    heard: mpsc::UnboundedSender<Heard>,
}

fn next<T>(answers: &Mutex<VecDeque<T>>) -> Option<T> {
    answers.lock().expect("not poisoned").pop_front()
}

impl ControlPlane for Arc<Script> {
    async fn hello(&self, _: NodeId) -> Result<(), ControlError> {
        Ok(())
    }

    async fn sighted(
        &self,
        _: NodeId,
        _: Vec<stillpoint_model::instance::Sight>,
    ) -> Result<(), ControlError> {
        Ok(())
    }

    async fn next_question(&self, _: NodeId) -> Result<Option<Asked>, ControlError> {
        std::future::pending().await
    }

    async fn answer(&self, _: NodeId, _: u64, _: Said) -> Result<(), ControlError> {
        Ok(())
    }

    async fn next_task(&self, _: NodeId) -> Result<Option<Assignment>, ControlError> {
        match next(&self.tasks) {
            Some(task) => Ok(Some(task)),
            None => std::future::pending().await,
        }
    }

    async fn report(&self, _: Report) -> Result<Directive, ControlError> {
        self.heard.send(Heard::Reported).expect("somebody listens");
        next(&self.reports).unwrap_or(Ok(Directive::Continue))
    }

    async fn confirm(&self, _: TaskId, _: i64) -> Result<Directive, ControlError> {
        Ok(Directive::Continue)
    }

    async fn finish(
        &self,
        _: TaskId,
        _: i64,
        result: Result<TaskOutcome, TaskFailure>,
    ) -> Result<(), ControlError> {
        self.heard
            .send(Heard::Finished(result))
            .expect("somebody listens");
        next(&self.finishes).unwrap_or(Ok(()))
    }
}

struct Stage {
    env: Arc<SimEnv>,
    pool: Arc<dyn Pool>,
    vault: VaultRef,
    target: Arc<MemoryTarget>,
    tasks: usize,
    script: Arc<Script>,
    heard: mpsc::UnboundedReceiver<Heard>,
    shutdown: CancellationToken,
}

impl Stage {
    fn new() -> Self {
        let env = Arc::new(SimEnv::new(1));
        let disk = MemoryDisk::new(PoolId::generate(&*env));
        let pool = LayerPool::open(MemoryDriver::new(disk), env.clone()).expect("a pool");
        let (sender, heard) = mpsc::unbounded_channel();
        let script = Script {
            tasks: Mutex::default(),
            reports: Mutex::default(),
            finishes: Mutex::default(),
            heard: sender,
        };
        Self {
            vault: VaultRef {
                target_id: TargetId::generate(&*env),
                vault_id: VaultId::generate(&*env),
                account_id: AccountId::generate(&*env),
            },
            target: Arc::new(MemoryTarget::new()),
            tasks: Settings::default().tasks,
            env,
            pool: Arc::new(pool),
            script: Arc::new(script),
            heard,
            shutdown: CancellationToken::new(),
        }
    }

    /// Assigns the making of a volume.
    fn assign_volume(&self) -> VolumeId {
        let volume_id = VolumeId::generate(&*self.env);
        let size = ByteCount::from_mib(1);
        self.assign(TaskSpec::VolumeCreate { volume_id, size });
        volume_id
    }

    fn assign(&self, spec: TaskSpec) {
        let assignment = Assignment {
            task_id: TaskId::generate(&*self.env),
            operation_id: None,
            pool_id: self.pool.id(),
            fence: 1,
            lease_until: Timestamp::EPOCH,
            spec,
        };
        self.script
            .tasks
            .lock()
            .expect("not poisoned")
            .push_back(assignment);
    }

    fn storage(&self) -> Storage {
        let uploads = std::path::PathBuf::from("/nowhere");
        let key = RootKey::from_bytes([7; 32]);
        Storage::new(self.env.clone(), uploads, Tuning::default())
            .with_pool(self.pool.clone())
            .with_target(self.vault.target_id, self.target.clone(), key)
    }

    /// A volume that shows the backup of another.
    fn begin_fill(&self) -> VolumeId {
        let [source_volume_id, volume_id] = [(); 2].map(|()| VolumeId::generate(&*self.env));
        let (backup_id, vault) = (BackupId::generate(&*self.env), self.vault);
        let size = ByteCount::from_mib(1);
        let storage = self.storage();
        for spec in [
            TaskSpec::VolumeCreate {
                volume_id: source_volume_id,
                size,
            },
            TaskSpec::BackupCapture {
                volume_id: source_volume_id,
                backup_id,
                snapshot_id: None,
                freeze: FreezePolicy::Skip,
            },
            TaskSpec::BackupUpload {
                volume_id: source_volume_id,
                backup_id,
                vault,
                parent: None,
                level: Default::default(),
                keep_until: None,
                notes: BTreeMap::new(),
            },
            TaskSpec::VolumeFillBegin {
                volume_id,
                backup_id,
                source_volume_id,
                vault,
            },
        ] {
            perform(&storage, self.pool.id(), &spec, &Free::new()).expect("it is done");
        }
        volume_id
    }

    fn start(&self) -> tokio::task::JoinHandle<()> {
        let storage = self.storage();
        let settings = Settings {
            tasks: self.tasks,
            retry_after: Duration::from_millis(1),
            ..Settings::default()
        };
        let node = Node::new(
            NodeId::generate(&*self.env),
            self.script.clone(),
            storage,
            self.env.clone(),
            settings,
            self.shutdown.clone(),
        );
        tokio::spawn(node.run())
    }

    async fn stop(&self, node: tokio::task::JoinHandle<()>) {
        self.shutdown.cancel();
        node.await.expect("the node stops");
    }
}

#[tokio::test]
async fn a_task_whose_lease_is_over_is_put_aside_untouched() {
    let mut stage = Stage::new();
    let fenced = Err(ControlError::Fenced);
    stage
        .script
        .reports
        .lock()
        .expect("not poisoned")
        .push_back(fenced);
    let (late, next) = (stage.assign_volume(), stage.assign_volume());
    let node = stage.start();
    // Both report once; only the second goes on to an end.
    let mut ended = 0;
    while ended == 0 {
        if let Heard::Finished(result) = stage.heard.recv().await.expect("the node speaks") {
            result.expect("the second task is done");
            ended += 1;
        }
    }
    stage.stop(node).await;
    let there = [late, next].map(|id| stage.pool.volume(id).is_ok());
    assert_eq!(there.iter().filter(|t| **t).count(), 1, "{there:?}");
}

#[tokio::test]
async fn nothing_begins_while_the_control_plane_is_silent() {
    let mut stage = Stage::new();
    let silent = || Err(ControlError::Unavailable("away".into()));
    let reports = [silent(), silent(), Err(ControlError::Fenced)];
    stage
        .script
        .reports
        .lock()
        .expect("not poisoned")
        .extend(reports);
    let volume = stage.assign_volume();
    let node = stage.start();
    for _ in 0..3 {
        assert_eq!(stage.heard.recv().await, Some(Heard::Reported));
    }
    stage.stop(node).await;
    assert!(stage.pool.volume(volume).is_err(), "it was begun on hope");
}

#[tokio::test]
async fn an_answer_is_repeated_until_it_is_heard() {
    let mut stage = Stage::new();
    let silent = || Err(ControlError::Unavailable("away".into()));
    stage
        .script
        .finishes
        .lock()
        .expect("not poisoned")
        .extend([silent(), silent()]);
    let volume = stage.assign_volume();
    let node = stage.start();
    assert_eq!(stage.heard.recv().await, Some(Heard::Reported));
    for _ in 0..3 {
        let said = stage.heard.recv().await;
        assert!(matches!(said, Some(Heard::Finished(Ok(_)))), "{said:?}");
    }
    stage.stop(node).await;
    assert!(stage.pool.volume(volume).is_ok());
}

#[tokio::test]
async fn a_task_for_a_pool_that_is_not_here_fails_with_a_reason() {
    let mut stage = Stage::new();
    stage.assign_volume();
    {
        let mut tasks = stage.script.tasks.lock().expect("not poisoned");
        tasks[0].pool_id = PoolId::generate(&*stage.env);
    }
    let node = stage.start();
    assert_eq!(stage.heard.recv().await, Some(Heard::Reported));
    let Some(Heard::Finished(Err(failure))) = stage.heard.recv().await else {
        panic!("it must fail");
    };
    assert_eq!(failure.kind, ErrorKind::Internal);
    assert!(failure.detail.contains("no pool"), "{}", failure.detail);
    stage.stop(node).await;
}

#[tokio::test]
async fn a_fill_that_waits_for_a_machine_keeps_no_task_waiting() {
    let mut stage = Stage::new();
    // One whose volumes are files, as machines open them.
    let folder = tempfile::tempdir().expect("a folder");
    let driver = Qcow2Driver::open(folder.path(), stage.pool.id()).expect("a folder of layers");
    stage.pool = Arc::new(LayerPool::open(driver, stage.env.clone()).expect("a pool"));
    stage.tasks = 1;
    let volume_id = stage.begin_fill();
    let reader = serde_json::json!({"driver": "nbd", "node-name": "reader"});
    let (_, opening) = stage.pool.open_filling(volume_id, &reader).expect("opens");
    stage.assign(TaskSpec::VolumeFill { volume_id });
    let made = stage.assign_volume();
    let node = stage.start();
    let finished = async |heard: &mut mpsc::UnboundedReceiver<Heard>| loop {
        if let Heard::Finished(result) = heard.recv().await.expect("the node speaks") {
            break result.expect("it is done");
        }
    };
    finished(&mut stage.heard).await;
    assert!(stage.pool.volume(made).is_ok(), "the other was done first");
    assert!(stage.pool.filling(volume_id).expect("says").is_some());
    drop(opening);
    finished(&mut stage.heard).await;
    assert_eq!(stage.pool.filling(volume_id).expect("says"), None);
    stage.stop(node).await;
}
