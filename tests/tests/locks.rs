//! An installation whose backups go to a bucket with Object Lock: a plan that promises that they stay, a
//! server that holds to it, and somebody with the bucket's credentials who does not.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use stillpoint_client::Change;
use stillpoint_env::SystemEnv;
use stillpoint_tests::bucket::BucketServer;
use stillpoint_tests::person::Person;
use stillpoint_tests::server::{Server, stillpoint_binary};
use stillpoint_vault::target::{CredentialSource, S3Settings, S3Target, Target};
use stillpoint_wire::backup::Backup;
use stillpoint_wire::item::ItemKind;
use stillpoint_wire::problem::ProblemCode;
use stillpoint_wire::upload::ImageFormat;

/// For how long the plan promises that backups stay.
const PROMISED: Duration = Duration::from_secs(900);

/// A disk of a few megabytes that nothing repeats in.
fn write_disk(path: &Path) {
    let mut state = 0x9e37_79b9_u64;
    let mut bytes = Vec::with_capacity(6 << 20);
    while bytes.len() < 6 << 20 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    fs::write(path, bytes).unwrap();
}

/// Settings of a server that locks what it keeps in a bucket.
fn settings(server: &BucketServer, bucket: &str, folder: &Path) -> String {
    let path = folder.join("settings.toml");
    let plan = include_str!("../../presets/stillpoint.toml");
    let plan = plan.replace("cooldown_s = 300", "cooldown_s = 0");
    let promise = format!("keep_backups_s = {}\n", PROMISED.as_secs());
    fs::write(folder.join("plan.toml"), promise + &plan).unwrap();
    let text = format!(
        "plan = \"plan.toml\"\n[target]\nkind = \"s3\"\naddress = \"s3://{bucket}/stillpoint\"\n\
         endpoint = \"{}\"\ncredentials = \"{}\"\nobject_lock = \"compliance\"\n",
        server.endpoint(),
        server.credentials().display()
    );
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The bucket, for somebody who took the credentials and knows nothing of locks.
fn thief(server: &BucketServer) -> S3Target {
    let settings = S3Settings {
        endpoint: Some(server.endpoint().to_owned()),
        credentials: CredentialSource::File {
            path: server.credentials(),
            profile: "default".to_owned(),
        },
        patience: Duration::from_secs(1),
        ..S3Settings::at("s3://locked/stillpoint").unwrap()
    };
    S3Target::open(settings, Arc::new(SystemEnv::new())).unwrap()
}

/// Deletes whatever can be deleted; says how many objects went, and how many refused to.
fn delete_everything(target: &S3Target) -> (usize, usize) {
    let (mut gone, mut stayed) = (0, 0);
    let mut after = None;
    loop {
        let page = target.list("", after.as_deref(), 1000).unwrap();
        for entry in &page.entries {
            match target.delete(&entry.name) {
                Ok(()) => gone += 1,
                Err(_) => stayed += 1,
            }
        }
        after = page.entries.last().map(|entry| entry.name.to_string());
        if !page.more {
            return (gone, stayed);
        }
    }
}

fn rescue(bucket: &BucketServer, key: &Path, arguments: &[&str]) -> Output {
    Command::new(stillpoint_binary())
        .args(["vault", arguments[0]])
        .args(["--target", "s3://locked/stillpoint"])
        .args(["--s3-object-lock", "compliance"])
        .args(["--s3-endpoint", bucket.endpoint(), "--s3-credentials"])
        .arg(bucket.credentials())
        .arg("--key")
        .arg(key)
        .args(&arguments[1..])
        .output()
        .unwrap()
}

/// Nobody of the installation can delete it, and everybody is told until when.
fn is_refused_to_all(tenant: &Person, backup: &Backup) {
    let until = backup.keep_until.unwrap();
    assert_eq!(until.duration_since(backup.created_at), PROMISED);
    let id = backup.id.to_string();
    let name = backup.name.to_string();
    let refused = tenant.refused(async |client| {
        client
            .backup_delete(&id, Some(name.as_str()), &Change::default())
            .await
    });
    assert_eq!(refused.code, ProblemCode::BackupLocked);
    let said = tenant.cli(&["backup", "delete", &id, "--yes", &name]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("backup_locked"), "{said}");
    assert!(said.contains("locked until"), "{said}");
}

#[test]
fn a_promised_backup_outlasts_its_owners_and_a_thief() {
    let folder = tempfile::tempdir().unwrap();
    let mut bucket = BucketServer::start("plain");
    bucket.make_bucket("locked lock");
    let settings = settings(&bucket, "locked", folder.path());
    let mut server = Server::start_with(&["--config", &settings]);
    let tenant = Person::tenant(&server);
    let disk = folder.path().join("disk.raw");
    write_disk(&disk);
    let volume = tenant.import("data", &disk, ImageFormat::Raw);
    let backup = tenant.backup(volume, "first");
    is_refused_to_all(&tenant, &backup);
    let (gone, stayed) = delete_everything(&thief(&bucket));
    assert!(gone > 0 && stayed > 2, "{gone} went and {stayed} stayed");

    // The server goes on as if nothing had been, and after it the key is enough.
    tenant.restore_new(ItemKind::Backup, backup.id, "back");
    let second = tenant.backup(volume, "second");
    let kept = folder.path().join("root.key");
    fs::copy(server.data().join("keys/root.key"), &kept).unwrap();
    server.stop();
    let reverted = rescue(&bucket, &kept, &["revert"]);
    let text = String::from_utf8_lossy(&reverted.stderr).into_owned();
    assert!(reverted.status.success(), "{text}");
    for backup in [&backup, &second] {
        let out = folder.path().join(format!("{}.raw", backup.name));
        let id = backup.id.to_string();
        let restored = rescue(
            &bucket,
            &kept,
            &["restore", &id, "--to", out.to_str().unwrap()],
        );
        let text = String::from_utf8_lossy(&restored.stderr).into_owned();
        assert!(restored.status.success(), "{text}");
        assert!(fs::read(&out).unwrap() == fs::read(&disk).unwrap());
    }
}

#[test]
fn a_bucket_without_locks_is_refused_where_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = BucketServer::start("plain");
    let settings = settings(&bucket, "plain", folder.path());
    let started = Command::new(stillpoint_binary())
        .args(["server", "start", "--config", &settings, "--data"])
        .arg(folder.path().join("data"))
        .args(["--listen", "127.0.0.1:0", "--qemu", "none"])
        .output()
        .unwrap();
    assert!(!started.status.success());
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    assert!(said.contains("error[backup_target]"), "{said}");
    assert!(said.contains("no Object Lock"), "{said}");
    assert!(said.contains("object_lock"), "{said}");
}
