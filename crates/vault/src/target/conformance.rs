//! What every target must do. A driver that does not run this does not exist.

#![allow(
    clippy::unwrap_used,
    reason = "a suite of tests, which other crates run with the feature `conformance`"
)]

use std::sync::{Arc, Barrier};

use stillpoint_model::Env;

use super::*;

#[cfg(test)]
mod tests;

/// How many threads race for one name.
const RACERS: usize = 16;
/// How often what two clients see of each other is looked at.
const ROUNDS: usize = 6;

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn names(page: &ListPage) -> Vec<&str> {
    page.entries
        .iter()
        .map(|entry| entry.name.as_str())
        .collect()
}

fn passes_the_probe(target: &dyn Target, env: &dyn Env) {
    probe(target, env).unwrap();
    assert_eq!(target.list("", None, 10).unwrap(), ListPage::default());
}

fn never_replaces(target: &dyn Target) {
    let at = name("a/b/c");
    target.put_new(&at, b"one").unwrap();
    assert_eq!(
        target.put_new(&at, b"two").unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert_eq!(target.get(&at, ByteRange::new(0, 3)).unwrap(), b"one");
    let (_, again) = target.put_buffer(&at, b"two".to_vec());
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Conflict);
    target.delete(&at).unwrap();
    target.put_buffer(&at, b"three".to_vec()).1.unwrap();
    assert_eq!(target.get_whole(&at, 5).unwrap(), b"three");
    assert_eq!(
        target.get_whole(&at, 4).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    assert!(target.has(&at).unwrap());
    target.delete(&at).unwrap();
    assert!(!target.has(&at).unwrap());
    assert_eq!(
        target.get_whole(&at, 5).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

fn reads_exactly_what_was_asked(target: &dyn Target) {
    let at = name("x");
    target.put_new(&at, b"0123456789").unwrap();
    assert_eq!(target.head(&at).unwrap().get(), 10);
    assert_eq!(target.get(&at, ByteRange::new(3, 4)).unwrap(), b"3456");
    assert_eq!(target.get(&at, ByteRange::new(10, 0)).unwrap(), b"");
    for range in [
        ByteRange::new(8, 3),
        ByteRange::new(11, 1),
        ByteRange::new(0, u64::MAX),
    ] {
        assert_eq!(
            target.get(&at, range).unwrap_err().kind(),
            ErrorKind::Corrupt
        );
    }
    target.delete(&at).unwrap();
    let gone = target.get(&at, ByteRange::new(0, 1)).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert_eq!(target.head(&at).unwrap_err().kind(), ErrorKind::NotFound);
    target.delete(&at).unwrap();
}

fn lists_in_the_order_of_names(target: &dyn Target) {
    let all = ["a-b/1", "a/1", "a/2", "a/b/3", "a.c", "a0", "b/1"];
    for text in all {
        target.put_new(&name(text), text.as_bytes()).unwrap();
    }
    let mut sorted = all;
    sorted.sort_unstable();
    let page = target.list("", None, 100).unwrap();
    assert_eq!(names(&page), sorted);
    assert!(!page.more);
    assert!(
        page.entries
            .iter()
            .all(|e| e.len.get() == e.name.as_str().len() as u64)
    );
    assert_eq!(
        names(&target.list("a/", None, 100).unwrap()),
        ["a/1", "a/2", "a/b/3"]
    );
    assert_eq!(
        names(&target.list("a/", Some("a/1"), 100).unwrap()),
        ["a/2", "a/b/3"]
    );
    assert_eq!(names(&target.list("nothing/", None, 100).unwrap()), [""; 0]);
    for limit in 1..=8 {
        let mut found = vec![];
        let mut after: Option<String> = None;
        loop {
            let page = target.list("", after.as_deref(), limit).unwrap();
            assert!(page.entries.len() <= limit);
            found.extend(page.entries.iter().map(|entry| entry.name.to_string()));
            if !page.more {
                break;
            }
            after = found.last().cloned();
        }
        assert_eq!(found, sorted, "in pages of {limit}");
    }
    for text in all {
        target.delete(&name(text)).unwrap();
    }
}

/// Puts and deletes side by side in one directory must not get into each other's way.
fn puts_while_neighbours_go(target: &Arc<dyn Target>) {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for round in 0..50 {
                    let at = name(&format!("d/e/{thread}-{round}"));
                    target.put_new(&at, b"x").unwrap();
                    assert_eq!(target.get(&at, ByteRange::new(0, 1)).unwrap(), b"x");
                    target.delete(&at).unwrap();
                }
            });
        }
    });
    assert_eq!(target.list("", None, 10).unwrap(), ListPage::default());
}

