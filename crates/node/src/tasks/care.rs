//! The care of a vault: collecting what no backup reaches, emptying packs that are mostly dead, proving
//! what backups rest on, repairing what is damaged, mending small objects, and copying.
//!
//! **Again after a crash.** A collection goes on from what it left in the vault, whoever began it. A
//! verification begins anew; the scratch volume that an earlier one restored to has the vault's own
//! id, is told from every volume of a customer by that, and goes first.

mod copy;
mod mend;
mod repair;

use std::collections::BTreeSet;
use std::time::Duration;

use stillpoint_layers::Pool;
use stillpoint_model::care::{
    BackupKey, BadObject, CollectTerms, Collection, CollectionState, Emptied, Verification,
    VerifyLevel,
};
use stillpoint_model::error::with_causes;
use stillpoint_model::id::{BackupId, VolumeId};
use stillpoint_model::operation::Phase;
use stillpoint_model::progress::Monitor as _;
use stillpoint_model::task::{Directive, TaskFailure, TaskOutcome, TaskSpec, VaultRef};
use stillpoint_model::{ByteCount, ErrorKind};
use stillpoint_vault::{
    CheckLevel, CollectPolicy, Collected, Error, Outcome, Problem, Refusal, RepackPolicy, Vault,
};

pub(super) use copy::copy;
pub(super) use mend::mend;

use super::backup::{Backup, restore};
use super::{Hooks, TaskResult};
use crate::control_plane::ControlError;
use crate::failure::{misdirected, of_kind, of_pool, of_vault};
use crate::progress::Watch;
use crate::storage::Storage;

/// Leave to commit, while the task is still ours.
fn confirm(hooks: &dyn Hooks) -> impl FnMut() -> Result<(), ErrorKind> {
    || match hooks.confirm() {
        Ok(Directive::Continue) => Ok(()),
        Ok(Directive::Cancel) => Err(ErrorKind::Cancelled),
        Err(ControlError::Fenced) => Err(ErrorKind::Fenced),
        Err(ControlError::Unavailable(_)) => Err(ErrorKind::Retry),
    }
}

/// Takes back what runs left that are over, and the collection as far as it goes.
pub fn collect(storage: &Storage, spec: &TaskSpec, watch: &Watch) -> TaskResult {
    let TaskSpec::VaultCollect {
        vault,
        terms,
        ref known,
        ref reap,
    } = *spec
    else {
        return Err(misdirected(spec));
    };
    // A vault that was never made holds nothing.
    let Some(vault) = storage.vault_if_there(vault)? else {
        return match known.first() {
            None => Ok(outcome(nothing(CollectionState::NothingToDo))),
            Some(key) => Ok(outcome(Collection {
                reason: Some(format!(
                    "the vault of backup {} is not there",
                    key.backup_id
                )),
                ..nothing(CollectionState::Refused)
            })),
        };
    };
    for key in reap {
        if watch.is_cancelled() {
            return Err(of_vault(&Error::Cancelled));
        }
        vault
            .reap_backup(key.volume_id, key.backup_id)
            .map_err(|error| of_vault(&error))?;
    }
    let mut collection = match vault.collect(&policy(&terms, known), watch) {
        Ok(collected) => reached(&collected),
        Err(Error::Refused(refusal)) => refused(&refusal),
        // Nothing was removed, and an operator is to know why.
        Err(error) if error.kind() == ErrorKind::Corrupt => Collection {
            reason: Some(with_causes(&error)),
            ..nothing(CollectionState::Refused)
        },
        Err(error) => return Err(of_vault(&error)),
    };
    if collection.state == CollectionState::NothingToDo {
        watch.enter(Phase::Emptying);
        collection.emptied = empty(&vault, watch)?;
    }
    let open = vault.open_runs().map_err(|error| of_vault(&error))?;
    collection.open_runs = open
        .into_iter()
        .map(|(volume_id, backup_id)| BackupKey {
            volume_id,
            backup_id,
        })
        .collect();
    Ok(outcome(collection))
}

/// Has backups do without packs that are mostly dead, so that the next collection deletes those.
/// What keeps it from being done is logged: the collection itself is done.
fn empty(vault: &Vault, watch: &Watch) -> Result<Option<Emptied>, TaskFailure> {
    let mut confirm = || match watch.is_cancelled() {
        true => Err(ErrorKind::Fenced),
        false => Ok(()),
    };
    match vault.repack(&RepackPolicy::default(), &mut confirm, watch) {
        Ok(repacked) if repacked.packs == 0 => Ok(None),
        Ok(repacked) => {
            tracing::info!(vault = %vault.id(), ?repacked, "mostly dead packs were emptied");
            Ok(Some(Emptied {
                packs: count(repacked.packs),
                would_free: repacked.would_free,
                stored: repacked.stored,
                backups: count(repacked.renewed),
                left: count(repacked.left),
            }))
        }
        Err(error @ (Error::Cancelled | Error::NotConfirmed { .. })) => Err(of_vault(&error)),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(vault = %vault.id(), error, "mostly dead packs were not emptied");
            Ok(None)
        }
    }
}

fn policy(terms: &CollectTerms, known: &[BackupKey]) -> CollectPolicy {
    CollectPolicy {
        keep_deleted: Duration::from_secs(terms.keep_deleted_s.into()),
        grace: Duration::from_secs(terms.grace_s.into()),
        max_percent: terms.max_percent,
        floor: terms.floor,
        confirmed: terms.confirmed,
        known: keys(known),
        ..CollectPolicy::default()
    }
}

