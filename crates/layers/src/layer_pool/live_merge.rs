//! Merges by whoever has the layers open.
//!
//! ```text
//! record says that it is under way -> the host moves the data, and goes on without one of the two
//!   -> checked, synced -> record places the child (the commit point) -> the other file goes
//! ```
//!
//! Up to the commit point the tree stays what it was, and that is right at every moment: what
//! moved down is covered by the child, what moved up shows the same. So nothing is lost when the
//! host, the pool or both end anywhere in between, and whoever comes next merges again. What the
//! host says is checked before a file goes: every place that one layer holds must be held by the
//! other, in the file as it is.
//!
//! **The tip.** Data moves up into a tip as into any layer. Down from a tip it does not move while
//! a guest writes to it: at the end the guest would write to the parent's file, and no fact on
//! the disk would tell a crashed pool since when. Instead the tip is sealed under an empty
//! overlay first, which facts do tell, and is merged then.
//!
//! **Giving way.** A reader of one of the two, and whoever wants to change the volume, stops it.

use std::sync::Arc;

use stillpoint_model::ByteCount;
use stillpoint_model::id::{LayerId, VolumeId};
use stillpoint_model::item::FreezePolicy;
use stillpoint_model::layer_tree::{
    Direction, Joining, LayerName, LayerTree, MergeCandidate, Placement, Purpose, Step,
    VolumeRecord,
};
use stillpoint_model::progress::Monitor;

use super::live::open_chain;
use super::merge::Way;
use super::shared::{Shared, State};
use crate::driver::{Holds, LayerMap, LiveStorage};
use crate::live::{JoinEnd, LiveHost, LiveJoin};
use crate::{Driver, Error, MergeOutcome};

/// An open tip is merged down when it holds at least this many bytes: each time leaves a new,
/// small tip on a layer without a name, which would otherwise be a candidate at once.
const WORTHWHILE: ByteCount = ByteCount::from_mib(64);

/// What a live merge needs to know.
struct Live<'a> {
    host: Arc<dyn LiveHost>,
    storage: &'a dyn LiveStorage,
    volume: VolumeId,
    way: Way,
}

/// How the host's chain stands to the two layers.
enum Stage {
    /// Both are there.
    ToDo,
    /// The data is in one of them by now.
    Done(Direction),
}

