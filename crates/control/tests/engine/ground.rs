//! A database with an account, nodes, pools and a target, and what admission writes.

use std::sync::Arc;

use stillpoint_control::{Context, Settings};
use stillpoint_env::SimEnv;
use stillpoint_model::account::{Account, Role, User};
use stillpoint_model::backup::Backup;
use stillpoint_model::id::{
    AccountId, BackupId, ImageId, InstanceId, InstanceSnapshotId, NodeId, OperationId, PlanId,
    PoolId, ProjectId, RegionId, SnapshotId, TargetId, UserId, VaultId, VolumeId,
};
use stillpoint_model::image::{Image, ImageOrigin};
use stillpoint_model::instance::{Flavor, Instance, InstanceState, Power};
use stillpoint_model::instance_snapshot::{CapturedVolume, InstanceConfig, InstanceSnapshot};
use stillpoint_model::item::{ItemSizes, ItemState, Trigger};
use stillpoint_model::name::Name;
use stillpoint_model::operation::{Operation, OperationKind, OperationState, Phase, Progress};
use stillpoint_model::place::{Node, Pool, Region, Target, TargetRole};
use stillpoint_model::plan::Plan;
use stillpoint_model::saga::{DiskSource, Order, Request, Run, Terms};
use stillpoint_model::snapshot::Snapshot;
use stillpoint_model::task::{SealPoint, VaultRef};
use stillpoint_model::volume::{Attachment, Volume, VolumeRole, VolumeState};
use stillpoint_model::{ByteCount, Env, Timestamp};
use stillpoint_store::{
    Db, Durability, Options, Tx, account, backup, image, instance, instance_snapshot, operation,
    place, plan, snapshot, volume,
};

/// The ids of what is there.
#[derive(Clone, Copy, Debug)]
pub struct Ids {
    pub account: AccountId,
    pub project: ProjectId,
    pub user: UserId,
    pub plan: PlanId,
    pub vault: VaultRef,
}

/// A control plane on a database of its own.
pub struct Ground {
    pub env: Arc<SimEnv>,
    pub db: Db,
    pub cx: Context,
    pub ids: Ids,
    pub nodes: Vec<(NodeId, PoolId)>,
    /// What the plan allows from now on.
    pub no_progress_s: u32,
    _dir: tempfile::TempDir,
}

/// What an operation is about.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub request: Request,
    pub pool: PoolId,
    pub volume: Option<VolumeId>,
    pub snapshot: Option<SnapshotId>,
    pub backup: Option<BackupId>,
    pub instance: Option<InstanceId>,
    pub image: Option<ImageId>,
    pub whole: Option<InstanceSnapshotId>,
}

pub fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn scratch() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let made = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    made.expect("a folder")
}

impl Ground {
    pub async fn new(seed: u64, nodes: usize) -> Self {
        let env = Arc::new(SimEnv::new(seed));
        let dir = scratch();
        let options = Options {
            durability: Durability::None,
            readers: 1,
            ..Options::new(dir.path().join("db"))
        };
        let db = Db::open(&options).await.expect("a database");
        let rules: Plan =
            toml::from_str(include_str!("../../../../presets/stillpoint.toml")).expect("a plan");
        let ids = Ids {
            account: AccountId::generate(&*env),
            project: ProjectId::generate(&*env),
            user: UserId::generate(&*env),
            plan: PlanId::generate(&*env),
            vault: VaultRef {
                target_id: TargetId::generate(&*env),
                vault_id: VaultId::generate(&*env),
                account_id: AccountId::generate(&*env),
            },
        };
        let ids = Ids {
            vault: VaultRef {
                account_id: ids.account,
                ..ids.vault
            },
            ..ids
        };
        let places: Vec<_> = (0..nodes)
            .map(|_| (NodeId::generate(&*env), PoolId::generate(&*env)))
            .collect();
        let (now, region) = (env.now(), RegionId::generate(&*env));
        let made = places.clone();
        db.write(move |tx| Box::pin(async move { found(tx, ids, region, &made, now).await }))
            .await
            .expect("the first rows");
        let cx = Context::open(db.clone(), env.clone(), Settings::new(rules))
            .await
            .expect("a control plane");
        let mut conn = db.read().await.expect("a reader");
        let (version, _) = plan::plan_latest(&mut conn, "stillpoint")
            .await
            .expect("a query")
            .expect("the plan");
        drop(conn);
        let ids = Ids {
            plan: version.id,
            ..ids
        };
        Self {
            env,
            db,
            cx,
            ids,
            nodes: places,
            no_progress_s: 7200,
            _dir: dir,
        }
    }

