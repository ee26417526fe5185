//! What is wrong around a body: queries, headers, paths, and who asks for whose things.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use stillpoint_model::refusal::ProblemCode::{
    Forbidden, InvalidRequest, MethodNotAllowed, NameInvalid, NotFound, PreconditionFailed,
    TooLarge, Unauthenticated, UnsupportedMediaType,
};

use super::Table;
use crate::server::{LISTS, MIB, Things};

pub(super) fn queries(table: &mut Table<'_>) {
    for list in LISTS {
        table.get(&format!("/v1/{list}?limit=0"), InvalidRequest, "?limit");
    }
    for limit in ["501", "-1", "abc", "99999999999", "1.5", ""] {
        table.get(
            &format!("/v1/volumes?limit={limit}"),
            InvalidRequest,
            "?limit",
        );
    }
    let long = "A".repeat(10_000);
    for page in [
        "x",
        "!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!",
        "%00",
        "%ff%fe",
        "",
        &long,
    ] {
        table.get(&format!("/v1/volumes?page={page}"), InvalidRequest, "?page");
    }
    table.get("/v1/volumes?limt=5", InvalidRequest, "?limt");
    table.get("/v1/volumes?limit=5&limit=6", InvalidRequest, "?limit");
    table.get("/v1/operations?in_flight=2", InvalidRequest, "?in_flight");
    table.get("/v1/operations?volume=", NotFound, "?volume");
    table.get("/v1/events?since=-5", InvalidRequest, "?since");
    table.get("/v1/events?since=abc", InvalidRequest, "?since");
    table.get("/v1/whoami?x=1", InvalidRequest, "?x");
    table.get("/v1/volumes/disk?x=1", InvalidRequest, "?x");
    // A typo must not turn a question into a deed.
    let body = json!({"name": "new", "size_bytes": 64 * MIB});
    table.post("/v1/volumes?dryrun=true", &body, InvalidRequest, "?dryrun");
    table.post("/v1/volumes?dry_run=yes", &body, InvalidRequest, "?dry_run");
    table.post(
        "/v1/volumes?dry_run=true&dry_run=false",
        &body,
        InvalidRequest,
        "?dry_run",
    );
    for (kind, name) in [
        ("volumes", "disk"),
        ("snapshots", "snap"),
        ("backups", "bak"),
        ("images", "golden"),
    ] {
        for confirm in ["", "?confirm=", "?confirm=Disk", "?confirm=disk%20"] {
            let path = format!("/v1/{kind}/{name}{confirm}");
            let request = table.ask(Method::DELETE, &path);
            table.add(
                &format!("DELETE {path}"),
                request,
                InvalidRequest,
                "?confirm",
            );
        }
    }
}

pub(super) fn headers(table: &mut Table<'_>) {
    let body = json!({"name": "new", "size_bytes": 64 * MIB});
    let long = "k".repeat(201);
    for key in ["", long.as_str()] {
        let request = table
            .ask(Method::POST, "/v1/volumes")
            .json(&body)
            .header("idempotency-key", key);
        table.add(
            "a key of no good length",
            request,
            InvalidRequest,
            "idempotency-key:",
        );
    }
    let request = table
        .ask(Method::POST, "/v1/volumes")
        .json(&body)
        .header("idempotency-key", "a")
        .header("idempotency-key", "b");
    table.add("two keys", request, InvalidRequest, "idempotency-key:");
    let request = table
        .ask(Method::POST, "/v1/volumes")
        .json(&body)
        .header("idempotency-key", &b"\xff\xfe"[..]);
    table.add(
        "a key of no characters",
        request,
        InvalidRequest,
        "idempotency-key:",
    );
    for tag in ["\"999\"", "W/\"1\"", "1", "\"x\"", ""] {
        let request = table
            .ask(Method::PATCH, "/v1/volumes/disk")
            .json(&json!({"name": "renamed"}))
            .header("if-match", tag);
        table.add(&format!("If-Match {tag}"), request, PreconditionFailed, "-");
    }
    let request = table
        .ask(Method::GET, "/v1/events")
        .header("last-event-id", "latest");
    table.add("no event", request, InvalidRequest, "Last-Event-ID:");
}

