//! What instance snapshots and images are for, from the beginning to the end, with real guests: a
//! golden image, an archive, a roll back, and a clone to look for the trouble in.
//!
//! The guest says at each boot who it is, and as what its first boot configured it.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::path::Path;

use stillpoint_client::{Change, DeleteVolumes};
use stillpoint_model::id::{InstanceId, VolumeId};
use stillpoint_tests::debian;
use stillpoint_tests::leftovers::no_leftovers;
use stillpoint_tests::mount::ExportedVolume;
use stillpoint_tests::person::Person;
use stillpoint_tests::server::Server;
use stillpoint_wire::image::ImageOrigin;
use stillpoint_wire::instance::{
    Instance, InstanceCreate, InstanceDisk, InstanceState, InstanceStop, Power, StopHow,
};
use stillpoint_wire::instance_snapshot::{
    InstanceRebuild, InstanceRestore, InstanceSnapshot, InstanceSnapshotCreate,
};
use stillpoint_wire::item::{Consistency, ItemState};
use stillpoint_wire::upload::ImageFormat;

/// Who a guest said that it is.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    hostname: String,
    machine: String,
    mac: String,
    /// The host name at the first boot of this disk, or of what it was made of.
    configured_as: String,
}

/// What the guest of an instance says at its boot number `boot` of this machine.
fn said(server: &Server, id: InstanceId, boot: usize) -> Said {
    let line = server.machine(id).wait_for_line("configured as", boot);
    let rest = line.split_once("I am ").expect(&line).1;
    let words: Vec<&str> = rest.trim_end_matches('.').split([' ', ',']).collect();
    assert!(words.len() > 3, "{line}");
    Said {
        hostname: words[0].into(),
        machine: words[1].to_lowercase(),
        mac: words[2].into(),
        configured_as: words.last().expect("a word").to_string(),
    }
}

/// An instance of this name that runs.
fn boot(tenant: &Person, name: &str, root: InstanceDisk) -> InstanceId {
    let request = InstanceCreate {
        name: Some(name.into()),
        root,
        ..InstanceCreate::default()
    };
    let made =
        tenant.complete(async |client| client.instance_create(&request, &Change::default()).await);
    made.instance_id.expect("the instance's id")
}

/// A guest that its first boot configures.
fn boot_first(server: &Server, tenant: &Person, name: &str) -> InstanceId {
    let folder = stillpoint_tests::scratch_folder();
    let disk = folder.path().join("guest.raw");
    let work = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/identity.sh");
    debian::guest_with(&work, &disk, &[]);
    let root = tenant.import(&format!("{name}-root"), &disk, ImageFormat::Raw);
    let root = InstanceDisk {
        volume: Some(root.to_string()),
        ..InstanceDisk::default()
    };
    let id = boot(tenant, name, root);
    let first = said(server, id, 1);
    assert_eq!((&*first.hostname, &*first.configured_as), (name, name));
    tenant.wait_until_ready(id);
    id
}

fn show(tenant: &Person, id: InstanceId) -> Instance {
    let id = id.to_string();
    tenant.get(async |client| client.instance_show(&id).await)
}

fn start(tenant: &Person, id: InstanceId) {
    let id = id.to_string();
    tenant.complete(async |client| client.instance_start(&id, &Change::default()).await);
}

fn stop(tenant: &Person, id: InstanceId) {
    let (id, how) = (
        id.to_string(),
        InstanceStop {
            how: StopHow::Forced,
            ..InstanceStop::default()
        },
    );
    tenant.complete(async |client| client.instance_stop(&id, &how, &Change::default()).await);
}

fn delete(tenant: &Person, id: InstanceId, name: &str) {
    let id = id.to_string();
    tenant.complete(async |client| {
        let all = DeleteVolumes::All;
        client
            .instance_delete(&id, &all, Some(name), &Change::default())
            .await
    });
}

/// Captures an instance, and makes an image of its root at once when that has a name.
fn capture(tenant: &Person, id: InstanceId, name: &str, image: Option<&str>) -> InstanceSnapshot {
    let request = InstanceSnapshotCreate {
        instance: id.to_string(),
        name: Some(name.into()),
        image: image.map(str::to_owned),
        ..InstanceSnapshotCreate::default()
    };
    let made = tenant.complete(async |client| {
        client
            .instance_snapshot_create(&request, &Change::default())
            .await
    });
    let id = made.instance_snapshot_id.expect("its id").to_string();
    tenant.get(async |client| client.instance_snapshot_show(&id).await)
}

/// A new instance of a snapshot, running.
fn restore(tenant: &Person, snapshot: &InstanceSnapshot, name: &str) -> InstanceId {
    let id = snapshot.id.to_string();
    let request = InstanceRestore {
        name: Some(name.into()),
        ..InstanceRestore::default()
    };
    let made = tenant.complete(async |client| {
        client
            .instance_snapshot_restore(&id, &request, &Change::default())
            .await
    });
    made.instance_id.expect("the instance's id")
}

