//! Programs that do not become machines.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use super::{PATIENCE, Player, QemuDriver, Say, Stage};
use crate::{Error, Hypervisor, MachineSpec, MachineState};

/// A child in a session of its own, as QEMU makes one, that says that it is there and waits for ever.
const FORK: &str = r#"#!/bin/sh
while [ "$1" != -pidfile ]; do shift; done
rm -f "$2.there" "$2.never"
mkfifo "$2.there" "$2.never"
setsid sh -c 'echo >"$1.there"; read never <"$1.never"' -pidfile "$2" &
read there <"$2.there"
"#;

/// Starts a machine with a program that forks and then does this; what is left is nothing.
fn start(stage: &Stage, spec: &MachineSpec, then: &str, bound: Duration) -> String {
    let program = stage.folder.path().join("program");
    std::fs::write(&program, format!("{FORK}{then}\n")).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
    let mut config = stage.config();
    config.program = program;
    let driver = QemuDriver::open_within(config, stage.env.clone(), bound).unwrap();
    let Err(Error::NotStarted { reason, .. }) = driver.start(spec) else {
        panic!("it started");
    };
    // What was forked waits here, if it lives.
    let never = driver.machine(spec.id).folder.file("pid.never");
    let forked = open(never, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty());
    assert_eq!(forked.err(), Some(Errno::NXIO));
    assert_eq!(
        driver.inspect(spec.id).unwrap().state,
        MachineState::Stopped
    );
    reason
}

/// A machine whose played process has ended.
fn gone(stage: &Stage) -> (Player, MachineSpec) {
    let mut player = stage.cast(&[]);
    player.end();
    let spec = player.folder.spec().unwrap();
    (player, spec)
}

#[test]
fn a_machine_that_is_not_up_within_the_bound_is_ended() {
    let stage = Stage::new();
    let (_gone, spec) = gone(&stage);
    let bound = Duration::from_millis(500);
    for _ in 0..2 {
        let reason = start(&stage, &spec, r#"read never <"$2.never""#, bound);
        assert!(reason.contains("not up within"), "{reason}");
    }
}

#[test]
fn what_was_half_started_is_ended_before_a_start() {
    let stage = Stage::new();
    let mut player = stage.cast(&[]);
    let spec = player.folder.spec().unwrap();
    // It has not noted its number yet.
    std::fs::remove_file(player.folder.file("pid")).unwrap();
    start(&stage, &spec, "exit 1", PATIENCE);
    assert!(player.process.try_wait().unwrap().is_some());
}

#[test]
fn a_machine_that_is_up_and_does_not_answer_is_ended() {
    let stage = Stage::new();
    let (_gone, spec) = gone(&stage);
    let reason = start(&stage, &spec, r#"echo $! >"$2""#, PATIENCE);
    assert!(reason.contains("does not answer"), "{reason}");
}

#[test]
fn a_machine_that_ends_while_it_is_asked_is_started() {
    let stage = Stage::new();
    let (gone, spec) = gone(&stage);
    // What it had open is closed after it was asked.
    gone.qmp(|_, _| Say::HangUp);
    let reason = start(&stage, &spec, "echo it was tried >&2; exit 1", PATIENCE);
    assert_eq!(reason, "it was tried");
}

#[test]
fn a_machine_that_says_why_it_does_not_start_leaves_nothing() {
    let stage = Stage::new();
    let (_gone, spec) = gone(&stage);
    let reason = start(&stage, &spec, "echo no such disk >&2; exit 1", PATIENCE);
    assert_eq!(reason, "no such disk");
}
