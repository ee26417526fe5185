use std::time::Duration;

use crate::env::Env;
use crate::item::ItemState;
use crate::name::Name;

use super::*;

mod eligibility;
mod instances;
mod together;

struct Fixed;

impl Env for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_000_000_000_000)
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn fill_random(&self, buf: &mut [u8]) {
        buf.fill(7);
    }
}

fn plan() -> Plan {
    toml::from_str(include_str!("../../../../presets/stillpoint.toml")).unwrap()
}

fn volume() -> VolumeFacts {
    VolumeFacts {
        id: VolumeId::generate(&Fixed),
        role: VolumeRole::Data,
        state: VolumeState::Available,
        attachment: None,
        filling: false,
        active_operation: None,
        instance_operation: None,
        cooldown_until: None,
        snapshots: 0,
        backups: 0,
        live_capture: false,
        has_backup_target: true,
    }
}

fn facts(plan: &Plan, volume: VolumeFacts) -> Facts<'_> {
    Facts {
        now: Fixed.now(),
        plan,
        volume: Some(volume),
        item: None,
        instance: None,
        runs_instances: true,
        images: 0,
        in_flight: 0,
        node_online: true,
        override_cooldown: false,
    }
}

fn refusal(action: Action, facts: &Facts<'_>) -> Refusal {
    can(action, facts).expect_err("refused")
}

fn running() -> Option<Attachment> {
    let instance = "web-1".parse::<Name>().unwrap();
    Some(Attachment::reported(instance, AttachedState::Running))
}

#[test]
fn an_idle_volume_may_be_captured() {
    let plan = plan();
    let allowed = can(Action::SnapshotCreate, &facts(&plan, volume())).unwrap();
    assert_eq!(allowed.consistency, Some(Consistency::Stopped));
}

#[test]
fn a_busy_volume_names_the_operation_in_the_way() {
    let plan = plan();
    let active = ActiveOperation {
        id: OperationId::generate(&Fixed),
        kind: OperationKind::SnapshotCreate,
    };
    let busy = VolumeFacts {
        active_operation: Some(active),
        ..volume()
    };
    let refusal = refusal(Action::BackupCreate, &facts(&plan, busy));
    assert_eq!(refusal.code, ProblemCode::VolumeBusy);
    assert_eq!(refusal.text, "Volume is busy with operation: snapshot");
    assert!(
        refusal
            .ways_out
            .contains(&WayOut::CancelOperation(active.id))
    );
}

#[test]
fn a_cooldown_counts_whole_seconds_up() {
    let plan = plan();
    let until = Fixed.now().saturating_add(Duration::from_millis(41_001));
    let resting = VolumeFacts {
        cooldown_until: Some(until),
        ..volume()
    };
    let refusal = refusal(Action::SnapshotCreate, &facts(&plan, resting));
    assert_eq!(refusal.code, ProblemCode::Cooldown);
    assert_eq!(
        refusal.text,
        "Volume is in cooldown. Try again in 42 seconds."
    );
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(42)));
}

#[test]
fn a_cooldown_that_is_over_holds_nothing_back() {
    let plan = plan();
    let rested = VolumeFacts {
        cooldown_until: Some(Fixed.now()),
        ..volume()
    };
    assert!(can(Action::SnapshotCreate, &facts(&plan, rested)).is_ok());
}

#[test]
fn an_operator_may_pass_the_cooldown() {
    let plan = plan();
    let until = Fixed.now().saturating_add(Duration::from_secs(60));
    let resting = VolumeFacts {
        cooldown_until: Some(until),
        ..volume()
    };
    let facts = Facts {
        override_cooldown: true,
        ..facts(&plan, resting)
    };
    assert!(can(Action::SnapshotCreate, &facts).is_ok());
}

