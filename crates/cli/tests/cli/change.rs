//! Changes: confirming, waiting, and not waiting.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::run::{command, run_at};
use crate::sample::{
    OPERATION_ID, SNAPSHOT_ID, VOLUME_ID, instance_operation, operation, page, problem, snapshot,
    volume,
};
use crate::stub::Stub;

fn operation_path() -> String {
    format!("GET /v1/operations/{OPERATION_ID}")
}

fn taking_a_snapshot() -> Stub {
    Stub::start().on("POST /v1/snapshots", 202, &operation("queued"))
}

#[test]
fn a_change_is_waited_for_and_its_result_shown() {
    let stub = taking_a_snapshot()
        .on(&operation_path(), 200, &operation("running"))
        .on(&operation_path(), 200, &operation("succeeded"))
        .on(
            &format!("GET /v1/snapshots/{SNAPSHOT_ID}"),
            200,
            &snapshot(),
        );
    let args = [
        "snapshot", "create", "db", "--name", "first", "--label", "by=me",
    ];
    insta::assert_snapshot!(run_at(&stub, &args).shown());
    let body: Value = serde_json::from_str(&stub.asked()[0].body).expect("JSON");
    assert_eq!(
        body,
        json!({"volume": "db", "name": "first", "labels": {"by": "me"}})
    );
}

#[test]
fn a_failed_operation_ends_with_3_and_its_own_code() {
    let mut failed = operation("failed");
    failed["failure"] = json!({"code": "pool_full", "detail": "The pool has no room."});
    let stub = taking_a_snapshot().on(&operation_path(), 200, &failed);
    insta::assert_snapshot!(run_at(&stub, &["snapshot", "create", "db"]).shown());
}

#[test]
fn a_cancelled_operation_ends_with_3() {
    let stub = taking_a_snapshot().on(&operation_path(), 200, &operation("cancelled"));
    let ended = run_at(&stub, &["snapshot", "create", "db"]);
    assert_eq!(ended.code, 3);
    assert!(
        ended
            .stderr
            .contains("error[cancelled]: snapshot of db was cancelled")
    );
}

#[test]
fn without_waiting_the_operation_is_printed() {
    let stub = taking_a_snapshot();
    let ended = run_at(
        &stub,
        &["snapshot", "create", "db", "--no-wait", "-o", "name"],
    );
    assert_eq!((ended.code, ended.stdout), (0, format!("{OPERATION_ID}\n")));
    assert_eq!(stub.lines(), ["POST /v1/snapshots"]);
}

#[test]
fn what_takes_too_long_ends_with_8_and_goes_on() {
    let stub = taking_a_snapshot().on(&operation_path(), 200, &operation("running"));
    let ended = run_at(&stub, &["snapshot", "create", "db", "--timeout", "1s"]);
    insta::assert_snapshot!(ended.shown());
    assert!(!stub.lines().iter().any(|line| line.contains("cancel")));
}

#[test]
fn ctrl_c_stops_the_watching_and_not_the_work() {
    let stub = taking_a_snapshot().on(&operation_path(), 200, &operation("running"));
    let home = tempfile::tempdir().expect("a home");
    let mut child = command(home.path())
        .args([
            "snapshot",
            "create",
            "db",
            "--token",
            "stp_test",
            "--server",
            stub.url(),
        ])
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut stderr = BufReader::new(child.stderr.take().expect("stderr")).lines();
    let first = stderr.next().expect("a line").expect("text");
    assert_eq!(first, "snapshot of db: data capture");
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::INT).expect("a signal");
    assert_eq!(child.wait().expect("ended").code(), Some(130));
    let rest: Vec<String> = stderr.map(|line| line.expect("text")).collect();
    assert_eq!(rest[0], "Stopped watching; the operation goes on.");
    assert!(
        rest[1].ends_with(&format!("stillpoint operation watch {OPERATION_ID}")),
        "{rest:?}"
    );
    assert!(!stub.lines().iter().any(|line| line.contains("cancel")));
}

#[test]
fn a_dry_run_says_what_would_happen() {
    let preview = json!({"dry_run": true, "consistency": "stopped", "warnings": ["Power off."]});
    let stub = Stub::start().on("POST /v1/snapshots", 200, &preview);
    insta::assert_snapshot!(run_at(&stub, &["snapshot", "create", "db", "--dry-run"]).shown());
    assert_eq!(stub.lines(), ["POST /v1/snapshots?dry_run=true"]);
}

