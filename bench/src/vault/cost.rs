//! What a process, and all that it starts, costs.
//!
//! A step is a line of shell. It runs below a small process of this very program, which waits for
//! it and then asks the system what its children used: nothing else is among them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use stillpoint_model::ByteCount;

use super::contenders;
use crate::samples::timed;

/// What one run of a step cost.
#[derive(Clone, Copy)]
pub struct Cost {
    /// From start to end.
    pub wall: Duration,
    /// User and system time of all its processes.
    pub cpu: Duration,
    /// The most memory that one of its processes had at once.
    pub peak: ByteCount,
}

impl Cost {
    /// The median of each figure for itself.
    pub fn median(costs: &[Self]) -> Self {
        Self {
            wall: middle(costs.iter().map(|cost| cost.wall)),
            cpu: middle(costs.iter().map(|cost| cost.cpu)),
            peak: middle(costs.iter().map(|cost| cost.peak)),
        }
    }
}

fn middle<T: Ord>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    let middle = values.len() / 2;
    values.swap_remove(middle)
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wall, cpu) = (seconds(self.wall), seconds(self.cpu));
        write!(f, "{wall} / {cpu}")
    }
}

fn seconds(duration: Duration) -> String {
    let s = duration.as_secs_f64();
    match s {
        ..1.0 => format!("{s:.2}"),
        1.0..10.0 => format!("{s:.1}"),
        _ => format!("{s:.0}"),
    }
}

/// What a step printed about itself: lines of `name=number`.
pub type Figures = Vec<(String, f64)>;

/// Runs a script in a folder, after everything before it has reached the disk.
///
/// # Panics
/// When it fails.
pub fn measure(
    who: &str,
    script: &str,
    variables: &[(&str, PathBuf)],
    folder: &Path,
) -> (Cost, Figures) {
    let report = tempfile::NamedTempFile::new().expect("a file");
    let program = std::env::current_exe().expect("this program");
    settle_disk();
    let output = Command::new(&program)
        .arg("--measure")
        .arg(report.path())
        .args(["sh", "-ec", script])
        .env("BENCH", &program)
        .env("PATH", contenders::path())
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .current_dir(folder)
        .output()
        .expect("this program starts");
    assert!(
        output.status.success(),
        "{who}: `{script}` failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let figures = text.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    let report = fs::read_to_string(report.path()).expect("a report");
    (parse(&report), figures.collect())
}

/// Dirty pages of one step are no burden of the next.
fn settle_disk() {
    nix::unistd::sync();
}

fn parse(report: &str) -> Cost {
    let mut numbers = report
        .split_whitespace()
        .map(|word| word.parse().expect("a number"));
    let mut next = || numbers.next().expect("three numbers");
    Cost {
        wall: Duration::from_micros(next()),
        cpu: Duration::from_micros(next()),
        peak: ByteCount::new(next() * 1024),
    }
}

/// `--measure REPORT COMMAND...`: runs the command and writes down what it cost.
pub fn wrap(args: &[String]) {
    let [report, program, args @ ..] = args else {
        panic!("usage: --measure REPORT COMMAND...");
    };
    let (wall, status) = timed(|| Command::new(program).args(args).status());
    let status = status.expect("the command starts");
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).expect("what it used");
    let cpu = micros(used.user_time()) + micros(used.system_time());
    let text = format!("{} {cpu} {}", wall.as_micros(), used.max_rss());
    fs::write(report, text).expect("the report is written");
    std::process::exit(status.code().unwrap_or(1));
}

fn micros(time: TimeVal) -> i64 {
    time.tv_sec() * 1_000_000 + time.tv_usec()
}

/// User and system time of this process so far.
pub fn own_cpu() -> Duration {
    let used = getrusage(UsageWho::RUSAGE_SELF).expect("what it used");
    let cpu = micros(used.user_time()) + micros(used.system_time());
    Duration::from_micros(cpu.unsigned_abs())
}