impl<D: Driver> Shared<D> {
    /// Whether somebody has a layer open. A machine that is about to take over another's memory
    /// has files open and does not lock them yet, so hosts are asked, too.
    pub(super) fn is_open(&self, layer: LayerId) -> Result<bool, Error> {
        let Some((host, live)) = self.live() else {
            return Ok(false);
        };
        let (volumes, is_there) = {
            let state = self.lock()?;
            (
                state.tree.volumes_on(layer),
                state.tree.layer(layer).is_some(),
            )
        };
        if is_there && live.is_open(layer)? {
            return Ok(true);
        }
        for volume in volumes {
            if open_chain(&host, volume)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a merge is offered: one down from an open tip must be worth it.
    pub(super) fn is_worthwhile(&self, state: &State, candidate: &MergeCandidate) -> bool {
        match *candidate {
            MergeCandidate::Merge {
                child,
                direction: Direction::Commit,
                bytes,
                ..
            } if !state.tree.is_sealed(child) && bytes < WORTHWHILE => {
                let open = self.live().map(|(_, live)| live.is_open(child));
                !matches!(open, Some(Ok(true))) && !self.is_known_open(state, child)
            }
            _ => true,
        }
    }

    /// The candidate as it can be done: up becomes down where whoever has the layers open cannot
    /// merge up.
    pub(super) fn as_host_can(
        &self,
        tree: &LayerTree,
        candidate: MergeCandidate,
    ) -> MergeCandidate {
        let MergeCandidate::Merge {
            parent,
            child,
            direction: Direction::Stream,
            ..
        } = candidate
        else {
            return candidate;
        };
        let volumes = tree.volumes_on(child);
        let can = self.live().is_none_or(|(host, _)| {
            let mut volumes = volumes.iter();
            volumes.all(|volume| host.can_stream(*volume))
        });
        if can {
            return candidate;
        }
        let bytes = tree.layer(child).map(|layer| layer.allocated);
        MergeCandidate::Merge {
            parent,
            child,
            direction: Direction::Commit,
            bytes: bytes.unwrap_or_default(),
        }
    }

    /// Has two layers merged by whoever has them open.
    pub(super) fn merge_open(
        &self,
        candidate: &MergeCandidate,
        monitor: &dyn Monitor,
    ) -> Result<MergeOutcome, Error> {
        let now = {
            let state = self.lock()?;
            let now = self.still_to_do(&state, candidate);
            now.map(|now| self.as_host_can(&state.tree, now))
        };
        let Some(MergeCandidate::Merge {
            parent,
            child,
            direction,
            bytes,
        }) = now
        else {
            return Ok(MergeOutcome::Done);
        };
        let way = Way {
            parent,
            child,
            direction,
        };
        let Some((host, storage)) = self.live() else {
            return Err(Error::LayerInUse(way.child));
        };
        let Some(volume) = self.opener(&host, way.child)? else {
            return Ok(MergeOutcome::GaveWay);
        };
        let is_tip = self.lock()?.tree.tip(volume) == Some(way.child);
        if is_tip && way.direction == Direction::Commit {
            self.seal_together(&[(volume, Purpose::Rotation)], FreezePolicy::Skip)?;
        }
        let live = Live {
            host,
            storage,
            volume,
            way,
        };
        if !self.begin_live(&live)? {
            return Ok(MergeOutcome::GaveWay);
        }
        let ended = self.run_live(&live, bytes, monitor);
        self.end_live(&live, &ended);
        match ended? {
            JoinEnd::Done => Ok(MergeOutcome::Done),
            JoinEnd::Stopped if monitor.is_cancelled() => Err(Error::Cancelled),
            JoinEnd::Stopped => Ok(MergeOutcome::GaveWay),
        }
    }

    /// The one volume whose open chain has a layer; none when several have.
    fn opener(&self, host: &Arc<dyn LiveHost>, layer: LayerId) -> Result<Option<VolumeId>, Error> {
        let volumes = self.lock()?.tree.volumes_on(layer);
        let mut found = Vec::new();
        for volume in volumes {
            if open_chain(host, volume)?.is_some() {
                found.push(volume);
            }
        }
        match found.as_slice() {
            [] => Err(Error::LayerInUse(layer)),
            [volume] => Ok(Some(*volume)),
            _ => Ok(None),
        }
    }

    /// Marks the layers and records what is under way; false when it cannot be done now.
    fn begin_live(&self, live: &Live<'_>) -> Result<bool, Error> {
        let Way { parent, child, .. } = live.way;
        let mut state = self.lock_volumes(&[live.volume])?;
        let is_same = matches!(
            state.tree.merge_candidate(parent),
            Some(MergeCandidate::Merge { child: now, .. }) if now == child
        );
        if !is_same || state.is_used(parent) || state.is_used(child) {
            return Ok(false);
        }
        let joining = Some(Joining { parent, child });
        let plan = state.tree.plan_joining(live.volume, joining)?;
        self.steps(&mut state, &plan.steps)?;
        state.merging.extend([parent, child]);
        state.live_merges.insert(live.volume, child);
        Ok(true)
    }

    /// Lets go of the layers. What failed is looked into before anything else touches them.
    fn end_live(&self, live: &Live<'_>, ended: &Result<JoinEnd, Error>) {
        let mut state = self.lock_as_is();
        state.live_merges.remove(&live.volume);
        if ended.is_err() {
            state.undecided.insert(live.volume);
        }
        self.end_merge(&mut state, [live.way.parent, live.way.child]);
    }

    fn run_live(
        &self,
        live: &Live<'_>,
        bytes: ByteCount,
        monitor: &dyn Monitor,
    ) -> Result<JoinEnd, Error> {
        let Way {
            parent,
            child,
            direction,
        } = live.way;
        let chain = open_chain(&live.host, live.volume)?.ok_or(Error::LayerInUse(child))?;
        let direction = match live.stage(&chain)? {
            Stage::Done(direction) => direction,
            Stage::ToDo => {
                let target = match direction {
                    Direction::Commit => parent,
                    Direction::Stream => child,
                };
                live.storage.unseal(target)?;
                let watch = |done: ByteCount, total: ByteCount| {
                    monitor.progress(done, Some(total.max(bytes)));
                    let state = self.lock_as_is();
                    let is_wanted = [parent, child].iter().any(|l| state.is_wanted(*l));
                    !is_wanted && !monitor.is_cancelled()
                };
                let join = self.join_of(live, &chain)?;
                let ended = live.host.join(&join, &watch);
                let ended = ended.map_err(|error| Error::host(live.volume, error))?;
                if ended == JoinEnd::Stopped {
                    let mut state = self.lock()?;
                    self.let_go(&mut state, live.volume, Joining { parent, child })?;
                    return Ok(JoinEnd::Stopped);
                }
                direction
            }
        };
        self.check_joined(live, direction)?;
        self.record_joined(live, direction)?;
        Ok(JoinEnd::Done)
    }

    fn join_of(&self, live: &Live<'_>, chain: &[String]) -> Result<LiveJoin, Error> {
        let Way {
            parent,
            child,
            direction,
        } = live.way;
        let state = self.lock()?;
        let below = state.tree.layer(parent).and_then(|layer| layer.parent);
        let name = |layer| live.storage.backing_name(layer);
        Ok(LiveJoin {
            volume: live.volume,
            job: format!("join-{parent}-{child}"),
            tip: chain.first().cloned().unwrap_or_default(),
            child: live.node(child),
            parent: live.node(parent),
            below: below.map(|layer| live.node(layer)),
            direction,
            backing_name: match direction {
                Direction::Commit => Some(name(parent)),
                Direction::Stream => below.map(name),
            },
        })
    }

    /// What the host merged must be in the file: what one layer holds the other holds.
    fn check_joined(&self, live: &Live<'_>, direction: Direction) -> Result<(), Error> {
        let Way { parent, child, .. } = live.way;
        let (from, to) = match direction {
            Direction::Commit => (child, parent),
            Direction::Stream => (parent, child),
        };
        live.storage.sync(to)?;
        let state = self.lock()?;
        let is_root = state.tree.layer(parent).is_none_or(|l| l.parent.is_none());
        let maps = self.open_maps(&state, &[from, to])?;
        let size = state.tree.layer(child).map_or(0, |layer| layer.size.get());
        drop(state);
        let [from, to] = maps.as_slice() else {
            return Err(Error::NoLayer(child));
        };
        match uncovered(from.as_ref(), to.as_ref(), size, is_root)? {
            None => Ok(()),
            Some(offset) => Err(Error::Host {
                volume: live.volume,
                reason: format!("it merged {parent} and {child} and left out {offset:#x}"),
            }),
        }
    }

    /// The commit point, and what follows from it.
    fn record_joined(&self, live: &Live<'_>, direction: Direction) -> Result<(), Error> {
        let Way { parent, child, .. } = live.way;
        let mut state = self.lock()?;
        let storage = live.storage;
        let (Some(lower), Some(upper)) = (
            state.tree.layer(parent).copied(),
            state.tree.layer(child).copied(),
        ) else {
            return Err(Error::NoLayer(child));
        };
        let (file, left) = match direction {
            Direction::Commit => (storage.file_of(parent), storage.file_of(child)),
            Direction::Stream => (storage.file_of(child), storage.file_of(parent)),
        };
        let placement = Placement {
            file,
            parent: lower.parent,
            took: parent,
            left,
        };
        let plan = state.tree.plan_placement(child, Some(placement))?;
        for step in plan.steps {
            self.step(&mut state, &without_joining(step, live.volume))?;
        }
        let allocated = self.driver.allocated(child)?;
        state.tree.apply(&Step::JoinLayers {
            parent,
            child,
            allocated,
        });
        state.moved.retain(|way, _| {
            ![parent, child].contains(&way.parent) && ![parent, child].contains(&way.child)
        });
        self.or_stale(&mut state, |_| storage.drop_file(left))?;
        self.let_go(&mut state, live.volume, Joining { parent, child })?;
        self.forget_spent(&mut state, lower.owner)?;
        if upper.owner != lower.owner {
            self.forget_spent(&mut state, upper.owner)?;
        }
        Ok(())
    }

    /// Protects the layers again and forgets that they are merged.
    fn let_go(&self, state: &mut State, volume: VolumeId, joining: Joining) -> Result<(), Error> {
        for layer in [joining.parent, joining.child] {
            if state.tree.layer(layer).is_some() && state.tree.is_sealed(layer) {
                self.or_stale(state, |shared| shared.driver.seal_layer(layer))?;
            }
        }
        let plan = state.tree.plan_joining(volume, None)?;
        self.steps(state, &plan.steps)
    }

    /// Ends what a merge left that a crash cut off: afterwards nobody writes below the tip.
    pub(super) fn settle_joining(
        &self,
        state: &mut State,
        volume: VolumeId,
        joining: Joining,
    ) -> Result<(), Error> {
        let mut is_open = false;
        if let Some((host, _)) = self.live()
            && open_chain(&host, volume)?.is_some()
        {
            let stopped = host.stop_joins(volume);
            stopped.map_err(|error| Error::host(volume, error))?;
            is_open = true;
        }
        if let Some(live) = self.driver.live()
            && !is_open
        {
            for layer in [joining.parent, joining.child] {
                if state.tree.layer(layer).is_some() && live.is_open(layer)? {
                    return Err(Error::HostUnreachable(volume));
                }
            }
        }
        self.let_go(state, volume, joining)
    }
}

impl Live<'_> {
    fn node(&self, layer: LayerId) -> String {
        self.storage.node(self.volume, layer)
    }

    fn stage(&self, chain: &[String]) -> Result<Stage, Error> {
        let place = |layer| {
            let node = self.node(layer);
            chain.iter().position(|known| *known == node)
        };
        match (place(self.way.child), place(self.way.parent)) {
            (Some(child), Some(parent)) if parent == child + 1 => Ok(Stage::ToDo),
            (Some(_), None) => Ok(Stage::Done(Direction::Stream)),
            (None, Some(_)) => Ok(Stage::Done(Direction::Commit)),
            _ => Err(Error::Host {
                volume: self.volume,
                reason: "its chain is another than the pool's".to_owned(),
            }),
        }
    }
}

/// The record that a step puts also says that the merge is over, if it is this volume's.
fn without_joining(step: Step, ended: VolumeId) -> Step {
    match step {
        Step::PutRecord { volume, record } if volume == ended => {
            let record = VolumeRecord {
                joining: None,
                ..record
            };
            Step::PutRecord { volume, record }
        }
        other => other,
    }
}

/// The first place that `from` holds and `to` does not. What is zeros need not be held by a
/// layer that stands on nothing.
fn uncovered(
    from: &dyn LayerMap,
    to: &dyn LayerMap,
    size: u64,
    is_root: bool,
) -> Result<Option<u64>, Error> {
    let end = from.size().get().min(size);
    let mut offset = 0;
    while offset < end {
        let run = from.run_at(offset)?;
        let mut len = run.len.min(end - offset);
        let is_needed = match run.holds {
            Holds::Below => false,
            Holds::Zeros => !is_root,
            Holds::Data => true,
        };
        if is_needed {
            if offset >= to.size().get() {
                return Ok(Some(offset));
            }
            let held = to.run_at(offset)?;
            if held.holds == Holds::Below {
                return Ok(Some(offset));
            }
            len = len.min(held.len);
        }
        offset += len;
    }
    Ok(None)
}

/// Whether the names on a layer say that a volume writes to it.
pub(super) fn tip_of(state: &State, layer: LayerId) -> Option<VolumeId> {
    state.tree.names(layer).find_map(|name| match name {
        LayerName::Tip(volume) => Some(volume),
        _ => None,
    })
}
