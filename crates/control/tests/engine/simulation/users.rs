//! Users who ask for whatever is possible, and what they may expect of it.

use std::collections::{BTreeMap, BTreeSet};

use stillpoint_control::engine;
use stillpoint_model::id::{
    BackupId, ImageId, InstanceId, OperationId, PoolId, SnapshotId, VolumeId,
};
use stillpoint_model::item::ItemState;
use stillpoint_model::operation::{OperationKind, OperationState};
use stillpoint_model::saga::{Request, RestoreSource};
use stillpoint_model::task::ImageFormat;
use stillpoint_model::volume::VolumeState;
use stillpoint_model::{ByteCount, Env};
use stillpoint_store::{operation, task};

use super::images::{Made, Whole};
use super::storage::{SMALL, World};
use crate::ground::{Ground, Wanted};

/// A volume that was put back, or perhaps not.
struct PutBack {
    op: OperationId,
    volume: VolumeId,
    pool: PoolId,
    safety: SnapshotId,
    old: u64,
    new: u64,
}

#[derive(Default)]
pub struct Users {
    /// Every operation that was accepted.
    pub accepted: Vec<OperationId>,
    pub instances: Vec<(InstanceId, PoolId)>,
    /// The operation that was to make a root, and what it may hold.
    pub roots: BTreeMap<VolumeId, (OperationId, BTreeSet<u64>)>,
    pub images: Vec<Made>,
    pub wholes: Vec<Whole>,
    volumes: Vec<(VolumeId, PoolId)>,
    snapshots: Vec<(SnapshotId, VolumeId, PoolId)>,
    backups: Vec<(BackupId, VolumeId, PoolId)>,
    /// What a volume holds, as its user knows it.
    known: BTreeMap<VolumeId, u64>,
    /// What an item may hold: what its volume held while it was made.
    may_hold_snapshot: BTreeMap<SnapshotId, BTreeSet<u64>>,
    may_hold_backup: BTreeMap<BackupId, BTreeSet<u64>>,
    put_back: Vec<PutBack>,
    made_from: BTreeMap<VolumeId, (OperationId, Option<BTreeSet<u64>>)>,
}

pub fn pick(ground: &Ground, bound: usize) -> usize {
    let bound = u64::try_from(bound).expect("a bound");
    usize::try_from(ground.env.below(bound)).expect("below the bound")
}

impl Users {
    /// One user does one thing.
    pub async fn act(
        &mut self,
        ground: &Ground,
        world: &mut World,
        volumes: usize,
        operations: usize,
    ) -> String {
        self.learn(ground, world).await;
        match pick(ground, 20) {
            0..6 => self.write(ground, world).await,
            6..8 => self.cancel(ground).await,
            8 if pick(ground, 3) == 0 => self.release(ground).await,
            _ if self.accepted.len() >= operations => "is content".into(),
            _ if self.volumes.len() < volumes && pick(ground, 3) < 2 => {
                self.make_volume(ground).await
            }
            _ => self.ask(ground, world).await,
        }
    }

    pub async fn accept(&mut self, ground: &Ground, wanted: Wanted) -> OperationId {
        let id = ground.accept(wanted).await;
        self.accepted.push(id);
        id
    }

    /// A volume that is idle and whose content is certain.
    pub async fn idle_volume(&self, ground: &Ground) -> Option<(VolumeId, PoolId)> {
        if self.volumes.is_empty() {
            return None;
        }
        let (id, pool) = self.volumes[pick(ground, self.volumes.len())];
        let row = ground.volume(id).await?;
        let idle = row.state == VolumeState::Available && row.active_operation.is_none();
        let certain = self.is_certain(id);
        (idle && certain && self.known.contains_key(&id)).then_some((id, pool))
    }

    /// Whether it is known what a volume holds, as far as it was put back.
    pub fn is_certain(&self, id: VolumeId) -> bool {
        !self.put_back.iter().any(|p| p.volume == id)
    }

    /// Guests write.
    async fn write(&mut self, ground: &Ground, world: &mut World) -> String {
        let Some((id, pool)) = self.idle_volume(ground).await else {
            return "waits".into();
        };
        let content = world.fresh();
        let held = world
            .pool(pool)
            .volumes
            .get_mut(&id)
            .expect("I1: an available volume");
        held.content = content;
        self.known.insert(id, content);
        "writes".into()
    }

