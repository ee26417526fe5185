//! What goes wrong, how it is said, and the exit codes.

use serde_json::json;

use crate::run::{run, run_at};
use crate::sample::{OPERATION_ID, VOLUME_ID, problem};
use crate::stub::Stub;

#[test]
fn each_kind_of_problem_has_its_exit_code() {
    for (code, status, exit) in [
        ("internal", 500, 1),
        ("protected", 409, 1),
        ("name_taken", 409, 1),
        ("invalid_request", 400, 2),
        ("name_invalid", 422, 2),
        ("unauthenticated", 401, 4),
        ("forbidden", 403, 4),
        ("not_found", 404, 5),
        ("volume_busy", 409, 6),
        ("cooldown", 409, 6),
        ("inflight_limit", 429, 6),
        ("snapshot_limit", 409, 7),
        ("backup_limit", 409, 7),
        ("insufficient_credit", 402, 7),
    ] {
        let stub = Stub::start().on("GET /v1/volumes/db", status, &problem(code, status, "No."));
        let ended = run_at(&stub, &["volume", "show", "db"]);
        assert_eq!(ended.code, exit, "{code}: {}", ended.stderr);
        assert!(
            ended.stderr.starts_with(&format!("error[{code}]: No.\n")),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.contains("\nrequest: "), "{}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn ways_out_are_commands_that_can_be_typed() {
    let mut busy = problem(
        "volume_busy",
        409,
        "Volume is busy with operation: snapshot",
    );
    busy["resolutions"] = json!([
        {"label": "Watch the running operation", "method": "GET",
         "href": format!("/v1/operations/{OPERATION_ID}")},
        {"label": "Cancel the running operation", "method": "POST",
         "href": format!("/v1/operations/{OPERATION_ID}/cancel")},
        {"label": "Delete a snapshot", "method": "GET",
         "href": format!("/v1/snapshots?volume={VOLUME_ID}")},
        {"label": "Ask your operator"},
    ]);
    let stub = Stub::start().on("POST /v1/snapshots", 409, &busy);
    insta::assert_snapshot!(run_at(&stub, &["snapshot", "create", "db"]).shown());
}

#[test]
fn a_server_that_does_not_answer_is_said_with_a_way_out() {
    // A port that was free a moment ago, and is again.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port();
    let server = format!("http://127.0.0.1:{port}");
    let ended = run(&["volume", "list", "--token", "stp_x", "--server", &server]);
    insta::assert_snapshot!(ended.shown().replace(&port.to_string(), "PORT"));
}

#[test]
fn something_else_that_answers_is_told_from_stillpoint() {
    let stub = Stub::start().on("GET /v1/volumes", 200, &json!("hello"));
    let ended = run_at(&stub, &["volume", "list"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.stderr.starts_with("error[unexpected_answer]"),
        "{}",
        ended.stderr
    );
}

#[test]
fn who_is_not_signed_in_is_told_how_before_anything_is_sent() {
    insta::assert_snapshot!(run(&["volume", "list"]).shown());
}

#[test]
fn usage_mistakes_end_with_2_and_say_what_was_meant() {
    let mut said = String::new();
    for args in [
        &["volume", "lst"][..],
        &["volume", "create", "db", "--size", "10X"],
        &["volume", "create", "db"],
        &["restore", "new"],
        &[
            "restore",
            "new",
            "--from-snapshot",
            "a",
            "--from-backup",
            "b",
        ],
        &["snapshot", "create", "db", "--timeout", "soon"],
        &["snapshot", "create", "db", "--label", "nokey"],
        &["operation", "show", "seven"],
        &["api", "FETCH", "/v1/volumes"],
        &[
            "volume",
            "list",
            "--server",
            "not an address",
            "--token",
            "t",
        ],
    ] {
        let ended = run(args);
        assert_eq!(ended.code, 2, "{args:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "");
        said += &format!("$ stillpoint {}\n{}\n", args.join(" "), ended.stderr);
    }
    insta::assert_snapshot!(said);
}

#[test]
fn any_request_can_be_sent_and_its_refusal_reads_like_any_other() {
    let stub = Stub::start()
        .on("GET /v1/whoami", 200, &json!({"login": "demo"}))
        .on(
            "DELETE /v1/volumes/x",
            404,
            &problem("not_found", 404, "There is no such volume."),
        );
    let ended = run_at(&stub, &["api", "get", "/v1/whoami"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "{\n  \"login\": \"demo\"\n}\n")
    );
    let ended = run_at(&stub, &["api", "DELETE", "/v1/volumes/x"]);
    assert_eq!(ended.code, 5);
    assert!(
        ended
            .stderr
            .starts_with("error[not_found]: There is no such volume.")
    );
}
