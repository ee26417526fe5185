//! Changes: once, on condition, or only asked about; and from a browser.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{MIB, PASSWORD, Server, things};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_on_condition_loses_against_one_that_came_before() {
    let server = Server::start().await;
    things(&server, &server.tenant).await;
    for (path, first, second) in [
        (
            "/v1/volumes/disk",
            json!({"name": "renamed"}),
            json!({"name": "other"}),
        ),
        (
            "/v1/instances/vm",
            json!({"name": "renamed"}),
            json!({"name": "other"}),
        ),
        (
            "/v1/snapshots/snap",
            json!({"description": "a"}),
            json!({"description": "b"}),
        ),
        (
            "/v1/backups/bak",
            json!({"protected": true}),
            json!({"protected": false}),
        ),
    ] {
        let shown = server.get(&server.tenant, path).await;
        let id = shown.id();
        let path = format!("{}/{id}", path.rsplit_once('/').unwrap().0);
        let tag = shown.headers["etag"].to_str().unwrap().to_owned();
        assert_eq!(tag, format!("\"{}\"", shown.body["version"]));
        let change = |body: &Value| {
            let request = server
                .request(Method::PATCH, &path)
                .bearer_auth(&server.tenant.token);
            server.send(request.header("if-match", &tag).json(body))
        };
        let changed = change(&first).await;
        assert_eq!(changed.status, 200, "{changed:?}");
        assert_ne!(changed.headers["etag"], tag.as_str());
        let refused = change(&second).await;
        assert_eq!(
            (refused.status, refused.code()),
            (412, "precondition_failed"),
            "{refused:?}"
        );
        let now = server.get(&server.tenant, &path).await;
        assert_eq!(now.headers["etag"], changed.headers["etag"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_sent_again_is_done_once() {
    let server = Server::start().await;
    let send = |who: &str, key: &str, name: &str| {
        let body = json!({"name": name, "size_bytes": 64 * MIB});
        let request = server.request(Method::POST, "/v1/volumes").bearer_auth(who);
        server.send(request.header("idempotency-key", key).json(&body))
    };
    let tenant = server.tenant.token.as_str();
    let (first, second) = (send(tenant, "k", "a").await, send(tenant, "k", "a").await);
    assert_eq!(
        (first.status, second.status),
        (202, 202),
        "{first:?} {second:?}"
    );
    assert_eq!(first.id(), second.id());
    assert_eq!(first.headers["location"], second.headers["location"]);
    let other = send(tenant, "k", "b").await;
    assert_eq!(
        (other.status, other.code()),
        (422, "idempotency_mismatch"),
        "{other:?}"
    );
    let neighbour = send(&server.neighbour.token, "k", "a").await;
    assert_eq!(neighbour.status, 202, "{neighbour:?}");
    assert_ne!(neighbour.id(), first.id());
    let volumes = server.get(&server.tenant, "/v1/volumes").await;
    assert_eq!(volumes.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_with_one_key_are_one() {
    let server = Server::start().await;
    let body = json!({"name": "a", "size_bytes": 64 * MIB});
    let requests = (0..32).map(|_| {
        let request = server.request(Method::POST, "/v1/volumes");
        let request = request
            .bearer_auth(&server.tenant.token)
            .header("idempotency-key", "k");
        server.send(request.json(&body))
    });
    let replies = futures_util::future::join_all(requests).await;
    let ids: BTreeSet<_> = replies.iter().map(|reply| reply.id()).collect();
    assert_eq!(ids.len(), 1, "{replies:?}");
}

/// What may be asked about the instance `vm`, which is stopped.
fn about_instances() -> Vec<(Method, &'static str, Value)> {
    vec![
        (
            Method::POST,
            "/v1/volumes/disk/attach?",
            json!({"instance": "vm"}),
        ),
        (Method::POST, "/v1/volumes/vm-root/detach?", json!(null)),
        (
            Method::POST,
            "/v1/instances?",
            json!({"root": {"source": {"kind": "snapshot", "item": "snap"}}}),
        ),
        (Method::POST, "/v1/instances/vm/start?", json!(null)),
        (Method::PATCH, "/v1/instances/vm?", json!({"name": "new"})),
        (
            Method::DELETE,
            "/v1/instances/vm?confirm=vm&delete_volumes=vm-root&",
            json!(null),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_changes_nothing() {
    let server = Server::start().await;
    things(&server, &server.tenant).await;
    let source = json!({"kind": "snapshot", "item": "snap"});
    let asks = [
        (
            Method::POST,
            "/v1/volumes?",
            json!({"name": "new", "size_bytes": 64 * MIB}),
        ),
        (Method::POST, "/v1/volumes/disk/clone?", json!({})),
        (
            Method::POST,
            "/v1/volumes/disk/resize?",
            json!({"size_bytes": 128 * MIB}),
        ),
        (Method::PATCH, "/v1/volumes/disk?", json!({"name": "new"})),
        (
            Method::DELETE,
            "/v1/volumes/disk?confirm=disk&",
            json!(null),
        ),
        (Method::POST, "/v1/snapshots?", json!({"volume": "disk"})),
        (
            Method::PATCH,
            "/v1/snapshots/snap?",
            json!({"protected": true}),
        ),
        (
            Method::DELETE,
            "/v1/snapshots/snap?confirm=snap&",
            json!(null),
        ),
        (Method::POST, "/v1/backups?", json!({"volume": "disk"})),
        (
            Method::POST,
            "/v1/backups/bak/verify?",
            json!({"deep": true}),
        ),
        (Method::PATCH, "/v1/backups/bak?", json!({"name": "new"})),
        (Method::DELETE, "/v1/backups/bak?confirm=bak&", json!(null)),
        (
            Method::POST,
            "/v1/restores?",
            json!({"source": source, "mode": "new_volume"}),
        ),
        (
            Method::POST,
            "/v1/restores?",
            json!({"source": source, "mode": "in_place", "confirm": "disk"}),
        ),
    ];
    let before = server.dump().await;
    for (method, path, body) in asks.into_iter().chain(about_instances()) {
        let path = format!("{path}dry_run=true");
        let mut request = server
            .request(method.clone(), &path)
            .bearer_auth(&server.tenant.token);
        if !body.is_null() {
            request = request.json(&body);
        }
        let reply = server.send(request).await;
        assert_eq!(reply.status, 200, "{method} {path}: {reply:?}");
        assert_eq!(server.dump().await, before, "{method} {path}");
        if method != Method::PATCH {
            assert_eq!(reply.body["dry_run"], true, "{method} {path}: {reply:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_s_changes_show_the_session_s_token() {
    let server = Server::start().await;
    let body = json!({"login": "tenant", "password": PASSWORD});
    let signed_in = server
        .send(server.request(Method::POST, "/v1/sessions").json(&body))
        .await;
    assert_eq!(signed_in.status, 201, "{signed_in:?}");
    let cookie = signed_in.headers["set-cookie"].to_str().unwrap();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    let session = cookie.split(';').next().unwrap().to_owned();
    let csrf = signed_in.body["csrf_token"].as_str().unwrap().to_owned();
    let ask = |method: Method, path: &str| server.request(method, path).header("cookie", &session);
    assert_eq!(
        server.send(ask(Method::GET, "/v1/whoami")).await.status,
        200
    );

    let volume = json!({"name": "a", "size_bytes": 64 * MIB});
    for request in [
        ask(Method::POST, "/v1/volumes"),
        ask(Method::POST, "/v1/volumes").header("x-csrf-token", "x"),
        ask(Method::POST, "/v1/volumes").header("x-csrf-token", ""),
    ] {
        let refused = server.send(request.json(&volume)).await;
        assert_eq!(
            (refused.status, refused.code()),
            (403, "forbidden"),
            "{refused:?}"
        );
    }
    let good = ask(Method::POST, "/v1/volumes")
        .header("x-csrf-token", &csrf)
        .json(&volume);
    assert_eq!(server.send(good).await.status, 202);

    let out = ask(Method::DELETE, "/v1/sessions/current").header("x-csrf-token", &csrf);
    assert_eq!(server.send(out).await.status, 204);
    let gone = server.send(ask(Method::GET, "/v1/whoami")).await;
    assert_eq!((gone.status, gone.code()), (401, "unauthenticated"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_hold_everything_once() {
    let server = Server::start().await;
    let mut made = BTreeSet::new();
    for n in 0..7 {
        made.insert(server.volume(&server.tenant, &format!("v{n}")).await);
    }
    let mut seen = Vec::new();
    let mut path = "/v1/volumes?limit=3".to_owned();
    loop {
        let page = server.get(&server.tenant, &path).await;
        let items = page.body["items"].as_array().unwrap().clone();
        seen.extend(
            items
                .iter()
                .map(|item| item["id"].as_str().unwrap().to_owned()),
        );
        match page.body["next_page"].as_str() {
            Some(next) => path = format!("/v1/volumes?limit=3&page={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 7);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), made);
}