    async fn cancel(&mut self, ground: &Ground) -> String {
        if self.accepted.is_empty() {
            return "waits".into();
        }
        let op = self.accepted[pick(ground, self.accepted.len())];
        let now = ground.env.now();
        let write = ground
            .db
            .write(move |tx| Box::pin(async move { engine::cancel(tx, op, now).await }));
        let cancelled = write.await.expect("heard").is_some();
        format!("cancels: {cancelled}")
    }

    async fn release(&mut self, ground: &Ground) -> String {
        if self.accepted.is_empty() {
            return "waits".into();
        }
        let op = self.accepted[pick(ground, self.accepted.len())];
        let now = ground.env.now();
        let write = ground
            .db
            .write(move |tx| Box::pin(async move { engine::release(tx, op, "why", now).await }));
        let released = write.await.expect("heard").is_some();
        format!("releases: {released}")
    }

    async fn make_volume(&mut self, ground: &Ground) -> String {
        let (_, pool) = ground.nodes[pick(ground, ground.nodes.len())];
        let id = VolumeId::generate(&*ground.env);
        let request = if pick(ground, 2) == 0 {
            Request::VolumeCreate { size: SMALL }
        } else {
            Request::VolumeImport {
                upload: id.as_uuid(),
                format: ImageFormat::Raw,
                max_size: SMALL,
            }
        };
        self.new_volume(ground, id, pool, request, (None, None), None)
            .await
    }

    async fn new_volume(
        &mut self,
        ground: &Ground,
        id: VolumeId,
        pool: PoolId,
        request: Request,
        (snapshot, backup): (Option<SnapshotId>, Option<BackupId>),
        may_hold: Option<BTreeSet<u64>>,
    ) -> String {
        let wanted = Wanted {
            request,
            pool,
            volume: Some(id),
            snapshot,
            backup,
            instance: None,
            image: None,
            whole: None,
        };
        self.begin_volume(ground, wanted, may_hold).await
    }

    /// Asks for a new volume, and remembers what it may hold.
    pub async fn begin_volume(
        &mut self,
        ground: &Ground,
        wanted: Wanted,
        may_hold: Option<BTreeSet<u64>>,
    ) -> String {
        let said = format!("asks for {}", wanted.request.kind());
        let (id, pool) = (wanted.volume.expect("a new volume"), wanted.pool);
        let op = self.accept(ground, wanted).await;
        self.volumes.push((id, pool));
        self.made_from.insert(id, (op, may_hold));
        said
    }

    async fn ask(&mut self, ground: &Ground, world: &mut World) -> String {
        match pick(ground, 18) {
            16.. => self.ask_of_image(ground, world).await,
            10..16 => self.ask_of_instance(ground, world).await,
            0..5 => self.ask_of_volume(ground, world).await,
            5..8 => self.ask_of_snapshot(ground, world).await,
            _ => self.ask_of_backup(ground, world).await,
        }
    }

    async fn ask_of_volume(&mut self, ground: &Ground, _world: &World) -> String {
        let Some((volume, pool)) = self.idle_volume(ground).await else {
            return "waits".into();
        };
        let env = &*ground.env;
        let now = BTreeSet::from([self.known[&volume]]);
        let about = |request| Wanted {
            request,
            pool,
            volume: Some(volume),
            snapshot: None,
            backup: None,
            instance: None,
            image: None,
            whole: None,
        };
        let wanted = match pick(ground, 10) {
            0..3 => {
                let id = SnapshotId::generate(env);
                self.snapshots.push((id, volume, pool));
                self.may_hold_snapshot.insert(id, now);
                Wanted {
                    snapshot: Some(id),
                    ..about(Request::SnapshotCreate)
                }
            }
            3..7 => {
                let id = BackupId::generate(env);
                self.backups.push((id, volume, pool));
                self.may_hold_backup.insert(id, now);
                let vault = ground.ids.vault;
                let request = Request::BackupCreate {
                    vault,
                    snapshot_id: None,
                    parent: None,
                };
                Wanted {
                    backup: Some(id),
                    ..about(request)
                }
            }
            7 => about(Request::VolumeResize {
                size: ByteCount::from_mib(2),
            }),
            8 => {
                let id = VolumeId::generate(env);
                let request = Request::VolumeClone { source: volume };
                // Nobody keeps the source from being written meanwhile.
                return self
                    .new_volume(ground, id, pool, request, (None, None), None)
                    .await;
            }
            _ => about(Request::VolumeDelete),
        };
        let said = format!("asks for {}", wanted.request.kind());
        self.accept(ground, wanted).await;
        said
    }