#[test]
fn deletes_never_wait_for_cooldown_or_the_in_flight_limit() {
    let plan = plan();
    let until = Fixed.now().saturating_add(Duration::from_secs(60));
    let resting = VolumeFacts {
        cooldown_until: Some(until),
        ..volume()
    };
    let item = ItemFacts {
        is_shared: false,
        fills: None,
        state: ItemState::Available,
        protected: false,
        keep_until: None,
        active_operation: None,
        part_of: None,
    };
    let facts = Facts {
        item: Some(item),
        in_flight: 99,
        ..facts(&plan, resting)
    };
    for action in [Action::SnapshotDelete, Action::BackupDelete] {
        assert!(can(action, &facts).is_ok(), "{action}");
    }
}

#[test]
fn caps_name_what_to_delete() {
    let plan = plan();
    let full = VolumeFacts {
        snapshots: 5,
        backups: 10,
        ..volume()
    };
    let id = full.id;
    let facts = facts(&plan, full);
    let snapshot = refusal(Action::SnapshotCreate, &facts);
    assert_eq!(snapshot.code, ProblemCode::SnapshotLimit);
    assert_eq!(
        snapshot.text,
        "Snapshot limit reached. Delete an existing snapshot first."
    );
    assert_eq!(snapshot.ways_out, [WayOut::DeleteSnapshot(id)]);
    let backup = refusal(Action::BackupCreate, &facts);
    assert_eq!(backup.code, ProblemCode::BackupLimit);
    assert_eq!(
        backup.text,
        "Backup limit reached. Delete an existing backup first."
    );
}

#[test]
fn the_fourth_operation_in_flight_is_refused() {
    let plan = plan();
    let facts = |in_flight| Facts {
        in_flight,
        ..facts(&plan, volume())
    };
    assert!(can(Action::SnapshotCreate, &facts(2)).is_ok());
    assert_eq!(
        refusal(Action::SnapshotCreate, &facts(3)).code,
        ProblemCode::InflightLimit
    );
}

#[test]
fn a_roll_back_under_a_running_instance_offers_both_ways_out() {
    let plan = plan();
    let attached = VolumeFacts {
        state: VolumeState::InUse,
        attachment: running(),
        live_capture: true,
        ..volume()
    };
    let item = ItemFacts {
        is_shared: false,
        fills: None,
        state: ItemState::Available,
        protected: false,
        keep_until: None,
        active_operation: None,
        part_of: None,
    };
    let facts = Facts {
        item: Some(item),
        ..facts(&plan, attached)
    };
    let in_place = refusal(Action::RestoreInPlace, &facts);
    assert_eq!(in_place.code, ProblemCode::AttachedRunning);
    assert_eq!(
        in_place.ways_out[..2],
        [WayOut::StopInstance(None), WayOut::DetachVolume(None)]
    );
    assert!(can(Action::RestoreNew, &facts).is_ok());
}

#[test]
fn a_backup_without_a_target_is_refused_and_a_snapshot_is_not() {
    let plan = plan();
    let facts = facts(
        &plan,
        VolumeFacts {
            has_backup_target: false,
            ..volume()
        },
    );
    let refusal = refusal(Action::BackupCreate, &facts);
    assert_eq!(refusal.code, ProblemCode::NoBackupTarget);
    assert_eq!(refusal.text, "Hypervisor has no backup storage configured.");
    assert!(can(Action::SnapshotCreate, &facts).is_ok());
}

#[test]
fn a_backup_that_was_promised_is_not_deleted_before_its_time() {
    let plan = plan();
    let until = Timestamp::from_micros(1_800_000_000_000_000);
    let item = |state| ItemFacts {
        is_shared: false,
        fills: None,
        state,
        protected: false,
        keep_until: Some(until),
        active_operation: None,
        part_of: None,
    };
    let with = |state| Facts {
        item: Some(item(state)),
        ..facts(&plan, volume())
    };
    for state in [ItemState::Available, ItemState::Degraded] {
        let kept = refusal(Action::BackupDelete, &with(state));
        assert_eq!(kept.code, ProblemCode::BackupLocked);
        assert!(kept.text.contains(&until.to_string()), "{}", kept.text);
    }
    // What never became a backup keeps nobody's promise.
    assert!(can(Action::BackupDelete, &with(ItemState::Failed)).is_ok());
    assert!(can(Action::RestoreNew, &with(ItemState::Available)).is_ok());
}

