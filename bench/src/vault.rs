//! Backups beside the tools one would use instead, on three disks of virtual machines.
//!
//! Every contender stores A, A again, B (A a day later) and C (a sibling of A), restores B and
//! checks everything it has. Steps go round: each step of every contender before the next step of
//! any, in processes of their own, whose time, processor time and peak memory are those of that
//! step alone. What was restored is compared with the disk, untimed. Everything is on one file
//! system. The disks to back up are in memory; what is restored or checked is on the disk alone.
//!
//! `VAULT_DISKS=short` takes small disks, `VAULT_ROUNDS=N` is how often it goes round (3). A round
//! keeps what all contenders store until its end: 20 GB beside `.cache/`, 6 GB with short disks.
//! A tool that is not installed is passed over, which the output says.
//!
//! `vault-s3` is the same with buckets of Ceph's gateway on this machine, whose own work is in nobody's
//! processor time but competes for the cores; those tools take part that know buckets.

mod bars;
mod contenders;
mod cost;
mod disks;
mod ours;
mod primitives;
mod shelf;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use stillpoint_model::ByteCount;
use stillpoint_tests::cache_folder;

use crate::table::Table;
use contenders::{CONTENDERS, Contender, OURS};
pub use cost::wrap;
use cost::{Cost, Figures, measure};
use disks::Disks;
pub use ours::child;
use shelf::{Kind, Shelf};

/// Its row: a restore as a node does it.
const INTO_POOL: &str = "Stillpoint, into a volume of a pool";

/// What every contender does, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    First,
    Repeat,
    Increment,
    Sibling,
    Restore,
    Check,
}

impl Step {
    const ALL: [Self; 6] = [
        Self::First,
        Self::Repeat,
        Self::Increment,
        Self::Sibling,
        Self::Restore,
        Self::Check,
    ];

    /// Its name in commands.
    const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Repeat => "repeat",
            Self::Increment => "increment",
            Self::Sibling => "sibling",
            Self::Restore => "restore",
            Self::Check => "check",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::First => "first A",
            Self::Repeat => "repeat A",
            Self::Increment => "B, a day later",
            Self::Sibling => "sibling C",
            Self::Restore => "restore B",
            Self::Check => "full check",
        }
    }

    /// Whether a table says how much is stored after it.
    const fn stores(self) -> bool {
        matches!(self, Self::First | Self::Increment | Self::Sibling)
    }
}