    pub async fn is_idle_item(&self, ground: &Ground, item: uuid::Uuid) -> bool {
        let mut conn = ground.db.read().await.expect("a reader");
        operation::operation_on_item(&mut conn, item)
            .await
            .expect("a query")
            .is_none()
    }

    /// A snapshot that is there and that nothing reads.
    async fn idle_snapshot(&self, ground: &Ground) -> Option<(SnapshotId, VolumeId, PoolId)> {
        if self.snapshots.is_empty() {
            return None;
        }
        let (id, volume, pool) = self.snapshots[pick(ground, self.snapshots.len())];
        let row = ground.snapshot(id).await;
        let usable = row.is_some_and(|s| s.state == ItemState::Available);
        let idle = usable && self.is_idle_item(ground, id.as_uuid()).await;
        idle.then_some((id, volume, pool))
    }

    /// The same, and its pool alone.
    pub async fn usable_snapshot(&self, ground: &Ground) -> Option<(SnapshotId, PoolId)> {
        let (id, _, pool) = self.idle_snapshot(ground).await?;
        Some((id, pool))
    }

    async fn ask_of_snapshot(&mut self, ground: &Ground, world: &World) -> String {
        let Some((id, volume, pool)) = self.idle_snapshot(ground).await else {
            return "waits".into();
        };
        let source = RestoreSource::Snapshot { snapshot_id: id };
        let items = (Some(id), None);
        match pick(ground, 4) {
            0 => {
                let request = Request::SnapshotDelete;
                let (volume, snapshot) = (Some(volume), Some(id));
                let wanted = Wanted {
                    request,
                    pool,
                    volume,
                    snapshot,
                    backup: None,
                    instance: None,
                    image: None,
                    whole: None,
                };
                self.accept(ground, wanted).await;
                "deletes a snapshot".into()
            }
            1 => {
                let new = VolumeId::generate(&*ground.env);
                let holds = self.may_hold_snapshot.get(&id).cloned();
                let request = Request::RestoreNew {
                    source,
                    instant: false,
                };
                self.new_volume(ground, new, pool, request, items, holds)
                    .await
            }
            _ => {
                let holds = world.pools.get(&pool).and_then(|p| p.snapshots.get(&id));
                let new = holds.expect("I1: an available snapshot").content;
                self.put_back(ground, volume, source, items, new).await
            }
        }
    }

    async fn ask_of_backup(&mut self, ground: &Ground, world: &World) -> String {
        if self.backups.is_empty() {
            return "waits".into();
        }
        let (id, volume, pool) = self.backups[pick(ground, self.backups.len())];
        let row = ground.backup(id).await;
        let usable = row.is_some_and(|b| b.state == ItemState::Available);
        if !usable || !self.is_idle_item(ground, id.as_uuid()).await {
            return "waits".into();
        }
        let vault = ground.ids.vault;
        let source = RestoreSource::Backup {
            backup_id: id,
            source_volume_id: volume,
            vault,
        };
        let items = (None, Some(id));
        let about = |request| Wanted {
            request,
            pool,
            volume: Some(volume),
            snapshot: None,
            backup: Some(id),
            instance: None,
            image: None,
            whole: None,
        };
        match pick(ground, 5) {
            0 => {
                self.accept(ground, about(Request::BackupDelete { vault }))
                    .await;
                "deletes a backup".into()
            }
            1 => {
                self.accept(ground, about(Request::BackupVerify { vault, deep: true }))
                    .await;
                "verifies a backup".into()
            }
            2 => {
                let new = VolumeId::generate(&*ground.env);
                let holds = self.may_hold_backup.get(&id).cloned();
                let request = Request::RestoreNew {
                    source,
                    instant: false,
                };
                self.new_volume(ground, new, pool, request, items, holds)
                    .await
            }
            _ => {
                let holds = world.manifests.get(&id).expect("I1: an available backup");
                self.put_back(ground, volume, source, items, holds.content)
                    .await
            }
        }
    }