#[test]
fn a_protected_item_is_not_deleted() {
    let plan = plan();
    let item = ItemFacts {
        is_shared: false,
        fills: None,
        state: ItemState::Available,
        protected: true,
        keep_until: None,
        active_operation: None,
        part_of: None,
    };
    let facts = Facts {
        item: Some(item),
        ..facts(&plan, volume())
    };
    assert_eq!(
        refusal(Action::SnapshotDelete, &facts).code,
        ProblemCode::Protected
    );
    assert!(can(Action::RestoreNew, &facts).is_ok());
}

#[test]
fn an_item_that_is_not_available_restores_nothing() {
    let plan = plan();
    for state in ItemState::ALL
        .iter()
        .filter(|s| **s != ItemState::Available)
    {
        let item = ItemFacts {
            is_shared: false,
            fills: None,
            state: *state,
            protected: false,
            keep_until: None,
            active_operation: None,
            part_of: None,
        };
        let facts = Facts {
            item: Some(item),
            ..facts(&plan, volume())
        };
        assert_eq!(
            refusal(Action::RestoreNew, &facts).code,
            ProblemCode::NotEligible,
            "{state}"
        );
    }
}

#[test]
fn a_plan_without_a_matching_rule_denies() {
    let plan = Plan {
        eligibility: Vec::new(),
        ..plan()
    };
    let refusal = refusal(Action::SnapshotCreate, &facts(&plan, volume()));
    assert_eq!(refusal.code, ProblemCode::NotEligible);
}

#[test]
fn nothing_is_put_back_into_a_volume_that_is_gone() {
    let plan = plan();
    let gone = Facts {
        volume: None,
        ..facts(&plan, volume())
    };
    let refusal = refusal(Action::RestoreInPlace, &gone);
    assert_eq!(refusal.code, ProblemCode::NotEligible);
    assert!(refusal.ways_out.contains(&WayOut::RestoreToNewVolume));
    assert!(can(Action::RestoreNew, &gone).is_ok());
}

mod images {
    use super::*;

    fn plan_with_images(max_images: u32) -> Plan {
        let mut plan = plan();
        plan.caps.max_images = max_images;
        plan
    }

