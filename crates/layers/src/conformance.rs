//! What every driver must do, as a suite that each of them runs.
//!
//! [`check_all`] runs every check on fresh storage. A check fails by panicking. Guests are played
//! by writing to tips through the driver, so that no hypervisor is needed; storage that brings
//! [`Guests`] has the same done to volumes that they have open.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a check fails by panicking"
)]

mod crash;
mod data;
mod filling;
mod image;
mod increments;
mod lost;
mod tree;
mod walk;
mod world;

use std::sync::Arc;

use stillpoint_model::Env;

use world::World;
pub use world::{Guests, Storage};

/// What a group of checks is about, so that groups can run beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What the tree promises.
    Tree,
    /// Content: restores, imports, differences, merges.
    Data,
    /// Lost records.
    Lost,
    /// Crashes, failures and full storage at every step.
    Faults,
    /// Random sequences of everything.
    Walks,
    /// Chains of increments against full reads.
    Increments,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Tree,
        Self::Data,
        Self::Lost,
        Self::Faults,
        Self::Walks,
        Self::Increments,
    ];
}

/// Checks of what the pool does itself, which are not about whoever has volumes open.
const CLOSED_ONLY: [&str; 1] = ["merges among readers"];

type Check<S> = (&'static str, fn(&mut World<S>));

/// Runs every check, each on storage of its own.
pub fn check_all<S: Storage>(mut make: impl FnMut() -> S, env: &Arc<dyn Env>) {
    for part in Part::ALL {
        check_part(part, &mut make, env);
    }
}

/// Runs the checks of one part, each on storage of its own.
pub fn check_part<S: Storage>(part: Part, mut make: impl FnMut() -> S, env: &Arc<dyn Env>) {
    for (name, check) in checks::<S>(part) {
        tracing::debug!(check = name);
        let mut world = World::new(make(), Arc::clone(env));
        if world.is_live() && CLOSED_ONLY.contains(&name) {
            continue;
        }
        check(&mut world);
        world.check_consistent(name);
    }
}

/// Tells the story of the checks of faults again and again. `cut` ends a run after a number of
/// its own steps; `heal` lets the next go on, and says whether the run had come so far.
/// `with_guests` says whether the guests end at the same moment.
#[cfg(test)]
pub(crate) fn check_cuts<S: Storage>(
    storage: S,
    env: &Arc<dyn Env>,
    cuts: impl Iterator<Item = u64>,
    cut: impl Fn(u64),
    heal: impl Fn() -> bool,
    with_guests: impl Fn(u64) -> bool,
) {
    let mut world = World::new(storage, Arc::clone(env));
    let mut count = 0;
    for at in cuts {
        if !crash::tell_cut_off(&mut world, at, &cut, &heal, with_guests(at)) {
            break;
        }
        count += 1;
    }
    assert!(count > 50, "only {count} cuts");
    world.check_consistent("cut off");
}

fn checks<S: Storage>(part: Part) -> Vec<Check<S>> {
    match part {
        Part::Tree => tree_checks(),
        Part::Data => vec![
            ("restoring", data::restoring_in_any_order),
            (
                "restoring side by side",
                data::restoring_from_several_threads,
            ),
            ("a dropped restore", data::dropped_restore_leaves_nothing),
            ("restoring wrongly", data::wrong_restores_are_refused),
            ("what changed", data::changed_extents_cover_every_difference),
            ("importing", data::importing_raw),
            ("readers", data::reader_keeps_its_layers),
            (
                "filling, refused",
                filling::nothing_is_made_of_what_is_not_whole,
            ),
            ("filling", filling::a_volume_becomes_whole),
            ("filling, opened", filling::who_opens_it_keeps_its_reader),
            ("merges", data::cancelled_merge_changes_nothing),
            ("merges among readers", data::merge_that_gives_way_ends),
        ],
        Part::Lost => vec![
            ("a lost record", lost::lost_record_of_a_volume),
            ("a lost record, merged", lost::lost_record_after_merges),
            ("a lost record, switched", lost::lost_record_after_a_switch),
        ],
        Part::Faults => vec![
            ("a crash at every step", crash::crash_at_every_step),
            ("a failure at every step", crash::failure_at_every_step),
            ("full at every step", crash::full_at_every_step),
        ],
        Part::Walks => vec![("a random walk", walk::random_walk)],
        Part::Increments => vec![("increments", increments::chains_of_increments)],
    }
}

fn tree_checks<S: Storage>() -> Vec<Check<S>> {
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
            "an image and its clones",
            image::images_outlive_and_are_outlived,
        ),
        (
            "a deleted volume's snapshots",
            tree::snapshots_outlive_their_volume,
        ),
        ("opening again", tree::opening_again_finds_the_same_tree),
    ]
}