    async fn put_back(
        &mut self,
        ground: &Ground,
        volume: VolumeId,
        source: RestoreSource,
        (snapshot, backup): (Option<SnapshotId>, Option<BackupId>),
        new: u64,
    ) -> String {
        let idle = match ground.volume(volume).await {
            Some(row) => row.state == VolumeState::Available && row.active_operation.is_none(),
            None => false,
        };
        let certain = self.is_certain(volume);
        let Some(old) = self.known.get(&volume).copied().filter(|_| idle && certain) else {
            return "waits".into();
        };
        let pool = self
            .volumes
            .iter()
            .find(|(id, _)| *id == volume)
            .expect("its pool")
            .1;
        let safety = SnapshotId::generate(&*ground.env);
        let staged_id = VolumeId::generate(&*ground.env);
        let request = Request::RestoreInPlace {
            source,
            safety_id: safety,
            staged_id,
        };
        let wanted = Wanted {
            request,
            pool,
            volume: Some(volume),
            snapshot,
            backup,
            instance: None,
            image: None,
            whole: None,
        };
        let op = self.accept(ground, wanted).await;
        self.expect_back(op, (volume, pool), safety, old, new);
        "puts a volume back".into()
    }

    /// Remembers that a volume is being put back, and what its safety snapshot is to keep.
    pub fn expect_back(
        &mut self,
        op: OperationId,
        (volume, pool): (VolumeId, PoolId),
        safety: SnapshotId,
        old: u64,
        new: u64,
    ) {
        self.snapshots.push((safety, volume, pool));
        self.may_hold_snapshot.insert(safety, BTreeSet::from([old]));
        self.put_back.push(PutBack {
            op,
            volume,
            pool,
            safety,
            old,
            new,
        });
    }

    /// Users look at what became of what they asked for.
    pub async fn learn(&mut self, ground: &Ground, world: &mut World) {
        for (volume, (op, may_hold)) in std::mem::take(&mut self.made_from) {
            let op_row = ground.operation(op).await;
            if op_row.state == OperationState::Succeeded {
                let pool = self
                    .volumes
                    .iter()
                    .find(|(id, _)| *id == volume)
                    .expect("a pool")
                    .1;
                let held = world.pool(pool).volumes.get(&volume);
                let held = held.expect("I2: a volume that was made is there").content;
                let right = may_hold.as_ref().is_none_or(|m| m.contains(&held));
                assert!(
                    right,
                    "I1: a volume was made of {may_hold:?} and holds {held}"
                );
                self.known.insert(volume, held);
            } else if !op_row.state.is_terminal() {
                self.made_from.insert(volume, (op, may_hold));
            }
        }
        let mut open = Vec::new();
        for back in std::mem::take(&mut self.put_back) {
            if self.is_open(ground, &back).await {
                open.push(back);
                continue;
            }
            let op = ground.operation(back.op).await;
            let kept = ground.snapshot(back.safety).await.is_some();
            let held = world.pool(back.pool).volumes.get(&back.volume);
            let held = held.expect("I1: a volume that was put back").content;
            let succeeded = op.state == OperationState::Succeeded;
            let expected = if kept { back.new } else { back.old };
            assert_eq!(
                held, expected,
                "I1, I2: {} {kept}: {:?}",
                op.state, op.failure
            );
            assert!(kept || !succeeded, "I2: success keeps what was there");
            self.known.insert(back.volume, held);
        }
        self.put_back = open;
    }

    /// Whether it is not certain yet whether a volume was put back.
    async fn is_open(&self, ground: &Ground, back: &PutBack) -> bool {
        let mut conn = ground.db.read().await.expect("a reader");
        let op = operation::operation_by_id(&mut conn, back.op)
            .await
            .expect("a query");
        let over = op.is_some_and(|op| op.state.is_terminal());
        let chores = task::task_chores(&mut conn, back.op)
            .await
            .expect("a query");
        !over || !chores.is_empty()
    }

