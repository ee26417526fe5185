//! Instance snapshots: a real guest with two disks is captured while it writes to both, brought back
//! as a second instance, damaged, and put back.
//!
//! The guest counts: each number goes to a file on its root, flushed, and then to its second disk. So
//! at one instant the second disk shows the root's number, or the one before.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;

use stillpoint_client::Change;
use stillpoint_env::SimEnv;
use stillpoint_model::id::{InstanceId, VolumeId};
use stillpoint_model::{ByteCount, Env};
use stillpoint_tests::debian;
use stillpoint_tests::mount::ExportedVolume;
use stillpoint_tests::person::Person;
use stillpoint_tests::server::Server;
use stillpoint_tests::wait::{PATIENCE, until};
use stillpoint_wire::instance::{
    Instance, InstanceCreate, InstanceDisk, InstanceState, InstanceStop, Power, StopHow,
};
use stillpoint_wire::instance_snapshot::{
    InstanceRebuild, InstanceRestore, InstanceSnapshot, InstanceSnapshotCreate,
};
use stillpoint_wire::item::{Consistency, ItemState};
use stillpoint_wire::upload::ImageFormat;

/// What the guest runs from its boot on.
const COUNTER: &str = r#"#!/bin/sh
i=$(cat /counter 2>/dev/null || echo 10000000)
while true; do
    i=$((i + 1))
    printf '%08d' $i | dd of=/counter bs=8 count=1 conv=notrunc,fsync 2>/dev/null
    printf '%08d' $i | dd of=/dev/vdb bs=8 count=1 conv=notrunc,fsync 2>/dev/null
done
"#;

/// The small guest, counting.
fn make_guest(disk: &Path) {
    fs::copy(debian::small_guest(), disk).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("counter");
    fs::write(&script, COUNTER).unwrap();
    let commands = format!(
        "mkdir /etc/boot.d\ncd /etc/boot.d\nwrite {} counter\nset_inode_field counter mode 0100755\n",
        script.display()
    );
    debian::debugfs(disk, &commands);
}

fn number(bytes: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(bytes);
    text.trim().parse().unwrap_or_default()
}

/// What the root of an instance says, and its second disk. Nothing has them open.
fn counted(server: &Server, shown: &Instance) -> (u64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let [root, data] = [0, 1].map(|place| {
        let path = folder.path().join(format!("disk-{place}"));
        server.pool().copy_volume(shown.volumes[place].id, &path);
        path
    });
    let read = debian::debugfs(&root, "cat /counter\n");
    (
        number(read.as_bytes()),
        number(&fs::read(data).unwrap()[..8]),
    )
}

fn show(tenant: &Person, id: InstanceId) -> Instance {
    let id = id.to_string();
    tenant.get(async |client| client.instance_show(&id).await)
}

fn start(tenant: &Person, id: InstanceId) {
    let name = id.to_string();
    tenant.complete(async |client| client.instance_start(&name, &Change::default()).await);
    tenant.wait_until_ready(id);
}

fn stop(tenant: &Person, id: InstanceId) {
    let (name, how) = (
        id.to_string(),
        InstanceStop {
            how: StopHow::Forced,
            ..InstanceStop::default()
        },
    );
    tenant.complete(async |client| client.instance_stop(&name, &how, &Change::default()).await);
}

/// A running guest with a counting root and a second disk.
fn boot(tenant: &Person) -> InstanceId {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("guest");
    make_guest(&disk);
    let root = tenant.import("web-root", &disk, ImageFormat::Raw);
    let request = InstanceCreate {
        name: Some("web".into()),
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
    let made =
        tenant.complete(async |client| client.instance_create(&request, &Change::default()).await);
    let id = made.instance_id.expect("the instance's id");
    tenant.wait_until_ready(id);
    id
}

fn capture(tenant: &Person, id: InstanceId, name: &str) -> InstanceSnapshot {
    let request = InstanceSnapshotCreate {
        instance: id.to_string(),
        name: Some(name.into()),
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

/// Noise over the boot loader, the kernel and the beginning of the file system.
fn wreck(server: &Server, root: VolumeId) {
    let exported = ExportedVolume::open_volume(&server.pool(), root, true);
    let mut noise = vec![0; 48 << 20];
    SimEnv::new(7).fill_random(&mut noise);
    let file = fs::File::options()
        .write(true)
        .open(exported.path())
        .unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &noise, 0).unwrap();
    file.sync_all().unwrap();
    drop(file);
    exported.close();
}

#[test]
fn an_instance_comes_back_as_another_and_goes_back_itself() {
    let server = Server::start_with_instances(|plan| plan.pacing.cooldown_s = 0);
    let tenant = Person::tenant(&server);
    let web = boot(&tenant);

    let snapshot = capture(&tenant, web, "counting");
    assert_eq!(snapshot.state, ItemState::Available);
    assert_eq!(snapshot.volumes.len(), 2);
    // The guest has an agent, and the plan says to try.
    assert_eq!(snapshot.consistency, Some(Consistency::Filesystem));

    // Another instance of it, beside the one that runs.
    let name = snapshot.id.to_string();
    let request = InstanceRestore {
        name: Some("twin".into()),
        start: Some(false),
        ..InstanceRestore::default()
    };
    let made = tenant.complete(async |client| {
        client
            .instance_snapshot_restore(&name, &request, &Change::default())
            .await
    });
    let twin = made.instance_id.expect("the twin's id");
    let (root, data) = counted(&server, &show(&tenant, twin));
    assert!(data > 10_000_000, "{data}: the guest had counted");
    assert!(root == data || root == data + 1, "{root} and {data}");
    start(&tenant, twin);
    assert_eq!(show(&tenant, web).power, Power::Running);
    stop(&tenant, twin);

    // Damage, and back.
    stop(&tenant, web);
    let before = show(&tenant, web);
    assert!(counted(&server, &before).1 > data, "it went on counting");
    wreck(&server, before.volumes[0].id);
    let (instance, rebuild) = (
        web.to_string(),
        InstanceRebuild {
            instance_snapshot: name.clone(),
            with_memory: None,
            confirm: Some("web".into()),
        },
    );
    tenant.complete(async |client| {
        client
            .instance_rebuild(&instance, &rebuild, &Change::default())
            .await
    });
    let back = show(&tenant, web);
    assert_eq!(back.state, InstanceState::Stopped);
    assert_eq!(counted(&server, &back), (root, data));
    start(&tenant, web);
    stop(&tenant, web);

    // One that is off is captured, too; and what was captured goes as a whole.
    let stopped = capture(&tenant, web, "off");
    assert_eq!(stopped.consistency, Some(Consistency::Stopped));
    tenant.complete(async |client| {
        client
            .instance_snapshot_delete(&name, Some("counting"), &Change::default())
            .await
    });
    start(&tenant, twin);
    stop(&tenant, twin);
    until(PATIENCE, "the end of all machines", || {
        let left = server.machines();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
}
