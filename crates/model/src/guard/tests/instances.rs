//! What may be done with an instance, for each of its states.

use crate::id::{InstanceId, PoolId};
use crate::instance::{InstanceState, Power};
use crate::volume::OwnInstance;

use super::*;

fn instance(state: InstanceState, power: Power) -> InstanceFacts {
    InstanceFacts {
        id: InstanceId::generate(&Fixed),
        state,
        power,
        active_operation: None,
        volumes: vec![OtherVolume {
            id: VolumeId::generate(&Fixed),
            place: 0,
            pool_id: PoolId::generate(&Fixed),
            active_operation: None,
            live_capture: true,
        }],
    }
}

fn about(plan: &Plan, instance: InstanceFacts) -> Facts<'_> {
    Facts {
        volume: None,
        instance: Some(instance),
        ..facts(plan, volume())
    }
}

fn active(kind: OperationKind) -> Option<ActiveOperation> {
    let id = OperationId::generate(&Fixed);
    Some(ActiveOperation { id, kind })
}

fn attached(place: u32, power: Power) -> VolumeFacts {
    let own = OwnInstance {
        id: InstanceId::generate(&Fixed),
        place,
        state: power.settled_state(),
        ready: true,
        load: None,
        active_operation: None,
    };
    VolumeFacts {
        state: VolumeState::InUse,
        attachment: Some(Attachment {
            own: Some(own),
            ..Attachment::reported("web-1".parse().unwrap(), power.attached_state())
        }),
        ..volume()
    }
}

/// What is answered: nothing, or the code.
fn code(action: Action, facts: &Facts<'_>) -> Option<ProblemCode> {
    can(action, facts).err().map(|refusal| refusal.code)
}

#[test]
fn power_goes_where_it_is_not_yet() {
    use Action::{InstancePause, InstanceResume, InstanceStart, InstanceStop};
    let plan = plan();
    for (state, power, expected) in [
        (InstanceState::Stopped, Power::Off, vec![InstanceStart]),
        (
            InstanceState::Active,
            Power::Running,
            vec![InstanceStop, InstancePause],
        ),
        (
            InstanceState::Active,
            Power::Paused,
            vec![InstanceStop, InstanceResume],
        ),
        (InstanceState::Provisioning, Power::Off, vec![]),
        (InstanceState::Rebuilding, Power::Off, vec![]),
        (InstanceState::Deleting, Power::Running, vec![]),
        (InstanceState::Failed, Power::Off, vec![]),
    ] {
        let facts = about(&plan, instance(state, power));
        let all = [InstanceStart, InstanceStop, InstancePause, InstanceResume];
        let allowed = all
            .into_iter()
            .filter(|action| can(*action, &facts).is_ok());
        assert_eq!(allowed.collect::<Vec<_>>(), expected, "{state} {power}");
    }
}

#[test]
fn what_failed_can_be_deleted_and_renamed() {
    let plan = plan();
    let facts = about(&plan, instance(InstanceState::Failed, Power::Off));
    assert_eq!(code(Action::InstanceDelete, &facts), None);
    assert_eq!(code(Action::InstanceRename, &facts), None);
}

#[test]
fn an_instance_has_one_operation_at_a_time() {
    let plan = plan();
    let held = InstanceFacts {
        active_operation: active(OperationKind::InstanceStop),
        ..instance(InstanceState::Active, Power::Running)
    };
    let facts = about(&plan, held);
    let refusal = refusal(Action::InstanceDelete, &facts);
    assert_eq!(refusal.code, ProblemCode::InstanceBusy);
    assert_eq!(refusal.text, "Instance is busy with operation: stop");
    assert_eq!(code(Action::InstanceRename, &facts), None);
}

#[test]
fn an_instance_without_a_root_does_not_start() {
    let plan = plan();
    let mut bare = instance(InstanceState::Stopped, Power::Off);
    bare.volumes[0].place = 1;
    let code = code(Action::InstanceStart, &about(&plan, bare));
    assert_eq!(code, Some(ProblemCode::NotEligible));
}

