//! What is printed, in each format.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::run::{command, run_at};
use crate::sample::{backup, busy_volume, operation, page, snapshot, volume};
use crate::stub::Stub;

fn volumes() -> Stub {
    Stub::start().on(
        "GET /v1/volumes",
        200,
        &page(&[volume("db"), busy_volume("数据")]),
    )
}

#[test]
fn volumes_in_every_format() {
    let stub = volumes();
    let mut shown = String::new();
    for format in ["table", "wide", "csv", "yaml", "name"] {
        let ended = run_at(&stub, &["volume", "list", "-o", format]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{format}");
        shown += &format!("=== -o {format}\n{}\n", ended.stdout.replace("\r\n", "\n"));
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn json_is_what_the_api_answered() {
    let ended = run_at(&volumes(), &["volume", "list", "-o", "json"]);
    let printed: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(printed, json!([volume("db"), busy_volume("数据")]));
}

#[test]
fn one_thing_is_shown_field_by_field() {
    let stub = Stub::start()
        .on("GET /v1/volumes/db", 200, &busy_volume("db"))
        .on("GET /v1/snapshots/first", 200, &snapshot())
        .on("GET /v1/backups/nightly", 200, &backup())
        .on(
            "GET /v1/operations/0193b5a2-7c1e-7d4f-9a51-000000000004",
            200,
            &operation("running"),
        );
    let mut shown = String::new();
    for (noun, name) in [
        ("volume", "db"),
        ("snapshot", "first"),
        ("backup", "nightly"),
        ("operation", "0193b5a2-7c1e-7d4f-9a51-000000000004"),
    ] {
        shown += &format!(
            "=== {noun}\n{}\n",
            run_at(&stub, &[noun, "show", name]).stdout
        );
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn items_and_operations_as_tables() {
    let stub = Stub::start()
        .on("GET /v1/snapshots", 200, &page(&[snapshot()]))
        .on("GET /v1/backups", 200, &page(&[backup()]))
        .on("GET /v1/operations", 200, &page(&[operation("running")]));
    let mut shown = String::new();
    for noun in ["snapshot", "backup", "operation"] {
        shown += &format!("=== {noun}\n{}\n", run_at(&stub, &[noun, "list"]).stdout);
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn an_empty_list_says_how_to_begin_on_stderr() {
    let stub = Stub::start().on("GET /v1/volumes", 200, &page(&[]));
    insta::assert_snapshot!(run_at(&stub, &["volume", "list"]).shown());
    assert_eq!(
        run_at(&stub, &["volume", "list", "-o", "json"]).stdout,
        "[]\n"
    );
}

#[test]
fn every_page_is_fetched() {
    let first = json!({"items": [volume("a")], "next_page": "next"});
    let stub = Stub::start().on("GET /v1/volumes", 200, &first).on(
        "GET /v1/volumes",
        200,
        &page(&[volume("b")]),
    );
    assert_eq!(
        run_at(&stub, &["volume", "list", "-o", "name"]).stdout,
        "a\nb\n"
    );
    assert!(stub.lines()[1].contains("page=next"), "{:?}", stub.lines());
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let many: Vec<Value> = (0..5000).map(|n| volume(&format!("v{n}"))).collect();
    let stub = Stub::start().on("GET /v1/volumes", 200, &page(&many));
    let home = tempfile::tempdir().expect("a home");
    let mut child = command(home.path())
        .args([
            "volume",
            "list",
            "--token",
            "stp_test",
            "--server",
            stub.url(),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ended");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
