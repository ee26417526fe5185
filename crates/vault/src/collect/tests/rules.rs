//! Each rule of a collection's decisions alone.

use std::collections::BTreeSet;
use std::time::Duration;

use stillpoint_model::id::{BackupId, RunId, VolumeId};
use stillpoint_model::{ByteCount, Timestamp};

use crate::collect::plan::*;
use crate::format::epoch::{BackupKey, Doom, Plan};
use crate::format::names::IdBytes;
use crate::format::pack::PackId;

const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);

fn run(n: u8) -> RunId {
    RunId::of_bytes([n; 16])
}

fn key(n: u8) -> BackupKey {
    (VolumeId::of_bytes([9; 16]), BackupId::of_bytes([n; 16]))
}

fn pack(n: u8, seq: u32) -> PackId {
    PackId { run: run(n), seq }
}

fn before(seconds: u64) -> Timestamp {
    NOW.saturating_sub(Duration::from_secs(seconds))
}

fn policy() -> CollectPolicy {
    CollectPolicy {
        keep_deleted: Duration::from_secs(100),
        confirmed: ByteCount::new(u64::MAX),
        ..CollectPolicy::default()
    }
}

/// Backups 1 and 2 with a pack each, the first deleted a while ago.
fn look() -> Look {
    let mut look = Look::default();
    for n in [1, 2] {
        look.packs.insert(pack(n, 0), 100);
        look.indexed.insert(run(n));
        let seen = Seen {
            run: run(n),
            created: before(500),
            deleted: None,
        };
        look.backups.insert(key(n), seen);
    }
    delete(&mut look, 1, 200);
    look
}

fn delete(look: &mut Look, n: u8, seconds_ago: u64) {
    look.backups.get_mut(&key(n)).unwrap().deleted = Some(Deletion {
        at: before(seconds_ago),
        tombstone: [n; 32],
    });
}

fn planned(look: &Look, used: &[PackId]) -> Option<Plan> {
    let expired = expired(look, NOW, &policy()).unwrap();
    let used = used.iter().copied().collect();
    condemn(look, &expired, &used, NOW, &policy()).unwrap()
}

fn doomed(look: &Look, used: &[PackId]) -> Doom {
    let plan = planned(&self::look(), &[pack(2, 0)]).unwrap();
    let gone = still_deleted(&plan, look);
    doom(&plan, look, &gone, &used.iter().copied().collect(), NOW)
}

#[test]
fn a_backup_expires_when_its_time_to_be_undeleted_is_over() {
    let mut look = look();
    let only_first = BTreeSet::from([key(1)]);
    assert_eq!(expired(&look, NOW, &policy()), Ok(only_first));
    delete(&mut look, 1, 99);
    assert_eq!(expired(&look, NOW, &policy()), Ok(BTreeSet::new()));
}

#[test]
fn a_backup_whose_run_has_a_record_does_not_expire() {
    let mut look = look();
    look.runs.insert(run(1), 7);
    assert_eq!(expired(&look, NOW, &policy()), Ok(BTreeSet::new()));
}

#[test]
fn a_plan_names_what_only_the_expired_reach() {
    let plan = planned(&look(), &[pack(2, 0)]).unwrap();
    assert_eq!(plan.backups, vec![(key(1), [1; 32])]);
    assert_eq!(plan.kept, vec![key(2)]);
    assert_eq!(plan.packs, vec![pack(1, 0)]);
    assert_eq!(plan.runs, vec![run(1)]);
}

#[test]
fn a_pack_that_is_reached_is_not_condemned() {
    let plan = planned(&look(), &[pack(1, 0), pack(2, 0)]).unwrap();
    assert_eq!(plan.packs, vec![]);
}

#[test]
fn a_pack_of_a_run_under_way_is_not_condemned() {
    let mut look = look();
    look.packs.insert(pack(3, 0), 100);
    look.runs.insert(run(3), 0);
    let plan = planned(&look, &[pack(2, 0)]).unwrap();
    assert_eq!(plan.packs, vec![pack(1, 0)]);
}

#[test]
fn what_a_lost_run_left_is_condemned() {
    let mut look = look();
    look.packs.insert(pack(3, 0), 100);
    look.indexed.insert(run(3));
    let plan = planned(&look, &[pack(2, 0)]).unwrap();
    assert_eq!(plan.packs, vec![pack(1, 0), pack(3, 0)]);
    assert_eq!(plan.runs, vec![run(1), run(3)]);
}

#[test]
fn without_anything_dead_there_is_no_plan() {
    let mut look = look();
    look.backups.get_mut(&key(1)).unwrap().deleted = None;
    assert_eq!(planned(&look, &[pack(1, 0), pack(2, 0)]), None);
}

