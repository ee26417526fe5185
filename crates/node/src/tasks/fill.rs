//! Volumes that are in use before they are whole: begun with a look at their backup alone, and filled
//! from it beside everything else that is done with them.
//!
//! ```text
//!  begin ──> shows its backup, over a reader ──> written, compared ──> handed over ──> whole
//!                 ^                                   |                     |
//!                 └──── cancelled, failed, crashed ───┴─────────────────────┘
//! ```
//!
//! **Again after a crash.** What a volume is filled from is in its pool's record, so a fill that is given
//! again begins anew by itself, with the same content at the same places.
//!
//! **Beside.** A fill owns nothing but itself: the volume is opened, closed and deleted meanwhile. One
//! whose volume was deleted ends, which is no failure. Handing over waits for whoever opens the volume
//! at that moment, and a while for one that does not answer.

use std::time::Duration;

use stillpoint_layers::{Error, FillOutcome, Pool, VolumeInfo};
use stillpoint_model::id::VolumeId;
use stillpoint_model::layer_tree::{FillSource, Filling};
use stillpoint_model::progress::Monitor;
use stillpoint_model::task::{TaskFailure, TaskOutcome, TaskSpec};
use stillpoint_model::{ByteCount, ErrorKind};
use stillpoint_vault::ReadCache;

use super::TaskResult;
use super::backup::Sink;
use crate::failure::{misdirected, of_kind, of_pool, of_vault};
use crate::progress::Watch;
use crate::storage::Storage;

/// The pause before a volume that is being opened is asked for once more.
const LOOK: Duration = Duration::from_millis(50);

/// How long somebody who has the volume open may be out of reach before the fill is given up. What was
/// filled would have to be filled again.
const PATIENCE: Duration = Duration::from_mins(10);

/// Does a task of a volume that is in use before it is whole.
pub fn perform(storage: &Storage, pool: &dyn Pool, spec: &TaskSpec, watch: &Watch) -> TaskResult {
    match *spec {
        TaskSpec::VolumeFillBegin {
            volume_id,
            backup_id,
            source_volume_id,
            vault,
        } => {
            let source = FillSource {
                vault,
                source_volume_id,
                backup_id,
            };
            begin(storage, pool, volume_id, source)
        }
        TaskSpec::VolumeFill { volume_id } => fill(storage, pool, volume_id, watch),
        _ => Err(misdirected(spec)),
    }
}

fn begin(storage: &Storage, pool: &dyn Pool, volume: VolumeId, source: FillSource) -> TaskResult {
    let vault = storage.vault(source.vault)?;
    let cache = ReadCache::new(ByteCount::ZERO);
    let reader = vault
        .open_backup(source.source_volume_id, source.backup_id, &cache)
        .and_then(|reader| reader.next_data(0).map(|_| reader));
    let size = reader.map_err(|error| of_vault(&error))?.size();
    made(pool.begin_fill(volume, size, source))
}

fn fill(storage: &Storage, pool: &dyn Pool, volume: VolumeId, watch: &Watch) -> TaskResult {
    let Some(filling) = pool.filling(volume).map_err(|error| of_pool(&error))? else {
        return ended(storage, pool, volume);
    };
    let given = Given {
        pool,
        volume,
        watch,
    };
    let filled = write(storage, &given, filling).and_then(|()| hand_over(storage, &given, watch));
    match filled {
        // Whatever it ended with, its volume was deleted under it.
        Err(_) if given.is_over() => ended(storage, pool, volume),
        Err(failure) => Err(failure),
        Ok(()) => ended(storage, pool, volume),
    }
}

/// Writes the base and compares it, whole, with the manifest.
fn write(storage: &Storage, given: &Given<'_>, filling: Filling) -> Result<(), TaskFailure> {
    let Given { pool, volume, .. } = *given;
    let FillSource {
        vault,
        source_volume_id,
        backup_id,
    } = filling.source;
    let vault = storage.vault(vault)?;
    let info = vault
        .describe(source_volume_id, backup_id)
        .map_err(|error| of_vault(&error))?;
    let base = pool.fill_base(volume).map_err(|error| of_pool(&error))?;
    // An earlier run did it, and did not live to record it.
    let Some(base) = base else {
        return Ok(());
    };
    let sink = Sink::new(pool, volume, info.provisioned, base);
    vault
        .restore(source_volume_id, backup_id, &sink, given)
        .map_err(|error| of_vault(&error))?;
    sink.finish().map_err(|error| of_pool(&error))
}

