//! Measures a first backup, a tracked 1 % change, a sibling read in full, a restore and a check.
//!
//! `cargo run --release -p stillpoint-vault --example measure -- IMAGE CHANGED_IMAGE WORK_DIR`
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program to measure with"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use stillpoint_env::SystemEnv;
use stillpoint_model::id::{AccountId, BackupId, VaultId, VolumeId};
use stillpoint_model::progress::NullMonitor;
use stillpoint_model::{ByteCount, ByteRange, Env};
use stillpoint_vault::target::{FaultTarget, LocalTarget};
use stillpoint_vault::{
    BackupSpec, CheckLevel, ReadAt, RootKey, Vault, VaultSpec, VolumeReader, rescue,
};

/// User and system time of this process in seconds, and its peak memory in MiB.
fn usage() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    let kib: f64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    (ticks / 100.0, kib / 1024.0)
}

fn open(path: &str) -> ReadAt {
    let file = File::open(path).unwrap();
    let size = file.metadata().unwrap().len();
    ReadAt::new(file, ByteCount::new(size))
}

fn timed<T>(env: &dyn Env, what: &str, run: impl FnOnce() -> T) -> T {
    let (from, cpu) = (env.monotonic(), usage().0);
    let out = run();
    let wall = (env.monotonic() - from).as_secs_f64();
    let (cpu_now, peak) = usage();
    println!(
        "{what}: {wall:.2} s, {:.2} CPU s, peak {peak:.0} MiB",
        cpu_now - cpu
    );
    out
}

/// The chunks in which two images differ: what a change tracker would know.
fn differences(a: &str, b: &str) -> Vec<ByteRange> {
    let (a, b) = (File::open(a).unwrap(), File::open(b).unwrap());
    let size = b.metadata().unwrap().len();
    let (mut x, mut y) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut found = vec![];
    for offset in (0..size).step_by(1 << 20) {
        let len = usize::try_from((size - offset).min(1 << 20)).unwrap();
        a.read_exact_at(&mut x[..len], offset).unwrap();
        b.read_exact_at(&mut y[..len], offset).unwrap();
        for at in (0..len).step_by(4096) {
            let end = (at + 4096).min(len);
            if x[at..end] != y[at..end] {
                found.push(ByteRange::new(offset + at as u64, (end - at) as u64));
            }
        }
    }
    found
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, image, changed, work] = args.as_slice() else {
        return;
    };
    let env = Arc::new(SystemEnv::new());
    let store = Path::new(work).join("target");
    std::fs::create_dir_all(&store).unwrap();
    let target = Arc::new(FaultTarget::counting(Arc::new(
        LocalTarget::open(&store).unwrap(),
    )));
    let root = RootKey::generate(&*env);
    let ids = VaultSpec {
        vault_id: VaultId::generate(&*env),
        account_id: AccountId::generate(&*env),
    };
    let vault = Vault::open_or_create(target.clone(), ids, &root, env.clone()).unwrap();
    let volume_id = VolumeId::generate(&*env);
    println!("idle peak {:.0} MiB", usage().1);
    let back_up = |what: &str, image: &str, parent, changed: Option<&[ByteRange]>| {
        let backup_id = BackupId::generate(&*env);
        let (source, before) = (open(image), target.calls());
        let metadata = BTreeMap::new();
        let spec = BackupSpec {
            backup_id,
            volume_id,
            parent,
            changed,
            metadata,
        };
        let receipt = timed(&*env, what, || {
            let prepared = vault.prepare_backup(&spec, &source, &NullMonitor).unwrap();
            prepared.commit(&mut || Ok(())).unwrap()
        });
        println!(
            "  size {} used {} changed {} read {} stored {} in {} calls",
            source.size(),
            receipt.used,
            receipt.changed,
            receipt.bytes_read,
            receipt.stored,
            target.calls() - before
        );
        timed(&*env, "  read back", || {
            vault.read_back(volume_id, backup_id, &NullMonitor).unwrap()
        });
        backup_id
    };
    let first = back_up("first backup", image, None, None);
    back_up("repeat, unchanged, tracked", image, Some(first), Some(&[]));
    back_up("repeat, unchanged, full read", image, Some(first), None);
    let ranges = differences(image, changed);
    let touched: u64 = ranges.iter().map(|range| range.len).sum();
    println!(
        "changed in 4 KiB blocks: {} in {} ranges",
        ByteCount::new(touched),
        ranges.len()
    );
    let second = back_up("increment, tracked", changed, Some(first), Some(&ranges));
    back_up("increment, full read", changed, Some(first), None);
    back_up("no parent, full read", changed, None, None);
    let info = vault.describe(volume_id, second).unwrap();
    let out = Path::new(work).join("restored.raw");
    timed(&*env, "restore with comparison", || {
        rescue::restore_to_file(&vault, &info, &out, &NullMonitor).unwrap()
    });
    let report = timed(&*env, "check, decrypt", || {
        vault.check(CheckLevel::Decrypt, &NullMonitor)
    });
    println!("sound: {}", report.unwrap().is_sound());
}
