//! What a disk, a person or another process does to a pool.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use stillpoint_model::progress::{Monitor, NullMonitor};
use stillpoint_model::{ByteCount, ErrorKind};

use super::{Bench, read, run, tidy};
use crate::qcow2::Qcow2Driver;
use crate::{Driver, Error, LayerPool, MergeOutcome, Orphan, Pool};

/// A volume with a snapshot, both written by QEMU.
struct Written {
    volume: stillpoint_model::id::VolumeId,
    snapshot: stillpoint_model::id::SnapshotId,
    content: Vec<u8>,
}

fn written(bench: &Bench, pool: &LayerPool<Qcow2Driver>) -> Written {
    let (volume, snapshot) = (bench.volume(), bench.snapshot());
    pool.create_volume(volume, ByteCount::from_mib(4)).unwrap();
    bench.scribble(pool, volume, 10);
    let layer = pool.snapshot(volume, snapshot).unwrap().layer;
    bench.scribble(pool, volume, 10);
    Written {
        volume,
        snapshot,
        content: read(pool, layer),
    }
}

#[test]
fn a_damaged_layer_is_named_and_others_go_on() {
    type Damage = fn(&std::path::Path);
    let cases: [(&str, Damage); 5] = [
        ("missing", |path| fs::remove_file(path).unwrap()),
        ("cut off", |path| {
            fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(300_000)
                .unwrap();
        }),
        ("empty", |path| {
            fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(0)
                .unwrap();
        }),
        ("foreign", |path| {
            run(Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2"])
                .arg(path)
                .arg("4M"));
        }),
        ("marked corrupt", |path| {
            use std::os::unix::fs::FileExt;
            let file = fs::File::options().write(true).open(path).unwrap();
            file.write_all_at(&[0x12], 79).unwrap();
        }),
    ];
    for (name, damage) in cases {
        let bench = Bench::new(31);
        let pool = bench.open();
        let hurt = written(&bench, &pool);
        let well = written(&bench, &pool);
        let layer = pool.snapshot_layer(hurt.snapshot).unwrap();
        drop(pool);
        damage(&bench.layer_path(layer));
        let pool = bench.open();
        assert_ne!(pool.damage().unwrap(), Vec::<String>::new(), "{name}");
        let found = pool
            .snapshot(hurt.volume, bench.snapshot())
            .map_err(|e| e.kind());
        assert_eq!(found.map(drop), Err(ErrorKind::Corrupt), "{name}");
        let opened = pool.open_layer(layer).map(drop).map_err(|e| e.kind());
        assert_eq!(opened, Err(ErrorKind::Corrupt), "{name}");
        pool.delete_volume(hurt.volume).unwrap();
        assert_eq!(
            pool.merge_candidates(),
            [],
            "nothing is garbage in doubt: {name}"
        );
        let others = pool.snapshot_layer(well.snapshot).unwrap();
        assert!(read(&pool, others) == well.content, "{name}");
        pool.snapshot(well.volume, bench.snapshot()).unwrap();
    }
}

/// A machine that ended without closing a layer may have left its refcounts behind its tables.
#[test]
fn a_layer_that_was_not_closed_is_read_and_not_written_to() {
    let bench = Bench::new(40);
    let pool = bench.open();
    let Written {
        snapshot, content, ..
    } = written(&bench, &pool);
    let layer = pool.snapshot_layer(snapshot).unwrap();
    drop(pool);
    let path = bench.layer_path(layer);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0x11], 79).unwrap();
    let pool = bench.open();
    assert_eq!(pool.damage().unwrap(), Vec::<String>::new());
    assert!(read(&pool, layer) == content);
    drop(pool);
    let driver = Qcow2Driver::open(&bench.pool, bench.id).unwrap();
    let opened = driver.reopen_layer(layer, ByteCount::from_mib(4));
    assert_eq!(
        opened.map(drop).map_err(|e| e.kind()),
        Err(ErrorKind::Corrupt)
    );
}

