//! Any driver, failing where a test says.
//!
//! Steps are counted from 1: whatever changes the storage is one. A crash lets nothing through
//! afterwards, so that the test drops the pool and opens another on what is left.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stillpoint_model::ByteCount;
use stillpoint_model::id::{LayerId, PoolId, VolumeId};
use stillpoint_model::layer_tree::{Layer, VolumeRecord};

use crate::driver::{Found, Join, LayerMap, LayerWriter, LiveStorage};
use crate::{Capabilities, Driver, Error};

/// What happens at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails, without a change; later steps work.
    Fail,
    /// The process dies before it.
    CrashBefore,
    /// The process dies after it.
    CrashAfter,
    /// From this step on nothing can be added, only removed.
    Full,
}

/// The plan of faults, shared between a test and the driver.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    state: Arc<Mutex<FaultState>>,
}

#[derive(Debug, Default)]
struct FaultState {
    steps: u64,
    fault: Option<(u64, Fault)>,
    crashed: Option<u64>,
}

impl Faults {
    /// Lets `fault` happen at step `at` from now on, and counts from the beginning.
    pub fn inject(&self, at: u64, fault: Fault) {
        *self.state() = FaultState {
            fault: Some((at, fault)),
            ..FaultState::default()
        };
    }

    /// No more faults; counts from the beginning.
    pub fn clear(&self) {
        *self.state() = FaultState::default();
    }

    /// How many steps there were.
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    fn state(&self) -> MutexGuard<'_, FaultState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one step under the plan; `adds` tells whether it needs space.
    fn step<T>(&self, adds: bool, run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let (now, fault) = {
            let mut state = self.state();
            if let Some(step) = state.crashed {
                return Err(Error::Crashed(step));
            }
            state.steps += 1;
            (state.steps, state.fault)
        };
        match fault {
            Some((at, Fault::Full)) if now >= at && adds => Err(Error::Full),
            Some((at, Fault::Fail)) if now == at => Err(Error::io(
                "a step that a test chose",
                std::io::Error::other("injected"),
            )),
            Some((at, Fault::CrashBefore)) if now == at => {
                self.state().crashed = Some(now);
                Err(Error::Crashed(now))
            }
            Some((at, Fault::CrashAfter)) if now == at => {
                let _answer_is_lost = run();
                self.state().crashed = Some(now);
                Err(Error::Crashed(now))
            }
            _ => run(),
        }
    }

    fn alive(&self) -> Result<(), Error> {
        self.state()
            .crashed
            .map_or(Ok(()), |step| Err(Error::Crashed(step)))
    }
}

/// A driver under a plan of faults.
pub struct FaultyDriver<D> {
    inner: D,
    faults: Faults,
}

