//! An installation whose backups go to a bucket: a real server, a real gateway, and the gateway
//! gone.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use stillpoint_client::Change;
use stillpoint_tests::bucket::BucketServer;
use stillpoint_tests::person::Person;
use stillpoint_tests::server::{Server, stillpoint_binary};
use stillpoint_wire::backup::BackupCreate;
use stillpoint_wire::operation::OperationState;
use stillpoint_wire::upload::ImageFormat;

/// A disk of a few megabytes that nothing repeats in.
fn write_disk(path: &Path, seed: u64) {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(6 << 20);
    while bytes.len() < 6 << 20 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    fs::write(path, bytes).unwrap();
}

fn settings(bucket: &BucketServer, folder: &Path) -> String {
    let path = folder.join("settings.toml");
    let plan = include_str!("../../presets/stillpoint.toml");
    let plan = plan.replace("cooldown_s = 300", "cooldown_s = 0");
    fs::write(folder.join("plan.toml"), plan).unwrap();
    let text = format!(
        "plan = \"plan.toml\"\n[target]\nkind = \"s3\"\naddress = \"s3://backups/stillpoint\"\nendpoint = \"{}\"\n\
         credentials = \"{}\"\npatience_seconds = 1\n",
        bucket.endpoint(),
        bucket.credentials().display()
    );
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn backups_go_to_a_bucket_and_come_back_without_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let mut bucket = BucketServer::start("backups");
    let settings = settings(&bucket, folder.path());
    let mut server = Server::start_with(&["--config", &settings]);
    let mut tenant = Person::tenant(&server);
    let disk = folder.path().join("disk.raw");
    write_disk(&disk, 1);
    let volume = tenant.import("data", &disk, ImageFormat::Raw);
    let backup = tenant.backup(volume, "first");

    // The gateway goes: snapshots go on, the server starts anew, and a backup waits for it.
    bucket.kill();
    tenant.snapshot(volume, "meanwhile");
    server.stop();
    server.resume();
    tenant.follow(&server);
    let request = BackupCreate {
        volume: volume.to_string(),
        name: Some("second".into()),
        ..BackupCreate::default()
    };
    let second =
        tenant.begin(async |client| client.backup_create(&request, &Change::default()).await);
    bucket.resume();
    let second = tenant.end_of(&second);
    assert_eq!(second.state, OperationState::Succeeded, "{second:?}");

    let key = server.data().join("keys/root.key");
    let kept = folder.path().join("root.key");
    fs::copy(key, &kept).unwrap();
    drop(server);

    let rescue = |arguments: &[&str]| {
        let output = Command::new(stillpoint_binary())
            .args(["vault", arguments[0]])
            .args(["--target", "s3://backups/stillpoint"])
            .args(["--s3-endpoint", bucket.endpoint(), "--s3-credentials"])
            .arg(bucket.credentials())
            .arg("--key")
            .arg(&kept)
            .args(&arguments[1..])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let listed = rescue(&["list", "-o", "name"]);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    rescue(&["check", "--deep"]);
    let out = folder.path().join("out.raw");
    let id = backup.id.to_string();
    rescue(&["restore", &id, "--to", out.to_str().unwrap()]);
    assert!(fs::read(&out).unwrap() == fs::read(&disk).unwrap());
}
