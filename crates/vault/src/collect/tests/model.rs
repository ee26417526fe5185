//! The protocol of collection as a machine of small steps, and every state that it can reach.
//!
//! Each step is one call to the target, or a few that nobody could tell apart; between two steps of
//! one actor the others take any number of theirs. The decisions are those of `plan`
//! itself. Clocks and the grace do not occur: nothing that is proven here rests on them.
//!
//! ```text
//!  before:    backup 0 reaches packs a and b, both of its run; backup 1, its child, reaches b
//!  writers    ask for the epoch ─ put a record ─ read the plan ─ look at their parent ─ decide what
//!             to share ─ put a manifest ─ remove the record; or are reaped on the way
//!  a user     deletes backup 0, undeletes it, deletes it again
//!  collectors look (packs, runs, backups), plan, look, doom, look, delete one by one, end, begin anew
//! ```
//!
//! Where backups are renewed, the first writer repairs backup 0: its backup 2 is the successor, which
//! shares all, some or nothing of it, and a renewal follows. Backup 0 is then read by backup 2.
//!
//! What must hold in every state: a backup that is not doomed has all its packs, and a backup whose
//! undeletion was reported as done is there until it is deleted again. Left out: faulty listings and
//! faults of the target, which the simulation of the real code has.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use stillpoint_model::id::{BackupId, RunId, VolumeId};
use stillpoint_model::{ByteCount, Timestamp};

use crate::collect::plan::{self, CollectPolicy, Deletion, Look, Seen};
use crate::format::epoch::{BackupKey, Doom, Plan};
use crate::format::names::IdBytes;
use crate::format::pack::PackId;

/// Backups and runs 0 and 1 are there before; 2 and 3 are the writers'.
const BACKUPS: usize = 4;
const A: u8 = 0b0001;
const B: u8 = 0b0010;
/// The newest epoch that is explored.
const LAST_EPOCH: u8 = 2;

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Nothing,
    NoWaiting,
    NoSecondLook,
    WritersIgnoreThePlan,
    WritersIgnorePlannedParents,
    RecordsNameALaterEpoch,
    TombstonesAreNotLookedAtAgain,
    UndeletersDoNotLookAgain,
    ChildrenInheritTheOldTree,
    SuccessorsAreDeletedFirst,
    RepairersDeleteSuccessors,
}

