//! Two layers become one.
//!
//! Data moves with the tree unlocked; what a crash leaves of it shows nowhere, since the target
//! is written only where the other layer covers it ([`Direction::Commit`]) or where it shows the
//! same ([`Direction::Stream`]). The join at the end is the commit point.

use stillpoint_model::id::LayerId;
use stillpoint_model::layer_tree::{Direction, MergeCandidate, Step};
use stillpoint_model::progress::Monitor;
use stillpoint_model::{ByteCount, ByteRange};

use super::shared::{Shared, State};
use crate::driver::{Holds, Join, LayerMap, LayerWriter};
use crate::{Driver, Error, MergeOutcome};

/// The most that moves between two looks at whether to stop, in bytes.
const PIECE: usize = 1 << 20;

/// The two layers and which way data moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    pub(super) parent: LayerId,
    pub(super) child: LayerId,
    pub(super) direction: Direction,
}

/// A merge to do.
struct Pair {
    way: Way,
    bytes: ByteCount,
    /// Whether what was moved need not be looked at again: nothing can be written meanwhile
    /// that would have to move too.
    is_resumable: bool,
    /// How far it came before.
    moved: Moved,
}

/// How far a merge came before it stopped. Kept in memory alone: a new process starts over,
/// which is always right.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moved {
    /// Everything before this place is durably where it goes.
    offset: u64,
    /// How many bytes that were.
    bytes: u64,
}

/// Why data stopped moving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// A reader wants the layers.
    Wanted,
    /// Somebody asked for the work to stop.
    Cancelled,
}

impl Pair {
    /// From where it stopped before. A child that a guest may have written to since then is
    /// committed from the beginning.
    fn begin(state: &mut State, way: Way, bytes: ByteCount) -> Self {
        Self {
            way,
            bytes,
            is_resumable: way.direction == Direction::Stream || state.tree.is_sealed(way.child),
            moved: state.moved.remove(&way).unwrap_or_default(),
        }
    }
}

impl<D: Driver> Shared<D> {
    /// Candidates that nobody reads, measured anew. None while anything is in doubt.
    pub(super) fn merge_candidates(&self) -> Result<Vec<MergeCandidate>, Error> {
        let mut state = self.lock()?;
        self.settle(&mut state)?;
        if !state.damaged.is_empty() || !state.tree.inconsistencies().is_empty() {
            return Ok(Vec::new());
        }
        self.settle_places(&mut state)?;
        let State { tree, moved, .. } = &mut *state;
        moved.retain(|way, _| tree.layer(way.child).and_then(|l| l.parent) == Some(way.parent));
        let children: Vec<LayerId> = state
            .tree
            .merge_candidates()
            .iter()
            .filter_map(|candidate| match candidate {
                MergeCandidate::Merge { child, .. } => Some(*child),
                MergeCandidate::Remove { .. } => None,
            })
            .collect();
        for child in children {
            self.measure(&mut state, child)?;
        }
        let mut found = state.tree.merge_candidates();
        for candidate in &mut found {
            *candidate = self.as_host_can(&state.tree, *candidate);
        }
        found.retain(|candidate| match candidate {
            MergeCandidate::Remove { layer } => state.is_idle(*layer),
            MergeCandidate::Merge { parent, child, .. } => {
                !state.is_used(*parent) && !state.is_used(*child)
            }
        });
        found.retain(|candidate| self.is_worthwhile(&state, candidate));
        Ok(found)
    }

