//! Locks where there are none. Where there are, Ceph's gateway shows them in `tests/s3.rs`.

use super::*;

#[test]
fn a_server_without_object_lock_says_so() {
    let bench = Bench::new();
    assert_eq!(bench.target.object_lock().unwrap(), ObjectLock::Absent);
    bench.target.put_new(&name("a"), b"1").unwrap();
    assert_eq!(bench.target.locked_until(&name("a")).unwrap(), None);
}

#[test]
fn nothing_is_locked_that_nobody_asked_for() {
    let bench = Bench::new();
    bench.target.put_new(&name("a"), b"1").unwrap();
    let until = SystemEnv::new()
        .now()
        .saturating_add(Duration::from_secs(60));
    let error = bench.target.lock_until(&name("a"), until).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_bucket_that_keeps_no_versions_holds_nothing_that_is_to_be_locked() {
    let bench = Bench::with(|settings| settings.object_lock = Some(LockMode::Compliance));
    let error = bench.target.put_new(&name("a"), b"1").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(with_causes(&error).contains("keeps no versions"), "{error}");
}

#[test]
fn credentials_that_may_not_ask_leave_it_open() {
    let bench = Bench::new();
    bench
        .server
        .on_next(1, |_| Fault::Refuse(403, "AccessDenied"));
    assert_eq!(bench.target.object_lock().unwrap(), ObjectLock::Unknown);
}

#[test]
fn a_refused_delete_is_an_error() {
    let bench = Bench::new();
    bench.target.put_new(&name("a"), b"1").unwrap();
    bench.server.always(|_| Fault::Locked);
    let error = bench.target.delete(&name("a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
}
