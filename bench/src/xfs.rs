//! An XFS file system on a loop device: what `cp --reflink` needs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use stillpoint_tests::process::run;

/// Room for the allocated blocks; the files on it are sparse and may be larger.
const DEVICE_BYTES: u64 = 64 << 30;

/// A mounted XFS file system. Dropping it unmounts it.
pub struct Xfs {
    mount_point: PathBuf,
}

impl Xfs {
    /// Makes one in `folder`.
    pub fn create(folder: &Path) -> Self {
        let device = folder.join("xfs.raw");
        let mount_point = folder.join("xfs");
        File::create(&device)
            .and_then(|f| f.set_len(DEVICE_BYTES))
            .expect("a sparse file");
        fs::create_dir(&mount_point).expect("a mount point");
        run(Command::new("mkfs.xfs")
            .args(["-q", "-m", "reflink=1"])
            .arg(&device));
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&device)
            .arg(&mount_point));
        Self { mount_point }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount_point
    }
}

impl Drop for Xfs {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(&self.mount_point)
            .status();
    }
}
