//! How much the fault tests try: a little in every run, more where somebody asks for it.
//!
//! `STILLPOINT_TORTURE=N` makes every figure N times as large (`docs/torture.md`). A seed is a bug
//! report: a failure names it, and `STILLPOINT_SEED=S` runs that one alone.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use stillpoint_env::SystemEnv;
use stillpoint_model::Env;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// A figure of every run, or what it grows to under torture.
pub fn figure(small: u64) -> u64 {
    small * number("STILLPOINT_TORTURE").unwrap_or(1).max(1)
}

/// Runs every seed of a row on all cores, and says in one line how it went. `run` gives what it
/// counted, such as faults.
pub fn each_seed(row: &str, counted: &str, seeds: Range<u64>, run: impl Fn(u64) -> u64 + Sync) {
    let env = SystemEnv::new();
    let start = env.monotonic();
    let seeds = match number("STILLPOINT_SEED") {
        Some(only) => only..only + 1,
        None => seeds,
    };
    let (next, count) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let work = || -> Result<(), Box<dyn Any + Send>> {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= seeds.end {
                return Ok(());
            }
            match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                Ok(more) => count.fetch_add(more, Ordering::SeqCst),
                Err(panic) => {
                    next.store(seeds.end, Ordering::SeqCst);
                    eprintln!("{row}: seed {seed} failed: replay it with STILLPOINT_SEED={seed}");
                    return Err(panic);
                }
            };
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            if let Err(panic) = worker.join().unwrap() {
                resume_unwind(panic);
            }
        }
    });
    let (seeds, count) = (seeds.end - seeds.start, count.into_inner());
    let took = (env.monotonic() - start).as_secs_f64();
    println!("torture: {row}: {seeds} seeds, {count} {counted}, {took:.1} s");
    let is_one = number("STILLPOINT_SEED").is_some();
    assert!(count > 0 || is_one, "{row}: no {counted} in any seed");
}
