//! Changes of volumes that somebody has open.
//!
//! A capture has three parts: an empty overlay is made and recorded as pending; the host puts it
//! on the tip; the record makes it the tip and gives what was the tip its name. The pool's lock
//! is not held while the host works, so other volumes go on; the volumes that switch are marked.
//!
//! **Recovery.** Whether the middle part happened is found out by facts, here and after a crash
//! ([`Shared::settle`]): whoever has the volume open is asked what its chain is. When nobody has,
//! an overlay that holds anything was written to, so it had been switched to; an empty one shows
//! the same as the tip, so it is dropped, and whoever asked for the capture asks again. Of volumes
//! that switch together one that did tells of all. What cannot be found out stays as it is, and
//! the volume is not touched until it can ([`Refusal::Undecided`]).

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use stillpoint_model::ByteCount;
use stillpoint_model::id::{LayerId, SnapshotId, VolumeId};
use stillpoint_model::item::{Consistency, FreezePolicy};
use stillpoint_model::layer_tree::{
    FreshLayers, Pending, Purpose, Refusal, Request, Step, VolumeOrigin,
};
use stillpoint_model::task::CloneSource;

use super::shared::{Shared, State};
use crate::driver::{Holds, LiveStorage};
use crate::live::{HostError, LiveHost, LiveSwitch, SwitchAll};
use crate::{Driver, Error};

/// What is said of a switch whose answer was lost: at least that is true.
const LOST: Consistency = Consistency::Crash;

/// What is to be captured, and as what.
pub(super) type Point = (VolumeId, Purpose);

/// Volumes, each with what it is sealed for.
pub(super) fn points_of(set: &[(VolumeId, SnapshotId)]) -> Vec<Point> {
    let points = set.iter();
    points
        .map(|(volume, snapshot)| (*volume, Purpose::Snapshot(*snapshot)))
        .collect()
}

/// Volumes that are being switched. While they are marked nobody else changes them.
pub(super) struct Switching<'a, D: Driver> {
    pub(super) shared: &'a Shared<D>,
    pub(super) volumes: Vec<VolumeId>,
}

impl<D: Driver> Drop for Switching<'_, D> {
    fn drop(&mut self) {
        let mut state = self.shared.lock_as_is();
        for volume in &self.volumes {
            state.switching.remove(volume);
            let record = state.tree.record(*volume);
            if state.is_stale() || record.is_some_and(|record| record.pending.is_some()) {
                state.undecided.insert(*volume);
            }
        }
        self.shared.notify();
    }
}

impl<D: Driver> Shared<D> {
    /// Whoever runs guests, and what the storage does for that; none when nobody does.
    pub(super) fn live(&self) -> Option<(Arc<dyn LiveHost>, &dyn LiveStorage)> {
        let host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        host.clone().zip(self.driver.live())
    }

    /// Refuses a volume that a guest has open. Nobody is asked about one that is not there.
    pub(super) fn check_closed(&self, volume: VolumeId) -> Result<(), Error> {
        if self.lock()?.tree.tip(volume).is_none() {
            return Ok(());
        }
        match self.live() {
            Some((host, _)) if open_chain(&host, volume)?.is_some() => {
                Err(Error::VolumeOpen(volume))
            }
            _ => Ok(()),
        }
    }

