//! Users with instances, guests that die, and what must be true of both.

use std::collections::BTreeSet;

use stillpoint_model::id::{InstanceId, PoolId, VolumeId};
use stillpoint_model::instance::{
    Instance, InstanceState, MachineDisk, MachineOrder, Power, StopMode,
};
use stillpoint_model::saga::{DiskSource, NewDisk, Request};
use stillpoint_model::volume::Volume;

use super::storage::{SMALL, World};
use super::users::{Users, pick};
use crate::ground::{Ground, Wanted};

const INSTANCES: usize = 4;

fn disk(pool_id: PoolId, volume_id: VolumeId, place: u32) -> MachineDisk {
    MachineDisk {
        volume_id,
        pool_id,
        place,
    }
}

fn order(disks: Vec<MachineDisk>) -> MachineOrder {
    MachineOrder {
        hostname: "guest".into(),
        vcpus: 1,
        memory: SMALL,
        disks,
    }
}

impl Users {
    /// Asks for something about an instance, or for a new one; or a guest dies.
    pub async fn ask_of_instance(&mut self, ground: &Ground, world: &mut World) -> String {
        if self.instances.len() < INSTANCES && pick(ground, 2) == 0 {
            return self.make_instance(ground).await;
        }
        if self.instances.is_empty() {
            return "waits".into();
        }
        let (id, pool) = self.instances[pick(ground, self.instances.len())];
        if pick(ground, 12) == 0 {
            return format!("a guest dies: {}", world.machines.remove(&id).is_some());
        }
        let Some(row) = ground.instance(id).await else {
            return "waits".into();
        };
        let settled = matches!(row.state, InstanceState::Active | InstanceState::Stopped);
        if !settled || row.active_operation.is_some() {
            return "waits".into();
        }
        if pick(ground, 3) == 0 {
            return self.ask_of_whole(ground, world, &row, pool).await;
        }
        let Some((request, volume)) = self.request(ground, &row, pool).await else {
            return "waits".into();
        };
        let wanted = Wanted {
            request,
            pool,
            volume,
            snapshot: None,
            backup: None,
            instance: Some(id),
            image: None,
            whole: None,
        };
        let said = format!("asks for {}", wanted.request.kind());
        self.accept(ground, wanted).await;
        said
    }

    async fn make_instance(&mut self, ground: &Ground) -> String {
        let (_, pool) = ground.nodes[pick(ground, ground.nodes.len())];
        let (id, root) = (
            InstanceId::generate(&*ground.env),
            VolumeId::generate(&*ground.env),
        );
        let image = match pick(ground, 2) {
            0 => self.bootable(ground, pool).await,
            _ => None,
        };
        let (from, image, may_hold) = match image {
            Some((image_id, size, may_hold)) => (
                DiskSource::Image { image_id, size },
                Some(image_id),
                may_hold,
            ),
            None => (DiskSource::Empty { size: SMALL }, None, BTreeSet::from([0])),
        };
        let make = NewDisk {
            volume_id: root,
            from,
        };
        let request = Request::InstanceCreate {
            machine: order(vec![disk(pool, root, 0)]),
            make: vec![make],
            start: pick(ground, 2) == 0,
            memory: None,
        };
        let wanted = Wanted {
            request,
            pool,
            volume: None,
            snapshot: None,
            backup: None,
            instance: Some(id),
            image,
            whole: None,
        };
        let op = self.accept(ground, wanted).await;
        self.instances.push((id, pool));
        self.roots.insert(root, (op, may_hold));
        "asks for an instance".into()
    }

    async fn request(
        &self,
        ground: &Ground,
        row: &Instance,
        pool: PoolId,
    ) -> Option<(Request, Option<VolumeId>)> {
        let volumes = ground.volumes_of(row.id).await;
        let (mut roots, mut data) = (Vec::new(), Vec::new());
        for volume in &volumes {
            let place = volume.own_instance().map_or(0, |own| own.place);
            let which = if place == 0 { &mut roots } else { &mut data };
            which.push(disk(pool, volume.id, place));
        }
        let ids = |disks: &[MachineDisk]| disks.iter().map(|d| d.volume_id).collect::<Vec<_>>();
        let still = |v: &Volume| v.active_operation.is_none() && self.is_certain(v.id);
        let idle = volumes.iter().all(still);
        Some(match (pick(ground, 8), row.power) {
            (0..2, Power::Off) => {
                let machine = order(roots.into_iter().chain(data).collect());
                (Request::InstanceStart { machine }, None)
            }
            (0, _) | (5, Power::Running) => {
                let mode = StopMode::USUAL;
                (Request::InstanceStop { mode }, None)
            }
            (1 | 2, Power::Running) => (Request::InstancePause, None),
            (1..5, Power::Paused) => (Request::InstanceResume, None),
            (2..5, _) => {
                let (volume, home) = self.idle_volume(ground).await?;
                let disk = disk(pool, volume, row.next_place + 1);
                let here = home == pool;
                here.then_some((Request::VolumeAttach { disk }, Some(volume)))?
            }
            (5..7, _) if idle => {
                let disk = *data.first()?;
                (Request::VolumeDetach { disk }, Some(disk.volume_id))
            }
            (7, _) if idle => {
                let (keep, delete) = (ids(&data), ids(&roots));
                let was = row.state;
                (Request::InstanceDelete { was, keep, delete }, None)
            }
            _ => return None,
        })
    }

    /// I6: rows and machines say the same, at rest.
    pub async fn check_instances(&self, ground: &Ground, world: &World) {
        for (id, _) in &self.instances {
            let machine = world.machines.get(id);
            let Some(row) = ground.instance(*id).await else {
                assert_eq!(machine, None, "I6: the machine of {id} has no row");
                continue;
            };
            let power = machine.map_or(Power::Off, |m| m.power);
            assert_eq!(row.power, power, "I6: {id}");
            let ended = row.state == InstanceState::Failed || row.state == power.settled_state();
            assert!(ended, "I5: instance {id} stays {}", row.state);
            let mut attached: Vec<_> = ground.volumes_of(*id).await.iter().map(|v| v.id).collect();
            for volume in &attached {
                let mut pools = world.pools.values();
                let held = pools.find_map(|p| p.volumes.get(volume));
                let failed = row.state == InstanceState::Failed;
                assert!(
                    held.is_some() || failed,
                    "I1: {volume} of {id} is not there"
                );
                if let (Some(held), Some((_, may_hold))) = (held, self.roots.get(volume)) {
                    let right = may_hold.contains(&held.content);
                    assert!(right, "I1: the root of {id}: {held:?} of {may_hold:?}");
                }
            }
            let mut open = machine.map(|m| m.open.clone()).unwrap_or_default();
            attached.sort();
            open.sort();
            if power.has_volumes_open() {
                assert_eq!(attached, open, "I6: {id} has other volumes open");
            }
        }
        for id in world.machines.keys() {
            let known = self.instances.iter().any(|(known, _)| known == id);
            assert!(known, "I6: a machine that nobody asked for");
        }
    }
}