    /// Does what admission does once it has said yes.
    pub async fn accept(&self, wanted: Wanted) -> OperationId {
        let (ids, now) = (self.ids, self.env.now());
        let id = OperationId::generate(&*self.env);
        let terms = Terms {
            cooldown_s: 300,
            no_progress_s: self.no_progress_s,
            max_runtime_s: None,
            safety_snapshot_s: 86_400,
            freeze: Default::default(),
            compression_level: Default::default(),
        };
        self.db
            .write(move |tx| Box::pin(async move { admit(tx, ids, id, terms, wanted, now).await }))
            .await
            .expect("an accepted operation");
        id
    }

    pub async fn operation(&self, id: OperationId) -> Operation {
        let mut conn = self.db.read().await.expect("a reader");
        let found = operation::operation_by_id(&mut conn, id).await;
        found.expect("a query").expect("the operation")
    }

    pub async fn volume(&self, id: VolumeId) -> Option<Volume> {
        let mut conn = self.db.read().await.expect("a reader");
        volume::volume_by_id(&mut conn, id).await.expect("a query")
    }

    pub async fn snapshot(&self, id: SnapshotId) -> Option<Snapshot> {
        let mut conn = self.db.read().await.expect("a reader");
        snapshot::snapshot_by_id(&mut conn, id)
            .await
            .expect("a query")
    }

    pub async fn image(&self, id: ImageId) -> Option<Image> {
        let mut conn = self.db.read().await.expect("a reader");
        image::image_by_id(&mut conn, id).await.expect("a query")
    }

    pub async fn instance(&self, id: InstanceId) -> Option<Instance> {
        let mut conn = self.db.read().await.expect("a reader");
        instance::instance_by_id(&mut conn, id)
            .await
            .expect("a query")
    }

    pub async fn whole(&self, id: InstanceSnapshotId) -> Option<InstanceSnapshot> {
        let mut conn = self.db.read().await.expect("a reader");
        instance_snapshot::instance_snapshot_by_id(&mut conn, id)
            .await
            .expect("a query")
    }

    /// The volumes of an instance, the root first.
    pub async fn volumes_of(&self, id: InstanceId) -> Vec<Volume> {
        let mut conn = self.db.read().await.expect("a reader");
        volume::volume_list_of_instance(&mut conn, id)
            .await
            .expect("a query")
    }

    pub async fn backup(&self, id: BackupId) -> Option<Backup> {
        let mut conn = self.db.read().await.expect("a reader");
        backup::backup_by_id(&mut conn, id).await.expect("a query")
    }
}

