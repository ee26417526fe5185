//! Memory of real guests: captured while they go on, and gone on from.

use std::fs::{self, File};

use super::*;
use crate::{MachineLayout, MemoryReport, Switch};

/// Counts in a variable of a shell; each number goes to the second disk, and then to the console.
const COUNTER: &str = r#"#!/bin/sh
i=10000000
while true; do
    i=$((i + 1))
    printf '%d' $i | dd of=/dev/vdb bs=8 count=1 conv=notrunc,fsync 2>/dev/null
    echo "count $i" >/dev/ttyS0
done
"#;

/// A machine whose guest counts.
fn counting(host: &Host) -> MachineSpec {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts");
    let (program, image) = ["counter", "image"]
        .map(|name| host.folder.path().join(name))
        .into();
    fs::write(&program, COUNTER).unwrap();
    let made = Command::new(scripts.join("guest-with"))
        .args([&program, &image])
        .status();
    assert!(made.unwrap().success());
    let mut spec = host.machine();
    spec.disks[0].graph["backing"]["file"]["filename"] = json!(image);
    spec.disks.push(DiskSpec {
        volume: VolumeId::generate(host.env.as_ref()),
        place: 1,
        graph: host.layer(&Value::Null, 32 << 20),
    });
    host.driver.start(&spec).unwrap();
    wait_for_count(host, spec.id, 0);
    spec
}

/// The numbers that a guest has said.
fn counts(host: &Host, id: InstanceId) -> Vec<u64> {
    let _drained = host.driver.inspect(id).unwrap();
    let console = host.driver.console(id, ByteCount::from_mib(1)).unwrap();
    let console = String::from_utf8_lossy(&console).into_owned();
    let number = |line: &str| line.split_once("count ")?.1.trim().parse().ok();
    console.lines().filter_map(number).collect()
}

/// Waits until a guest has said a number above this one.
fn wait_for_count(host: &Host, id: InstanceId, above: u64) -> u64 {
    let deadline = host.env.monotonic() + PATIENCE;
    loop {
        match counts(host, id).last() {
            Some(last) if *last > above => return *last,
            last => assert!(host.env.monotonic() < deadline, "it is at {last:?}"),
        }
    }
}

fn capture(host: &Host, spec: &MachineSpec, file: &File) -> Result<MemoryReport, Error> {
    let switch = |disk: &DiskSpec| Switch {
        volume: disk.volume,
        tip: host.driver.open_chain(spec.id, disk.volume).unwrap()[0].clone(),
        graph: host.overlay(disk.volume),
    };
    let switches: Vec<Switch> = spec.disks.iter().map(switch).collect();
    host.driver.switch_with_memory(spec.id, &switches, file)
}

/// The machine with disks that hold what they held at the capture.
fn as_captured(host: &Host, spec: &MachineSpec) -> MachineSpec {
    let mut back = spec.clone();
    for disk in &mut back.disks {
        let mut sealed = disk.graph.clone();
        sealed["read-only"] = json!(true);
        disk.graph = host.layer(&sealed, 128 << 20);
    }
    back
}

fn start_from(host: &Host, spec: &MachineSpec, layout: &MachineLayout) -> Result<(), Error> {
    let file = File::open(host.folder.path().join("memory")).unwrap();
    host.driver.start_from_memory(spec, layout, &file)
}

#[test]
fn a_guest_goes_on_from_where_it_was() {
    let host = Host::new();
    let spec = counting(&host);
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(host.folder.path().join("memory"))
        .unwrap();
    let before = *counts(&host, spec.id).last().unwrap();
    let report = capture(&host, &spec, &file).unwrap();
    assert_eq!(file.metadata().unwrap().len(), report.size.get());
    assert!(report.size.get() > 1 << 20, "{report:?}");
    let after = wait_for_count(&host, spec.id, before);
    // It never stood still for longer than that, and goes on.
    let last = wait_for_count(&host, spec.id, after);
    host.driver.kill(spec.id).unwrap();

    // One that is not as it was is refused, and nothing is started.
    let mut other = as_captured(&host, &spec);
    other.memory = ByteCount::from_mib(512);
    let refused = start_from(&host, &other, &report.layout).unwrap_err();
    assert!(matches!(refused, Error::BadSpec { .. }), "{refused}");
    assert_eq!(
        host.driver.inspect(spec.id).unwrap().state,
        MachineState::Stopped
    );

    let said = counts(&host, spec.id).len();
    start_from(&host, &as_captured(&host, &spec), &report.layout).unwrap();
    wait_for_count(&host, spec.id, before);
    let deadline = host.env.monotonic() + PATIENCE;
    let resumed = loop {
        // What it said before is in the same console.
        match counts(&host, spec.id).get(said) {
            Some(first) => break *first,
            None => assert!(host.env.monotonic() < deadline, "it says nothing"),
        }
    };
    assert!(
        before <= resumed && resumed <= last,
        "{before} {resumed} {last}"
    );
    wait_for_count(&host, spec.id, resumed);
}

#[test]
fn a_capture_without_room_leaves_the_guest_as_it_was() {
    let host = Host::new();
    let spec = counting(&host);
    // A file that cannot be written to: it is refused before anything is asked of the guest.
    let file = File::open(host.folder.path().join("counter")).unwrap();
    let refused = capture(&host, &spec, &file).unwrap_err();
    assert!(matches!(refused, Error::Io { .. }), "{refused}");
    let now = *counts(&host, spec.id).last().unwrap();
    wait_for_count(&host, spec.id, now);
}

#[test]
fn a_machine_that_was_left_standing_goes_on_with_the_next_agent() {
    let host = Host::new();
    let spec = counting(&host);
    host.driver.pause(spec.id).unwrap();
    // As an agent leaves it that is killed in the middle of a capture.
    host.driver.machine(spec.id).folder.note_standing().unwrap();
    host.driver.machine(spec.id).forget();
    let next = QemuDriver::open(config(&host.folder.path().join("run")), host.env.clone()).unwrap();
    assert_eq!(next.inspect(spec.id).unwrap().state, MachineState::Running);
    assert!(!next.machine(spec.id).folder.is_standing_noted());
    // One that its owner paused stays so.
    next.pause(spec.id).unwrap();
    next.machine(spec.id).forget();
    let third =
        QemuDriver::open(config(&host.folder.path().join("run")), host.env.clone()).unwrap();
    assert_eq!(third.inspect(spec.id).unwrap().state, MachineState::Paused);
    third.machine(spec.id).forget();
}
