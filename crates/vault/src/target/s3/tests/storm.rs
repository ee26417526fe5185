//! Everything at once: a vault's whole life on a server of which every tenth answer is wrong.
//!
//! One seed is one life: backups, increments, deletions, collections, taking back, each through
//! requests that are refused before or after they took effect, cut, truncated, stalled, sent twice on
//! their way, with wrong times, listings that are empty, out of order or lack something, and bytes that
//! are others. Then
//! the faults stop. What somebody was told is available restores as it was, nothing is damaged,
//! and after the next collection nothing is left over.

use std::sync::atomic::{AtomicBool, AtomicU64};

use stillpoint_env::SimEnv;
use stillpoint_model::id::{AccountId, BackupId, VaultId, VolumeId};
use stillpoint_model::progress::NullMonitor;

use super::*;
use crate::tests::support::{CHUNK, Disk, SMALL};
use crate::tests::torture::{each_seed, figure};
use crate::{
    BackupSpec, CheckLevel, CollectPolicy, Error, Outcome, RootKey, Tuning, Vault, VaultSpec,
};

/// What may happen to a request; most of the time nothing does.
fn fault(roll: u64, is_list: bool, is_get: bool) -> Fault {
    match roll {
        0 => Fault::Refuse(503, "SlowDown"),
        1 => Fault::RefuseAfter(503, "SlowDown"),
        2 => Fault::RefuseAfter(500, "InternalError"),
        3 => Fault::Cut,
        4 => Fault::CutAfter,
        5 => Fault::Refuse(412, "PreconditionFailed"),
        6 if is_get => Fault::Truncate,
        7 if is_get && !is_list => Fault::Flip,
        7 if is_list => Fault::Empty,
        8 if is_list => Fault::LoseFirst,
        8 if is_get => Fault::IgnoreRange,
        9 if is_list => Fault::Reverse,
        9 => Fault::Refuse(409, "ConditionalRequestConflict"),
        10 if is_list => Fault::SilentAfter,
        11 if is_get => Fault::StallInBody,
        12 => Fault::Twice,
        13 => Fault::WrongTime,
        14 => Fault::Refuse(403, "RequestTimeTooSkewed"),
        _ => Fault::None,
    }
}

/// A server that fails by a seed's chance until it is told to stop.
struct Storm {
    bench: Bench,
    faults: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
}

impl Storm {
    fn begin(seed: u64) -> Self {
        let bench = Bench::with(|settings| {
            settings.stall_timeout = Duration::from_millis(30);
            // No patience: every fault reaches the engine.
            settings.patience = Duration::from_millis(u64::from(seed.is_multiple_of(4)) * 150);
        });
        let (faults, is_over) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (counted, over, chance) = (
            faults.clone(),
            is_over.clone(),
            SimEnv::new(seed ^ 0x57_04_3a),
        );
        bench.server.always(move |call| {
            let is_get = call.method == http::Method::GET;
            let is_list = is_get && call.query.contains("list-type");
            match fault(chance.below(130), is_list, is_get) {
                Fault::None => Fault::None,
                _ if over.load(Ordering::SeqCst) => Fault::None,
                fault => {
                    counted.fetch_add(1, Ordering::SeqCst);
                    fault
                }
            }
        });
        Self {
            bench,
            faults,
            is_over,
        }
    }

    fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }
}

/// The content of a version: neighbours share most of it.
fn content(version: u64) -> Disk {
    let mut disk = Disk::new(300 * CHUNK);
    for chunk in 0..20 {
        disk.fill(chunk * 7, 1 + chunk * 50 + (version + chunk % 3) / 3);
    }
    disk
}

struct Life {
    storm: Storm,
    env: Arc<SimEnv>,
    root: RootKey,
    spec: VaultSpec,
    volume: VolumeId,
    target: Arc<dyn Target>,
    /// Backups that somebody was told of, with their versions.
    told: Vec<(BackupId, u64)>,
    next: u64,
}

impl Life {
    fn begin(seed: u64) -> Self {
        let env = Arc::new(SimEnv::new(seed));
        let storm = Storm::begin(seed);
        let settings = storm.bench.target.bucket.settings.clone();
        let target = S3Target::open(settings, Arc::new(SystemEnv::new())).unwrap();
        Self {
            root: RootKey::generate(&*env),
            spec: VaultSpec {
                vault_id: VaultId::generate(&*env),
                account_id: AccountId::generate(&*env),
            },
            volume: VolumeId::generate(&*env),
            target: Arc::new(target),
            env,
            storm,
            told: vec![],
            next: 0,
        }
    }

