//! The upkeep of a pool: what runs that are over left behind goes, and layers that no name keeps
//! apart are joined, the least work first.
//!
//! It takes nothing from anybody: the pool says what nothing needs, and checks once more when it
//! is removed. It stops between two steps when other work comes, and goes on another time.

use std::collections::BTreeSet;

use stillpoint_layers::{Error, MergeOutcome, Pool};
use stillpoint_model::error::with_causes;
use stillpoint_model::id::LayerId;
use stillpoint_model::layer_tree::{MergeCandidate, Refusal};
use stillpoint_model::progress::Monitor;
use stillpoint_model::task::TaskOutcome;

use super::TaskResult;
use crate::failure::of_pool;
use crate::progress::Watch;

pub fn tidy(pool: &dyn Pool, watch: &Watch) -> TaskResult {
    let orphans = pool.orphans().map_err(|error| of_pool(&error))?;
    let mut removed = 0;
    if !orphans.is_empty() {
        removed = pool.reap(&orphans).map_err(|error| of_pool(&error))?;
    }
    let mut merged = 0;
    let mut gave_way = BTreeSet::new();
    loop {
        if watch.is_cancelled() {
            return Ok(TaskOutcome::Tidied {
                merged,
                removed,
                unfinished: true,
            });
        }
        let next = pool
            .merge_candidates()
            .into_iter()
            .find(|c| !gave_way.contains(&layer_of(c)));
        let Some(candidate) = next else {
            let unfinished = !gave_way.is_empty();
            return Ok(TaskOutcome::Tidied {
                merged,
                removed,
                unfinished,
            });
        };
        match pool.merge(&candidate, watch) {
            Ok(MergeOutcome::Done) => merged += 1,
            // Something outside, such as a machine that reads the layer, has it open. That is no
            // fault: the merge comes back with the next upkeep.
            Ok(MergeOutcome::GaveWay) | Err(Error::LayerInUse(_)) => {
                gave_way.insert(layer_of(&candidate));
            }
            Err(Error::Cancelled) => {
                return Ok(TaskOutcome::Tidied {
                    merged,
                    removed,
                    unfinished: true,
                });
            }
            // Whoever has the layers open cannot or will not, or failed: the others go on, and
            // what it left is found out before anybody touches these again.
            Err(
                error @ (Error::HostUnreachable(_)
                | Error::HostRefused { .. }
                | Error::Host { .. }
                | Error::Refused(Refusal::Undecided(_))),
            ) => {
                let error = with_causes(&error);
                tracing::warn!(layer = %layer_of(&candidate), error, "not merged");
                gave_way.insert(layer_of(&candidate));
            }
            Err(error) => return Err(of_pool(&error)),
        }
    }
}

/// The layer that goes.
const fn layer_of(candidate: &MergeCandidate) -> LayerId {
    match *candidate {
        MergeCandidate::Remove { layer } => layer,
        MergeCandidate::Merge { parent, .. } => parent,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};
    use std::sync::Arc;

    use stillpoint_env::SimEnv;
    use stillpoint_layers::LayerPool;
    use stillpoint_layers::qcow2::Qcow2Driver;
    use stillpoint_model::ByteCount;
    use stillpoint_model::id::{PoolId, SnapshotId, VolumeId};
    use stillpoint_model::operation::Phase;

    use super::*;

    fn tidied(pool: &dyn Pool) -> TaskResult {
        tidy(pool, &Watch::new(Phase::CleanUp))
    }

    #[test]
    fn a_layer_that_is_open_elsewhere_waits_for_another_time() {
        let folder = tempfile::tempdir().unwrap();
        let env = Arc::new(SimEnv::new(1));
        let driver =
            Qcow2Driver::open(&folder.path().join("pool"), PoolId::generate(&*env)).unwrap();
        let pool = LayerPool::open(driver, env.clone()).unwrap();
        let (volume, snapshot) = (VolumeId::generate(&*env), SnapshotId::generate(&*env));
        pool.create_volume(volume, ByteCount::from_mib(1)).unwrap();
        pool.snapshot(volume, snapshot).unwrap();
        let mut machine = Command::new("qemu-io")
            .arg(format!("json:{}", pool.block_graph(volume).unwrap()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Its prompt says that it has the layers open.
        let mut prompt = [0; 8];
        let mut said = machine.stdout.take().unwrap();
        said.read_exact(&mut prompt).unwrap();
        pool.delete_snapshot(snapshot).unwrap();
        let outcome = |merged, unfinished| TaskOutcome::Tidied {
            merged,
            removed: 0,
            unfinished,
        };
        assert_eq!(tidied(&pool), Ok(outcome(0, true)));
        machine.stdin.take().unwrap().write_all(b"quit\n").unwrap();
        assert!(machine.wait().unwrap().success());
        assert_eq!(tidied(&pool), Ok(outcome(1, false)));
    }
}
