//! A real Debian system on an ext4 disk, built from Debian's packages with fixed UUIDs.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use stillpoint_model::ByteCount;

use crate::cache_folder;
use crate::process::run;

/// The size of the disk as the guest sees it.
pub const DISK_SIZE: ByteCount = ByteCount::from_gib(2);

/// The UUID of its file system.
const UUID: &str = "5711b01d-0000-4000-8000-000000000001";
const SUITE: &str = "bookworm";
/// Beside the minimal base: enough for well over 300 MB of files of the kinds servers have.
const PACKAGES: &str = "gcc,libc6-dev,openssh-server,perl,python3,sqlite3,vim-tiny";
/// The time stamp of whatever the build writes.
const EPOCH: &str = "1760000000";

/// A raw, sparse image of a Debian system with more than 300 MB of files: read it, copy it,
/// never write it. Built on the first call on a machine (about 20 s, needs the apt mirror) and
/// kept in `.cache/` until the recipe changes.
///
/// # Panics
/// When it cannot be built.
pub fn debian_disk() -> PathBuf {
    let cache = cache_folder();
    let disk = cache.join(format!("debian-{:016x}.raw", recipe_key()));

    // Tests run in processes of their own: one builds, the others wait for it.
    let lock = File::create(cache.join("debian.lock")).expect("create the lock file");
    lock.lock().expect("lock the cache");
    if !disk.exists() {
        remove_outdated(&cache);
        build(&cache, &disk);
    }
    disk
}

/// Changes when the recipe does.
fn recipe_key() -> u64 {
    let mut hasher = DefaultHasher::new();
    (DISK_SIZE, UUID, SUITE, PACKAGES, EPOCH).hash(&mut hasher);
    hasher.finish()
}

fn remove_outdated(cache: &Path) {
    for entry in fs::read_dir(cache).expect("list .cache").flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("debian-") {
            let path = entry.path();
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.unwrap_or_else(|error| panic!("remove {}: {error}", path.display()));
        }
    }
}

fn build(cache: &Path, disk: &Path) {
    let work = tempfile::Builder::new()
        .prefix("debian-")
        .tempdir_in(cache)
        .expect("a work folder");
    let tree = work.path().join("tree");
    run(Command::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase", "--format=directory"])
        .arg(format!("--include={PACKAGES}"))
        .arg(SUITE)
        .arg(&tree)
        .arg(mirror())
        .env("SOURCE_DATE_EPOCH", EPOCH));

    let image = work.path().join("disk.raw");
    File::create(&image)
        .and_then(|file| file.set_len(DISK_SIZE.get()))
        .expect("a sparse file");
    run(Command::new("mkfs.ext4")
        .args(["-q", "-F", "-U", UUID, "-d"])
        .arg(&tree)
        .args([
            "-E",
            &format!("hash_seed={UUID},root_owner=0:0,lazy_itable_init=0,nodiscard"),
        ])
        .arg(&image)
        .env("E2FSPROGS_FAKE_TIME", EPOCH));
    fs::rename(&image, disk).expect("move the disk to its place");
}

/// The archive that apt is configured with on this machine.
fn mirror() -> String {
    let output = run(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ]));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find(|uri| uri.ends_with("/debian/"))
        .unwrap_or("http://deb.debian.org/debian/")
        .to_owned()
}
