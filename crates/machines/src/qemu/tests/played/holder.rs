//! Who has a volume open, when not every machine answers.

use serde_json::json;

use super::{Player, Stage, running};
use crate::{DiskSpec, Error, Hypervisor};

#[test]
fn a_silent_machine_hides_nobody_elses_volume() {
    let stage = Stage::new();
    let (hidden, open, free) = (stage.volume(), stage.volume(), stage.volume());
    // Whichever of them comes first in a list.
    let silent = [stage.cast(&[hidden]), stage.cast(&[])];
    let player = stage.cast(&[open]);
    player.qmp(move |command, _| running(command, &[open]));
    let more = [stage.cast(&[]), stage.cast(&[])];
    let driver = stage.open();
    assert_eq!(driver.holder(open).unwrap(), Some(player.id));
    assert_eq!(driver.holder(free).unwrap(), None);
    let unknown = driver.holder(hidden);
    assert!(
        matches!(&unknown, Err(Error::NoAnswer { id, .. }) if *id == silent[0].id),
        "{unknown:?}"
    );
    drop((silent, more));
}

#[test]
fn a_machine_that_is_gone_holds_nothing() {
    let stage = Stage::new();
    let volume = stage.volume();
    let mut player = stage.cast(&[volume]);
    let driver = stage.open();
    player.end();
    assert_eq!(driver.holder(volume).unwrap(), None);
}

/// Closes the machine's connection, and makes it silent.
fn silence(driver: &super::QemuDriver, player: &Player) {
    std::fs::remove_file(player.folder.qmp()).unwrap();
    driver.machine(player.id).forget();
}

#[test]
fn a_disk_that_was_plugged_may_be_held_until_it_was_unplugged() {
    let stage = Stage::new();
    let disk = DiskSpec {
        volume: stage.volume(),
        place: 1,
        graph: json!({"driver": "null-co", "node-name": "plugged"}),
    };
    let player = stage.cast(&[]);
    player.qmp(|command, _| running(command, &[]));
    let driver = stage.open();
    driver.plug(player.id, &disk).unwrap();
    silence(&driver, &player);
    let unknown = driver.holder(disk.volume);
    assert!(
        matches!(unknown, Err(Error::NoAnswer { .. })),
        "{unknown:?}"
    );

    player.qmp(|command, _| running(command, &[]));
    let bound = super::PATIENCE;
    driver.unplug(player.id, disk.volume, bound).unwrap();
    silence(&driver, &player);
    assert_eq!(driver.holder(disk.volume).unwrap(), None);
}
