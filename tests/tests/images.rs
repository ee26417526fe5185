//! Images: of a snapshot, of a backup, of an upload; what is started from one, and what of theirs
//! outlives what. On the real server, and with a real guest.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use stillpoint_client::{Change, DeleteVolumes};
use stillpoint_env::SimEnv;
use stillpoint_model::ByteCount;
use stillpoint_model::id::{ImageId, InstanceId, VolumeId};
use stillpoint_tests::debian;
use stillpoint_tests::guest::scatter;
use stillpoint_tests::hash::file_hash;
use stillpoint_tests::leftovers::no_leftovers;
use stillpoint_tests::person::Person;
use stillpoint_tests::process::run;
use stillpoint_tests::server::Server;
use stillpoint_tests::wait::{PATIENCE, until};
use stillpoint_wire::image::{Image, ImageCreate};
use stillpoint_wire::instance::{Instance, InstanceCreate, InstanceDisk, InstanceState};
use stillpoint_wire::item::{Consistency, ItemKind, ItemState};
use stillpoint_wire::restore::RestoreSource;
use stillpoint_wire::snapshot::SnapshotCreate;
use stillpoint_wire::upload::ImageFormat;
use stillpoint_wire::volume::VolumeCreate;

fn image_of(tenant: &Person, kind: ItemKind, item: &str, name: &str) -> Image {
    let request = ImageCreate {
        name: Some(name.into()),
        source: Some(RestoreSource {
            kind,
            item: item.into(),
        }),
        ..ImageCreate::default()
    };
    let made =
        tenant.complete(async |client| client.image_create(&request, &Change::default()).await);
    show(tenant, made.image_id.expect("the image's id"))
}

fn show(tenant: &Person, id: ImageId) -> Image {
    let id = id.to_string();
    tenant.get(async |client| client.image_show(&id).await)
}

fn delete_image(tenant: &Person, image: &Image) {
    let (id, name) = (image.id.to_string(), image.name.as_str());
    tenant.complete(async |client| {
        client
            .image_delete(&id, Some(name), &Change::default())
            .await
    });
}

fn delete_volume(tenant: &Person, volume: VolumeId, name: &str) {
    let id = volume.to_string();
    tenant.complete(async |client| {
        client
            .volume_delete(&id, Some(name), &Change::default())
            .await
    });
}

fn start(tenant: &Person, image: &Image, name: &str, size: Option<ByteCount>) -> VolumeId {
    let request = VolumeCreate {
        name: name.into(),
        image: Some(image.name.to_string()),
        size_bytes: size,
        ..VolumeCreate::default()
    };
    let made =
        tenant.complete(async |client| client.volume_create(&request, &Change::default()).await);
    made.volume_id.expect("the volume's id")
}

/// The hash of the first bytes of a volume, as many as `like` has, and whether the rest is zeros.
fn begins_as(server: &Server, volume: VolumeId, like: &Path, scratch: &Path) -> bool {
    let copy = scratch.join("copy.raw");
    server.pool().copy_volume(volume, &copy);
    let len = fs::metadata(like).unwrap().len();
    let file = fs::File::options().write(true).open(&copy).unwrap();
    file.set_len(len).unwrap();
    file_hash(&copy) == file_hash(like)
}

/// A raw disk of 64 MiB with something in it.
fn disk(folder: &Path, seed: u64) -> std::path::PathBuf {
    let path = folder.join(format!("disk-{seed}.raw"));
    let file = fs::File::create(&path).unwrap();
    file.set_len(64 << 20).unwrap();
    scatter(&path, ByteCount::from_mib(8), &SimEnv::new(seed));
    path
}

