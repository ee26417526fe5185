//! What a snapshot costs the guest: how long its writes stand still, beside libvirt's external
//! snapshots; and what layers cost it afterwards, beside a plain file.
//!
//! Two real guests of one image run side by side, one on a pool of ours and one in libvirt, and take
//! turns; whoever is not measured stands idle. Each guest times its own writes: two threads write
//! 4 KiB, durably and past the cache, to files on two disks, and the longest of these writes while
//! the snapshot is taken is the stall. Under load others write to the same disks as fast as they
//! can. A stall of nothing, watched for as long, says what the machine itself does to such writes.
//!
//! A chain that a guest writes to is never merged down into its last layer but one, so "1 layer" is
//! two of ours from the second round on, and one of libvirt's.
//!
//! `GUEST_ROUNDS=N` is how often it goes round (6). With one vCPU each and without KVM the figures
//! of throughput are those of the emulated processor as much as of the layers: their ratios count.

mod image;
mod instant;
mod libvirt;
mod mailbox;
mod ours;
mod probe;
mod speed;

use std::ops::Range;
use std::time::Duration;

use stillpoint_env::SystemEnv;
use stillpoint_model::{ByteCount, Env as _};
use stillpoint_tests::cache_folder;
use stillpoint_tests::debian::qemu;
use stillpoint_tests::wait::{PATIENCE, until, wait_out};

use crate::goals::{at_most, goal};
use crate::samples::Samples;
use crate::table::{Table, milliseconds};
use image::Images;
pub use instant::measure as run_of_backups;
use libvirt::Libvirt;
use mailbox::{Answer, Ask, Mailbox};
use ours::Ours;
pub use probe::run as probe;

/// The disk by which host and guest speak, as the guest calls it.
const MAILBOX: &str = "vdd";
/// The disk whose speed is measured, and a plain file beside it.
const LAYERED: &str = "vde";
const PLAIN: &str = "vdf";
const MEMORY: ByteCount = ByteCount::from_mib(256);
/// The sizes of the disks whose writes are timed, and of those whose speed is measured.
const DATA_SIZE: ByteCount = ByteCount::from_mib(96);
const SPEED_SIZE: ByteCount = ByteCount::from_mib(128);
/// What of the latter is read, and what is written.
const READ_REGION: Range<u64> = 0..96 << 20;
const WRITE_REGION: Range<u64> = 96 << 20..128 << 20;
/// What a layer stores together.
const CLUSTER: u64 = 128 << 10;
const FREEZE_BOUND: Duration = Duration::from_secs(30);
const ROUNDS: u32 = 6;
/// How long the rounds may take at each depth.
const BUDGET: Duration = Duration::from_secs(75);
/// How long nothing is watched.
const NOTHING: Duration = Duration::from_millis(300);
/// How deep the chains are, about, when snapshots are taken.
const DEEP: u32 = 20;
const MAX_STALL: Duration = Duration::from_millis(60);

/// What a snapshot promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Crash,
    Frozen,
}

/// A machine whose two data disks are captured.
trait Guest {
    fn mailbox(&mut self) -> &mut Mailbox;

    /// Takes a snapshot of both.
    fn snapshot(&mut self, mode: Mode);

    /// Deletes the snapshot that was taken last, and merges what it kept apart.
    fn undo(&mut self);

    /// Takes a snapshot that stays.
    fn deepen(&mut self);
}

/// The guard of a frozen guest of ours.
pub fn guard() {
    let env = SystemEnv::new();
    stillpoint_machines::guard::run(&env, std::io::stdin(), std::io::stdout()).expect("guard");
}

