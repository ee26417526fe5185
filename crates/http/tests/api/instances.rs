//! Instances: made, used and deleted; and what is told when something is in the way.

use reqwest::Method;
use serde_json::{Value, json};
use stillpoint_client::wire::instance::{
    InstanceCreate, InstanceDisk, InstancePatch, InstanceStop, Power,
};
use stillpoint_client::wire::operation::OperationState;
use stillpoint_client::wire::volume::VolumeAttach;
use stillpoint_client::{Answer, Change, DeleteVolumes, ListQuery};
use stillpoint_model::ByteCount;

use crate::server::{MIB, Reply, Server, things};

/// The instance as its owner sees it.
async fn shown(server: &Server, instance: &str) -> Value {
    let path = format!("/v1/instances/{instance}");
    let reply = server.get(&server.tenant, &path).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(
        reply.headers["etag"],
        format!("\"{}\"", reply.body["version"])
    );
    reply.body
}

async fn volume(server: &Server, volume: &str) -> Value {
    let path = format!("/v1/volumes/{volume}");
    server.get(&server.tenant, &path).await.body
}

async fn ask(server: &Server, path: &str, body: &Value) -> Reply {
    server.post(&server.tenant, path, body).await
}

/// Asks for something, and waits until it is done.
async fn done(server: &Server, path: &str, body: &Value) -> Value {
    let accepted = ask(server, path, body).await;
    server.done(&server.tenant, &accepted).await
}

/// What the answer says of an action that is not allowed now.
fn problem(answer: &Value, action: &str) -> Value {
    let actions = answer["actions"].as_array().unwrap();
    let action = actions.iter().find(|a| a["action"] == action).unwrap();
    assert_eq!(action["allowed"], false, "{action}");
    action["problem"].clone()
}