    fn without_volume(plan: &Plan) -> Facts<'_> {
        Facts {
            volume: None,
            ..facts(plan, volume())
        }
    }

    fn image(state: ItemState) -> ItemFacts {
        ItemFacts {
            is_shared: true,
            fills: None,
            state,
            protected: false,
            keep_until: None,
            active_operation: None,
            part_of: None,
        }
    }

    fn reading() -> Option<ActiveOperation> {
        Some(ActiveOperation {
            id: OperationId::generate(&Fixed),
            kind: OperationKind::InstanceCreate,
        })
    }

    #[test]
    fn an_account_keeps_so_many_images_and_no_more() {
        let plan = plan_with_images(3);
        let with = |images| Facts {
            images,
            ..without_volume(&plan)
        };
        assert!(can(Action::ImageCreate, &with(2)).is_ok());
        let full = refusal(Action::ImageCreate, &with(3));
        assert_eq!(full.code, ProblemCode::ImageLimit);
        assert_eq!(
            full.text,
            "Image limit reached. Delete an existing image first."
        );
        assert_eq!(full.ways_out, [WayOut::DeleteImage]);
        for other in [Action::ImageDelete, Action::VolumeCreate] {
            assert!(can(other, &with(3)).is_ok(), "{other}");
        }
    }

    #[test]
    fn any_number_of_volumes_is_made_of_an_image_at_once() {
        let plan = plan();
        let facts = Facts {
            item: Some(ItemFacts {
                active_operation: reading(),
                ..image(ItemState::Available)
            }),
            ..without_volume(&plan)
        };
        for make in [Action::VolumeCreate, Action::InstanceCreate] {
            assert!(can(make, &facts).is_ok(), "{make}");
        }
        let busy = refusal(Action::ImageDelete, &facts);
        assert_eq!(busy.code, ProblemCode::VolumeBusy);
        assert_eq!(busy.text, "This item is in use by operation: create");
    }

    #[test]
    fn only_an_available_image_is_started_from() {
        let plan = plan();
        for state in ItemState::ALL {
            let facts = Facts {
                item: Some(image(*state)),
                ..without_volume(&plan)
            };
            let available = *state == ItemState::Available;
            for make in [Action::VolumeCreate, Action::InstanceCreate] {
                assert_eq!(can(make, &facts).is_ok(), available, "{make} {state}");
            }
            let ended = [ItemState::Degraded, ItemState::Failed, ItemState::Lost];
            let ends = available || ended.contains(state);
            assert_eq!(can(Action::ImageDelete, &facts).is_ok(), ends, "{state}");
        }
    }

    #[test]
    fn a_protected_image_is_not_deleted() {
        let plan = plan();
        let facts = Facts {
            item: Some(ItemFacts {
                protected: true,
                ..image(ItemState::Available)
            }),
            ..without_volume(&plan)
        };
        let kept = refusal(Action::ImageDelete, &facts);
        assert_eq!(kept.code, ProblemCode::Protected);
        assert!(can(Action::VolumeCreate, &facts).is_ok());
    }

    #[test]
    fn an_image_is_made_of_a_snapshot_whatever_its_volume_does() {
        let plan = plan();
        let busy = VolumeFacts {
            active_operation: reading(),
            cooldown_until: Some(Timestamp::from_micros(i64::MAX)),
            attachment: running(),
            ..volume()
        };
        let facts = Facts {
            item: Some(ItemFacts {
                is_shared: false,
                fills: None,
                ..image(ItemState::Available)
            }),
            ..facts(&plan, busy)
        };
        assert!(can(Action::ImageCreate, &facts).is_ok());
        let offline = Facts {
            node_online: false,
            ..facts.clone()
        };
        let refused = refusal(Action::ImageCreate, &offline);
        assert_eq!(refused.code, ProblemCode::NodeOffline);
        let crowded = Facts {
            in_flight: plan.pacing.in_flight_per_account,
            ..facts
        };
        let refused = refusal(Action::ImageCreate, &crowded);
        assert_eq!(refused.code, ProblemCode::InflightLimit);
    }
}

#[test]
fn nothing_is_made_of_a_volume_that_is_still_filled_from_its_backup() {
    let plan = plan();
    let filling = VolumeFacts {
        filling: true,
        ..volume()
    };
    for action in [
        Action::SnapshotCreate,
        Action::BackupCreate,
        Action::VolumeClone,
        Action::VolumeResize,
        Action::RestoreInPlace,
    ] {
        let refusal = refusal(action, &facts(&plan, filling.clone()));
        assert_eq!(refusal.code, ProblemCode::VolumeFilling, "{action}");
        assert_eq!(refusal.ways_out, [WayOut::ShowVolume(filling.id)]);
    }
    for action in [Action::VolumeRename, Action::VolumeDelete] {
        let answer = can(action, &facts(&plan, filling.clone()));
        assert!(answer.is_ok(), "{action}: {answer:?}");
    }
}

#[test]
fn a_backup_stays_while_a_volume_is_filled_from_it() {
    let plan = plan();
    let volume_id = volume().id;
    let item = ItemFacts {
        is_shared: false,
        fills: Some(volume_id),
        state: ItemState::Available,
        protected: false,
        keep_until: None,
        active_operation: None,
        part_of: None,
    };
    let facts = Facts {
        item: Some(item),
        ..facts(&plan, volume())
    };
    let refusal = refusal(Action::BackupDelete, &facts);
    assert_eq!(refusal.code, ProblemCode::VolumeFilling);
    assert_eq!(refusal.ways_out, [WayOut::ShowVolume(volume_id)]);
    for action in [Action::RestoreNew, Action::BackupVerify] {
        assert!(can(action, &facts).is_ok(), "{action}");
    }
}
