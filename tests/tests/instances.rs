//! Instances: a real guest in a real QEMU, through the API of a real server.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use stillpoint_client::{Change, DeleteVolumes};
use stillpoint_model::id::InstanceId;
use stillpoint_tests::debian;
use stillpoint_tests::person::Person;
use stillpoint_tests::server::Server;
use stillpoint_wire::instance::{
    Instance, InstanceCreate, InstanceDisk, InstanceState, InstanceStop, Power,
};
use stillpoint_wire::item::{Consistency, ItemState};
use stillpoint_wire::upload::ImageFormat;

fn show(tenant: &Person, id: InstanceId) -> Instance {
    let id = id.to_string();
    tenant.get(async |client| client.instance_show(&id).await)
}

#[test]
fn a_guest_is_captured_while_it_runs_and_outlives_its_server() {
    let mut server = Server::start_with_instances(|plan| plan.pacing.cooldown_s = 0);
    let mut tenant = Person::tenant(&server);
    let root = tenant.import("web-root", &debian::small_guest(), ImageFormat::Raw);
    let request = InstanceCreate {
        name: Some("web".into()),
        root: InstanceDisk {
            volume: Some(root.to_string()),
            ..InstanceDisk::default()
        },
        ..InstanceCreate::default()
    };
    let made =
        tenant.complete(async |client| client.instance_create(&request, &Change::default()).await);
    let id = made.instance_id.expect("the instance's id");
    tenant.wait_until_ready(id);
    let machines = server.machines();
    assert_eq!(machines.len(), 1);

    let snapshot = tenant.snapshot(root, "while it runs");
    assert_eq!(snapshot.state, ItemState::Available);
    // The guest has an agent, and the plan says to try.
    assert_eq!(snapshot.consistency, Some(Consistency::Filesystem));
    let backup = tenant.backup(root, "while it runs");
    assert_eq!(backup.state, ItemState::Available);

    server.kill();
    assert_eq!(server.machines(), machines, "the guest runs on");
    server.resume();
    tenant.follow(&server);
    let shown = show(&tenant, id);
    assert_eq!(
        (shown.state, shown.power),
        (InstanceState::Active, Power::Running)
    );
    assert_eq!(server.machines(), machines, "it is the same machine");

    // Its layers are merged while the guest runs on them.
    tenant.delete_snapshot(&snapshot);
    let name = id.to_string();
    let stop = InstanceStop::default();
    tenant.complete(async |client| client.instance_stop(&name, &stop, &Change::default()).await);
    assert_eq!(show(&tenant, id).power, Power::Off);
    assert_eq!(server.machines(), []);

    // What was captured boots, too.
    let copy = tenant.restore_new(stillpoint_wire::item::ItemKind::Backup, backup.id, "copy");
    let request = InstanceCreate {
        name: Some("twin".into()),
        root: InstanceDisk {
            volume: Some(copy.to_string()),
            ..InstanceDisk::default()
        },
        ..InstanceCreate::default()
    };
    let made =
        tenant.complete(async |client| client.instance_create(&request, &Change::default()).await);
    let twin = made.instance_id.expect("the instance's id");
    tenant.wait_until_ready(twin);
    let twin = twin.to_string();
    tenant.complete(async |client| {
        let all = DeleteVolumes::All;
        client
            .instance_delete(&twin, &all, Some("twin"), &Change::default())
            .await
    });
    assert_eq!(server.machines(), []);
}
