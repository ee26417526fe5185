//! One question per fault: what a caller hears of it.

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::Error;
use crate::target::{ListPage, probe};

/// The N-th PUT has a fault; the others are served.
fn nth_put(nth: usize, fault: Fault) -> impl Fn(&server::Call) -> Fault {
    let puts = AtomicUsize::new(0);
    move |call| {
        let put = call.method == http::Method::PUT;
        if put && puts.fetch_add(1, Ordering::SeqCst) == nth {
            fault
        } else {
            Fault::None
        }
    }
}

#[test]
fn a_put_that_was_stored_while_its_answer_got_lost_succeeds() {
    for fault in [
        Fault::RefuseAfter(503, "SlowDown"),
        Fault::RefuseAfter(500, "InternalError"),
        Fault::CutAfter,
        Fault::SilentAfter,
    ] {
        let bench = Bench::new();
        bench.server.always(nth_put(0, fault));
        bench.target.put_new(&name("a"), b"mine").unwrap();
        let there = bench.target.get(&name("a"), ByteRange::new(0, 4));
        assert_eq!(there.unwrap(), b"mine", "{fault:?}");
    }
}

#[test]
fn a_put_that_was_not_stored_is_made_again() {
    for fault in [
        Fault::Refuse(503, "SlowDown"),
        Fault::Refuse(500, ""),
        Fault::Refuse(429, ""),
        Fault::Refuse(409, "ConditionalRequestConflict"),
        Fault::Cut,
    ] {
        let bench = Bench::new();
        bench.server.always(nth_put(0, fault));
        bench.target.put_new(&name("a"), b"mine").unwrap();
        assert_eq!(bench.target.head(&name("a")).unwrap().get(), 4, "{fault:?}");
    }
}

#[test]
fn a_taken_name_is_a_conflict_whatever_it_holds() {
    let bench = Bench::new();
    bench.target.put_new(&name("a"), b"mine").unwrap();
    for bytes in [&b"mine"[..], b"else", b"longer"] {
        let error = bench.target.put_new(&name("a"), bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
}

#[test]
fn after_a_failure_the_name_may_turn_out_to_be_anothers() {
    let bench = Bench::new();
    bench.server.plant("some/where/a", b"else");
    bench
        .server
        .always(nth_put(0, Fault::Refuse(503, "SlowDown")));
    let error = bench.target.put_new(&name("a"), b"mine").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[test]
fn what_an_attempt_left_open_is_read_back_when_patience_ends() {
    let bench = Bench::with(|settings| settings.patience = Duration::from_millis(1));
    bench.server.always(nth_put(0, Fault::CutAfter));
    bench.target.put_new(&name("a"), b"mine").unwrap();
}

#[test]
fn a_server_that_stays_away_is_an_error_to_come_back_from() {
    let bench = Bench::with(|settings| settings.patience = Duration::from_millis(300));
    bench.server.always(|_| Fault::Refuse(503, "SlowDown"));
    for error in [
        bench.target.put_new(&name("a"), b"1").unwrap_err(),
        bench.target.head(&name("a")).unwrap_err(),
        bench.target.list("", None, 10).unwrap_err(),
        bench.target.delete(&name("a")).unwrap_err(),
        bench
            .target
            .get(&name("a"), ByteRange::new(0, 1))
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Retry);
        let text = with_causes(&error);
        assert!(text.contains("s3://backups/some/where"), "{text}");
        assert!(text.contains("the server answered 503"), "{text}");
    }
    assert!(bench.server.calls() > 10, "it tries more than once");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let gone = Bench::with(|settings| {
        settings.patience = Duration::from_millis(1);
        settings.endpoint = Some("http://127.0.0.1:1".into());
    });
    let error = gone.target.head(&name("a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry);
    let text = with_causes(&error);
    assert!(text.contains("Connection refused"), "{text}");
}

#[test]
fn reads_survive_cut_and_stalled_bodies() {
    for fault in [
        Fault::Truncate,
        Fault::StallInBody,
        Fault::SilentAfter,
        Fault::Cut,
    ] {
        let bench = Bench::new();
        bench.target.put_new(&name("a"), b"0123456789").unwrap();
        bench.server.on_next(1, move |_| fault);
        let back = bench.target.get(&name("a"), ByteRange::new(2, 6));
        assert_eq!(back.unwrap(), b"234567", "{fault:?}");
        bench.server.on_next(1, move |_| fault);
        let page = bench.target.list("", None, 10).unwrap();
        assert_eq!(page.entries.len(), 1, "{fault:?}");
    }
}

#[test]
fn a_missing_bucket_is_no_missing_object() {
    let bench = Bench::with(|settings| settings.bucket = "elsewhere".into());
    let range = ByteRange::new(0, 1);
    for error in [
        bench.target.head(&name("a")).unwrap_err(),
        bench.target.get(&name("a"), range).unwrap_err(),
        bench.target.list("", None, 1).unwrap_err(),
        bench.target.delete(&name("a")).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Internal);
        let text = with_causes(&error);
        assert!(text.contains("the bucket must be made first"), "{text}");
    }
}

#[test]
fn a_listing_out_of_order_is_refused() {
    let bench = Bench::new();
    bench.target.put_new(&name("a"), b"1").unwrap();
    bench.target.put_new(&name("b"), b"2").unwrap();
    bench.server.on_next(1, |_| Fault::Reverse);
    let error = bench.target.list("", None, 10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_delete_that_was_done_twice_is_done() {
    let bench = Bench::new();
    bench.target.put_new(&name("a"), b"1").unwrap();
    bench
        .server
        .on_next(1, |_| Fault::RefuseAfter(500, "InternalError"));
    bench.target.delete(&name("a")).unwrap();
    assert_eq!(
        bench.target.list("", None, 10).unwrap(),
        ListPage::default()
    );
}

#[test]
fn the_probe_says_what_a_server_cannot_do() {
    let verdict = |rule: fn(&server::Call) -> Fault| {
        let bench = Bench::new();
        bench.server.always(rule);
        match probe(&bench.target, &SystemEnv::new()) {
            Err(Error::UnfitTarget(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    let why = verdict(|_| Fault::IgnoreCondition);
    assert!(why.contains("If-None-Match"), "{why}");
    let why = verdict(|_| Fault::Empty);
    assert!(why.contains("listing"), "{why}");
    let why = verdict(|_| Fault::LoseFirst);
    assert!(why.contains("listing"), "{why}");
    let why = verdict(|_| Fault::Flip);
    assert!(why.contains("read back"), "{why}");
    let why = verdict(|call| match call.method {
        http::Method::GET => Fault::IgnoreRange,
        _ => Fault::None,
    });
    assert!(why.contains("part"), "{why}");
}