async fn found(
    tx: &mut Tx,
    ids: Ids,
    region: RegionId,
    places: &[(NodeId, PoolId)],
    now: Timestamp,
) -> stillpoint_store::Result<()> {
    let owner = Account {
        id: ids.account,
        name: name("demo"),
        default_project: ids.project,
        created_at: now,
    };
    account::account_insert(tx, &owner).await?;
    account::project_insert(tx, ids.project, ids.account, &name("default"), now).await?;
    let user = User {
        id: ids.user,
        account_id: ids.account,
        login: "demo".into(),
        role: Role::Tenant,
        created_at: now,
    };
    account::user_insert(tx, &user, "-").await?;
    let here = Region {
        id: region,
        name: name("here"),
    };
    place::region_insert(tx, &here).await?;
    for (index, (node_id, pool_id)) in places.iter().enumerate() {
        let node = Node {
            id: *node_id,
            region_id: region,
            name: name(&format!("node {index}")),
            last_seen_at: None,
            runs_instances: true,
        };
        place::node_insert(tx, &node).await?;
        let pool = Pool {
            id: *pool_id,
            node_id: *node_id,
            name: name(&format!("pool {index}")),
            driver: "memory".into(),
            live_capture: false,
        };
        place::pool_insert(tx, &pool).await?;
    }
    let target = Target {
        id: ids.vault.target_id,
        region_id: region,
        name: name("target"),
        driver: "memory".into(),
        role: TargetRole::Backups,
        copies: None,
        object_lock: None,
    };
    place::target_insert(tx, &target).await
}

#[expect(clippy::too_many_lines, reason = "one arm per kind of operation")]
async fn admit(
    tx: &mut Tx,
    ids: Ids,
    id: OperationId,
    terms: Terms,
    wanted: Wanted,
    now: Timestamp,
) -> stillpoint_store::Result<()> {
    let kind = wanted.request.kind();
    admit_image(tx, ids, &wanted, id, now).await?;
    match kind {
        OperationKind::VolumeCreate
        | OperationKind::VolumeImport
        | OperationKind::VolumeClone
        | OperationKind::RestoreNew => {
            let row = volume_row(
                ids,
                wanted.volume.expect("a new volume"),
                wanted.pool,
                id,
                now,
            );
            volume::volume_insert(tx, &row).await?;
        }
        OperationKind::SnapshotCreate => {
            let row = snapshot_row(ids, &wanted, id, now);
            snapshot::snapshot_insert(tx, &row).await?;
        }
        OperationKind::ImageCreate | OperationKind::ImageDelete => {}
        OperationKind::BackupCreate => {
            let row = backup_row(ids, &wanted, id, now);
            backup::backup_insert(tx, &row).await?;
        }
        OperationKind::SnapshotDelete => {
            let item = wanted.snapshot.expect("a snapshot");
            let mut row = snapshot::snapshot_by_id(tx, item).await?.expect("its row");
            row.state = ItemState::Deleting;
            snapshot::snapshot_update(tx, &row).await?;
        }
        OperationKind::BackupDelete => {
            let item = wanted.backup.expect("a backup");
            let mut row = backup::backup_by_id(tx, item).await?.expect("its row");
            row.state = ItemState::Deleting;
            backup::backup_update(tx, &row).await?;
        }
        OperationKind::VolumeDelete
        | OperationKind::VolumeResize
        | OperationKind::BackupVerify
        | OperationKind::RestoreInPlace
        | OperationKind::VolumeAttach
        | OperationKind::VolumeDetach => hold_instance(tx, &wanted, id).await?,
        OperationKind::InstanceCreate => new_instance(tx, ids, &wanted, id, now).await?,
        OperationKind::InstanceStart
        | OperationKind::InstanceStop
        | OperationKind::InstancePause
        | OperationKind::InstanceResume => hold_instance(tx, &wanted, id).await?,
        OperationKind::InstanceDelete => doom_instance(tx, &wanted, id).await?,
        OperationKind::InstanceSnapshotCreate => new_whole(tx, ids, &wanted, id, now).await?,
        OperationKind::InstanceSnapshotDelete => doom_whole(tx, &wanted).await?,
        OperationKind::InstanceRebuild => {
            hold_instance(tx, &wanted, id).await?;
            rebuild(tx, &wanted, id).await?;
        }
    }
    if kind.locks_volume()
        && let Some(volume_id) = wanted.volume
        && let Some(mut row) = volume::volume_by_id(tx, volume_id).await?
    {
        row.active_operation = Some(id);
        row.cooldown_until = None;
        if kind == OperationKind::VolumeDelete {
            row.state = VolumeState::Deleting;
        }
        volume::volume_update(tx, &row).await?;
    }
    let op = operation_row(ids, id, &wanted, now);
    let order = Order {
        pool_id: wanted.pool,
        terms,
        request: wanted.request,
    };
    operation::operation_insert(tx, &Run::accepted(op, order)).await
}

