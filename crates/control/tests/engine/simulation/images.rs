//! Users with images and with snapshots of whole instances, and what must be true of them.

use std::collections::BTreeSet;

use stillpoint_model::ByteCount;
use stillpoint_model::id::{ImageId, InstanceId, InstanceSnapshotId, PoolId, SnapshotId, VolumeId};
use stillpoint_model::image::sealed;
use stillpoint_model::instance::{Instance, Power};
use stillpoint_model::item::{FreezePolicy, ItemState};
use stillpoint_model::saga::{ImageContent, PutBack, Request, RestoreSource};
use stillpoint_model::task::SealPoint;
use stillpoint_model::volume::Volume;

use super::storage::{SMALL, World};
use super::users::{Users, pick};
use crate::ground::{Ground, Wanted};

/// An image, and what it may hold.
pub struct Made {
    id: ImageId,
    pool: PoolId,
    may_hold: BTreeSet<u64>,
}

/// A snapshot of an instance, and what each of its parts holds.
pub struct Whole {
    id: InstanceSnapshotId,
    instance: InstanceId,
    pool: PoolId,
    parts: Vec<Part>,
}

/// The part of a volume, and what it holds.
#[derive(Clone, Copy)]
struct Part {
    volume: VolumeId,
    snapshot: SnapshotId,
    content: u64,
}

fn about(request: Request, pool: PoolId) -> Wanted {
    Wanted {
        request,
        pool,
        volume: None,
        snapshot: None,
        backup: None,
        instance: None,
        image: None,
        whole: None,
    }
}

impl Users {
    /// Asks for something about an image, or for a new one of a snapshot.
    pub async fn ask_of_image(&mut self, ground: &Ground, world: &World) -> String {
        if self.images.is_empty() || pick(ground, 3) == 0 {
            return self.make_image(ground, world).await;
        }
        let Made { id, pool, .. } = self.images[pick(ground, self.images.len())];
        let row = ground.image(id).await;
        let Some(row) = row.filter(|row| row.state == ItemState::Available) else {
            return "waits".into();
        };
        if pick(ground, 3) == 0 {
            if !self.is_idle_item(ground, id.as_uuid()).await {
                return "waits".into();
            }
            let wanted = Wanted {
                image: Some(id),
                ..about(Request::ImageDelete, pool)
            };
            self.accept(ground, wanted).await;
            return "deletes an image".into();
        }
        let new = VolumeId::generate(&*ground.env);
        let size = row.size.max(SMALL) + ByteCount::from_mib(1);
        let holds = self.images.iter().find(|made| made.id == id);
        let holds = holds.map(|made| made.may_hold.clone());
        let request = Request::VolumeFromImage { image_id: id, size };
        let wanted = Wanted {
            volume: Some(new),
            image: Some(id),
            ..about(request, pool)
        };
        self.begin_volume(ground, wanted, holds).await
    }

    async fn make_image(&mut self, ground: &Ground, world: &World) -> String {
        let Some((snapshot, pool)) = self.usable_snapshot(ground).await else {
            return "waits".into();
        };
        let held = world
            .pools
            .get(&pool)
            .and_then(|p| p.snapshots.get(&snapshot));
        let held = held.expect("I1: an available snapshot").content;
        let source = RestoreSource::Snapshot {
            snapshot_id: snapshot,
        };
        let content = ImageContent::RestorePoint { source };
        let id = ImageId::generate(&*ground.env);
        let wanted = Wanted {
            snapshot: Some(snapshot),
            image: Some(id),
            ..about(Request::ImageCreate { content }, pool)
        };
        self.accept(ground, wanted).await;
        self.images.push(Made {
            id,
            pool,
            may_hold: BTreeSet::from([held]),
        });
        "asks for an image".into()
    }

    /// Captures an instance that nothing holds, half of the time as an image, too; or deletes a
    /// snapshot of one.
    pub async fn ask_of_whole(
        &mut self,
        ground: &Ground,
        world: &World,
        row: &Instance,
        pool: PoolId,
    ) -> String {
        if !self.wholes.is_empty() && pick(ground, 3) == 0 {
            return self.forget_whole(ground).await;
        }
        let volumes = ground.volumes_of(row.id).await;
        let idle = volumes.iter().all(|v| v.active_operation.is_none());
        let certain = volumes.iter().all(|v| self.is_certain(v.id));
        let part = |volume: &Volume| {
            Some(Part {
                volume: volume.id,
                snapshot: SnapshotId::generate(&*ground.env),
                content: world.pools.get(&pool)?.volumes.get(&volume.id)?.content,
            })
        };
        let parts: Option<Vec<Part>> = volumes.iter().map(part).collect();
        let Some(parts) = parts.filter(|parts| idle && certain && !parts.is_empty()) else {
            return "waits".into();
        };
        if row.power == Power::Off && pick(ground, 2) == 0 {
            return self.rebuild(ground, row.id, pool, &parts).await;
        }
        let point = |part: &Part| SealPoint {
            volume_id: part.volume,
            snapshot_id: part.snapshot,
        };
        let points = parts.iter().map(point).collect();
        let id = InstanceSnapshotId::generate(&*ground.env);
        let image = (pick(ground, 2) == 0).then(|| ImageId::generate(&*ground.env));
        let freeze = FreezePolicy::Try;
        self.capture(
            ground,
            row.id,
            pool,
            (id, image),
            Request::InstanceSnapshotCreate {
                points,
                freeze,
                memory: false,
            },
        )
        .await;
        if let Some(id) = image {
            let may_hold = BTreeSet::from([parts[0].content]);
            self.images.push(Made { id, pool, may_hold });
        }
        self.wholes.push(Whole {
            id,
            instance: row.id,
            pool,
            parts,
        });
        "asks for an instance snapshot".into()
    }

