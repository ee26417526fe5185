//! The protocol against a machine that the test plays.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Qmp, QmpError};

const BOUND: Duration = Duration::from_secs(20);

/// Connects to a machine that greets and then does as told.
fn connect(
    machine: impl FnOnce(&mut dyn FnMut() -> Value, &mut UnixStream) + Send + 'static,
) -> (Qmp, JoinHandle<()>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("qmp");
    let listener = UnixListener::bind(&path).unwrap();
    let played = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        writeln!(stream, "{}", json!({"QMP": {"version": {}}})).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut ask = || serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let asked: Value = ask();
        assert_eq!(asked["execute"], "qmp_capabilities");
        writeln!(stream, "{}", json!({"return": {}, "id": asked["id"]})).unwrap();
        machine(&mut ask, &mut stream);
    });
    (Qmp::connect(&path).unwrap(), played)
}

#[test]
fn an_answer_reaches_who_asked_whatever_comes_between() {
    let (qmp, played) = connect(|ask, stream| {
        let asked = ask();
        writeln!(stream, "{}", json!({"event": "STOP", "data": {"a": 1}})).unwrap();
        writeln!(stream, "{}", json!({"return": "other", "id": 999})).unwrap();
        writeln!(stream, "{}", json!({"return": "mine", "id": asked["id"]})).unwrap();
    });
    let events = qmp.listen();
    assert_eq!(qmp.call("x", &json!({}), BOUND), Ok(json!("mine")));
    let event = events.recv().unwrap();
    assert_eq!((event.name.as_str(), &event.data["a"]), ("STOP", &json!(1)));
    played.join().unwrap();
}

#[test]
fn a_refusal_is_told_from_silence() {
    let (qmp, played) = connect(|ask, stream| {
        let asked = ask();
        let error = json!({"class": "GenericError", "desc": "no"});
        writeln!(stream, "{}", json!({"error": error, "id": asked["id"]})).unwrap();
        ask();
    });
    let refused = qmp.call("x", &json!({}), BOUND);
    assert_eq!(refused, Err(QmpError::Refused("no".to_owned())));
    let ended = qmp.call("x", &json!({}), BOUND);
    assert!(matches!(ended, Err(QmpError::NoAnswer(_))), "{ended:?}");
    assert!(!qmp.is_alive());
    played.join().unwrap();
}

#[test]
fn what_is_no_json_ends_the_connection() {
    let (qmp, played) = connect(|ask, stream| {
        ask();
        stream.write_all(b"{nonsense\n").unwrap();
        // The other side hangs up or asks no more.
    });
    let ended = qmp.call("x", &json!({}), BOUND);
    assert!(matches!(ended, Err(QmpError::NoAnswer(_))), "{ended:?}");
    played.join().unwrap();
}

#[test]
fn a_command_that_is_sent_in_half_ends_the_connection() {
    let (stalled, go_on) = std::sync::mpsc::channel::<()>();
    let (qmp, played) = connect(move |_, stream| {
        // It reads nothing until the sender has given up, then whatever still comes.
        go_on.recv().unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(!rest.contains(&b'\n'), "something came after half a line");
    });
    // More than a socket holds.
    let long = json!({"text": "x".repeat(8 << 20)});
    let half = qmp.call("x", &long, Duration::from_millis(50));
    assert!(matches!(half, Err(QmpError::NoAnswer(_))), "{half:?}");
    stalled.send(()).unwrap();
    let next = qmp.call("y", &json!({}), Duration::from_secs(1));
    assert!(matches!(next, Err(QmpError::NoAnswer(_))), "{next:?}");
    assert!(!qmp.is_alive());
    played.join().unwrap();
}
