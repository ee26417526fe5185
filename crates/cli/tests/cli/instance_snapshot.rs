//! Instance snapshots: what is sent for each verb, and what is shown.

use serde_json::{Value, json};

use crate::run::run_at;
use crate::sample::{
    INSTANCE_ID, OPERATION_ID, WHOLE_ID, instance, instance_operation, page, whole_snapshot,
};
use crate::stub::Stub;

/// An operation of this kind on `web` and its snapshot `before`.
fn whole_operation(kind: &str, state: &str) -> Value {
    let mut operation = instance_operation(kind, state);
    operation["instance_snapshot_id"] = json!(WHOLE_ID);
    operation
}

/// A server that does what it is asked for at once, and shows `before` and `web` afterwards.
fn doing(line: &str, kind: &str) -> Stub {
    let at = |path: &str| format!("GET /v1/{path}");
    Stub::start()
        .on(line, 202, &whole_operation(kind, "queued"))
        .on(
            &at(&format!("operations/{OPERATION_ID}")),
            200,
            &whole_operation(kind, "succeeded"),
        )
        .on(
            &at(&format!("instance-snapshots/{WHOLE_ID}")),
            200,
            &whole_snapshot(),
        )
        .on(&at("instance-snapshots/before"), 200, &whole_snapshot())
        .on(&at("instances/web"), 200, &instance("web"))
        .on(
            &at(&format!("instances/{INSTANCE_ID}")),
            200,
            &instance("web"),
        )
}

/// The body of the last change that was sent.
fn sent(stub: &Stub) -> Value {
    let asked = stub.asked();
    let mut changes = asked.iter().filter(|a| !a.line.starts_with("GET"));
    let change = changes.next_back().expect("a change");
    serde_json::from_str(&change.body).unwrap_or(Value::Null)
}

#[test]
fn instance_snapshots_in_every_format() {
    let stub = Stub::start()
        .on(
            "GET /v1/instance-snapshots",
            200,
            &page(&[whole_snapshot()]),
        )
        .on("GET /v1/instance-snapshots/before", 200, &whole_snapshot());
    let mut shown = String::new();
    for format in ["table", "wide", "csv", "name"] {
        let ended = run_at(&stub, &["instance", "snapshot", "list", "-o", format]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{format}");
        shown += &format!("=== -o {format}\n{}\n", ended.stdout.replace("\r\n", "\n"));
    }
    shown += &run_at(&stub, &["instance", "snapshot", "show", "before"]).stdout;
    insta::assert_snapshot!(shown);
}

#[test]
fn those_of_one_instance_are_asked_for() {
    let stub = Stub::start().on("GET /v1/instance-snapshots", 200, &page(&[]));
    let args = ["instance", "snapshot", "list", "--instance", "web"];
    let ended = run_at(&stub, &args);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""));
    assert!(
        ended.stderr.contains("stillpoint instance snapshot create"),
        "{}",
        ended.stderr
    );
    assert!(
        stub.lines()[0].contains("instance=web"),
        "{:?}",
        stub.lines()
    );
}

#[test]
fn one_is_taken_and_shown_with_its_image() {
    let stub = doing("POST /v1/instance-snapshots", "instance_snapshot_create");
    let args = [
        "instance", "snapshot", "create", "web", "--name", "before", "--label", "by=me", "--image",
        "golden",
    ];
    let ended = run_at(&stub, &args);
    insta::assert_snapshot!(ended.shown());
    assert_eq!(
        sent(&stub),
        json!({"instance": "web", "name": "before", "labels": {"by": "me"}, "image": "golden"})
    );
}

#[test]
fn a_dry_run_says_what_it_would_be_worth() {
    let preview = json!({"dry_run": true, "consistency": "crash", "warnings": ["It is busy."]});
    let stub = Stub::start().on("POST /v1/instance-snapshots", 200, &preview);
    let args = ["instance", "snapshot", "create", "web", "--dry-run"];
    let ended = run_at(&stub, &args);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.contains("crash"), "{}", ended.stdout);
    assert_eq!(stub.lines(), ["POST /v1/instance-snapshots?dry_run=true"]);
}

#[test]
fn a_new_instance_is_made_of_one() {
    let line = "POST /v1/instance-snapshots/before/restore";
    let stub = doing(line, "instance_create");
    let args = [
        "instance",
        "restore",
        "before",
        "--name",
        "twin",
        "--flavor",
        "large",
        "--no-start",
        "-o",
        "name",
    ];
    let ended = run_at(&stub, &args);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "web\n"),
        "{}",
        ended.stderr
    );
    assert_eq!(
        sent(&stub),
        json!({"name": "twin", "flavor": "large", "start": false})
    );
}

#[test]
fn nothing_goes_back_or_away_unconfirmed() {
    let stub = Stub::start()
        .on("GET /v1/instances/web", 200, &instance("web"))
        .on("GET /v1/instance-snapshots/before", 200, &whole_snapshot());
    let rebuild = run_at(&stub, &["instance", "rebuild", "web", "--from", "before"]);
    let delete = run_at(&stub, &["instance", "snapshot", "delete", "before"]);
    insta::assert_snapshot!(format!("{}\n{}", rebuild.shown(), delete.shown()));
    assert!(stub.lines().iter().all(|line| line.starts_with("GET")));
}

#[test]
fn a_confirmed_rebuild_names_the_snapshot_by_its_id() {
    let line = format!("POST /v1/instances/{INSTANCE_ID}/rebuild");
    let stub = doing(&line, "instance_rebuild");
    let args = ["instance", "rebuild", "web", "--from=before", "--yes=web"];
    let ended = run_at(&stub, &args);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(
        sent(&stub),
        json!({"instance_snapshot": WHOLE_ID, "confirm": "web"})
    );
}

#[test]
fn a_confirmed_delete_goes_by_id() {
    let line = format!("DELETE /v1/instance-snapshots/{WHOLE_ID}");
    let stub = doing(&line, "instance_snapshot_delete");
    let args = ["instance", "snapshot", "delete", "before", "--yes=before"];
    let ended = run_at(&stub, &args);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, ""),
        "{}",
        ended.stderr
    );
    assert!(stub.lines().contains(&format!("{line}?confirm=before")));
}

#[test]
fn a_rename_and_a_protection_are_done_at_once() {
    for (args, body) in [
        (&["rename", "before", "kept"][..], json!({"name": "kept"})),
        (&["protect", "before"], json!({"protected": true})),
        (&["unprotect", "before"], json!({"protected": false})),
    ] {
        let line = "PATCH /v1/instance-snapshots/before";
        let stub = Stub::start().on(line, 200, &whole_snapshot());
        let all = [&["instance", "snapshot"], args, &["-o", "name"]].concat();
        let ended = run_at(&stub, &all);
        assert_eq!(ended.code, 0, "{args:?}: {}", ended.stderr);
        assert_eq!(sent(&stub), body, "{args:?}");
    }
}
