//! The guard rails of memory: when an instance is captured with it, and what goes on from it.

use crate::instance::{Flavor, Power};
use crate::instance_snapshot::InstanceSnapshot;
use crate::item::FreezePolicy;
use crate::refusal::{ProblemCode, Refusal};

fn not_eligible(text: &str) -> Refusal {
    Refusal::new(ProblemCode::NotEligible, text).at("/with_memory")
}

/// Whether an instance can be captured with its memory. `freeze` is the strictest of its volumes'
/// plans.
pub fn can_capture_memory(power: Power, freeze: FreezePolicy) -> Result<(), Refusal> {
    match (power, freeze) {
        (Power::Off, _) => Err(not_eligible(
            "The instance is stopped, so there is no memory. Take the snapshot without it.",
        )),
        (Power::Paused, _) => Err(not_eligible(
            "The instance is paused. Resume it, or take the snapshot without memory.",
        )),
        (Power::Running, FreezePolicy::Require) => Err(not_eligible(
            "The plan wants the guest's file systems frozen, and a guest that is captured with its \
             memory cannot be. Take the snapshot without memory.",
        )),
        (Power::Running, FreezePolicy::Skip | FreezePolicy::Try) => Ok(()),
    }
}

/// Whether an instance of this flavor can go on from the memory of a snapshot. Its guest knows the
/// machine that it ran in, and another would confuse it.
pub fn can_go_on_from(
    whole: &InstanceSnapshot,
    flavor: &Flavor,
    start: bool,
) -> Result<(), Refusal> {
    let was = &whole.config.flavor;
    if whole.memory.is_none() {
        return Err(not_eligible("The snapshot holds no memory."));
    }
    if !start {
        return Err(not_eligible(
            "An instance goes on from memory as it starts. Start it, or leave the memory.",
        ));
    }
    if (was.vcpus, was.memory_bytes) != (flavor.vcpus, flavor.memory_bytes) {
        let text = format!(
            "The memory is of a machine of the flavor {}, and fits no other. Use that flavor, or \
             leave the memory.",
            was.name
        );
        return Err(not_eligible(&text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_captured_of_what_runs_and_need_not_be_frozen() {
        let can = |power, freeze| can_capture_memory(power, freeze).is_ok();
        assert!(can(Power::Running, FreezePolicy::Skip));
        assert!(can(Power::Running, FreezePolicy::Try));
        assert!(!can(Power::Running, FreezePolicy::Require));
        assert!(!can(Power::Paused, FreezePolicy::Try));
        assert!(!can(Power::Off, FreezePolicy::Skip));
    }
}
