//! Instances: what is sent for each verb, and what is shown.

use serde_json::{Value, json};

use crate::run::run_at;
use crate::sample::{
    INSTANCE_ID, OPERATION_ID, ROOT_ID, SNAPSHOT_ID, VOLUME_ID, busy_instance, flavor, instance,
    instance_operation, operation, page, problem, snapshot, volume,
};
use crate::stub::Stub;

/// A server that does what it is asked for at once, and shows `web` afterwards.
fn doing(line: &str, kind: &str) -> Stub {
    Stub::start()
        .on(line, 202, &instance_operation(kind, "queued"))
        .on(
            &format!("GET /v1/operations/{OPERATION_ID}"),
            200,
            &instance_operation(kind, "succeeded"),
        )
        .on(
            &format!("GET /v1/instances/{INSTANCE_ID}"),
            200,
            &instance("web"),
        )
        .on("GET /v1/instances/web", 200, &instance("web"))
}

/// The body of what was sent, the only change.
fn sent(stub: &Stub) -> Value {
    let asked = stub.asked();
    let mut changes = asked.iter().filter(|a| !a.line.starts_with("GET"));
    let (change, more) = (changes.next().expect("a change"), changes.next());
    assert_eq!(more, None);
    serde_json::from_str(&change.body).unwrap_or(Value::Null)
}

#[test]
fn instances_in_every_format() {
    let both = page(&[instance("web"), busy_instance("batch")]);
    let stub = Stub::start().on("GET /v1/instances", 200, &both);
    let mut shown = String::new();
    for format in ["table", "wide", "csv", "name"] {
        let ended = run_at(&stub, &["instance", "list", "-o", format]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{format}");
        shown += &format!("=== -o {format}\n{}\n", ended.stdout.replace("\r\n", "\n"));
    }
    let ended = run_at(&stub, &["instance", "list", "-o", "json"]);
    let printed: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(printed, both["items"]);
    insta::assert_snapshot!(shown);
}

#[test]
fn one_instance_and_the_flavors() {
    let flavors = [flavor("small", None), flavor("gpu", Some("H100-SXM5-80GB"))];
    let stub = Stub::start()
        .on("GET /v1/instances/web", 200, &instance("web"))
        .on("GET /v1/flavors", 200, &page(&flavors));
    let mut shown = run_at(&stub, &["instance", "show", "web"]).stdout;
    shown += "\n";
    shown += &run_at(&stub, &["flavor", "list"]).stdout;
    insta::assert_snapshot!(shown);
}

#[test]
fn no_instances_yet_says_how_to_begin() {
    let stub = Stub::start().on("GET /v1/instances", 200, &page(&[]));
    let ended = run_at(&stub, &["instance", "list"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""));
    assert!(ended.stderr.contains("stillpoint instance create"));
}

#[test]
fn a_new_instance_is_shown_when_it_runs() {
    let stub = doing("POST /v1/instances", "instance_create").on(
        "GET /v1/snapshots",
        200,
        &page(&[snapshot()]),
    );
    let ended = run_at(
        &stub,
        &[
            "instance",
            "create",
            "web",
            "--flavor",
            "small",
            "--from-snapshot",
            "db/first",
            "--data",
            "size=1GiB,name=logs",
            "--data",
            "volume=db",
            "--no-start",
        ],
    );
    insta::assert_snapshot!(ended.shown());
    assert_eq!(
        sent(&stub),
        json!({
            "name": "web", "flavor": "small",
            "root": {"source": {"kind": "snapshot", "item": SNAPSHOT_ID}},
            "data": [{"name": "logs", "size_bytes": 1 << 30}, {"volume": "db"}],
            "start": false,
        })
    );
}

#[test]
fn an_instance_needs_a_root_and_no_more_than_one() {
    let stub = Stub::start();
    for more in [
        &[][..],
        &["--root-volume", "a", "--root-size", "1GiB"],
        &["--from-snapshot", "a", "--from-backup", "b"],
        &["--root-volume", "a", "--data", "10GiB"],
    ] {
        let args = [&["instance", "create", "web"], more].concat();
        assert_eq!(run_at(&stub, &args).code, 2, "{more:?}");
    }
    assert_eq!(stub.lines(), [""; 0]);
}

#[test]
fn each_verb_asks_for_its_own_deed() {
    for (args, body) in [
        (&["start"][..], json!(null)),
        (&["pause"], json!(null)),
        (&["resume"], json!(null)),
        (&["stop"], json!({"how": "graceful"})),
        (&["stop", "--force"], json!({"how": "forced"})),
        (
            &["stop", "--within", "5m", "--never-force"],
            json!({"how": "graceful", "bound_s": 300, "then_force": false}),
        ),
    ] {
        let verb = args[0];
        let line = format!("POST /v1/instances/web/{verb}");
        let stub = doing(&line, &format!("instance_{verb}"));
        let all = [&["instance", verb, "web", "-o", "name"], &args[1..]].concat();
        let ended = run_at(&stub, &all);
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (0, "web\n"),
            "{args:?}"
        );
        assert!(
            ended.stderr.starts_with(&format!("{verb} of web: ")),
            "{}",
            ended.stderr
        );
        assert_eq!(stub.lines()[0], line);
        assert_eq!(sent(&stub), body, "{args:?}");
    }
}

