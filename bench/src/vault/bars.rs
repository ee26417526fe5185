//! What was to be reached beside the best deduplicating tool of each column, and what was.

use std::time::Duration;

use stillpoint_model::ByteCount;

use super::contenders::{CONTENDERS, OURS, OURS_UNTRACKED};
use super::cost::Cost;
use super::{Results, Step, mib, primitives};
use crate::goals::goal;

/// Peak memory of a step, beyond that of a process that opened the vault and does nothing.
const MEMORY_BAR: ByteCount = ByteCount::from_mib(64);

/// Prints every ratio next to its bar.
pub fn print(results: &Results) {
    let bars = Bars { results };
    println!("beside the best deduplicating tool of each column in this run\n");
    bars.time(OURS, Step::First, Some(0.45), 0.7);
    bars.primitives();
    bars.busy();
    bars.stored();
    bars.time(OURS, Step::Increment, None, 0.1);
    bars.time(OURS, Step::Repeat, None, 0.1);
    bars.time(OURS_UNTRACKED, Step::Increment, None, 0.3);
    bars.time(OURS_UNTRACKED, Step::Repeat, None, 0.3);
    bars.time(OURS, Step::Restore, Some(0.4), 0.6);
    bars.time(OURS, Step::Check, None, 0.35);
    bars.memory();
}

/// The best value that a deduplicating tool has, and whose it is.
fn best<T: Ord>(value: impl Fn(&'static str) -> Option<T>) -> Option<(T, &'static str)> {
    CONTENDERS
        .iter()
        .filter(|contender| contender.deduplicates)
        .filter_map(|contender| Some((value(contender.name)?, contender.name)))
        .min()
}

struct Bars<'a> {
    results: &'a Results,
}

impl Bars<'_> {
    /// The best value that a deduplicating tool has in a column, and whose it is.
    fn time(&self, who: &'static str, step: Step, wall: Option<f64>, cpu: f64) {
        if let Some(bar) = wall {
            self.ratio(who, step, "wall", bar, |cost| cost.wall);
        }
        self.ratio(who, step, "CPU", cpu, |cost| cost.cpu);
    }

    fn ratio(
        &self,
        who: &'static str,
        step: Step,
        unit: &str,
        bar: f64,
        part: impl Fn(Cost) -> Duration,
    ) {
        let of = |name| self.results.cost(name, step).map(&part);
        let (Some(ours), Some((best, whose))) = (of(who), best(of)) else {
            return;
        };
        let ratio = ours.as_secs_f64() / best.as_secs_f64();
        goal(
            &format!("{}, {who}", step.title()),
            &format!("at most {bar:.2} x {unit} of {whose}"),
            &format!("{ratio:.2} x"),
            ratio <= bar,
        );
    }

    fn primitives(&self) {
        let cpu = |name| Some(self.results.cost(name, Step::First)?.cpu.as_secs_f64());
        if let (Some(ours), Some(least)) = (cpu(OURS), cpu(primitives::NAME)) {
            let ratio = ours / least;
            goal(
                Step::First.title(),
                "at most 1.25 x CPU of the primitives",
                &format!("{ratio:.2} x"),
                ratio <= 1.25,
            );
        }
    }

    fn busy(&self) {
        let figure = |name| self.results.figure(OURS, Step::First, name);
        let cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        let (Some(wall), Some(cpu), Some(waited)) = (
            figure("stored_s"),
            figure("stored_cpu_s"),
            figure("waited_s"),
        ) else {
            return;
        };
        let busy = cpu / (wall * cores);
        goal(
            "first A, until the last pack",
            "the cores at least 85 % busy",
            &format!(
                "{:.0} %, with {:.0} % of the time waiting for the target",
                busy * 100.0,
                waited / wall * 100.0
            ),
            busy >= 0.85,
        );
    }

    fn stored(&self) {
        let all = |name| self.results.stored(name, Step::Sibling);
        let added = |name| {
            let before = self.results.stored(name, Step::First)?;
            Some(
                self.results
                    .stored(name, Step::Increment)?
                    .saturating_sub(before),
            )
        };
        self.share("stored for A, B and C", 0.85, all);
        self.share("what B adds", 0.25, added);
    }

    fn share(&self, what: &str, bar: f64, value: impl Fn(&'static str) -> Option<ByteCount>) {
        let (Some(ours), Some((best, whose))) = (value(OURS), best(&value)) else {
            return;
        };
        let ratio = ours.get() as f64 / best.get() as f64;
        goal(
            what,
            &format!("at most {bar:.2} x {whose}"),
            &format!("{ratio:.2} x ({} of {} MiB)", mib(ours), mib(best)),
            ratio <= bar,
        );
    }

    fn memory(&self) {
        let peak = |step| self.results.cost(OURS, step).map(|cost| cost.peak);
        let peak = Step::ALL.into_iter().filter_map(peak).max();
        let (Some(idle), Some(peak)) = (self.results.idle, peak) else {
            return;
        };
        let above = peak.saturating_sub(idle);
        goal(
            "peak memory of any step, Stillpoint",
            "at most 64 MiB above idle",
            &format!("{} MiB above {} MiB", mib(above), mib(idle)),
            above <= MEMORY_BAR,
        );
    }
}
