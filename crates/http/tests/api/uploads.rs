//! Uploads: whole or not at all, and for their owner alone.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use reqwest::Method;
use serde_json::json;
use stillpoint_client::wire::upload::Upload;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::server::{Server, Who};

async fn upload(server: &Server, who: &Who, bytes: &'static [u8]) -> Upload {
    let pieces = stream::iter(bytes.chunks(1000).map(|piece| Ok(piece.into())));
    server.client(who).upload(pieces, None).await.unwrap()
}

fn files(server: &Server) -> Vec<String> {
    let entries = std::fs::read_dir(&server.upload_dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_arrives_whole_and_becomes_a_volume_of_its_owner_alone() {
    let server = Server::start().await;
    let image: &'static [u8] = vec![7_u8; 1_000_000].leak();
    let upload = upload(&server, &server.tenant, image).await;
    assert_eq!(upload.size_bytes.get(), 1_000_000);
    let path = server.upload_dir.join(upload.id.to_string());
    assert!(std::fs::read(path).unwrap() == image);
    let body = json!({"name": "disk", "upload": {"id": upload.id, "format": "raw"}});
    let stolen = server.post(&server.neighbour, "/v1/volumes", &body).await;
    assert_eq!(stolen.code(), "not_found", "{stolen:?}");
    let imported = server.post(&server.tenant, "/v1/volumes", &body).await;
    server.done(&server.tenant, &imported).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_uploaded_with_progress() {
    let server = Server::start().await;
    let file = server.upload_dir.join("image.raw");
    std::fs::write(&file, vec![1; 700_000]).unwrap();
    let (told, heard) = std::sync::mpsc::channel();
    let client = server.client(&server.tenant);
    let upload = client.upload_file(&file, move |sent, all| told.send((sent, all)).unwrap());
    assert_eq!(upload.await.unwrap().size_bytes.get(), 700_000);
    let heard: Vec<_> = heard.iter().collect();
    assert_eq!(heard.last(), Some(&(700_000, 700_000)));
    assert!(
        heard.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "{heard:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_a_request_is_limited_and_that_of_an_upload_is_not() {
    let limit = Duration::from_millis(50);
    let server = Server::start_with(|_, settings| settings.request_timeout = limit).await;
    let slow = || {
        stream::unfold(0, move |n| async move {
            tokio::time::sleep(limit).await;
            (n < 3).then(|| (Ok::<Bytes, std::io::Error>("{}".into()), n + 1))
        })
    };
    let client = server.client(&server.tenant);
    let upload = client.upload(slow(), None).await.unwrap();
    assert_eq!(upload.size_bytes.get(), 6);
    let body = reqwest::Body::wrap_stream(slow());
    let late = server
        .send(server.raw(&server.tenant, "/v1/volumes", body))
        .await;
    assert_eq!((late.status, late.code()), (500, "internal"), "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let server = Server::start().await;
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/uploads HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/octet-stream\r\ncontent-length: 1000000\r\n\r\n",
        server.tenant.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[1; 100_000]).await.unwrap();
    until(|| !files(&server).is_empty()).await;
    drop(stream);
    until(|| files(&server).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_sent_again_with_its_key_is_the_same() {
    let server = Server::start().await;
    let send = async |image: &'static str| {
        let request = server
            .request(Method::POST, "/v1/uploads")
            .bearer_auth(&server.tenant.token)
            .header("content-type", "application/octet-stream")
            .header("idempotency-key", "k");
        server.send(request.body(image)).await
    };
    let (first, second) = (send("image").await, send("image").await);
    assert_eq!((first.status, second.status), (201, 201), "{second:?}");
    assert_eq!(first.body, second.body);
    assert_eq!(files(&server).len(), 1);
    for other in ["imag", "images"] {
        let refused = send(other).await;
        assert_eq!(refused.code(), "idempotency_mismatch", "{refused:?}");
    }
}

/// Waits until something that nobody announces is so.
async fn until(is_so: impl Fn() -> bool) {
    let so = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), so)
        .await
        .expect("it comes about");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_uploads_as_the_server_takes() {
    let server = Server::start_with(|_, settings| settings.max_uploads = 0).await;
    let request = server
        .request(Method::POST, "/v1/uploads")
        .bearer_auth(&server.tenant.token)
        .header("content-type", "application/octet-stream")
        .body("image");
    let refused = server.send(request).await;
    assert_eq!((refused.status, refused.code()), (429, "too_many_requests"));
    assert_eq!(refused.headers["retry-after"], "5");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sweep_takes_what_nobody_wants_and_nothing_else() {
    let server = Server::start().await;
    let wanted = upload(&server, &server.tenant, b"image")
        .await
        .id
        .to_string();
    let unknown = "0193b5a2-7c1e-7d4f-9a51-0c2d6d5e8f10";
    for name in [unknown, &format!("{unknown}.part"), "README", "notes.part"] {
        std::fs::write(server.upload_dir.join(name), "x").unwrap();
    }
    let removed = stillpoint_http::sweep_uploads(&server.cx, &server.upload_dir)
        .await
        .unwrap();
    assert_eq!(removed, 2);
    let mut left = files(&server);
    left.sort();
    let mut kept = vec![wanted, "README".to_owned(), "notes.part".to_owned()];
    kept.sort();
    assert_eq!(left, kept);
}