#[test]
fn an_image_outlives_its_source_and_is_outlived_by_what_was_made_of_it() {
    let server = Server::start_with_plan(|plan| plan.pacing.cooldown_s = 0);
    let tenant = Person::tenant(&server);
    let folder = stillpoint_tests::scratch_folder();
    let golden = disk(folder.path(), 1);
    let volume = tenant.import("web", &golden, ImageFormat::Raw);
    let backup = tenant.backup(volume, "kept");

    // At the time of the snapshot, of the snapshot later, and of the backup.
    let request = SnapshotCreate {
        volume: "web".into(),
        image: Some("at once".into()),
        ..SnapshotCreate::default()
    };
    let taken =
        tenant.complete(async |client| client.snapshot_create(&request, &Change::default()).await);
    let snapshot = taken.snapshot_id.expect("the snapshot").to_string();
    let images = [
        show(&tenant, taken.image_id.expect("the image")),
        image_of(&tenant, ItemKind::Snapshot, &snapshot, "later"),
        image_of(
            &tenant,
            ItemKind::Backup,
            &backup.id.to_string(),
            "of the backup",
        ),
    ];
    for image in &images {
        assert_eq!(image.state, ItemState::Available, "{image:?}");
        assert_eq!(image.size_bytes, ByteCount::from_mib(64));
        assert_eq!(image.consistency, Some(Consistency::Stopped));
    }

    // The sources go.
    let snapshot = tenant.get(async |client| client.snapshot_show(&snapshot).await);
    tenant.delete_snapshot(&snapshot);
    delete_volume(&tenant, volume, "web");
    tenant.delete_backup(&backup);
    no_leftovers(&server, &tenant);
    let mut made = Vec::new();
    for (n, image) in images.iter().enumerate() {
        let (same, large) = (format!("same {n}"), format!("large {n}"));
        made.push(start(&tenant, image, &same, None));
        let size = Some(ByteCount::from_mib(100));
        made.push(start(&tenant, image, &large, size));
    }
    // Then the images.
    for image in &images {
        delete_image(&tenant, image);
    }
    no_leftovers(&server, &tenant);
    for volume in &made {
        let right = begins_as(&server, *volume, &golden, folder.path());
        assert!(right, "{volume}");
    }
    let id = made[1].to_string();
    let large = tenant.get(async |client| client.volume_show(&id).await);
    assert_eq!(large.size_bytes, ByteCount::from_mib(100));
    for (n, volume) in made.iter().enumerate() {
        let name = format!("{} {}", ["same", "large"][n % 2], n / 2);
        delete_volume(&tenant, *volume, &name);
    }
    no_leftovers(&server, &tenant);
    assert_eq!(server.pool().layer_files(), Vec::<String>::new());
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn a_disk_is_sent_by_the_command_line_and_started_from() {
    let server = Server::start();
    let tenant = Person::tenant(&server);
    let folder = stillpoint_tests::scratch_folder();
    let golden = disk(folder.path(), 2);
    let packed = folder.path().join("golden.qcow2");
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-c", "-f", "raw", "-O", "qcow2"]);
    run(convert.arg(&golden).arg(&packed));
    let file = packed.to_str().unwrap();
    let sent = tenant.cli(&[
        "image", "upload", "--file", file, "--format", "qcow2", "--name", "golden",
    ]);
    assert!(sent.status.success(), "{}", said(&sent));
    let made = tenant.cli(&["volume", "create", "web", "--image", "golden", "-o", "name"]);
    assert!(made.status.success(), "{}", said(&made));
    let volume = tenant.get(async |client| client.volume_show("web").await);
    assert!(begins_as(&server, volume.id, &golden, folder.path()));
    let listed = tenant.cli(&["image", "list"]);
    let listed = said(&listed);
    assert!(
        listed.contains("golden") && listed.contains("upload"),
        "{listed}"
    );
    let deleted = tenant.cli(&["image", "delete", "golden", "--yes", "golden"]);
    assert!(deleted.status.success(), "{}", said(&deleted));
    assert!(begins_as(&server, volume.id, &golden, folder.path()));
    let gone = tenant.cli(&["image", "show", "golden"]);
    assert_eq!(gone.status.code(), Some(5), "{}", said(&gone));
    no_leftovers(&server, &tenant);
}

fn instance(tenant: &Person, id: InstanceId) -> Instance {
    let id = id.to_string();
    tenant.get(async |client| client.instance_show(&id).await)
}

fn boot(tenant: &Person, name: &str, root: InstanceDisk) -> InstanceId {
    let request = InstanceCreate {
        name: Some(name.into()),
        root,
        ..InstanceCreate::default()
    };
    let made =
        tenant.complete(async |client| client.instance_create(&request, &Change::default()).await);
    let id = made.instance_id.expect("the instance's id");
    tenant.wait_until_ready(id);
    id
}

fn delete_instance(tenant: &Person, id: InstanceId, name: &str) {
    let id = id.to_string();
    tenant.complete(async |client| {
        let all = DeleteVolumes::All;
        client
            .instance_delete(&id, &all, Some(name), &Change::default())
            .await
    });
}

/// Until the guest has said on its console that this is its name.
fn wait_until_up(server: &Server, id: InstanceId, name: &str) {
    let console = server.data().join(format!("machines/{id}/console"));
    until(PATIENCE, "the guest's name on its console", || {
        let text = fs::read(&console).map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&text).into_owned();
        match text.contains(&format!("{name} is up")) {
            true => Ok(()),
            false => Err(text),
        }
    });
}

#[test]
fn two_guests_start_from_an_image_of_a_third_that_runs() {
    let server = Server::start_with_instances(|plan| plan.pacing.cooldown_s = 0);
    let tenant = Person::tenant(&server);
    let root = tenant.import("first-root", &debian::small_guest(), ImageFormat::Raw);
    let disk = InstanceDisk {
        volume: Some(root.to_string()),
        ..InstanceDisk::default()
    };
    let first = boot(&tenant, "first", disk);
    // Taken while it runs, and an image at once.
    let request = SnapshotCreate {
        volume: root.to_string(),
        image: Some("golden".into()),
        ..SnapshotCreate::default()
    };
    let taken =
        tenant.complete(async |client| client.snapshot_create(&request, &Change::default()).await);
    let golden = show(&tenant, taken.image_id.expect("the image"));
    // The guest has an agent, and the plan says to try.
    assert_eq!(golden.consistency, Some(Consistency::Filesystem));
    let twins = ["second", "third"].map(|name| {
        let disk = InstanceDisk {
            image: Some("golden".into()),
            ..InstanceDisk::default()
        };
        (boot(&tenant, name, disk), name)
    });
    assert_eq!(server.machines().len(), 3);
    for (id, name) in twins {
        wait_until_up(&server, id, name);
    }
    // The first, its snapshot and the image go while the others run.
    delete_instance(&tenant, first, "first");
    let snapshot = taken.snapshot_id.expect("the snapshot").to_string();
    let snapshot = tenant.get(async |client| client.snapshot_show(&snapshot).await);
    tenant.delete_snapshot(&snapshot);
    delete_image(&tenant, &golden);
    for (id, name) in twins {
        assert_eq!(instance(&tenant, id).state, InstanceState::Active, "{name}");
        delete_instance(&tenant, id, name);
    }
    assert_eq!(server.machines(), []);
    no_leftovers(&server, &tenant);
    assert_eq!(server.pool().layer_files(), Vec::<String>::new());
}