/// Measures and prints.
pub fn run() {
    let rounds = std::env::var("GUEST_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let rounds = rounds.unwrap_or(ROUNDS);
    let in_folder = |prefix: &str, place| {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(place);
        folder.expect("a folder")
    };
    let folders = [(); 3].map(|()| in_folder("bench.", cache_folder()));
    // Sockets have short paths.
    let sockets = [(); 2].map(|()| in_folder("sp.", std::env::temp_dir()));
    let [images, ours, theirs] = folders.each_ref().map(tempfile::TempDir::path);
    let images = Images::make(images);
    let program = qemu();
    let mut ours = Ours::start(&images, ours, sockets[0].path(), &program);
    let accelerator = ours.accelerator();
    let sockets = sockets[1].path();
    let mut theirs = Libvirt::start(&images, theirs, sockets, &program, accelerator);
    println!("\nGuests: milliseconds; {accelerator:?}, {rounds} rounds at most\n");
    until(PATIENCE * 2, "both guests' agents", || {
        match (ours.is_ready(), theirs.is_ready()) {
            (true, true) => Ok(()),
            who => Err(format!("{who:?}")),
        }
    });
    let shallow = stalls(&mut ours, &mut theirs, rounds);
    let figures = speed::measure(&mut ours);
    for _ in 1..DEEP {
        ours.deepen();
        theirs.deepen();
    }
    let deep = stalls(&mut ours, &mut theirs, rounds);
    print_stalls(&shallow, &deep);
    speed::print(&figures);
}

/// One row of the table of stalls, at one depth.
struct Row {
    title: &'static str,
    quiet: Samples,
    loaded: Samples,
}

/// What is done while the writes are watched.
const ROWS: [(&str, Option<(bool, Mode)>); 5] = [
    ("nothing", None),
    ("Stillpoint", Some((true, Mode::Crash))),
    ("virsh snapshot-create-as", Some((false, Mode::Crash))),
    ("Stillpoint, frozen", Some((true, Mode::Frozen))),
    ("virsh ... --quiesce", Some((false, Mode::Frozen))),
];

fn stalls(ours: &mut Ours, theirs: &mut Libvirt, rounds: u32) -> Vec<Row> {
    let row = |(title, _)| Row {
        title,
        quiet: Samples::default(),
        loaded: Samples::default(),
    };
    let mut rows: Vec<Row> = ROWS.into_iter().map(row).collect();
    let env = SystemEnv::new();
    let deadline = env.monotonic() + BUDGET;
    for _ in 0..rounds {
        for ((_, what), row) in ROWS.into_iter().zip(&mut rows) {
            for (load, samples) in [(false, &mut row.quiet), (true, &mut row.loaded)] {
                samples.push(match what {
                    None => stall(ours, load, |_| wait_out(NOTHING)),
                    Some((true, mode)) => captured(ours, load, mode),
                    Some((false, mode)) => captured(theirs, load, mode),
                });
            }
        }
        if env.monotonic() > deadline {
            break;
        }
    }
    rows
}

fn captured(guest: &mut impl Guest, load: bool, mode: Mode) -> Duration {
    let stall = stall(guest, load, |guest| guest.snapshot(mode));
    guest.undo();
    stall
}

/// The longest write while something is done.
fn stall<G: Guest>(guest: &mut G, load: bool, work: impl FnOnce(&mut G)) -> Duration {
    guest.mailbox().ask(&Ask::Watch { load });
    work(guest);
    match guest.mailbox().ask(&Ask::Report) {
        Answer::Watched { longest_us, .. } => Duration::from_micros(longest_us),
        other => panic!("{other:?}"),
    }
}

fn print_stalls(shallow: &[Row], deep: &[Row]) {
    for percent in [50, 99] {
        let heading = ["quiet, 1 layer", "loaded", "quiet, 20 layers", "loaded"];
        let title = format!("longest write, p{percent}");
        let mut table = Table::new(std::iter::once(title.as_str()).chain(heading));
        for (one, twenty) in shallow.iter().zip(deep) {
            let samples = [&one.quiet, &one.loaded, &twenty.quiet, &twenty.loaded];
            let cells = samples.map(|samples| milliseconds(samples.percentile(percent)));
            table.row(std::iter::once(one.title.to_owned()).chain(cells));
        }
        println!("{table}");
    }
    println!(
        "  {} and {} rounds\n",
        shallow[0].quiet.count(),
        deep[0].quiet.count()
    );
    for (rows, depth) in [(shallow, "1 layer"), (deep, "20 layers")] {
        stall_goals(rows, depth);
    }
}

fn stall_goals(rows: &[Row], depth: &str) {
    let [_, ours, theirs, ours_frozen, theirs_frozen] = rows else {
        return;
    };
    let worst = ours.quiet.percentile(99);
    goal(
        &format!("stall of a snapshot of two disks, quiet, {depth}"),
        "at most 60 ms p99",
        &format!("{} ms", milliseconds(worst)),
        worst.is_some_and(|worst| worst <= MAX_STALL),
    );
    for (what, a, b) in [
        (
            "crash-consistent beside virsh --quiesce",
            ours,
            theirs_frozen,
        ),
        ("crash-consistent beside virsh without it", ours, theirs),
        ("frozen beside virsh --quiesce", ours_frozen, theirs_frozen),
    ] {
        let (met, ratio) = at_most(a.loaded.percentile(99), 0.5, b.loaded.percentile(99));
        let what = format!("the same under load, {depth}, {what}");
        goal(&what, "at most 0.5 x p99", &ratio, met);
    }
}
