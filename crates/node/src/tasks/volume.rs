//! Volumes, snapshots, captures: the pool does it, this says how it ended.

use stillpoint_layers::{Error, Pool, Sealed, VolumeInfo};
use stillpoint_model::id::{ImageId, SnapshotId, VolumeId};
use stillpoint_model::image::sealed;
use stillpoint_model::item::{Consistency, FreezePolicy};
use stillpoint_model::task::{CloneSource, TaskFailure, TaskOutcome, TaskSpec};
use stillpoint_model::{ByteCount, ErrorKind};

use super::TaskResult;
use crate::failure::{misdirected, not_frozen, of_pool};
use crate::progress::Watch;
use crate::storage::Storage;

/// Does a task that a pool does alone.
pub fn perform(storage: &Storage, pool: &dyn Pool, spec: &TaskSpec, watch: &Watch) -> TaskResult {
    match *spec {
        TaskSpec::VolumeCreate { volume_id, size } => made(pool.create_volume(volume_id, size)),
        TaskSpec::VolumeImport {
            volume_id,
            upload,
            format,
            max_size,
        } => {
            let source = storage.upload(upload, format);
            made(pool.import(volume_id, &source, max_size, watch))
        }
        TaskSpec::VolumeResize { volume_id, size } => made(pool.resize(volume_id, size)),
        TaskSpec::VolumeClone { volume_id, source } => made(pool.clone_volume(source, volume_id)),
        TaskSpec::VolumeFromImage {
            volume_id,
            image_id,
            size,
        } => made(from_image(pool, volume_id, image_id, size)),
        TaskSpec::VolumeDelete { volume_id } => {
            let deleted = done(pool.delete_volume(volume_id))?;
            storage.end_reader(volume_id);
            Ok(deleted)
        }
        TaskSpec::VolumeRollBack {
            volume_id,
            snapshot_id,
            safety_id,
        } => made(pool.roll_back(volume_id, snapshot_id, safety_id)),
        TaskSpec::VolumeSwitch {
            volume_id,
            staged_id,
            safety_id,
        } => made(pool.switch(volume_id, staged_id, safety_id)),
        TaskSpec::VolumeInspect { volume_id, witness } => inspect(pool, volume_id, witness),
        TaskSpec::SnapshotSeal {
            volume_id,
            snapshot_id,
            freeze,
        } => one_of(seal(pool, &[(volume_id, snapshot_id)], freeze)),
        TaskSpec::SnapshotSealTogether { ref points, freeze } => {
            let set = points
                .iter()
                .map(|point| (point.volume_id, point.snapshot_id));
            seal(pool, &set.collect::<Vec<_>>(), freeze)
        }
        TaskSpec::SnapshotVerify { snapshot_id } => done(pool.verify_snapshot(snapshot_id, watch)),
        TaskSpec::SnapshotDrop { snapshot_id } => done(pool.delete_snapshot(snapshot_id)),
        TaskSpec::BackupCapture {
            volume_id,
            backup_id,
            snapshot_id,
            freeze,
        } => {
            let captured = pool
                .capture(volume_id, backup_id, snapshot_id, freeze)
                .map_err(|error| of_pool(&error))?;
            // What a snapshot promises was settled when it was taken.
            if snapshot_id.is_none() {
                check_frozen(freeze, captured.consistency)?;
            }
            Ok(outcome_of(captured))
        }
        TaskSpec::BackupSettle {
            volume_id,
            backup_id,
        } => done(pool.settle_capture(volume_id, backup_id)),
        _ => Err(misdirected(spec)),
    }
}

/// A linked clone of an image, made larger where that was asked.
fn from_image(
    pool: &dyn Pool,
    volume: VolumeId,
    image: ImageId,
    size: ByteCount,
) -> Result<VolumeInfo, Error> {
    let made = pool.clone_volume(CloneSource::Snapshot(sealed(image)), volume)?;
    if made.size < size {
        return pool.resize(volume, size);
    }
    Ok(made)
}

fn made(result: Result<VolumeInfo, Error>) -> TaskResult {
    let VolumeInfo { tip, size, used } = result.map_err(|error| of_pool(&error))?;
    Ok(TaskOutcome::Volume { tip, size, used })
}

/// Seals volumes at one instant; an outcome for each.
fn seal(pool: &dyn Pool, set: &[(VolumeId, SnapshotId)], freeze: FreezePolicy) -> TaskResult {
    let all = pool.snapshot_together(set, freeze);
    let all = all.map_err(|error| of_pool(&error))?;
    for one in &all {
        check_frozen(freeze, one.consistency)?;
    }
    let outcomes = all.into_iter().map(outcome_of).collect();
    Ok(TaskOutcome::All { outcomes })
}

/// What volumes were sealed as, which all of them are already.
pub(super) fn seal_again(pool: &dyn Pool, set: &[(VolumeId, SnapshotId)]) -> TaskResult {
    seal(pool, set, FreezePolicy::Skip)
}

/// The outcome of the one.
fn one_of(result: TaskResult) -> TaskResult {
    match result? {
        TaskOutcome::All { mut outcomes } if outcomes.len() == 1 => Ok(outcomes.remove(0)),
        other => Ok(other),
    }
}

/// Whether a capture is as consistent as was required. It is decided by what the pool recorded, so
/// that a task that is done again, or that lost its answer, ends the same.
fn check_frozen(freeze: FreezePolicy, reached: Consistency) -> Result<(), TaskFailure> {
    if freeze == FreezePolicy::Require && reached == Consistency::Crash {
        return Err(not_frozen("the guest did not stay frozen".to_owned()));
    }
    Ok(())
}

/// A captured point in time.
const fn outcome_of(sealed: Sealed) -> TaskOutcome {
    let Sealed {
        layer,
        tip,
        size,
        used,
        changed,
        consistency,
    } = sealed;
    TaskOutcome::Sealed {
        layer,
        tip,
        consistency,
        provisioned: size,
        used,
        changed,
    }
}

fn done(result: Result<(), Error>) -> TaskResult {
    result.map_err(|error| of_pool(&error))?;
    Ok(TaskOutcome::Done)
}

fn inspect(pool: &dyn Pool, volume: VolumeId, witness: Option<SnapshotId>) -> TaskResult {
    let VolumeInfo { tip, size, used } = pool.volume(volume).map_err(|error| of_pool(&error))?;
    let witness = match witness.map(|snapshot| pool.snapshot_layer(snapshot)) {
        None => false,
        Some(Ok(_)) => true,
        Some(Err(error)) if error.kind() == ErrorKind::NotFound => false,
        Some(Err(error)) => return Err(of_pool(&error)),
    };
    Ok(TaskOutcome::Inspected {
        tip,
        size,
        used,
        witness,
    })
}