/// How much happens.
#[derive(Clone, Copy)]
struct Scope {
    writers: usize,
    collectors: usize,
    /// How often each collector begins.
    calls: u8,
    undelete: bool,
    /// Whether the first writer repairs backup 0.
    renew: bool,
    broken: Broken,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Planned {
    packs: u8,
    /// The tombstone of each backup that is planned to go; 0 for none.
    tombs: [u8; BACKUPS],
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Doomed {
    packs: u8,
    backups: u8,
}

/// The names of everything in the target, and what little they hold.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Saw {
    packs: u8,
    /// One more than the epoch that the record of a run names; 0 without a record.
    records: [u8; BACKUPS],
    manifests: u8,
    tombs: [u8; BACKUPS],
    /// Whether backup 0 has a renewal, which names backup 2.
    renewed: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Writer {
    step: u8,
    epoch: u8,
    condemned: u8,
    parents_refused: u8,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct User {
    step: u8,
    promised: bool,
    /// Whether a successor was seen when the act began.
    line: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Collector {
    step: u8,
    epoch: u8,
    calls: u8,
    saw: Saw,
    /// As it was read.
    plan: Planned,
    /// As it was read, then what is left of it.
    doom: Doomed,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct World {
    there: Saw,
    refs: [u8; BACKUPS],
    plans: [Option<Planned>; LAST_EPOCH as usize + 2],
    dooms: [Option<Doomed>; LAST_EPOCH as usize + 2],
    /// Backups that some doom names.
    doomed: u8,
    done: u8,
    writers: [Writer; 2],
    user: User,
    collectors: [Collector; 2],
}

fn bits(mask: u8) -> impl Iterator<Item = usize> {
    (0..8).filter(move |bit| mask & (1 << bit) != 0)
}

/// What the ids of a number are made of.
fn byte(number: usize) -> u8 {
    u8::try_from(number).unwrap() + 1
}

fn run(number: usize) -> RunId {
    RunId::of_bytes([byte(number); 16])
}

fn key(number: usize) -> BackupKey {
    let bytes = [byte(number); 16];
    (VolumeId::of_bytes(bytes), BackupId::of_bytes(bytes))
}

/// Packs a and b are of run 0, pack 2 of run 2, pack 3 of run 3.
fn pack(bit: usize) -> PackId {
    let owner = if bit < 2 { 0 } else { bit };
    PackId {
        run: run(owner),
        seq: u32::from(byte(bit)),
    }
}

fn mask_of<T: PartialEq>(items: &[T], of: impl Fn(usize) -> T) -> u8 {
    (0..BACKUPS).fold(0, |mask, bit| {
        mask | (u8::from(items.contains(&of(bit))) << bit)
    })
}

/// Which of backup 0 and its successor are no parents because of a plan.
fn refused_by(plan: &Planned) -> u8 {
    u8::from(plan.tombs[0] != 0) | (u8::from(plan.tombs[2] != 0) << 1)
}

impl Saw {
    fn bury(&mut self, number: usize, is_there: bool, tombstone: u8) {
        if is_there {
            self.tombs[number] = tombstone;
        }
    }

    fn look(&self) -> Look {
        let seen = |number: usize| Seen {
            run: run(number),
            created: Timestamp::EPOCH,
            deleted: (self.tombs[number] != 0).then(|| Deletion {
                at: Timestamp::EPOCH,
                tombstone: [self.tombs[number]; 32],
            }),
        };
        let records = self.records.iter().enumerate();
        Look {
            packs: bits(self.packs).map(|bit| (pack(bit), 1)).collect(),
            indexed: BTreeSet::new(),
            runs: records
                .filter(|(_, record)| **record != 0)
                .map(|(number, record)| (run(number), u32::from(record - 1)))
                .collect(),
            backups: bits(self.manifests)
                .map(|number| (key(number), seen(number)))
                .collect::<BTreeMap<_, _>>(),
        }
    }

    fn used_but(&self, refs: &[u8; BACKUPS], gone: &BTreeSet<BackupKey>) -> BTreeSet<PackId> {
        let stays =
            |number: usize| self.manifests & (1 << number) != 0 && !gone.contains(&key(number));
        let needed = |number: usize| stays(number) && !(number == 0 && self.renewed && stays(2));
        let kept = bits(self.manifests).filter(|number| needed(*number));
        kept.flat_map(|number| bits(refs[number]))
            .map(pack)
            .collect()
    }
}

impl Planned {
    fn of(plan: &Plan) -> Self {
        let mut tombs = [0; BACKUPS];
        for (number, tomb) in tombs.iter_mut().enumerate() {
            let named = plan.backups.iter().find(|(named, _)| *named == key(number));
            *tomb = named.map_or(0, |(_, tombstone)| tombstone[0]);
        }
        Self {
            packs: mask_of(&plan.packs, pack),
            tombs,
        }
    }

    fn plan(&self) -> Plan {
        let backups = (0..BACKUPS).filter(|number| self.tombs[*number] != 0);
        Plan {
            at: Timestamp::EPOCH,
            backups: backups
                .map(|number| (key(number), [self.tombs[number]; 32]))
                .collect(),
            kept: vec![],
            packs: bits(self.packs).map(pack).collect(),
            runs: vec![],
        }
    }
}

impl Doomed {
    fn of(doom: &Doom) -> Self {
        Self {
            packs: mask_of(&doom.packs, pack),
            backups: mask_of(&doom.backups, key),
        }
    }

    fn doom(&self) -> Doom {
        Doom {
            at: Timestamp::EPOCH,
            backups: bits(self.backups).map(key).collect(),
            packs: bits(self.packs).map(pack).collect(),
            runs: vec![],
        }
    }
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            refs: [A | B, B, 0, 0],
            ..Self::default()
        };
        world.there.packs = A | B;
        world.there.manifests = 0b0011;
        world
    }

    fn is_safe(&self) -> bool {
        let read_by = |number: usize| {
            if number == 0 && self.there.renewed {
                2
            } else {
                number
            }
        };
        let whole = |number: usize| {
            let by = read_by(number);
            self.there.manifests & (1 << by) != 0 && self.refs[by] & !self.there.packs == 0
        };
        let kept = self.there.manifests & !self.doomed;
        let promised = !self.user.promised || kept & 1 != 0;
        promised && bits(kept).all(whole)
    }

    fn open_plan(&self) -> Option<Planned> {
        self.plans[usize::from(self.done) + 1]
    }

    /// Every world that one step of anybody makes of this one.
    fn next(&self, scope: Scope) -> Vec<Self> {
        let mut next = vec![];
        for writer in 0..scope.writers {
            match scope.renew && writer == 0 {
                true => self.repair(scope.broken, &mut next),
                false => self.write(writer, scope.broken, &mut next),
            }
        }
        match scope.renew {
            true => self.use_line(scope, &mut next),
            false => self.use_it(scope, &mut next),
        }
        for collector in 0..scope.collectors {
            next.extend(self.collect(collector, scope));
        }
        next
    }

    fn write(&self, which: usize, broken: Broken, next: &mut Vec<Self>) {
        let (mut world, number) = (*self, which + 2);
        let own = 1 << number;
        let writer = &mut world.writers[which];
        writer.step += 1;
        match writer.step {
            1 => {
                writer.epoch = self.done + u8::from(self.open_plan().is_some());
                if broken == Broken::RecordsNameALaterEpoch {
                    writer.epoch += 1;
                }
            }
            2 => {
                world.there.records[number] = writer.epoch + 1;
                world.there.packs |= own;
            }
            3 => {
                let plan = self.open_plan().unwrap_or_default();
                if broken != Broken::WritersIgnoreThePlan {
                    writer.condemned = plan.packs;
                }
                if broken != Broken::WritersIgnorePlannedParents {
                    writer.parents_refused = refused_by(&plan);
                }
            }
            4 => {
                let condemned = writer.condemned;
                let live = self.there.manifests & 1 != 0 && self.there.tombs[0] == 0;
                let parent = self.is_parent(writer.parents_refused);
                let by = match self.there.renewed && broken != Broken::ChildrenInheritTheOldTree {
                    true => 2,
                    false => 0,
                };
                let shared = [
                    Some(0),
                    parent.then_some(self.refs[by]),
                    Some(B),
                    live.then_some(A & self.there.packs & !condemned),
                ];
                for shared in shared.into_iter().flatten() {
                    world.refs[number] = own | shared;
                    next.push(world);
                }
            }
            5 => world.there.manifests |= own,
            6 => world.there.records[number] = 0,
            _ => return,
        }
        if self.writers[which].step != 3 {
            next.push(world);
        }
        // It is reaped.
        if (2..5).contains(&self.writers[which].step) {
            let mut world = *self;
            world.writers[which].step = 9;
            world.there.packs &= !own;
            world.there.records[number] = 0;
            next.push(world);
        }
    }

    /// Whether backup 0 may be a parent, as somebody finds who read a plan before.
    fn is_parent(&self, refused: u8) -> bool {
        let live = self.there.manifests & 1 != 0 && self.there.tombs[0] == 0;
        let line = 1 | (u8::from(self.there.renewed) << 1);
        live && refused & line == 0
    }

    /// Stores the successor of backup 0, and renews that.
    fn repair(&self, broken: Broken, next: &mut Vec<Self>) {
        let (mut world, own) = (*self, 0b0100);
        let writer = &mut world.writers[0];
        writer.step += 1;
        match writer.step {
            1 => writer.epoch = self.done + u8::from(self.open_plan().is_some()),
            2 => {
                world.there.records[2] = writer.epoch + 1;
                world.there.packs |= own;
            }
            3 => {
                let plan = self.open_plan().unwrap_or_default();
                writer.parents_refused = refused_by(&plan);
            }
            4 if self.is_parent(writer.parents_refused) => {
                for shared in [0, self.refs[0] & B, self.refs[0]] {
                    world.refs[2] = own | shared;
                    next.push(world);
                }
            }
            5 => world.there.manifests |= own,
            6 => world.there.records[2] = 0,
            7 if self.there.manifests & 1 != 0 => world.there.renewed = true,
            // Whoever undeletes the backup may not have seen the renewal.
            8 if broken == Broken::RepairersDeleteSuccessors && self.there.tombs[0] != 0 => {
                world.there.bury(2, self.there.tombs[2] == 0, 9);
            }
            _ => return,
        }
        if self.writers[0].step != 3 {
            next.push(world);
        }
        if (2..5).contains(&self.writers[0].step) {
            let mut world = *self;
            world.writers[0].step = 9;
            world.there.packs &= !own;
            world.there.records[2] = 0;
            next.push(world);
        }
    }

    /// As [`World::use_it`], of a backup that may have a successor.
    fn use_line(&self, scope: Scope, next: &mut Vec<Self>) {
        let mut world = *self;
        world.user.step += 1;
        let (line, there) = (self.user.line, &mut world.there);
        let plan = self.open_plan().unwrap_or_default();
        let has = |number: usize| self.there.manifests & (1 << number) != 0;
        let first_the_backup = scope.broken != Broken::SuccessorsAreDeletedFirst;
        match world.user.step {
            4.. if !scope.undelete => return,
            1 | 4 | 12 => {
                world.user.line = self.there.renewed;
                world.user.promised = false;
            }
            2 | 13 if first_the_backup => there.tombs[0] = world.user.step,
            3 | 14 if first_the_backup => there.bury(2, line && has(2), world.user.step),
            2 | 13 => there.bury(2, line && has(2), world.user.step),
            3 | 14 => there.tombs[0] = world.user.step,
            5 if line && plan.tombs[2] != 0 => world.user.step = 20,
            6 if line => there.tombs[2] = 0,
            7 if line && plan.tombs[2] != 0 => {
                there.bury(2, has(2), 7);
                world.user.step = 20;
            }
            8 if plan.tombs[0] != 0 => {
                there.bury(2, line && has(2), 8);
                world.user.step = 20;
            }
            10 => there.tombs[0] = 0,
            11 if plan.tombs[0] != 0 => {
                there.bury(0, has(0), 11);
                there.bury(2, line && has(2), 11);
                world.user.step = 20;
            }
            11 => world.user.promised = has(0),
            5..=9 => {}
            _ => return,
        }
        next.push(world);
    }

    /// Deletes, undeletes, deletes again.
    fn use_it(&self, scope: Scope, next: &mut Vec<Self>) {
        let mut world = *self;
        world.user.step += 1;
        let is_named = self.open_plan().is_some_and(|plan| plan.tombs[0] != 0);
        let is_there = self.there.manifests & 1 != 0;
        match world.user.step {
            1 => world.there.tombs[0] = 1,
            2..5 if !scope.undelete => return,
            2 if is_named => world.user.step = 9,
            2 => {}
            3 => world.there.tombs[0] = 0,
            4 if is_named && scope.broken != Broken::UndeletersDoNotLookAgain => {
                world.there.tombs[0] = if is_there { 2 } else { 0 };
                world.user.step = 9;
            }
            4 => world.user.promised = is_there,
            5 if is_there => {
                world.there.tombs[0] = 3;
                world.user.promised = false;
            }
            _ => return,
        }
        next.push(world);
    }

    fn collect(&self, which: usize, scope: Scope) -> Option<Self> {
        let mut world = *self;
        let mut at = self.collectors[which];
        let epoch = usize::from(at.epoch);
        at.step += 1;
        match at.step {
            1 => {
                if at.calls == scope.calls || self.done == LAST_EPOCH {
                    return None;
                }
                at.calls += 1;
                at.epoch = self.done + 1;
                for old in 0..usize::from(at.epoch) {
                    (world.plans[old], world.dooms[old]) = (None, None);
                }
            }
            // Where the epoch is: 10 begins, 20 decides, 30 carries out.
            2 => {
                at.step = if self.dooms[epoch].is_some() { 30 } else { 2 };
                at.doom = self.dooms[epoch].unwrap_or_default();
            }
            3 => {
                at.step = if self.plans[epoch].is_some() { 20 } else { 10 };
                at.plan = self.plans[epoch].unwrap_or_default();
            }
            11 | 21 | 31 => at.saw.packs = self.there.packs,
            12 | 22 | 32 => at.saw.records = self.there.records,
            13 | 23 | 33 => {
                at.saw.manifests = self.there.manifests;
                at.saw.renewed = self.there.renewed;
                at.saw.tombs = self.there.tombs;
            }
            14 => at.step = world.begin(&mut at),
            24 => at.step = world.decide(&mut at, scope.broken),
            34 => at.step = world.look_again(&mut at, scope.broken),
            35 if self.done >= at.epoch => (at.step, at.doom) = (0, Doomed::default()),
            35 => {}
            36 => {
                if let Some(number) = bits(at.doom.backups).next() {
                    at.doom.backups &= !(1 << number);
                    world.there.manifests &= !(1 << number);
                    world.there.tombs[number] = 0;
                    world.there.renewed &= number != 0;
                    at.step = 35 + u8::from(at.doom.backups == 0);
                }
            }
            37 => {
                if let Some(bit) = bits(at.doom.packs).next() {
                    at.doom.packs &= !(1 << bit);
                    world.there.packs &= !(1 << bit);
                    at.step = 36 + u8::from(at.doom.packs == 0);
                }
            }
            38 => world.done = self.done.max(at.epoch),
            39 => {
                (world.plans[epoch], world.dooms[epoch]) = (None, None);
                (at.step, at.saw) = (0, Saw::default());
            }
            _ => return None,
        }
        world.collectors[which] = at;
        Some(world)
    }

    fn begin(&mut self, at: &mut Collector) -> u8 {
        let (look, policy, now) = (at.saw.look(), policy(), Timestamp::EPOCH);
        let expired = plan::expired(&look, now, &policy).unwrap();
        let used = at.saw.used_but(&self.refs, &expired);
        let plan = plan::condemn(&look, &expired, &used, now, &policy).unwrap();
        if let Some(plan) = plan {
            self.plans[usize::from(at.epoch)].get_or_insert(Planned::of(&plan));
        }
        at.saw = Saw::default();
        0
    }

    fn decide(&mut self, at: &mut Collector, broken: Broken) -> u8 {
        let (look, epoch) = (at.saw.look(), usize::from(at.epoch));
        let waits = !look.older_than(u32::from(at.epoch)).is_empty();
        let plan = std::mem::take(&mut at.plan).plan();
        if !waits || broken == Broken::NoWaiting {
            let mut gone = plan::still_deleted(&plan, &look);
            if broken == Broken::TombstonesAreNotLookedAtAgain {
                gone = plan.backups.iter().map(|(key, _)| *key).collect();
            }
            let mut used = at.saw.used_but(&self.refs, &gone);
            if broken == Broken::NoSecondLook {
                used.clear();
            }
            let doom = Doomed::of(&plan::doom(&plan, &look, &gone, &used, Timestamp::EPOCH));
            if self.dooms[epoch].is_none() {
                self.dooms[epoch] = Some(doom);
                if self.done < at.epoch {
                    self.doomed |= doom.backups;
                }
            }
        }
        at.saw = Saw::default();
        0
    }

    fn look_again(&mut self, at: &mut Collector, broken: Broken) -> u8 {
        let look = at.saw.look();
        let doom = at.doom.doom();
        let gone = doom.backups.iter().copied().collect();
        let waits = !look.older_than(u32::from(at.epoch)).is_empty();
        let used = match broken {
            Broken::NoSecondLook => BTreeSet::new(),
            _ => at.saw.used_but(&self.refs, &gone),
        };
        at.doom = Doomed::of(&plan::spare(&doom, &look, &used));
        at.saw = Saw::default();
        if waits && broken != Broken::NoWaiting {
            at.doom = Doomed::default();
            return 0;
        }
        34
    }
}

fn policy() -> CollectPolicy {
    CollectPolicy {
        keep_deleted: std::time::Duration::ZERO,
        confirmed: ByteCount::new(u64::MAX),
        ..CollectPolicy::default()
    }
}

/// Reaches every state, or one in which something is lost. How many were reached, and whether all
/// of them are safe.
fn explore(scope: Scope) -> (usize, bool) {
    let mut known = HashSet::from([World::new()]);
    let mut open = vec![World::new()];
    while let Some(world) = open.pop() {
        for next in world.next(scope) {
            if !next.is_safe() {
                return (known.len(), false);
            }
            if known.insert(next) {
                open.push(next);
            }
        }
    }
    (known.len(), true)
}

const SMALL: Scope = Scope {
    writers: 1,
    collectors: 1,
    calls: 4,
    undelete: true,
    renew: false,
    broken: Broken::Nothing,
};

/// Backup 0 is repaired, gets a child, is deleted and undeleted.
const RENEWED: Scope = Scope {
    writers: 2,
    calls: 3,
    renew: true,
    ..SMALL
};

fn loses(broken: Broken) -> bool {
    let two = Scope {
        writers: 2,
        undelete: false,
        broken,
        ..SMALL
    };
    !explore(Scope { broken, ..SMALL }).1 || !explore(two).1
}

/// Explores all of a scope; how many states were found must be about what it was, or the machine
/// does not move any more.
fn holds(scope: Scope, at_least: usize) {
    let (states, safe) = explore(scope);
    println!("{states} states");
    assert!(safe, "something is lost after {states} states");
    assert!(states >= at_least, "only {states} states");
}

#[test]
fn no_state_of_two_writers_and_a_collector_loses_anything() {
    let scope = Scope {
        writers: 2,
        undelete: false,
        ..SMALL
    };
    holds(scope, 300_000);
}

#[test]
fn no_state_with_an_undelete_loses_anything() {
    holds(SMALL, 25_000);
}

#[test]
fn no_state_of_two_writers_with_an_undelete_loses_anything() {
    let scope = Scope {
        writers: 2,
        calls: 3,
        ..SMALL
    };
    holds(scope, 1_000_000);
}

#[test]
fn no_state_of_two_collectors_and_a_writer_loses_anything() {
    let scope = Scope {
        collectors: 2,
        calls: 3,
        undelete: false,
        ..SMALL
    };
    holds(scope, 400_000);
}

#[test]
fn no_state_of_two_collectors_with_an_undelete_loses_anything() {
    let scope = Scope {
        writers: 0,
        collectors: 2,
        calls: 3,
        ..SMALL
    };
    holds(scope, 25_000);
}

#[test]
fn no_state_of_everybody_at_once_loses_anything() {
    let scope = Scope {
        collectors: 2,
        calls: 2,
        ..SMALL
    };
    holds(scope, 100_000);
}

#[test]
fn no_state_of_a_repair_and_a_child_loses_anything() {
    let scope = Scope {
        undelete: false,
        ..RENEWED
    };
    holds(scope, 500_000);
}

#[test]
fn no_state_of_a_repair_with_an_undelete_loses_anything() {
    let scope = Scope {
        writers: 1,
        calls: 4,
        ..RENEWED
    };
    holds(scope, 60_000);
}

#[test]
fn no_state_of_a_repair_beside_two_collectors_loses_anything() {
    let scope = Scope {
        writers: 1,
        collectors: 2,
        calls: 2,
        undelete: false,
        ..RENEWED
    };
    holds(scope, 200_000);
}

#[test]
fn when_children_of_a_renewed_backup_inherit_its_old_tree_the_model_finds_the_loss() {
    let scope = Scope {
        undelete: false,
        broken: Broken::ChildrenInheritTheOldTree,
        ..RENEWED
    };
    assert!(!explore(scope).1);
}

#[test]
fn when_a_successor_is_deleted_before_its_backup_the_model_finds_the_loss() {
    let scope = Scope {
        writers: 1,
        calls: 4,
        broken: Broken::SuccessorsAreDeletedFirst,
        ..RENEWED
    };
    assert!(!explore(scope).1);
}

#[test]
fn when_a_repair_deletes_the_successor_of_a_deleted_backup_the_model_finds_the_loss() {
    let scope = Scope {
        writers: 1,
        calls: 4,
        broken: Broken::RepairersDeleteSuccessors,
        ..RENEWED
    };
    assert!(!explore(scope).1);
}

#[test]
fn without_waiting_for_older_runs_the_model_finds_the_loss() {
    assert!(loses(Broken::NoWaiting));
}

#[test]
fn without_a_second_look_the_model_finds_the_loss() {
    assert!(loses(Broken::NoSecondLook));
}

#[test]
fn when_writers_ignore_the_plan_the_model_finds_the_loss() {
    assert!(loses(Broken::WritersIgnoreThePlan));
}

#[test]
fn when_writers_take_planned_parents_the_model_finds_the_loss() {
    assert!(loses(Broken::WritersIgnorePlannedParents));
}

#[test]
fn when_records_name_an_epoch_that_was_not_seen_the_model_finds_the_loss() {
    assert!(loses(Broken::RecordsNameALaterEpoch));
}

#[test]
fn when_tombstones_are_not_looked_at_again_the_model_finds_the_loss() {
    assert!(loses(Broken::TombstonesAreNotLookedAtAgain));
}

#[test]
fn when_undeleters_do_not_look_again_the_model_finds_the_loss() {
    assert!(loses(Broken::UndeletersDoNotLookAgain));
}