pub(super) fn bad_credentials(table: &mut Table<'_>) {
    for authorization in [
        "",
        "Basic YWRtaW46YWRtaW4=",
        "Bearer",
        "Bearer ",
        "Bearer stp_wrong",
    ] {
        let request = table
            .server
            .request(Method::GET, "/v1/volumes")
            .header("authorization", authorization);
        table.add(
            &format!("Authorization {authorization:?}"),
            request,
            Unauthenticated,
            "-",
        );
    }
    let token = format!("Bearer {}", table.server.tenant.token);
    let request = table
        .server
        .request(Method::GET, "/v1/volumes")
        .header("authorization", token.as_str())
        .header("authorization", token.as_str());
    table.add("two credentials", request, Unauthenticated, "-");
    let request = table
        .server
        .request(Method::GET, "/v1/volumes")
        .header("cookie", "stillpoint_session=; stillpoint_session=x; =; ;;");
    table.add("a broken cookie", request, Unauthenticated, "-");
}

pub(super) fn paths(table: &mut Table<'_>) {
    for path in [
        "/v1/nothing",
        "/v1",
        "/v1/",
        "/v1/volumes/",
        "/v1/volumes//disk",
        "/v1/volumes/DISK",
        "/v1/volumes/disk%20",
        "/v1/volumes/%00",
        "/v1/volumes/a%2fb",
        "/v1/volumes/%e2%80%ae",
        "/v1/volumes/0193b5a2-7c1e-7d4f-9a51-0c2d6d5e8f10",
        "/v1/operations/latest",
        "/v1/operations/0193b5a2-7c1e-7d4f-9a51-0c2d6d5e8f10",
        "/v1/snapshots/disk",
        "/v2/volumes",
    ] {
        table.get(path, NotFound, "-");
    }
    table.get("/v1/volumes/%ff%fe", InvalidRequest, "-");
    let upper = table.mine.volume.to_uppercase();
    table.get(&format!("/v1/volumes/{upper}"), NotFound, "-");
    for (method, path) in [
        (Method::PUT, "/v1/volumes"),
        (Method::DELETE, "/v1/volumes"),
        (Method::POST, "/v1/volumes/disk"),
        (Method::GET, "/v1/restores"),
        (Method::OPTIONS, "/v1/volumes"),
        (Method::TRACE, "/v1/volumes"),
        (Method::POST, "/healthz"),
        (Method::DELETE, "/v1/sessions"),
    ] {
        let request = table.ask(method.clone(), path);
        table.add(&format!("{method} {path}"), request, MethodNotAllowed, "-");
    }
}

/// Ids of others: as if they were not there.
pub(super) fn of_others(table: &mut Table<'_>) {
    let Things {
        volume,
        instance,
        instance_snapshot,
        snapshot,
        backup,
        image,
        operation,
    } = &table.theirs;
    let (volume, snapshot) = (volume.clone(), snapshot.clone());
    let (backup, operation) = (backup.clone(), operation.clone());
    let image = image.clone();
    for path in [
        format!("/v1/volumes/{volume}"),
        format!("/v1/instances/{instance}"),
        format!("/v1/instance-snapshots/{instance_snapshot}"),
        format!("/v1/snapshots/{snapshot}"),
        format!("/v1/backups/{backup}"),
        format!("/v1/images/{image}"),
        format!("/v1/operations/{operation}"),
    ] {
        table.get(&path, NotFound, "-");
        if path.contains("/operations/") {
            continue;
        }
        table.patch(&path, &json!({"name": "mine"}), NotFound, "-");
        let request = table.ask(Method::DELETE, &format!("{path}?confirm=disk"));
        table.add(&format!("DELETE {path}"), request, NotFound, "-");
    }
    table.post(
        &format!("/v1/volumes/{volume}/clone"),
        &json!({}),
        NotFound,
        "-",
    );
    let size = json!({"size_bytes": 128 * MIB});
    table.post(
        &format!("/v1/volumes/{volume}/resize"),
        &size,
        NotFound,
        "-",
    );
    table.post(
        &format!("/v1/backups/{backup}/verify"),
        &json!({}),
        NotFound,
        "-",
    );
    table.post(
        &format!("/v1/operations/{operation}/cancel"),
        &json!({}),
        NotFound,
        "-",
    );
    table.post("/v1/snapshots", &json!({"volume": volume}), NotFound, "-");
    table.post("/v1/backups", &json!({"volume": volume}), NotFound, "-");
    let copy = json!({"volume": "disk", "snapshot": snapshot});
    table.post("/v1/backups", &copy, NotFound, "-");
    for (kind, item) in [("snapshot", &snapshot), ("backup", &backup)] {
        let body = json!({"source": {"kind": kind, "item": item}, "mode": "new_volume"});
        table.post("/v1/restores", &body, NotFound, "-");
    }
}

