//! Volumes that are in use before they are whole: begun with a look at their backup alone, and filled
//! from it beside everything else that is done with them.
//!
//! ```text
//!  begin ──> shows its backup, over a reader ──> written, compared ──> handed over ──> whole
//!                 ^                                   |                     |
//!                 └──── cancelled, failed, crashed ───┴─────────────────────┘
//! ```
//!
//! **Again after a crash.** What a volume is filled from is in its pool's record, so a fill that is given
//! again begins anew by itself, with the same content at the same places.
//!
//! **Beside.** A fill owns nothing but itself: the volume is opened, closed and deleted meanwhile. One
//! whose volume was deleted ends, which is no failure. Handing over waits for whoever opens the volume
//! at that moment, and a while for one that does not answer.

use std::time::Duration;

use stillpoint_layers::{Error, FillOutcome, Pool, VolumeInfo};
use stillpoint_model::id::VolumeId;
use stillpoint_model::layer_tree::{FillSource, Filling};
use stillpoint_model::progress::Monitor;
use stillpoint_model::task::{TaskFailure, TaskOutcome, TaskSpec};
use stillpoint_model::{ByteCount, ErrorKind};
use stillpoint_vault::ReadCache;

use super::TaskResult;
use super::backup::Sink;
use crate::failure::{misdirected, of_kind, of_pool, of_vault};
use crate::progress::Watch;
use crate::storage::Storage;

/// The pause before a volume that is being opened is asked for once more.
const LOOK: Duration = Duration::from_millis(50);

/// How long somebody who has the volume open may be out of reach before the fill is given up. What was
/// filled would have to be filled again.
const PATIENCE: Duration = Duration::from_mins(10);

/// Does a task of a volume that is in use before it is whole.
pub fn perform(storage: &Storage, pool: &dyn Pool, spec: &TaskSpec, watch: &Watch) -> TaskResult {
    match *spec {
        TaskSpec::VolumeFillBegin {
            volume_id,
            backup_id,
            source_volume_id,
            vault,
        } => {
            let source = FillSource {
                vault,
                source_volume_id,
                backup_id,
            };
            begin(storage, pool, volume_id, source)
        }
        TaskSpec::VolumeFill { volume_id } => fill(storage, pool, volume_id, watch),
        _ => Err(misdirected(spec)),
    }
}

fn begin(storage: &Storage, pool: &dyn Pool, volume: VolumeId, source: FillSource) -> TaskResult {
    let vault = storage.vault(source.vault)?;
    let cache = ReadCache::new(ByteCount::ZERO);
    let reader = vault
        .open_backup(source.source_volume_id, source.backup_id, &cache)
        .and_then(|reader| reader.next_data(0).map(|_| reader));
    let size = reader.map_err(|error| of_vault(&error))?.size();
    made(pool.begin_fill(volume, size, source))
}

fn fill(storage: &Storage, pool: &dyn Pool, volume: VolumeId, watch: &Watch) -> TaskResult {
    let Some(filling) = pool.filling(volume).map_err(|error| of_pool(&error))? else {
        return ended(pool, volume);
    };
    let given = Given {
        pool,
        volume,
        watch,
    };
    let filled = write(storage, &given, filling).and_then(|()| hand_over(storage, &given, watch));
    match filled {
        // Whatever it ended with, its volume was deleted under it.
        Err(_) if given.is_over() => ended(pool, volume),
        Err(failure) => Err(failure),
        Ok(()) => ended(pool, volume),
    }
}

/// Writes the base and compares it, whole, with the manifest.
fn write(storage: &Storage, given: &Given<'_>, filling: Filling) -> Result<(), TaskFailure> {
    let Given { pool, volume, .. } = *given;
    let FillSource {
        vault,
        source_volume_id,
        backup_id,
    } = filling.source;
    let vault = storage.vault(vault)?;
    let info = vault
        .describe(source_volume_id, backup_id)
        .map_err(|error| of_vault(&error))?;
    let base = pool.fill_base(volume).map_err(|error| of_pool(&error))?;
    let sink = Sink::new(pool, volume, info.provisioned, base);
    vault
        .restore(source_volume_id, backup_id, &sink, given)
        .map_err(|error| of_vault(&error))?;
    sink.finish().map_err(|error| of_pool(&error))
}

/// Has the volume stand on its base, once nobody is opening it.
fn hand_over(storage: &Storage, given: &Given<'_>, watch: &Watch) -> Result<(), TaskFailure> {
    let Given { pool, volume, .. } = *given;
    let since = storage.env().monotonic();
    loop {
        match pool.end_fill(volume) {
            Ok(FillOutcome::Whole) => return Ok(()),
            Ok(FillOutcome::GaveWay) => {}
            Err(error @ (Error::HostUnreachable(_) | Error::LayerInUse(_))) => {
                if storage.env().monotonic().saturating_sub(since) > PATIENCE {
                    return Err(of_pool(&error));
                }
            }
            Err(error) => return Err(of_pool(&error)),
        }
        if watch.is_cancelled() {
            let detail = format!("before volume {volume} stood on what it was filled with");
            return Err(of_kind(ErrorKind::Cancelled, detail));
        }
        std::thread::park_timeout(LOOK);
    }
}

/// What became of a volume that is not being filled any more.
fn ended(pool: &dyn Pool, volume: VolumeId) -> TaskResult {
    match pool.volume(volume) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(TaskOutcome::Done),
        found => made(found),
    }
}

fn made(result: Result<VolumeInfo, Error>) -> TaskResult {
    let VolumeInfo { tip, size, used } = result.map_err(|error| of_pool(&error))?;
    Ok(TaskOutcome::Volume { tip, size, used })
}

/// A fill that was asked for. It stops when its volume is deleted, too.
struct Given<'a> {
    pool: &'a dyn Pool,
    volume: VolumeId,
    watch: &'a Watch,
}

impl Given<'_> {
    /// Whether there is nothing to fill any more.
    fn is_over(&self) -> bool {
        matches!(self.pool.filling(self.volume), Ok(None))
    }
}

impl Monitor for Given<'_> {
    fn progress(&self, done: ByteCount, total: Option<ByteCount>) {
        self.watch.progress(done, total);
    }

    fn is_cancelled(&self) -> bool {
        self.watch.is_cancelled() || self.is_over()
    }
}
