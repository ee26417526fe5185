//! The guard rails of memory: when an instance is captured with it, and what goes on from it.

use crate::instance::{Flavor, Power};
use crate::instance_snapshot::{CapturedVolume, InstanceSnapshot};
use crate::item::FreezePolicy;
use crate::refusal::{ProblemCode, Refusal};

use super::OtherVolume;

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

/// Whether an instance with these volumes can go on from memory that was captured with those: its
/// guest knows the disks that it had, and where.
pub fn can_go_on_with(was: &[CapturedVolume], now: &[OtherVolume]) -> Result<(), Refusal> {
    let is_there = |captured: &CapturedVolume| {
        let same = |volume: &OtherVolume| {
            (volume.id, volume.place) == (captured.volume_id, captured.place)
        };
        now.iter().any(same)
    };
    if now.len() == was.len() && was.iter().all(is_there) {
        return Ok(());
    }
    Err(not_eligible(
        "The instance has other volumes than when its memory was captured, or in other places. Attach \
         the same ones, or leave the memory.",
    ))
}

#[cfg(test)]
mod tests {
    use crate::ByteCount;
    use crate::id::{PoolId, SnapshotId, VolumeId};
    use crate::volume::VolumeRole;

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

    #[test]
    fn what_goes_on_has_the_disks_that_it_had_where_it_had_them() {
        let id = |n| uuid::Uuid::from_u128(n);
        let captured = |n: u128, place| CapturedVolume {
            volume_id: VolumeId::from_uuid(id(n)),
            name: "disk".parse().expect("a name"),
            role: VolumeRole::Data,
            place,
            size: ByteCount::from_mib(1),
            snapshot_id: SnapshotId::from_uuid(id(n)),
        };
        let now = |n: u128, place| OtherVolume {
            id: VolumeId::from_uuid(id(n)),
            place,
            pool_id: PoolId::from_uuid(id(9)),
            active_operation: None,
            live_capture: true,
        };
        let was = [captured(1, 0), captured(2, 1)];
        let can = |now: &[OtherVolume]| can_go_on_with(&was, now).is_ok();
        assert!(can(&[now(1, 0), now(2, 1)]));
        assert!(can(&[now(2, 1), now(1, 0)]));
        assert!(!can(&[now(1, 0)]), "one is gone");
        assert!(!can(&[now(1, 0), now(2, 2)]), "one is elsewhere");
        assert!(!can(&[now(1, 0), now(3, 1)]), "one is another");
        assert!(!can(&[now(1, 0), now(2, 1), now(3, 2)]), "one is new");
    }
}