    pub(super) fn merge(
        &self,
        candidate: &MergeCandidate,
        monitor: &dyn Monitor,
    ) -> Result<MergeOutcome, Error> {
        if let MergeCandidate::Merge { child, .. } = candidate {
            match self.is_open(*child) {
                Ok(false) => {}
                Ok(true) => return self.merge_open(candidate, monitor),
                Err(Error::HostUnreachable(_)) => return Ok(MergeOutcome::GaveWay),
                Err(error) => return Err(error),
            }
        }
        let pair = {
            let mut state = self.lock()?;
            self.settle(&mut state)?;
            match self.still_to_do(&state, candidate) {
                None => return Ok(MergeOutcome::Done),
                Some(MergeCandidate::Remove { layer }) => {
                    let is_gone = self.remove_garbage(&mut state, layer)?;
                    return Ok(match is_gone {
                        true => MergeOutcome::Done,
                        false => MergeOutcome::GaveWay,
                    });
                }
                Some(MergeCandidate::Merge {
                    parent,
                    child,
                    direction,
                    bytes,
                }) => {
                    if state.is_used(parent) || state.is_used(child) {
                        return Ok(MergeOutcome::GaveWay);
                    }
                    let way = Way {
                        parent,
                        child,
                        direction,
                    };
                    self.driver.check_unused(parent)?;
                    self.driver.check_unused(child)?;
                    self.settle_places(&mut state)?;
                    state.merging.extend([parent, child]);
                    Pair::begin(&mut state, way, bytes)
                }
            }
        };
        let moved = self.move_data(&pair, monitor);
        let outcome = match moved {
            Ok(None) => self.join(&pair).map(|()| MergeOutcome::Done),
            Ok(Some(Stop::Wanted)) => Ok(MergeOutcome::GaveWay),
            Ok(Some(Stop::Cancelled)) => Err(Error::Cancelled),
            Err(error) => Err(error),
        };
        self.end_merge(&mut self.lock_as_is(), [pair.way.parent, pair.way.child]);
        outcome
    }

    /// The candidate as it is by now; none when it is none any more.
    pub(super) fn still_to_do(
        &self,
        state: &State,
        candidate: &MergeCandidate,
    ) -> Option<MergeCandidate> {
        if !state.damaged.is_empty() || !state.tree.inconsistencies().is_empty() {
            return None;
        }
        let (MergeCandidate::Remove { layer } | MergeCandidate::Merge { parent: layer, .. }) =
            candidate;
        let now = state.tree.merge_candidate(*layer)?;
        let is_same = match (candidate, &now) {
            (MergeCandidate::Remove { .. }, MergeCandidate::Remove { .. }) => true,
            (MergeCandidate::Merge { child: a, .. }, MergeCandidate::Merge { child: b, .. }) => {
                a == b
            }
            _ => false,
        };
        is_same.then_some(now)
    }

    /// Moves the data, or says why not all of it.
    fn move_data(&self, pair: &Pair, monitor: &dyn Monitor) -> Result<Option<Stop>, Error> {
        let (parent, child, size) = {
            let state = self.lock()?;
            let mut maps = self
                .open_maps(&state, &[pair.way.child, pair.way.parent])?
                .into_iter();
            let (Some(child), Some(parent)) = (maps.next(), maps.next()) else {
                return Err(Error::NoLayer(pair.way.parent));
            };
            let size = child.size().max(parent.size());
            (parent, child, size)
        };
        let target = match pair.way.direction {
            Direction::Commit => pair.way.parent,
            Direction::Stream => pair.way.child,
        };
        let mut copy = Copy {
            writer: self.driver.reopen_layer(target, size)?,
            buffer: vec![0; PIECE],
            moved: pair.moved,
            total: pair.bytes,
            monitor,
            is_wanted: &|| {
                let state = self.lock_as_is();
                state.is_wanted(pair.way.parent) || state.is_wanted(pair.way.child)
            },
        };
        let stop = match pair.way.direction {
            Direction::Commit => copy.commit(child.as_ref())?,
            Direction::Stream => copy.stream(parent.as_ref(), child.as_ref())?,
        };
        let moved = copy.moved;
        copy.writer.finish()?;
        if stop.is_some() && pair.is_resumable {
            let mut state = self.lock()?;
            state.moved.insert(pair.way, moved);
        }
        Ok(stop)
    }

