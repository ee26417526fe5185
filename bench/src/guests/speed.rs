//! What layers cost a guest that reads and writes, and what the first writes after a snapshot cost.

use std::time::Duration;

use super::mailbox::{Answer, Ask, Pattern};
use super::ours::Ours;
use super::{Guest as _, LAYERED, PLAIN};
use crate::goals::{at_most, goal};
use crate::samples::Samples;
use crate::table::{Table, milliseconds};

const PATTERNS: [(Pattern, &str); 4] = [
    (Pattern::RandomRead, "random read"),
    (Pattern::SequentialRead, "read"),
    (Pattern::RandomWrite, "random write"),
    (Pattern::SequentialWrite, "write"),
];
/// How deep the chain is, and the share of random reads that this may cost at most.
const DEPTHS: [(usize, Option<f64>); 3] = [(1, None), (5, Some(0.15)), (20, Some(0.40))];
/// How often each disk is measured at each depth, in turns, and for how long.
const TURNS: u32 = 3;
const MILLIS: u64 = 500;
/// How many blocks are written between two snapshots.
const SCATTERED: u64 = 1000;
/// How many first writes are timed after each snapshot, and after how many snapshots.
const TOUCHED: u64 = 100;
const TOUCHES: u32 = 4;

/// Operations per second on the layered disk and on the plain one, for each pattern.
struct Speeds {
    title: String,
    most: Option<f64>,
    pairs: Vec<(f64, f64)>,
}

/// First and second writes.
struct Touched {
    title: &'static str,
    first: Samples,
    second: Samples,
}

/// Everything that was measured.
pub struct Figures {
    speeds: Vec<Speeds>,
    touched: Vec<Touched>,
}

/// Measures the disk of the machine that is for it.
pub fn measure(ours: &mut Ours) -> Figures {
    let mut speeds = Vec::new();
    for (depth, most) in DEPTHS {
        while ours.depth() < depth {
            ours.deepen_all();
            let device = LAYERED.to_owned();
            ours.mailbox().ask(&Ask::Scatter {
                device,
                count: SCATTERED,
            });
        }
        speeds.push(speeds_of(ours, layers(ours.depth()), most));
    }
    ours.flatten();
    let title = format!("after deletion, {}", layers(ours.depth()));
    speeds.push(speeds_of(ours, title, None));
    let touched = [("4 KiB", false), ("4 KiB, durable", true)];
    let touched = touched
        .map(|(title, durable)| touch(ours, title, durable))
        .into();
    ours.flatten();
    Figures { speeds, touched }
}

fn layers(depth: usize) -> String {
    format!("{depth} {}", if depth == 1 { "layer" } else { "layers" })
}

fn speeds_of(ours: &mut Ours, title: String, most: Option<f64>) -> Speeds {
    // What is measured is not the first write to a cluster: that is a figure of its own.
    moved(ours, LAYERED, Pattern::SequentialWrite);
    let pair = |(pattern, _)| {
        let (mut layered, mut plain) = (0.0, 0.0);
        for _ in 0..TURNS {
            layered += moved(ours, LAYERED, pattern);
            plain += moved(ours, PLAIN, pattern);
        }
        (layered / f64::from(TURNS), plain / f64::from(TURNS))
    };
    let pairs = PATTERNS.into_iter().map(pair).collect();
    Speeds { title, most, pairs }
}

fn moved(ours: &mut Ours, device: &str, pattern: Pattern) -> f64 {
    let device = device.to_owned();
    match ours.mailbox().ask(&Ask::Move {
        device,
        pattern,
        millis: MILLIS,
    }) {
        Answer::Moved { operations, micros } => {
            operations as f64 / Duration::from_micros(micros.max(1)).as_secs_f64()
        }
        other => panic!("{other:?}"),
    }
}

fn touch(ours: &mut Ours, title: &'static str, durable: bool) -> Touched {
    let (mut first, mut second) = (Samples::default(), Samples::default());
    for _ in 0..TOUCHES {
        ours.deepen_all();
        let (device, count) = (LAYERED.to_owned(), TOUCHED);
        match ours.mailbox().ask(&Ask::Touch {
            device,
            count,
            durable,
        }) {
            Answer::Touched {
                first_us,
                second_us,
            } => {
                let add = |samples: &mut Samples, all: Vec<u64>| {
                    all.into_iter()
                        .map(Duration::from_micros)
                        .for_each(|one| samples.push(one));
                };
                add(&mut first, first_us);
                add(&mut second, second_us);
            }
            other => panic!("{other:?}"),
        }
    }
    Touched {
        title,
        first,
        second,
    }
}

/// Prints tables and goals.
pub fn print(figures: &Figures) {
    let titles = PATTERNS.map(|(_, title)| title);
    let mut table = Table::new(std::iter::once("per second, beside a plain file").chain(titles));
    for row in &figures.speeds {
        let cell = |(ours, plain): &(f64, f64)| format!("{ours:.0} {:.2} x", ours / plain);
        table.row(std::iter::once(row.title.clone()).chain(row.pairs.iter().map(cell)));
    }
    println!("{table}");
    let mut table = Table::new(["after a snapshot", "first p50", "p99", "again p50", "p99"]);
    for row in &figures.touched {
        let cells = [
            (&row.first, 50),
            (&row.first, 99),
            (&row.second, 50),
            (&row.second, 99),
        ];
        let cells = cells.map(|(samples, percent)| milliseconds(samples.percentile(percent)));
        table.row(std::iter::once(row.title.to_owned()).chain(cells));
    }
    println!("{table}");
    for row in &figures.speeds {
        let (Some(most), Some((ours, plain))) = (row.most, row.pairs.first()) else {
            continue;
        };
        let cost = 1.0 - ours / plain;
        goal(
            &format!("random reads through {}", row.title),
            &format!("cost at most {:.0} %", most * 100.0),
            &format!("{:.0} %", cost * 100.0),
            cost <= most,
        );
    }
    for row in &figures.touched {
        let (first, again) = (row.first.percentile(50), row.second.percentile(50));
        let (met, ratio) = at_most(first, 1.5, again);
        goal(
            &format!("first writes of {} after a snapshot", row.title),
            "at most 1.5 x",
            &ratio,
            met,
        );
    }
}