/// What was measured: by contender and step, one per round.
#[derive(Default)]
struct Results {
    costs: BTreeMap<(&'static str, Step), Vec<Cost>>,
    /// What our processes say of themselves, by contender, step and name.
    figures: BTreeMap<(&'static str, Step, String), Vec<f64>>,
    /// What is stored in all after a step.
    stored: BTreeMap<(&'static str, Step), ByteCount>,
    /// The memory of our process that opened the vault and does nothing.
    idle: Option<ByteCount>,
}

impl Results {
    fn cost(&self, contender: &'static str, step: Step) -> Option<Cost> {
        self.costs
            .get(&(contender, step))
            .map(|costs| Cost::median(costs))
    }

    fn figure(&self, contender: &'static str, step: Step, name: &str) -> Option<f64> {
        let figures = self.figures.get(&(contender, step, name.to_owned()))?;
        let mut sorted = figures.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }

    fn stored(&self, contender: &'static str, step: Step) -> Option<ByteCount> {
        self.stored.get(&(contender, step)).copied()
    }

    fn take_pool(&mut self, (cost, figures): (Cost, Figures)) {
        self.take(INTO_POOL, Step::Restore, cost, figures);
    }

    fn take(&mut self, contender: &'static str, step: Step, cost: Cost, figures: Figures) {
        self.costs.entry((contender, step)).or_default().push(cost);
        for (name, value) in figures {
            let key = (contender, step, name);
            self.figures.entry(key).or_default().push(value);
        }
    }
}

/// With folders.
pub fn run() {
    run_in(Kind::Folders);
}

/// With buckets.
pub fn run_with_buckets() {
    run_in(Kind::Buckets);
}

/// Makes the disks, goes round, prints.
fn run_in(places: Kind) {
    let kind = std::env::var("VAULT_DISKS").unwrap_or_else(|_| "full".to_owned());
    let rounds = std::env::var("VAULT_ROUNDS").map_or(3, |text| text.parse().expect("a number"));
    let title = places.title();
    println!("\nBackups {title}: three disks of virtual machines ({kind}), {rounds} rounds\n");
    let disks = Disks::make(&kind);
    disks.describe();
    let contenders = CONTENDERS
        .iter()
        .filter(|contender| places.suits(contender));
    let contenders: Vec<&Contender> = contenders.filter(|c| c.is_there()).collect();
    println!();
    let mut results = Results::default();
    for round in 0..rounds {
        go_round(
            &mut places.open(),
            &contenders,
            &disks,
            round == 0,
            &mut results,
        );
    }
    print_table(&contenders, &results);
    bars::print(&results);
}

fn go_round(
    shelf: &mut Shelf,
    contenders: &[&Contender],
    disks: &Disks,
    compare: bool,
    results: &mut Results,
) {
    let scratch = tempfile::Builder::new()
        .prefix("bench.vault.")
        .tempdir_in(cache_folder())
        .expect("a folder");
    disks.warm_up(Step::First);
    let (cost, figures) = primitives::measure(disks, scratch.path());
    results.take(primitives::NAME, Step::First, cost, figures);
    let places: Vec<Place> = contenders
        .iter()
        .zip(0..)
        .map(|(contender, number)| {
            let bucket = format!("contender-{number}");
            Place::make(shelf, scratch.path(), contender, bucket)
        })
        .collect();
    results.idle = idle(contenders, &places);
    for step in Step::ALL {
        for (contender, place) in contenders.iter().zip(&places) {
            let (cost, figures) = perform(contender, place, step, disks);
            eprintln!(
                "  {:<32} {:<10} {:6.2} s {:6.2} CPU s {:5.0} MiB",
                contender.name,
                step.name(),
                cost.wall.as_secs_f64(),
                cost.cpu.as_secs_f64(),
                cost.peak.get() as f64 / 1_048_576.0
            );
            results.take(contender.name, step, cost, figures);
            if step.stores() {
                let stored = shelf.size_of(&place.repository, &place.bucket);
                results.stored.insert((contender.name, step), stored);
            }
            if step == Step::Restore {
                if compare {
                    place.compare(contender, disks);
                }
                place.forget_restored();
                if contender.name == OURS {
                    results.take_pool(place.restore_into_pool(disks));
                }
            }
        }
    }
}

fn idle(contenders: &[&Contender], places: &[Place]) -> Option<ByteCount> {
    let mut both = contenders.iter().zip(places);
    let (_, place) = both.find(|(contender, _)| contender.name == OURS)?;
    let script = r#""$BENCH" --vault idle"#;
    let (cost, _) = measure(OURS, script, &place.folders(), &place.restored);
    Some(cost.peak)
}

fn perform(contender: &Contender, place: &Place, step: Step, disks: &Disks) -> (Cost, Figures) {
    let script = match step {
        Step::Restore => contender.restore,
        Step::Check => contender.check,
        _ => contender.backup,
    };
    let variables = place.variables(step, disks);
    match step {
        Step::Restore | Step::Check => disks::forget_cached(),
        _ => disks.warm_up(step),
    }
    measure(contender.name, script, &variables, &place.restored)
}

/// Where one contender works.
struct Place {
    /// A folder, or the address of the bucket.
    repository: PathBuf,
    bucket: String,
    credentials: Option<(&'static str, PathBuf)>,
    /// Keys, caches and the like: not what a backup needs.
    state: PathBuf,
    restored: PathBuf,
}

impl Place {
    /// Makes the folders and the repository, untimed.
    fn make(shelf: &mut Shelf, scratch: &Path, contender: &Contender, bucket: String) -> Self {
        let folder = scratch.join(contender.name.replace([' ', ','], "-"));
        let place = Self {
            repository: shelf.make(&folder, &bucket),
            bucket,
            credentials: shelf.credentials(),
            state: folder.join("state"),
            restored: folder.join("restored"),
        };
        for folder in [&place.state, &place.restored] {
            std::fs::create_dir_all(folder).expect("a folder");
        }
        let variables = place.folders();
        measure(contender.name, contender.init, &variables, &place.restored);
        place
    }

    fn folders(&self) -> Vec<(&'static str, PathBuf)> {
        let folders = [
            ("REPO", self.repository.clone()),
            ("STATE", self.state.clone()),
        ];
        folders
            .into_iter()
            .chain(self.credentials.clone())
            .collect()
    }

    fn variables(&self, step: Step, disks: &Disks) -> Vec<(&'static str, PathBuf)> {
        let mut variables = self.folders();
        variables.push(("STEP", step.name().into()));
        variables.push(("DISK", disks.of(step).to_owned()));
        variables.push(("CHANGED", disks.changed.clone()));
        variables
    }

    /// The restored disk must be the disk, or the figures are of nothing.
    fn compare(&self, contender: &Contender, disks: &Disks) {
        let script = "cmp \"$(find . -type f)\" \"$DISK\"";
        let variables = self.variables(Step::Restore, disks);
        measure(contender.name, script, &variables, &self.restored);
    }

    /// What a node does: into a volume of a pool. It compares the whole volume itself.
    fn restore_into_pool(&self, disks: &Disks) -> (Cost, Figures) {
        let variables = self.variables(Step::Restore, disks);
        disks::forget_cached();
        let script = r#""$BENCH" --vault restore pool"#;
        let measured = measure(INTO_POOL, script, &variables, &self.restored);
        self.forget_restored();
        measured
    }

    fn forget_restored(&self) {
        std::fs::remove_dir_all(&self.restored).expect("the restored disk goes");
        std::fs::create_dir(&self.restored).expect("a folder");
    }
}

fn print_table(contenders: &[&Contender], results: &Results) {
    println!("wall s / CPU s (MiB stored in all after the step), medians\n");
    let mut heading = vec!["".to_owned()];
    heading.extend(Step::ALL.map(|step| step.title().to_owned()));
    heading.push("peak MiB".to_owned());
    let mut table = Table::new(heading);
    for contender in contenders {
        let mut row = vec![contender.name.to_owned()];
        row.extend(Step::ALL.map(|step| cell(results, contender.name, step)));
        let peaks = Step::ALL
            .into_iter()
            .filter_map(|step| results.cost(contender.name, step));
        let peak = peaks.map(|cost| cost.peak.get()).max().unwrap_or(0);
        row.push(mib(ByteCount::new(peak)));
        table.row(row);
    }
    if let Some(cost) = results.cost(INTO_POOL, Step::Restore) {
        let mut row = vec![String::new(); Step::ALL.len() + 2];
        row[0] = INTO_POOL.to_owned();
        row[1 + Step::Restore as usize] = cost.to_string();
        row[1 + Step::ALL.len()] = mib(cost.peak);
        table.row(row);
    }
    if let Some(cost) = results.cost(primitives::NAME, Step::First) {
        table.row([primitives::NAME.to_owned(), cost.to_string()]);
    }
    println!("{table}");
}

fn cell(results: &Results, contender: &'static str, step: Step) -> String {
    let Some(cost) = results.cost(contender, step) else {
        return "-".to_owned();
    };
    match results.stored(contender, step) {
        Some(stored) => format!("{cost} ({})", mib(stored)),
        None => cost.to_string(),
    }
}

fn mib(bytes: ByteCount) -> String {
    format!("{:.0}", bytes.get() as f64 / 1_048_576.0)
}
