//! What happens inside a machine, through its mounted file system: ordinary days and disasters.
//!
//! Everything is chosen by a seed, so that a failed run can be repeated.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use stillpoint_env::SimEnv;
use stillpoint_model::{ByteCount, Env as _};

use crate::process::run;

/// The block of ext4, in bytes.
const BLOCK: u64 = 4096;
/// The longest run of [`scatter`], in blocks.
const LONGEST_RUN: u64 = 32;

/// Makes a file of random bytes, as a database or an encrypted archive is.
///
/// # Panics
/// When it cannot be written.
#[track_caller]
pub fn make_database(path: &Path, size: ByteCount, random: &SimEnv) {
    let mut file = File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut piece = vec![0; 1 << 20];
    for _ in 0..size.get() >> 20 {
        random.fill_random(&mut piece);
        file.write_all(&piece).expect("write the database");
    }
    file.sync_all().expect("flush the database");
}

/// Rewrites about `amount` of a file at random places, in runs of 4 KiB to 128 KiB.
///
/// # Panics
/// When it cannot be written.
#[track_caller]
pub fn scatter(path: &Path, amount: ByteCount, random: &SimEnv) {
    let file = File::options()
        .write(true)
        .open(path)
        .expect("open the database");
    let blocks = file.metadata().expect("its size").len() / BLOCK;
    let mut piece = vec![0; usize::try_from(LONGEST_RUN * BLOCK).expect("a small number")];
    let mut left = amount.get() / BLOCK;
    while left > 0 {
        let run = (1 + random.below(LONGEST_RUN)).min(left);
        let piece = &mut piece[..usize::try_from(run * BLOCK).expect("a small number")];
        random.fill_random(piece);
        let at = random.below(blocks - run) * BLOCK;
        file.write_all_at(piece, at).expect("write the database");
        left -= run;
    }
    file.sync_all().expect("flush the database");
}

/// A day of a server, as an upgrade and its users leave it: packages unpacked anew, files
/// replaced, renamed and deleted, logs grown.
///
/// # Panics
/// When the file system refuses a change.
#[track_caller]
pub fn live_a_day(root: &Path, day: u32, random: &SimEnv) {
    upgrade(root, day);
    grow_logs(root, day, random);
    let files = files_below(&root.join("usr/share"));
    for _ in 0..200 {
        let victim = &files[usize::try_from(random.below(files.len() as u64)).expect("an index")];
        if !victim.exists() {
            continue;
        }
        let changed = match random.below(3) {
            0 => fs::remove_file(victim),
            1 => fs::rename(victim, victim.with_extension(format!("day{day}"))),
            _ => replace(victim, random),
        };
        changed.unwrap_or_else(|e| panic!("{}: {e}", victim.display()));
    }
}

/// What a package manager does: new copies beside the old files, renamed over them.
fn upgrade(root: &Path, day: u32) {
    let modules = root.join("usr/lib/python3");
    let copy = root.join(format!("srv/release-{day}"));
    if modules.is_dir() {
        run(Command::new("cp").arg("-a").arg(&modules).arg(&copy));
    }
    let state = root.join("var/lib/dpkg/status");
    if state.is_file() {
        let new = state.with_extension("new");
        fs::copy(&state, &new).expect("copy the package state");
        let mut file = File::options()
            .append(true)
            .open(&new)
            .expect("the new state");
        writeln!(file, "\nUpgraded: day {day}").expect("write the new state");
        fs::rename(&new, &state).expect("replace the package state");
    }
}

fn grow_logs(root: &Path, day: u32, random: &SimEnv) {
    fs::create_dir_all(root.join("var/log")).expect("a folder for logs");
    for name in ["syslog", "auth.log", "app.log"] {
        let path = root.join("var/log").join(name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(path)
            .expect("a log");
        let mut log = std::io::BufWriter::new(log);
        for line in 0..2000 {
            let request = random.below(1 << 40);
            writeln!(
                log,
                "day {day} {name}[{line}]: request {request:010x} served"
            )
            .expect("log");
        }
    }
}

fn replace(path: &Path, random: &SimEnv) -> std::io::Result<()> {
    let mut content = vec![0; usize::try_from(random.below(20_000)).expect("a small number")];
    random.fill_random(&mut content);
    fs::write(path, content)
}

/// Regular files below `folder`, in a fixed order.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

/// Ruins the file system on a raw device or file: its superblock, every inode table, and
/// megabytes at random.
///
/// # Panics
/// When it cannot be written.
#[track_caller]
pub fn wreck(device: &Path, random: &SimEnv) {
    let tables = inode_tables(device);
    assert!(
        !tables.is_empty(),
        "no inode tables on {}",
        device.display()
    );
    let file = File::options()
        .write(true)
        .open(device)
        .expect("open the device");
    let mut noise = vec![0; 1 << 20];
    let mut write = |offset: u64, len: usize| {
        random.fill_random(&mut noise[..len]);
        file.write_all_at(&noise[..len], offset)
            .expect("write to the device");
    };
    write(0, 4096);
    for table in tables {
        write(table * BLOCK, 256 << 10);
    }
    let size = fs::metadata(device).expect("its size").len();
    for _ in 0..32 {
        write(random.below(size / (1 << 20)) << 20, 1 << 20);
    }
    file.sync_all().expect("flush the device");
}

/// The first block of each group's inode table.
fn inode_tables(device: &Path) -> Vec<u64> {
    let output = run(Command::new("dumpe2fs").arg(device));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Inode table at "))
        .filter_map(|rest| rest.split(['-', ' ']).next()?.parse().ok())
        .collect()
}