pub(super) fn of_operators(table: &mut Table<'_>) {
    let volume = table.mine.volume.clone();
    for list in ["nodes", "pools", "targets", "accounts", "audit"] {
        table.get(&format!("/v1/admin/{list}"), Forbidden, "-");
    }
    table.get("/v1/admin/targets/local", Forbidden, "-");
    let confirm = json!({"vault_id": table.mine.operation.clone(), "bytes": 1});
    table.post("/v1/admin/targets/local/confirm", &confirm, Forbidden, "-");
    let copies = json!({"to": "second"});
    table.post("/v1/admin/targets/local/copies", &copies, Forbidden, "-");
    table.get("/v1/operations?all_accounts=true", Forbidden, "-");
    table.get("/v1/events?all_accounts=true", Forbidden, "-");
    let path = format!("/v1/volumes/{volume}/attachment");
    let attachment = json!({"instance": "web", "state": "running"});
    let request = table.ask(Method::PUT, &path).json(&attachment);
    table.add("a tenant attaches", request, Forbidden, "-");
    let request = table.ask(Method::DELETE, &path);
    table.add("a tenant detaches", request, Forbidden, "-");
    let operation = table.mine.operation.clone();
    for verb in ["release", "retry"] {
        let path = format!("/v1/operations/{operation}/{verb}");
        table.post(&path, &json!({"reason": "I want to"}), Forbidden, "-");
        table.post(&path, &json!({"reason": "  "}), InvalidRequest, "/reason");
        table.post(
            &path,
            &json!({"reason": "r".repeat(1001)}),
            InvalidRequest,
            "/reason",
        );
        table.post(&path, &json!({}), InvalidRequest, "/reason");
    }
    let body = json!({"volume": "disk"});
    table.post(
        "/v1/snapshots?override_cooldown=true",
        &body,
        Forbidden,
        "-",
    );
}

pub(super) fn credentials(table: &mut Table<'_>) {
    for (body, at) in [
        (json!({"name": ""}), "/name"),
        (json!({"name": "a\u{202e}"}), "/name"),
    ] {
        table.post("/v1/tokens", &body, NameInvalid, at);
    }
    for expires in [
        "yesterday",
        "2026-13-01T00:00:00Z",
        "2001-01-01T00:00:00Z",
        "1795000000",
    ] {
        let body = json!({"name": "t", "expires_at": expires});
        table.post("/v1/tokens", &body, InvalidRequest, "/expires_at");
    }
    let request = table.ask(Method::DELETE, "/v1/tokens/mine");
    table.add("a token by name", request, NotFound, "-");
    let sign_in = |body: &Value| {
        table
            .server
            .request(Method::POST, "/v1/sessions")
            .json(body)
    };
    let long = "p".repeat(10_000);
    let requests = [
        (
            sign_in(&json!({"login": "tenant", "password": "wrong"})),
            Unauthenticated,
            "-",
        ),
        (
            sign_in(&json!({"login": "nobody", "password": "wrong"})),
            Unauthenticated,
            "-",
        ),
        (
            sign_in(&json!({"login": "tenant"})),
            InvalidRequest,
            "/password",
        ),
        (
            sign_in(&json!({"login": "tenant", "password": long})),
            InvalidRequest,
            "/password",
        ),
        (
            sign_in(&json!({"login": "tenant", "password": ["x"]})),
            InvalidRequest,
            "/password",
        ),
    ];
    for (request, code, at) in requests {
        table.add("a bad sign-in", request, code, at);
    }
}

pub(super) fn uploads(table: &mut Table<'_>) {
    let upload = |content_type: &str, body: Vec<u8>| {
        let request = table.ask(Method::POST, "/v1/uploads").body(body);
        request.header(CONTENT_TYPE, content_type)
    };
    let cases = [
        (
            "a JSON upload",
            upload("application/json", vec![1]),
            UnsupportedMediaType,
        ),
        (
            "an empty upload",
            upload("application/octet-stream", vec![]),
            InvalidRequest,
        ),
        (
            "an upload over the limit",
            upload("application/octet-stream", vec![0; (2 << 20) + 1]),
            TooLarge,
        ),
    ];
    for (what, request, code) in cases {
        table.add(what, request, code, "-");
    }
}
