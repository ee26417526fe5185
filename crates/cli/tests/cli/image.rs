//! Images: what is sent for each verb, and what is shown.

use serde_json::{Value, json};

use crate::run::run_at;
use crate::sample::{
    IMAGE_ID, OPERATION_ID, SNAPSHOT_ID, WHOLE_ID, image, image_operation, instance, operation,
    page, problem, snapshot, volume, whole_snapshot,
};
use crate::stub::Stub;

/// A server that does what it is asked for at once, and shows `golden` afterwards.
fn doing(line: &str, kind: &str) -> Stub {
    Stub::start()
        .on(line, 202, &image_operation(kind, "queued"))
        .on(
            &format!("GET /v1/operations/{OPERATION_ID}"),
            200,
            &image_operation(kind, "succeeded"),
        )
        .on(&format!("GET /v1/images/{IMAGE_ID}"), 200, &image("golden"))
        .on("GET /v1/images/golden", 200, &image("golden"))
}

/// The body of the last change that was sent.
fn sent(stub: &Stub) -> Value {
    let asked = stub.asked();
    let mut changes = asked.iter().filter(|a| !a.line.starts_with("GET"));
    let change = changes.next_back().expect("a change");
    serde_json::from_str(&change.body).unwrap_or(Value::Null)
}

#[test]
fn images_in_every_format() {
    let both = page(&[image("golden"), image("silver")]);
    let stub = Stub::start().on("GET /v1/images", 200, &both);
    let mut shown = String::new();
    for format in ["table", "wide", "csv", "name"] {
        let ended = run_at(&stub, &["image", "list", "-o", format]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{format}");
        shown += &format!("=== -o {format}\n{}\n", ended.stdout.replace("\r\n", "\n"));
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn no_images_yet_says_how_to_begin() {
    let stub = Stub::start().on("GET /v1/images", 200, &page(&[]));
    let ended = run_at(&stub, &["image", "list"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""));
    assert!(ended.stderr.contains("stillpoint image create"));
}

#[test]
fn an_image_of_a_snapshot_is_shown_when_it_is_made() {
    let stub =
        doing("POST /v1/images", "image_create").on("GET /v1/snapshots", 200, &page(&[snapshot()]));
    let ended = run_at(
        &stub,
        &[
            "image",
            "create",
            "--from-snapshot",
            "db/first",
            "--name",
            "golden",
            "--label",
            "by=me",
        ],
    );
    insta::assert_snapshot!(ended.shown());
    assert_eq!(
        sent(&stub),
        json!({
            "name": "golden", "labels": {"by": "me"},
            "source": {"kind": "snapshot", "item": SNAPSHOT_ID},
        })
    );
}

#[test]
fn an_image_of_an_instance_snapshot_names_it() {
    let whole = format!("GET /v1/instance-snapshots/{WHOLE_ID}");
    let stub = doing("POST /v1/images", "image_create")
        .on("GET /v1/instance-snapshots/before", 200, &whole_snapshot())
        .on(&whole, 200, &whole_snapshot());
    let args = ["image", "create", "--from-instance-snapshot", "before"];
    let ended = run_at(&stub, &args);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(sent(&stub), json!({"instance_snapshot": WHOLE_ID}));
    let both = run_at(&stub, &[&args[..], &["--from-backup", "nightly"]].concat());
    assert_eq!(both.code, 2, "{}", both.stderr);
}

#[test]
fn a_disk_is_sent_before_it_becomes_an_image() {
    let home = tempfile::tempdir().expect("a folder");
    let file = home.path().join("disk.raw");
    std::fs::write(&file, b"disk").expect("written");
    let upload = json!({"id": SNAPSHOT_ID, "size_bytes": 4});
    let stub = doing("POST /v1/images", "image_create").on("POST /v1/uploads", 201, &upload);
    let file = file.to_str().expect("text");
    let ended = run_at(
        &stub,
        &["image", "upload", "--file", file, "--format", "raw"],
    );
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let body = json!({"upload": {"id": SNAPSHOT_ID, "format": "raw"}});
    assert_eq!(sent(&stub), body);
}

#[test]
fn volumes_and_instances_start_from_an_image() {
    let stub = Stub::start()
        .on("POST /v1/volumes", 202, &operation("succeeded"))
        .on("POST /v1/instances", 202, &operation("succeeded"))
        .on("POST /v1/snapshots", 202, &operation("succeeded"))
        .on("GET /v1/instances/web", 200, &instance("web"))
        .on("GET /v1/volumes/web", 200, &volume("web"));
    let ask = |arguments: &[&str]| {
        let ended = run_at(&stub, &[arguments, &["--no-wait"]].concat());
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        sent(&stub)
    };
    assert_eq!(
        ask(&["volume", "create", "web", "--image", "golden"]),
        json!({"name": "web", "image": "golden"})
    );
    let large = ask(&[
        "volume", "create", "web", "--image", "golden", "--size", "1GiB",
    ]);
    assert_eq!(large["size_bytes"], 1 << 30);
    assert_eq!(
        ask(&["instance", "create", "web", "--image", "golden"]),
        json!({"name": "web", "root": {"image": "golden"}, "start": true})
    );
    assert_eq!(
        ask(&["snapshot", "create", "web", "--image", "golden"]),
        json!({"volume": "web", "image": "golden"})
    );
    let neither = run_at(&stub, &["volume", "create", "web"]);
    assert_eq!(neither.code, 2, "{}", neither.stderr);
}

#[test]
fn a_protected_image_names_the_way_out() {
    let protected = problem("protected", 409, "This item is protected.");
    let stub = Stub::start()
        .on("GET /v1/images/golden", 200, &image("golden"))
        .on(&format!("DELETE /v1/images/{IMAGE_ID}"), 409, &protected);
    let ended = run_at(&stub, &["image", "delete", "golden", "--yes", "golden"]);
    assert!(
        ended.stderr.contains("stillpoint image unprotect golden"),
        "{}",
        ended.stderr
    );
}
