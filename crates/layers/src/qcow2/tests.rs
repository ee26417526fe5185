//! Our qcow2 against QEMU's: what we write it must find clean and read the same, what it writes
//! we must read the same.

mod cost;
mod hostile;
mod kill;
mod live;
mod trouble;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use stillpoint_env::SimEnv;
use stillpoint_model::id::{LayerId, PoolId, SnapshotId, VolumeId};
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::task::ImageFormat;
use stillpoint_model::{ByteCount, ByteRange, Env};

use super::Qcow2Driver;
use super::header::file_name;
use crate::tests::quick_folder;
use crate::{ImageSource, LayerPool, MergeOutcome, Pool};

/// A folder with a pool.
struct Bench {
    folder: tempfile::TempDir,
    pool: PathBuf,
    env: Arc<dyn Env>,
    id: PoolId,
}

impl Bench {
    fn new(seed: u64) -> Self {
        Self::in_folder(quick_folder(), seed)
    }

    fn in_folder(folder: tempfile::TempDir, seed: u64) -> Self {
        let env: Arc<dyn Env> = Arc::new(SimEnv::new(seed));
        let id = PoolId::generate(env.as_ref());
        Self {
            pool: folder.path().join("pool"),
            folder,
            env,
            id,
        }
    }

    fn open(&self) -> LayerPool<Qcow2Driver> {
        let driver = Qcow2Driver::open(&self.pool, self.id).unwrap();
        LayerPool::open(driver, Arc::clone(&self.env)).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn layer_path(&self, layer: LayerId) -> PathBuf {
        self.path("pool/layers").join(file_name(layer))
    }

    fn volume(&self) -> VolumeId {
        VolumeId::generate(self.env.as_ref())
    }

    fn snapshot(&self) -> SnapshotId {
        SnapshotId::generate(self.env.as_ref())
    }

    fn below(&self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.env.fill_random(&mut bytes);
        u64::from_le_bytes(bytes) % bound
    }

    /// Random writes, zeros and discards of any alignment, by QEMU.
    fn scribble(&self, pool: &LayerPool<Qcow2Driver>, volume: VolumeId, count: u64) {
        let size = pool.volume(volume).unwrap().size.get();
        let mut command = Command::new("qemu-io");
        for _ in 0..count {
            let unit = [512, 4096, 65536, 131_072][usize::try_from(self.below(4)).unwrap()];
            let start = self.below(size / unit) * unit;
            let len = ((1 + self.below(12)) * unit).min(size - start);
            let pattern = 1 + self.below(250);
            let verb = match self.below(8) {
                0 => format!("write -z {start} {len}"),
                1 => format!("write -z -u {start} {len}"),
                2 => format!("discard {start} {len}"),
                _ => format!("write -P {pattern} {start} {len}"),
            };
            command.arg("-c").arg(verb);
        }
        let graph = pool.block_graph(volume).unwrap();
        run(command.arg(format!("json:{graph}")));
    }

    /// What QEMU reads from a layer.
    fn convert(&self, layer: LayerId) -> Vec<u8> {
        let raw = self.path("converted.raw");
        let path = self.layer_path(layer);
        run(Command::new("qemu-img")
            .args(["convert", "-U", "-f", "qcow2", "-O", "raw"])
            .arg(path)
            .arg(&raw));
        std::fs::read(raw).unwrap()
    }

    /// QEMU finds every layer clean and reads what we read.
    fn check(&self, pool: &LayerPool<Qcow2Driver>) {
        for (layer, _) in pool.tree().layers() {
            run(Command::new("qemu-img")
                .args(["check", "-q", "-f", "qcow2"])
                .arg(self.layer_path(layer)));
            assert!(
                read(pool, layer) == self.convert(layer),
                "layer {layer} differs"
            );
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{command:?}: {text}{said}");
}

fn read(pool: &LayerPool<Qcow2Driver>, layer: LayerId) -> Vec<u8> {
    let reader = pool.open_layer(layer).unwrap();
    let mut content = vec![0xff; usize::try_from(reader.size().get()).unwrap()];
    reader.read_at(0, &mut content).unwrap();
    let mut offset = 0;
    while let Some(extent) = reader.extent_at(offset).unwrap() {
        let end = usize::try_from(extent.range.end()).unwrap();
        let part = &content[usize::try_from(offset).unwrap()..end];
        assert!(
            extent.data || part.iter().all(|byte| *byte == 0),
            "a hole with data"
        );
        offset = extent.range.end();
    }
    content
}

fn tidy(pool: &LayerPool<Qcow2Driver>) {
    while let Some(candidate) = pool.merge_candidates().first() {
        assert_eq!(
            pool.merge(candidate, &NullMonitor).unwrap(),
            MergeOutcome::Done
        );
    }
}

/// Where two contents differ, sector by sector.
fn differences(a: &[u8], b: &[u8]) -> Vec<u64> {
    let sectors = a.chunks(512).zip(b.chunks(512)).enumerate();
    sectors
        .filter(|(_, (a, b))| a != b)
        .map(|(index, _)| index as u64 * 512)
        .collect()
}

fn covers(ranges: &[ByteRange], offset: u64) -> bool {
    ranges
        .iter()
        .any(|range| (range.offset..range.end()).contains(&offset))
}

#[test]
fn guests_writes_are_read_the_same_and_merges_keep_them() {
    for seed in 0..4 {
        let bench = Bench::new(seed);
        let pool = bench.open();
        let volume = bench.volume();
        let size = ByteCount::new((5 << 20) + 512 * bench.below(20));
        pool.create_volume(volume, size).unwrap();
        let mut snapshots = Vec::new();
        for _ in 0..4 {
            bench.scribble(&pool, volume, 15);
            let snapshot = bench.snapshot();
            let sealed = pool.snapshot(volume, snapshot).unwrap();
            snapshots.push((snapshot, bench.convert(sealed.layer)));
        }
        let grown = ByteCount::new(size.get() + (3 << 20));
        pool.resize(volume, grown).unwrap();
        bench.scribble(&pool, volume, 15);
        bench.check(&pool);
        let now = bench.convert(pool.volume(volume).unwrap().tip);
        while !snapshots.is_empty() {
            let index = usize::try_from(bench.below(snapshots.len() as u64)).unwrap();
            let (snapshot, _) = snapshots.remove(index);
            pool.delete_snapshot(snapshot).unwrap();
            tidy(&pool);
            bench.check(&pool);
            for (snapshot, content) in &snapshots {
                assert!(read(&pool, pool.snapshot_layer(*snapshot).unwrap()) == *content);
            }
            assert!(
                read(&pool, pool.volume(volume).unwrap().tip) == now,
                "seed {seed}"
            );
        }
        bench.scribble(&pool, volume, 10);
        bench.check(&pool);
    }
}

#[test]
fn every_difference_that_a_guest_made_is_among_the_changed_extents() {
    let bench = Bench::new(11);
    let pool = bench.open();
    let volume = bench.volume();
    pool.create_volume(volume, ByteCount::from_mib(6)).unwrap();
    bench.scribble(&pool, volume, 20);
    let base = bench.snapshot();
    pool.snapshot(volume, base).unwrap();
    let mut layers = vec![pool.snapshot_layer(base).unwrap()];
    for round in 0..4 {
        if round == 2 {
            pool.roll_back(volume, base, bench.snapshot()).unwrap();
        }
        bench.scribble(&pool, volume, 12);
        layers.push(pool.snapshot(volume, bench.snapshot()).unwrap().layer);
    }
    for from in &layers {
        for to in &layers {
            let changed = pool.changed_extents(Some(*from), *to).unwrap();
            for offset in differences(&read(&pool, *from), &read(&pool, *to)) {
                assert!(covers(&changed, offset), "{from} to {to} at {offset}");
            }
        }
    }
}

#[test]
fn restored_layers_are_clean_for_qemu() {
    let bench = Bench::new(12);
    let pool = bench.open();
    let volume = bench.volume();
    let size = ByteCount::new((40 << 20) - 1536);
    let mut content = vec![0; usize::try_from(size.get()).unwrap()];
    let writer = pool.begin_restore(volume, size).unwrap();
    for _ in 0..300 {
        let start = bench.below(size.get() / 4096) * 4096;
        let len = ((1 + bench.below(100)) * 4096).min(size.get() - start);
        let range = usize::try_from(start).unwrap()..usize::try_from(start + len).unwrap();
        let byte = u8::try_from(bench.below(5)).unwrap();
        content[range.clone()].fill(byte);
        if byte == 0 {
            writer.zero_at(ByteRange::new(start, len)).unwrap();
        } else {
            writer.write_at(start, &content[range]).unwrap();
        }
    }
    let info = writer.finish().unwrap();
    assert!(read(&pool, info.tip) == content);
    bench.check(&pool);
    bench.scribble(&pool, volume, 20);
    bench.check(&pool);
}

#[test]
fn images_of_every_kind_are_imported_exactly() {
    let kinds: [&[&str]; 9] = [
        &["-o", "compat=0.10"],
        &["-o", "cluster_size=512"],
        &["-o", "cluster_size=2M"],
        &["-o", "extended_l2=on,cluster_size=16k"],
        &["-o", "extended_l2=on,cluster_size=2M"],
        &["-c", "-o", "cluster_size=64k"],
        &["-c", "-o", "compression_type=zstd,cluster_size=2M"],
        &["-o", "lazy_refcounts=on,refcount_bits=1"],
        &["-o", "preallocation=metadata"],
    ];
    let bench = Bench::new(13);
    let pool = bench.open();
    let volume = bench.volume();
    pool.create_volume(volume, ByteCount::new((7 << 20) + 512))
        .unwrap();
    bench.scribble(&pool, volume, 40);
    let tip = pool.volume(volume).unwrap().tip;
    let content = read(&pool, tip);
    std::fs::write(bench.path("disk.raw"), bench.convert(tip)).unwrap();
    for kind in kinds {
        let path = bench.path("disk.qcow2");
        let mut convert = Command::new("qemu-img");
        convert
            .args(["convert", "-f", "raw", "-O", "qcow2"])
            .args(kind);
        run(convert.arg(bench.path("disk.raw")).arg(&path));
        let source = ImageSource {
            path,
            format: ImageFormat::Qcow2,
        };
        let imported = pool
            .import(
                bench.volume(),
                &source,
                ByteCount::from_mib(8),
                &NullMonitor,
            )
            .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        assert!(read(&pool, imported.tip) == content, "{kind:?}");
    }
    bench.check(&pool);
}

#[test]
fn a_terabyte_costs_nothing_until_it_is_written() {
    let bench = Bench::new(14);
    let pool = bench.open();
    let volume = bench.volume();
    pool.create_volume(volume, ByteCount::from_gib(1 << 10))
        .unwrap();
    let graph = pool.block_graph(volume).unwrap();
    let mut command = Command::new("qemu-io");
    run(command
        .args(["-c", "write -P 7 1023G 4k"])
        .arg(format!("json:{graph}")));
    let snapshot = bench.snapshot();
    let sealed = pool.snapshot(volume, snapshot).unwrap();
    let changed = pool.changed_extents(None, sealed.layer).unwrap();
    assert_eq!(changed, [ByteRange::new(1023 << 30, 4096)]);
    assert!(sealed.used < ByteCount::new(1 << 20), "{}", sealed.used);
    assert!(
        pool.create_volume(bench.volume(), ByteCount::from_gib(17 << 10))
            .is_err()
    );
    pool.create_volume(bench.volume(), ByteCount::from_gib(16 << 10))
        .unwrap();
    bench.check_headers(&pool);
}

impl Bench {
    fn check_headers(&self, pool: &LayerPool<Qcow2Driver>) {
        for (layer, _) in pool.tree().layers() {
            check_clean(&self.layer_path(layer));
        }
    }
}

fn check_clean(path: &Path) {
    run(Command::new("qemu-img")
        .args(["check", "-q", "-f", "qcow2"])
        .arg(path));
}

#[test]
fn what_is_restored_in_any_order_lies_in_the_order_of_the_disk() {
    let bench = Bench::new(21);
    let pool = bench.open();
    let volume = bench.volume();
    let (size, piece) = (ByteCount::from_mib(16), 128 << 10);
    let writer = pool.begin_restore(volume, size).unwrap();
    let range = ByteRange::new(4 << 20, 8 << 20);
    writer.reserve(range).unwrap();
    // Memory as the vault has it, so that it may go past the page cache.
    let memory = vec![7; piece + 4096];
    let aligned = memory.as_ptr().align_offset(4096);
    for number in (0..range.len / piece as u64).rev() {
        let data = &memory[aligned..aligned + piece];
        let at = range.offset + number * piece as u64;
        writer.write_at(at, data).unwrap();
    }
    let tip = writer.finish().unwrap().tip;
    bench.check(&pool);
    let output = Command::new("qemu-img")
        .args(["map", "-f", "qcow2", "--output=json"])
        .arg(bench.layer_path(tip))
        .output()
        .unwrap();
    let map: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let data: Vec<_> = map.iter().filter(|extent| extent["data"] == true).collect();
    assert_eq!(data.len(), 1, "{data:?}");
    assert_eq!(data[0]["start"], range.offset);
    assert_eq!(data[0]["length"], range.len);
    let mut expected = vec![0; 16 << 20];
    expected[4 << 20..12 << 20].fill(7);
    assert!(read(&pool, tip) == expected);
}
