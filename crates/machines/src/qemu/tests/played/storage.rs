//! Disks whose storage has no room.

use serde_json::{Value, json};

use super::super::super::command::disk_device;
use super::{Say, Stage, device_of, running};
use crate::{Hypervisor, MachineState};

#[test]
fn a_machine_whose_storage_is_full_is_not_just_paused() {
    let stage = Stage::new();
    let volumes = [stage.volume(), stage.volume()];
    let player = stage.cast(&volumes);
    let mut is_resumed = false;
    player.qmp(move |command, _| {
        is_resumed |= command == "cont";
        match command {
            "query-status" if !is_resumed => Say::Return(json!({"status": "io-error"})),
            "query-block" => {
                let says = ["ok", if is_resumed { "ok" } else { "nospace" }];
                let block = |(volume, says)| {
                    let device =
                        format!("/machine/peripheral/{}/virtio-backend", device_of(volume));
                    json!({"qdev": device, "io-status": says})
                };
                Say::Return(volumes.into_iter().zip(says).map(block).collect::<Value>())
            }
            _ => running(command, &volumes),
        }
    });
    let driver = stage.open();
    let view = driver.inspect(player.id).unwrap();
    assert_eq!(view.state, MachineState::Paused);
    assert_eq!(view.storage_full, [volumes[1]]);
    driver.resume(player.id).unwrap();
    let view = driver.inspect(player.id).unwrap();
    assert_eq!(view.state, MachineState::Running);
    assert_eq!(view.storage_full, []);
}

#[test]
fn a_disk_stands_still_when_its_storage_is_full_and_tells_its_guest_of_other_faults() {
    let stage = Stage::new();
    let player = stage.cast(&[stage.volume()]);
    let spec = player.folder.spec().unwrap();
    let device = disk_device(&spec.disks[0], "tip", "rp0");
    assert_eq!(
        (&device["werror"], &device["rerror"]),
        (&json!("enospc"), &json!("report"))
    );
}
