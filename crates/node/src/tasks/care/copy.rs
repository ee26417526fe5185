//! Copying the backups of a vault into one of the same id in another target.
//!
//! One backup after the other, the oldest first, so that each finds the one before it and only what
//! differs is read. Then the copies of what was deleted long ago are deleted: the control plane says
//! which, and nothing here looks for more.
//!
//! **Again after a crash.** A copy that is there is found there and read back. One that was cut off
//! is taken back and made anew; what the backups before it stored is shared. A backup that cannot be
//! copied does not keep the others from it, but a target that does not answer ends the pass: what came
//! of it until then is told.

use stillpoint_model::care::{BackupKey, CopyPass, NotCopied};
use stillpoint_model::error::with_causes;
use stillpoint_model::progress::Monitor;
use stillpoint_model::task::{TaskFailure, TaskOutcome, TaskSpec};
use stillpoint_model::{ByteCount, ErrorKind};
use stillpoint_vault::{Copied, Error, Vault};

use super::confirm;
use crate::failure::{misdirected, of_kind, of_vault};
use crate::progress::Watch;
use crate::storage::Storage;
use crate::tasks::{Hooks, TaskResult};

/// Copies what is to be copied, and deletes what is to be deleted.
pub(in crate::tasks) fn copy(storage: &Storage, spec: &TaskSpec, hooks: &dyn Hooks) -> TaskResult {
    let TaskSpec::VaultCopy {
        from,
        to,
        ref backups,
        ref delete,
    } = *spec
    else {
        return Err(misdirected(spec));
    };
    let from = storage.vault(from)?;
    let to = storage.vault_for_backup(to)?;
    let mut pass = CopyPass::default();
    let ended = copy_all(&from, &to, backups, hooks, &mut pass)
        .and_then(|()| delete_all(&to, delete, hooks.watch(), &mut pass));
    match ended {
        Ok(()) => {}
        // Nobody hears what a task says that was taken away or is to stop.
        Err(error) if matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Cancelled) => {
            return Err(of_vault(&error));
        }
        Err(error) if pass.copied.is_empty() && pass.deleted.is_empty() => {
            return Err(of_vault(&error));
        }
        Err(error) => pass.cut_off = Some(with_causes(&error)),
    }
    Ok(TaskOutcome::Copied { pass })
}

fn copy_all(
    from: &Vault,
    to: &Vault,
    backups: &[BackupKey],
    hooks: &dyn Hooks,
    pass: &mut CopyPass,
) -> Result<(), Error> {
    let weights: Vec<u64> = backups.iter().map(|key| weight(from, *key)).collect();
    let total = weights.iter().sum();
    let mut before = 0;
    for (key, weight) in backups.iter().zip(weights) {
        let part = Part {
            watch: hooks.watch(),
            before,
            weight,
            total,
        };
        let volume_and_backup = (key.volume_id, key.backup_id);
        match to.copy_backup(from, volume_and_backup, &mut confirm(hooks), &part) {
            Ok(copied) => {
                pass.copied.push(key.backup_id);
                if let Copied::Now(receipt) = copied {
                    pass.stored += receipt.stored;
                }
            }
            Err(error) if is_of_one_backup(&error) => {
                let why = with_causes(&error);
                tracing::warn!(backup = %key.backup_id, why, "a backup was not copied");
                pass.left.push(NotCopied {
                    backup_id: key.backup_id,
                    why,
                });
            }
            Err(error) => return Err(error),
        }
        before += weight;
    }
    Ok(())
}

/// Whether the other backups can be copied all the same.
fn is_of_one_backup(error: &Error) -> bool {
    matches!(error, Error::BackupDeleted(_))
        || matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound)
}

/// About how much there is to read of a backup.
fn weight(from: &Vault, key: BackupKey) -> u64 {
    let info = from.describe(key.volume_id, key.backup_id);
    info.map_or(0, |info| info.changed.get())
}

/// Puts the tombstones of copies. One that is not there, or was deleted, is done.
fn delete_all(
    to: &Vault,
    delete: &[BackupKey],
    watch: &Watch,
    pass: &mut CopyPass,
) -> Result<(), Error> {
    for key in delete {
        if watch.is_cancelled() {
            return Err(Error::Cancelled);
        }
        match to.delete_backup(key.volume_id, key.backup_id) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        pass.deleted.push(key.backup_id);
    }
    Ok(())
}

/// The share of one backup in the whole pass.
struct Part<'a> {
    watch: &'a Watch,
    before: u64,
    weight: u64,
    total: u64,
}

impl Monitor for Part<'_> {
    fn progress(&self, done: ByteCount, total: Option<ByteCount>) {
        let whole = total.map_or(self.weight, ByteCount::get).max(1);
        let share = u128::from(self.weight) * u128::from(done.get().min(whole)) / u128::from(whole);
        let share = u64::try_from(share).unwrap_or(self.weight);
        let all = (self.total > 0).then_some(ByteCount::new(self.total));
        self.watch
            .progress(ByteCount::new(self.before + share), all);
    }

    fn is_cancelled(&self) -> bool {
        self.watch.is_cancelled()
    }
}

/// Copies back, from a vault that has them, backups of which nothing is left: those that were.
pub(super) fn bring_back(
    vault: &Vault,
    twin: &Vault,
    backups: &[BackupKey],
    hooks: &dyn Hooks,
) -> Result<Vec<BackupKey>, TaskFailure> {
    let mut back = Vec::new();
    for key in backups {
        let volume_and_backup = (key.volume_id, key.backup_id);
        match vault.describe(key.volume_id, key.backup_id) {
            Err(Error::BackupNotFound(_)) => {}
            _ => continue,
        }
        match vault.copy_backup(twin, volume_and_backup, &mut confirm(hooks), hooks.watch()) {
            Ok(_) => {
                tracing::warn!(vault = %vault.id(), backup = %key.backup_id, "a backup that was gone is back");
                back.push(*key);
            }
            Err(error) if matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Cancelled) => {
                return Err(of_kind(error.kind(), with_causes(&error)));
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(backup = %key.backup_id, error, "a backup that is gone was not brought back");
            }
        }
    }
    Ok(back)
}
