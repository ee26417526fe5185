//! The state that a pool, its readers and its writers share, and the execution of plans.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use stillpoint_model::Env;
use stillpoint_model::id::{LayerId, VolumeId};
use stillpoint_model::layer_tree::{
    FreshLayers, Inconsistency, LayerTree, Refusal, Request, Step, VolumeRecord,
};

use super::merge::{Moved, Way};
use crate::driver::LayerMap;
use crate::live::LiveHost;
use crate::{Driver, Error, Orphan};

/// What a pool, its readers and its writers share.
pub(super) struct Shared<D> {
    pub(super) driver: D,
    env: Arc<dyn Env>,
    state: Mutex<State>,
    /// Who runs guests, once connected.
    pub(super) host: Mutex<Option<Arc<dyn LiveHost>>>,
    /// Signalled when a merge has let go of its layers, or a switch of its volumes.
    let_go: Condvar,
}

/// What the lock protects.
pub(super) struct State {
    pub(super) tree: LayerTree,
    /// What the storage holds that cannot be read, in words.
    pub(super) damaged: Vec<String>,
    /// Whether what looks unneeded may be needed by something that is damaged or lost.
    pub(super) is_in_doubt: bool,
    /// Whether the tree must be read anew, because a step failed and nobody knows how far.
    stale: bool,
    /// How many readers go through a layer.
    pub(super) pins: BTreeMap<LayerId, usize>,
    /// The layers of merges that run.
    pub(super) merging: BTreeSet<LayerId>,
    /// The layers that somebody waits for, and how many do.
    wanted: BTreeMap<LayerId, usize>,
    /// The volumes that are being written, with the layer.
    pub(super) making: BTreeMap<VolumeId, LayerId>,
    /// How far merges came that gave way.
    pub(super) moved: BTreeMap<Way, Moved>,
    /// The volumes that are being switched to overlays, or grown, by whoever has them open.
    pub(super) switching: BTreeSet<VolumeId>,
    /// The volumes in whose open chains a merge runs, with the upper layer.
    pub(super) live_merges: BTreeMap<VolumeId, LayerId>,
    /// The volumes whose records tell of something under way that nobody in this process does.
    pub(super) undecided: BTreeSet<VolumeId>,
}

impl State {
    /// Whether the tree is to be read anew.
    pub(super) const fn is_stale(&self) -> bool {
        self.stale
    }

    /// Whether nobody reads, merges or makes it.
    pub(super) fn is_idle(&self, layer: LayerId) -> bool {
        !self.is_used(layer) && !self.making.values().any(|made| *made == layer)
    }

    /// Whether somebody reads it, merges it, or waits for it (who waits comes before the next
    /// merge), or its being there tells what became of a switch.
    pub(super) fn is_used(&self, layer: LayerId) -> bool {
        self.pins.contains_key(&layer)
            || self.merging.contains(&layer)
            || self.is_wanted(layer)
            || self.is_evidence(layer)
    }

    /// Whether a volume that is not decided yet was to switch together with this overlay.
    fn is_evidence(&self, layer: LayerId) -> bool {
        let records = self.undecided.iter().filter_map(|v| self.tree.record(*v));
        let mut pending = records.filter_map(|record| record.pending.as_ref());
        pending.any(|pending| pending.together.values().any(|overlay| *overlay == layer))
    }

    /// Whether somebody waits for it.
    pub(super) fn is_wanted(&self, layer: LayerId) -> bool {
        self.wanted.contains_key(&layer)
    }

    fn want(&mut self, layers: &[LayerId]) {
        for layer in layers {
            *self.wanted.entry(*layer).or_default() += 1;
        }
    }

    fn want_no_more(&mut self, layers: &[LayerId]) {
        for layer in layers {
            if let Some(count) = self.wanted.get_mut(layer) {
                *count -= 1;
                if *count == 0 {
                    self.wanted.remove(layer);
                }
            }
        }
    }
}

