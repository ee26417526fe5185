//! A guest that was left frozen is thawed, however long that takes.

use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use super::{FileSystems, PATIENCE, Player, QemuDriver, Stage, overlay, running};
use crate::guard::GuardProgram;
use crate::{Error, Freeze, Hypervisor, SwitchReport};

/// A guest that is frozen and whose agent fails at the first so many questions. Hears of its thaw.
fn frozen_guest(player: &Player, failures: u32) -> Receiver<()> {
    let guest = FileSystems::default();
    guest.set_frozen(1);
    let (sender, thawed) = channel();
    let mut left = failures;
    player.agent(move |command| {
        if left > 0 {
            left -= 1;
            return None;
        }
        let answer = guest.answer(command);
        if command == "guest-fsfreeze-thaw" {
            sender.send(()).unwrap();
        }
        answer
    });
    thawed
}

#[test]
fn a_frozen_guest_is_thawed_after_tries_that_failed() {
    let stage = Stage::new();
    let player = stage.cast(&[]);
    player.qmp(|command, _| running(command, &[]));
    let thawed = frozen_guest(&player, 3);
    let _driver = stage.open();
    thawed.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_frozen_guest_is_thawed_although_its_machine_is_silent() {
    let stage = Stage::new();
    let player = stage.cast(&[]);
    let thawed = frozen_guest(&player, 0);
    let driver = stage.open();
    thawed.recv_timeout(PATIENCE).unwrap();
    assert!(driver.inspect(player.id).is_err());
}

#[test]
fn a_guest_that_says_that_it_is_still_frozen_is_told_again() {
    let stage = Stage::new();
    let player = stage.cast(&[]);
    player.qmp(|command, _| running(command, &[]));
    let (sender, thaws) = channel();
    player.agent(move |command| {
        if command == "guest-fsfreeze-thaw" {
            sender.send(()).unwrap();
        }
        let status = command == "guest-fsfreeze-status";
        Some(if status { json!("frozen") } else { json!(0) })
    });
    let _driver = stage.open();
    for _ in 0..3 {
        thaws.recv_timeout(PATIENCE).unwrap();
    }
}

#[test]
fn nobody_goes_on_thawing_what_is_gone() {
    let stage = Stage::new();
    let mut player = stage.cast(&[]);
    let (sender, asked) = channel();
    player.agent(move |_| {
        sender.send(()).unwrap();
        None::<Value>
    });
    let driver = stage.open();
    asked.recv_timeout(PATIENCE).unwrap();
    player.end();
    stage.wait_until_left_alone(&driver, &player);
}

/// Captures a thawed guest with a guard that does this, and has the guest frozen from then on.
fn capture_with(guard: &str, freeze: Freeze) -> Result<SwitchReport, Error> {
    let stage = Stage::new();
    let volume = stage.volume();
    let player = stage.cast(&[volume]);
    player.qmp(move |command, _| running(command, &[volume]));
    let mut config = stage.config();
    config.guard = GuardProgram {
        program: "sh".into(),
        args: ["-c", guard].map(String::from).into(),
    };
    let guest = FileSystems::default();
    let seen = guest.clone();
    player.agent(move |command| guest.answer(command));
    let driver = QemuDriver::open(config, stage.env.clone()).unwrap();
    stage.wait_until_left_alone(&driver, &player);
    seen.set_frozen(1);
    let captured = driver.switch(player.id, &[overlay(volume)], freeze);
    stage.wait_until_left_alone(&driver, &player);
    assert_eq!(seen.frozen(), 0);
    captured
}

#[test]
fn a_guest_whose_guard_was_killed_is_thawed() {
    let guard = r#"read charge; echo '"frozen"'; read thaw"#;
    let captured = capture_with(guard, Freeze::Require { bound: PATIENCE });
    assert!(
        matches!(captured, Err(Error::FreezeBroke { .. })),
        "{captured:?}"
    );
}

#[test]
fn a_guest_that_freezes_after_its_guard_gave_up_is_thawed() {
    let guard = r#"read charge; echo '{"told_in_vain":"it is silent"}'"#;
    let report = capture_with(guard, Freeze::Try { bound: PATIENCE }).unwrap();
    assert_eq!(report.frozen, None);
    assert_eq!(report.not_frozen_because.as_deref(), Some("it is silent"));
}