/// The row of the image that the operation makes or deletes, if it does.
async fn admit_image(
    tx: &mut Tx,
    ids: Ids,
    wanted: &Wanted,
    by: OperationId,
    now: Timestamp,
) -> stillpoint_store::Result<()> {
    let Some(id) = wanted.image else {
        return Ok(());
    };
    match wanted.request {
        Request::ImageCreate { .. }
        | Request::SnapshotCreate
        | Request::InstanceSnapshotCreate { .. } => {
            image::image_insert(tx, &image_row(ids, wanted, by, now)).await
        }
        Request::ImageDelete => {
            let mut row = image::image_by_id(tx, id).await?.expect("its row");
            row.state = ItemState::Deleting;
            image::image_update(tx, &row).await
        }
        _ => Ok(()),
    }
}

/// The operation holds the instance that it is about, if it is about one.
async fn hold_instance(
    tx: &mut Tx,
    wanted: &Wanted,
    by: OperationId,
) -> stillpoint_store::Result<()> {
    let Some(id) = wanted.instance else {
        return Ok(());
    };
    let found = instance::instance_by_id(tx, id).await?;
    let mut row = found.expect("the instance");
    row.active_operation = Some(by);
    row.next_place += 1;
    instance::instance_update(tx, &row).await
}

async fn doom_instance(
    tx: &mut Tx,
    wanted: &Wanted,
    by: OperationId,
) -> stillpoint_store::Result<()> {
    hold_instance(tx, wanted, by).await?;
    let id = wanted.instance.expect("an instance");
    let mut row = instance::instance_by_id(tx, id).await?.expect("its row");
    row.state = InstanceState::Deleting;
    instance::instance_update(tx, &row).await?;
    let Request::InstanceDelete { delete, .. } = &wanted.request else {
        panic!("a deletion")
    };
    for mut row in volume::volume_list_of_instance(tx, id).await? {
        row.active_operation = Some(by);
        if delete.contains(&row.id) {
            row.state = VolumeState::Deleting;
        }
        volume::volume_update(tx, &row).await?;
    }
    Ok(())
}

/// The operation holds the volumes beside its own.
async fn hold_volumes(
    tx: &mut Tx,
    wanted: &Wanted,
    by: OperationId,
) -> stillpoint_store::Result<()> {
    for id in wanted.request.other_volumes() {
        let found = volume::volume_by_id(tx, id).await?;
        let mut row = found.expect("the volume");
        row.active_operation = Some(by);
        row.cooldown_until = None;
        volume::volume_update(tx, &row).await?;
    }
    Ok(())
}

async fn new_whole(
    tx: &mut Tx,
    ids: Ids,
    wanted: &Wanted,
    by: OperationId,
    now: Timestamp,
) -> stillpoint_store::Result<()> {
    hold_instance(tx, wanted, by).await?;
    hold_volumes(tx, wanted, by).await?;
    let Request::InstanceSnapshotCreate { points, .. } = &wanted.request else {
        panic!("an instance snapshot")
    };
    let captured = |(place, point): (u32, &SealPoint)| CapturedVolume {
        volume_id: point.volume_id,
        name: name("volume"),
        role: VolumeRole::Data,
        place,
        size: ByteCount::ZERO,
        snapshot_id: point.snapshot_id,
    };
    let id = wanted.whole.expect("a new instance snapshot");
    let instance_id = wanted.instance.expect("its instance");
    let row = InstanceSnapshot {
        id,
        account_id: ids.account,
        project_id: ids.project,
        pool_id: wanted.pool,
        instance_id,
        instance_name: name("web"),
        name: name(&format!("w-{}", id.as_uuid().simple())),
        description: String::new(),
        labels: Default::default(),
        state: ItemState::Pending,
        consistency: None,
        trigger: Trigger::Manual,
        sizes: ItemSizes::default(),
        config: InstanceConfig {
            flavor: instance_row(ids, wanted, by, now).flavor,
            volumes: (0..).zip(points).map(captured).collect(),
        },
        duration_ms: None,
        protected: false,
        failure: None,
        operation_id: Some(by),
        created_at: now,
        version: 1,
        memory: None,
    };
    instance_snapshot::instance_snapshot_insert(tx, &row).await?;
    for point in points {
        let part = Wanted {
            snapshot: Some(point.snapshot_id),
            volume: Some(point.volume_id),
            ..wanted.clone()
        };
        let part = Snapshot {
            instance_snapshot_id: Some(id),
            ..snapshot_row(ids, &part, by, now)
        };
        snapshot::snapshot_insert(tx, &part).await?;
    }
    Ok(())
}

