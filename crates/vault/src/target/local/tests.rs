//! The power goes after any system call.

use std::sync::Arc;
use std::time::Duration;

use stillpoint_env::SimEnv;
use stillpoint_model::id::BackupId;
use stillpoint_model::progress::NullMonitor;

use super::*;
use crate::target::list_each;
use crate::tests::support::{Bench, CHUNK, Disk, SMALL};
use crate::tests::torture::{each_seed, figure};
use crate::{CheckLevel, CollectPolicy, Error, Tuning, Unreferenced, Vault, VaultSpec};

/// Where a name is in a story, and what it holds.
const NAMES: [&str; 3] = ["a/x", "a/y", "b/c/z"];

/// Puts or deletes one of the names; what the target said is done by then.
fn act(target: &LocalTarget, number: u64, is_there: &mut [bool; 3]) {
    let which = usize::try_from(number % 3).unwrap();
    let name = ObjectName::new(NAMES[which]).unwrap();
    if number < 3 {
        let put = target.put_new(&name, &content(which));
        assert_eq!(put.is_err(), is_there[which]);
        is_there[which] = true;
    } else {
        target.delete(&name).unwrap();
        is_there[which] = false;
    }
}

fn content(which: usize) -> Vec<u8> {
    let byte = u8::try_from(which).unwrap() + 1;
    vec![byte; 700 + 900 * which]
}

/// What is there after a loss of power: a name holds all of its content or is not there.
fn whole_names(root: &Path) -> [bool; 3] {
    let target = LocalTarget::open(root).unwrap();
    let mut found = [false; 3];
    list_each(&target, "", |entry| {
        let which = NAMES
            .iter()
            .position(|name| *name == entry.name.as_str())
            .unwrap();
        let len = entry.len.get();
        let bytes = target.get(&entry.name, ByteRange::new(0, len)).unwrap();
        assert_eq!(bytes, content(which), "{} is there in part", entry.name);
        found[which] = true;
        Ok::<_, Error>(())
    })
    .unwrap();
    found
}

/// Three operations, the power lost after every system call of theirs.
fn sequence(number: u64, is_unnamed: bool) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let target = match is_unnamed {
        true => LocalTarget::open(dir.path()).unwrap(),
        false => LocalTarget::with_named_parts(dir.path()).unwrap(),
    };
    let (log, env) = (target.log(), SimEnv::new(number));
    let mut there = [false; 3];
    let mut said = vec![(0, there)];
    for operation in [number % 6, number / 6 % 6, number / 36] {
        act(&target, operation, &mut there);
        said.push((log.len(), there));
    }
    for cut in 0..=log.len() {
        let left = tempfile::tempdir().unwrap();
        log.left_after(cut, |bound| env.below(bound), left.path());
        let found = whole_names(left.path());
        let last = said.iter().rposition(|(at, _)| *at <= cut).unwrap();
        let next = said.get(last + 1).map_or(said[last].1, |(_, there)| *there);
        for which in 0..3 {
            let may_be = [said[last].1[which], next[which]];
            let at = format!("sequence {number}, after {cut} changes: {}", NAMES[which]);
            assert!(may_be.contains(&found[which]), "{at}");
        }
    }
    log.len() as u64 + 1
}

#[test]
fn after_any_three_operations_a_name_is_whole_or_not_there() {
    each_seed("power loss, three operations", "cuts", 0..216, |number| {
        sequence(number, true)
    });
}

#[test]
fn after_any_three_operations_without_unnamed_files_too() {
    each_seed("power loss, named parts", "cuts", 0..216, |number| {
        sequence(number, false)
    });
}

fn disk(version: u64) -> Disk {
    let mut disk = Disk::new(200 * CHUNK);
    (0..12).for_each(|n| disk.fill(n * 9, 1 + n * 30 + (version + n % 3) / 3));
    disk
}

