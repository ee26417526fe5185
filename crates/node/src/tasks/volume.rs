//! Volumes and snapshots: the pool does it, this says how it ended.

use stillpoint_layers::{Error, ImageSource, Pool, Sealed, VolumeInfo};
use stillpoint_model::id::{SnapshotId, VolumeId};
use stillpoint_model::item::Consistency;
use stillpoint_model::task::{CloneSource, TaskOutcome};
use stillpoint_model::{ByteCount, ErrorKind};

use super::TaskResult;
use crate::failure::of_pool;
use crate::progress::Watch;

fn made(result: Result<VolumeInfo, Error>) -> TaskResult {
    let VolumeInfo { tip, size, used } = result.map_err(|error| of_pool(&error))?;
    Ok(TaskOutcome::Volume { tip, size, used })
}

/// A captured point in time. Nothing has the volume open, or the pool would have refused.
pub fn sealed(result: Result<Sealed, Error>) -> TaskResult {
    let Sealed {
        layer,
        tip,
        size,
        used,
        changed,
    } = result.map_err(|error| of_pool(&error))?;
    let consistency = Consistency::Stopped;
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

pub fn create(pool: &dyn Pool, volume: VolumeId, size: ByteCount) -> TaskResult {
    made(pool.create_volume(volume, size))
}

pub fn import(
    pool: &dyn Pool,
    volume: VolumeId,
    source: &ImageSource,
    max_size: ByteCount,
    watch: &Watch,
) -> TaskResult {
    made(pool.import(volume, source, max_size, watch))
}

pub fn resize(pool: &dyn Pool, volume: VolumeId, size: ByteCount) -> TaskResult {
    made(pool.resize(volume, size))
}

pub fn clone(pool: &dyn Pool, volume: VolumeId, source: CloneSource) -> TaskResult {
    made(pool.clone_volume(source, volume))
}

pub fn delete(pool: &dyn Pool, volume: VolumeId) -> TaskResult {
    done(pool.delete_volume(volume))
}

pub fn seal(pool: &dyn Pool, volume: VolumeId, snapshot: SnapshotId) -> TaskResult {
    sealed(pool.snapshot(volume, snapshot))
}

pub fn verify(pool: &dyn Pool, snapshot: SnapshotId, watch: &Watch) -> TaskResult {
    done(pool.verify_snapshot(snapshot, watch))
}

pub fn drop_snapshot(pool: &dyn Pool, snapshot: SnapshotId) -> TaskResult {
    done(pool.delete_snapshot(snapshot))
}

pub fn roll_back(
    pool: &dyn Pool,
    volume: VolumeId,
    snapshot: SnapshotId,
    safety: SnapshotId,
) -> TaskResult {
    made(pool.roll_back(volume, snapshot, safety))
}

pub fn switch(
    pool: &dyn Pool,
    volume: VolumeId,
    staged: VolumeId,
    safety: SnapshotId,
) -> TaskResult {
    made(pool.switch(volume, staged, safety))
}

pub fn inspect(pool: &dyn Pool, volume: VolumeId, witness: Option<SnapshotId>) -> TaskResult {
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
