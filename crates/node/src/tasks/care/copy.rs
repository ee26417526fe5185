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
use stillpoint_model::id::BackupId;
use stillpoint_model::operation::Phase;
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
    for (key, part) in parts(from, to, backups, hooks.watch()) {
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
    }
    Ok(())
}

/// Whether the other backups can be copied all the same.
fn is_of_one_backup(error: &Error) -> bool {
    matches!(error, Error::BackupDeleted(_))
        || matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound)
}

/// The backups, each with its share of the whole.
fn parts<'a>(
    from: &Vault,
    to: &Vault,
    backups: &'a [BackupKey],
    watch: &'a Watch,
) -> Vec<(&'a BackupKey, Part<'a>)> {
    let weights: Vec<u64> = backups
        .iter()
        .map(|key| weight(from, to, *key, backups))
        .collect();
    let total = weights.iter().sum();
    let mut before = 0;
    let part = |(key, weight)| {
        let part = Part {
            watch,
            before,
            weight,
            total,
        };
        before += weight;
        (key, part)
    };
    backups.iter().zip(weights).map(part).collect()
}

/// About how much there is to read of a backup: what differs from its parent, if that is copied, too.
fn weight(from: &Vault, to: &Vault, key: BackupKey, backups: &[BackupKey]) -> u64 {
    let Ok(info) = from.describe(key.volume_id, key.backup_id) else {
        return 0;
    };
    let is_copied = |parent: BackupId| {
        let is_asked = backups.iter().any(|other| other.backup_id == parent);
        is_asked || to.describe(key.volume_id, parent).is_ok()
    };
    match info.parent.is_some_and(is_copied) {
        true => info.changed.get(),
        false => info.used.get(),
    }
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
    let (mut back, mut gone) = (Vec::new(), backups.to_vec());
    gone.retain(|key| {
        let found = vault.describe(key.volume_id, key.backup_id);
        matches!(found, Err(Error::BackupNotFound(_)))
    });
    if !gone.is_empty() {
        hooks.watch().enter(Phase::Copying);
    }
    for (key, part) in parts(twin, vault, &gone, hooks.watch()) {
        let volume_and_backup = (key.volume_id, key.backup_id);
        match vault.copy_backup(twin, volume_and_backup, &mut confirm(hooks), &part) {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::io::{Seek as _, SeekFrom, Write as _};
    use std::sync::Arc;

    use stillpoint_env::SimEnv;
    use stillpoint_model::ByteRange;
    use stillpoint_model::id::{AccountId, TargetId, VaultId, VolumeId};
    use stillpoint_model::progress::NullMonitor;
    use stillpoint_model::task::VaultRef;
    use stillpoint_vault::target::MemoryTarget;
    use stillpoint_vault::{BackupSpec, ReadAt, RootKey, Tuning};

    use super::*;
    use crate::tasks::tests::Free;

    const SIZE: ByteCount = ByteCount::from_mib(4);
    const CHANGED: ByteRange = ByteRange::new(1 << 20, 256 << 10);

    fn back_up(
        vault: &Vault,
        disk: &File,
        key: BackupKey,
        parent: Option<BackupId>,
    ) -> stillpoint_vault::Receipt {
        let spec = BackupSpec {
            keep_until: None,
            backup_id: key.backup_id,
            volume_id: key.volume_id,
            parent,
            changed: parent.map(|_| &[CHANGED][..]),
            metadata: BTreeMap::new(),
        };
        let source = ReadAt::new(disk.try_clone().unwrap(), SIZE);
        let prepared = vault.prepare_backup(&spec, &source, &NullMonitor).unwrap();
        let receipt = prepared.commit(&mut || Ok(())).unwrap();
        vault
            .read_back(key.volume_id, key.backup_id, &NullMonitor)
            .unwrap();
        receipt
    }

    #[test]
    fn a_pass_is_as_long_as_what_it_has_to_read() {
        let env = Arc::new(SimEnv::new(1));
        let root_key = RootKey::from_bytes([7; 32]);
        let ids = [TargetId::generate(&*env), TargetId::generate(&*env)];
        let mut storage = Storage::new(env.clone(), "nowhere".into(), Tuning::default());
        for id in ids {
            let target = Arc::new(MemoryTarget::new());
            storage = storage.with_target(id, target, root_key.clone());
        }
        let twin = VaultRef {
            target_id: ids[0],
            vault_id: VaultId::generate(&*env),
            account_id: AccountId::generate(&*env),
        };
        let copies = VaultRef {
            target_id: ids[1],
            ..twin
        };
        let vault = storage.vault_for_backup(twin).unwrap();
        let volume_id = VolumeId::generate(&*env);
        let mut disk = tempfile::tempfile().unwrap();
        disk.write_all(&vec![1; 2 << 20]).unwrap();
        disk.set_len(SIZE.get()).unwrap();
        let [first, second] = [(); 2].map(|()| BackupKey {
            volume_id,
            backup_id: BackupId::generate(&*env),
        });
        let whole = back_up(&vault, &disk, first, None);
        disk.seek(SeekFrom::Start(CHANGED.offset)).unwrap();
        disk.write_all(&vec![2; 256 << 10]).unwrap();
        let part = back_up(&vault, &disk, second, Some(first.backup_id));
        assert!(part.changed < whole.used);

        let spec = TaskSpec::VaultCopy {
            from: twin,
            to: copies,
            backups: vec![first, second],
            delete: vec![],
        };
        let hooks = Free::new();
        let TaskOutcome::Copied { pass } = copy(&storage, &spec, &hooks).unwrap() else {
            panic!("something else was done");
        };
        assert_eq!(pass.copied, [first.backup_id, second.backup_id]);
        let progress = hooks.watch().read();
        assert_eq!(progress.bytes_total, Some(whole.used + part.changed));
        assert_eq!(progress.bytes_done, whole.used + part.changed);
    }
}
