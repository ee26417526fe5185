//! Stillpoint's qcow2 pool: snapshot, roll back and clone, each durable when it returns.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stillpoint_env::SystemEnv;
use stillpoint_layers::qcow2::Qcow2Driver;
use stillpoint_layers::{LayerPool, Pool};
use stillpoint_model::Env;
use stillpoint_model::id::{PoolId, SnapshotId, VolumeId};
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::task::CloneSource;
use stillpoint_tests::mount::ExportedVolume;

use super::Contender;
use crate::samples::timed;
use crate::volumes::Volume;

/// The pool, with each of the measured volumes in it.
pub struct OurPool {
    env: Arc<dyn Env>,
    pool: LayerPool<Qcow2Driver>,
    volumes: Vec<(Volume, VolumeId)>,
}

impl OurPool {
    pub fn new(folder: &Path) -> Self {
        let env: Arc<dyn Env> = Arc::new(SystemEnv::new());
        let path: PathBuf = folder.join("pool");
        let driver = Qcow2Driver::open(&path, PoolId::generate(&*env)).expect("a pool");
        let pool = LayerPool::open(driver, Arc::clone(&env)).expect("a pool");
        Self {
            env,
            pool,
            volumes: Vec::new(),
        }
    }

    fn id(&self, volume: Volume) -> VolumeId {
        let found = self.volumes.iter().find(|(known, _)| *known == volume);
        found.expect("the volume was prepared").1
    }

    /// Everything as it was before the round.
    fn tidy(&self) {
        loop {
            let candidates = self.pool.merge_candidates();
            let Some(candidate) = candidates.first() else {
                return;
            };
            self.pool.merge(candidate, &NullMonitor).expect("merge");
        }
    }
}

impl Contender for OurPool {
    fn rows(&self) -> &'static [&'static str] {
        &[
            "Stillpoint snapshot",
            "Stillpoint roll back",
            "Stillpoint clone",
        ]
    }

    fn prepare(&mut self, volume: Volume) {
        let id = VolumeId::generate(&*self.env);
        self.pool.create_volume(id, volume.size).expect("a volume");
        if volume.written {
            let graph = self.pool.block_graph(id).expect("its graph").to_string();
            let exported = ExportedVolume::open(&[graph], true);
            volume.fill(&exported.path());
            exported.close();
        }
        self.volumes.push((volume, id));
    }

    fn round(&mut self, volume: Volume) -> Vec<Duration> {
        let id = self.id(volume);
        let [snapshot, safety] = [(); 2].map(|()| SnapshotId::generate(&*self.env));
        let copy = VolumeId::generate(&*self.env);
        let (taken, sealed) = timed(|| self.pool.snapshot(id, snapshot));
        sealed.expect("a snapshot");
        let (rolled_back, back) = timed(|| self.pool.roll_back(id, snapshot, safety));
        back.expect("a roll back");
        let source = CloneSource::Snapshot(snapshot);
        let (cloned, clone) = timed(|| self.pool.clone_volume(source, copy));
        clone.expect("a clone");

        self.pool.delete_volume(copy).expect("delete the clone");
        self.pool
            .delete_snapshot(safety)
            .expect("delete the safety snapshot");
        self.pool
            .delete_snapshot(snapshot)
            .expect("delete the snapshot");
        self.tidy();
        vec![taken, rolled_back, cloned]
    }
}
