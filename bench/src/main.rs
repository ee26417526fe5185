//! Figures, side by side with the tools a user would pick instead.
//!
//! Contenders run interleaved, in one process run on one file system, so that a busy moment of
//! the machine touches all of them alike. Everything timed is real: real files, real fsyncs,
//! real processes. Needs root and the packages of `scripts/deps bench`.
//!
//! `stillpoint-bench` runs everything, `stillpoint-bench NAME...` only what is named.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints figures and ends when one cannot be had"
)]

mod goals;
mod guests;
mod increments;
mod machine;
mod samples;
mod service;
mod snapshots;
mod table;
mod vault;
mod volumes;
mod xfs;

/// A benchmark: its name on the command line and what runs it.
type Benchmark = (&'static str, fn());

const BENCHMARKS: [Benchmark; 7] = [
    ("snapshots", snapshots::run),
    ("increments", increments::run),
    ("service", service::run),
    ("vault", vault::run),
    ("vault-s3", vault::run_with_buckets),
    ("guests", guests::run),
    ("guests-of-backups", guests::run_of_backups),
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    // What the benchmarks of backups and of guests start.
    match wanted.split_first() {
        Some((flag, rest)) if flag == "--measure" => return vault::wrap(rest),
        Some((flag, rest)) if flag == "--vault" => return vault::child(rest),
        Some((flag, _)) if flag == "--probe" => return guests::probe(),
        Some((flag, _)) if flag == "--guard" => return guests::guard(),
        _ => {}
    }
    let known = |name: &String| BENCHMARKS.iter().any(|(known, _)| known == name);
    if let Some(unknown) = wanted.iter().find(|name| !known(name)) {
        let names = BENCHMARKS.map(|(name, _)| name).join(", ");
        eprintln!("no benchmark is called {unknown}; there are: {names}");
        std::process::exit(2);
    }
    machine::describe();
    for (name, benchmark) in BENCHMARKS {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            benchmark();
        }
    }
}
