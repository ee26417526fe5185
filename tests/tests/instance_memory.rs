//! Instance snapshots with memory: a real guest counts in a variable of its shell, is captured while it
//! counts, and goes on from there as another instance. Server and machine are killed in the middle.
//!
//! Each number goes to the guest's second disk, flushed, and then to its console. So at one instant the
//! disk shows the number that comes next on the console, or the one before.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::PathBuf;

use stillpoint_client::Change;
use stillpoint_model::ByteCount;
use stillpoint_model::id::InstanceId;
use stillpoint_tests::debian::guest_with;
use stillpoint_tests::machine::Machine;
use stillpoint_tests::person::Person;
use stillpoint_tests::scratch_folder;
use stillpoint_tests::server::Server;
use stillpoint_tests::wait::{PATIENCE, until};
use stillpoint_wire::instance::{InstanceCreate, InstanceDisk, InstanceStop, Power, StopHow};
use stillpoint_wire::instance_snapshot::{
    InstanceRebuild, InstanceRestore, InstanceSnapshot, InstanceSnapshotCreate,
};
use stillpoint_wire::item::{Consistency, ItemKind, ItemState};
use stillpoint_wire::operation::{Operation, OperationState};
use stillpoint_wire::problem::ProblemCode;
use stillpoint_wire::upload::ImageFormat;

/// What the guest runs from its boot on. Nothing but its memory knows how far it is.
const COUNTER: &str = r#"#!/bin/sh
i=10000000
while true; do
    i=$((i + 1))
    printf '%08d' $i | dd of=/dev/vdb bs=8 count=1 conv=notrunc,fsync 2>/dev/null
    echo "wrote $i of counter" >/dev/ttyS0
done
"#;

/// A server with a guest that counts.
struct Trial {
    // Dropped first: it writes to the server's folder.
    tenant: Person,
    server: Server,
    instance: InstanceId,
}

impl Trial {
    fn begin() -> Self {
        let server = Server::start_with_instances(|plan| {
            plan.pacing.cooldown_s = 0;
            plan.pacing.in_flight_per_account = 100;
        });
        let tenant = Person::tenant(&server);
        let scratch = scratch_folder();
        let (program, image) = (scratch.path().join("counter"), scratch.path().join("image"));
        fs::write(&program, COUNTER).unwrap();
        guest_with(&program, &image, &[]);
        let root = tenant.import("root", &image, ImageFormat::Raw);
        let request = InstanceCreate {
            name: Some("counter".into()),
            root: InstanceDisk {
                volume: Some(root.to_string()),
                ..InstanceDisk::default()
            },
            data: vec![InstanceDisk {
                size_bytes: Some(ByteCount::from_mib(16)),
                ..InstanceDisk::default()
            }],
            ..InstanceCreate::default()
        };
        let made = tenant
            .complete(async |client| client.instance_create(&request, &Change::default()).await);
        let trial = Self {
            instance: made.instance_id.expect("the instance's id"),
            tenant,
            server,
        };
        trial.machine().wait_for_more_steps();
        trial
    }

    fn machine(&self) -> Machine {
        self.server.machine(self.instance)
    }

    fn request(&self, name: &str) -> InstanceSnapshotCreate {
        InstanceSnapshotCreate {
            instance: self.instance.to_string(),
            name: Some(name.into()),
            with_memory: Some(true),
            ..InstanceSnapshotCreate::default()
        }
    }

    fn begin_capture(&self, name: &str) -> Operation {
        let request = self.request(name);
        self.tenant.begin(async |client| {
            client
                .instance_snapshot_create(&request, &Change::default())
                .await
        })
    }

    fn captured(&self, operation: &Operation) -> InstanceSnapshot {
        let id = operation.instance_snapshot_id.expect("its id").to_string();
        self.tenant
            .get(async |client| client.instance_snapshot_show(&id).await)
    }

