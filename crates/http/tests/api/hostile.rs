//! Hostile input: whatever a stranger, a broken program or a tired person sends, the answer is a
//! problem document that says what is wrong and where, and nothing is changed.

mod bodies;
mod instances;
mod requests;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use stillpoint_model::refusal::ProblemCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::{Reply, Server, Things, things};

/// One request that must be refused.
struct Case {
    what: String,
    request: RequestBuilder,
    code: ProblemCode,
    pointer: Option<String>,
}

/// Collects cases for one server.
struct Table<'a> {
    server: &'a Server,
    mine: Things,
    theirs: Things,
    cases: Vec<Case>,
}

impl Table<'_> {
    fn add(&mut self, what: &str, request: RequestBuilder, code: ProblemCode, pointer: &str) {
        let pointer = (pointer != "-").then(|| pointer.to_owned());
        self.cases.push(Case {
            what: what.to_owned(),
            request,
            code,
            pointer,
        });
    }

    /// As the tenant.
    fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.server
            .request(method, path)
            .bearer_auth(&self.server.tenant.token)
    }

    fn post(&mut self, path: &str, body: &Value, code: ProblemCode, pointer: &str) {
        let request = self.ask(Method::POST, path).json(body);
        let text: String = body.to_string().chars().take(60).collect();
        self.add(&format!("POST {path} {text}"), request, code, pointer);
    }

    fn patch(&mut self, path: &str, body: &Value, code: ProblemCode, pointer: &str) {
        let request = self.ask(Method::PATCH, path).json(body);
        self.add(&format!("PATCH {path} {body}"), request, code, pointer);
    }

    fn get(&mut self, path: &str, code: ProblemCode, pointer: &str) {
        let request = self.ask(Method::GET, path);
        let text: String = path.chars().take(80).collect();
        self.add(&format!("GET {text}"), request, code, pointer);
    }

    fn raw(&mut self, what: &str, body: impl Into<reqwest::Body>, code: ProblemCode, at: &str) {
        let request = self.server.raw(&self.server.tenant, "/v1/volumes", body);
        self.add(what, request, code, at);
    }
}

fn check(case: &str, reply: &Reply, code: ProblemCode, pointer: Option<&str>) {
    let told = format!("{case}\nanswered {reply:#?}");
    assert_eq!(reply.code(), code.as_str(), "{told}");
    assert_eq!(reply.status, code.http_status(), "{told}");
    assert_eq!(reply.body["status"], reply.status, "{told}");
    assert_eq!(
        reply.headers[CONTENT_TYPE], "application/problem+json",
        "{told}"
    );
    let request_id = reply.headers["x-request-id"].to_str().unwrap();
    assert_eq!(reply.body["request_id"], request_id, "{told}");
    assert!(!reply.body["title"].as_str().unwrap().is_empty(), "{told}");
    let detail = reply.body["detail"].as_str().unwrap();
    assert!(!detail.is_empty() && detail.len() < 2000, "{told}");
    assert!(!detail.contains(['\u{202e}', '\0']), "{told}");
    if let Some(pointer) = pointer {
        assert_eq!(reply.body["errors"][0]["pointer"], pointer, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_input_is_told_what_is_wrong_and_changes_nothing() {
    let server = Server::start().await;
    let mine = things(&server, &server.tenant).await;
    let theirs = things(&server, &server.neighbour).await;
    let mut table = Table {
        server: &server,
        mine,
        theirs,
        cases: Vec::new(),
    };
    let fill = [
        bodies::names,
        bodies::names_of_items,
        bodies::sizes,
        bodies::bodies,
        bodies::fields,
        bodies::fields_of_items,
        bodies::restores,
        instances::creations,
        instances::data,
        instances::of_others,
        instances::the_rest,
        requests::queries,
        requests::headers,
        requests::bad_credentials,
        requests::paths,
        requests::of_others,
        requests::of_operators,
        requests::credentials,
        requests::uploads,
    ];
    for fill in fill {
        fill(&mut table);
    }
    let cases = table.cases;
    assert!(cases.len() >= 100, "{} cases", cases.len());
    let before = server.dump().await;
    let mut wrong = Vec::new();
    for case in cases {
        let reply = server.send(case.request).await;
        let told = std::panic::catch_unwind(|| {
            check(&case.what, &reply, case.code, case.pointer.as_deref());
        });
        if told.is_err() {
            wrong.push(case.what.clone());
        }
        let after = server.dump().await;
        assert_eq!(after, before, "{} changed something", case.what);
    }
    assert!(
        wrong.is_empty(),
        "{} cases went wrong: {wrong:#?}",
        wrong.len()
    );
}

/// What a client library would never send goes by hand.
async fn by_hand(server: &Server, request: &[u8]) -> String {
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // The server may close before it read everything.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_break_the_protocol_are_refused() {
    let server = Server::start().await;
    let token = &server.tenant.token;
    let long = format!(
        "GET /v1/volumes HTTP/1.1\r\nhost: x\r\nx: {}\r\nconnection: close\r\n\r\n",
        "y".repeat(100_000)
    );
    let many: String = (0..500).map(|n| format!("x-{n}: y\r\n")).collect();
    let many = format!("GET /v1/volumes HTTP/1.1\r\nhost: x\r\n{many}\r\n");
    let two_lengths = "POST /v1/volumes HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\
                       content-length: 3\r\n\r\n{}"
        .to_owned();
    let smuggled = "POST /v1/volumes HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n".to_owned();
    for request in [
        long,
        many,
        two_lengths,
        smuggled,
        "nonsense\r\n\r\n".to_owned(),
    ] {
        let answer = by_hand(&server, request.as_bytes()).await;
        let start: String = request.chars().take(60).collect();
        assert!(answer.starts_with("HTTP/1.1 4"), "{start:?} got {answer:?}");
    }
    let dots = format!(
        "GET /v1/volumes/../tokens HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         connection: close\r\n\r\n"
    );
    let answer = by_hand(&server, dots.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(answer.contains("\"code\":\"not_found\""), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_still_sending_gets_to_read_why_it_was_refused() {
    let server = Server::start().await;
    let address = server.url.strip_prefix("http://").unwrap();
    let token = &server.tenant.token;
    let body = vec![b' '; 3 << 20];
    let head = format!(
        "POST /v1/volumes HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let (first, rest) = body.split_at(5 << 18);
    stream.write_all(first).await.unwrap();
    // The answer is there; its reader is not done with sending.
    stream.readable().await.unwrap();
    stream.write_all(rest).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("\"code\":\"too_large\""), "{answer}");
    // Whoever reads it does not send the next request into a connection that is over.
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}