/// Has the volume stand on its base, once nobody is opening it.
fn hand_over(storage: &Storage, given: &Given<'_>, watch: &Watch) -> Result<(), TaskFailure> {
    let Given { pool, volume, .. } = *given;
    let since = storage.env().monotonic();
    loop {
        match pool.end_fill(volume) {
            Ok(FillOutcome::Whole) => return Ok(()),
            Ok(FillOutcome::GaveWay) => {}
            Err(error @ (Error::HostUnreachable(_) | Error::LayerInUse(_))) => {
                if storage.env().monotonic().saturating_sub(since) > PATIENCE {
                    return Err(of_pool(&error));
                }
            }
            Err(error) => return Err(of_pool(&error)),
        }
        if watch.is_cancelled() {
            let detail = format!("before volume {volume} stood on what it was filled with");
            return Err(of_kind(ErrorKind::Cancelled, detail));
        }
        std::thread::park_timeout(LOOK);
    }
}

/// What became of a volume that is not being filled any more. Nobody reads its backup.
fn ended(storage: &Storage, pool: &dyn Pool, volume: VolumeId) -> TaskResult {
    storage.end_reader(volume);
    match pool.volume(volume) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(TaskOutcome::Done),
        found => made(found),
    }
}

fn made(result: Result<VolumeInfo, Error>) -> TaskResult {
    let VolumeInfo { tip, size, used } = result.map_err(|error| of_pool(&error))?;
    Ok(TaskOutcome::Volume { tip, size, used })
}

/// A fill that was asked for. It stops when its volume is deleted, too.
struct Given<'a> {
    pool: &'a dyn Pool,
    volume: VolumeId,
    watch: &'a Watch,
}

impl Given<'_> {
    /// Whether there is nothing to fill any more.
    fn is_over(&self) -> bool {
        matches!(self.pool.filling(self.volume), Ok(None))
    }
}

