//! The description of the API: what is committed, what is served, and what the router takes.

use std::collections::BTreeSet;
use std::path::Path;

use reqwest::Method;
use serde_json::json;

use crate::server::Server;

#[test]
fn the_committed_description_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let mut current = stillpoint_http::openapi::document()
        .to_pretty_json()
        .unwrap();
    current.push('\n');
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == current,
        "docs/openapi.json is not what the server serves. Refresh it with:\n\
         UPDATE_OPENAPI=1 cargo nextest run -p stillpoint-http the_committed_description"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_router_takes_the_documented_methods_and_no_others() {
    let server = Server::start().await;
    let document = server
        .send(server.request(Method::GET, "/openapi.json"))
        .await
        .body;
    for (path, item) in document["paths"].as_object().unwrap() {
        let mut documented: BTreeSet<String> = item
            .as_object()
            .unwrap()
            .keys()
            .map(|method| method.to_uppercase())
            .collect();
        if documented.contains("GET") {
            documented.insert("HEAD".to_owned());
        }
        let path = path.replace(['{', '}'], "");
        let reply = server.send(server.request(Method::OPTIONS, &path)).await;
        assert_eq!(reply.status, 405, "{path}: {reply:?}");
        let taken: BTreeSet<String> = reply.headers["allow"]
            .to_str()
            .unwrap()
            .split(',')
            .map(|method| method.trim().to_owned())
            .collect();
        assert_eq!(taken, documented, "{path}");
    }
}

#[test]
fn every_post_but_the_sign_in_takes_an_idempotency_key() {
    let document = serde_json::to_value(stillpoint_http::openapi::document()).unwrap();
    let mut without = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(post) = item.get("post") else {
            continue;
        };
        let parameters = post["parameters"].as_array();
        let takes = parameters.is_some_and(|parameters| {
            let mut names = parameters.iter().map(|p| &p["name"]);
            names.any(|name| name == "idempotency-key")
        });
        if !takes {
            without.push(path.as_str());
        }
    }
    assert_eq!(without, ["/v1/sessions"]);
}

#[test]
fn the_volumes_to_delete_with_an_instance_are_a_repeated_parameter() {
    let document = serde_json::to_value(stillpoint_http::openapi::document()).unwrap();
    let delete = &document["paths"]["/v1/instances/{instance}"]["delete"];
    let parameters = delete["parameters"].as_array().unwrap();
    let mut named = parameters.iter().filter(|p| p["name"] == "delete_volumes");
    let list = named.next().expect("it is documented");
    assert_eq!(list["schema"]["type"], "array", "{list}");
    assert_eq!(
        (&list["style"], &list["explode"]),
        (&json!("form"), &json!(true))
    );
    assert_eq!(list["required"], false);
}
