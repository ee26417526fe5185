//! The disks of the guests.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use stillpoint_env::SimEnv;
use stillpoint_model::Env as _;
use stillpoint_tests::debian::guest_with;
use stillpoint_tests::journal::make_data;
use stillpoint_tests::process::run;

use super::{DATA_SIZE, SPEED_SIZE};

/// The guest's program is this one, with the libraries of this machine.
const PROGRAM: &str = "#!/bin/sh\nexec /opt/loader --library-path /opt /opt/bench --probe\n";

/// What all machines start from; each takes copies.
pub struct Images {
    /// It boots the guest.
    pub root: PathBuf,
    /// An empty file system.
    pub data: PathBuf,
    /// Noise.
    pub speed: PathBuf,
}

impl Images {
    pub fn make(folder: &Path) -> Self {
        let images = Self {
            root: folder.join("root.raw"),
            data: folder.join("data.raw"),
            speed: folder.join("speed.raw"),
        };
        let parts = folder.join("parts");
        fs::create_dir(&parts).expect("a folder");
        let program = parts.join("program");
        fs::write(&program, PROGRAM).expect("the guest's program");
        guest_with(&program, &images.root, &collect_parts(&parts));
        make_data(&images.data, DATA_SIZE);
        let speed = fs::File::create(&images.speed).expect("a disk");
        let (random, mut piece) = (SimEnv::new(5), vec![0; 1 << 20]);
        for number in 0..SPEED_SIZE.get() >> 20 {
            random.fill_random(&mut piece);
            speed.write_all_at(&piece, number << 20).expect("fill it");
        }
        images
    }
}

/// This program, what loads it and what it is linked with.
fn collect_parts(folder: &Path) -> Vec<PathBuf> {
    let this = std::env::current_exe().expect("this program");
    let stripped = folder.join("bench");
    run(Command::new("strip").arg("-o").arg(&stripped).arg(&this));
    let mut parts = vec![stripped];
    let listed = run(Command::new("ldd").arg(&this)).stdout;
    for line in String::from_utf8_lossy(&listed).lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, path) = match words[..] {
            [name, "=>", path, ..] => (name, path),
            [path, ..] if path.starts_with('/') => ("loader", path),
            _ => continue,
        };
        let part = folder.join(name);
        fs::copy(path, &part).expect("a library");
        parts.push(part);
    }
    parts
}
