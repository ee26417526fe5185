//! Pools and vaults as a table of contents: one number stands for what a volume holds.
//!
//! Every task happens at once, and again is as once, as the real ones promise. An upload has the
//! real one's three moments: its run begins, it asks for leave, it puts the manifest, which the
//! vault refuses when the run was reaped meanwhile.

use std::collections::BTreeMap;

use stillpoint_model::id::{BackupId, InstanceId, LayerId, PoolId, SnapshotId, VolumeId};
use stillpoint_model::image;
use stillpoint_model::instance::{Power, Sight};
use stillpoint_model::item::Consistency;
use stillpoint_model::refusal::ProblemCode;
use stillpoint_model::task::{CloneSource, SealPoint, TaskFailure, TaskOutcome, TaskSpec};
use stillpoint_model::{ByteCount, ErrorKind};
use uuid::Uuid;

type Answer = Result<TaskOutcome, TaskFailure>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub content: u64,
    pub size: ByteCount,
}

/// What a pool holds.
#[derive(Debug, Default)]
pub struct Pool {
    pub volumes: BTreeMap<VolumeId, Held>,
    pub snapshots: BTreeMap<SnapshotId, Held>,
    pub captures: BTreeMap<(VolumeId, BackupId), Held>,
}

/// A machine that has volumes open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub pool: PoolId,
    pub power: Power,
    pub open: Vec<VolumeId>,
}

/// Everything that survives a crash of nodes.
#[derive(Debug, Default)]
pub struct World {
    pub pools: BTreeMap<PoolId, Pool>,
    pub manifests: BTreeMap<BackupId, Held>,
    pub runs: BTreeMap<BackupId, u64>,
    pub machines: BTreeMap<InstanceId, Machine>,
    last: u64,
}

pub const SMALL: ByteCount = ByteCount::from_mib(1);
const TIP: LayerId = LayerId::from_uuid(Uuid::from_u128(1));

pub fn failure(kind: ErrorKind) -> TaskFailure {
    TaskFailure {
        kind,
        code: ProblemCode::Internal,
        text: "It did not work.".into(),
        detail: "simulated".into(),
    }
}

fn missing() -> TaskFailure {
    failure(ErrorKind::NotFound)
}

fn volume(held: Held) -> TaskOutcome {
    TaskOutcome::Volume {
        tip: TIP,
        size: held.size,
        used: held.size,
    }
}

fn sealed(held: Held) -> TaskOutcome {
    TaskOutcome::Sealed {
        layer: TIP,
        tip: TIP,
        consistency: Consistency::Stopped,
        provisioned: held.size,
        used: held.size,
        changed: held.size,
    }
}

impl Pool {
    fn volume(&self, id: VolumeId) -> Result<Held, TaskFailure> {
        self.volumes.get(&id).copied().ok_or_else(missing)
    }

    fn snapshot(&self, id: SnapshotId) -> Result<Held, TaskFailure> {
        self.snapshots.get(&id).copied().ok_or_else(missing)
    }

    /// Puts `held` where `id` was; what was there becomes the safety snapshot.
    fn replace(&mut self, id: VolumeId, held: Held, safety: SnapshotId) -> Answer {
        let old = self.volume(id)?;
        self.snapshots.insert(safety, old);
        self.volumes.insert(id, held);
        Ok(volume(held))
    }
}

impl World {
    pub fn pool(&mut self, id: PoolId) -> &mut Pool {
        self.pools.entry(id).or_default()
    }

