//! A capture is not said to be consistent unless the guest was frozen all the while.

use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::json;

use super::{FileSystems, PATIENCE, Say, Stage, overlay, running};
use crate::{Error, Freeze, Hypervisor, SwitchReport};

/// Captures a guest; `meanwhile` happens while the disks are switched.
fn capture(
    freeze: Freeze,
    meanwhile: impl Fn(&FileSystems) + Send + 'static,
) -> Result<SwitchReport, Error> {
    let stage = Stage::new();
    let volume = stage.volume();
    let player = stage.cast(&[volume]);
    let guest = FileSystems::default();
    let seen = guest.clone();
    player.agent(move |command| guest.answer(command));
    player.qmp(move |command, _| {
        if command == "transaction" {
            assert_eq!(seen.frozen(), 2);
            meanwhile(&seen);
        }
        running(command, &[volume])
    });
    stage.open().switch(player.id, &[overlay(volume)], freeze)
}

fn broke(captured: Result<SwitchReport, Error>) -> SwitchReport {
    match captured {
        Err(Error::FreezeBroke { report, .. }) => report,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_freeze_that_held_is_reported() {
    let report = capture(Freeze::Require { bound: PATIENCE }, |_| ()).unwrap();
    assert!(report.frozen.is_some(), "{report:?}");
    assert_eq!(report.not_frozen_because, None);
}

#[test]
fn a_bound_that_passes_during_the_switch_is_no_consistent_capture() {
    let bound = Duration::from_millis(300);
    let until_thawed = |guest: &FileSystems| {
        while guest.frozen() > 0 {
            std::thread::yield_now();
        }
    };
    let report = broke(capture(Freeze::Require { bound }, until_thawed));
    assert_eq!(report.frozen, None);
    assert!(report.not_frozen_because.is_some());
    let report = capture(Freeze::Try { bound }, until_thawed).unwrap();
    assert_eq!(report.frozen, None);
    assert!(report.not_frozen_because.is_some());
}

#[test]
fn a_guest_that_thaws_one_file_system_itself_is_no_consistent_capture() {
    let bound = PATIENCE;
    let thaws = |guest: &FileSystems| assert_eq!(guest.set_frozen(1), 2);
    let report = broke(capture(Freeze::Require { bound }, thaws));
    assert_eq!(report.frozen, None);
    let report = capture(Freeze::Try { bound }, thaws).unwrap();
    assert_eq!(report.frozen, None);
    assert!(report.not_frozen_because.is_some());
}

#[test]
fn disks_that_were_not_switched_are_not_said_to_be() {
    let stage = Stage::new();
    let volume = stage.volume();
    let player = stage.cast(&[volume]);
    let guest = FileSystems::default();
    let (sender, deleted) = channel();
    player.agent(move |command| guest.answer(command));
    player.qmp(move |command, arguments| match command {
        "transaction" => Say::Refuse("no"),
        "blockdev-del" => {
            sender.send(arguments["node-name"].clone()).unwrap();
            Say::Return(json!({}))
        }
        _ => running(command, &[volume]),
    });
    let freeze = Freeze::Require { bound: PATIENCE };
    let refused = stage.open().switch(player.id, &[overlay(volume)], freeze);
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    assert_eq!(deleted.try_iter().collect::<Vec<_>>(), ["overlay"]);
}
