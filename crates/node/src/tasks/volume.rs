//! Volumes, snapshots, captures: the pool does it, this says how it ended.

use stillpoint_layers::{Error, Pool, Sealed, VolumeInfo};
use stillpoint_model::id::{ImageId, SnapshotId, VolumeId};
use stillpoint_model::image::sealed;
use stillpoint_model::task::{CloneSource, TaskOutcome, TaskSpec};
use stillpoint_model::{ByteCount, ErrorKind};

use super::TaskResult;
use crate::failure::{misdirected, of_pool};
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
        TaskSpec::VolumeDelete { volume_id } => done(pool.delete_volume(volume_id)),
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
        } => captured(pool.snapshot(volume_id, snapshot_id)),
        TaskSpec::SnapshotVerify { snapshot_id } => done(pool.verify_snapshot(snapshot_id, watch)),
        TaskSpec::SnapshotDrop { snapshot_id } => done(pool.delete_snapshot(snapshot_id)),
        TaskSpec::BackupCapture {
            volume_id,
            backup_id,
            snapshot_id,
        } => captured(pool.capture(volume_id, backup_id, snapshot_id)),
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

/// A captured point in time.
fn captured(result: Result<Sealed, Error>) -> TaskResult {
    let Sealed {
        layer,
        tip,
        size,
        used,
        changed,
        consistency,
    } = result.map_err(|error| of_pool(&error))?;
    Ok(TaskOutcome::Sealed {
        layer,
        tip,
        consistency,
        provisioned: size,
        used,
        changed,
    })
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
