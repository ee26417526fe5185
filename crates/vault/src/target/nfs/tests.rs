//! One question per rule, every call of a put and a delete with every fault, and the whole
//! conformance suite, on a simulated mount; and the suite on the kernel's calls.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use stillpoint_env::SystemEnv;

use super::sim::{Fault, SimMount};
use super::*;
use crate::target::conformance::conforms;

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn target() -> (SimMount, NfsTarget) {
    let mount = SimMount::default();
    let target = NfsTarget::on(Box::new(mount.clone()), PathBuf::from("/sim"));
    (mount, target)
}

#[test]
fn a_simulated_mount_conforms() {
    let (mount, target) = target();
    conforms(&(Arc::new(target) as _), &SystemEnv::new());
    assert!(mount.files().is_empty() && mount.dirs().is_empty());
}

#[test]
fn the_kernels_calls_conform() {
    let dir = tempfile::tempdir().unwrap();
    let device = std::fs::metadata(dir.path()).unwrap().dev();
    let mount = KernelMount::of_any_kind(dir.path(), device);
    let target = NfsTarget::on(Box::new(mount), dir.path().to_owned());
    conforms(&(Arc::new(target) as _), &SystemEnv::new());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// How many calls something takes without a fault.
fn calls_of(act: impl FnOnce(&NfsTarget)) -> u64 {
    let (mount, target) = target();
    target.put_new(&name("a/b/old"), b"old").unwrap();
    let before = mount.calls();
    act(&target);
    mount.calls() - before
}

#[test]
fn a_put_survives_every_lost_answer() {
    let put = |target: &NfsTarget| target.put_new(&name("a/c/new"), b"new");
    let calls = calls_of(|target| put(target).unwrap());
    assert!(calls > 5);
    for nth in 0..calls {
        let (mount, target) = target();
        target.put_new(&name("a/b/old"), b"old").unwrap();
        mount.fail_at(nth, Fault::AnswerLost);
        put(&target).unwrap_or_else(|error| panic!("call {nth}: {error}"));
        let there = target.get(&name("a/c/new"), ByteRange::new(0, 3));
        assert_eq!(there.unwrap(), b"new", "call {nth}");
        assert!(mount.files().iter().all(|path| !path.starts_with('.')));
    }
}

#[test]
fn a_put_that_fails_says_so_and_one_that_does_not_is_there() {
    for fault in [Fault::Stale, Fault::TimedOut, Fault::TimedOutAfter] {
        let put = |target: &NfsTarget| target.put_new(&name("a/c/new"), b"new");
        for nth in 0..calls_of(|target| put(target).unwrap()) {
            let (mount, target) = target();
            target.put_new(&name("a/b/old"), b"old").unwrap();
            mount.fail_at(nth, fault);
            match put(&target) {
                Ok(()) => {
                    let there = target.get(&name("a/c/new"), ByteRange::new(0, 3));
                    assert_eq!(there.unwrap(), b"new", "{fault:?} at {nth}");
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Retry, "{fault:?} at {nth}"),
            }
            // Whatever happened, a second attempt and the neighbours are fine.
            let again = put(&target);
            assert!(again.is_ok() || again.unwrap_err().kind() == ErrorKind::Conflict);
            assert_eq!(target.head(&name("a/b/old")).unwrap().get(), 3);
            target.abandon("a/").unwrap();
            assert!(mount.files().iter().all(|path| !path.starts_with('.')));
        }
    }
}

#[test]
fn a_delete_survives_every_fault_that_leaves_it_done() {
    let delete = |target: &NfsTarget| target.delete(&name("a/b/old"));
    for nth in 0..calls_of(|target| delete(target).unwrap()) {
        let (mount, target) = target();
        target.put_new(&name("a/b/old"), b"old").unwrap();
        mount.fail_at(nth, Fault::AnswerLost);
        delete(&target).unwrap();
        assert!(target.head(&name("a/b/old")).is_err(), "call {nth}");
        assert!(mount.dirs().is_empty(), "call {nth}: {:?}", mount.dirs());
    }
}

#[test]
fn a_name_that_another_took_is_a_conflict_even_when_ours_seems_free() {
    let (mount, target) = target();
    mount.other_creates("a/x", b"theirs");
    let error = target.put_new(&name("a/x"), b"ours").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let there = target.get(&name("a/x"), ByteRange::new(0, 6)).unwrap();
    assert_eq!(there, b"theirs");
}

#[test]
fn an_absence_is_believed_only_after_the_server_was_asked() {
    let (mount, target) = target();
    assert_eq!(
        target.head(&name("a/x")).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    mount.other_creates("a/x", b"theirs");
    assert_eq!(target.head(&name("a/x")).unwrap().get(), 6);
    mount.other_creates("a/y", b"theirs, too");
    let page = target.list("a/", None, 10).unwrap();
    assert_eq!(page.entries.len(), 2);
}

#[test]
fn what_another_deleted_is_not_there() {
    let (mount, target) = target();
    target.put_new(&name("a/x"), b"ours").unwrap();
    mount.other_deletes("a/x");
    let range = ByteRange::new(0, 4);
    let error = target.get(&name("a/x"), range).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(target.list("", None, 10).unwrap().entries.is_empty());
}

#[test]
fn a_stale_handle_is_looked_up_again() {
    let (mount, target) = target();
    target.put_new(&name("a/x"), b"ours").unwrap();
    mount.fail_at(0, Fault::Stale);
    assert_eq!(
        target.get(&name("a/x"), ByteRange::new(0, 4)).unwrap(),
        b"ours"
    );
    mount.fail_at(0, Fault::Stale);
    assert_eq!(target.list("a/", None, 10).unwrap().entries.len(), 1);
}

#[test]
fn names_of_files_that_were_deleted_while_open_are_nobodys_objects() {
    let (mount, target) = target();
    target.put_new(&name("a/b/x"), b"ours").unwrap();
    mount.other_creates("a/b/.nfs000123", b"deleted, open");
    target.delete(&name("a/b/x")).unwrap();
    assert_eq!(target.list("", None, 10).unwrap(), ListPage::default());
    target.abandon("a/b/").unwrap();
    assert!(mount.files().is_empty() && mount.dirs().is_empty());
}

#[test]
fn a_mount_that_is_gone_is_no_empty_target() {
    let (mount, target) = target();
    target.put_new(&name("a/x"), b"ours").unwrap();
    mount.unmount();
    for error in [
        target.put_new(&name("a/y"), b"1").unwrap_err(),
        target.list("", None, 10).unwrap_err(),
        target.delete(&name("a/x")).unwrap_err(),
        target.abandon("a/").unwrap_err(),
        target.head(&name("a/z")).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Retry);
    }
}