    /// The state once these volumes may be changed: nobody makes or switches them, no merge
    /// writes to their chains, and nothing is left of a crash.
    pub(super) fn lock_volumes(
        &self,
        volumes: &[VolumeId],
    ) -> Result<MutexGuard<'_, State>, Error> {
        let mut state = self.lock()?;
        loop {
            let mut in_the_way = Vec::new();
            let mut is_busy = false;
            for volume in volumes {
                is_busy |= state.switching.contains(volume);
                in_the_way.extend(state.tree.tip(*volume));
                in_the_way.extend(state.live_merges.get(volume).copied());
            }
            in_the_way.retain(|layer| state.merging.contains(layer));
            if !is_busy && in_the_way.is_empty() {
                break;
            }
            state = self.wait(state, &in_the_way)?;
        }
        self.settle(&mut state)?;
        for volume in volumes {
            self.check_free(&state, *volume)?;
            if state.undecided.contains(volume) {
                return Err(Refusal::Undecided(*volume).into());
            }
        }
        Ok(state)
    }

    /// Seals these volumes at one instant.
    pub(super) fn seal_together(
        &self,
        points: &[Point],
        freeze: FreezePolicy,
    ) -> Result<(), Error> {
        self.seal_by(points, &|switches| match self.live() {
            Some((host, _)) => host.switch(switches, freeze),
            None => Err(HostError::Unreachable),
        })
    }

    /// Seals these volumes at one instant; what is open is switched like this.
    pub(super) fn seal_by(&self, points: &[Point], switch: SwitchAll<'_>) -> Result<(), Error> {
        let volumes: Vec<VolumeId> = points.iter().map(|(volume, _)| *volume).collect();
        let mut state = self.lock_volumes(&volumes)?;
        let mut todo = Vec::new();
        for point in points {
            if !self.is_sealed_as(&state, *point)? {
                let tip = state.tree.live_tip(point.0)?;
                self.check_chain(&state, tip)?;
                todo.push(*point);
            }
        }
        let Some((host, live)) = self.live().filter(|_| !todo.is_empty()) else {
            return self.seal_closed(&mut state, &todo);
        };
        state.switching.extend(&volumes);
        drop(state);
        let _marked = Switching {
            shared: self,
            volumes,
        };
        let mut open = Vec::new();
        let mut closed = Vec::new();
        for point in todo {
            match open_chain(&host, point.0)? {
                Some(chain) => open.push((point, chain)),
                None => closed.push(point),
            }
        }
        let switches = {
            let mut state = self.lock()?;
            self.seal_closed(&mut state, &closed)?;
            self.prepare(&mut state, live, &open)?
        };
        if switches.is_empty() {
            return Ok(());
        }
        let answer = switch(&switches);
        self.after_switch(&switches, answer)
    }

    /// Whether it was sealed before under that name.
    fn is_sealed_as(&self, state: &State, (volume, purpose): Point) -> Result<bool, Error> {
        let Some(request) = request_of(volume, purpose) else {
            return Ok(false);
        };
        let fresh = FreshLayers {
            first: self.fresh_layer(),
            second: self.fresh_layer(),
        };
        Ok(state.tree.plan(&request, fresh)?.steps.is_empty())
    }

    /// Seals volumes that nobody has open.
    fn seal_closed(&self, state: &mut State, points: &[Point]) -> Result<(), Error> {
        for (volume, purpose) in points {
            let tip = state.tree.live_tip(*volume)?;
            self.driver.check_unused(tip)?;
            if let Some(request) = request_of(*volume, *purpose) {
                self.execute(state, &request)?;
            }
        }
        Ok(())
    }

    /// Makes the overlays and records that they are about to be switched to.
    fn prepare(
        &self,
        state: &mut State,
        live: &dyn LiveStorage,
        open: &[(Point, Vec<String>)],
    ) -> Result<Vec<LiveSwitch>, Error> {
        let overlays = open.iter().map(|((volume, _), _)| *volume);
        let together: BTreeMap<VolumeId, LayerId> = overlays
            .map(|volume| (volume, self.fresh_layer()))
            .collect();
        let mut switches = Vec::new();
        for ((volume, purpose), chain) in open {
            let (volume, purpose) = (*volume, *purpose);
            let tip = live.node(volume, state.tree.live_tip(volume)?);
            if chain.first() != Some(&tip) {
                let reason = "it writes to another layer than the tip".to_owned();
                return Err(Error::Host { volume, reason });
            }
            let Some(layer) = together.get(&volume).copied() else {
                continue;
            };
            let together = together.clone();
            let pending = Pending {
                layer,
                purpose,
                together,
            };
            let plan = state.tree.plan_prepare(volume, pending)?;
            self.steps(state, &plan.steps)?;
            switches.push(LiveSwitch {
                volume,
                tip,
                overlay: live.node(volume, layer),
                graph: self.driver.block_graph(volume, &[layer])?,
            });
        }
        Ok(switches)
    }

    /// Records what came of a switch. What the host answered may be an error for something that
    /// happened; the facts decide.
    fn after_switch(
        &self,
        switches: &[LiveSwitch],
        answer: Result<Consistency, HostError>,
    ) -> Result<(), Error> {
        let mut state = self.lock()?;
        let Some(first) = switches.first() else {
            return Ok(());
        };
        let reached = match answer {
            Ok(consistency) => Some(consistency),
            Err(_) => self.has_switched(&state, first.volume)?.then_some(LOST),
        };
        for switch in switches {
            self.conclude(&mut state, switch.volume, reached)?;
        }
        match (answer, reached) {
            (Err(error), None) => Err(Error::host(first.volume, error)),
            _ => Ok(()),
        }
    }

    /// Makes a pending overlay the tip, with what the sealed layer promises, or drops it.
    fn conclude(
        &self,
        state: &mut State,
        volume: VolumeId,
        reached: Option<Consistency>,
    ) -> Result<(), Error> {
        let plan = match reached {
            Some(consistency) => state.tree.plan_seal(volume, consistency)?,
            None => state.tree.plan_call_off(volume)?,
        };
        self.steps(state, &plan.steps)
    }

    /// Finds out what a crash left undecided, as far as that is possible now.
    pub(super) fn settle(&self, state: &mut State) -> Result<(), Error> {
        let undecided: Vec<VolumeId> = state.undecided.iter().copied().collect();
        for volume in undecided {
            match self.settle_volume(state, volume) {
                Ok(()) => drop(state.undecided.remove(&volume)),
                Err(
                    error @ (Error::HostUnreachable(_)
                    | Error::HostRefused { .. }
                    | Error::Host { .. }
                    | Error::Refused(_)),
                ) => tracing::warn!(%volume, %error, "not decided yet"),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn settle_volume(&self, state: &mut State, volume: VolumeId) -> Result<(), Error> {
        let Some(record) = state.tree.record(volume).cloned() else {
            return Ok(());
        };
        if let Some(joining) = record.joining {
            self.settle_joining(state, volume, joining)?;
        }
        if let Some(pending) = record.pending {
            let reached = self.has_switched(state, volume)?.then_some(LOST);
            let overlay_of = |member| {
                let record = state.tree.record(member)?;
                record.pending.as_ref().map(|pending| pending.layer)
            };
            let together = pending.together.iter();
            let undecided: Vec<VolumeId> = together
                .filter(|(member, overlay)| overlay_of(**member) == Some(**overlay))
                .map(|(member, _)| *member)
                .collect();
            for member in undecided {
                self.conclude(state, member, reached)?;
            }
        }
        Ok(())
    }

    /// Whether the switch happened that a volume's record says is pending.
    fn has_switched(&self, state: &State, volume: VolumeId) -> Result<bool, Error> {
        let record = state.tree.record(volume);
        let Some(pending) = record.and_then(|record| record.pending.as_ref()) else {
            return Ok(false);
        };
        let (mut has_not, mut unknown) = (false, None);
        for (member, overlay) in &pending.together {
            match self.evidence(state, *member, *overlay) {
                Ok(Some(true)) => return Ok(true),
                Ok(Some(false)) => has_not = true,
                Ok(None) => {}
                Err(error) => unknown = Some(error),
            }
        }
        match unknown {
            Some(error) if !has_not => Err(error),
            _ => Ok(false),
        }
    }

    /// Whether one volume was switched to its overlay; none when it makes no difference.
    fn evidence(
        &self,
        state: &State,
        volume: VolumeId,
        overlay: LayerId,
    ) -> Result<Option<bool>, Error> {
        let Some(record) = state.tree.record(volume) else {
            return Ok(None);
        };
        let is_pending = record.pending.as_ref().is_some_and(|p| p.layer == overlay);
        if !is_pending {
            return Ok(Some(state.tree.layer(overlay).is_some()));
        }
        if let Some((host, live)) = self.live()
            && let Some(chain) = open_chain(&host, volume)?
        {
            return Ok(Some(chain.first() == Some(&live.node(volume, overlay))));
        }
        for layer in record.tip.into_iter().chain([overlay]) {
            if let Some(live) = self.driver.live()
                && state.tree.layer(layer).is_some()
                && live.is_open(layer)?
            {
                return Err(Error::HostUnreachable(volume));
            }
        }
        let holds_any = self.holds_any(state, overlay)?;
        Ok(holds_any.then_some(true))
    }

    /// Whether a layer holds anything itself.
    fn holds_any(&self, state: &State, layer: LayerId) -> Result<bool, Error> {
        for map in self.open_maps(state, &[layer])? {
            let (mut offset, end) = (0, map.size().get());
            while offset < end {
                let run = map.run_at(offset)?;
                if run.holds != Holds::Below {
                    return Ok(true);
                }
                offset += run.len;
            }
        }
        Ok(false)
    }

    /// Copies a volume that a guest has open; false when nobody has, or it was copied before.
    pub(super) fn clone_open(&self, source: VolumeId, volume: VolumeId) -> Result<bool, Error> {
        let origin = VolumeOrigin::Clone(CloneSource::Volume(source));
        let is_new = self.lock()?.tree.may_make(volume, origin)?;
        if !is_new || self.check_closed(source).is_ok() {
            return Ok(false);
        }
        self.seal_together(&[(source, Purpose::Rotation)], FreezePolicy::Skip)?;
        let mut state = self.lock_volumes(&[source, volume])?;
        let plan = state
            .tree
            .plan_clone_below(source, volume, self.fresh_layer())?;
        self.steps(&mut state, &plan.steps)?;
        Ok(true)
    }

    /// Grows a volume that a guest has open, if it has not that size; false when nobody has it
    /// open.
    pub(super) fn resize_open(&self, volume: VolumeId, size: ByteCount) -> Result<bool, Error> {
        let Some((host, live)) = self.live() else {
            return Ok(false);
        };
        let mut state = self.lock_volumes(&[volume])?;
        let request = Request::Resize { volume, size };
        let fresh = FreshLayers {
            first: self.fresh_layer(),
            second: self.fresh_layer(),
        };
        let tip = state.tree.live_tip(volume)?;
        if state.tree.plan(&request, fresh)?.steps.is_empty() {
            return Ok(true);
        }
        state.switching.insert(volume);
        drop(state);
        let _marked = Switching {
            shared: self,
            volumes: vec![volume],
        };
        if open_chain(&host, volume)?.is_none() {
            return Ok(false);
        }
        let answer = host.resize(volume, &live.node(volume, tip), size);
        let mut state = self.lock()?;
        live.sync(tip)?;
        let now = live.inspect(tip)?.size;
        state.tree.apply(&Step::GrowLayer {
            layer: tip,
            size: now,
        });
        match answer {
            _ if now >= size => Ok(true),
            Err(error) => Err(Error::host(volume, error)),
            Ok(()) => Err(Error::Host {
                volume,
                reason: "it did not grow".to_owned(),
            }),
        }
    }
}

/// What the planner is asked for it; nothing for a layer without a name.
const fn request_of(volume: VolumeId, purpose: Purpose) -> Option<Request> {
    match purpose {
        Purpose::Snapshot(snapshot) => Some(Request::Snapshot { volume, snapshot }),
        Purpose::Capture(backup) => Some(Request::Capture {
            volume,
            backup,
            snapshot: None,
        }),
        Purpose::Rotation => None,
    }
}

pub(super) fn open_chain(
    host: &Arc<dyn LiveHost>,
    volume: VolumeId,
) -> Result<Option<Vec<String>>, Error> {
    host.open_chain(volume)
        .map_err(|error| Error::host(volume, error))
}
