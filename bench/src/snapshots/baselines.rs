//! The tools one would use instead.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use stillpoint_tests::mount::ExportedVolume;
use stillpoint_tests::process::run;

use super::Contender;
use crate::samples::timed;
use crate::volumes::Volume;

/// The qcow2 layout of our layers, for a fair comparison.
const LAYOUT: &str = "extended_l2=on,cluster_size=128k";

/// Creates a qcow2 image filled as `volume` should be, through the storage daemon.
fn create_qcow2(path: &Path, volume: Volume) {
    run(Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-o", LAYOUT])
        .arg(path)
        .arg(volume.size.get().to_string()));
    if volume.written {
        let file = format!(r#"{{"driver":"file","node-name":"file","filename":{path:?}}}"#);
        let tip = r#"{"driver":"qcow2","node-name":"tip","file":"file","backing":null}"#;
        let exported = ExportedVolume::open(&[file.as_str(), tip], true);
        volume.fill(&exported.path());
        exported.close();
    }
}

fn fsync(path: &Path) {
    File::open(path)
        .and_then(|file| file.sync_all())
        .expect("fsync");
}

/// `qemu-img create -b`: an empty overlay, as external snapshots are; alone, and made durable.
pub struct CreateOverlay {
    folder: PathBuf,
}

impl CreateOverlay {
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }
}

impl Contender for CreateOverlay {
    fn rows(&self) -> &'static [&'static str] {
        &["qemu-img create -b", "qemu-img create -b, with fsyncs"]
    }

    fn prepare(&mut self, volume: Volume) {
        create_qcow2(
            &self.folder.join(format!("base-{}.qcow2", volume.slug())),
            volume,
        );
    }

    fn round(&mut self, volume: Volume) -> Vec<Duration> {
        let overlay = self.folder.join("overlay.qcow2");
        let mut create = Command::new("qemu-img");
        create
            .args([
                "create", "-q", "-f", "qcow2", "-o", LAYOUT, "-F", "qcow2", "-b",
            ])
            .arg(format!("base-{}.qcow2", volume.slug()))
            .arg(&overlay);
        let (bare, _) = timed(|| run(&mut create));
        fs::remove_file(&overlay).expect("remove the overlay");
        let (durable, ()) = timed(|| {
            run(&mut create);
            fsync(&overlay);
            fsync(&self.folder);
        });
        fs::remove_file(&overlay).expect("remove the overlay");
        vec![bare, durable]
    }
}

/// `qemu-img snapshot -c`: a snapshot inside the qcow2 file.
pub struct InternalSnapshot {
    folder: PathBuf,
}

impl InternalSnapshot {
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    fn image(&self, volume: Volume) -> PathBuf {
        self.folder
            .join(format!("internal-{}.qcow2", volume.slug()))
    }
}

impl Contender for InternalSnapshot {
    fn rows(&self) -> &'static [&'static str] {
        &["qemu-img snapshot -c"]
    }

    fn prepare(&mut self, volume: Volume) {
        create_qcow2(&self.image(volume), volume);
    }

    fn round(&mut self, volume: Volume) -> Vec<Duration> {
        let image = self.image(volume);
        let snapshot = |verb: &str| {
            run(Command::new("qemu-img")
                .args(["snapshot", verb, "s"])
                .arg(&image))
        };
        let (taken, _) = timed(|| snapshot("-c"));
        snapshot("-d");
        vec![taken]
    }
}

/// `cp --reflink=always` of a raw file on XFS.
pub struct Reflink {
    folder: PathBuf,
}

impl Reflink {
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    fn image(&self, volume: Volume) -> PathBuf {
        self.folder.join(format!("{}.raw", volume.slug()))
    }
}

impl Contender for Reflink {
    fn rows(&self) -> &'static [&'static str] {
        &["cp --reflink=always on XFS"]
    }

    fn prepare(&mut self, volume: Volume) {
        let image = self.image(volume);
        File::create(&image)
            .and_then(|f| f.set_len(volume.size.get()))
            .expect("a sparse file");
        volume.fill(&image);
    }

    fn round(&mut self, volume: Volume) -> Vec<Duration> {
        let copy = self.folder.join("copy.raw");
        let (copied, _) = timed(|| {
            run(Command::new("cp")
                .arg("--reflink=always")
                .arg(self.image(volume))
                .arg(&copy))
        });
        fs::remove_file(&copy).expect("remove the copy");
        vec![copied]
    }
}