async fn doom_whole(tx: &mut Tx, wanted: &Wanted) -> stillpoint_store::Result<()> {
    let id = wanted.whole.expect("an instance snapshot");
    let found = instance_snapshot::instance_snapshot_by_id(tx, id).await?;
    let mut row = found.expect("its row");
    row.state = ItemState::Deleting;
    instance_snapshot::instance_snapshot_update(tx, &row).await?;
    for id in wanted.request.other_snapshots() {
        if let Some(mut part) = snapshot::snapshot_by_id(tx, id).await? {
            part.state = ItemState::Deleting;
            snapshot::snapshot_update(tx, &part).await?;
        }
    }
    Ok(())
}

async fn rebuild(tx: &mut Tx, wanted: &Wanted, by: OperationId) -> stillpoint_store::Result<()> {
    hold_volumes(tx, wanted, by).await?;
    let id = wanted.instance.expect("an instance");
    let mut row = instance::instance_by_id(tx, id).await?.expect("its row");
    row.state = InstanceState::Rebuilding;
    instance::instance_update(tx, &row).await
}

async fn new_instance(
    tx: &mut Tx,
    ids: Ids,
    wanted: &Wanted,
    by: OperationId,
    now: Timestamp,
) -> stillpoint_store::Result<()> {
    let Request::InstanceCreate { machine, make, .. } = &wanted.request else {
        panic!("the making of an instance")
    };
    let row = instance_row(ids, wanted, by, now);
    instance::instance_insert(tx, &row).await?;
    for disk in &machine.disks {
        let attachment = Some(Attachment::to(&row, disk.place));
        if let Some(new) = make.iter().find(|new| new.volume_id == disk.volume_id) {
            let size = match new.from {
                DiskSource::Empty { size } | DiskSource::Image { size, .. } => size,
                DiskSource::RestorePoint { .. } => ByteCount::ZERO,
            };
            let made = volume_row(ids, disk.volume_id, wanted.pool, by, now);
            let made = Volume {
                attachment,
                size,
                ..made
            };
            volume::volume_insert(tx, &made).await?;
        } else {
            let found = volume::volume_by_id(tx, disk.volume_id).await?;
            let mut existing = found.expect("the volume");
            existing.attachment = attachment;
            existing.state = VolumeState::InUse;
            existing.active_operation = Some(by);
            volume::volume_update(tx, &existing).await?;
        }
    }
    Ok(())
}

fn instance_row(ids: Ids, wanted: &Wanted, by: OperationId, now: Timestamp) -> Instance {
    let id = wanted.instance.expect("a new instance");
    Instance {
        id,
        account_id: ids.account,
        project_id: ids.project,
        pool_id: wanted.pool,
        name: name(&format!("i-{}", id.as_uuid().simple())),
        flavor: Flavor {
            name: name("small"),
            vcpus: 1,
            memory_bytes: ByteCount::from_mib(256),
            gpu: None,
        },
        state: InstanceState::Provisioning,
        power: Power::Off,
        ready: false,
        load: None,
        next_place: 8,
        active_operation: Some(by),
        failure: None,
        created_at: now,
        started_at: None,
        version: 1,
    }
}