#[test]
fn a_start_waits_for_what_overwrites_a_volume_and_for_no_backup() {
    let plan = plan();
    let start = |kind, live_capture| {
        let mut held = instance(InstanceState::Stopped, Power::Off);
        held.volumes[0].active_operation = active(kind);
        held.volumes[0].live_capture = live_capture;
        code(Action::InstanceStart, &about(&plan, held))
    };
    let busy = Some(ProblemCode::VolumeBusy);
    assert_eq!(start(OperationKind::RestoreInPlace, true), busy);
    assert_eq!(start(OperationKind::BackupCreate, true), None);
    assert_eq!(start(OperationKind::BackupCreate, false), busy);
}

#[test]
fn a_stop_waits_for_nothing_and_counts_for_nothing() {
    let plan = plan();
    let mut held = instance(InstanceState::Active, Power::Running);
    held.volumes[0].active_operation = active(OperationKind::BackupCreate);
    let facts = Facts {
        in_flight: 99,
        ..about(&plan, held)
    };
    assert_eq!(code(Action::InstanceStop, &facts), None);
}

#[test]
fn a_deletion_needs_every_volume_idle() {
    let plan = plan();
    let mut held = instance(InstanceState::Active, Power::Running);
    held.volumes[0].active_operation = active(OperationKind::BackupCreate);
    let code = code(Action::InstanceDelete, &about(&plan, held));
    assert_eq!(code, Some(ProblemCode::VolumeBusy));
}

#[test]
fn a_roll_back_waits_for_an_instance_that_is_starting() {
    let plan = plan();
    let starting = VolumeFacts {
        instance_operation: active(OperationKind::InstanceStart),
        ..attached(1, Power::Off)
    };
    let code = code(Action::RestoreInPlace, &facts(&plan, starting));
    assert_eq!(code, Some(ProblemCode::InstanceBusy));
}

#[test]
fn the_root_of_a_running_instance_stays() {
    let plan = plan();
    for (place, power, expected) in [
        (0, Power::Running, Some(ProblemCode::AttachedRunning)),
        (0, Power::Off, None),
        (1, Power::Running, None),
    ] {
        let facts = facts(&plan, attached(place, power));
        assert_eq!(
            code(Action::VolumeDetach, &facts),
            expected,
            "{place} {power}"
        );
    }
}

#[test]
fn the_ways_out_of_an_instance_of_ours_lead_to_it() {
    let plan = plan();
    let attached = attached(0, Power::Running);
    let own = attached.attachment.as_ref().unwrap().own.unwrap();
    let stop = WayOut::StopInstance(Some(own.id));
    let detach = WayOut::DetachVolume(Some(attached.id));
    let facts = facts(&plan, attached);
    for (action, ways_out) in [
        (Action::VolumeDetach, vec![stop.clone()]),
        (Action::VolumeDelete, vec![detach.clone()]),
        (Action::VolumeAttach, vec![detach.clone()]),
        (Action::SnapshotCreate, vec![stop, detach]),
    ] {
        assert_eq!(
            can(action, &facts).unwrap_err().ways_out,
            ways_out,
            "{action}"
        );
    }
}

#[test]
fn what_the_orchestrator_attached_is_detached_there() {
    let plan = plan();
    let reported = VolumeFacts {
        state: VolumeState::InUse,
        attachment: running(),
        ..volume()
    };
    for action in [Action::VolumeDetach, Action::VolumeAttach] {
        let code = code(action, &facts(&plan, reported.clone()));
        assert_eq!(code, Some(ProblemCode::NotEligible), "{action}");
    }
}

#[test]
fn an_instance_has_so_many_volumes_and_no_more() {
    let plan = plan();
    let mut full = instance(InstanceState::Stopped, Power::Off);
    full.volumes = vec![full.volumes[0]; crate::instance::MAX_VOLUMES];
    // Before a volume is named, too.
    let of_itself = about(&plan, full.clone());
    let facts = Facts {
        instance: Some(full),
        ..facts(&plan, volume())
    };
    for facts in [facts, of_itself] {
        let code = code(Action::VolumeAttach, &facts);
        assert_eq!(code, Some(ProblemCode::NotEligible));
    }
}

#[test]
fn a_node_without_machines_gets_no_instance() {
    let plan = plan();
    let none = Facts {
        volume: None,
        runs_instances: false,
        ..facts(&plan, volume())
    };
    let code = code(Action::InstanceCreate, &none);
    assert_eq!(code, Some(ProblemCode::NotEligible));
}