/// A vault in a folder whose every change is noted.
struct Life {
    bench: Bench,
    log: power::Log,
    spec: VaultSpec,
    /// Since which change a backup was said to be available, and until which nobody deleted it.
    told: Vec<(BackupId, u64, usize, usize)>,
}

impl Life {
    fn begin(seed: u64, root: &Path) -> Self {
        let base = Bench::new(seed);
        let spec = VaultSpec {
            vault_id: base.vault.id(),
            account_id: base.vault.account_id(),
        };
        let target = LocalTarget::open(root).unwrap();
        let log = target.log();
        let vault =
            Vault::open_or_create(Arc::new(target), spec, &base.root, base.now_env()).unwrap();
        let vault = vault.with_tuning(Tuning {
            workers: 1,
            uploads: 1,
            ..SMALL
        });
        Self {
            bench: Bench { vault, ..base },
            log,
            spec,
            told: vec![],
        }
    }

    fn collect(&self, vault: &Vault) {
        let policy = CollectPolicy {
            keep_deleted: Duration::ZERO,
            grace: Duration::ZERO,
            confirmed: ByteCount::new(u64::MAX),
            ..CollectPolicy::default()
        };
        vault.collect(&policy, &NullMonitor).unwrap();
    }

    fn act(&mut self, version: u64) {
        self.bench.env.advance(Duration::from_secs(1));
        let alive = self
            .told
            .iter()
            .rposition(|(.., until)| *until == usize::MAX);
        match (self.bench.env.below(5), alive) {
            (3, Some(which)) => {
                self.told[which].3 = self.log.len();
                let backup = self.told[which].0;
                self.bench
                    .vault
                    .delete_backup(self.bench.volume, backup)
                    .unwrap();
            }
            (4, _) => self.collect(&self.bench.vault),
            (_, parent) => {
                let parent = parent.map(|which| self.told[which].0);
                let backup = self.bench.back_up(&disk(version), parent, None).backup_id;
                self.told
                    .push((backup, version, self.log.len(), usize::MAX));
            }
        }
    }

    /// The power goes after `cut` changes, and a new process comes.
    fn survives(&self, cut: usize) {
        let left = tempfile::tempdir().unwrap();
        let env = &self.bench.env;
        self.log
            .left_after(cut, |bound| env.below(bound), left.path());
        let target = Arc::new(LocalTarget::open(left.path()).unwrap());
        let vault =
            Vault::open_or_create(target, self.spec, &self.bench.root, self.bench.now_env());
        let vault = vault.unwrap();
        let bench = Bench {
            vault,
            root: self.bench.root.clone(),
            env: env.clone(),
            ..Bench::new(0)
        };
        let volume = self.bench.volume;
        for (volume, backup) in bench.vault.open_runs().unwrap() {
            bench.vault.reap_backup(volume, backup).unwrap();
        }
        let report = bench
            .vault
            .check(CheckLevel::Decrypt, &NullMonitor)
            .unwrap();
        assert!(report.is_sound(), "{report:?}");
        let bench = Bench { volume, ..bench };
        for (backup, version, from, until) in &self.told {
            if (*from..*until).contains(&cut) {
                assert_eq!(bench.restored(*backup), disk(*version), "{backup}");
            }
        }
        env.advance(Duration::from_secs(1));
        self.collect(&bench.vault);
        assert_eq!(bench.vault.unreferenced().unwrap(), Unreferenced::default());
    }
}

#[test]
fn a_vault_survives_a_loss_of_power_after_any_change() {
    each_seed(
        "power loss, a vault's life",
        "cuts",
        0..figure(10),
        |seed| {
            let dir = tempfile::tempdir().unwrap();
            let mut life = Life::begin(seed, dir.path());
            (0..5).for_each(|version| life.act(version));
            let all = life.log.len();
            let cuts: Vec<usize> = (0..10)
                .map(|_| usize::try_from(life.bench.env.below(all as u64 + 1)).unwrap())
                .collect();
            for cut in &cuts {
                life.survives(*cut);
            }
            cuts.len() as u64
        },
    );
}
