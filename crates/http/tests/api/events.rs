//! The event stream: every event once, in order, across broken connections, and nobody else's.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use stillpoint_client::EventStream;
use stillpoint_client::wire::event::Event;

use crate::server::{MIB, Server, things};

/// Reads until the event about `resource`, inclusive.
async fn until(stream: &mut EventStream, resource: &str) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event = stream.next().await.unwrap().expect("the stream goes on");
        let is_last = event.resource_id == resource;
        events.push(event);
        if is_last {
            return events;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_comes_back_misses_nothing_and_reads_nothing_twice() {
    let server = Server::start().await;
    let client = server.client(&server.tenant);
    let mut live = client.events(Some(0), None).await.unwrap();
    things(&server, &server.tenant).await;
    let marker = server.volume(&server.tenant, "marker").await;
    let all = until(&mut live, &marker).await;
    assert!(all.len() > 10, "{all:?}");
    assert!(
        all.windows(2)
            .all(|pair| pair[0].sequence < pair[1].sequence),
        "{all:?}"
    );
    for cut in [0, 1, all.len() / 2, all.len() - 2] {
        let mut again = client.events(Some(all[cut].sequence), None).await.unwrap();
        let rest = until(&mut again, &marker).await;
        assert_eq!(rest, all[cut + 1..], "after event {cut}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_after_a_while_and_can_be_resumed() {
    let server = Server::start_with(|_, settings| {
        settings.stream_lifetime = Duration::from_millis(200);
    })
    .await;
    let client = server.client(&server.tenant);
    let mut stream = client.events(Some(0), None).await.unwrap();
    let volume = server.volume(&server.tenant, "a").await;
    let first = until(&mut stream, &volume).await;
    while stream.next().await.unwrap().is_some() {}
    let marker = server.volume(&server.tenant, "marker").await;
    let mut resumed = client.events(stream.last_id(), None).await.unwrap();
    let rest = until(&mut resumed, &marker).await;
    assert!(
        rest.iter()
            .all(|event| event.sequence > first.last().unwrap().sequence)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_hears_of_the_events_of_others() {
    let server = Server::start().await;
    let client = server.client(&server.neighbour);
    let mut stream = client.events(Some(0), None).await.unwrap();
    let theirs = things(&server, &server.tenant).await;
    let mut of_their_volume = client.events(Some(0), Some(&theirs.volume)).await.unwrap();
    let mine = server.volume(&server.neighbour, "mine").await;
    let heard = until(&mut stream, &mine).await;
    for event in heard {
        assert_ne!(event.volume_id.unwrap().to_string(), theirs.volume);
    }
    let silence = tokio::time::timeout(Duration::from_millis(200), of_their_volume.next()).await;
    assert!(silence.is_err(), "{silence:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_s_own_stream_has_its_events_alone() {
    let server = Server::start().await;
    let client = server.client(&server.tenant);
    let a = server.volume(&server.tenant, "a").await;
    server.volume(&server.tenant, "b").await;
    let mut stream = client.events(Some(0), Some("a")).await.unwrap();
    let snapshot = server.snapshot(&server.tenant, "a", "snap").await;
    for event in until(&mut stream, &snapshot).await {
        assert_eq!(event.volume_id.unwrap().to_string(), a);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_streams_as_the_server_serves() {
    let server = Server::start_with(|_, settings| settings.max_streams = 1).await;
    let client = server.client(&server.tenant);
    let first = client.events(None, None).await.unwrap();
    let ask = || server.get(&server.tenant, "/v1/events");
    let refused = ask().await;
    assert_eq!((refused.status, refused.code()), (429, "too_many_requests"));
    drop(first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_says_what_it_is() {
    let server = Server::start().await;
    let request = server
        .request(Method::GET, "/v1/events")
        .bearer_auth(&server.tenant.token);
    let mut response = request.header("last-event-id", "0").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-cache");
    let body = json!({"name": "a", "size_bytes": 64 * MIB});
    server.post(&server.tenant, "/v1/volumes", &body).await;
    let mut text = String::new();
    while !text.contains("\"kind\":\"operation\"") {
        text.push_str(&String::from_utf8_lossy(
            &response.chunk().await.unwrap().unwrap(),
        ));
    }
    assert!(text.contains("event: operation\n"), "{text}");
    assert!(text.contains("id: "), "{text}");
}
