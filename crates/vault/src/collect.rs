//! Removing what no backup reaches, beside backups that are being written.
//!
//! ```text
//!  idle ── first look ──> planned ── no older run, second look ──> doomed ── grace, last look ──> done
//!                            │                                        │
//!                            └── cannot be read, or a backup vanished ┘ (doomed to nothing)
//! ```
//!
//! A collection is an *epoch* (see [`epoch`]). The first look finds what is dead: packs that no
//! backup reaches but those whose time to be undeleted is over. The *plan* publishes it. From then on
//! no run begins to refer to a planned pack, and none takes a planned backup as its parent. Runs that
//! may have begun before have a record with an older epoch; they are waited for. What the second
//! look still finds dead can then never be referred to again, by anybody: that is the *doom*, which is
//! put once and never revised. After the grace it is looked at a last time and deleted.
//!
//! **Why nothing is lost.** Suppose a backup N that stays reaches a doomed pack. If it was committed
//! before the second look, that look saw it. If later, its run's record names this epoch (older ones
//! were waited for), so it saw the plan and did not deduplicate against the pack; so its parent
//! reaches the pack, which stays too, because a run refuses a parent that is planned to go. The parent
//! was committed earlier; repeat. A model in the tests walks every state of a small vault.
//!
//! **Clocks** decide when an undelete is over and how long the grace is, never whether something is
//! dead. **Listings** may lack something: absence from one proves nothing, so what would be there is
//! asked for by its name (the manifest of each run that left something, what the plan said stays,
//! which epoch is open), and every look is repeated after the next.
//!
//! **Locks.** What is locked is asked for before it is planned, and left out of the plan as if it were
//! needed: nothing is doomed, counted as freed or confirmed by anybody that could not go. What was
//! locked between the plan and its end is left where it is. A deleted backup stays as a whole, with its
//! tombstone, as long as its manifest is locked.
//!
//! **Crash or cancel anywhere:** the next call, by whomever, goes on from the objects of the epoch.
//! Several collectors at once do the same work: each decision is a conditional create, and deleting
//! what is doomed can be repeated at any later time, because no name is used twice.
//!
//! It needs no room: on a full target its few objects go into the reserve's.

pub(crate) mod epoch;
mod plan;
mod survey;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use stillpoint_model::id::RunId;
use stillpoint_model::progress::Monitor;
use stillpoint_model::{ByteCount, Env, Timestamp};

pub use plan::{CollectPolicy, Refusal};

use crate::crew::all_of;
use crate::format::epoch::{BackupKey, Doom, Plan};
use crate::format::object::Class;
use crate::format::pack::PackId;
use crate::{Error, Vault};
use survey::Survey;

/// How far a collection came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is dead.
    NothingToDo,
    /// These runs began before it: commit or reap them.
    WaitsForRuns(Vec<RunId>),
    /// What is doomed goes from this time on.
    WaitsUntil(Timestamp),
    /// Everything that was doomed is deleted.
    Done,
}

/// What a call of [`Vault::collect`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// The epoch.
    pub epoch: u32,
    /// How far it came. Call again later unless it is done or there is nothing to do.
    pub outcome: Outcome,
    /// Backups that were removed for good.
    pub backups: usize,
    /// Packs that were deleted.
    pub packs: usize,
    /// Their bytes.
    pub freed: ByteCount,
    /// Packs that are dead and stay, because they are locked: a later collection takes them.
    pub locked: usize,
    /// Packs that were doomed and that something reached after all: they stay. It means that the
    /// target's listings cannot be relied on.
    pub spared: usize,
}

impl Collected {
    fn at(epoch: u32, outcome: Outcome) -> Self {
        Self {
            epoch,
            outcome,
            backups: 0,
            packs: 0,
            freed: ByteCount::ZERO,
            locked: 0,
            spared: 0,
        }
    }
}

/// What is dead and cannot go yet.
#[derive(Default)]
struct Locked {
    packs: BTreeSet<PackId>,
    /// Runs whose index objects are locked.
    runs: BTreeSet<RunId>,
}

/// Where the open epoch is.
enum Stage {
    Idle,
    Planned(Plan),
    Doomed(Doom),
}