    fn join(&self, pair: &Pair) -> Result<(), Error> {
        let state = &mut *self.lock()?;
        let (Some(lower), Some(upper)) = (
            state.tree.layer(pair.way.parent),
            state.tree.layer(pair.way.child),
        ) else {
            return Ok(());
        };
        let owner_below = lower.owner;
        if upper.parent != Some(pair.way.parent) {
            return Ok(());
        }
        let join = Join {
            parent: pair.way.parent,
            child: pair.way.child,
            owner: upper.owner,
            grandparent: lower.parent,
            size: upper.size,
            sealed: state.tree.is_sealed(pair.way.child),
            direction: pair.way.direction,
        };
        let joined = self
            .driver
            .join_layers(&join)
            .and_then(|()| self.driver.allocated(pair.way.child));
        match joined {
            Ok(allocated) => {
                let (parent, child) = (pair.way.parent, pair.way.child);
                state.tree.apply(&Step::JoinLayers {
                    parent,
                    child,
                    allocated,
                });
                // The child holds more now, which merges with others did not see.
                let is_one = |layer: LayerId| layer == parent || layer == child;
                state
                    .moved
                    .retain(|way, _| !is_one(way.parent) && !is_one(way.child));
                self.forget_spent(state, owner_below)
            }
            Err(error) => {
                self.mark_stale(state);
                Err(error)
            }
        }
    }
}

/// Data on its way from one layer to the other.
struct Copy<'a> {
    writer: Box<dyn LayerWriter>,
    buffer: Vec<u8>,
    moved: Moved,
    total: ByteCount,
    monitor: &'a dyn Monitor,
    is_wanted: &'a dyn Fn() -> bool,
}

impl Copy<'_> {
    /// Everything that the child holds goes down.
    fn commit(&mut self, child: &dyn LayerMap) -> Result<Option<Stop>, Error> {
        let end = child.size().get();
        let from = self.moved.offset.min(end);
        self.copy_held(child, ByteRange::new(from, end - from))
    }

    /// What the parent holds goes up where the child holds nothing.
    fn stream(
        &mut self,
        parent: &dyn LayerMap,
        child: &dyn LayerMap,
    ) -> Result<Option<Stop>, Error> {
        let end = child.size().min(parent.size()).get();
        let mut offset = self.moved.offset;
        while offset < end {
            let run = child.run_at(offset)?;
            let len = run.len.min(end - offset);
            if run.holds == Holds::Below {
                let stop = self.copy_held(parent, ByteRange::new(offset, len))?;
                if stop.is_some() {
                    return Ok(stop);
                }
            }
            offset += len;
        }
        Ok(None)
    }

    /// Copies what `source` itself holds in a range, until it has to stop.
    fn copy_held(
        &mut self,
        source: &dyn LayerMap,
        range: ByteRange,
    ) -> Result<Option<Stop>, Error> {
        let mut offset = range.offset;
        while offset < range.end() {
            let run = source.run_at(offset)?;
            let mut len = run.len.min(range.end() - offset);
            if run.holds == Holds::Data {
                len = len.min(PIECE as u64);
            }
            match run.holds {
                Holds::Below => {}
                Holds::Zeros => self.writer.zero_at(offset, len)?,
                Holds::Data => {
                    if let Some(stop) = self.stop() {
                        self.moved.offset = offset;
                        return Ok(Some(stop));
                    }
                    let piece = self.buffer.get_mut(..usize::try_from(len).unwrap_or(PIECE));
                    let piece = piece.unwrap_or_default();
                    source.read_data(offset, piece)?;
                    self.writer.write_at(offset, piece)?;
                    self.moved.bytes += len;
                }
            }
            offset += len;
        }
        Ok(None)
    }

    /// Reports, and asks whether to stop.
    fn stop(&self) -> Option<Stop> {
        if self.monitor.is_cancelled() {
            return Some(Stop::Cancelled);
        }
        let done = ByteCount::new(self.moved.bytes);
        self.monitor.progress(done, Some(self.total.max(done)));
        (self.is_wanted)().then_some(Stop::Wanted)
    }
}
