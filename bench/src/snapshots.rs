//! How long snapshots, roll backs and clones take: volumes of 1 GiB to 1 TiB, never written and written all over.
//!
//! What does not depend on size or fill has the same figure in every column.

mod baselines;
mod pool;

use std::time::Duration;

use stillpoint_tests::cache_folder;

use crate::goals::{at_most, goal};
use crate::samples::Samples;
use crate::table::{Table, milliseconds, ratio};
use crate::volumes::{VOLUMES, Volume, WRITES};
use crate::xfs::Xfs;
use baselines::{CreateOverlay, InternalSnapshot, Reflink};
use pool::OurPool;

/// Rounds at most, and how long one contender may take on one volume in all.
const ROUNDS: usize = 100;
const BUDGET: Duration = Duration::from_secs(6);

/// Something that takes snapshots.
pub trait Contender {
    /// What it measures in a round, one row of the table each.
    fn rows(&self) -> &'static [&'static str];

    /// Makes `volume` ready.
    fn prepare(&mut self, volume: Volume);

    /// Measures each of [`Contender::rows`] once, and undoes it untimed.
    fn round(&mut self, volume: Volume) -> Vec<Duration>;
}

/// The samples of one row of one contender, per volume.
struct Row {
    title: &'static str,
    samples: Vec<Samples>,
}

impl Row {
    fn percentile(&self, volume: usize, percent: usize) -> Option<Duration> {
        self.samples[volume].percentile(percent)
    }
}

/// Prepares, measures in interleaved rounds, prints.
pub fn run() {
    let scratch = tempfile::Builder::new()
        .prefix("bench.")
        .tempdir_in(cache_folder())
        .expect("a folder");
    let xfs = Xfs::create(scratch.path());
    let mut contenders: Vec<Box<dyn Contender>> = vec![
        Box::new(OurPool::new(scratch.path())),
        Box::new(CreateOverlay::new(scratch.path())),
        Box::new(InternalSnapshot::new(scratch.path())),
        Box::new(Reflink::new(xfs.path())),
    ];
    for contender in &mut contenders {
        for volume in VOLUMES {
            contender.prepare(volume);
        }
    }
    let rows = measure(&mut contenders);
    print(&rows);
}

fn measure(contenders: &mut [Box<dyn Contender>]) -> Vec<Row> {
    let row = |title: &&'static str| Row {
        title,
        samples: VOLUMES.iter().map(|_| Samples::default()).collect(),
    };
    let mut groups: Vec<Vec<Row>> = contenders
        .iter()
        .map(|c| c.rows().iter().map(row).collect())
        .collect();
    for _ in 0..ROUNDS {
        for (index, volume) in VOLUMES.into_iter().enumerate() {
            for (contender, rows) in contenders.iter_mut().zip(&mut groups) {
                let spent: Duration = rows.iter().map(|row| row.samples[index].total()).sum();
                if spent >= BUDGET {
                    continue;
                }
                for (row, sample) in rows.iter_mut().zip(contender.round(volume)) {
                    row.samples[index].push(sample);
                }
            }
        }
    }
    groups.into_iter().flatten().collect()
}

fn print(rows: &[Row]) {
    println!("\nSnapshots: milliseconds; a used volume has seen {WRITES} scattered 4 KiB writes\n");
    for percent in [50, 99] {
        let titles = VOLUMES.map(Volume::title);
        let mut table = Table::new(std::iter::once(format!("p{percent}")).chain(titles));
        for row in rows {
            let cells = (0..VOLUMES.len()).map(|v| milliseconds(row.percentile(v, percent)));
            table.row(std::iter::once(row.title.to_owned()).chain(cells));
        }
        println!("{table}");
    }
    let mut table = Table::new(["p50", "rounds", "largest used / smallest fresh"]);
    for row in rows {
        let counts = row.samples.iter().map(Samples::count);
        let (fewest, most) = (counts.clone().min().unwrap_or(0), counts.max().unwrap_or(0));
        let rounds = if fewest == most {
            most.to_string()
        } else {
            format!("{fewest} to {most}")
        };
        let growth = ratio(row.percentile(VOLUMES.len() - 1, 50), row.percentile(0, 50));
        table.row([row.title.to_owned(), rounds, growth]);
    }
    println!("{table}");
    goals(rows);
}

/// What the issue asks of a snapshot: the worst of all volumes counts.
fn goals(rows: &[Row]) {
    let row = |title: &str| rows.iter().find(|row| row.title == title);
    let (Some(ours), Some(theirs)) = (
        row("Stillpoint snapshot"),
        row("qemu-img create -b, with fsyncs"),
    ) else {
        return;
    };
    let mut all_met = true;
    let ratios: Vec<String> = (0..VOLUMES.len())
        .map(|v| {
            let (met, ratio) = at_most(ours.percentile(v, 50), 1.5, theirs.percentile(v, 50));
            all_met &= met;
            ratio
        })
        .collect();
    goal(
        "a snapshot beside qemu-img create -b with fsyncs",
        "at most 1.5 x on every volume",
        &ratios.join(", "),
        all_met,
    );
    let (empty, used) = (VOLUMES.len() - 2, VOLUMES.len() - 1);
    let (met, ratio) = at_most(ours.percentile(used, 50), 1.2, ours.percentile(empty, 50));
    goal(
        "1 TiB with 100,000 scattered writes beside the empty one",
        "at most 1.2 x",
        &ratio,
        met,
    );
}