#[test]
fn a_damaged_tip_is_rolled_back() {
    let bench = Bench::new(32);
    let pool = bench.open();
    let hurt = written(&bench, &pool);
    let tip = pool.volume(hurt.volume).unwrap().tip;
    drop(pool);
    fs::remove_file(bench.layer_path(tip)).unwrap();
    let pool = bench.open();
    let info = pool
        .roll_back(hurt.volume, hurt.snapshot, bench.snapshot())
        .unwrap();
    assert!(read(&pool, info.tip) == hurt.content);
}

#[test]
fn a_damaged_record_makes_nothing_garbage() {
    let bench = Bench::new(33);
    let pool = bench.open();
    let hurt = written(&bench, &pool);
    let layers = pool.tree().layers().count();
    drop(pool);
    let record = bench
        .path("pool/volumes")
        .join(format!("{}.json", hurt.volume));
    let mut bytes = fs::read(&record).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&record, &bytes).unwrap();
    let pool = bench.open();
    let damage = pool.damage().unwrap();
    assert!(
        damage.iter().any(|text| text.contains("checksum")),
        "{damage:?}"
    );
    assert_eq!(pool.merge_candidates(), []);
    assert_eq!(pool.orphans().unwrap(), []);
    assert_eq!(pool.tree().layers().count(), layers);
    drop(pool);
    bytes[at] ^= 1;
    fs::write(&record, &bytes).unwrap();
    let pool = bench.open();
    assert!(read(&pool, pool.snapshot_layer(hurt.snapshot).unwrap()) == hurt.content);
}

#[test]
fn a_volume_that_qemu_writes_to_is_in_use() {
    let bench = Bench::new(34);
    let pool = bench.open();
    let Written {
        volume, snapshot, ..
    } = written(&bench, &pool);
    let mut qemu = Command::new("qemu-io")
        .arg(format!("json:{}", pool.block_graph(volume).unwrap()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut prompt = [0; 8];
    qemu.stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut prompt)
        .unwrap();
    let in_use = Err(ErrorKind::Conflict);
    let safety = bench.snapshot();
    assert_eq!(
        pool.snapshot(volume, safety)
            .map(drop)
            .map_err(|e| e.kind()),
        in_use
    );
    let back = pool.roll_back(volume, snapshot, safety);
    assert_eq!(back.map(drop).map_err(|e| e.kind()), in_use);
    let grown = pool.resize(volume, ByteCount::from_mib(8));
    assert_eq!(grown.map(drop).map_err(|e| e.kind()), in_use);
    assert_eq!(pool.delete_volume(volume).map_err(|e| e.kind()), in_use);
    pool.delete_snapshot(snapshot).unwrap();
    let merge = pool.merge_candidates()[0];
    assert_eq!(
        pool.merge(&merge, &NullMonitor).map_err(|e| e.kind()),
        in_use.map(|()| MergeOutcome::Done)
    );
    qemu.stdin.take().unwrap().write_all(b"quit\n").unwrap();
    assert!(qemu.wait().unwrap().success());
    tidy(&pool);
    pool.snapshot(volume, safety).unwrap();
    bench.check(&pool);
}

#[test]
fn a_pool_is_open_once() {
    let bench = Bench::new(35);
    let _pool = bench.open();
    let second = Qcow2Driver::open(&bench.path("pool"), bench.id).map(drop);
    assert!(matches!(second, Err(Error::PoolInUse(_))));
}

#[test]
fn another_pools_folder_is_refused() {
    let bench = Bench::new(36);
    drop(bench.open());
    let other = stillpoint_model::id::PoolId::generate(bench.env.as_ref());
    let opened = Qcow2Driver::open(&bench.path("pool"), other).map(drop);
    assert!(matches!(opened, Err(Error::NotAPool { .. })));
}

#[test]
fn sealed_layers_are_protected_and_strange_files_are_left_alone() {
    let bench = Bench::new(37);
    let pool = bench.open();
    let Written { snapshot, .. } = written(&bench, &pool);
    let layer = pool.snapshot_layer(snapshot).unwrap();
    let mode = fs::metadata(bench.layer_path(layer))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o400);
    let strange = bench.path("pool/layers/notes.txt");
    let unfinished = bench.path("pool/layers/0193b5a2-7c1e-7d4f-9a51-0c2d6d5e8f10.qcow2.new");
    for path in [&strange, &unfinished] {
        fs::write(path, "whatever").unwrap();
    }
    let orphans = pool.orphans().unwrap();
    let name = unfinished.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(orphans, [Orphan::Unfinished(name)]);
    let forged = Orphan::Unfinished("../pool.json".to_owned());
    assert_eq!(pool.reap(&[forged]).unwrap(), 0);
    assert_eq!(pool.reap(&orphans).unwrap(), 1);
    assert!(strange.exists() && !unfinished.exists());
}

