//! A pool under test, and the ways to use it as the node and guests would.

use std::sync::Arc;

use stillpoint_model::id::{LayerId, SnapshotId, VolumeId};
use stillpoint_model::layer_tree::{MergeCandidate, VolumeRecord};
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::{ByteCount, Env};

use crate::fault::{Faults, FaultyDriver};
use crate::live::LiveHost;
use crate::{BLOCK_SIZE, Driver, Error, LayerPool, MergeOutcome, Pool};

/// Storage that a driver can be opened on again and again, as after a restart.
pub trait Storage {
    /// The driver.
    type Driver: Driver;

    /// Opens the storage. The driver opened before was dropped.
    fn driver(&self) -> Self::Driver;

    /// Guests that write to volumes while the pool works; none to write to closed volumes.
    fn guests(&self) -> Option<Arc<dyn Guests>> {
        None
    }
}

/// Guests that go through the layers of their volumes on their own.
pub trait Guests {
    /// Who runs them.
    fn host(&self) -> Arc<dyn LiveHost>;

    /// The volumes that are open.
    fn running(&self) -> Vec<VolumeId>;

    /// Opens a volume with this block graph.
    fn start(&self, volume: VolumeId, graph: &serde_json::Value);

    /// Closes a volume properly.
    fn stop(&self, volume: VolumeId);

    /// Ends all of them as a crash would.
    fn crash(&self);

    /// Writes, durably.
    fn write(&self, volume: VolumeId, offset: u64, data: &[u8]);

    /// Writes zeros, durably.
    fn zero(&self, volume: VolumeId, offset: u64, len: u64);

    /// All that the guest sees.
    fn read(&self, volume: VolumeId) -> Vec<u8>;
}

/// The size of the volumes in most checks: a few clusters of any driver.
pub(super) const SIZE: ByteCount = ByteCount::from_mib(1);

pub(super) struct World<S: Storage> {
    storage: S,
    guests: Option<Arc<dyn Guests>>,
    pub(super) faults: Faults,
    pub(super) env: Arc<dyn Env>,
    pool: Option<LayerPool<FaultyDriver<S::Driver>>>,
}

impl<S: Storage> World<S> {
    pub(super) fn new(storage: S, env: Arc<dyn Env>) -> Self {
        let mut world = Self {
            guests: storage.guests(),
            storage,
            faults: Faults::default(),
            env,
            pool: None,
        };
        world.reopen();
        world
    }

    /// Ends the process.
    #[cfg(test)]
    pub(super) fn close(&mut self) {
        self.pool = None;
    }

    /// Ends the process and starts another.
    pub(super) fn reopen(&mut self) {
        self.pool = None;
        self.faults.clear();
        let driver = FaultyDriver::new(self.storage.driver(), self.faults.clone());
        let pool = LayerPool::open(driver, Arc::clone(&self.env)).expect("opens");
        if let Some(guests) = &self.guests {
            pool.connect(guests.host());
        }
        self.pool = Some(pool);
    }

    /// Whether its volumes are no files.
    pub(super) fn is_memory(&self) -> bool {
        self.pool().capabilities().kind == "memory"
    }

    /// Whether guests run while the pool works.
    pub(super) fn is_live(&self) -> bool {
        self.guests.is_some()
    }

    /// Gives a volume to a guest, where there are any.
    pub(super) fn start(&self, volume: VolumeId) {
        if let Some(guests) = &self.guests
            && !guests.running().contains(&volume)
        {
            let graph = self.pool().block_graph(volume).expect("has a graph");
            guests.start(volume, &graph);
        }
    }

    /// Takes a volume from its guest, as before it is deleted or overwritten.
    pub(super) fn stop(&self, volume: VolumeId) {
        if let Some(guests) = &self.guests {
            guests.stop(volume);
        }
    }

    pub(super) fn stop_all(&self) {
        if let Some(guests) = &self.guests {
            guests.running().into_iter().for_each(|v| guests.stop(v));
        }
    }

    /// Ends all guests as a crash would.
    pub(super) fn crash_guests(&self) {
        if let Some(guests) = &self.guests {
            guests.crash();
        }
    }

    /// Removes a volume's record behind the pool's back, as a disk or a person would.
    pub(super) fn lose_record(&mut self, volume: VolumeId) -> VolumeRecord {
        let record = self.pool().tree().record(volume).cloned();
        self.pool = None;
        self.storage.driver().remove_record(volume).expect("loses");
        self.reopen();
        record.expect("had a record")
    }

    pub(super) fn put_back(&mut self, volume: VolumeId, record: &VolumeRecord) {
        self.pool = None;
        let driver = self.storage.driver();
        driver.put_record(volume, record).expect("puts back");
        drop(driver);
        self.reopen();
    }

    pub(super) fn pool(&self) -> &LayerPool<FaultyDriver<S::Driver>> {
        self.pool.as_ref().expect("is open")
    }

    pub(super) fn volume_id(&self) -> VolumeId {
        VolumeId::generate(self.env.as_ref())
    }

    pub(super) fn snapshot_id(&self) -> SnapshotId {
        SnapshotId::generate(self.env.as_ref())
    }