/// Asserts that a request was told the very problem that was shown.
fn same(reply: &Reply, code: &str, mut shown: Value) {
    assert_eq!((reply.code(), reply.status), (code, 409), "{reply:?}");
    shown["request_id"] = reply.body["request_id"].clone();
    assert_eq!(reply.body, shown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_instance_runs_with_its_volumes() {
    let server = Server::start().await;
    let disk = server.volume(&server.tenant, "disk").await;
    let body = json!({
        "name": "web", "flavor": "small", "root": {"size_bytes": 64 * MIB},
        "data": [{"volume": "disk"}, {"size_bytes": 128 * MIB, "name": "logs"}],
    });
    let accepted = ask(&server, "/v1/instances", &body).await;
    let location = format!("/v1/operations/{}", accepted.id());
    assert_eq!(accepted.headers["location"], location);
    assert_eq!(accepted.body["kind"], "instance_create");
    assert_eq!(accepted.body["instance_name"], "web");
    server.done(&server.tenant, &accepted).await;

    let web = shown(&server, "web").await;
    assert_eq!(web["id"], accepted.body["instance_id"]);
    assert_eq!(
        (&web["state"], &web["power"]),
        (&json!("active"), &json!("running"))
    );
    assert_eq!(
        web["flavor"],
        json!({"name": "small", "vcpus": 1, "memory_bytes": 1024 * MIB, "gpu": null})
    );
    assert_eq!(
        (&web["node"], &web["pool"]),
        (&json!("node-1"), &json!("pool-1"))
    );
    let volumes: Vec<_> = web["volumes"].as_array().unwrap().iter().collect();
    let told = |v: &Value| {
        json!([
            v["name"],
            v["role"],
            v["place"],
            v["size_bytes"],
            v["state"]
        ])
    };
    let told: Vec<_> = volumes.into_iter().map(told).collect();
    assert_eq!(
        told,
        [
            json!(["web-root", "root", 0, 64 * MIB, "in-use"]),
            json!(["disk", "data", 1, 64 * MIB, "in-use"]),
            json!(["logs", "data", 2, 128 * MIB, "in-use"]),
        ]
    );
    assert_eq!(
        volume(&server, &disk).await["attachment"],
        json!({"instance": "web", "instance_id": web["id"], "place": 1, "state": "running"})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_boots_from_a_backup_and_may_stay_stopped() {
    let server = Server::start().await;
    things(&server, &server.tenant).await;
    let source = json!({"kind": "backup", "item": "bak"});
    let body = json!({"root": {"source": source}, "start": false});
    let operation = done(&server, "/v1/instances", &body).await;
    let copy = shown(&server, operation["instance_id"].as_str().unwrap()).await;
    assert!(
        copy["name"].as_str().unwrap().starts_with("instance-"),
        "{copy}"
    );
    assert_eq!(
        (&copy["state"], &copy["power"]),
        (&json!("stopped"), &json!("off"))
    );
    let root = volume(&server, copy["volumes"][0]["id"].as_str().unwrap()).await;
    assert_eq!(root["origin"]["kind"], "backup");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_is_changed_one_verb_at_a_time() {
    let server = Server::start().await;
    server.instance(&server.tenant, "web", true).await;
    for (verb, body, state, power) in [
        ("pause", json!({}), "active", "paused"),
        ("resume", json!({}), "active", "running"),
        ("stop", json!({}), "stopped", "off"),
        ("start", json!({}), "active", "running"),
        ("stop", json!({"how": "forced"}), "stopped", "off"),
        ("start", json!({}), "active", "running"),
        (
            "stop",
            json!({"bound_s": 5, "then_force": false}),
            "stopped",
            "off",
        ),
    ] {
        let operation = done(&server, &format!("/v1/instances/web/{verb}"), &body).await;
        assert_eq!(operation["kind"], format!("instance_{verb}"));
        let web = shown(&server, "web").await;
        assert_eq!(
            (&web["state"], &web["power"]),
            (&json!(state), &json!(power)),
            "{verb}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_instance_cannot_do_is_told_as_it_is_shown() {
    let server = Server::start().await;
    server.instance(&server.tenant, "web", false).await;
    let stopped = shown(&server, "web").await;
    for verb in ["stop", "pause", "resume"] {
        let refused = ask(&server, &format!("/v1/instances/web/{verb}"), &json!({})).await;
        same(
            &refused,
            "not_eligible",
            problem(&stopped, &format!("instance_{verb}")),
        );
    }
    done(&server, "/v1/instances/web/start", &json!({})).await;
    let runs = shown(&server, "web").await;
    for verb in ["start", "resume"] {
        let refused = ask(&server, &format!("/v1/instances/web/{verb}"), &json!({})).await;
        same(
            &refused,
            "not_eligible",
            problem(&runs, &format!("instance_{verb}")),
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_instance_says_what_it_is_busy_with() {
    let server = Server::start().await;
    server.instance(&server.tenant, "web", true).await;
    server.holding.send_replace(true);
    let first = ask(&server, "/v1/instances/web/stop", &json!({})).await;
    assert_eq!(first.status, 202, "{first:?}");
    let busy = ask(&server, "/v1/instances/web/pause", &json!({})).await;
    let web = shown(&server, "web").await;
    same(&busy, "instance_busy", problem(&web, "instance_pause"));
    let watch = format!("/v1/operations/{}", first.id());
    assert_eq!(busy.body["resolutions"][0]["href"], watch.as_str());
    assert_eq!(web["active_operation"]["id"], first.id());
    assert_eq!(web["active_operation"]["kind"], "instance_stop");
    server.holding.send_replace(false);
    server.done(&server.tenant, &first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_come_and_go_while_it_runs() {
    let server = Server::start().await;
    let web = server.instance(&server.tenant, "web", true).await;
    server.volume(&server.tenant, "disk").await;
    let to = json!({"instance": web});
    let attached = done(&server, "/v1/volumes/disk/attach", &to).await;
    assert_eq!(attached["kind"], "volume_attach");
    assert_eq!(attached["instance_name"], "web");
    assert_eq!(
        volume(&server, "disk").await["attachment"],
        json!({"instance": "web", "instance_id": web, "place": 1, "state": "running"})
    );
    server.rest();
    let again = ask(&server, "/v1/volumes/disk/attach", &to).await;
    same(
        &again,
        "not_eligible",
        problem(&volume(&server, "disk").await, "volume_attach"),
    );
    done(&server, "/v1/volumes/disk/detach", &json!({})).await;
    let disk = volume(&server, "disk").await;
    assert_eq!(
        (&disk["attachment"], &disk["state"]),
        (&Value::Null, &json!("available"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_is_detached_from_what_is_stopped() {
    let server = Server::start().await;
    let web = server.instance(&server.tenant, "web", true).await;
    server.rest();
    let path = "/v1/volumes/web-root/detach";
    let refused = ask(&server, path, &json!({})).await;
    let root = volume(&server, "web-root").await;
    same(
        &refused,
        "attached_running",
        problem(&root, "volume_detach"),
    );
    let way_out = &refused.body["resolutions"][0];
    let stop = format!("/v1/instances/{web}/stop");
    assert_eq!(
        (&way_out["method"], &way_out["href"]),
        (&json!("POST"), &json!(stop))
    );
    done(&server, "/v1/instances/web/stop", &json!({})).await;
    done(&server, path, &json!({})).await;
    assert_eq!(shown(&server, "web").await["volumes"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_orchestrator_attached_is_not_ours_to_detach() {
    let server = Server::start().await;
    let disk = server.volume(&server.tenant, "disk").await;
    let path = format!("/v1/volumes/{disk}/attachment");
    let report = server
        .request(Method::PUT, &path)
        .bearer_auth(&server.administrator.token)
        .json(&json!({"instance": "elsewhere", "state": "stopped"}));
    let reported = server.send(report).await;
    assert_eq!(
        reported.body["attachment"],
        json!({"instance": "elsewhere", "instance_id": null, "place": null, "state": "stopped"})
    );
    let refused = ask(&server, "/v1/volumes/disk/detach", &json!({})).await;
    same(
        &refused,
        "not_eligible",
        problem(&volume(&server, "disk").await, "volume_detach"),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_takes_the_volumes_that_it_names() {
    let server = Server::start().await;
    for (query, left) in [
        ("", vec!["data", "web-root"]),
        ("&delete_volumes=web-root", vec!["data"]),
        ("&delete_volumes=data&delete_volumes=web-root", vec![]),
        ("&delete_all_volumes=true", vec![]),
    ] {
        let body = json!({
            "name": "web", "root": {"size_bytes": 64 * MIB},
            "data": [{"size_bytes": 64 * MIB, "name": "data"}],
        });
        done(&server, "/v1/instances", &body).await;
        server.rest();
        let path = format!("/v1/instances/web?confirm=web{query}");
        let deleted = server.delete(&server.tenant, &path).await;
        server.done(&server.tenant, &deleted).await;
        let gone = server.get(&server.tenant, "/v1/instances/web").await;
        assert_eq!((gone.status, gone.code()), (404, "not_found"));
        let page = server.get(&server.tenant, "/v1/volumes").await.body;
        let volumes = page["items"].as_array().unwrap();
        let mut names: Vec<_> = volumes
            .iter()
            .map(|v| v["name"].as_str().unwrap())
            .collect();
        names.sort_unstable();
        assert_eq!(names, left, "{query}");
        for name in left {
            let path = format!("/v1/volumes/{name}?confirm={name}");
            let deleted = server.delete(&server.tenant, &path).await;
            server.done(&server.tenant, &deleted).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_sent_again_is_one() {
    let server = Server::start().await;
    server.instance(&server.tenant, "web", false).await;
    let send = || {
        let request = server.request(Method::POST, "/v1/instances/web/start");
        let request = request.bearer_auth(&server.tenant.token);
        server.send(request.header("idempotency-key", "k"))
    };
    let (first, second) = (send().await, send().await);
    assert_eq!(
        (first.status, second.status),
        (202, 202),
        "{first:?} {second:?}"
    );
    assert_eq!(first.id(), second.id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_is_only_asked_about_stops_nothing() {
    let server = Server::start().await;
    server.instance(&server.tenant, "web", true).await;
    let before = server.dump().await;
    for verb in ["stop", "pause"] {
        let path = format!("/v1/instances/web/{verb}?dry_run=true");
        let reply = ask(&server, &path, &json!({})).await;
        assert_eq!(
            (reply.status, &reply.body["dry_run"]),
            (200, &json!(true)),
            "{reply:?}"
        );
        assert_eq!(server.dump().await, before, "{verb}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_are_listed_by_instance() {
    let server = Server::start().await;
    server.instance(&server.tenant, "web", true).await;
    server.instance(&server.tenant, "db", true).await;
    done(&server, "/v1/instances/web/stop", &json!({})).await;
    let path = "/v1/operations?instance=web";
    let page = server.get(&server.tenant, path).await.body;
    let operations = page["items"].as_array().unwrap();
    let kinds: Vec<_> = operations.iter().map(|o| &o["kind"]).collect();
    assert_eq!(kinds, ["instance_stop", "instance_create"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flavors_are_listed_as_they_are_offered() {
    let server = Server::start().await;
    let page = server.get(&server.tenant, "/v1/flavors").await.body;
    let flavors = page["items"].as_array().unwrap();
    let names: Vec<_> = flavors.iter().map(|f| &f["name"]).collect();
    assert_eq!(names, ["tiny", "small", "medium", "large"]);
    assert_eq!(page["next_page"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_typed_client_reads_and_asks_all_of_it() {
    let server = Server::start().await;
    server.volume(&server.tenant, "disk").await;
    let client = server.client(&server.tenant);
    let change = Change::default();
    let finish = async |answer: Answer| match answer {
        Answer::Accepted(operation) => client.wait(operation.id, |_| ()).await.unwrap().state,
        Answer::Preview(preview) => panic!("{preview:?}"),
    };
    let flavors = client.flavor_list().await.unwrap().items;
    let request = InstanceCreate {
        name: Some("a b-c".into()),
        flavor: Some(flavors[1].name.to_string()),
        root: InstanceDisk {
            size_bytes: Some(ByteCount::from_mib(64)),
            ..InstanceDisk::default()
        },
        ..InstanceCreate::default()
    };
    let made = client.instance_create(&request, &change).await.unwrap();
    assert_eq!(finish(made).await, OperationState::Succeeded);
    let listed = client.instance_list(&ListQuery::default()).await.unwrap();
    let web = client.instance_show("a b-c").await.unwrap();
    assert_eq!(listed.items, std::slice::from_ref(&web));
    assert_eq!((web.power, &web.flavor), (Power::Running, &flavors[1]));

    let id = web.id.to_string();
    let to = VolumeAttach {
        instance: id.clone(),
    };
    let stop = InstanceStop::default();
    let attached = client.volume_attach("disk", &to, &change).await.unwrap();
    assert_eq!(finish(attached).await, OperationState::Succeeded);
    server.rest();
    let paused = client.instance_pause(&id, &change).await.unwrap();
    assert_eq!(finish(paused).await, OperationState::Succeeded);
    let resumed = client.instance_resume(&id, &change).await.unwrap();
    assert_eq!(finish(resumed).await, OperationState::Succeeded);
    let detached = client.volume_detach("disk", &change).await.unwrap();
    assert_eq!(finish(detached).await, OperationState::Succeeded);
    let stopped = client.instance_stop(&id, &stop, &change).await.unwrap();
    assert_eq!(finish(stopped).await, OperationState::Succeeded);
    let started = client.instance_start(&id, &change).await.unwrap();
    assert_eq!(finish(started).await, OperationState::Succeeded);

    let patch = InstancePatch {
        name: Some("web".into()),
    };
    let renamed = client.instance_update(&id, &patch, &change).await.unwrap();
    let doomed = DeleteVolumes::These(vec!["a b-c-root".into()]);
    let name = renamed.name.as_str();
    let deleted = client
        .instance_delete(&id, &doomed, Some(name), &change)
        .await;
    assert_eq!(finish(deleted.unwrap()).await, OperationState::Succeeded);
    let left = client.volume_list(&ListQuery::default()).await.unwrap();
    let left: Vec<_> = left.items.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(left, ["disk"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_guest_wrote_is_text_for_its_owner() {
    let server = Server::start().await;
    server.instance(&server.tenant, "web", true).await;
    let path = "/v1/instances/web/console";
    let console = server.get(&server.tenant, path).await;
    assert_eq!(console.status, 200, "{console:?}");
    assert_eq!(console.body, json!({"text": "boot\n<b>web login:</b> "}));
    let neighbour = server.get(&server.neighbour, path).await;
    assert_eq!(neighbour.status, 404);
}