/// Opens a reader once the merge moves, as a backup would.
struct Interrupting {
    pool: Arc<LayerPool<Qcow2Driver>>,
    tip: stillpoint_model::id::LayerId,
    reader: std::sync::Mutex<Option<std::thread::JoinHandle<Vec<u8>>>>,
}

impl Monitor for Interrupting {
    fn progress(&self, _done: ByteCount, _total: Option<ByteCount>) {
        let mut reader = self.reader.lock().unwrap();
        if reader.is_none() {
            let (pool, tip) = (Arc::clone(&self.pool), self.tip);
            *reader = Some(std::thread::spawn(move || read(&pool, tip)));
        }
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}

#[test]
fn a_merge_and_a_reader_do_not_disturb_each_other() {
    let bench = Bench::new(38);
    let pool = Arc::new(bench.open());
    let Written {
        volume, snapshot, ..
    } = written(&bench, &pool);
    let tip = pool.volume(volume).unwrap().tip;
    let content = read(&pool, tip);
    pool.delete_snapshot(snapshot).unwrap();
    let monitor = Interrupting {
        pool: Arc::clone(&pool),
        tip,
        reader: std::sync::Mutex::new(None),
    };
    let merge = pool.merge_candidates()[0];
    pool.merge(&merge, &monitor).unwrap();
    let reader = monitor.reader.lock().unwrap().take().unwrap();
    assert!(reader.join().unwrap() == content);
    tidy(&pool);
    assert!(read(&pool, tip) == content);
    bench.check(&pool);
}

/// A small file system of its own, if this process may mount one.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: std::path::PathBuf) -> Option<Self> {
        fs::create_dir_all(&path).unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=8m", "none"])
            .arg(&path);
        mount
            .status()
            .is_ok_and(|status| status.success())
            .then_some(Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_loses_nothing_and_deleting_works() {
    let bench = Bench::new(39);
    let Some(_disk) = SmallDisk::mount(bench.path("pool")) else {
        eprintln!("skipped: this process may not mount a small file system");
        return;
    };
    let pool = bench.open();
    let Written {
        volume,
        snapshot,
        content,
    } = written(&bench, &pool);
    let doomed = bench.volume();
    let writer = pool.begin_restore(doomed, ByteCount::from_mib(32)).unwrap();
    let piece = vec![1; 1 << 20];
    let full = (0..32).find_map(|at| writer.write_at(at << 20, &piece).err());
    assert_eq!(full.map(|e| e.kind()), Some(ErrorKind::Full));
    fs::write(bench.path("pool/filler"), vec![1; 16 << 20]).unwrap_err();
    let mut filler = fs::File::options()
        .append(true)
        .open(bench.path("pool/filler"))
        .unwrap();
    while filler.write_all(&[1; 4096]).is_ok() {}
    let snapped = pool.snapshot(volume, bench.snapshot());
    assert_eq!(
        snapped.map(drop).map_err(|e| e.kind()),
        Err(ErrorKind::Full)
    );
    assert!(read(&pool, pool.snapshot_layer(snapshot).unwrap()) == content);
    pool.delete_snapshot(snapshot).unwrap();
    drop(writer);
    assert_eq!(pool.orphans().unwrap(), []);
    pool.delete_volume(volume).unwrap();
    assert_eq!(pool.tree().layers().count(), 0);
}