    async fn capture(
        &mut self,
        ground: &Ground,
        instance: InstanceId,
        pool: PoolId,
        (whole, image): (InstanceSnapshotId, Option<ImageId>),
        request: Request,
    ) {
        let wanted = Wanted {
            instance: Some(instance),
            whole: Some(whole),
            image,
            ..about(request, pool)
        };
        self.accept(ground, wanted).await;
    }

    /// Puts an instance back to a snapshot of it, when its volumes are those that it had.
    async fn rebuild(
        &mut self,
        ground: &Ground,
        instance: InstanceId,
        pool: PoolId,
        now: &[Part],
    ) -> String {
        let of_it = |whole: &&Whole| {
            let volumes = whole.parts.iter().map(|part| part.volume);
            whole.instance == instance && volumes.eq(now.iter().map(|part| part.volume))
        };
        let Some(Whole { id, parts, .. }) = self.wholes.iter().rfind(of_it) else {
            return "waits".into();
        };
        let (id, parts) = (*id, parts.clone());
        let usable = ground.whole(id).await;
        let usable = usable.is_some_and(|whole| whole.state == ItemState::Available);
        if !usable || !self.is_idle_item(ground, id.as_uuid()).await {
            return "waits".into();
        }
        let put_back = |part: &Part| PutBack {
            volume_id: part.volume,
            snapshot_id: part.snapshot,
            safety_id: SnapshotId::generate(&*ground.env),
        };
        let put_back: Vec<_> = parts.iter().map(put_back).collect();
        let wanted = Wanted {
            instance: Some(instance),
            whole: Some(id),
            ..about(
                Request::InstanceRebuild {
                    put_back: put_back.clone(),
                    go_on: None,
                },
                pool,
            )
        };
        let op = self.accept(ground, wanted).await;
        for ((one, old), new) in put_back.iter().zip(now).zip(&parts) {
            self.expect_back(
                op,
                (old.volume, pool),
                one.safety_id,
                old.content,
                new.content,
            );
        }
        "puts an instance back".into()
    }

    async fn forget_whole(&mut self, ground: &Ground) -> String {
        let Whole {
            id, pool, parts, ..
        } = &self.wholes[pick(ground, self.wholes.len())];
        let (id, pool) = (*id, *pool);
        let snapshots: Vec<_> = parts.iter().map(|part| part.snapshot).collect();
        let usable = ground.whole(id).await;
        let usable = usable.is_some_and(|whole| whole.state == ItemState::Available);
        if !usable || !self.is_idle_item(ground, id.as_uuid()).await {
            return "waits".into();
        }
        let wanted = Wanted {
            whole: Some(id),
            ..about(Request::InstanceSnapshotDelete { snapshots }, pool)
        };
        self.accept(ground, wanted).await;
        "deletes an instance snapshot".into()
    }

    /// An image in this pool that a new instance can boot from, its size and what it holds.
    pub async fn bootable(
        &self,
        ground: &Ground,
        pool: PoolId,
    ) -> Option<(ImageId, ByteCount, BTreeSet<u64>)> {
        let here = self.images.iter().rfind(|made| made.pool == pool)?;
        let row = ground.image(here.id).await?;
        let usable = row.state == ItemState::Available;
        usable.then(|| (here.id, row.size, here.may_hold.clone()))
    }

    /// I1, I5 and I6 of images and of instance snapshots, at rest.
    pub async fn check_images(&self, ground: &Ground, world: &World) {
        for Made { id, pool, may_hold } in &self.images {
            let held = world.pools.get(pool);
            let held = held.and_then(|p| p.snapshots.get(&sealed(*id)));
            match ground.image(*id).await.map(|row| row.state) {
                Some(ItemState::Available) => {
                    let held = held.expect("I1: an available image is there").content;
                    assert!(may_hold.contains(&held), "I1: image {id}: {held}");
                }
                Some(ItemState::Failed) => {}
                None => assert_eq!(held, None, "I6: image {id} is still in its pool"),
                other => panic!("I5: image {id} stays {other:?}"),
            }
        }
        for Whole {
            id, pool, parts, ..
        } in &self.wholes
        {
            let state = ground.whole(*id).await.map(|row| row.state);
            let ended = matches!(state, None | Some(ItemState::Available | ItemState::Failed));
            assert!(ended, "I5: instance snapshot {id} stays {state:?}");
            for part in parts {
                let held = world.pools.get(pool);
                let held = held.and_then(|p| p.snapshots.get(&part.snapshot));
                let row = ground.snapshot(part.snapshot).await.map(|row| row.state);
                match state {
                    Some(ItemState::Available) => {
                        assert_eq!(row, Some(ItemState::Available), "I2: a part of {id}");
                        assert_eq!(held.map(|h| h.content), Some(part.content), "I1: of {id}");
                    }
                    None => assert_eq!((row, held), (None, None), "I6: a part of {id}"),
                    // Not made, or not quite deleted.
                    _ => {}
                }
            }
        }
    }
}