    /// A content that nothing had before.
    pub fn fresh(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Begins the run of an upload; answers its number, or what is there already.
    pub fn begin_upload(&mut self, backup: BackupId) -> Result<u64, Box<TaskOutcome>> {
        if let Some(held) = self.manifests.get(&backup) {
            return Err(Box::new(stored(*held)));
        }
        let run = self.fresh();
        self.runs.insert(backup, run);
        Ok(run)
    }

    /// Puts the manifest of a run, unless the run was reaped.
    pub fn put_manifest(
        &mut self,
        pool: PoolId,
        volume: VolumeId,
        backup: BackupId,
        run: u64,
    ) -> Answer {
        if self.runs.get(&backup) != Some(&run) {
            return Err(failure(ErrorKind::Fenced));
        }
        let held = self.pool(pool).captures.get(&(volume, backup)).copied();
        let held = held.ok_or_else(missing)?;
        self.runs.remove(&backup);
        self.manifests.insert(backup, held);
        Ok(stored(held))
    }

    /// What the machines of a pool's node do.
    pub fn sights(&self, pool: PoolId) -> Vec<Sight> {
        let here = self.machines.iter().filter(|(_, m)| m.pool == pool);
        here.map(|(id, machine)| Sight {
            instance_id: *id,
            power: machine.power,
            crashed: false,
            storage_full: Vec::new(),
            agent_answered: true,
            load: None,
        })
        .collect()
    }

    fn seen(&self, id: InstanceId) -> TaskOutcome {
        let machine = self.machines.get(&id);
        TaskOutcome::Machine {
            power: machine.map_or(Power::Off, |m| m.power),
            open: machine.map(|m| m.open.clone()).unwrap_or_default(),
        }
    }

    fn turn(&mut self, id: InstanceId, power: Power) -> Answer {
        let machine = self.machines.get_mut(&id);
        machine.ok_or_else(|| failure(ErrorKind::Conflict))?.power = power;
        Ok(self.seen(id))
    }

    /// Does a task of a machine.
    fn perform_machine(&mut self, pool: PoolId, spec: &TaskSpec) -> Answer {
        let id = match *spec {
            TaskSpec::InstanceStart {
                instance_id,
                ref machine,
                ..
            } => {
                let open = machine.disks.iter().map(|disk| disk.volume_id).collect();
                let power = Power::Running;
                self.machines
                    .entry(instance_id)
                    .or_insert(Machine { pool, power, open });
                instance_id
            }
            TaskSpec::InstanceStop { instance_id, .. }
            | TaskSpec::InstanceRemove { instance_id } => {
                self.machines.remove(&instance_id);
                instance_id
            }
            TaskSpec::InstancePause { instance_id } => {
                return self.turn(instance_id, Power::Paused);
            }
            TaskSpec::InstanceResume { instance_id } => {
                return self.turn(instance_id, Power::Running);
            }
            TaskSpec::VolumePlug { instance_id, disk } => {
                if let Some(machine) = self.machines.get_mut(&instance_id)
                    && !machine.open.contains(&disk.volume_id)
                {
                    machine.open.push(disk.volume_id);
                }
                instance_id
            }
            TaskSpec::VolumeUnplug {
                instance_id,
                volume_id,
            } => {
                if let Some(machine) = self.machines.get_mut(&instance_id) {
                    machine.open.retain(|open| *open != volume_id);
                }
                instance_id
            }
            TaskSpec::InstanceInspect { instance_id } => instance_id,
            _ => panic!("no task of a machine: {spec:?}"),
        };
        Ok(self.seen(id))
    }

    /// Does any other task.
    #[expect(clippy::too_many_lines, reason = "one arm per task")]
    pub fn perform(&mut self, pool_id: PoolId, spec: &TaskSpec) -> Answer {
        let fresh = self.fresh();
        let manifest = |world: &Self, id| world.manifests.get(&id).copied().ok_or_else(missing);
        match *spec {
            TaskSpec::VolumeCreate { volume_id, size } => {
                let held = Held { content: 0, size };
                Ok(volume(
                    *self.pool(pool_id).volumes.entry(volume_id).or_insert(held),
                ))
            }
            TaskSpec::VolumeImport { volume_id, .. } => {
                let held = Held {
                    content: fresh,
                    size: SMALL,
                };
                Ok(volume(
                    *self.pool(pool_id).volumes.entry(volume_id).or_insert(held),
                ))
            }
            TaskSpec::VolumeFromImage {
                volume_id,
                image_id,
                size,
            } => {
                let pool = self.pool(pool_id);
                if let Ok(held) = pool.volume(volume_id) {
                    return Ok(volume(held));
                }
                let held = Held {
                    size,
                    ..pool.snapshot(image::sealed(image_id))?
                };
                pool.volumes.insert(volume_id, held);
                Ok(volume(held))
            }
            TaskSpec::VolumeClone { volume_id, source } => {
                let pool = self.pool(pool_id);
                if let Ok(held) = pool.volume(volume_id) {
                    return Ok(volume(held));
                }
                let held = match source {
                    CloneSource::Snapshot(id) => pool.snapshot(id)?,
                    CloneSource::Volume(id) => pool.volume(id)?,
                };
                pool.volumes.insert(volume_id, held);
                Ok(volume(held))
            }
            TaskSpec::VolumeResize { volume_id, size } => {
                let pool = self.pool(pool_id);
                let held = pool.volumes.get_mut(&volume_id).ok_or_else(missing)?;
                held.size = held.size.max(size);
                Ok(volume(*held))
            }
            TaskSpec::VolumeDelete { volume_id } => {
                let pool = self.pool(pool_id);
                pool.volumes.remove(&volume_id);
                pool.captures.retain(|(volume, _), _| *volume != volume_id);
                Ok(TaskOutcome::Done)
            }
            TaskSpec::VolumeInspect { volume_id, witness } => {
                let pool = self.pool(pool_id);
                let held = pool.volume(volume_id)?;
                let witness = witness.is_some_and(|id| pool.snapshots.contains_key(&id));
                Ok(TaskOutcome::Inspected {
                    tip: TIP,
                    size: held.size,
                    used: held.size,
                    witness,
                })
            }
            TaskSpec::SnapshotSeal {
                volume_id,
                snapshot_id,
                ..
            } => {
                let pool = self.pool(pool_id);
                let held = match pool.snapshot(snapshot_id) {
                    Ok(held) => held,
                    Err(_) => pool.volume(volume_id)?,
                };
                pool.snapshots.insert(snapshot_id, held);
                Ok(sealed(held))
            }
            TaskSpec::SnapshotSealTogether { ref points, freeze } => {
                let seal = |point: &SealPoint| TaskSpec::SnapshotSeal {
                    volume_id: point.volume_id,
                    snapshot_id: point.snapshot_id,
                    freeze,
                };
                let tasks = points.iter().map(seal).collect();
                self.perform(pool_id, &TaskSpec::All { tasks })
            }
            TaskSpec::SnapshotSealWithMemory { .. }
            | TaskSpec::MemoryVerify { .. }
            | TaskSpec::MemoryDrop { .. } => Err(failure(ErrorKind::Unsupported)),
            TaskSpec::SnapshotVerify { snapshot_id } => {
                self.pool(pool_id).snapshot(snapshot_id)?;
                Ok(TaskOutcome::Done)
            }
            TaskSpec::SnapshotDrop { snapshot_id } => {
                self.pool(pool_id).snapshots.remove(&snapshot_id);
                Ok(TaskOutcome::Done)
            }
            TaskSpec::VolumeRollBack {
                volume_id,
                snapshot_id,
                safety_id,
            } => {
                let pool = self.pool(pool_id);
                if pool.snapshots.contains_key(&safety_id) {
                    return pool.volume(volume_id).map(volume);
                }
                let held = pool.snapshot(snapshot_id)?;
                pool.replace(volume_id, held, safety_id)
            }
            TaskSpec::VolumeSwitch {
                volume_id,
                staged_id,
                safety_id,
            } => {
                let pool = self.pool(pool_id);
                if pool.snapshots.contains_key(&safety_id) {
                    return pool.volume(volume_id).map(volume);
                }
                let held = pool.volume(staged_id)?;
                let answer = pool.replace(volume_id, held, safety_id)?;
                pool.volumes.remove(&staged_id);
                Ok(answer)
            }
            TaskSpec::BackupCapture {
                volume_id,
                backup_id,
                snapshot_id,
                ..
            } => {
                let pool = self.pool(pool_id);
                let key = (volume_id, backup_id);
                let held = match (pool.captures.get(&key), snapshot_id) {
                    (Some(held), _) => *held,
                    (None, Some(id)) => pool.snapshot(id)?,
                    (None, None) => pool.volume(volume_id)?,
                };
                pool.captures.insert(key, held);
                Ok(sealed(held))
            }
            TaskSpec::BackupSettle {
                volume_id,
                backup_id,
            } => {
                let keep = |(volume, backup): &(VolumeId, BackupId)| {
                    *volume != volume_id || *backup == backup_id
                };
                self.pool(pool_id).captures.retain(|key, _| keep(key));
                Ok(TaskOutcome::Done)
            }
            TaskSpec::BackupVerify { backup_id, .. } => {
                manifest(self, backup_id)?;
                Ok(TaskOutcome::Done)
            }
            TaskSpec::BackupReap {
                volume_id,
                backup_id,
                ..
            }
            | TaskSpec::BackupDelete {
                volume_id,
                backup_id,
                ..
            } => {
                self.runs.remove(&backup_id);
                self.manifests.remove(&backup_id);
                self.pool(pool_id).captures.remove(&(volume_id, backup_id));
                Ok(TaskOutcome::Done)
            }
            TaskSpec::BackupRestore {
                volume_id,
                backup_id,
                ..
            } => {
                let held = manifest(self, backup_id)?;
                self.pool(pool_id).volumes.insert(volume_id, held);
                Ok(volume(held))
            }
            TaskSpec::VolumeFillBegin {
                volume_id,
                backup_id,
                ..
            } => {
                let held = manifest(self, backup_id)?;
                let volumes = &mut self.pool(pool_id).volumes;
                Ok(volume(*volumes.entry(volume_id).or_insert(held)))
            }
            TaskSpec::VolumeFill { volume_id } => match self.pool(pool_id).volume(volume_id) {
                Ok(held) => Ok(volume(held)),
                Err(_) => Ok(TaskOutcome::Done),
            },
            TaskSpec::All { ref tasks } => {
                let outcomes = tasks.iter().map(|task| self.perform(pool_id, task));
                let outcomes = outcomes.collect::<Result<_, _>>()?;
                Ok(TaskOutcome::All { outcomes })
            }
            TaskSpec::InstanceStart { .. }
            | TaskSpec::InstanceStop { .. }
            | TaskSpec::InstancePause { .. }
            | TaskSpec::InstanceResume { .. }
            | TaskSpec::InstanceRemove { .. }
            | TaskSpec::InstanceInspect { .. }
            | TaskSpec::VolumePlug { .. }
            | TaskSpec::VolumeUnplug { .. } => self.perform_machine(pool_id, spec),
            TaskSpec::PoolTidy => Ok(TaskOutcome::Tidied {
                merged: 0,
                removed: 0,
                unfinished: false,
            }),
            TaskSpec::BackupUpload { .. }
            | TaskSpec::VaultCollect { .. }
            | TaskSpec::VaultVerify { .. }
            | TaskSpec::VaultMend { .. }
            | TaskSpec::VaultCopy { .. } => Err(failure(ErrorKind::Internal)),
        }
    }
}

fn stored(held: Held) -> TaskOutcome {
    TaskOutcome::Stored {
        provisioned: held.size,
        used: held.size,
        changed: held.size,
        stored: held.size,
        bytes_read: held.size,
        content_hash: format!("{:064x}", held.content),
    }
}