    /// The files of memory in the pool.
    fn memory_files(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.server.data().join("pool/memory")).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    }

    /// Waits until room for the memory was allocated: the machine is about to stand still, does, or
    /// goes on already while it is written.
    fn wait_until_captured(&self) {
        until(PATIENCE, "memory that is written", || {
            let files = self.memory_files();
            let begun = |file: &PathBuf| file.metadata().is_ok_and(|found| found.len() > 0);
            match files.iter().any(begun) {
                true => Ok(()),
                false => Err(format!("{files:?}")),
            }
        });
    }

    /// Whatever became of the capture, it is whole or it is not shown.
    fn check_outcome(&self, operation: &Operation) {
        let ended = self.tenant.end_of(operation);
        let shown = self.captured(&ended);
        if ended.state == OperationState::Succeeded {
            assert_eq!(shown.state, ItemState::Available);
            assert!(shown.memory_bytes.is_some());
            return;
        }
        assert_eq!(shown.state, ItemState::Failed, "{ended:?}");
        assert_eq!((shown.memory_bytes, shown.consistency), (None, None));
        until(PATIENCE, "no memory that is left", || {
            let files = self.memory_files();
            files.is_empty().then_some(()).ok_or(format!("{files:?}"))
        });
    }

    fn stop(&self) {
        let (id, stop) = (
            self.instance.to_string(),
            InstanceStop {
                how: StopHow::Forced,
                ..InstanceStop::default()
            },
        );
        self.tenant
            .complete(async |client| client.instance_stop(&id, &stop, &Change::default()).await);
    }

    fn restore(&self, snapshot: &InstanceSnapshot) -> Operation {
        let (id, request) = (
            snapshot.id.to_string(),
            InstanceRestore {
                with_memory: Some(true),
                ..InstanceRestore::default()
            },
        );
        self.tenant.complete(async |client| {
            client
                .instance_snapshot_restore(&id, &request, &Change::default())
                .await
        })
    }
}

/// The first number that a guest said.
fn first_said(machine: &Machine) -> u64 {
    machine.wait_for_line("wrote ", 1);
    let said = machine.said();
    let number = |line: &str| line.split_once("wrote ")?.1.split(' ').next()?.parse().ok();
    said.lines().find_map(number).expect("a number")
}

#[test]
fn an_instance_goes_on_as_another_where_it_was() {
    let trial = Trial::begin();
    let before = trial.machine().steps_said();
    let ended = trial.tenant.end_of(&trial.begin_capture("counting"));
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    let snapshot = trial.captured(&ended);
    assert!(
        snapshot
            .memory_bytes
            .is_some_and(|size| size > ByteCount::from_mib(1))
    );
    // Its guest was not frozen: it would be when it goes on.
    assert_eq!(snapshot.consistency, Some(Consistency::Crash));
    trial.machine().wait_for_more_steps();
    trial.machine().wait_for_more_steps();
    let after = trial.machine().steps_said();

    let made = trial.restore(&snapshot);
    let twin = trial
        .server
        .machine(made.instance_id.expect("the twin's id"));
    let resumed = first_said(&twin);
    assert!(
        before < resumed && resumed <= after,
        "{before} {resumed} {after}"
    );
    assert!(!twin.said().contains("is up"), "it did not boot");
    twin.wait_for_more_steps();

    // The disk is of the same instant.
    let data = snapshot.volumes.iter().find(|volume| volume.place == 1);
    let part = data.expect("the second disk").snapshot_id;
    let volume = trial.tenant.restore_new(ItemKind::Snapshot, part, "data");
    let copy = scratch_folder();
    let file = copy.path().join("data");
    trial.server.pool().copy_volume(volume, &file);
    let bytes = fs::read(&file).unwrap();
    let on_disk: u64 = String::from_utf8_lossy(&bytes[..8]).parse().unwrap();
    assert!(
        on_disk == resumed || on_disk + 1 == resumed,
        "{on_disk} and {resumed}"
    );

    // It goes with its snapshot.
    let name = snapshot.id.to_string();
    trial.tenant.complete(async |client| {
        client
            .instance_snapshot_delete(&name, Some("counting"), &Change::default())
            .await
    });
    assert_eq!(trial.memory_files(), Vec::<PathBuf>::new());
}

