//! The bucket of [`server`], which fails as told, and what the target makes of it.

mod faults;
mod locks;
mod server;
mod servers;
mod storm;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stillpoint_env::SystemEnv;
use stillpoint_model::{ByteRange, ErrorKind};

use super::*;
use crate::target::{LockMode, Target};
use server::{FakeServer, Fault};

/// Settings for the fake's bucket; credentials go into `dir`.
fn settings(server: &FakeServer, dir: &Path) -> S3Settings {
    let path = dir.join("credentials");
    let text = "[default]\naws_access_key_id = id\naws_secret_access_key = very-secret\n";
    std::fs::write(&path, text).unwrap();
    S3Settings {
        endpoint: Some(server.endpoint()),
        credentials: CredentialSource::File {
            path,
            profile: "default".into(),
        },
        stall_timeout: Duration::from_millis(200),
        patience: Duration::from_secs(5),
        ..S3Settings::at("s3://backups/some/where").unwrap()
    }
}

/// A target on a server of its own.
struct Bench {
    server: FakeServer,
    target: S3Target,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut S3Settings)) -> Self {
        let server = FakeServer::start();
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(&server, dir.path());
        change(&mut settings);
        let target = S3Target::open(settings, Arc::new(SystemEnv::new())).unwrap();
        Self {
            server,
            target,
            _dir: dir,
        }
    }
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

#[test]
fn conforms() {
    let server = FakeServer::start();
    let dir = tempfile::tempdir().unwrap();
    let open = || S3Target::open(settings(&server, dir.path()), Arc::new(SystemEnv::new()));
    crate::target::conformance::conforms(&(Arc::new(open().unwrap()) as _), &SystemEnv::new());
    assert!(server.keys().is_empty(), "it leaves nothing");
}

#[test]
fn works_on_a_thread_of_a_runtime() {
    let bench = Bench::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        bench.target.put_new(&name("a"), b"1").unwrap();
        assert_eq!(bench.target.head(&name("a")).unwrap().get(), 1);
    });
}

#[test]
fn keeps_everything_below_its_prefix() {
    let bench = Bench::new();
    bench.server.plant("some/whereabouts/x", b"not ours");
    bench.server.plant("some/where/Not_Ours", b"nor this");
    bench.target.put_new(&name("v/x"), b"ours").unwrap();
    let page = bench.target.list("", None, 10).unwrap();
    assert_eq!(page.entries.len(), 1);
    assert_eq!(page.entries[0].name, name("v/x"));
    assert!(bench.server.keys().contains(&"some/where/v/x".to_owned()));
}

#[test]
fn a_page_without_anything_of_ours_is_not_the_last() {
    let bench = Bench::new();
    for number in 0..5 {
        bench.server.plant(&format!("some/where/A{number}"), b"");
    }
    bench.target.put_new(&name("x"), b"1").unwrap();
    let page = bench.target.list("", None, 2).unwrap();
    assert_eq!(page.entries.len(), 1);
}

#[test]
fn uploads_keep_to_the_bandwidth() {
    let env = SystemEnv::new();
    let bench = Bench::with(|settings| settings.bandwidth = Some(ByteCount::from_mib(1)));
    let start = env.monotonic();
    let object = vec![7; 512 << 10];
    bench.target.put_new(&name("a"), &object).unwrap();
    let took = env.monotonic() - start;
    // The last piece goes when those before it have had their time.
    assert!(took >= Duration::from_millis(400), "{took:?}");
    let start = env.monotonic();
    let back = bench.target.get(&name("a"), ByteRange::new(0, 512 << 10));
    assert_eq!(back.unwrap(), object);
    let took = env.monotonic() - start;
    assert!(took >= Duration::from_millis(300), "{took:?}");
}

#[test]
fn no_more_requests_than_allowed_are_under_way() {
    let bench = Bench::with(|settings| settings.max_requests = 2);
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let target = &bench.target;
            scope.spawn(move || {
                for round in 0..5 {
                    let name = name(&format!("{thread}-{round}"));
                    target.put_new(&name, b"x").unwrap();
                }
            });
        }
    });
    assert!(bench.server.most_at_once() <= 2);
}

#[test]
fn says_what_is_wrong_with_the_settings() {
    let server = FakeServer::start();
    let dir = tempfile::tempdir().unwrap();
    let open = |change: fn(&mut S3Settings)| {
        let mut settings = settings(&server, dir.path());
        change(&mut settings);
        let error = S3Target::open(settings, Arc::new(SystemEnv::new())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        with_causes(&error)
    };
    let text = open(|s| s.endpoint = Some("nonsense".into()));
    assert!(text.contains("an endpoint looks like"), "{text}");
    let text = open(|s| s.ca_file = Some("/nowhere/ca.pem".into()));
    assert!(text.contains("/nowhere/ca.pem"), "{text}");
    let text = open(|s| {
        s.credentials = CredentialSource::File {
            path: "/nowhere/keys".into(),
            profile: "default".into(),
        };
    });
    assert!(text.contains("/nowhere/keys cannot be read"), "{text}");
}

#[test]
fn never_shows_a_secret() {
    let bench = Bench::new();
    bench
        .server
        .on_next(1, |_| Fault::Refuse(403, "SignatureDoesNotMatch"));
    let range = ByteRange::new(0, 1);
    let error = bench.target.get(&name("a"), range).unwrap_err();
    let text = format!("{error:?} {} {:?}", with_causes(&error), bench.target);
    assert!(text.contains("the credentials are wrong"), "{text}");
    assert!(!text.contains("very-secret"), "{text}");
}