#[test]
fn a_stop_that_is_only_asked_about_stops_nothing() {
    let preview = json!({"dry_run": true, "consistency": null, "warnings": []});
    let stub = Stub::start().on("POST /v1/instances/web/stop", 200, &preview);
    let ended = run_at(&stub, &["instance", "stop", "web", "--dry-run"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "This would be accepted now. Nothing was changed.\n")
    );
    assert_eq!(stub.lines(), ["POST /v1/instances/web/stop?dry_run=true"]);
}

#[test]
fn without_waiting_the_operation_is_printed() {
    let stub = doing("POST /v1/instances/web/start", "instance_start");
    let ended = run_at(&stub, &["instance", "start", "web", "--no-wait"]);
    insta::assert_snapshot!(ended.shown());
    assert_eq!(stub.lines().len(), 1);
}

#[test]
fn a_rename_is_done_at_once() {
    let stub = Stub::start().on("PATCH /v1/instances/web", 200, &instance("shop"));
    let ended = run_at(&stub, &["instance", "rename", "web", "shop", "-o", "name"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "shop\n"));
    assert_eq!(sent(&stub), json!({"name": "shop"}));
}

#[test]
fn nothing_is_deleted_unconfirmed() {
    let stub = Stub::start().on("GET /v1/instances/web", 200, &instance("web"));
    let ended = run_at(
        &stub,
        &["instance", "delete", "web", "--delete-volume", "db"],
    );
    insta::assert_snapshot!(ended.shown());
    assert_eq!(stub.lines(), ["GET /v1/instances/web"]);
}

#[test]
fn a_confirmed_delete_names_volumes_by_id() {
    let deleting = format!("DELETE /v1/instances/{INSTANCE_ID}");
    for (more, query) in [
        (&[][..], String::new()),
        (&["--delete-all-volumes"], "&delete_all_volumes=true".into()),
        (
            &["--delete-volume", "db", "--delete-volume", "web-root"],
            format!("&delete_volumes={VOLUME_ID}&delete_volumes={ROOT_ID}"),
        ),
    ] {
        let stub = doing(&deleting, "instance_delete");
        let args = [&["instance", "delete", "web", "--yes=web"], more].concat();
        let ended = run_at(&stub, &args);
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (0, ""),
            "{}",
            ended.stderr
        );
        assert_eq!(stub.lines()[1], format!("{deleting}?confirm=web{query}"));
    }
    let stub = doing(&deleting, "instance_delete");
    let args = [
        "instance",
        "delete",
        "web",
        "--yes=web",
        "--delete-volume",
        "other",
    ];
    assert_eq!(run_at(&stub, &args).code, 2);
    assert_eq!(stub.lines(), ["GET /v1/instances/web"]);
}

#[test]
fn an_attached_volume_is_shown() {
    let attach = |state: &str| {
        let mut attach = operation(state);
        attach["kind"] = json!("volume_attach");
        attach["instance_id"] = json!(INSTANCE_ID);
        attach["instance_name"] = json!("web");
        attach
    };
    let stub = Stub::start()
        .on("POST /v1/volumes/db/attach", 202, &attach("queued"))
        .on(
            &format!("GET /v1/operations/{OPERATION_ID}"),
            200,
            &attach("succeeded"),
        )
        .on(&format!("GET /v1/volumes/{VOLUME_ID}"), 200, &volume("db"));
    let args = ["volume", "attach", "db", "--instance", "web", "-o", "name"];
    let ended = run_at(&stub, &args);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "db\n"));
    assert!(
        ended.stderr.starts_with("attach of db: done"),
        "{}",
        ended.stderr
    );
    assert_eq!(sent(&stub), json!({"instance": "web"}));
}

#[test]
fn a_missing_instance_says_where_to_look() {
    let missing = problem("not_found", 404, "There is no such instance.");
    let stub = Stub::start().on("GET /v1/instances/none", 404, &missing);
    let ended = run_at(&stub, &["instance", "show", "none"]);
    assert_eq!(ended.code, 5);
    let hint = "hint: see what there is: stillpoint instance list";
    assert!(ended.stderr.contains(hint), "{}", ended.stderr);
}

#[test]
fn what_something_else_runs_is_reported_by_operators() {
    let path = "/v1/volumes/db/attachment";
    let stub = Stub::start()
        .on(&format!("PUT {path}"), 200, &volume("db"))
        .on(&format!("DELETE {path}"), 200, &volume("db"));
    let report = ["admin", "attachment", "report", "db", "--instance", "web-1"];
    assert_eq!(run_at(&stub, &report).code, 0);
    assert_eq!(
        sent(&stub),
        json!({"instance": "web-1", "state": "running"})
    );
    assert_eq!(run_at(&stub, &["admin", "attachment", "end", "db"]).code, 0);
    assert_eq!(stub.lines()[1], format!("DELETE {path}"));
}
