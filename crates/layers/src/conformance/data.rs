//! Restores, imports, differences, readers and merges.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use stillpoint_model::progress::{Monitor, NullMonitor};
use stillpoint_model::task::ImageFormat;
use stillpoint_model::{ByteCount, ByteRange, ErrorKind};

use super::world::{SIZE, Storage, World, content};
use crate::{BLOCK_SIZE, ImageSource, MergeOutcome, Pool};

pub(super) fn restoring_in_any_order<S: Storage>(world: &mut World<S>) {
    let volume = world.volume_id();
    let size = ByteCount::new(SIZE.get() - 512);
    let writer = world.pool().begin_restore(volume, size).expect("begins");
    let block = |byte: u8, blocks: u64| vec![byte; usize::try_from(blocks * BLOCK_SIZE).unwrap()];
    writer
        .write_at(200 * BLOCK_SIZE, &block(2, 4))
        .expect("writes");
    writer.write_at(0, &block(1, 70)).expect("writes");
    writer
        .write_at(10 * BLOCK_SIZE, &block(3, 1))
        .expect("writes again");
    writer
        .zero_at(ByteRange::new(20 * BLOCK_SIZE, 5 * BLOCK_SIZE))
        .expect("zeros");
    writer
        .zero_at(ByteRange::new(100 * BLOCK_SIZE, 50 * BLOCK_SIZE))
        .expect("zeros");
    writer
        .write_at(255 * BLOCK_SIZE, &block(4, 1)[..3584])
        .expect("writes the cut end");
    assert!(world.pool().volume(volume).is_err(), "it is no volume yet");
    let busy = world.pool().begin_restore(volume, SIZE);
    assert_eq!(
        busy.map(|_| ()).map_err(|e| e.kind()),
        Err(ErrorKind::Retry)
    );
    assert_eq!(writer.finish().expect("finishes").size, size);
    world.reopen();
    let mut now = content(&[(0, 70, 1), (200, 4, 2), (10, 1, 3), (20, 5, 0), (255, 1, 4)]);
    now.truncate(usize::try_from(size.get()).unwrap());
    assert!(world.read_volume(volume) == now);
    let again = world.pool().begin_restore(volume, SIZE);
    assert_eq!(
        again.map(|_| ()).map_err(|e| e.kind()),
        Err(ErrorKind::Conflict)
    );
}

pub(super) fn restoring_from_several_threads<S: Storage>(world: &mut World<S>) {
    let volume = world.volume_id();
    let blocks = SIZE.get() / BLOCK_SIZE;
    let byte_of = |block: u64| u8::try_from(1 + block % 250).unwrap();
    let is_left_out = |block: u64| block % 50 > 40;
    let writer = world.pool().begin_restore(volume, SIZE).expect("begins");
    for first in (0..blocks).step_by(50) {
        let range = ByteRange::new(first * BLOCK_SIZE, 41.min(blocks - first) * BLOCK_SIZE);
        writer.reserve(range).expect("reserves");
    }
    let past = writer.reserve(ByteRange::new(SIZE.get(), BLOCK_SIZE));
    assert_eq!(past.map_err(|e| e.kind()), Err(ErrorKind::Invalid));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let writer = &writer;
            scope.spawn(move || {
                for block in (0..blocks).rev().filter(|block| block % 4 == thread) {
                    let data = vec![byte_of(block); usize::try_from(BLOCK_SIZE).unwrap()];
                    if !is_left_out(block) {
                        writer.write_at(block * BLOCK_SIZE, &data).expect("writes");
                    }
                }
            });
        }
    });
    writer.finish().expect("finishes");
    world.reopen();
    let now = world.read_volume(volume);
    let mut each = (0..blocks).zip(now.chunks(usize::try_from(BLOCK_SIZE).unwrap()));
    let wrong = each.find(|(block, data)| {
        let byte = if is_left_out(*block) {
            0
        } else {
            byte_of(*block)
        };
        data.iter().any(|found| *found != byte)
    });
    assert_eq!(wrong.map(|(block, _)| block), None, "the first wrong block");
}

