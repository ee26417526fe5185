//! The upkeep of a pool: what runs that are over left behind goes, and layers that no name keeps
//! apart are joined, the least work first.
//!
//! It takes nothing from anybody: the pool says what nothing needs, and checks once more when it
//! is removed. It stops between two steps when other work comes, and goes on another time.

use std::collections::BTreeSet;

use stillpoint_layers::{Error, MergeOutcome, Pool};
use stillpoint_model::id::LayerId;
use stillpoint_model::layer_tree::MergeCandidate;
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
            Ok(MergeOutcome::GaveWay) => {
                gave_way.insert(layer_of(&candidate));
            }
            Err(Error::Cancelled) => {
                return Ok(TaskOutcome::Tidied {
                    merged,
                    removed,
                    unfinished: true,
                });
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
