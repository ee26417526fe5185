//! What every driver must do, as a suite that each of them runs.
//!
//! [`check_all`] runs every check on fresh storage. A check fails by panicking. Guests are played
//! by writing to tips through the driver, so that no hypervisor is needed.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a check fails by panicking"
)]

mod crash;
mod data;
mod lost;
mod tree;
mod walk;
mod world;

use std::sync::Arc;

use stillpoint_model::Env;

pub use world::Storage;
use world::World;

type Check<S> = (&'static str, fn(&mut World<S>));

/// Runs every check, each on storage of its own.
pub fn check_all<S: Storage>(mut make: impl FnMut() -> S, env: &Arc<dyn Env>) {
    for (name, check) in checks::<S>() {
        tracing::debug!(check = name);
        let mut world = World::new(make(), Arc::clone(env));
        check(&mut world);
        world.check_consistent(name);
    }
}

fn checks<S: Storage>() -> Vec<Check<S>> {
    vec![
        ("a new volume is zeros", tree::new_volume_is_zeros),
        ("creating again", tree::creating_again_answers_the_same),
        ("sizes", tree::impossible_sizes_are_refused),
        ("unknown ids", tree::unknown_ids_are_refused_or_done),
        (
            "a snapshot stays",
            tree::snapshot_stays_while_volume_changes,
        ),
        (
            "any order of deletion",
            tree::any_order_of_deletion_keeps_the_rest,
        ),
        ("rolling back", tree::rolling_back_can_be_undone),
        ("clones", tree::clones_are_independent),
        ("growing", tree::growing_adds_zeros),
        ("captures", tree::captures_keep_their_layers),
        ("switching", tree::switching_takes_the_staged_content),
        (
            "a deleted volume's snapshots",
            tree::snapshots_outlive_their_volume,
        ),
        ("opening again", tree::opening_again_finds_the_same_tree),
        ("a lost record", lost::lost_record_of_a_volume),
        ("a lost record, merged", lost::lost_record_after_merges),
        ("a lost record, switched", lost::lost_record_after_a_switch),
        ("restoring", data::restoring_in_any_order),
        ("a dropped restore", data::dropped_restore_leaves_nothing),
        ("restoring wrongly", data::wrong_restores_are_refused),
        ("what changed", data::changed_extents_cover_every_difference),
        ("importing", data::importing_raw),
        ("readers", data::reader_keeps_its_layers),
        ("merges", data::cancelled_merge_changes_nothing),
        ("a crash at every step", crash::crash_at_every_step),
        ("a failure at every step", crash::failure_at_every_step),
        ("full at every step", crash::full_at_every_step),
        ("a random walk", walk::random_walk),
    ]
}