pub(super) fn dropped_restore_leaves_nothing<S: Storage>(world: &mut World<S>) {
    let volume = world.volume_id();
    let writer = world.pool().begin_restore(volume, SIZE).expect("begins");
    writer.write_at(0, &vec![1; 4096]).expect("writes");
    drop(writer);
    assert!(world.pool().volume(volume).is_err());
    assert_eq!(world.pool().orphans().expect("lists"), Vec::new());
    world
        .pool()
        .create_volume(volume, SIZE)
        .expect("the id is free");
}

pub(super) fn wrong_restores_are_refused<S: Storage>(world: &mut World<S>) {
    let writer = world
        .pool()
        .begin_restore(world.volume_id(), SIZE)
        .expect("begins");
    let end = SIZE.get();
    for (offset, len) in [
        (1, 4096),
        (0, 100),
        (end, 4096),
        (end - 4096, 8192),
        (u64::MAX, 1),
    ] {
        let answer = writer.write_at(offset, &vec![1; len]);
        assert_eq!(
            answer.map_err(|e| e.kind()),
            Err(ErrorKind::Invalid),
            "{len} at {offset}"
        );
    }
}

pub(super) fn changed_extents_cover_every_difference<S: Storage>(world: &mut World<S>) {
    let volume = world.volume();
    world.write(volume, 0, 100, 1);
    let first = world.snapshot(volume);
    world.write(volume, 90, 20, 2);
    let second = world.snapshot(volume);
    world.stop(volume);
    world
        .pool()
        .roll_back(volume, first, world.snapshot_id())
        .expect("rolls back");
    world.write(volume, 3, 4, 0);
    let third = world.snapshot(volume);
    let layers = [first, second, third].map(|s| world.pool().snapshot_layer(s).expect("exists"));
    let [a, b, c] = layers;
    let changed = |from, to| world.pool().changed_extents(from, to).expect("compares");
    let blocks = |first: u64, count: u64| ByteRange::new(first * BLOCK_SIZE, count * BLOCK_SIZE);
    assert_eq!(changed(None, a), [blocks(0, 100)]);
    assert_eq!(changed(Some(a), b), [blocks(90, 20)]);
    assert_eq!(
        changed(Some(b), c),
        [blocks(3, 4), blocks(90, 20)],
        "through the ancestor"
    );
    assert_eq!(changed(Some(c), b), [blocks(3, 4), blocks(90, 20)]);
    assert_eq!(changed(Some(a), a), []);
    assert_eq!(changed(None, c), [blocks(0, 3), blocks(7, 93)]);
}

pub(super) fn importing_raw<S: Storage>(world: &mut World<S>) {
    let folder = std::env::temp_dir();
    let path = folder.join(format!("stillpoint-import-{}", world.volume_id()));
    let mut bytes = content(&[(0, 3, 1), (100, 50, 2)]);
    bytes.truncate(bytes.len() - 100);
    std::fs::write(&path, &bytes).expect("writes");
    bytes.resize(bytes.len() + 100, 0);
    let volume = world.volume_id();
    let source = ImageSource {
        path: path.clone(),
        format: ImageFormat::Raw,
    };
    let import = |volume, max| world.pool().import(volume, &source, max, &NullMonitor);
    let large = import(volume, ByteCount::new(SIZE.get() - 512));
    assert_eq!(large.map_err(|e| e.kind()), Err(ErrorKind::Invalid));
    let first = import(volume, SIZE).expect("imports");
    std::fs::remove_file(&path).expect("removes");
    assert_eq!(import(volume, SIZE).expect("was done"), first);
    assert!(import(world.volume_id(), SIZE).is_err(), "the file is gone");
    assert!(world.read_volume(volume) == bytes);
}