    fn vault(&self) -> Result<Vault, Error> {
        let vault =
            Vault::open_or_create(self.target.clone(), self.spec, &self.root, self.env.clone())?;
        Ok(vault.with_tuning(Tuning {
            workers: 1,
            uploads: 1,
            ..SMALL
        }))
    }

    fn back_up(&mut self) -> Result<(), Error> {
        let vault = self.vault()?;
        self.next += 1;
        let (version, parent) = (self.next, self.told.last().map(|(id, _)| *id));
        let backup_id = BackupId::generate(&*self.env);
        let spec = BackupSpec {
            backup_id,
            volume_id: self.volume,
            parent,
            changed: None,
            metadata: std::collections::BTreeMap::new(),
            keep_until: None,
        };
        let prepared = vault.prepare_backup(&spec, &content(version), &NullMonitor)?;
        prepared.commit(&mut || Ok(()))?;
        vault.read_back(self.volume, backup_id, &NullMonitor)?;
        self.told.push((backup_id, version));
        Ok(())
    }

    fn delete(&mut self) -> Result<(), Error> {
        if self.told.len() < 2 {
            return Ok(());
        }
        // From the call on nobody counts on it.
        let which = usize::try_from(self.env.below(self.told.len() as u64)).unwrap();
        let (backup, _) = self.told.remove(which);
        self.vault()?.delete_backup(self.volume, backup)
    }

    fn collect(&self, known: bool) -> Result<Outcome, Error> {
        let policy = CollectPolicy {
            keep_deleted: Duration::ZERO,
            grace: Duration::ZERO,
            confirmed: ByteCount::new(u64::MAX),
            known: match known {
                true => self.told.iter().map(|(id, _)| (self.volume, *id)).collect(),
                false => std::collections::BTreeSet::default(),
            },
            ..CollectPolicy::default()
        };
        self.vault()?
            .collect(&policy, &NullMonitor)
            .map(|collected| collected.outcome)
    }

    /// Takes back what is under way: here every run is over when its call has returned.
    fn reap(&self) -> Result<(), Error> {
        let vault = self.vault()?;
        for (volume, backup) in vault.open_runs()? {
            vault.reap_backup(volume, backup)?;
        }
        Ok(())
    }

    fn live(&mut self) {
        for _ in 0..10 {
            self.env.advance(Duration::from_secs(1));
            // Whatever goes wrong: it is tried again, or it never was.
            drop(match self.env.below(6) {
                0..3 => self.back_up(),
                3 => self.delete(),
                4 => self.reap(),
                _ => self.collect(self.env.below(2) == 0).map(drop),
            });
        }
    }

    fn settle(&mut self, seed: u64) {
        self.storm.end();
        let mut calm = self.storm.bench.target.bucket.settings.clone();
        calm.stall_timeout = Duration::from_secs(30);
        self.target = Arc::new(S3Target::open(calm, Arc::new(SystemEnv::new())).unwrap());
        self.env.advance(Duration::from_secs(1));
        self.reap()
            .unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        let vault = self.vault().unwrap();
        let sound = vault.check(CheckLevel::Decrypt, &NullMonitor).unwrap();
        assert!(sound.is_sound(), "seed {seed}: {sound:?}");
        loop {
            match self
                .collect(true)
                .unwrap_or_else(|error| panic!("seed {seed}: {error:?}"))
            {
                Outcome::NothingToDo => break,
                Outcome::Done => {}
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        for (backup, version) in &self.told {
            let out = std::sync::Mutex::new(Disk::new(300 * CHUNK));
            vault
                .restore(self.volume, *backup, &out, &NullMonitor)
                .unwrap();
            assert_eq!(
                out.into_inner().unwrap(),
                content(*version),
                "seed {seed}: {backup}"
            );
        }
        let left = vault.unreferenced().unwrap();
        assert_eq!(left, crate::Unreferenced::default(), "seed {seed}");
    }
}

#[test]
fn a_life_among_wrong_answers_loses_nothing_and_leaves_nothing() {
    each_seed("object store", "faults", 0..figure(200), |seed| {
        let mut life = Life::begin(seed);
        life.live();
        life.settle(seed);
        life.storm.faults.load(Ordering::SeqCst)
    });
}
