//! What may be done to all volumes of an instance as one.

use crate::id::{InstanceId, InstanceSnapshotId, PoolId};
use crate::instance::{InstanceState, Power};
use crate::volume::OwnInstance;

use super::*;

fn pool(n: u128) -> PoolId {
    PoolId::from_uuid(uuid::Uuid::from_u128(n))
}

fn instance(power: Power, pools: &[u128]) -> InstanceFacts {
    let volume = |(place, n): (u32, &u128)| OtherVolume {
        id: VolumeId::generate(&Fixed),
        place,
        pool_id: pool(*n),
        active_operation: None,
        live_capture: true,
    };
    InstanceFacts {
        id: InstanceId::generate(&Fixed),
        state: power.settled_state(),
        power,
        active_operation: None,
        volumes: (0..).zip(pools).map(volume).collect(),
    }
}

fn part(power: Power) -> VolumeFacts {
    let own = OwnInstance {
        id: InstanceId::generate(&Fixed),
        place: 0,
        state: power.settled_state(),
        ready: true,
        load: None,
        active_operation: None,
    };
    VolumeFacts {
        state: VolumeState::InUse,
        live_capture: true,
        attachment: Some(Attachment {
            own: Some(own),
            ..Attachment::reported("web-1".parse().unwrap(), power.attached_state())
        }),
        ..volume()
    }
}

/// What is answered about an instance with these two volumes.
fn answer(
    action: Action,
    instance: InstanceFacts,
    parts: [VolumeFacts; 2],
) -> Result<Allowed, Refusal> {
    let plan = plan();
    let about = Facts {
        volume: None,
        instance: Some(instance),
        ..facts(&plan, volume())
    };
    let members: Vec<_> = ["root", "data"]
        .into_iter()
        .zip(parts)
        .map(|(name, volume)| Member {
            name,
            plan: &plan,
            volume,
        })
        .collect();
    can_together(action, &about, &members)
}

const SNAPSHOT: Action = Action::InstanceSnapshotCreate;
const REBUILD: Action = Action::InstanceRebuild;

#[test]
fn an_instance_is_captured_running_or_stopped() {
    let stopped = answer(
        SNAPSHOT,
        instance(Power::Off, &[1, 1]),
        [part(Power::Off), part(Power::Off)],
    );
    assert_eq!(stopped.unwrap().consistency, Some(Consistency::Stopped));
    for power in [Power::Running, Power::Paused] {
        let parts = [part(power), part(power)];
        let running = answer(SNAPSHOT, instance(power, &[1, 1]), parts).unwrap();
        assert!(running.consistency < Some(Consistency::Stopped), "{power}");
    }
}

#[test]
fn volumes_in_several_pools_have_no_instant_in_common() {
    let parts = [part(Power::Off), part(Power::Off)];
    let refused = answer(SNAPSHOT, instance(Power::Off, &[1, 2]), parts).unwrap_err();
    assert_eq!(refused.code, ProblemCode::NotEligible);
}

#[test]
fn an_instance_without_volumes_has_nothing_to_capture() {
    let parts = [part(Power::Off), part(Power::Off)];
    assert!(answer(SNAPSHOT, instance(Power::Off, &[]), parts).is_err());
}

#[test]
fn the_limit_of_one_volume_is_the_limit_of_all_and_is_named() {
    let full = VolumeFacts {
        snapshots: plan().caps.max_snapshots,
        ..part(Power::Off)
    };
    let parts = [part(Power::Off), full];
    let refused = answer(SNAPSHOT, instance(Power::Off, &[1, 1]), parts).unwrap_err();
    assert_eq!(refused.code, ProblemCode::SnapshotLimit);
    assert!(refused.text.starts_with("Volume data: "), "{refused}");
}

#[test]
fn what_one_volume_is_busy_with_is_in_the_way() {
    let active = ActiveOperation {
        id: OperationId::generate(&Fixed),
        kind: OperationKind::BackupCreate,
    };
    for action in [SNAPSHOT, REBUILD] {
        let busy = VolumeFacts {
            active_operation: Some(active),
            ..part(Power::Off)
        };
        let parts = [busy, part(Power::Off)];
        let refused = answer(action, instance(Power::Off, &[1, 1]), parts).unwrap_err();
        assert_eq!(refused.code, ProblemCode::VolumeBusy, "{action}");
    }
}

#[test]
fn an_instance_is_put_back_only_while_it_is_off() {
    let off = [part(Power::Off), part(Power::Off)];
    assert!(answer(REBUILD, instance(Power::Off, &[1, 1]), off).is_ok());
    for power in [Power::Running, Power::Paused] {
        let parts = [part(power), part(power)];
        let refused = answer(REBUILD, instance(power, &[1, 1]), parts).unwrap_err();
        assert_eq!(refused.code, ProblemCode::AttachedRunning, "{power}");
        let ways = refused.ways_out;
        assert!(ways.contains(&WayOut::RestoreToNewInstance), "{power}");
    }
}

#[test]
fn an_instance_that_is_being_made_or_failed_is_neither_captured_nor_put_back() {
    for state in [
        InstanceState::Provisioning,
        InstanceState::Rebuilding,
        InstanceState::Failed,
        InstanceState::Deleting,
    ] {
        for action in [SNAPSHOT, REBUILD] {
            let facts = InstanceFacts {
                state,
                ..instance(Power::Off, &[1, 1])
            };
            let parts = [part(Power::Off), part(Power::Off)];
            assert!(answer(action, facts, parts).is_err(), "{action}: {state}");
        }
    }
}

#[test]
fn a_part_of_an_instance_snapshot_is_restored_but_not_deleted_alone() {
    let plan = plan();
    let whole = InstanceSnapshotId::generate(&Fixed);
    let item = ItemFacts {
        state: ItemState::Available,
        protected: false,
        keep_until: None,
        active_operation: None,
        is_shared: false,
        fills: None,
        part_of: Some(whole),
    };
    let facts = Facts {
        item: Some(item),
        ..facts(&plan, volume())
    };
    let refused = refusal(Action::SnapshotDelete, &facts);
    assert_eq!(refused.code, ProblemCode::Protected);
    assert_eq!(refused.ways_out, [WayOut::ShowInstanceSnapshot(whole)]);
    for action in [
        Action::RestoreNew,
        Action::RestoreInPlace,
        Action::BackupCreate,
    ] {
        assert!(can(action, &facts).is_ok(), "{action}");
    }
}