impl Monitor for Given<'_> {
    fn progress(&self, done: ByteCount, total: Option<ByteCount>) {
        self.watch.progress(done, total);
    }

    fn is_cancelled(&self) -> bool {
        self.watch.is_cancelled() || self.is_over()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use std::sync::Arc;

    use stillpoint_env::SimEnv;
    use stillpoint_layers::LayerPool;
    use stillpoint_layers::memory::{MemoryDisk, MemoryDriver};
    use stillpoint_model::id::{AccountId, BackupId, PoolId, SnapshotId, TargetId, VaultId};
    use stillpoint_model::item::FreezePolicy;
    use stillpoint_model::task::VaultRef;
    use stillpoint_vault::target::MemoryTarget;
    use stillpoint_vault::{RootKey, Tuning};

    use super::*;
    use crate::tasks::perform as perform_any;
    use crate::tasks::tests::Free;

    /// A backup of a volume that has written something, and a pool.
    struct World {
        env: Arc<SimEnv>,
        pool: Arc<LayerPool<MemoryDriver>>,
        storage: Storage,
        source: FillSource,
        hooks: Free,
    }

    const SIZE: ByteCount = ByteCount::from_mib(8);

    impl World {
        fn new() -> Self {
            let env = Arc::new(SimEnv::new(1));
            let disk = MemoryDisk::new(PoolId::generate(&*env));
            let driver = MemoryDriver::new(disk.clone());
            let pool = Arc::new(LayerPool::open(driver, env.clone()).unwrap());
            let target_id = TargetId::generate(&*env);
            let key = RootKey::from_bytes([7; 32]);
            let storage = Storage::new(env.clone(), PathBuf::new(), Tuning::default())
                .with_pool(pool.clone())
                .with_target(target_id, Arc::new(MemoryTarget::new()), key);
            let source = FillSource {
                vault: VaultRef {
                    target_id,
                    vault_id: VaultId::generate(&*env),
                    account_id: AccountId::generate(&*env),
                },
                source_volume_id: VolumeId::generate(&*env),
                backup_id: BackupId::generate(&*env),
            };
            let hooks = Free::new();
            let world = Self {
                env,
                pool,
                storage,
                source,
                hooks,
            };
            world.back_up(&disk);
            world
        }

        fn back_up(&self, disk: &MemoryDisk) {
            let FillSource {
                vault,
                source_volume_id: volume_id,
                backup_id,
            } = self.source;
            let made = self.pool.create_volume(volume_id, SIZE).unwrap();
            disk.guest_write(made.tip, 1 << 20, &[7; 1 << 20]).unwrap();
            for spec in [
                TaskSpec::BackupCapture {
                    volume_id,
                    backup_id,
                    snapshot_id: None,
                    freeze: FreezePolicy::Skip,
                },
                TaskSpec::BackupUpload {
                    volume_id,
                    backup_id,
                    vault,
                    parent: None,
                    level: Default::default(),
                    keep_until: None,
                    notes: BTreeMap::new(),
                },
            ] {
                self.perform(&spec).unwrap();
            }
        }

        fn perform(&self, spec: &TaskSpec) -> TaskResult {
            perform_any(&self.storage, self.pool.id(), spec, &self.hooks)
        }

        fn begin(&self, volume_id: VolumeId) -> TaskResult {
            self.perform(&TaskSpec::VolumeFillBegin {
                volume_id,
                backup_id: self.source.backup_id,
                source_volume_id: self.source.source_volume_id,
                vault: self.source.vault,
            })
        }

        fn begun(&self) -> VolumeId {
            let volume = VolumeId::generate(&*self.env);
            self.begin(volume).unwrap();
            volume
        }

        fn fill(&self, volume_id: VolumeId) -> TaskResult {
            self.perform(&TaskSpec::VolumeFill { volume_id })
        }
    }

    #[test]
    fn a_volume_shows_its_backup_at_once_and_is_whole_later() {
        let world = World::new();
        let volume = world.begun();
        let begun = world.begin(volume).unwrap();
        assert!(matches!(begun, TaskOutcome::Volume { size: SIZE, .. }));
        let filling = world.pool.filling(volume).unwrap().unwrap();
        assert_eq!(filling.source, world.source);
        let whole = world.fill(volume).unwrap();
        assert_eq!(world.pool.filling(volume).unwrap(), None);
        let TaskOutcome::Volume { tip, size, used } = whole else {
            panic!("{whole:?}");
        };
        assert_eq!((size, used), (SIZE, ByteCount::from_mib(1)));
        let read = world.pool.open_layer(tip).unwrap();
        let mut found = vec![0; 3 << 20];
        read.read_at(0, &mut found).unwrap();
        let is_right = |(at, byte): (usize, &u8)| *byte == if at >> 20 == 1 { 7 } else { 0 };
        assert!(found.iter().enumerate().all(is_right));
        // Both done again answer the same.
        assert_eq!(world.fill(volume).unwrap(), whole);
        assert_eq!(world.begin(volume).unwrap(), whole);
    }

    #[test]
    fn a_backup_that_is_not_there_fails_as_a_restore_does_and_leaves_nothing() {
        let mut world = World::new();
        world.source.backup_id = BackupId::generate(&*world.env);
        let volume_id = VolumeId::generate(&*world.env);
        let failed = world.begin(volume_id).unwrap_err();
        let FillSource {
            vault,
            source_volume_id,
            backup_id,
        } = world.source;
        let restore = TaskSpec::BackupRestore {
            volume_id,
            backup_id,
            source_volume_id,
            vault,
        };
        assert_eq!(failed, world.perform(&restore).unwrap_err());
        assert!(world.pool.volume(volume_id).is_err());
    }

    #[test]
    fn a_fill_whose_volume_is_deleted_under_it_just_ends() {
        let world = World::new();
        let volume = world.begun();
        // As it is found by a fill that is writing.
        let _base = world.pool.fill_base(volume).unwrap();
        world
            .perform(&TaskSpec::VolumeDelete { volume_id: volume })
            .unwrap();
        let given = Given {
            pool: &*world.pool,
            volume,
            watch: &world.hooks.0,
        };
        assert!(given.is_cancelled());
        assert_eq!(world.fill(volume).unwrap(), TaskOutcome::Done);
    }

    #[test]
    fn a_fill_that_is_cancelled_can_be_done_again() {
        let world = World::new();
        let volume = world.begun();
        world.hooks.0.cancel();
        assert_eq!(world.fill(volume).unwrap_err().kind, ErrorKind::Cancelled);
        assert!(world.pool.filling(volume).unwrap().is_some());
        let hooks = Free::new();
        let world = World { hooks, ..world };
        assert!(matches!(
            world.fill(volume).unwrap(),
            TaskOutcome::Volume { .. }
        ));
    }

    #[test]
    fn a_snapshot_of_what_is_not_whole_is_a_conflict_with_a_sentence() {
        let world = World::new();
        let volume_id = world.begun();
        let snapshot_id = SnapshotId::generate(&*world.env);
        let seal = TaskSpec::SnapshotSeal {
            volume_id,
            snapshot_id,
            freeze: FreezePolicy::Skip,
        };
        let failure = world.perform(&seal).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Conflict);
        assert!(failure.text.contains("still being filled"), "{failure:?}");
    }
}
