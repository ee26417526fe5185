//! What a snapshot costs, whatever the volume holds. Run by hand:
//! `cargo test -p stillpoint-layers cost -- --ignored --nocapture`.

use std::process::Command;
use std::time::Duration;

use stillpoint_env::SystemEnv;
use stillpoint_model::task::CloneSource;
use stillpoint_model::{ByteCount, Env};

use super::{Bench, run};
use crate::Pool;

const ROUNDS: usize = 100;

fn timed<T>(env: &dyn Env, work: impl FnOnce() -> T) -> (Duration, T) {
    let start = env.monotonic();
    let answer = work();
    (env.monotonic().saturating_sub(start), answer)
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let p50 = times[times.len() / 2];
    let p99 = times[times.len() * 99 / 100];
    println!("{what:<44} p50 {p50:>10.1?}  p99 {p99:>10.1?}");
}

#[test]
#[ignore = "measures, by hand"]
fn a_snapshot_costs_the_same_whatever_the_volume_holds() {
    let env = SystemEnv::new();
    for (gib, writes) in [(1, 0), (1024, 0), (1024, 100_000)] {
        let bench = Bench::new(gib + writes);
        let pool = bench.open();
        let volume = bench.volume();
        let size = ByteCount::from_gib(gib);
        let mut writer = pool.begin_restore(volume, size).unwrap();
        let block = [7; 4096];
        for index in 0..writes {
            // Sorted, so that filling is quick; each in a cluster of its own.
            writer
                .write_at(index * (size.get() / writes) / 4096 * 4096, &block)
                .unwrap();
        }
        writer.finish().unwrap();
        let (mut snapshots, mut clones, mut rolls) = (Vec::new(), Vec::new(), Vec::new());
        let mut qemu = Vec::new();
        for _ in 0..ROUNDS {
            let snapshot = bench.snapshot();
            snapshots.push(timed(&env, || pool.snapshot(volume, snapshot).unwrap()).0);
            let source = CloneSource::Snapshot(snapshot);
            let clone = bench.volume();
            clones.push(timed(&env, || pool.clone_volume(source, clone).unwrap()).0);
            let safety = bench.snapshot();
            rolls.push(timed(&env, || pool.roll_back(volume, snapshot, safety).unwrap()).0);
            let base = bench.layer_path(pool.snapshot_layer(snapshot).unwrap());
            let mut create = Command::new("qemu-img");
            create.args(["create", "-q", "-f", "qcow2", "-F", "qcow2"]);
            create
                .args(["-o", "extended_l2=on,cluster_size=128k", "-b"])
                .arg(base);
            create.arg(bench.path("overlay.qcow2"));
            qemu.push(timed(&env, || run(&mut create)).0);
        }
        println!("{gib} GiB, {writes} scattered writes");
        print("  snapshot", snapshots);
        print("  clone of a snapshot", clones);
        print("  roll back", rolls);
        print("  qemu-img create -b, no sync", qemu);
    }
}
