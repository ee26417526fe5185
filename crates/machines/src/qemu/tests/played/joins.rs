//! Merges of which several wait, and merges that are refused.

use std::cell::Cell;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use stillpoint_model::id::VolumeId;

use super::{PATIENCE, Player, Say, Stage, running};
use crate::{Direction, Error, Hypervisor, Join, JoinEnd};

/// A chain of three, the tip first, on nothing.
fn chain_of_three() -> Value {
    let names = ["tip", "middle", "lowest"];
    let node = |(number, name): (usize, &&str)| json!({"id": number + 1, "name": name});
    json!({
        "nodes": names.iter().enumerate().map(node).collect::<Value>(),
        "edges": [
            {"parent": 1, "name": "backing", "child": 2},
            {"parent": 2, "name": "backing", "child": 3},
        ],
    })
}

/// The middle one into the lowest.
fn down(volume: VolumeId) -> Join {
    Join {
        volume,
        job: "down".to_owned(),
        tip: "tip".to_owned(),
        child: "middle".to_owned(),
        parent: "lowest".to_owned(),
        below: None,
        direction: Direction::Commit,
        backing_name: None,
    }
}

/// A job as QEMU shows it: there until it is dismissed, and only once.
#[derive(Clone, Default)]
struct Job(Arc<Mutex<Option<Value>>>);

impl Job {
    fn conclude(&self, error: &str) {
        if let Some(job) = self.0.lock().unwrap().as_mut() {
            job["status"] = json!("concluded");
            job["error"] = json!(error);
        }
    }

    fn answer(&self, command: &str, arguments: &Value, volumes: &[VolumeId]) -> Say {
        let mut job = self.0.lock().unwrap();
        match command {
            "block-commit" => {
                *job = Some(json!({"id": arguments["job-id"], "status": "running"}));
                Say::Return(json!({}))
            }
            "query-jobs" => Say::Return(job.iter().cloned().collect()),
            "job-dismiss" => match job.take() {
                Some(_) => Say::Return(json!({})),
                None => Say::Refuse("Job not found"),
            },
            "x-debug-query-block-graph" => Say::Return(chain_of_three()),
            "query-named-block-nodes" => Say::Return(json!([])),
            _ => running(command, volumes),
        }
    }
}

/// A machine whose job ends with this error when it is told to stop.
fn player(stage: &Stage, volume: VolumeId, job: &Job, error: &'static str) -> Player {
    let (player, job) = (stage.cast(&[volume]), job.clone());
    player.qmp(move |command, arguments| {
        if command == "job-cancel" {
            job.conclude(error);
        }
        job.answer(command, arguments, &[volume])
    });
    player
}

/// Says that it is there, and goes on once it is let.
fn gate() -> (impl Fn() + Send, Receiver<()>, Sender<()>) {
    let (arrive, arrived) = channel();
    let (go, let_go) = channel::<()>();
    let pass = move || {
        let _nobody_waits = arrive.send(());
        // Closed: everyone may pass.
        let _open = let_go.recv_timeout(PATIENCE);
    };
    (pass, arrived, go)
}

/// How a join ends whose job somebody else stops and makes QEMU forget, while it waits.
fn stopped_by_another(error: &'static str) -> Result<JoinEnd, Error> {
    let stage = Stage::new();
    let volume = stage.volume();
    let job = Job::default();
    let player = player(&stage, volume, &job, error);
    let driver = stage.open();
    let (pass, arrived, go) = gate();
    let is_running = job.clone();
    let watch = move |_, _| {
        if is_running.0.lock().unwrap().is_some() {
            pass();
        }
        true
    };
    let (id, watch) = (player.id, Mutex::new(watch));
    std::thread::scope(|scope| {
        let driver = &driver;
        let joined = scope.spawn(move || {
            let watch = watch.into_inner().unwrap();
            driver.join(id, &down(volume), &watch)
        });
        arrived.recv_timeout(PATIENCE).unwrap();
        driver.stop_joins(id, volume).unwrap();
        drop(go);
        joined.join().unwrap()
    })
}

#[test]
fn a_join_that_another_stopped_was_stopped() {
    let end = stopped_by_another("Operation canceled");
    assert!(matches!(end, Ok(JoinEnd::Stopped)), "{end:?}");
}

#[test]
fn a_join_that_failed_has_failed_whoever_saw_it_first() {
    let end = stopped_by_another("No space left on device");
    let Err(Error::Failed { reason, .. }) = end else {
        panic!("{end:?}");
    };
    assert_eq!(reason, "No space left on device");
}

#[test]
fn everyone_who_waits_for_a_job_learns_how_it_ended() {
    let stage = Stage::new();
    let volume = stage.volume();
    let job = Job::default();
    let player = player(&stage, volume, &job, "Input/output error");
    let driver = stage.open();
    let (sender, waiting) = channel();
    let wait = |sender: Sender<()>| {
        let is_counted = Cell::new(false);
        let watch = |_, _| {
            if job.0.lock().unwrap().is_some() && !is_counted.replace(true) {
                sender.send(()).unwrap();
            }
            true
        };
        driver.join(player.id, &down(volume), &watch)
    };
    let ends: Vec<_> = std::thread::scope(|scope| {
        let joins: Vec<_> = (0..4)
            .map(|_| {
                let (wait, sender) = (&wait, sender.clone());
                scope.spawn(move || wait(sender))
            })
            .collect();
        for _ in &joins {
            waiting.recv_timeout(PATIENCE).unwrap();
        }
        job.conclude("Input/output error");
        joins.into_iter().map(|end| end.join().unwrap()).collect()
    });
    for end in ends {
        assert!(
            matches!(&end, Err(Error::Failed { reason, .. }) if reason == "Input/output error"),
            "{end:?}"
        );
    }
}

#[test]
fn a_join_that_is_refused_leaves_its_layers_as_they_were() {
    let stage = Stage::new();
    let volume = stage.volume();
    let job = Job::default();
    let player = stage.cast(&[volume]);
    let (sender, reopened) = channel();
    player.qmp(move |command, arguments| match command {
        "block-commit" | "block-stream" => Say::Refuse("no"),
        "blockdev-reopen" => {
            let options = &arguments["options"][0];
            let name = options["node-name"].as_str().unwrap().to_owned();
            sender.send((name, options["read-only"] == true)).unwrap();
            Say::Return(json!({}))
        }
        _ => job.answer(command, arguments, &[volume]),
    });
    let driver = stage.open();
    let down = down(volume);
    let up = Join {
        direction: Direction::Stream,
        job: "up".to_owned(),
        ..down.clone()
    };
    for (join, written) in [(down, "lowest"), (up, "middle")] {
        let refused = driver.join(player.id, &join, &|_, _| true);
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
        let reopened: Vec<_> = reopened.try_iter().collect();
        let name = written.to_owned();
        assert_eq!(reopened, [(name.clone(), false), (name, true)]);
    }
}
