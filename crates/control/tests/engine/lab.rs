//! A control plane with one node whose pool and vault are in memory and can break at any step.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stillpoint_control::board::{Board, Rejection};
use stillpoint_control::engine::{Engine, Limits, Stepped};
use stillpoint_control::reconcile::volume_fill;
use stillpoint_layers::fault::{Faults, FaultyDriver};
use stillpoint_layers::memory::{MemoryDisk, MemoryDriver};
use stillpoint_layers::{LayerPool, LayerReader, Pool};
use stillpoint_model::id::{BackupId, LayerId, NodeId, OperationId, PoolId, SnapshotId, VolumeId};
use stillpoint_model::operation::Phase;
use stillpoint_model::task::{Assignment, Directive, TaskFailure, TaskOutcome, TaskSpec};
use stillpoint_model::volume::Fill;
use stillpoint_node::{ControlError, Hooks, Storage, Watch, perform};
use stillpoint_store::task;
use stillpoint_vault::target::{MemoryTarget, Target as _};
use stillpoint_vault::{RootKey, Tuning, Vault};

use crate::ground::Ground;
use crate::machines::SimMachines;

pub const SIZE: usize = 256 * 1024;

/// A control plane, one node, one pool, one target.
pub struct Lab {
    pub ground: Ground,
    pub engine: Engine,
    pub board: Board,
    pub disk: MemoryDisk,
    pub faults: Faults,
    pub pool: Arc<dyn Pool>,
    pub node_id: NodeId,
    pub machines: SimMachines,
    pub pool_id: PoolId,
    target: Arc<MemoryTarget>,
    root_key: RootKey,
    storage: Storage,
    uploads: tempfile::TempDir,
}

struct LabHooks<'a> {
    watch: Watch,
    board: &'a Board,
    assignment: &'a Assignment,
}

impl Hooks for LabHooks<'_> {
    fn watch(&self) -> &Watch {
        &self.watch
    }

    fn confirm(&self) -> Result<Directive, ControlError> {
        let (id, fence) = (self.assignment.task_id, self.assignment.fence);
        let asked = tokio::runtime::Handle::current().block_on(self.board.confirm(id, fence));
        asked.map_err(|rejection| match rejection {
            Rejection::Fenced => ControlError::Fenced,
            Rejection::Fault(error) => ControlError::Unavailable(error.to_string()),
        })
    }
}

fn open_pool(disk: &MemoryDisk, faults: &Faults, ground: &Ground) -> Arc<dyn Pool> {
    let driver = FaultyDriver::new(MemoryDriver::new(disk.clone()), faults.clone());
    Arc::new(LayerPool::open(driver, ground.env.clone()).expect("the pool opens"))
}

impl Lab {
    pub async fn new(seed: u64) -> Self {
        let mut ground = Ground::new(seed, 1).await;
        // Short, because the lab lets it pass with a report every few seconds.
        ground.no_progress_s = 600;
        let (node_id, pool_id) = ground.nodes[0];
        let (disk, faults) = (MemoryDisk::new(pool_id), Faults::default());
        let target = Arc::new(MemoryTarget::new());
        let root_key = RootKey::from_bytes([7; 32]);
        let uploads = tempfile::tempdir().expect("a folder");
        let pool = open_pool(&disk, &faults, &ground);
        let env = ground.env.clone();
        let storage = Storage::new(env, uploads.path().into(), Tuning::default());
        let mut lab = Self {
            engine: Engine::new(ground.cx.clone(), Limits::default()),
            board: Board::new(ground.cx.clone()),
            ground,
            disk,
            faults,
            pool,
            node_id,
            machines: SimMachines::default(),
            pool_id,
            target,
            root_key,
            storage,
            uploads,
        };
        lab.restart().await;
        lab
    }

    /// Server and node die and come back; what is on disk stays.
    pub async fn restart(&mut self) {
        self.faults.clear();
        self.pool = open_pool(&self.disk, &self.faults, &self.ground);
        self.storage = Storage::new(
            self.ground.env.clone(),
            self.uploads.path().into(),
            Tuning {
                workers: 1,
                ..Tuning::default()
            },
        )
        .with_pool(self.pool.clone())
        .with_machines(Arc::new(self.machines.clone()))
        .with_target(
            self.ground.ids.vault.target_id,
            self.target.clone(),
            self.root_key.clone(),
        );
        self.engine = Engine::new(self.ground.cx.clone(), Limits::default());
        self.board = Board::new(self.ground.cx.clone());
        self.board.hello(self.node_id).await.expect("hello");
    }

    pub fn upload(&self, content: &[u8]) -> uuid::Uuid {
        let id = OperationId::generate(&*self.ground.env).as_uuid();
        std::fs::write(self.upload_path(id), content).expect("an upload");
        id
    }

    fn upload_path(&self, id: uuid::Uuid) -> PathBuf {
        self.uploads.path().join(id.to_string())
    }

    /// Lets the engine do all it can.
    pub async fn settle(&self) {
        for _ in 0..200 {
            if let Stepped::Idle { .. } = self.engine.step().await.expect("a step") {
                return;
            }
        }
        panic!("the engine goes round in circles");
    }

    pub async fn take(&self) -> Option<Assignment> {
        self.board.take(self.node_id).await.expect("the board")
    }

