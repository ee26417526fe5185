//! Signing in and out.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::run::{Ended, command};
use crate::sample::{OTHER_ID, page, problem, volume};
use crate::stub::Stub;

fn me() -> Value {
    json!({
        "account_id": OTHER_ID, "project_id": OTHER_ID, "user_id": OTHER_ID,
        "login": "demo", "role": "tenant",
    })
}

fn token() -> Value {
    json!({
        "id": OTHER_ID, "name": "cli", "prefix": "stp_abc", "created_at": "2026-11-21T09:30:00Z",
        "expires_at": null, "last_used_at": null,
    })
}

fn server() -> Stub {
    let session = json!({
        "user": me(), "csrf_token": "c", "expires_at": "2026-11-22T09:30:00Z",
    });
    Stub::start()
        .with_headers(
            "POST /v1/sessions",
            201,
            "Set-Cookie: stillpoint_session=s; Path=/\r\n",
            &session,
        )
        .on(
            "POST /v1/tokens",
            201,
            &json!({"token": token(), "secret": "stp_abcdef"}),
        )
        .on("GET /v1/tokens", 200, &page(&[token()]))
        .on("DELETE /v1/sessions/current", 204, &json!({}))
        .on("GET /v1/whoami", 200, &me())
        .on("GET /v1/volumes", 200, &page(&[volume("db")]))
}

fn at_home(home: &Path, args: &[&str], stdin: &str) -> Ended {
    let mut child = command(home)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut input = child.stdin.take().expect("stdin");
    // A command that does not read its input may be gone already.
    let _ = input.write_all(stdin.as_bytes());
    drop(input);
    child.wait_with_output().expect("ended").into()
}

fn login(home: &Path, stub: &Stub) -> Ended {
    let args = [
        "auth",
        "login",
        "--server",
        stub.url(),
        "--login",
        "demo",
        "--password-stdin",
    ];
    at_home(home, &args, "secret\n")
}

#[test]
fn a_login_serves_later_commands_and_only_its_owner_can_read_it() {
    let (stub, home) = (server(), tempfile::tempdir().expect("a home"));
    let ended = login(home.path(), &stub);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let file = home.path().join("config/stillpoint/config.toml");
    let mode = fs::metadata(&file).expect("the login").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let listed = at_home(home.path(), &["volume", "list", "-o", "name"], "");
    assert_eq!(
        (listed.code, listed.stdout.as_str()),
        (0, "db\n"),
        "{}",
        listed.stderr
    );
    let last = stub.asked().pop().expect("a request");
    assert_eq!(last.headers["authorization"], "Bearer stp_abcdef");
}

#[test]
fn a_saved_token_is_not_sent_to_another_server() {
    let (stub, home) = (server(), tempfile::tempdir().expect("a home"));
    login(home.path(), &stub);
    let other = Stub::start();
    let ended = at_home(
        home.path(),
        &["volume", "list", "--server", other.url()],
        "",
    );
    assert_eq!(ended.code, 4, "{}", ended.stderr);
    assert_eq!(other.lines(), Vec::<String>::new());
}

#[test]
fn signing_out_ends_the_token_and_forgets_it() {
    let (stub, home) = (server(), tempfile::tempdir().expect("a home"));
    let stub = stub.on(&format!("DELETE /v1/tokens/{OTHER_ID}"), 204, &json!({}));
    login(home.path(), &stub);
    let ended = at_home(home.path(), &["auth", "logout"], "");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(
        stub.lines()
            .contains(&format!("DELETE /v1/tokens/{OTHER_ID}"))
    );
    assert_eq!(at_home(home.path(), &["volume", "list"], "").code, 4);
}

#[test]
fn a_wrong_password_is_an_auth_failure_and_saves_nothing() {
    let refusal = problem("unauthenticated", 401, "Login or password is wrong.");
    let stub = Stub::start().on("POST /v1/sessions", 401, &refusal);
    let home = tempfile::tempdir().expect("a home");
    assert_eq!(login(home.path(), &stub).code, 4);
    assert!(!home.path().join("config").exists());
}

#[test]
fn nobody_is_asked_for_a_password_without_a_terminal() {
    let (stub, home) = (server(), tempfile::tempdir().expect("a home"));
    let args = ["auth", "login", "--server", stub.url(), "--login", "demo"];
    let ended = at_home(home.path(), &args, "");
    assert_eq!(ended.code, 2);
    insta::assert_snapshot!(ended.stderr, @r"
    error[usage]: Password is missing, and nobody can be asked here.
    hint: give it with --password-stdin
    ");
}

#[test]
fn a_new_token_goes_to_stdout_alone() {
    let (stub, home) = (server(), tempfile::tempdir().expect("a home"));
    login(home.path(), &stub);
    let ended = at_home(home.path(), &["auth", "token", "create", "ci"], "");
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "stp_abcdef\n"));
}