fn delete_snapshot(tenant: &Person, snapshot: &InstanceSnapshot) {
    let (id, name) = (snapshot.id.to_string(), snapshot.name.as_str());
    tenant.complete(async |client| {
        client
            .instance_snapshot_delete(&id, Some(name), &Change::default())
            .await
    });
}

/// Takes away what its guest boots with.
fn break_root(server: &Server, root: VolumeId) {
    let exported = ExportedVolume::open_volume(&server.pool(), root, true);
    debian::debugfs(&exported.path(), "rm /sbin/init\n");
    exported.close();
}

#[test]
fn a_golden_image_starts_two_and_what_was_archived_comes_back() {
    let server = Server::start_with_instances(|plan| plan.pacing.cooldown_s = 0);
    let tenant = Person::tenant(&server);
    let template = boot_first(&server, &tenant, "template");

    // Golden image: captured as it is configured, and an image in the same moment.
    let snapshot = capture(&tenant, template, "configured", Some("golden"));
    assert_eq!(snapshot.state, ItemState::Available);
    // The guest has an agent, and the plan says to try.
    assert_eq!(snapshot.consistency, Some(Consistency::Filesystem));
    let golden = tenant.get(async |client| client.image_show("golden").await);
    assert_eq!(golden.state, ItemState::Available);
    assert_eq!(
        golden.origin,
        ImageOrigin::InstanceSnapshot(snapshot.id.as_uuid())
    );
    // Archive: the instance goes with all that it has.
    delete(&tenant, template, "template");
    assert_eq!(server.machines(), []);

    let copies = ["first", "second"].map(|name| {
        let root = InstanceDisk {
            image: Some("golden".into()),
            ..InstanceDisk::default()
        };
        (boot(&tenant, name, root), name)
    });
    let again = restore(&tenant, &snapshot, "template");
    let all = [copies[0], copies[1], (again, "template")];
    let all = all.map(|(id, name)| (id, name, said(&server, id, 1)));
    let unlike = |of: fn(&Said) -> &str| {
        let each: BTreeSet<&str> = all.iter().map(|(_, _, said)| of(said)).collect();
        each.len() == all.len()
    };
    assert!(unlike(|said| &said.machine), "{all:?}");
    assert!(unlike(|said| &said.mac), "{all:?}");
    for (id, name, said) in &all {
        assert_eq!(said.hostname, *name, "{all:?}");
        assert_eq!(said.machine, id.to_string(), "{all:?}");
        assert_eq!(said.configured_as, "template", "{all:?}");
    }

    // What they were made of goes, and they run on.
    delete_snapshot(&tenant, &snapshot);
    tenant.complete(async |client| {
        let change = Change::default();
        client.image_delete("golden", Some("golden"), &change).await
    });
    for (id, name, _) in all {
        assert_eq!(show(&tenant, id).state, InstanceState::Active, "{name}");
        delete(&tenant, id, name);
    }
    no_leftovers(&server, &tenant);
    assert_eq!(server.pool().layer_files(), Vec::<String>::new());
}

#[test]
fn trouble_is_looked_for_in_a_clone_and_what_broke_goes_back() {
    let server = Server::start_with_instances(|plan| plan.pacing.cooldown_s = 0);
    let tenant = Person::tenant(&server);
    let web = boot_first(&server, &tenant, "web");
    let machines = server.machines();
    let snapshot = capture(&tenant, web, "before the upgrade", None);

    // Troubleshooting: the same system beside the one that runs, which notices nothing.
    let clone = restore(&tenant, &snapshot, "web-debug");
    let beside = said(&server, clone, 1);
    assert_eq!(beside.hostname, "web-debug");
    assert_eq!(beside.configured_as, "web");
    assert_eq!(show(&tenant, web).power, Power::Running);
    assert!(machines.iter().all(|m| server.machines().contains(m)));
    delete(&tenant, clone, "web-debug");

    // Roll back: after the upgrade it boots no more.
    stop(&tenant, web);
    break_root(&server, show(&tenant, web).volumes[0].id);
    start(&tenant, web);
    server.machine(web).wait_for_line("Kernel panic", 1);
    stop(&tenant, web);
    let (id, rebuild) = (
        web.to_string(),
        InstanceRebuild {
            instance_snapshot: snapshot.id.to_string(),
            with_memory: None,
            confirm: Some("web".into()),
        },
    );
    tenant.complete(async |client| {
        client
            .instance_rebuild(&id, &rebuild, &Change::default())
            .await
    });
    start(&tenant, web);
    let back = said(&server, web, 2);
    assert_eq!((&*back.hostname, &*back.configured_as), ("web", "web"));
    assert_eq!(show(&tenant, web).state, InstanceState::Active);
}