impl<D: Driver> Shared<D> {
    pub(super) fn new(driver: D, env: Arc<dyn Env>) -> Self {
        let state = State {
            tree: LayerTree::default(),
            damaged: Vec::new(),
            is_in_doubt: false,
            stale: true,
            pins: BTreeMap::new(),
            merging: BTreeSet::new(),
            wanted: BTreeMap::new(),
            making: BTreeMap::new(),
            moved: BTreeMap::new(),
            switching: BTreeSet::new(),
            live_merges: BTreeMap::new(),
            undecided: BTreeSet::new(),
        };
        Self {
            driver,
            env,
            state: Mutex::new(state),
            host: Mutex::new(None),
            let_go: Condvar::new(),
        }
    }

    /// The state with a tree that is what the storage holds.
    pub(super) fn lock(&self) -> Result<MutexGuard<'_, State>, Error> {
        let mut state = self.lock_as_is();
        if state.stale {
            self.load(&mut state)?;
        }
        Ok(state)
    }

    /// The state, whatever the tree is worth. A panic elsewhere made it stale at worst.
    pub(super) fn lock_as_is(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned: PoisonError<_>| {
                let mut state = poisoned.into_inner();
                state.stale = true;
                state
            })
    }

    fn load(&self, state: &mut State) -> Result<(), Error> {
        let found = self.driver.load()?;
        state.tree = LayerTree::new(found.layers, found.records.clone());
        state.damaged = found.damaged.iter().map(ToString::to_string).collect();
        for text in &state.damaged {
            tracing::warn!(pool = %self.driver.id(), "{text}");
        }
        let mut is_record_lost = false;
        for found in state.tree.inconsistencies() {
            tracing::warn!(pool = %self.driver.id(), "{found}");
            is_record_lost |= matches!(found, Inconsistency::NoRecord { .. });
        }
        state.is_in_doubt = is_record_lost || !state.damaged.is_empty();
        state.moved.clear();
        self.complete(state, &found.records)?;
        self.settle_places(state)?;
        state.stale = false;
        state.undecided = self.left_undecided(state);
        Ok(())
    }

    /// The volumes whose records tell of something under way that nobody here does.
    fn left_undecided(&self, state: &State) -> BTreeSet<VolumeId> {
        let is_left = |volume: VolumeId, record: &VolumeRecord| {
            let is_switching = state.switching.contains(&volume);
            let is_merging = state.live_merges.contains_key(&volume);
            (record.pending.is_some() && !is_switching) || (record.joining.is_some() && !is_merging)
        };
        let records = state.tree.records();
        records
            .filter(|(volume, record)| is_left(*volume, record))
            .map(|(volume, _)| volume)
            .collect()
    }

    /// Stores what the tree made of records that a crash left out of date, and ends what it
    /// cut off.
    fn complete(
        &self,
        state: &mut State,
        stored: &BTreeMap<VolumeId, VolumeRecord>,
    ) -> Result<(), Error> {
        for (volume, record) in state.tree.records() {
            if stored.get(&volume) != Some(record) {
                self.driver.put_record(volume, record)?;
            }
        }
        for step in state.tree.repairs() {
            match self.drive(state, &step) {
                Ok(()) => state.tree.apply(&step),
                // Another time: until then the layer's old owner keeps its record.
                Err(Error::LayerInUse(layer)) => tracing::warn!(%layer, "is in use, owner not set"),
                Err(error) => return Err(error),
            }
        }
        for volume in stored.keys() {
            self.forget_spent(state, *volume)?;
        }
        Ok(())
    }

    /// Removes a volume's record if it has nothing left to tell. In doubt it stays.
    pub(super) fn forget_spent(&self, state: &mut State, volume: VolumeId) -> Result<(), Error> {
        if state.is_in_doubt || state.making.contains_key(&volume) || !state.tree.is_spent(volume) {
            return Ok(());
        }
        self.step(state, &Step::RemoveRecord { volume })
    }

    pub(super) fn fresh_layer(&self) -> LayerId {
        LayerId::generate(self.env.as_ref())
    }

    /// Plans what is asked and does it.
    pub(super) fn execute(&self, state: &mut State, request: &Request) -> Result<(), Error> {
        let fresh = FreshLayers {
            first: self.fresh_layer(),
            second: self.fresh_layer(),
        };
        let plan = state.tree.plan(request, fresh)?;
        let mut touched = BTreeSet::new();
        for step in &plan.steps {
            touched.extend(match step {
                Step::PutRecord { volume, .. } => Some(*volume),
                Step::RemoveLayer { layer } | Step::OwnLayer { layer, .. } => {
                    state.tree.layer(*layer).map(|layer| layer.owner)
                }
                _ => None,
            });
            self.step(state, step)?;
        }
        for volume in touched {
            self.forget_spent(state, volume)?;
        }
        Ok(())
    }

    /// Removes a layer that is garbage, and what only explained it; false when it stays.
    pub(super) fn remove_garbage(&self, state: &mut State, layer: LayerId) -> Result<bool, Error> {
        let Some(owner) = state.tree.layer(layer).map(|layer| layer.owner) else {
            return Ok(true);
        };
        if !self.may_remove(state, layer) {
            return Ok(false);
        }
        self.step(state, &Step::RemoveLayer { layer })?;
        self.forget_spent(state, owner)?;
        Ok(true)
    }

    /// Does steps in order.
    pub(super) fn steps(&self, state: &mut State, steps: &[Step]) -> Result<(), Error> {
        steps.iter().try_for_each(|step| self.step(state, step))
    }

    /// Does something to the storage; when it fails, the tree is to be read anew.
    pub(super) fn or_stale<T>(
        &self,
        state: &mut State,
        change: impl FnOnce(&Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        change(self).inspect_err(|_| state.stale = true)
    }

    /// Does one step and records it in the tree.
    pub(super) fn step(&self, state: &mut State, step: &Step) -> Result<(), Error> {
        if let Step::RemoveLayer { layer } = step
            && !self.may_remove(state, *layer)
        {
            return Ok(());
        }
        if let Err(error) = self.drive(state, step) {
            state.stale = true;
            return Err(error);
        }
        state.tree.apply(step);
        Ok(())
    }

    fn drive(&self, state: &State, step: &Step) -> Result<(), Error> {
        match step {
            Step::CreateLayer {
                layer,
                owner,
                parent,
                size,
            } => self.driver.create_layer(*layer, *owner, *parent, *size),
            Step::OwnLayer { layer, owner } => self.driver.own_layer(*layer, *owner),
            Step::GrowLayer { layer, size } => self.driver.grow_layer(*layer, *size),
            Step::PutRecord { volume, record } => self.driver.put_record(*volume, record),
            Step::RemoveRecord { volume } => self.driver.remove_record(*volume),
            Step::SealLayer { layer } if state.tree.layer(*layer).is_some() => {
                self.driver.seal_layer(*layer)
            }
            Step::RemoveLayer { layer } => self.driver.remove_layer(*layer),
            Step::SealLayer { .. } | Step::JoinLayers { .. } => Ok(()),
        }
    }

    /// Whether a layer is garbage beyond doubt and nobody uses it right now.
    fn may_remove(&self, state: &State, layer: LayerId) -> bool {
        !state.is_in_doubt
            && state.is_idle(layer)
            && state.tree.names(layer).next().is_none()
            && state.tree.children(layer).next().is_none()
    }

    /// Refuses a volume that is being written.
    pub(super) fn check_free(&self, state: &State, volume: VolumeId) -> Result<(), Error> {
        if state.making.contains_key(&volume) {
            return Err(Error::InTheMaking(volume));
        }
        Ok(())
    }

    /// Refuses a layer that stands on something missing or damaged, with the precise reason.
    pub(super) fn check_chain(&self, state: &State, layer: LayerId) -> Result<(), Error> {
        let chain = state.tree.chain(layer);
        let broken = match chain.last() {
            None => Some(layer),
            Some(last) => state.tree.layer(*last).and_then(|layer| layer.parent),
        };
        match broken {
            None => Ok(()),
            Some(broken) => match self.driver.open_layer(broken, None) {
                Err(error) => Err(error),
                Ok(_) => Err(Error::NoLayer(broken)),
            },
        }
    }

    /// Opens layers for reading, each alone.
    pub(super) fn open_maps(
        &self,
        state: &State,
        layers: &[LayerId],
    ) -> Result<Vec<Box<dyn LayerMap>>, Error> {
        layers
            .iter()
            .map(|id| {
                let layer = state.tree.layer(*id).ok_or(Error::NoLayer(*id))?;
                self.driver.open_layer(*id, layer.parent)
            })
            .collect()
    }

    /// Brings what a layer occupies up to date.
    pub(super) fn measure(&self, state: &mut State, layer: LayerId) -> Result<(), Error> {
        let allocated = self.driver.allocated(layer)?;
        state.tree.set_allocated(layer, allocated);
        Ok(())
    }

    /// The state once no merge works on the layers that `find` names; makes merges give way.
    pub(super) fn lock_unmerged(
        &self,
        find: impl Fn(&LayerTree) -> Vec<LayerId>,
    ) -> Result<MutexGuard<'_, State>, Error> {
        let mut state = self.lock()?;
        loop {
            let mut layers = find(&state.tree);
            layers.retain(|layer| state.merging.contains(layer));
            if layers.is_empty() {
                break;
            }
            state = self.wait(state, &layers)?;
        }
        self.settle(&mut state)?;
        let layers = find(&state.tree);
        for volume in &state.undecided {
            let joining = state.tree.record(*volume).and_then(|record| record.joining);
            let pair = joining.map(|joining| [joining.parent, joining.child]);
            if pair.is_some_and(|pair| pair.iter().any(|layer| layers.contains(layer))) {
                return Err(Refusal::Undecided(*volume).into());
            }
        }
        Ok(state)
    }

    /// The state after something let go of layers or volumes; merges of these layers give way.
    pub(super) fn wait<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        layers: &[LayerId],
    ) -> Result<MutexGuard<'a, State>, Error> {
        state.want(layers);
        let mut state = self
            .let_go
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
        state.want_no_more(layers);
        if state.stale {
            self.load(&mut state)?;
        }
        Ok(state)
    }

    /// Lets those go on who wait for layers or volumes.
    pub(super) fn notify(&self) {
        self.let_go.notify_all();
    }

    /// A merge has let go of its layers.
    pub(super) fn end_merge(&self, state: &mut State, layers: [LayerId; 2]) {
        for layer in layers {
            state.merging.remove(&layer);
        }
        self.notify();
    }

    pub(super) fn mark_stale(&self, state: &mut State) {
        state.stale = true;
    }

    pub(super) fn orphans(&self) -> Result<Vec<Orphan>, Error> {
        let state = self.lock()?;
        let making: BTreeSet<LayerId> = state.making.values().copied().collect();
        let unfinished = self.driver.unfinished()?.into_iter();
        let mut found: Vec<Orphan> = unfinished
            .filter(|(layer, _)| layer.is_none_or(|layer| !making.contains(&layer)))
            .map(|(_, name)| Orphan::Unfinished(name))
            .collect();
        let layers = state.tree.layers().map(|(id, _)| id);
        found.extend(
            layers
                .filter(|id| self.may_remove(&state, *id))
                .map(Orphan::Layer),
        );
        Ok(found)
    }

    pub(super) fn reap(&self, orphans: &[Orphan]) -> Result<u32, Error> {
        let known: BTreeSet<Orphan> = self.orphans()?.into_iter().collect();
        let mut removed = 0;
        for orphan in orphans.iter().filter(|orphan| known.contains(orphan)) {
            let mut state = self.lock()?;
            match orphan {
                Orphan::Layer(layer) => {
                    if !self.remove_garbage(&mut state, *layer)? {
                        continue;
                    }
                }
                Orphan::Unfinished(name) => self.driver.remove_unfinished(name)?,
            }
            removed += 1;
        }
        Ok(removed)
    }
}
