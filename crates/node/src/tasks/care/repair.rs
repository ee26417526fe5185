//! Making whole what a verification found damaged, from what the volumes and a second target have.
//!
//! A volume's snapshots, and the layer that its last backup was made of, are sealed: they can be read
//! beside a guest and hold what the volume held then. A chunk that a backup lost is mostly still in
//! one of them, at its place. It counts by its id, so a layer that holds something else there heals
//! nothing. After the layers comes the vault in another target that has the same backups, where there
//! is one; what is gone with its manifest is copied back from it.
//!
//! **Again after a crash.** What a repair stored and did not name yet, the next one finds; a run that
//! was cut off is taken back by a collection, as any other is.

use stillpoint_layers::Pool;
use stillpoint_model::care::BackupKey;
use stillpoint_model::id::{BackupId, LayerId, VolumeId};
use stillpoint_model::operation::Phase;
use stillpoint_model::task::TaskFailure;
use stillpoint_vault::{CheckReport, Error, Source, Vault};

use super::confirm;
use super::copy::bring_back;
use crate::failure::of_vault;
use crate::tasks::{Hooks, backup};

/// The layers of a volume that are tried at most, the newest first.
const LAYERS: usize = 16;

/// The backups of a report that are whole again. What keeps a repair from being done is logged: what
/// the verification found is to be told in any case.
pub(super) fn repair(
    pool: &dyn Pool,
    vault: &Vault,
    twin: Option<&Vault>,
    backups: &[BackupKey],
    report: &CheckReport,
    hooks: &dyn Hooks,
) -> Result<Vec<BackupId>, TaskFailure> {
    let back = match twin {
        Some(twin) => bring_back(vault, twin, backups, hooks)?,
        None => Vec::new(),
    };
    let mut open = |volume, backup: BackupId| {
        let mut sources = sources(pool, volume);
        if let Some(twin) = twin {
            sources.extend(copied(twin, volume, backup));
        }
        Ok(sources)
    };
    let repaired = vault.to_repair(report).and_then(|mut damaged| {
        damaged.retain(|(_, id)| !back.iter().any(|key| key.backup_id == *id));
        hooks.watch().enter(Phase::Repairing);
        vault.repair_backups(&damaged, &mut open, &mut confirm(hooks), hooks.watch())
    });
    let mut whole: Vec<BackupId> = back.into_iter().map(|key| key.backup_id).collect();
    match repaired {
        Ok(repaired) => {
            for (backup, why) in &repaired.left {
                tracing::warn!(vault = %vault.id(), %backup, why, "a damaged backup was not repaired");
            }
            for (backup, receipt) in &repaired.renewed {
                tracing::warn!(vault = %vault.id(), %backup, stored = %receipt.stored, "a damaged backup was repaired");
            }
            whole.extend(repaired.renewed.into_iter().map(|(backup, _)| backup));
            Ok(whole)
        }
        Err(error @ (Error::Cancelled | Error::NotConfirmed { .. })) => Err(of_vault(&error)),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(vault = %vault.id(), error, "a repair could not go on");
            Ok(whole)
        }
    }
}

/// The same backup in a second target, if that can be read.
fn copied(twin: &Vault, volume: VolumeId, backup: BackupId) -> Option<Source<'static>> {
    match Source::copy_in(twin, volume, backup) {
        Ok(source) => source,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(%backup, error, "the copy of a backup cannot be read");
            None
        }
    }
}

/// What a volume holds sealed, the newest first.
fn sources(pool: &dyn Pool, volume: VolumeId) -> Vec<Source<'static>> {
    let tree = pool.tree();
    let Some(record) = tree.record(volume) else {
        return Vec::new();
    };
    let snapshots = record.snapshots.values().map(|snapshot| snapshot.layer);
    let mut layers: Vec<LayerId> = snapshots.chain(record.captures.values().copied()).collect();
    layers.sort_unstable();
    layers.dedup();
    let newest = layers.into_iter().rev().take(LAYERS);
    newest
        .filter_map(|layer| match pool.open_layer(layer) {
            Ok(reader) => Some(Source {
                reader: backup::layer(reader),
                copy: None,
            }),
            // It was merged or removed since: the others may have what it had.
            Err(error) => {
                tracing::debug!(%layer, %error, "a layer is no source of a repair");
                None
            }
        })
        .collect()
}