#[test]
fn every_post_has_a_key_of_its_own() {
    let steer = |verb: &str| format!("POST /v1/operations/{OPERATION_ID}/{verb}");
    let stub = Stub::start()
        .on("POST /v1/snapshots", 202, &operation("queued"))
        .on("POST /v1/tokens", 500, &problem("internal", 500, "No."))
        .on("POST /v1/uploads", 500, &problem("internal", 500, "No."))
        .on(
            "POST /v1/instances/web/start",
            202,
            &instance_operation("instance_start", "queued"),
        )
        .on(&steer("cancel"), 200, &operation("cancelling"))
        .on(&steer("release"), 200, &operation("failed"))
        .on(&steer("retry"), 200, &operation("queued"));
    let image = tempfile::NamedTempFile::new().expect("an image");
    let image = image.path().to_str().expect("a path");
    for args in [
        &["snapshot", "create", "db", "--no-wait"][..],
        &["auth", "token", "create", "laptop"],
        &["volume", "import", "db", "--file", image, "--format", "raw"],
        &["instance", "start", "web", "--no-wait"],
        &["operation", "cancel", OPERATION_ID],
        &["operation", "release", OPERATION_ID, "--reason", "stuck"],
        &["operation", "retry", OPERATION_ID, "--reason", "again"],
    ] {
        run_at(&stub, args);
    }
    let posts: Vec<_> = stub
        .asked()
        .into_iter()
        .filter(|asked| asked.line.starts_with("POST"))
        .collect();
    assert_eq!(posts.len(), 7, "{:?}", stub.lines());
    let keys: BTreeSet<_> = posts
        .iter()
        .filter_map(|asked| asked.headers.get("idempotency-key"))
        .collect();
    assert_eq!(keys.len(), posts.len(), "{keys:?}");
}

#[test]
fn nothing_is_deleted_unconfirmed_when_nobody_can_be_asked() {
    let stub = Stub::start()
        .on("GET /v1/volumes/db", 200, &volume("db"))
        .on("GET /v1/snapshots/first", 200, &snapshot());
    let mut said = String::new();
    for args in [
        &["volume", "delete", "db"][..],
        &["volume", "delete", "db", "--yes=other"],
        &["snapshot", "delete", "first"],
    ] {
        let ended = run_at(&stub, args);
        assert_eq!(ended.code, 2, "{args:?}");
        said += &format!("$ stillpoint {}\n{}\n", args.join(" "), ended.stderr);
    }
    insta::assert_snapshot!(said);
    assert!(stub.lines().iter().all(|line| line.starts_with("GET")));
}

#[test]
fn a_confirmed_delete_goes_by_id() {
    let deleting = format!("DELETE /v1/volumes/{VOLUME_ID}");
    let stub = Stub::start()
        .on("GET /v1/volumes/db", 200, &volume("db"))
        .on(&deleting, 202, &operation("queued"))
        .on(&operation_path(), 200, &operation("succeeded"));
    let ended = run_at(&stub, &["volume", "delete", "db", "--yes=db"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, ""),
        "{}",
        ended.stderr
    );
    assert_eq!(stub.lines()[1], format!("{deleting}?confirm=db"));
}

#[test]
fn a_volume_is_put_back_only_to_its_own_restore_points() {
    let stub = Stub::start()
        .on("GET /v1/volumes/db", 200, &volume("db"))
        .on("GET /v1/snapshots", 200, &page(&[snapshot()]))
        .on("POST /v1/restores", 202, &operation("queued"))
        .on(&operation_path(), 200, &operation("succeeded"))
        .on(&format!("GET /v1/volumes/{VOLUME_ID}"), 200, &volume("db"));
    let restore = |item: &str| {
        let args = [
            "restore",
            "in-place",
            "--volume",
            "db",
            "--from-snapshot",
            item,
            "--yes=db",
        ];
        run_at(&stub, &args)
    };
    insta::assert_snapshot!("restore-in-place-of-another", restore("other").shown());
    assert_eq!(restore("first").code, 0);
    let asked = stub.asked();
    let sent = asked
        .iter()
        .find(|asked| asked.line.starts_with("POST"))
        .expect("a restore");
    let body: Value = serde_json::from_str(&sent.body).expect("JSON");
    assert_eq!(
        body,
        json!({
            "source": {"kind": "snapshot", "item": SNAPSHOT_ID}, "mode": "in_place",
            "confirm": "db",
        })
    );
}

#[test]
fn an_item_can_be_named_by_its_volume() {
    let stub = Stub::start().on("GET /v1/snapshots", 200, &page(&[snapshot()]));
    let ended = run_at(&stub, &["snapshot", "show", "db/first", "-o", "name"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "first\n"));
    assert!(stub.lines()[0].contains("volume=db"));
}

#[test]
fn a_protected_item_and_a_missing_volume_say_what_to_type() {
    let refusal = problem(
        "protected",
        409,
        "This item is protected. Remove the protection first.",
    );
    let stub = Stub::start()
        .on("GET /v1/snapshots/first", 200, &snapshot())
        .on(
            &format!("DELETE /v1/snapshots/{SNAPSHOT_ID}"),
            409,
            &refusal,
        )
        .on(
            "POST /v1/snapshots",
            404,
            &problem("not_found", 404, "There is no such volume."),
        );
    let kept = run_at(&stub, &["snapshot", "delete", "first", "--yes", "first"]).stderr;
    assert!(
        kept.contains("hint: stillpoint snapshot unprotect first"),
        "{kept}"
    );
    let missing = run_at(&stub, &["snapshot", "create", "nosuch"]).stderr;
    assert!(
        missing.contains("hint: see what there is: stillpoint volume list"),
        "{missing}"
    );
}
