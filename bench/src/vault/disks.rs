//! The three disks, and what changed from A to B.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use stillpoint_model::ByteCount;
use stillpoint_tests::process::run;

use super::Step;

/// The unit in which a pool knows what was written.
const BLOCK: usize = 4096;
const BUFFER: usize = 1 << 20;

/// Has nothing of any file in memory, as when a backup is needed weeks later.
pub fn forget_cached() {
    nix::unistd::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "1").expect("root may do this");
}

/// Raw, sparse images: see `scripts/vm-disks`.
pub struct Disks {
    a: PathBuf,
    b: PathBuf,
    c: PathBuf,
    /// A file of lines `offset length`: what a change tracker knows of the way from A to B.
    pub changed: PathBuf,
}

impl Disks {
    /// Takes them from the cache, or builds them.
    pub fn make(kind: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/vm-disks");
        let output = run(Command::new(script).arg(kind));
        let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end());
        let disks = Self {
            a: folder.join("a.raw"),
            b: folder.join("b.raw"),
            c: folder.join("c.raw"),
            changed: folder.join("changed"),
        };
        if !disks.changed.exists() {
            disks.find_changes();
        }
        disks
    }

    /// The disk of a step.
    pub fn of(&self, step: Step) -> &Path {
        match step {
            Step::First | Step::Repeat => &self.a,
            Step::Increment | Step::Restore | Step::Check => &self.b,
            Step::Sibling => &self.c,
        }
    }

    /// Says how large they are.
    pub fn describe(&self) {
        for (name, path) in [("A", &self.a), ("B", &self.b), ("C", &self.c)] {
            let meta = path.metadata().expect("a disk");
            let (size, used) = (
                ByteCount::new(meta.len()),
                ByteCount::new(meta.blocks() * 512),
            );
            println!("disk {name}    {size}, {used} of it not in holes");
        }
        let changed = std::fs::read_to_string(&self.changed).expect("the list of changes");
        let length = |line: &str| line.split_once(' ')?.1.parse::<u64>().ok();
        let total: u64 = changed.lines().filter_map(length).sum();
        let ranges = changed.lines().count();
        println!(
            "A to B    {} in {ranges} ranges of 4 KiB blocks",
            ByteCount::new(total)
        );
    }

    /// Reads the disk of a step, so that every contender finds it in memory.
    pub fn warm_up(&self, step: Step) {
        let mut buffer = vec![0; BUFFER];
        let mut file = File::open(self.of(step)).expect("a disk");
        while file.read(&mut buffer).expect("its content") > 0 {}
    }

    fn find_changes(&self) {
        let (a, b) = (
            File::open(&self.a).expect("A"),
            File::open(&self.b).expect("B"),
        );
        let size = b.metadata().expect("its size").len();
        let (mut old, mut new) = (vec![0; BUFFER], vec![0; BUFFER]);
        let mut ranges: Vec<(u64, u64)> = vec![];
        for offset in (0..size).step_by(BUFFER) {
            a.read_exact_at(&mut old, offset).expect("A has B's size");
            b.read_exact_at(&mut new, offset).expect("whole MiBs");
            let blocks = old.chunks(BLOCK).zip(new.chunks(BLOCK));
            for ((old, new), at) in blocks.zip((offset..).step_by(BLOCK)) {
                if old == new {
                    continue;
                }
                match ranges.last_mut() {
                    Some((start, len)) if *start + *len == at => *len += BLOCK as u64,
                    _ => ranges.push((at, BLOCK as u64)),
                }
            }
        }
        let lines = ranges
            .iter()
            .map(|(start, len)| format!("{start} {len}\n"))
            .collect::<String>();
        std::fs::write(&self.changed, lines).expect("the list is written");
    }
}