impl<D: Driver> FaultyDriver<D> {
    /// Puts `inner` under the plan.
    pub const fn new(inner: D, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

impl<D: Driver> Driver for FaultyDriver<D> {
    fn id(&self) -> PoolId {
        self.inner.id()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn load(&self) -> Result<Found, Error> {
        self.faults.alive()?;
        self.inner.load()
    }

    fn create_layer(
        &self,
        layer: LayerId,
        owner: VolumeId,
        parent: Option<LayerId>,
        size: ByteCount,
    ) -> Result<(), Error> {
        self.faults
            .step(true, || self.inner.create_layer(layer, owner, parent, size))
    }

    fn own_layer(&self, layer: LayerId, owner: VolumeId) -> Result<(), Error> {
        self.faults
            .step(false, || self.inner.own_layer(layer, owner))
    }

    fn grow_layer(&self, layer: LayerId, size: ByteCount) -> Result<(), Error> {
        self.faults
            .step(false, || self.inner.grow_layer(layer, size))
    }

    fn seal_layer(&self, layer: LayerId) -> Result<(), Error> {
        self.faults.step(false, || self.inner.seal_layer(layer))
    }

    fn remove_layer(&self, layer: LayerId) -> Result<(), Error> {
        self.faults.step(false, || self.inner.remove_layer(layer))
    }

    fn put_record(&self, volume: VolumeId, record: &VolumeRecord) -> Result<(), Error> {
        self.faults
            .step(false, || self.inner.put_record(volume, record))
    }

    fn remove_record(&self, volume: VolumeId) -> Result<(), Error> {
        self.faults.step(false, || self.inner.remove_record(volume))
    }

    fn allocated(&self, layer: LayerId) -> Result<ByteCount, Error> {
        self.faults.alive()?;
        self.inner.allocated(layer)
    }

    fn check_unused(&self, layer: LayerId) -> Result<(), Error> {
        self.inner.check_unused(layer)
    }

    fn open_layer(
        &self,
        layer: LayerId,
        parent: Option<LayerId>,
    ) -> Result<Box<dyn LayerMap>, Error> {
        self.faults.alive()?;
        self.inner.open_layer(layer, parent)
    }

    fn begin_layer(
        &self,
        layer: LayerId,
        owner: VolumeId,
        size: ByteCount,
    ) -> Result<Box<dyn LayerWriter>, Error> {
        let inner = self
            .faults
            .step(true, || self.inner.begin_layer(layer, owner, size))?;
        Ok(Box::new(FaultyWriter {
            inner,
            faults: self.faults.clone(),
        }))
    }

    fn reopen_layer(&self, layer: LayerId, size: ByteCount) -> Result<Box<dyn LayerWriter>, Error> {
        let inner = self
            .faults
            .step(false, || self.inner.reopen_layer(layer, size))?;
        Ok(Box::new(FaultyWriter {
            inner,
            faults: self.faults.clone(),
        }))
    }

    fn join_layers(&self, join: &Join) -> Result<(), Error> {
        self.faults.step(false, || self.inner.join_layers(join))
    }

    fn unfinished(&self) -> Result<Vec<(Option<LayerId>, String)>, Error> {
        self.inner.unfinished()
    }

    fn remove_unfinished(&self, name: &str) -> Result<(), Error> {
        self.faults
            .step(false, || self.inner.remove_unfinished(name))
    }

    fn space(&self) -> Result<(ByteCount, ByteCount), Error> {
        self.inner.space()
    }

    fn block_graph(&self, volume: VolumeId, chain: &[LayerId]) -> Result<serde_json::Value, Error> {
        self.inner.block_graph(volume, chain)
    }

    fn live(&self) -> Option<&dyn LiveStorage> {
        self.inner.live().is_some().then_some(self)
    }
}

impl<D: Driver> FaultyDriver<D> {
    fn live_inner(&self) -> Result<&dyn LiveStorage, Error> {
        self.faults.alive()?;
        self.inner.live().ok_or(Error::Unsupported("be open"))
    }
}

impl<D: Driver> LiveStorage for FaultyDriver<D> {
    fn node(&self, volume: VolumeId, layer: LayerId) -> String {
        let live = self.inner.live();
        live.map(|live| live.node(volume, layer))
            .unwrap_or_default()
    }

    fn file_of(&self, layer: LayerId) -> LayerId {
        self.inner.live().map_or(layer, |live| live.file_of(layer))
    }

    fn backing_name(&self, layer: LayerId) -> String {
        let live = self.inner.live();
        live.map(|live| live.backing_name(layer))
            .unwrap_or_default()
    }

    fn is_open(&self, layer: LayerId) -> Result<bool, Error> {
        self.live_inner()?.is_open(layer)
    }

    fn inspect(&self, layer: LayerId) -> Result<Layer, Error> {
        self.live_inner()?.inspect(layer)
    }

    fn unseal(&self, layer: LayerId) -> Result<(), Error> {
        let live = self.live_inner()?;
        self.faults.step(false, || live.unseal(layer))
    }

    fn sync(&self, layer: LayerId) -> Result<(), Error> {
        let live = self.live_inner()?;
        self.faults.step(false, || live.sync(layer))
    }

    fn drop_file(&self, file: LayerId) -> Result<(), Error> {
        let live = self.live_inner()?;
        self.faults.step(false, || live.drop_file(file))
    }

    fn settle(
        &self,
        layer: LayerId,
        owner: VolumeId,
        parent: Option<LayerId>,
    ) -> Result<(), Error> {
        let live = self.live_inner()?;
        self.faults
            .step(false, || live.settle(layer, owner, parent))
    }
}

struct FaultyWriter {
    inner: Box<dyn LayerWriter>,
    faults: Faults,
}

impl LayerWriter for FaultyWriter {
    fn reserve(&self, offset: u64, len: u64) -> Result<(), Error> {
        let Self { inner, faults } = self;
        faults.step(true, || inner.reserve(offset, len))
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let Self { inner, faults } = self;
        faults.step(true, || inner.write_at(offset, data))
    }

    fn zero_at(&self, offset: u64, len: u64) -> Result<(), Error> {
        let Self { inner, faults } = self;
        faults.step(false, || inner.zero_at(offset, len))
    }

    fn finish(self: Box<Self>) -> Result<(), Error> {
        let Self { inner, faults } = *self;
        faults.step(false, || inner.finish())
    }
}