#[test]
fn more_than_the_share_is_refused_unless_that_many_bytes_are_confirmed() {
    let look = look();
    let gone = expired(&look, NOW, &policy()).unwrap();
    let try_with = |max_percent, confirmed| {
        let policy = CollectPolicy {
            max_percent,
            confirmed: ByteCount::new(confirmed),
            ..policy()
        };
        condemn(&look, &gone, &BTreeSet::from([pack(2, 0)]), NOW, &policy).is_ok()
    };
    assert!(!try_with(49, 0));
    assert!(try_with(50, 0));
    assert!(!try_with(49, 99));
    assert!(try_with(0, 100));
}

#[test]
fn a_known_backup_that_is_missing_is_refused() {
    let policy = CollectPolicy {
        known: BTreeSet::from([key(1), key(3)]),
        ..policy()
    };
    let refused = Err(Refusal::KnownMissing(key(3).1));
    assert_eq!(expired(&look(), NOW, &policy), refused);
}

#[test]
fn a_time_from_the_future_is_refused_beyond_the_skew() {
    let try_with = |ahead| {
        let mut look = look();
        let stamp = NOW.saturating_add(Duration::from_secs(ahead));
        look.backups.get_mut(&key(2)).unwrap().created = stamp;
        expired(&look, NOW, &policy()).is_ok()
    };
    assert!(try_with(300));
    assert!(!try_with(301));
}

#[test]
fn runs_are_older_when_their_record_names_an_older_epoch() {
    let mut look = look();
    look.runs = [(run(3), 4), (run(4), 5), (run(5), 0)].into();
    assert_eq!(look.older_than(5), vec![run(3), run(5)]);
}

#[test]
fn runs_without_a_record_and_a_backup_are_unaccounted() {
    let mut look = look();
    look.packs.insert(pack(3, 0), 1);
    look.indexed.insert(run(4));
    look.packs.insert(pack(5, 0), 1);
    look.runs.insert(run(5), 0);
    assert_eq!(look.unaccounted(), BTreeSet::from([run(3), run(4)]));
}

#[test]
fn what_is_still_dead_at_the_second_look_is_doomed() {
    let doom = doomed(&look(), &[pack(2, 0)]);
    assert_eq!(doom.backups, vec![key(1)]);
    assert_eq!(doom.packs, vec![pack(1, 0)]);
    assert_eq!(doom.runs, vec![run(1)]);
}

#[test]
fn a_condemned_pack_that_is_reached_after_all_is_rescued() {
    assert_eq!(doomed(&look(), &[pack(1, 0)]).packs, vec![]);
}

#[test]
fn a_backup_that_was_undeleted_stays_with_its_index() {
    let mut later = look();
    later.backups.get_mut(&key(1)).unwrap().deleted = None;
    let doom = doomed(&later, &[pack(1, 0), pack(2, 0)]);
    assert_eq!(
        (doom.backups, doom.packs, doom.runs),
        (vec![], vec![], vec![])
    );
}

#[test]
fn a_backup_that_was_undeleted_and_deleted_again_stays() {
    let mut later = look();
    let deleted = &mut later.backups.get_mut(&key(1)).unwrap().deleted;
    deleted.as_mut().unwrap().tombstone = [77; 32];
    assert_eq!(doomed(&later, &[pack(2, 0)]).backups, vec![]);
}

#[test]
fn nothing_is_doomed_that_was_not_planned() {
    let mut later = look();
    later.packs.insert(pack(3, 0), 100);
    later.indexed.insert(run(3));
    delete(&mut later, 2, 200);
    let doom = doomed(&later, &[pack(2, 0)]);
    assert_eq!(doom.backups, vec![key(1)]);
    assert_eq!(doom.packs, vec![pack(1, 0)]);
    assert_eq!(doom.runs, vec![run(1)]);
}

#[test]
fn a_backup_that_was_to_stay_is_missed() {
    let plan = planned(&look(), &[pack(2, 0)]).unwrap();
    assert_eq!(missing(&plan, &look()), None);
    let mut later = look();
    later.backups.remove(&key(2));
    assert_eq!(missing(&plan, &later), Some(key(2)));
}

#[test]
fn the_last_look_spares_what_is_reached_or_of_a_run_under_way() {
    let doom = Doom {
        at: NOW,
        backups: vec![key(1)],
        packs: vec![pack(1, 0), pack(1, 1), pack(3, 0)],
        runs: vec![run(1), run(3)],
    };
    let mut look = look();
    look.indexed.insert(run(3));
    look.runs.insert(run(3), 1);
    let left = spare(&doom, &look, &BTreeSet::from([pack(1, 1)]));
    assert_eq!(left.packs, vec![pack(1, 0)]);
    assert_eq!(left.runs, vec![run(1)]);
    assert_eq!(left.backups, vec![key(1)]);
}