    /// I1, I2 and I6, at rest.
    pub async fn check(&mut self, ground: &Ground, world: &mut World) {
        self.learn(ground, world).await;
        assert!(
            self.put_back.is_empty(),
            "I2: it stayed unknown whether a volume was put back"
        );
        for (id, pool) in &self.volumes {
            let row = ground.volume(*id).await;
            let held = world
                .pools
                .get(pool)
                .and_then(|p| p.volumes.get(id))
                .copied();
            let state = row.as_ref().map(|v| v.state);
            match state {
                Some(VolumeState::Available | VolumeState::InUse) => {
                    let held = held.expect("I1: an available volume is there");
                    let known = self.known.get(id).copied();
                    assert_eq!(Some(held.content), known, "I1: volume {id}");
                    assert_eq!(row.map(|v| v.size), Some(held.size), "I2: its size");
                }
                Some(VolumeState::Failed) => {}
                None => assert_eq!(held, None, "I6: volume {id} is still in its pool"),
                other => panic!("I5: volume {id} stays {other:?}"),
            }
        }
        self.check_snapshots(ground, world).await;
        self.check_backups(ground, world).await;
        self.check_leftovers(ground, world).await;
    }

    async fn check_snapshots(&self, ground: &Ground, world: &World) {
        for (id, _, pool) in &self.snapshots {
            let state = ground.snapshot(*id).await.map(|s| s.state);
            let held = world
                .pools
                .get(pool)
                .and_then(|p| p.snapshots.get(id))
                .map(|h| h.content);
            match state {
                Some(ItemState::Available) => {
                    let held = held.expect("I1: an available snapshot is there");
                    let right = &self.may_hold_snapshot[id];
                    assert!(
                        right.contains(&held),
                        "I1: snapshot {id}: {held} of {right:?}"
                    );
                }
                Some(ItemState::Failed) => {}
                None => assert_eq!(held, None, "I6: snapshot {id} is still in its pool"),
                other => panic!("I5: snapshot {id} stays {other:?}"),
            }
        }
    }

    async fn check_backups(&self, ground: &Ground, world: &World) {
        for (id, ..) in &self.backups {
            let row = ground.backup(*id).await;
            let held = world.manifests.get(id).map(|h| h.content);
            match row.as_ref().map(|b| b.state) {
                Some(ItemState::Available) => {
                    let held = held.expect("I1: an available backup is there");
                    let right = &self.may_hold_backup[id];
                    assert!(
                        right.contains(&held),
                        "I1: backup {id}: {held} of {right:?}"
                    );
                }
                Some(ItemState::Failed) => {
                    // One whose deletion failed may be there or not; one that was never made
                    // is not.
                    let made = row.is_some_and(|b| b.content_hash.is_some());
                    assert!(
                        made || held.is_none(),
                        "I6: failed backup {id} has a manifest"
                    );
                }
                None => assert_eq!(held, None, "I6: backup {id} is still in its vault"),
                other => panic!("I5: backup {id} stays {other:?}"),
            }
        }
    }

    /// I6: what is stored is named by a row.
    async fn check_leftovers(&self, ground: &Ground, world: &World) {
        assert!(world.runs.is_empty(), "I6: runs are left: {:?}", world.runs);
        for pool in world.pools.values() {
            for id in pool.volumes.keys() {
                let row = ground.volume(*id).await;
                let row = row.unwrap_or_else(|| panic!("I6: volume {id} has no row"));
                let op = self.made_by(ground, *id).await;
                let made = op == Some(OperationState::Succeeded);
                assert!(
                    made,
                    "I6: volume {id} ({}) was not made and is there",
                    row.state
                );
            }
            for id in pool.snapshots.keys() {
                let image = ImageId::from_uuid(id.as_uuid());
                let named =
                    ground.snapshot(*id).await.is_some() || ground.image(image).await.is_some();
                assert!(named, "I6: snapshot {id} has no row");
            }
            for (_, backup) in pool.captures.keys() {
                let row = ground.backup(*backup).await;
                let made = row.is_some_and(|b| b.content_hash.is_some());
                assert!(made, "I6: a capture of {backup} is left");
            }
        }
    }

    async fn made_by(&self, ground: &Ground, volume: VolumeId) -> Option<OperationState> {
        if let Some((op, _)) = self.roots.get(&volume) {
            return Some(ground.operation(*op).await.state);
        }
        for id in &self.accepted {
            let op = ground.operation(*id).await;
            let makes = matches!(
                op.kind,
                OperationKind::VolumeCreate
                    | OperationKind::VolumeImport
                    | OperationKind::VolumeClone
                    | OperationKind::RestoreNew
            );
            if makes && op.volume_id == Some(volume) {
                return Some(op.state);
            }
        }
        None
    }
}
