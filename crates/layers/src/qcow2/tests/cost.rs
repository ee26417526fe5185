//! What a snapshot costs, whatever the volume holds. Run by hand:
//! `cargo test -p stillpoint-layers cost -- --ignored --nocapture`.

use std::time::Duration;

use stillpoint_env::SystemEnv;
use stillpoint_model::id::VolumeId;
use stillpoint_model::task::CloneSource;
use stillpoint_model::{ByteCount, Env};

use super::Bench;
use crate::qcow2::Qcow2Driver;
use crate::{LayerPool, Pool};

const ROUNDS: usize = 200;
const SIZE: ByteCount = ByteCount::from_gib(1 << 10);
const WRITES: u64 = 100_000;

/// The times of a row: of the volume that is full, and of the empty one.
type Row = [Vec<Duration>; 2];

fn timed<T>(env: &dyn Env, work: impl FnOnce() -> T) -> Duration {
    let start = env.monotonic();
    work();
    env.monotonic().saturating_sub(start)
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[times.len() * percent / 100]
}

fn print(what: &str, row: &mut Row) {
    let [full, empty] = row;
    let [a, b, c, d] = [
        percentile(full, 50),
        percentile(empty, 50),
        percentile(full, 99),
        percentile(empty, 99),
    ];
    let ratio = a.as_secs_f64() / b.as_secs_f64();
    println!("{what:<12} p50 full {a:>8.1?} empty {b:>8.1?} ratio {ratio:.2}; p99 {c:.1?} {d:.1?}");
}

fn volume(bench: &Bench, pool: &LayerPool<Qcow2Driver>, writes: u64) -> VolumeId {
    let volume = bench.volume();
    let writer = pool.begin_restore(volume, SIZE).unwrap();
    for index in 0..writes {
        // Sorted, so that filling is quick; each in a cluster of its own.
        let offset = index * (SIZE.get() / writes) / 4096 * 4096;
        writer.write_at(offset, &[7; 4096]).unwrap();
    }
    writer.finish().unwrap();
    volume
}

/// Each round takes the volumes as they are, full and empty by turns: the tip goes back to the
/// first layer, untimed, so that every snapshot seals what is as full.
#[test]
#[ignore = "measures, by hand"]
fn a_snapshot_costs_the_same_whatever_the_volume_holds() {
    let env = SystemEnv::new();
    let bench = Bench::in_folder(tempfile::tempdir().unwrap(), 1);
    let pool = bench.open();
    let pair = [volume(&bench, &pool, WRITES), volume(&bench, &pool, 0)];
    let mut seals = Row::default();
    let bases = [0, 1].map(|which| {
        let base = bench.snapshot();
        seals[which].push(timed(&env, || pool.snapshot(pair[which], base).unwrap()));
        base
    });
    let [mut snapshots, mut clones, mut rolls] = [(); 3].map(|()| Row::default());
    for _ in 0..ROUNDS {
        for which in [0, 1] {
            let (volume, base) = (pair[which], bases[which]);
            let (snapshot, safety, clone) = (bench.snapshot(), bench.snapshot(), bench.volume());
            let source = CloneSource::Snapshot(base);
            snapshots[which].push(timed(&env, || pool.snapshot(volume, snapshot).unwrap()));
            clones[which].push(timed(&env, || pool.clone_volume(source, clone).unwrap()));
            rolls[which].push(timed(&env, || {
                pool.roll_back(volume, base, safety).unwrap()
            }));
            pool.delete_volume(clone).unwrap();
            pool.delete_snapshot(safety).unwrap();
            pool.delete_snapshot(snapshot).unwrap();
        }
    }
    print("first seal", &mut seals);
    print("snapshot", &mut snapshots);
    print("clone", &mut clones);
    print("roll back", &mut rolls);
}