fn operation_row(ids: Ids, id: OperationId, wanted: &Wanted, now: Timestamp) -> Operation {
    Operation {
        id,
        account_id: ids.account,
        project_id: ids.project,
        user_id: ids.user,
        kind: wanted.request.kind(),
        state: OperationState::Queued,
        volume_id: wanted.volume,
        volume_name: None,
        snapshot_id: wanted.snapshot,
        backup_id: wanted.backup,
        instance_id: wanted.instance,
        instance_name: None,
        image_id: wanted.image,
        image_name: None,
        instance_snapshot_id: wanted.whole,
        progress: Progress::start(Phase::Validation),
        fence: 1,
        failure: None,
        created_at: now,
        started_at: None,
        progressed_at: now,
        finished_at: None,
        version: 1,
    }
}

fn volume_row(ids: Ids, id: VolumeId, pool: PoolId, by: OperationId, now: Timestamp) -> Volume {
    Volume {
        id,
        account_id: ids.account,
        project_id: ids.project,
        pool_id: pool,
        plan_id: ids.plan,
        name: name(&format!("v-{}", id.as_uuid().simple())),
        role: VolumeRole::Data,
        size: ByteCount::ZERO,
        state: VolumeState::Creating,
        attachment: None,
        origin: None,
        filling: None,
        active_operation: Some(by),
        cooldown_until: None,
        tip: None,
        used: ByteCount::ZERO,
        failure: None,
        created_at: now,
        version: 1,
    }
}

fn snapshot_row(ids: Ids, wanted: &Wanted, by: OperationId, now: Timestamp) -> Snapshot {
    let id = wanted.snapshot.expect("a new snapshot");
    Snapshot {
        id,
        account_id: ids.account,
        project_id: ids.project,
        pool_id: wanted.pool,
        volume_id: wanted.volume.expect("its volume"),
        volume_name: name("volume"),
        instance_snapshot_id: None,
        name: name(&format!("s-{}", id.as_uuid().simple())),
        description: String::new(),
        labels: Default::default(),
        state: ItemState::Pending,
        consistency: None,
        trigger: Trigger::Manual,
        sizes: ItemSizes::default(),
        layer: None,
        duration_ms: None,
        protected: false,
        failure: None,
        operation_id: Some(by),
        created_at: now,
        expires_at: None,
        version: 1,
    }
}

fn image_row(ids: Ids, wanted: &Wanted, by: OperationId, now: Timestamp) -> Image {
    let id = wanted.image.expect("a new image");
    Image {
        id,
        account_id: ids.account,
        project_id: ids.project,
        pool_id: wanted.pool,
        name: name(&format!("m-{}", id.as_uuid().simple())),
        description: String::new(),
        labels: Default::default(),
        state: ItemState::Pending,
        origin: ImageOrigin::Upload,
        origin_name: None,
        consistency: None,
        size: ByteCount::ZERO,
        used: ByteCount::ZERO,
        layer: None,
        duration_ms: None,
        protected: false,
        failure: None,
        operation_id: Some(by),
        created_at: now,
        version: 1,
    }
}

fn backup_row(ids: Ids, wanted: &Wanted, by: OperationId, now: Timestamp) -> Backup {
    let id = wanted.backup.expect("a new backup");
    Backup {
        id,
        account_id: ids.account,
        project_id: ids.project,
        target_id: ids.vault.target_id,
        volume_id: wanted.volume.expect("its volume"),
        volume_name: name("volume"),
        name: name(&format!("b-{}", id.as_uuid().simple())),
        description: String::new(),
        labels: Default::default(),
        state: ItemState::Pending,
        consistency: None,
        trigger: Trigger::Manual,
        sizes: ItemSizes::default(),
        bytes_read: ByteCount::ZERO,
        content_hash: None,
        verified_at: None,
        duration_ms: None,
        protected: false,
        keep_until: None,
        failure: None,
        operation_id: Some(by),
        created_at: now,
        version: 1,
    }
}
