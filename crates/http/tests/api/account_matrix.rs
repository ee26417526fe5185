//! Every operation of the API, generated from its description, asked by everybody who has no
//! right to it: never data, never a change.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use stillpoint_control::token;
use stillpoint_model::name::Name;

use crate::server::{LISTS, MIB, Reply, Server, Things, things};

/// One operation of the description, filled in with the tenant's things.
struct Ask {
    id: String,
    method: Method,
    path: String,
    body: Option<Value>,
    /// Whether anybody may ask.
    is_open: bool,
    /// Whether it names something of the tenant.
    names_something: bool,
}

fn asks(document: &Value, things: &Things) -> Vec<Ask> {
    let mut asks = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            let filled = path
                .replace("{volume}", &things.volume)
                .replace("{instance}", &things.instance)
                .replace("{instance_snapshot}", &things.instance_snapshot)
                .replace("{snapshot}", &things.snapshot)
                .replace("{backup}", &things.backup)
                .replace("{image}", &things.image)
                .replace("{operation}", &things.operation)
                .replace("{target}", "target-1")
                .replace("{token}", &things.operation);
            let has_body = operation.get("requestBody").is_some();
            let body = has_body.then(|| body(&id, things));
            let names_body = body.as_ref().is_some_and(|body| {
                let text = body.to_string();
                [
                    &things.volume,
                    &things.instance,
                    &things.snapshot,
                    &things.instance_snapshot,
                ]
                .iter()
                .any(|id| text.contains(id.as_str()))
            });
            asks.push(Ask {
                method: method.to_uppercase().parse().unwrap(),
                is_open: operation["security"] == json!([]),
                names_something: names_body || filled != *path,
                path: filled,
                body,
                id,
            });
        }
    }
    asks
}

/// A good body for each operation that takes one. A new operation must be added here.
fn body(id: &str, things: &Things) -> Value {
    match id {
        "session_create" => json!({"login": "tenant", "password": "wrong"}),
        "token_create" => json!({"name": "new"}),
        "volume_create" => json!({"name": "new", "size_bytes": 64 * MIB}),
        "volume_update"
        | "snapshot_update"
        | "backup_update"
        | "image_update"
        | "instance_update"
        | "instance_snapshot_update"
        | "instance_snapshot_restore" => {
            json!({"name": "new"})
        }
        "instance_snapshot_create" => json!({"instance": things.instance}),
        "instance_rebuild" => {
            json!({"instance_snapshot": things.instance_snapshot, "confirm": "vm"})
        }
        "instance_create" => json!({"root": {"volume": things.volume}}),
        "volume_resize" => json!({"size_bytes": 128 * MIB}),
        "volume_clone" | "backup_verify" | "instance_stop" => json!({}),
        "volume_attach" => json!({"instance": things.instance}),
        "volume_attachment_report" => json!({"instance": "web", "state": "running"}),
        "upload_create" => json!(null),
        "image_create" => json!({"source": {"kind": "snapshot", "item": things.snapshot}}),
        "snapshot_create" | "backup_create" => json!({"volume": things.volume}),
        "restore_create" => {
            json!({"source": {"kind": "snapshot", "item": things.snapshot}, "mode": "new_volume"})
        }
        "target_copies" => json!({"to": null}),
        "collection_confirm" => json!({"vault_id": things.operation, "bytes": 1}),
        "operation_release" | "operation_retry" => json!({"reason": "because"}),
        other => panic!("say what a good body of {other} is"),
    }
}

async fn send(server: &Server, ask: &Ask, token: Option<&str>) -> Reply {
    // With the confirmation, so that only the account stands in the way.
    let confirmed = match ask.id.as_str() {
        "volume_delete" => format!("{}?confirm=disk", ask.path),
        "instance_delete" => format!("{}?confirm=vm&delete_all_volumes=true", ask.path),
        "snapshot_delete" => format!("{}?confirm=snap", ask.path),
        "image_delete" => format!("{}?confirm=golden", ask.path),
        "backup_delete" => format!("{}?confirm=bak", ask.path),
        "instance_snapshot_delete" => format!("{}?confirm=whole", ask.path),
        _ => ask.path.clone(),
    };
    let mut request = server.request(ask.method.clone(), &confirmed);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    match &ask.body {
        Some(Value::Null) => {
            request = request
                .header("content-type", "application/octet-stream")
                .body("image");
        }
        Some(body) => request = request.json(body),
        None => {}
    }
    server.send(request).await
}

