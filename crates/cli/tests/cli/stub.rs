//! A server that answers what a test tells it to, and remembers what it was asked.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

/// One request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `POST /v1/snapshots?dry_run=true`.
    pub line: String,
    /// Header names in lower case.
    pub headers: HashMap<String, String>,
    /// The body.
    pub body: String,
}

/// One answer.
#[derive(Clone)]
struct Answer {
    status: u16,
    headers: String,
    body: String,
}

#[derive(Default)]
struct State {
    /// Several answers to one request are given in turn; the last one again and again.
    answers: HashMap<String, Vec<Answer>>,
    asked: Vec<Asked>,
}

/// A server that answers what a test tells it to.
pub struct Stub {
    url: String,
    state: Arc<Mutex<State>>,
}

impl Stub {
    /// A server that answers 404 to everything.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || converse(stream, &state));
            }
        });
        Self { url, state }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Answers `line`, such as `GET /v1/volumes`, whatever its query, with this.
    #[must_use]
    pub fn on(self, line: &str, status: u16, body: &Value) -> Self {
        self.with_headers(line, status, "", body)
    }

    /// [`Stub::on`] with more headers, each ended by `\r\n`.
    #[must_use]
    pub fn with_headers(self, line: &str, status: u16, headers: &str, body: &Value) -> Self {
        let answer = Answer {
            status,
            headers: headers.into(),
            body: body.to_string(),
        };
        self.lock()
            .answers
            .entry(line.into())
            .or_default()
            .push(answer);
        self
    }

    /// What it was asked so far, the looking for events left out.
    pub fn asked(&self) -> Vec<Asked> {
        let asked = self.lock().asked.clone();
        asked
            .into_iter()
            .filter(|a| !a.line.starts_with("GET /v1/events"))
            .collect()
    }

    /// The lines of [`Stub::asked`].
    pub fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("the stub's state")
    }
}

fn converse(mut stream: TcpStream, state: &Mutex<State>) {
    let Some(asked) = read(&stream) else { return };
    let route = asked.line.split('?').next().unwrap_or_default().to_owned();
    let answer = {
        let mut state = state.lock().expect("the stub's state");
        state.asked.push(asked);
        match state.answers.get_mut(&route) {
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => answers[0].clone(),
            None => Answer {
                status: 404,
                headers: String::new(),
                body: "{}".into(),
            },
        }
    };
    let _ = write!(
        stream,
        "HTTP/1.1 {} X\r\nContent-Type: application/json\r\nConnection: close\r\n{}\
         Content-Length: {}\r\n\r\n{}",
        answer.status,
        answer.headers,
        answer.body.len(),
        answer.body
    );
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let (request, _) = line.trim().rsplit_once(' ')?;
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(':') else {
            break;
        };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Some(Asked {
        line: request.to_owned(),
        headers,
        body,
    })
}
