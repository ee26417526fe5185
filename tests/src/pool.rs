//! A pool's folder as QEMU reads it, without any code of ours between the files and the content.
//!
//! Only two facts are taken from us: which layer a volume's record names, and which file the
//! layer's own header names below it. What the layers hold is read by `qemu-img`. So a mistake in
//! our reader cannot hide the same mistake in our writer.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use stillpoint_model::ByteCount;
use stillpoint_model::id::{SnapshotId, VolumeId};

use crate::wait::{PATIENCE, until};

/// The folder of a qcow2 pool.
#[derive(Clone, Debug)]
pub struct PoolFolder {
    path: PathBuf,
}

/// What a layer is read for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl PoolFolder {
    /// The pool in this folder.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The block graph of a volume for `qemu-storage-daemon`, its tip writable: one node with
    /// everything below it.
    ///
    /// # Errors
    /// The pool does not know the volume, or a layer cannot be read.
    pub fn volume_graph(&self, volume: VolumeId) -> Result<String, String> {
        Ok(self.graph(&self.tip(volume)?, Access::Write)?.to_string())
    }

    /// Copies what a volume holds now to a sparse raw file.
    ///
    /// # Panics
    /// With what QEMU says, when it cannot.
    #[track_caller]
    pub fn copy_volume(&self, volume: VolumeId, to: &Path) {
        self.copy(format_args!("volume {volume}"), to, || self.tip(volume));
    }

    /// Copies what a snapshot holds to a sparse raw file.
    ///
    /// # Panics
    /// With what QEMU says, when it cannot.
    #[track_caller]
    pub fn copy_snapshot(&self, volume: VolumeId, snapshot: SnapshotId, to: &Path) {
        self.copy(format_args!("snapshot {snapshot}"), to, || {
            let record = self.record(volume)?;
            layer_name(&record["snapshots"][snapshot.to_string()]["layer"])
        });
    }

    /// The names of all layer files.
    ///
    /// # Panics
    /// When the folder cannot be read.
    #[track_caller]
    pub fn layer_files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path.join("layers"))
            .expect("the folder of layers")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    }

    /// How many bytes the layers occupy, those that are merged and their result among them.
    ///
    /// # Panics
    /// When the folder cannot be read.
    #[track_caller]
    pub fn occupied(&self) -> ByteCount {
        let files = self.layer_files().into_iter();
        // One may be removed meanwhile.
        let found = files.filter_map(|name| fs::metadata(self.layer_path(&name)).ok());
        ByteCount::new(found.map(|file| file.blocks() * 512).sum())
    }

    /// Whether a machine that has this volume open was asked to merge layers of it, and it is not
    /// recorded what came of that.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn is_merged_live(&self, volume: VolumeId) -> Result<bool, String> {
        Ok(!self.record(volume)?["joining"].is_null())
    }

    /// The files of the layers that some record names, and of everything below them.
    ///
    /// # Errors
    /// A record or a layer cannot be read.
    pub fn needed_layers(&self) -> Result<BTreeSet<String>, String> {
        let folder = self.path.join("volumes");
        let mut needed = BTreeSet::new();
        for entry in fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))? {
            let name = entry.map_err(|e| e.to_string())?.file_name();
            let name = name.to_string_lossy();
            let Some(volume) = name.strip_suffix(".json") else {
                continue;
            };
            for named in named_layers(&self.record(volume)?) {
                for layer in self.chain(&named)? {
                    needed.insert(layer);
                }
            }
        }
        Ok(needed)
    }

    /// Again while a merge moves the layers under it: QEMU's own locks keep the two apart.
    #[track_caller]
    fn copy(&self, what: impl Display, to: &Path, layer: impl Fn() -> Result<String, String>) {
        until(PATIENCE, format_args!("a copy of {what}"), || {
            let graph = self.graph(&layer()?, Access::Read)?;
            let output = Command::new("qemu-img")
                .args(["convert", "-q", "-O", "raw"])
                .arg(format!("json:{graph}"))
                .arg(to)
                .stdin(Stdio::null())
                .output()
                .map_err(|e| e.to_string())?;
            if output.status.success() {
                return Ok(());
            }
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        });
    }

    fn record(&self, volume: impl Display) -> Result<Value, String> {
        let path = self.path.join("volumes").join(format!("{volume}.json"));
        let bytes = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut file: Value = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
        Ok(file["content"]["record"].take())
    }

    fn tip(&self, volume: VolumeId) -> Result<String, String> {
        layer_name(&self.record(volume)?["tip"])
    }

    /// A layer's file and those below it, the lowest last.
    fn chain(&self, top: &str) -> Result<Vec<String>, String> {
        let mut chain = vec![top.to_owned()];
        while let Some(below) = backing_file(&self.layer_path(&chain[chain.len() - 1]))? {
            chain.push(below);
        }
        Ok(chain)
    }

    fn graph(&self, top: &str, access: Access) -> Result<Value, String> {
        let chain = self.chain(top)?;
        let mut graph = Value::Null;
        for (index, name) in chain.iter().enumerate().rev() {
            let read_only = index > 0 || access == Access::Read;
            graph = json!({
                "driver": "qcow2", "node-name": format!("layer{index}"), "read-only": read_only,
                "discard": "unmap", "backing": graph,
                "file": {
                    "driver": "file", "node-name": format!("file{index}"), "read-only": read_only,
                    "discard": "unmap", "filename": self.layer_path(name),
                },
            });
        }
        Ok(graph)
    }

    fn layer_path(&self, name: &str) -> PathBuf {
        self.path.join("layers").join(name)
    }
}

fn layer_name(layer: &Value) -> Result<String, String> {
    let id = layer
        .as_str()
        .ok_or_else(|| format!("no layer but {layer}"))?;
    Ok(format!("{id}.qcow2"))
}

/// The files of the layers that a record names.
fn named_layers(record: &Value) -> Vec<String> {
    let values = |field: &str| {
        record[field]
            .as_object()
            .into_iter()
            .flat_map(|map| map.values())
    };
    let snapshots = values("snapshots").map(|snapshot| &snapshot["layer"]);
    let layers = std::iter::once(&record["tip"])
        .chain(snapshots)
        .chain(values("captures"));
    layers.filter_map(|layer| layer_name(layer).ok()).collect()
}

/// The file that a qcow2 header names as its backing file, if any.
fn backing_file(image: &Path) -> Result<Option<String>, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", image.display());
    let file = File::open(image).map_err(failed)?;
    let mut header = [0; 20];
    file.read_exact_at(&mut header, 0).map_err(failed)?;
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0_u64, |n, byte| n << 8 | u64::from(*byte))
    };
    let (offset, len) = (number(&header[8..16]), number(&header[16..20]));
    if offset == 0 {
        return Ok(None);
    }
    let mut name = vec![0; usize::try_from(len).expect("a short name")];
    file.read_exact_at(&mut name, offset).map_err(failed)?;
    Ok(Some(String::from_utf8_lossy(&name).into_owned()))
}
