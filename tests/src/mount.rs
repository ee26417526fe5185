//! Volumes as a guest would use them: their file system mounted through the real layers.
//!
//! ```text
//! ext4 -> loop device -> raw file (FUSE) -> qemu-storage-daemon -> qcow2 layers
//! ```
//!
//! Nothing else may have the volume's layers open meanwhile.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::Once;

use stillpoint_model::id::VolumeId;
use tempfile::TempDir;

use crate::pool::PoolFolder;
use crate::process::run;
use crate::storage_daemon::StorageDaemon;
use crate::wait::{PATIENCE, until};

const FOLDER_PREFIX: &str = "stillpoint-volume.";

/// A volume shown as a raw file. Dropping it takes the file away.
pub struct ExportedVolume {
    // Held in this order: the daemon must end before its mount point is removed.
    daemon: Option<StorageDaemon>,
    folder: TempDir,
}

impl ExportedVolume {
    /// Shows the last node of `graph` as a raw file. Each entry is one `--blockdev` argument as
    /// JSON, children first.
    ///
    /// # Panics
    /// When the graph cannot be opened.
    #[track_caller]
    pub fn open<S: AsRef<str>>(graph: &[S], writable: bool) -> Self {
        Self::export(StorageDaemon::start(graph), &tip_of(graph), writable)
    }

    /// Shows a volume of a pool as a raw file. A merge may have its layers open or change what
    /// stands on what: then it looks and tries again.
    ///
    /// # Panics
    /// When it cannot be opened.
    #[track_caller]
    pub fn open_volume(pool: &PoolFolder, volume: VolumeId, writable: bool) -> Self {
        let (daemon, tip) = until(PATIENCE, format_args!("volume {volume}"), || {
            let graph = [pool.volume_graph(volume)?];
            let daemon = StorageDaemon::try_start(&graph, Stdio::null())?;
            Ok::<_, String>((daemon, tip_of(&graph)))
        });
        Self::export(daemon, &tip, writable)
    }

    #[track_caller]
    fn export(mut daemon: StorageDaemon, tip: &str, writable: bool) -> Self {
        reap_leftovers();
        let folder = tempfile::Builder::new()
            .prefix(&format!("{FOLDER_PREFIX}{}.", process::id()))
            .tempdir()
            .expect("a folder for the export");
        let file = folder.path().join("volume");
        File::create(&file).expect("a mount point for the export");
        daemon.export_file(tip, &file, writable);
        Self {
            daemon: Some(daemon),
            folder,
        }
    }

    /// The raw file.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("volume")
    }

    /// Flushes and closes the layers.
    ///
    /// # Panics
    /// When that fails: the layers may be incomplete then.
    #[track_caller]
    pub fn close(mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.quit();
        }
    }
}

impl Drop for ExportedVolume {
    fn drop(&mut self) {
        // After a panic the daemon is killed, and its mount outlives it.
        if self.daemon.take().is_some() {
            unmount_quietly(&self.path());
        }
    }
}

/// A volume with its ext4 file system mounted for reading and writing. Dropping it unmounts.
pub struct MountedVolume {
    volume: Option<ExportedVolume>,
    mount_point: PathBuf,
}

impl MountedVolume {
    /// Mounts the file system on the last node of `graph` (see [`ExportedVolume::open`]).
    ///
    /// # Panics
    /// When it cannot be opened or mounted.
    #[track_caller]
    pub fn open<S: AsRef<str>>(graph: &[S]) -> Self {
        Self::mount(ExportedVolume::open(graph, true))
    }

    /// Mounts the file system of a volume (see [`ExportedVolume::open_volume`]).
    ///
    /// # Panics
    /// When it cannot be opened or mounted.
    #[track_caller]
    pub fn open_volume(pool: &PoolFolder, volume: VolumeId) -> Self {
        Self::mount(ExportedVolume::open_volume(pool, volume, true))
    }

    #[track_caller]
    fn mount(volume: ExportedVolume) -> Self {
        let mount_point = volume.folder.path().join("root");
        fs::create_dir(&mount_point).expect("a mount point");
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", "loop"])
            .arg(volume.path())
            .arg(&mount_point));
        Self {
            volume: Some(volume),
            mount_point,
        }
    }

    /// The root of the mounted file system.
    pub fn root(&self) -> &Path {
        &self.mount_point
    }

    /// Unmounts, flushes and closes: afterwards the layers hold every change.
    ///
    /// # Panics
    /// When any of that fails.
    #[track_caller]
    pub fn close(mut self) {
        let volume = self.volume.take().expect("closed once");
        run(Command::new("umount").arg(&self.mount_point));
        wait_for_loop_release(&volume.path());
        volume.close();
    }
}

impl Drop for MountedVolume {
    fn drop(&mut self) {
        if let Some(volume) = self.volume.take() {
            unmount_quietly(&self.mount_point);
            if !std::thread::panicking() {
                wait_for_loop_release(&volume.path());
            }
        }
    }
}

/// The node name of the last node of `graph`.
#[track_caller]
fn tip_of<S: AsRef<str>>(graph: &[S]) -> String {
    let tip = graph
        .last()
        .expect("a graph has at least one node")
        .as_ref();
    let node: serde_json::Value = serde_json::from_str(tip).expect("a node is JSON");
    node["node-name"]
        .as_str()
        .expect("a node has a name")
        .to_owned()
}

/// The kernel gives a loop device back a moment after the last unmount.
#[track_caller]
fn wait_for_loop_release(file: &Path) {
    until(
        PATIENCE,
        format_args!("the loop device of {}", file.display()),
        || {
            let holder = fs::read_dir("/sys/block")
                .into_iter()
                .flatten()
                .flatten()
                .map(|device| device.path().join("loop/backing_file"))
                .find(|backing| {
                    fs::read_to_string(backing).is_ok_and(|held| Path::new(held.trim_end()) == file)
                });
            holder.map_or(Ok(()), |device| {
                Err(format!("still held by {}", device.display()))
            })
        },
    );
}

/// Takes `target` out of the file tree now; the kernel ends the mount when its last user does.
fn unmount_quietly(target: &Path) {
    let _ = Command::new("umount")
        .arg("--lazy")
        .arg(target)
        .stderr(Stdio::null())
        .status();
}

/// Unmounts what killed test processes left behind.
fn reap_leftovers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        // Latest first: a file system lies on the export that was mounted before it.
        for target in mounts
            .lines()
            .rev()
            .filter_map(|line| line.split(' ').nth(1))
        {
            if owner_is_gone(target) {
                unmount_quietly(Path::new(target));
            }
        }
        for folder in fs::read_dir(std::env::temp_dir())
            .into_iter()
            .flatten()
            .flatten()
        {
            if owner_is_gone(&folder.path().to_string_lossy()) {
                // Never recursively: what is still mounted must stay.
                let _ = fs::remove_file(folder.path().join("volume"));
                let _ = fs::remove_dir(folder.path().join("root"));
                let _ = fs::remove_dir(folder.path());
            }
        }
    });
}

/// Whether `target` lies in the folder of a test process that has ended.
fn owner_is_gone(target: &str) -> bool {
    target
        .split('/')
        .find_map(|part| part.strip_prefix(FOLDER_PREFIX))
        .and_then(|rest| rest.split('.').next())
        .is_some_and(|pid| !Path::new("/proc").join(pid).exists())
}