#[test]
fn an_instance_goes_back_to_where_it_was() {
    let trial = Trial::begin();
    let before = trial.machine().steps_said();
    let ended = trial.tenant.end_of(&trial.begin_capture("counting"));
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    let snapshot = trial.captured(&ended);
    trial.machine().wait_for_more_steps();
    trial.machine().wait_for_more_steps();
    trial.stop();
    let after = trial.machine().steps_said();

    let id = trial.instance.to_string();
    let request = InstanceRebuild {
        instance_snapshot: snapshot.id.to_string(),
        with_memory: Some(true),
        confirm: Some("counter".into()),
    };
    trial.tenant.complete(async |client| {
        client
            .instance_rebuild(&id, &request, &Change::default())
            .await
    });
    let shown = trial
        .tenant
        .get(async |client| client.instance_show(&id).await);
    assert_eq!((shown.power, shown.failure), (Power::Running, None));
    let machine = trial.machine();
    let resumed = until(PATIENCE, "what it says since", || {
        went_back(&machine, before).ok_or_else(|| machine.said())
    });
    assert!(
        before < resumed && resumed <= after,
        "{before} {resumed} {after}"
    );
    machine.wait_for_more_steps();
}

/// The first number that a guest said after it went back to some time after it had said `before`.
fn went_back(machine: &Machine, before: u64) -> Option<u64> {
    let said = machine.said();
    let number = |line: &str| line.split_once("wrote ")?.1.split(' ').next()?.parse().ok();
    let numbers: Vec<u64> = said.lines().filter_map(number).collect();
    let back = numbers.windows(2).find(|pair| pair[1] < pair[0]);
    let first = || numbers.first().copied().filter(|first| *first > before);
    back.map(|pair| pair[1]).or_else(first)
}

#[test]
fn memory_that_does_not_fit_is_refused() {
    let trial = Trial::begin();
    let ended = trial.tenant.end_of(&trial.begin_capture("counting"));
    let snapshot = trial.captured(&ended);
    let flavors = trial.tenant.get(async |client| client.flavor_list().await);
    let other = flavors
        .items
        .iter()
        .find(|one| one.name != snapshot.flavor.name);
    let (id, request) = (
        snapshot.id.to_string(),
        InstanceRestore {
            flavor: Some(other.expect("another flavor").name.to_string()),
            with_memory: Some(true),
            ..InstanceRestore::default()
        },
    );
    let refused = trial.tenant.refused(async |client| {
        client
            .instance_snapshot_restore(&id, &request, &Change::default())
            .await
    });
    assert_eq!(refused.code, ProblemCode::NotEligible);

    // There is no memory of an instance that is off.
    trial.stop();
    let request = trial.request("off");
    let refused = trial.tenant.refused(async |client| {
        client
            .instance_snapshot_create(&request, &Change::default())
            .await
    });
    assert_eq!(refused.code, ProblemCode::NotEligible);
}

#[test]
fn a_guest_goes_on_when_the_server_is_killed_that_captures_its_memory() {
    let mut trial = Trial::begin();
    let operation = trial.begin_capture("killed");
    trial.wait_until_captured();
    trial.server.kill();
    trial.server.resume();
    trial.tenant.follow(&trial.server);
    trial.machine().wait_for_more_steps();
    trial.check_outcome(&operation);
    trial.machine().wait_for_more_steps();
    // The next is whole.
    let ended = trial.tenant.end_of(&trial.begin_capture("again"));
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
}

#[test]
fn a_capture_of_memory_ends_when_its_machine_is_killed() {
    let trial = Trial::begin();
    let operation = trial.begin_capture("killed");
    trial.wait_until_captured();
    trial.machine().kill();
    trial.check_outcome(&operation);
    let id = trial.instance.to_string();
    until(PATIENCE, "that the instance is off", || {
        let shown = trial
            .tenant
            .get(async |client| client.instance_show(&id).await);
        match shown.power {
            Power::Off => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    trial
        .tenant
        .complete(async |client| client.instance_start(&id, &Change::default()).await);
    trial.machine().wait_for_more_steps();
}
