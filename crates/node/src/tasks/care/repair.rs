//! Making whole what a verification found damaged, from what the volumes still have.
//!
//! A volume's snapshots, and the layer that its last backup was made of, are sealed: they can be read
//! beside a guest and hold what the volume held then. A chunk that a backup lost is mostly still in
//! one of them, at its place. It counts by its id, so a layer that holds something else there heals
//! nothing.
//!
//! **Again after a crash.** What a repair stored and did not name yet, the next one finds; a run that
//! was cut off is taken back by a collection, as any other is.

use stillpoint_layers::Pool;
use stillpoint_model::ErrorKind;
use stillpoint_model::id::{BackupId, LayerId, VolumeId};
use stillpoint_model::progress::Monitor as _;
use stillpoint_model::task::TaskFailure;
use stillpoint_vault::{CheckReport, Error, Source, Vault};

use crate::failure::of_vault;
use crate::progress::Watch;
use crate::tasks::backup;

/// The layers of a volume that are tried at most, the newest first.
const LAYERS: usize = 16;

/// The backups of a report that are whole again. What keeps a repair from being done is logged: what
/// the verification found is to be told in any case.
pub(super) fn repair(
    pool: &dyn Pool,
    vault: &Vault,
    report: &CheckReport,
    watch: &Watch,
) -> Result<Vec<BackupId>, TaskFailure> {
    let mut open = |volume, _: BackupId| Ok(sources(pool, volume));
    let mut confirm = || match watch.is_cancelled() {
        true => Err(ErrorKind::Fenced),
        false => Ok(()),
    };
    let repaired = vault
        .to_repair(report)
        .and_then(|damaged| vault.repair_backups(&damaged, &mut open, &mut confirm, watch));
    match repaired {
        Ok(repaired) => {
            for (backup, why) in &repaired.left {
                tracing::warn!(vault = %vault.id(), %backup, why, "a damaged backup was not repaired");
            }
            for (backup, receipt) in &repaired.renewed {
                tracing::warn!(vault = %vault.id(), %backup, stored = %receipt.stored, "a damaged backup was repaired");
            }
            Ok(repaired
                .renewed
                .into_iter()
                .map(|(backup, _)| backup)
                .collect())
        }
        Err(error @ (Error::Cancelled | Error::NotConfirmed { .. })) => Err(of_vault(&error)),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(vault = %vault.id(), error, "a repair could not go on");
            Ok(Vec::new())
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
