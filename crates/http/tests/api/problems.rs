//! Problems: each refusal's document, and that a request is told what the page was shown.

use std::time::Duration;

use serde_json::{Value, json};
use stillpoint_client::wire::Problem;
use stillpoint_model::refusal::{ProblemCode, Refusal, WayOut};

use crate::server::{MIB, Reply, Server, things};

#[test]
fn every_code_has_its_document() {
    for code in ProblemCode::ALL {
        let refusal = Refusal::new(*code, "Text.")
            .at("/field")
            .after(Duration::from_secs(7))
            .or(WayOut::RestoreToNewVolume);
        let document = serde_json::to_value(Problem::from(&refusal)).unwrap();
        assert_eq!(
            document,
            json!({
                "type": format!("urn:stillpoint:problem:{code}"),
                "title": code.title(),
                "status": code.http_status(),
                "detail": "Text.",
                "code": code.as_str(),
                "retry_after_s": 7,
                "errors": [{"pointer": "/field", "code": code.as_str(), "detail": "Text."}],
                "resolutions": [
                    {"label": "Try again in 7 seconds"},
                    {"label": "Restore to a new volume", "method": "POST", "href": "/v1/restores"},
                ],
            })
        );
    }
}

/// What the volume's page says of an action.
async fn shown(server: &Server, volume: &str, action: &str) -> Value {
    let volume = server
        .get(&server.tenant, &format!("/v1/volumes/{volume}"))
        .await;
    let actions = volume.body["actions"].as_array().unwrap();
    let action = actions.iter().find(|a| a["action"] == action).unwrap();
    assert_eq!(action["allowed"], false, "{action}");
    action["problem"].clone()
}

