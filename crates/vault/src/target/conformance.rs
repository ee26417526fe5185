//! What every target must do. A driver that does not run this does not exist.

use std::sync::Arc;

use stillpoint_env::{SimEnv, SystemEnv};
use stillpoint_model::{ByteRange, ErrorKind};

use super::*;
use crate::Error;

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn names(page: &ListPage) -> Vec<&str> {
    page.entries
        .iter()
        .map(|entry| entry.name.as_str())
        .collect()
}

fn passes_the_probe(target: &dyn Target) {
    probe(target, &SystemEnv::new()).unwrap();
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
pub(crate) fn conforms(target: &Arc<dyn Target>) {
    passes_the_probe(&**target);
    never_replaces(&**target);
    reads_exactly_what_was_asked(&**target);
    lists_in_the_order_of_names(&**target);
    puts_while_neighbours_go(target);
    passes_the_probe(&**target);
}

#[test]
fn memory_conforms() {
    conforms(&(Arc::new(MemoryTarget::new()) as _));
}

#[test]
fn local_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conforms(&(Arc::new(LocalTarget::open(dir.path()).unwrap()) as _));
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "it leaves no directory"
    );
}

#[test]
fn local_with_named_parts_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conforms(&(Arc::new(LocalTarget::with_named_parts(dir.path()).unwrap()) as _));
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "it leaves no directory"
    );
}

#[test]
fn local_passes_over_what_a_crash_left_and_removes_it_when_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("packs/r")).unwrap();
    std::fs::write(dir.path().join(".packs+r+00000000.0.part"), b"half").unwrap();
    let target = LocalTarget::open(dir.path()).unwrap();
    assert_eq!(target.list("", None, 10).unwrap(), ListPage::default());
    target.abandon("packs/r/").unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn local_takes_a_lost_mount_for_no_empty_target() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("mount");
    std::fs::create_dir(&root).unwrap();
    let target = LocalTarget::open(&root).unwrap();
    std::fs::remove_dir(&root).unwrap();
    assert!(target.list("", None, 10).is_err());
    assert!(target.list("a/", None, 10).is_err());
}

/// A look-alike that ignores the condition of a conditional create.
struct Replacing(MemoryTarget);

impl Target for Replacing {
    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), TargetError> {
        self.0.delete(name)?;
        match self.0.put_new(name, bytes) {
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            other => other,
        }
    }
    fn get(&self, name: &ObjectName, range: ByteRange) -> Result<Vec<u8>, TargetError> {
        self.0.get(name, range)
    }
    fn head(&self, name: &ObjectName) -> Result<ByteCount, TargetError> {
        self.0.head(name)
    }
    fn list(&self, p: &str, after: Option<&str>, limit: usize) -> Result<ListPage, TargetError> {
        self.0.list(p, after, limit)
    }
    fn delete(&self, name: &ObjectName) -> Result<(), TargetError> {
        self.0.delete(name)
    }
}

#[test]
fn the_probe_refuses_a_target_that_replaces() {
    let error = probe(&Replacing(MemoryTarget::new()), &SimEnv::new(1)).unwrap_err();
    assert!(matches!(error, Error::UnfitTarget(_)), "{error}");
}