/// Asks everything that a target must answer.
///
/// # Panics
/// When it does not.
pub fn conforms(target: &Arc<dyn Target>, env: &dyn Env) {
    passes_the_probe(&**target, env);
    keeps_the_rules(target);
    passes_the_probe(&**target, env);
}

/// All but the probe, which leaves a locked object where it is asked to lock one.
///
/// # Panics
/// When it does not.
pub fn keeps_the_rules(target: &Arc<dyn Target>) {
    never_replaces(&**target);
    reads_exactly_what_was_asked(&**target);
    lists_in_the_order_of_names(&**target);
    puts_while_neighbours_go(target);
}

/// Asks two clients of one place whether each sees at once what the other did, and whether exactly one
/// of both wins a name.
///
/// # Panics
/// When not.
pub fn are_one(mine: &dyn Target, theirs: &dyn Target) {
    for round in 0..ROUNDS {
        sees_what_the_other_did(mine, theirs, round);
        sees_what_the_other_did(theirs, mine, round);
        one_of_both_wins([mine, theirs], round);
    }
    for target in [mine, theirs] {
        assert_eq!(target.list("", None, 10).unwrap(), ListPage::default());
    }
}

fn sees_what_the_other_did(one: &dyn Target, other: &dyn Target, round: usize) {
    // In a directory that both know to be absent, and in one that both know to be there.
    let (at, beside) = (name(&format!("p/{round}/x")), name(&format!("p/{round}/y")));
    let listed = |target: &dyn Target| names(&target.list("p/", None, 10).unwrap()).len();
    for name in [&at, &beside] {
        assert!(!other.has(name).unwrap());
        let before = listed(other);
        one.put_new(name, b"made").unwrap();
        assert_eq!(other.get_whole(name, 4).unwrap(), b"made");
        assert_eq!(listed(other), before + 1);
        let taken = other.put_new(name, b"again").unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::Conflict);
    }
    one.delete(&at).unwrap();
    assert!(!other.has(&at).unwrap());
    assert_eq!(listed(other), 1);
    let gone = other.get(&at, ByteRange::new(0, 4)).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    // The name is free again, for both.
    other.put_new(&at, b"theirs").unwrap();
    assert_eq!(one.get_whole(&at, 6).unwrap(), b"theirs");
    one.delete(&at).unwrap();
    other.delete(&beside).unwrap();
    assert_eq!((listed(one), listed(other)), (0, 0));
}

fn one_of_both_wins(both: [&dyn Target; 2], round: usize) {
    let (at, start) = (name(&format!("race/{round}")), Barrier::new(RACERS));
    let text = |racer: usize| format!("racer {racer:04}").into_bytes();
    let won: Vec<usize> = std::thread::scope(|scope| {
        let (at, start) = (&at, &start);
        let racers: Vec<_> = (0..RACERS)
            .map(|racer| {
                scope.spawn(move || {
                    start.wait();
                    match both[racer % 2].put_new(at, &text(racer)) {
                        Ok(()) => Some(racer),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                            None
                        }
                    }
                })
            })
            .collect();
        let ends = racers.into_iter().map(|racer| racer.join().unwrap());
        ends.flatten().collect()
    });
    assert_eq!(won.len(), 1, "winners: {won:?}");
    for target in both {
        assert_eq!(target.get_whole(&at, 10).unwrap(), text(won[0]));
    }
    both[round % 2].delete(&at).unwrap();
}