    pub fn perform(&self, assignment: &Assignment) -> Result<TaskOutcome, TaskFailure> {
        let hooks = LabHooks {
            watch: Watch::new(Phase::DataCapture),
            board: &self.board,
            assignment,
        };
        tokio::task::block_in_place(|| {
            perform(&self.storage, assignment.pool_id, &assignment.spec, &hooks)
        })
    }

    pub async fn finish(
        &self,
        assignment: &Assignment,
        result: Result<TaskOutcome, TaskFailure>,
    ) -> Result<(), Rejection> {
        self.board
            .finish(assignment.task_id, assignment.fence, result)
            .await
    }

    /// Does everything that is to be done, until nothing is left.
    pub async fn run_to_rest(&self) {
        for _ in 0..3000 {
            self.settle().await;
            if let Some(assignment) = self.take().await {
                let result = self.perform(&assignment);
                self.finish(&assignment, result).await.expect("heard");
            } else if self.is_at_rest().await {
                return;
            } else {
                self.ground.env.advance(Duration::from_secs(5));
            }
        }
        panic!("it never comes to rest");
    }

    /// Has the volumes filled that are used before they are whole.
    pub async fn fill(&self) {
        for _ in 0..10 {
            self.board.hello(self.node_id).await.expect("hello");
            let offered = volume_fill::offer_due(&self.ground.cx).await;
            offered.expect("offered");
            self.run_to_rest().await;
            if self.fills().await.is_empty() {
                return;
            }
            self.ground.env.advance(Duration::from_mins(2));
        }
        panic!("a volume is never whole: {:?}", self.fills().await);
    }

    /// The volumes that are being filled.
    pub async fn fills(&self) -> Vec<Fill> {
        let mut conn = self.ground.db.read().await.expect("a reader");
        stillpoint_store::fill::fill_list(&mut conn)
            .await
            .expect("a query")
    }

    /// The node says what its machines do, as it does every few seconds, and everything that
    /// follows is done.
    pub async fn look(&self) {
        use stillpoint_node::Machines;
        for _ in 0..3 {
            let said = self.machines.sights().expect("seen");
            let heard = self.board.sighted(self.node_id, said);
            heard.await.expect("heard");
            self.run_to_rest().await;
        }
    }

    /// Whether no operation is under way and no task is left.
    pub async fn is_at_rest(&self) -> bool {
        let mut conn = self.ground.db.read().await.expect("a reader");
        let live = stillpoint_store::operation::operation_live(&mut conn, self.ground.ids.account);
        let live = live.await.expect("a query");
        live.is_empty()
            && task::task_list(&mut conn)
                .await
                .expect("a query")
                .is_empty()
    }

    pub async fn write(&self, volume: VolumeId, content: &[u8]) {
        let tip = self.pool.volume(volume).expect("the volume").tip;
        self.disk.guest_write(tip, 0, content).expect("written");
    }

    fn read_layer(&self, layer: LayerId) -> Vec<u8> {
        let reader: Box<dyn LayerReader> = self.pool.open_layer(layer).expect("a layer");
        let mut content = vec![0; usize::try_from(reader.size().get()).expect("small")];
        reader.read_at(0, &mut content).expect("readable");
        content
    }

    pub fn volume_content(&self, volume: VolumeId) -> Vec<u8> {
        self.read_layer(self.pool.volume(volume).expect("the volume").tip)
    }

    pub fn snapshot_content(&self, snapshot: SnapshotId) -> Vec<u8> {
        self.read_layer(self.pool.snapshot_layer(snapshot).expect("the snapshot"))
    }

    /// Restores a backup beside everything else and reads it.
    pub fn backup_content(&self, volume: VolumeId, backup: BackupId) -> Vec<u8> {
        let scratch = VolumeId::generate(&*self.ground.env);
        let spec = TaskSpec::BackupRestore {
            volume_id: scratch,
            backup_id: backup,
            source_volume_id: volume,
            vault: self.ground.ids.vault,
        };
        self.perform_spec(spec).expect("the backup restores");
        let content = self.volume_content(scratch);
        self.pool.delete_volume(scratch).expect("deleted");
        for candidate in self.pool.merge_candidates() {
            let watch = Watch::new(Phase::CleanUp);
            self.pool.merge(&candidate, &watch).expect("merged");
        }
        content
    }

    pub fn perform_spec(&self, spec: TaskSpec) -> Result<TaskOutcome, TaskFailure> {
        let assignment = Assignment {
            task_id: stillpoint_model::id::TaskId::generate(&*self.ground.env),
            operation_id: None,
            pool_id: self.pool_id,
            fence: 0,
            lease_until: Default::default(),
            spec,
        };
        self.perform(&assignment)
    }

    /// The bytes of all packs in the target.
    pub fn packs(&self) -> u64 {
        let page = self.target.list("", None, 100_000).expect("a listing");
        let packs = page.entries.into_iter();
        let packs = packs.filter(|entry| entry.name.as_str().contains("/packs/"));
        packs.map(|entry| entry.len.get()).sum()
    }

    pub fn vault(&self) -> Option<Vault> {
        let id = self.ground.ids.vault.vault_id;
        let env = self.ground.env.clone();
        Vault::open(self.target.clone(), id, &self.root_key, env).ok()
    }
}