    /// A number below `bound`.
    pub(super) fn below(&self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.env.fill_random(&mut bytes);
        u64::from_le_bytes(bytes) % bound
    }

    /// A new volume of [`SIZE`].
    pub(super) fn volume(&self) -> VolumeId {
        let volume = self.volume_id();
        self.pool().create_volume(volume, SIZE).expect("creates");
        volume
    }

    pub(super) fn snapshot(&self, volume: VolumeId) -> SnapshotId {
        let snapshot = self.snapshot_id();
        self.pool().snapshot(volume, snapshot).expect("snapshots");
        snapshot
    }

    /// What a guest does: fills whole blocks of a volume with a byte; zero discards them.
    pub(super) fn write(&mut self, volume: VolumeId, first_block: u64, blocks: u64, byte: u8) {
        let info = self.pool().volume(volume).expect("exists");
        let offset = first_block * BLOCK_SIZE;
        let len = (blocks * BLOCK_SIZE).min(info.size.get() - offset);
        let data = vec![byte; usize::try_from(len).unwrap()];
        if let Some(guests) = self.guests.clone() {
            self.start(volume);
            return match byte {
                0 => guests.zero(volume, offset, len),
                _ => guests.write(volume, offset, &data),
            };
        }
        self.pool = None;
        let writer = self
            .storage
            .driver()
            .reopen_layer(info.tip, info.size)
            .expect("opens");
        if byte == 0 {
            writer.zero_at(offset, len).expect("zeros");
        } else {
            writer.write_at(offset, &data).expect("writes");
        }
        writer.finish().expect("syncs");
        self.reopen();
    }

    /// Everything a layer shows; holes must be zeros.
    pub(super) fn read_layer(&self, layer: LayerId) -> Vec<u8> {
        let reader = self.pool().open_layer(layer).expect("opens");
        let mut content = vec![0xff; usize::try_from(reader.size().get()).unwrap()];
        reader.read_at(0, &mut content).expect("reads");
        let mut offset = 0;
        while let Some(extent) = reader.extent_at(offset).expect("maps") {
            assert_eq!(extent.range.offset, offset);
            let end = usize::try_from(extent.range.end()).unwrap();
            let part = &content[usize::try_from(offset).unwrap()..end];
            assert!(
                extent.data || part.iter().all(|byte| *byte == 0),
                "a hole with data"
            );
            offset = extent.range.end();
        }
        assert_eq!(offset, reader.size().get());
        content
    }

    pub(super) fn read_volume(&self, volume: VolumeId) -> Vec<u8> {
        if let Some(guests) = &self.guests
            && guests.running().contains(&volume)
        {
            return guests.read(volume);
        }
        self.read_layer(self.pool().volume(volume).expect("exists").tip)
    }

    pub(super) fn read_snapshot(&self, snapshot: SnapshotId) -> Vec<u8> {
        self.pool()
            .verify_snapshot(snapshot, &NullMonitor)
            .expect("is whole");
        self.read_layer(self.pool().snapshot_layer(snapshot).expect("exists"))
    }

    /// Does every merge and removal there is; what several guests have open waits.
    pub(super) fn tidy(&self) -> Result<usize, Error> {
        let mut done = 0;
        let mut waits = Vec::new();
        loop {
            let mut candidates = self.pool().merge_candidates();
            candidates.retain(|candidate| !waits.contains(candidate));
            let Some(candidate) = candidates.first() else {
                break;
            };
            match self.pool().merge(candidate, &NullMonitor)? {
                MergeOutcome::Done => done += 1,
                MergeOutcome::GaveWay => {
                    assert!(self.is_live(), "nobody is in the way of {candidate:?}");
                    waits.push(*candidate);
                }
            }
        }
        self.pool().reap(&self.pool().orphans()?)?;
        Ok(done)
    }

    pub(super) fn first_merge(&self) -> MergeCandidate {
        let merges = self.pool().merge_candidates();
        let is_merge =
            |candidate: &&MergeCandidate| matches!(candidate, MergeCandidate::Merge { .. });
        *merges
            .iter()
            .find(is_merge)
            .expect("there is something to merge")
    }

    /// Nothing is damaged; after tidying no file is left that nobody needs.
    pub(super) fn check_consistent(&mut self, name: &str) {
        self.stop_all();
        self.reopen();
        assert_eq!(
            self.pool().damage().expect("loads"),
            Vec::<String>::new(),
            "{name}"
        );
        self.tidy()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(self.pool().orphans().expect("lists"), Vec::new(), "{name}");
        self.reopen();
        assert_eq!(self.pool().merge_candidates(), Vec::new(), "{name}");
    }
}

/// A volume of [`SIZE`] whose blocks hold these bytes; the rest is zeros.
pub(super) fn content(blocks: &[(u64, u64, u8)]) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(SIZE.get()).unwrap()];
    fill(&mut content, blocks);
    content
}

pub(super) fn fill(content: &mut [u8], blocks: &[(u64, u64, u8)]) {
    for (first, count, byte) in blocks {
        let at = |block: u64| {
            usize::try_from(block * BLOCK_SIZE)
                .unwrap()
                .min(content.len())
        };
        let (start, end) = (at(*first), at(first + count));
        content[start..end].fill(*byte);
    }
}