async fn new_token(server: &Server, name: &str, lifetime: Option<Duration>) -> (String, String) {
    let name: Name = name.parse().unwrap();
    let now = stillpoint_model::Env::now(&*server.env);
    let expires = lifetime.map(|lifetime| now.saturating_add(lifetime));
    let actor = &server.tenant.actor;
    let (token, secret) = token::create(&server.cx, actor, name, expires, None)
        .await
        .unwrap();
    (token.id.to_string(), secret.expose().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_anything_without_a_credential_that_works() {
    let server = Server::start().await;
    let things = things(&server, &server.tenant).await;
    let (_, expired) = new_token(&server, "expired", Some(Duration::from_secs(60))).await;
    let (id, revoked) = new_token(&server, "revoked", None).await;
    for secret in [&expired, &revoked] {
        // It worked, so that a cache would know it.
        let whoami = server
            .request(Method::GET, "/v1/whoami")
            .bearer_auth(secret);
        assert_eq!(server.send(whoami).await.status, 200);
    }
    server.env.advance(Duration::from_secs(61));
    let gone = server
        .delete(&server.tenant, &format!("/v1/tokens/{id}"))
        .await;
    assert_eq!(gone.status, 204, "{gone:?}");

    let document = server
        .send(server.request(Method::GET, "/openapi.json"))
        .await
        .body;
    let before = server.dump().await;
    let credentials = [
        ("anonymous", None),
        ("expired", Some(&*expired)),
        ("revoked", Some(&*revoked)),
    ];
    let mut asked = 0;
    for ask in asks(&document, &things).iter().filter(|ask| !ask.is_open) {
        for (who, token) in credentials {
            let reply = send(&server, ask, token).await;
            assert_eq!(
                reply.code(),
                "unauthenticated",
                "{who}: {} {reply:?}",
                ask.id
            );
            assert_eq!(reply.status, 401);
            assert!(reply.headers.contains_key("www-authenticate"));
            asked += 1;
        }
    }
    assert!(asked > 90, "{asked} asked");
    assert_eq!(server.dump().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_account_gets_nothing_of_mine() {
    let server = Server::start().await;
    let things = things(&server, &server.tenant).await;
    let document = server
        .send(server.request(Method::GET, "/openapi.json"))
        .await
        .body;
    let secrets = [
        &things.volume,
        &things.instance,
        &things.instance_snapshot,
        &things.snapshot,
        &things.backup,
        &things.image,
        &things.operation,
    ];
    let mut before = Vec::new();
    for list in LISTS {
        before.push(
            server
                .get(&server.tenant, &format!("/v1/{list}"))
                .await
                .body,
        );
    }
    for ask in asks(&document, &things).iter().filter(|ask| !ask.is_open) {
        if ask.id == "event_stream" {
            // It would never end; the tests of events ask it.
            continue;
        }
        let reply = send(&server, ask, Some(&server.neighbour.token)).await;
        let text = reply.body.to_string();
        for secret in secrets {
            assert!(
                !text.contains(secret.as_str()),
                "{} tells {secret}: {text}",
                ask.id
            );
        }
        // What an operator alone may do is refused without a look at what it is about.
        let for_operators = reply.code() == "forbidden" && reply.status == 403;
        if ask.names_something && !for_operators {
            assert_eq!(reply.code(), "not_found", "{}: {reply:?}", ask.id);
        }
    }
    for (list, before) in LISTS.iter().zip(before) {
        let after = server
            .get(&server.tenant, &format!("/v1/{list}"))
            .await
            .body;
        assert_eq!(after, before, "{list}");
    }
}