impl Vault {
    /// Takes the collection of this vault as far as it can go now, and says how far that is.
    ///
    /// It never waits: call it on a schedule. `Refused` says why nothing was removed; an object
    /// that cannot be read, and that could name something, is an error with its name.
    pub fn collect(
        &self,
        policy: &CollectPolicy,
        monitor: &dyn Monitor,
    ) -> Result<Collected, Error> {
        self.require_collectable()?;
        let collector = Collector {
            vault: self,
            policy,
            monitor,
            clocks: Clocks::start(&*self.env),
        };
        loop {
            let epoch = self.newest_done()? + 1;
            collector.tidy(epoch)?;
            let outcome = match collector.stage(epoch)? {
                Stage::Idle => collector.begin(epoch)?,
                Stage::Planned(plan) => collector.decide(epoch, &plan)?,
                Stage::Doomed(doom) => collector.carry_out(epoch, &doom)?,
            };
            if let Some(collected) = outcome {
                return Ok(collected);
            }
        }
    }
}

/// One call. A step gives what to report, or none when the next step can be taken.
struct Collector<'a> {
    vault: &'a Vault,
    policy: &'a CollectPolicy,
    monitor: &'a dyn Monitor,
    clocks: Clocks,
}

impl Collector<'_> {
    /// Removes what is left of epochs that are done, this one's predecessors.
    fn tidy(&self, epoch: u32) -> Result<(), Error> {
        for name in survey::epoch_objects_before(self.vault, epoch)? {
            self.vault.target.delete(&name)?;
        }
        Ok(())
    }

    fn stage(&self, epoch: u32) -> Result<Stage, Error> {
        match self.vault.read_doom(epoch) {
            Ok(doom) => return Ok(Stage::Doomed(doom)),
            Err(error) if error.is_missing() => {}
            // Some of it may be gone. Nobody can tell what else is to go.
            Err(error) => return Err(error),
        }
        match self.vault.read_plan(epoch) {
            Ok(plan) => Ok(Stage::Planned(plan)),
            Err(error) if error.is_missing() => Ok(Stage::Idle),
            Err(error) if error.is_damage() => {
                tracing::warn!(epoch, %error, "a collection is given up: its plan is damaged");
                self.give_up(epoch)?;
                self.stage(epoch)
            }
            Err(error) => Err(error),
        }
    }

    /// Decides that nothing goes.
    fn give_up(&self, epoch: u32) -> Result<(), Error> {
        let nothing = Doom {
            at: self.vault.env.now(),
            backups: vec![],
            packs: vec![],
            runs: vec![],
        };
        self.put_doom(epoch, &nothing)
    }

    fn put_doom(&self, epoch: u32, doom: &Doom) -> Result<(), Error> {
        let name = self.vault.names.doom(epoch);
        self.vault
            .put_epoch_object(&name, Class::Doom, epoch, doom.encode())
            .map(drop)
    }

    /// The first look, and the plan.
    fn begin(&self, epoch: u32) -> Result<Option<Collected>, Error> {
        let survey = self.look()?;
        let now = self.vault.env.now();
        let expired = plan::expired(&survey.look, now, self.policy)?;
        let expired = self.unlocked(&survey, expired)?;
        let used = survey.used_but(self.vault, &expired, self.monitor)?;
        let locked = self.locked(&survey, &used)?;
        let held = &used | &locked.packs;
        let mut planned = plan::condemn(&survey.look, &expired, &held, now, self.policy)?;
        if let Some(plan) = &mut planned {
            plan.runs.retain(|run| !locked.runs.contains(run));
        }
        let is_empty =
            |plan: &Plan| plan.backups.is_empty() && plan.packs.is_empty() && plan.runs.is_empty();
        self.clocks.check(&*self.vault.env, self.policy)?;
        let Some(plan) = planned.filter(|plan| !is_empty(plan)) else {
            if expired.is_empty() {
                self.forget_marks(&used)?;
            }
            self.delete_sums(&[], &survey)?;
            return Ok(Some(Collected {
                locked: locked.packs.len(),
                ..Collected::at(epoch, Outcome::NothingToDo)
            }));
        };
        let name = self.vault.names.plan(epoch);
        self.vault
            .put_epoch_object(&name, Class::Plan, epoch, plan.encode())?;
        Ok(None)
    }

    /// Those of some backups that are to go whose manifests are not locked, and that no locked one is
    /// read by.
    fn unlocked(
        &self,
        survey: &Survey,
        expired: BTreeSet<BackupKey>,
    ) -> Result<BTreeSet<BackupKey>, Error> {
        let vault = self.vault;
        if !vault.target.locks() {
            return Ok(expired);
        }
        let keys: Vec<BackupKey> = expired.into_iter().collect();
        let locked = all_of(vault.width(), &keys, |key| {
            let manifest = vault.is_locked(&vault.names.manifest(key.0, key.1))?;
            Ok(manifest || vault.is_locked(&vault.names.renewal(key.0, key.1))?)
        })?;
        let (held, free): (Vec<_>, Vec<_>) = keys.into_iter().zip(locked).partition(|it| it.1);
        let mut free: BTreeSet<BackupKey> = free.into_iter().map(|(key, _)| key).collect();
        for (key, _) in held {
            let mut next = survey.renewed_by(&key);
            while let Some(by) = next.filter(|by| free.remove(by)) {
                next = survey.renewed_by(&by);
            }
        }
        Ok(free)
    }

    /// What nothing needs and what is locked all the same.
    fn locked(&self, survey: &Survey, used: &BTreeSet<PackId>) -> Result<Locked, Error> {
        let (vault, look) = (self.vault, &survey.look);
        if !vault.target.locks() {
            return Ok(Locked::default());
        }
        let is_dead = |pack: &PackId| !used.contains(pack) && !look.runs.contains_key(&pack.run);
        let dead = || look.packs.keys().copied().filter(is_dead);
        let free = vault.without_locked(dead(), self.monitor)?;
        let indexed: Vec<RunId> = look.unaccounted_indexes().into_iter().collect();
        let locked = all_of(vault.width(), &indexed, |run| {
            vault.is_locked(&vault.names.index(*run, 0))
        })?;
        let runs = indexed.into_iter().zip(locked);
        Ok(Locked {
            packs: dead().filter(|pack| !free.contains(pack)).collect(),
            runs: runs
                .filter(|(_, locked)| *locked)
                .map(|(run, _)| run)
                .collect(),
        })
    }

    /// Takes away the marks of packs that are gone and that no backup reaches: a reader that was slow
    /// left them. Names are never used twice, so that nothing is shared because of it.
    fn forget_marks(&self, used: &BTreeSet<PackId>) -> Result<(), Error> {
        let marked = self.vault.marked_packs()?.into_iter();
        let unneeded: Vec<PackId> = marked.filter(|pack| !used.contains(pack)).collect();
        all_of(self.vault.width(), &unneeded, |pack| {
            match self.vault.pack_len(*pack)? {
                None => Ok(self.vault.target.delete(&self.vault.names.mark(*pack))?),
                Some(_) => Ok(()),
            }
        })?;
        Ok(())
    }

    /// The second look, and the doom.
    fn decide(&self, epoch: u32, plan: &Plan) -> Result<Option<Collected>, Error> {
        plan::refuse_future(plan.at, self.vault.env.now(), self.policy)?;
        let survey = self.look()?;
        let older = survey.look.older_than(epoch);
        if !older.is_empty() {
            return Ok(Some(Collected::at(epoch, Outcome::WaitsForRuns(older))));
        }
        if let Some((volume, backup)) = plan::missing(plan, &survey.look) {
            match self.vault.current(volume, backup) {
                Ok(_) => return Err(Refusal::Unlisted(backup).into()),
                Err(Error::BackupNotFound(_)) => {
                    self.give_up(epoch)?;
                    return Err(Refusal::Vanished(backup).into());
                }
                Err(error) => return Err(error),
            }
        }
        let gone = plan::still_deleted(plan, &survey.look);
        let used = survey.used_but(self.vault, &gone, self.monitor)?;
        let now = self.vault.env.now();
        let doom = plan::doom(plan, &survey.look, &gone, &used, now);
        self.clocks.check(&*self.vault.env, self.policy)?;
        self.put_doom(epoch, &doom)?;
        Ok(None)
    }

    /// The last look, and the deleting.
    fn carry_out(&self, epoch: u32, doom: &Doom) -> Result<Option<Collected>, Error> {
        let now = self.vault.env.now();
        plan::refuse_future(doom.at, now, self.policy)?;
        let from = doom.at.saturating_add(self.policy.grace);
        let is_empty = doom.backups.is_empty() && doom.packs.is_empty() && doom.runs.is_empty();
        let mut collected = Collected::at(epoch, Outcome::Done);
        if !is_empty {
            if now < from {
                return Ok(Some(Collected::at(epoch, Outcome::WaitsUntil(from))));
            }
            let survey = self.look()?;
            let older = survey.look.older_than(epoch);
            if !older.is_empty() {
                return Ok(Some(Collected::at(epoch, Outcome::WaitsForRuns(older))));
            }
            let gone = doom.backups.iter().copied().collect();
            let used = survey.used_but(self.vault, &gone, self.monitor)?;
            let left = plan::spare(doom, &survey.look, &used);
            collected.spared = doom.packs.iter().filter(|pack| used.contains(pack)).count();
            if collected.spared > 0 {
                tracing::error!(epoch, packs = collected.spared, "doomed packs are in use");
            }
            self.clocks.check(&*self.vault.env, self.policy)?;
            // Whoever finds the epoch done began too late: its names may be free again.
            if self.vault.is_there(&self.vault.names.done(epoch))? {
                return Ok(None);
            }
            self.delete(&left, &survey, &mut collected)?;
        }
        self.close(epoch)?;
        Ok(Some(collected))
    }

    /// Deletes in an order in which nothing that is left lacks something.
    fn delete(&self, doom: &Doom, survey: &Survey, into: &mut Collected) -> Result<(), Error> {
        let (names, target) = (&self.vault.names, &*self.vault.target);
        for &(volume, backup) in &doom.backups {
            self.go_on()?;
            // The tombstone goes last: without it a backup counts.
            if !self
                .vault
                .delete_unlocked(&names.manifest(volume, backup))?
                || !self.vault.delete_unlocked(&names.renewal(volume, backup))?
            {
                // It was locked anew meanwhile.
                continue;
            }
            target.delete(&names.proof(volume, backup))?;
            target.delete(&names.tombstone(volume, backup))?;
            into.backups += 1;
        }
        for &run in &doom.runs {
            self.go_on()?;
            self.vault.discard_under(&names.indexes_of(run))?;
        }
        let len = |pack: &PackId| survey.look.packs.get(pack).copied().unwrap_or(0);
        let total: u64 = doom.packs.iter().map(len).sum();
        let width = self.vault.width();
        for packs in doom.packs.chunks(width) {
            self.go_on()?;
            let gone = all_of(width, packs, |pack| {
                if !self.vault.delete_unlocked(&names.pack(*pack))? {
                    return Ok(None);
                }
                target.delete(&names.mark(*pack))?;
                Ok(Some(*pack))
            })?;
            let gone: Vec<PackId> = gone.into_iter().flatten().collect();
            into.locked += packs.len() - gone.len();
            into.packs += gone.len();
            into.freed += ByteCount::new(gone.iter().map(len).sum());
            self.monitor
                .progress(into.freed, Some(ByteCount::new(total)));
        }
        self.delete_sums(&doom.packs, survey)
    }

    /// Sums go when no pack of their run is left, which is asked for again. Nothing needs them: one
    /// that is kept for too long, or gone too early, costs a comparison.
    fn delete_sums(&self, gone: &[PackId], survey: &Survey) -> Result<(), Error> {
        let gone: BTreeSet<_> = gone.iter().collect();
        let look = &survey.look;
        let left: BTreeSet<_> = look
            .packs
            .keys()
            .filter(|pack| !gone.contains(pack))
            .map(|pack| pack.run)
            .collect();
        let is_over = |run: &RunId| !left.contains(run) && !look.runs.contains_key(run);
        for run in survey.summed.iter().copied().filter(is_over) {
            self.go_on()?;
            if self.vault.packs_of_run(run)?.is_empty() {
                self.vault.discard_under(&self.vault.names.sums_of(run))?;
            }
        }
        Ok(())
    }

    /// Says that the epoch is over, and removes its objects.
    fn close(&self, epoch: u32) -> Result<(), Error> {
        let (vault, names) = (self.vault, &self.vault.names);
        vault.put_epoch_object(&names.done(epoch), Class::Done, epoch, vec![])?;
        vault.target.delete(&names.plan(epoch))?;
        vault.target.delete(&names.doom(epoch))?;
        if let Err(error) = vault.keep_reserve() {
            tracing::warn!(%error, "the reserve of the target is not there");
        }
        Ok(())
    }

    fn look(&self) -> Result<Survey, Error> {
        self.go_on()?;
        Survey::take(self.vault)
    }

    fn go_on(&self) -> Result<(), Error> {
        match self.monitor.is_cancelled() {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }
}

/// Both clocks when a call began.
struct Clocks {
    wall: Timestamp,
    monotonic: Duration,
}

impl Clocks {
    fn start(env: &dyn Env) -> Self {
        Self {
            wall: env.now(),
            monotonic: env.monotonic(),
        }
    }

    /// Whether the wall clock kept step with the other one.
    fn check(&self, env: &dyn Env, policy: &CollectPolicy) -> Result<(), Refusal> {
        let passed = env.monotonic().saturating_sub(self.monotonic);
        let (expected, now) = (self.wall.saturating_add(passed), env.now());
        let off = now
            .duration_since(expected)
            .max(expected.duration_since(now));
        if off > policy.clock_skew {
            return Err(Refusal::ClockJumped(off));
        }
        Ok(())
    }
}