pub(super) fn reader_keeps_its_layers<S: Storage>(world: &mut World<S>) {
    let volume = world.volume();
    world.write(volume, 0, 10, 1);
    let snapshot = world.snapshot(volume);
    world.write(volume, 5, 10, 2);
    let layer = world.pool().snapshot_layer(snapshot).expect("exists");
    let reader = world.pool().open_layer(layer).expect("opens");
    world.pool().delete_snapshot(snapshot).expect("deletes");
    world.stop(volume);
    world.pool().delete_volume(volume).expect("deletes");
    assert_eq!(world.pool().merge_candidates(), Vec::new());
    let mut block = vec![0; 4096];
    reader.read_at(9 * BLOCK_SIZE, &mut block).expect("reads");
    assert_eq!(block, vec![1; 4096]);
    drop(reader);
    assert!(world.tidy().expect("removes") > 0);
    assert_eq!(world.pool().tree().layers().count(), 0);
}

/// Cancels once something moved.
#[derive(Default)]
struct CancelSoon(AtomicBool);

impl Monitor for CancelSoon {
    fn progress(&self, _done: ByteCount, total: Option<ByteCount>) {
        assert!(total.is_some());
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

pub(super) fn cancelled_merge_changes_nothing<S: Storage>(world: &mut World<S>) {
    for (below, above) in [(200, 20), (20, 200)] {
        let volume = world.volume();
        world.write(volume, 0, below, 1);
        let snapshot = world.snapshot(volume);
        for block in 0..above / 2 {
            world.write(volume, block * 2, 1, 2);
            if block > 20 {
                world.write(volume, 44, above - 44, 2);
                break;
            }
        }
        let before = world.read_volume(volume);
        if world.is_live() {
            world.snapshot(volume);
        }
        world.pool().delete_snapshot(snapshot).expect("deletes");
        let candidate = world.first_merge();
        let cancelled = world.pool().merge(&candidate, &CancelSoon::default());
        assert_eq!(cancelled.map_err(|e| e.kind()), Err(ErrorKind::Cancelled));
        assert!(world.read_volume(volume) == before);
        let now = world.first_merge();
        let done = world.pool().merge(&now, &NullMonitor).expect("merges");
        assert_eq!(done, MergeOutcome::Done);
        assert!(world.read_volume(volume) == before);
        let repeated = world.pool().merge(&now, &NullMonitor).expect("was done");
        assert_eq!(repeated, MergeOutcome::Done);
    }
}

/// Opens a layer whenever something has moved, as backups would on a busy pool.
struct Busy<'a> {
    open: &'a (dyn Fn() + Sync),
    pieces: AtomicU64,
}

impl Monitor for Busy<'_> {
    fn progress(&self, _done: ByteCount, _total: Option<ByteCount>) {
        if self.pieces.fetch_add(1, Ordering::Relaxed) % 3 == 2 {
            (self.open)();
        }
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}

/// A merge that gives way again and again ends, and moves nothing twice.
pub(super) fn merge_that_gives_way_ends<S: Storage>(world: &mut World<S>) {
    for (below, above) in [(200, 80), (80, 200)] {
        let volume = world.volume();
        world.write(volume, 0, below, 1);
        let doomed = world.snapshot(volume);
        for block in 0..above / 2 {
            world.write(volume, block * 2, 1, 2);
        }
        let kept = world.snapshot(volume);
        let before = world.read_snapshot(kept);
        world.pool().delete_snapshot(doomed).expect("deletes");
        let candidate = world.first_merge();
        let layer = world.pool().snapshot_layer(kept).expect("exists");
        let pool = world.pool();
        let attempts = std::thread::scope(|scope| {
            let (ask, asked) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                while asked.recv().is_ok() {
                    drop(pool.open_layer(layer).expect("opens"));
                }
            });
            let monitor = Busy {
                open: &|| {
                    let _ended = ask.send(());
                    while !pool.is_wanted(layer) {
                        std::thread::yield_now();
                    }
                },
                pieces: AtomicU64::new(0),
            };
            let mut attempts = 1;
            while pool.merge(&candidate, &monitor).expect("merges") == MergeOutcome::GaveWay {
                attempts += 1;
                assert!(attempts < 100, "the merge never ends");
                while pool.merge_candidates().is_empty() {
                    std::thread::yield_now();
                }
            }
            attempts
        });
        assert!(attempts > 5, "it was asked to give way {attempts} times");
        assert!(world.read_snapshot(kept) == before);
    }
}
