//! The conversation against agents that the test plays, well-behaved and not.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use serde_json::{Value, json};
use stillpoint_env::SystemEnv;

use super::GuestAgent;

/// Speaks to an agent that does as told.
fn speak<T>(
    agent: impl FnOnce(&mut dyn FnMut() -> Value, &mut UnixStream) + Send + 'static,
    bound: Duration,
    ask: impl FnOnce(std::io::Result<GuestAgent<'_>>) -> T,
) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ga");
    let listener = UnixListener::bind(&path).unwrap();
    let played = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).split(b'\n');
        let mut ask = move || {
            let line = lines.next().unwrap().unwrap();
            let json = line.strip_prefix(&[0xff]).unwrap_or(&line);
            serde_json::from_slice(json).unwrap()
        };
        agent(&mut ask, &mut stream);
        stream
    });
    let env = SystemEnv::new();
    let answer = ask(GuestAgent::connect(&path, &env, bound));
    drop(played.join().unwrap());
    answer
}

fn answer_sync(asked: &Value, stream: &mut UnixStream) {
    stream.write_all(&[0xff]).unwrap();
    writeln!(stream, "{}", json!({"return": asked["arguments"]["id"]})).unwrap();
}

#[test]
fn answers_to_earlier_questions_are_passed_over() {
    let bound = Duration::from_secs(20);
    let frozen = speak(
        |ask, stream| {
            let asked = ask();
            stream
                .write_all(b"{\"return\": 7}\n\xff{\"return\": 1}\n")
                .unwrap();
            answer_sync(&asked, stream);
            assert_eq!(ask()["execute"], "guest-fsfreeze-freeze");
            writeln!(stream, "{}", json!({"return": 2})).unwrap();
        },
        bound,
        |agent| agent.unwrap().call("guest-fsfreeze-freeze", bound).unwrap(),
    );
    assert_eq!(frozen, 2);
}

#[test]
fn a_silent_agent_is_waited_for_no_longer_than_the_bound() {
    let error = speak(
        |ask, _| drop(ask()),
        Duration::from_millis(50),
        |agent| agent.err().unwrap(),
    );
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    let bound = Duration::from_secs(20);
    let error = speak(
        |ask, stream| {
            answer_sync(&ask(), stream);
            ask();
            // The other side hangs up in the middle.
            let _hung_up = stream.write_all(&vec![b'x'; 200 << 10]);
        },
        bound,
        |agent| agent.unwrap().call("guest-info", bound).unwrap_err(),
    );
    assert!(error.to_string().contains("without end"), "{error}");
}