/// Asserts that a request got the code, and the very problem that the page shows.
fn same(reply: &Reply, code: &str, status: u16, mut shown: Value) {
    assert_eq!((reply.code(), reply.status), (code, status), "{reply:?}");
    shown["request_id"] = reply.body["request_id"].clone();
    assert_eq!(reply.body, shown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_volume_and_a_resting_one_say_so() {
    let server = Server::start().await;
    server.volume(&server.tenant, "disk").await;
    server.holding.send_replace(true);
    let body = json!({"volume": "disk"});
    let first = server.post(&server.tenant, "/v1/snapshots", &body).await;
    assert_eq!(
        first.headers["location"],
        format!("/v1/operations/{}", first.id())
    );
    let busy = server.post(&server.tenant, "/v1/backups", &body).await;
    same(
        &busy,
        "volume_busy",
        409,
        shown(&server, "disk", "backup_create").await,
    );
    assert_eq!(
        busy.body["detail"],
        "Volume is busy with operation: snapshot"
    );
    let cancel = format!("/v1/operations/{}/cancel", first.id());
    assert_eq!(busy.body["resolutions"][1]["href"], cancel.as_str());

    let volume = server.get(&server.tenant, "/v1/volumes/disk").await.body;
    assert_eq!(volume["active_operation"]["id"], first.id());
    assert_eq!(volume["active_operation"]["percent"], Value::Null);
    assert_eq!(volume["active_operation"]["cancellable"], true);

    server.holding.send_replace(false);
    server.done(&server.tenant, &first).await;
    server.env.advance(Duration::from_secs(100));
    let resting = server.post(&server.tenant, "/v1/backups", &body).await;
    same(
        &resting,
        "cooldown",
        409,
        shown(&server, "disk", "backup_create").await,
    );
    assert_eq!(resting.body["retry_after_s"], 200);
    assert_eq!(resting.headers["retry-after"], "200");
    assert_eq!(
        resting.body["detail"],
        "Volume is in cooldown. Try again in 200 seconds."
    );
    server.env.advance(Duration::from_secs(200));
    let volume = server.get(&server.tenant, "/v1/volumes/disk").await.body;
    assert_eq!(volume["cooldown_remaining_s"], 0);
    let accepted = server.post(&server.tenant, "/v1/backups", &body).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_passes_the_cooldown() {
    let server = Server::start().await;
    let admin = &server.administrator;
    server.volume(admin, "disk").await;
    let body = json!({"volume": "disk"});
    let first = server.post(admin, "/v1/snapshots", &body).await;
    server.done(admin, &first).await;
    let resting = server.post(admin, "/v1/snapshots", &body).await;
    assert_eq!(resting.code(), "cooldown", "{resting:?}");
    let passed = server
        .post(admin, "/v1/snapshots?override_cooldown=true", &body)
        .await;
    assert_eq!(passed.status, 202, "{passed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caps_say_what_to_delete() {
    let server = Server::start().await;
    let id = server.volume(&server.tenant, "disk").await;
    for n in 0..5 {
        server
            .snapshot(&server.tenant, "disk", &format!("s{n}"))
            .await;
    }
    let body = json!({"volume": "disk"});
    let refused = server.post(&server.tenant, "/v1/snapshots", &body).await;
    same(
        &refused,
        "snapshot_limit",
        409,
        shown(&server, "disk", "snapshot_create").await,
    );
    let list = format!("/v1/snapshots?volume={id}");
    assert_eq!(refused.body["resolutions"][0]["href"], list.as_str());
    for n in 0..10 {
        server
            .backup(&server.tenant, "disk", &format!("b{n}"))
            .await;
    }
    let refused = server.post(&server.tenant, "/v1/backups", &body).await;
    same(
        &refused,
        "backup_limit",
        409,
        shown(&server, "disk", "backup_create").await,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_in_flight_are_enough() {
    let server = Server::start().await;
    server.volume(&server.tenant, "disk").await;
    server.holding.send_replace(true);
    for name in ["a", "b", "c"] {
        let body = json!({"name": name, "size_bytes": 64 * MIB});
        assert_eq!(
            server
                .post(&server.tenant, "/v1/volumes", &body)
                .await
                .status,
            202
        );
    }
    let body = json!({"volume": "disk"});
    let refused = server.post(&server.tenant, "/v1/snapshots", &body).await;
    same(
        &refused,
        "inflight_limit",
        429,
        shown(&server, "disk", "snapshot_create").await,
    );
    let href = refused.body["resolutions"][0]["href"]
        .as_str()
        .unwrap()
        .to_owned();
    let in_flight = server.get(&server.tenant, &href).await;
    assert_eq!(
        in_flight.body["items"].as_array().unwrap().len(),
        3,
        "{in_flight:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_running_instance_has_is_not_overwritten() {
    let server = Server::start().await;
    let mine = things(&server, &server.tenant).await;
    let path = format!("/v1/volumes/{}/attachment", mine.volume);
    let request = server
        .request(reqwest::Method::PUT, &path)
        .bearer_auth(&server.administrator.token)
        .json(&json!({"instance": "web", "state": "running"}));
    let attached = server.send(request).await;
    assert_eq!(attached.status, 200, "{attached:?}");
    assert_eq!(attached.body["attachment"]["instance"], "web");
    let source = json!({"kind": "snapshot", "item": "snap"});
    let body = json!({"source": source, "mode": "in_place", "confirm": "disk"});
    let refused = server.post(&server.tenant, "/v1/restores", &body).await;
    assert_eq!(
        (refused.code(), refused.status),
        ("attached_running", 409),
        "{refused:?}"
    );
    let labels: Vec<_> = refused.body["resolutions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|way| way["label"].as_str().unwrap())
        .collect();
    assert_eq!(
        labels,
        [
            "Stop the instance",
            "Detach the volume",
            "Restore to a new volume"
        ]
    );
    let snapshot = server.get(&server.tenant, "/v1/snapshots/snap").await;
    let actions = snapshot.body["actions"].as_array().unwrap();
    let shown = actions
        .iter()
        .find(|a| a["action"] == "restore_in_place")
        .unwrap();
    same(&refused, "attached_running", 409, shown["problem"].clone());
    let detached = server.delete(&server.administrator, &path).await;
    assert_eq!(detached.body["attachment"], Value::Null);
    let restored = server.post(&server.tenant, "/v1/restores", &body).await;
    server.done(&server.tenant, &restored).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_protected_item_stays() {
    let server = Server::start().await;
    things(&server, &server.tenant).await;
    for (kind, name) in [("snapshots", "snap"), ("backups", "bak")] {
        let path = format!("/v1/{kind}/{name}");
        let protected = server
            .patch(&server.tenant, &path, &json!({"protected": true}))
            .await;
        assert_eq!(protected.body["protected"], true, "{protected:?}");
        let confirmed = format!("{path}?confirm={name}");
        let refused = server.delete(&server.tenant, &confirmed).await;
        assert_eq!(
            (refused.code(), refused.status),
            ("protected", 409),
            "{refused:?}"
        );
        server
            .patch(&server.tenant, &path, &json!({"protected": false}))
            .await;
        let deleted = server.delete(&server.tenant, &confirmed).await;
        server.done(&server.tenant, &deleted).await;
        assert_eq!(server.get(&server.tenant, &path).await.code(), "not_found");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_target_there_is_no_backup() {
    let server = Server::start_with(|installation, _| installation.target = None).await;
    server.volume(&server.tenant, "disk").await;
    let body = json!({"volume": "disk"});
    let refused = server.post(&server.tenant, "/v1/backups", &body).await;
    same(
        &refused,
        "no_backup_target",
        422,
        shown(&server, "disk", "backup_create").await,
    );
    assert_eq!(
        refused.body["detail"],
        "Hypervisor has no backup storage configured."
    );
}