fn keys(backups: &[BackupKey]) -> BTreeSet<(VolumeId, BackupId)> {
    let pair = |key: &BackupKey| (key.volume_id, key.backup_id);
    backups.iter().map(pair).collect()
}

const fn nothing(state: CollectionState) -> Collection {
    Collection {
        state,
        backups: 0,
        packs: 0,
        freed: ByteCount::ZERO,
        spared: 0,
        locked: 0,
        until: None,
        open_runs: Vec::new(),
        would_free: None,
        reason: None,
        emptied: None,
    }
}

const fn outcome(collection: Collection) -> TaskOutcome {
    TaskOutcome::Collected { collection }
}

fn reached(collected: &Collected) -> Collection {
    let (state, until) = match collected.outcome {
        Outcome::NothingToDo => (CollectionState::NothingToDo, None),
        Outcome::WaitsForRuns(_) => (CollectionState::WaitsForRuns, None),
        Outcome::WaitsUntil(until) => (CollectionState::WaitsForGrace, Some(until)),
        Outcome::Done => (CollectionState::Done, None),
    };
    Collection {
        backups: count(collected.backups),
        packs: count(collected.packs),
        freed: collected.freed,
        spared: count(collected.spared),
        locked: count(collected.locked),
        until,
        ..nothing(state)
    }
}

fn refused(refusal: &Refusal) -> Collection {
    let (state, would_free) = match *refusal {
        Refusal::TooMuch { bytes, .. } => (CollectionState::NeedsConfirmation, Some(bytes)),
        _ => (CollectionState::Refused, None),
    };
    Collection {
        would_free,
        reason: Some(refusal.to_string()),
        ..nothing(state)
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Proves backups, says exactly what is affected by what is bad, and repairs what can be repaired.
pub fn verify(
    storage: &Storage,
    pool: &dyn Pool,
    spec: &TaskSpec,
    hooks: &dyn Hooks,
) -> TaskResult {
    let TaskSpec::VaultVerify {
        vault: at,
        level,
        ref backups,
        twin,
    } = *spec
    else {
        return Err(misdirected(spec));
    };
    let (vault, watch) = (storage.vault(at)?, hooks.watch());
    let depth = match level {
        VerifyLevel::Present => CheckLevel::Present,
        VerifyLevel::Ciphertext => CheckLevel::Ciphertext,
        VerifyLevel::Decrypt | VerifyLevel::Restore => CheckLevel::Decrypt,
    };
    let report = vault
        .verify_backups(&keys(backups), depth, watch)
        .map_err(|error| of_vault(&error))?;
    let repaired = match report.affected().is_empty() {
        true => Vec::new(),
        false => {
            let twin = twin.and_then(|twin| reachable(storage, twin));
            repair::repair(pool, &vault, twin.as_ref(), backups, &report, hooks)?
        }
    };
    let mut verification = Verification {
        level,
        backups: backups.iter().map(|key| key.backup_id).collect(),
        repaired,
        uncovered: count(report.uncovered),
        bad: report.problems.into_iter().map(bad_object).collect(),
    };
    if level == VerifyLevel::Restore {
        let scratch = VolumeId::from_uuid(at.vault_id.as_uuid());
        let drilled = drill(pool, &vault, scratch, backups, &mut verification, watch);
        pool.delete_volume(scratch)
            .map_err(|error| of_pool(&error))?;
        drilled?;
    }
    Ok(TaskOutcome::Verified { verification })
}

/// The other vault with the same backups. A target that is away keeps nobody from telling what is bad.
fn reachable(storage: &Storage, twin: VaultRef) -> Option<Vault> {
    match storage.vault_if_there(twin) {
        Ok(vault) => vault,
        Err(failure) => {
            let why = failure.detail;
            tracing::warn!(target = %twin.target_id, why, "a second target cannot be read");
            None
        }
    }
}

fn bad_object(problem: Problem) -> BadObject {
    BadObject {
        object: problem.object.to_string(),
        what: problem.what,
        affected: problem.affected,
    }
}

/// Restores each backup that looks sound, one after the other, into a volume that goes again.
fn drill(
    pool: &dyn Pool,
    vault: &Vault,
    scratch: VolumeId,
    backups: &[BackupKey],
    found: &mut Verification,
    watch: &Watch,
) -> Result<(), TaskFailure> {
    let sound: Vec<BackupKey> = backups
        .iter()
        .filter(|key| !found.affects(key.backup_id))
        .copied()
        .collect();
    for key in sound {
        watch.enter(Phase::Restoring);
        if watch.is_cancelled() {
            return Err(of_kind(
                ErrorKind::Cancelled,
                "between two backups".to_owned(),
            ));
        }
        let backup = Backup {
            volume_id: key.volume_id,
            backup_id: key.backup_id,
        };
        match restore(pool, vault, backup, scratch, watch) {
            Ok(_) => {}
            Err(_) if is_deleted(vault, key)? => {}
            Err(failure) if is_damage(failure.kind) => found.bad.push(BadObject {
                object: format!("backup {}", key.backup_id),
                what: failure.detail,
                affected: vec![key.backup_id],
            }),
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

const fn is_damage(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Corrupt | ErrorKind::NotFound)
}

/// Whether somebody deleted the backup meanwhile.
fn is_deleted(vault: &Vault, key: BackupKey) -> Result<bool, TaskFailure> {
    match vault.describe(key.volume_id, key.backup_id) {
        Ok(info) => Ok(info.deleted.is_some()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(of_vault(&error)),
    }
}
