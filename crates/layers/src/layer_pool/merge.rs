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
struct Pair {
    parent: LayerId,
    child: LayerId,
    direction: Direction,
    bytes: ByteCount,
}

impl<D: Driver> Shared<D> {
    /// Candidates that nobody reads, measured anew. None while anything is in doubt.
    pub(super) fn merge_candidates(&self) -> Result<Vec<MergeCandidate>, Error> {
        let mut state = self.lock()?;
        if !state.damaged.is_empty() || !state.tree.inconsistencies().is_empty() {
            return Ok(Vec::new());
        }
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
        found.retain(|candidate| match candidate {
            MergeCandidate::Remove { layer } => !state.is_used(*layer),
            MergeCandidate::Merge { parent, child, .. } => {
                !state.is_used(*parent) && !state.is_used(*child)
            }
        });
        Ok(found)
    }

    pub(super) fn merge(
        &self,
        candidate: &MergeCandidate,
        monitor: &dyn Monitor,
    ) -> Result<MergeOutcome, Error> {
        let pair = {
            let mut state = self.lock()?;
            match self.still_to_do(&state, candidate) {
                None => return Ok(MergeOutcome::Done),
                Some(MergeCandidate::Remove { layer }) => {
                    if state.is_used(layer) {
                        return Ok(MergeOutcome::GaveWay);
                    }
                    self.step(&mut state, &Step::RemoveLayer { layer })?;
                    return Ok(MergeOutcome::Done);
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
                    self.driver.check_unused(parent)?;
                    self.driver.check_unused(child)?;
                    state.merging.extend([parent, child]);
                    Pair {
                        parent,
                        child,
                        direction,
                        bytes,
                    }
                }
            }
        };
        let moved = self.move_data(&pair, monitor);
        let outcome = match moved {
            Ok(true) => self.join(&pair).map(|()| MergeOutcome::Done),
            Ok(false) => Ok(MergeOutcome::GaveWay),
            Err(error) => Err(error),
        };
        self.end_merge(&mut self.lock_as_is(), [pair.parent, pair.child]);
        outcome
    }

    /// The candidate as it is by now; none when it is none any more.
    fn still_to_do(&self, state: &State, candidate: &MergeCandidate) -> Option<MergeCandidate> {
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

    /// Moves the data; false when a reader came first.
    fn move_data(&self, pair: &Pair, monitor: &dyn Monitor) -> Result<bool, Error> {
        let (parent, child, size) = {
            let state = self.lock()?;
            let mut maps = self
                .open_maps(&state, &[pair.child, pair.parent])?
                .into_iter();
            let (Some(child), Some(parent)) = (maps.next(), maps.next()) else {
                return Err(Error::NoLayer(pair.parent));
            };
            let size = child.size().max(parent.size());
            (parent, child, size)
        };
        let target = match pair.direction {
            Direction::Commit => pair.parent,
            Direction::Stream => pair.child,
        };
        let mut copy = Copy {
            writer: self.driver.reopen_layer(target, size)?,
            buffer: vec![0; PIECE],
            done: 0,
            total: pair.bytes,
            monitor,
            is_wanted: &|| {
                let state = self.lock_as_is();
                state.wanted.contains(&pair.parent) || state.wanted.contains(&pair.child)
            },
        };
        let whole = match pair.direction {
            Direction::Commit => copy.commit(child.as_ref())?,
            Direction::Stream => copy.stream(parent.as_ref(), child.as_ref())?,
        };
        copy.writer.finish()?;
        Ok(whole)
    }

    fn join(&self, pair: &Pair) -> Result<(), Error> {
        let state = &mut *self.lock()?;
        let (Some(lower), Some(upper)) =
            (state.tree.layer(pair.parent), state.tree.layer(pair.child))
        else {
            return Ok(());
        };
        if upper.parent != Some(pair.parent) {
            return Ok(());
        }
        let join = Join {
            parent: pair.parent,
            child: pair.child,
            grandparent: lower.parent,
            size: upper.size,
            sealed: state.tree.is_sealed(pair.child),
            direction: pair.direction,
        };
        let joined = self
            .driver
            .join_layers(&join)
            .and_then(|()| self.driver.allocated(pair.child));
        match joined {
            Ok(allocated) => {
                let (parent, child) = (pair.parent, pair.child);
                state.tree.apply(&Step::JoinLayers {
                    parent,
                    child,
                    allocated,
                });
                Ok(())
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
    done: u64,
    total: ByteCount,
    monitor: &'a dyn Monitor,
    is_wanted: &'a dyn Fn() -> bool,
}

impl Copy<'_> {
    /// Everything that the child holds goes down.
    fn commit(&mut self, child: &dyn LayerMap) -> Result<bool, Error> {
        self.copy_held(child, ByteRange::new(0, child.size().get()))
    }

    /// What the parent holds goes up where the child holds nothing.
    fn stream(&mut self, parent: &dyn LayerMap, child: &dyn LayerMap) -> Result<bool, Error> {
        let end = child.size().min(parent.size()).get();
        let mut offset = 0;
        while offset < end {
            let run = child.run_at(offset)?;
            let len = run.len.min(end - offset);
            let goes = run.holds == Holds::Below;
            if goes && !self.copy_held(parent, ByteRange::new(offset, len))? {
                return Ok(false);
            }
            offset += len;
        }
        Ok(true)
    }

    /// Copies what `source` itself holds in a range; false when a reader came first.
    fn copy_held(&mut self, source: &dyn LayerMap, range: ByteRange) -> Result<bool, Error> {
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
                    if !self.may_go_on()? {
                        return Ok(false);
                    }
                    let piece = self.buffer.get_mut(..usize::try_from(len).unwrap_or(PIECE));
                    let piece = piece.unwrap_or_default();
                    source.read_data(offset, piece)?;
                    self.writer.write_at(offset, piece)?;
                    self.done += len;
                }
            }
            offset += len;
        }
        Ok(true)
    }

    fn may_go_on(&self) -> Result<bool, Error> {
        if self.monitor.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let total = self.total.max(ByteCount::new(self.done));
        self.monitor
            .progress(ByteCount::new(self.done), Some(total));
        Ok(!(self.is_wanted)())
    }
}
