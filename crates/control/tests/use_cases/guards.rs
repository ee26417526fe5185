//! Every guard rail, met through the use cases; and the view says the same before.

use std::collections::BTreeMap;
use std::time::Duration;

use stillpoint_control::item::{ItemCreate, ItemQuery, ItemUpdate};
use stillpoint_control::reconcile::volume_fill;
use stillpoint_control::restore::{self, RestoreCreate, RestoreMode, RestorePointRef};
use stillpoint_control::{Answer, Change, backup, operation, snapshot, volume};
use stillpoint_model::ByteCount;
use stillpoint_model::guard::Action;
use stillpoint_model::id::SnapshotId;
use stillpoint_model::item::{ItemKind, ItemState};
use stillpoint_model::keep_for::KeepFor;
use stillpoint_model::operation::OperationState;
use stillpoint_model::plan::Plan;
use stillpoint_model::refusal::{ProblemCode, Refusal, WayOut};
use stillpoint_model::volume::{AttachedState, Attachment, VolumeState};

use crate::lab::{Lab, accepted, code, installation, name, plan, refused};

fn in_place(id: SnapshotId, confirm: Option<&str>) -> RestoreCreate {
    RestoreCreate {
        source: RestorePointRef {
            kind: ItemKind::Snapshot,
            item: id.into(),
        },
        mode: RestoreMode::InPlace {
            confirm: confirm.map(str::to_owned),
        },
    }
}

/// What the view says of an action.
async fn permission(lab: &Lab, id: stillpoint_model::id::VolumeId, action: Action) -> Refusal {
    let view = lab.show(&lab.tenant, id).await;
    let found = view
        .permissions
        .into_iter()
        .find(|p| p.action == action)
        .expect("an action");
    found.answer.expect_err("refused")
}

#[tokio::test]
async fn a_busy_volume_takes_no_second_operation() {
    let lab = Lab::new().await;
    let id = lab.volume(&lab.tenant, "web").await;
    let first = accepted(lab.ask_snapshot(&lab.tenant, id).await);
    let refusal = refused(lab.ask_backup(&lab.tenant, id).await);
    assert_eq!(refusal.code, ProblemCode::VolumeBusy);
    assert_eq!(refusal.text, "Volume is busy with operation: snapshot");
    assert!(
        refusal
            .ways_out
            .contains(&WayOut::CancelOperation(first.id))
    );
    assert_eq!(permission(&lab, id, Action::BackupCreate).await, refusal);
    assert_eq!(
        lab.show(&lab.tenant, id)
            .await
            .active_operation
            .map(|o| o.id),
        Some(first.id)
    );
}

#[tokio::test]
async fn a_volume_rests_after_a_snapshot_and_then_works_again() {
    let lab = Lab::new().await;
    let id = lab.volume(&lab.tenant, "web").await;
    accepted(lab.ask_snapshot(&lab.tenant, id).await);
    lab.settle().await;
    lab.advance(Duration::from_secs(100)).await;
    let refusal = refused(lab.ask_snapshot(&lab.tenant, id).await);
    assert_eq!(refusal.code, ProblemCode::Cooldown);
    assert_eq!(
        refusal.text,
        "Volume is in cooldown. Try again in 200 seconds."
    );
    assert_eq!(permission(&lab, id, Action::SnapshotCreate).await, refusal);
    lab.advance(Duration::from_secs(200)).await;
    accepted(lab.ask_snapshot(&lab.tenant, id).await);
}

#[tokio::test]
async fn only_an_administrator_passes_the_cooldown() {
    let lab = Lab::new().await;
    let change = Change {
        override_cooldown: true,
        ..Change::default()
    };
    for (actor, answer) in [(&lab.tenant, false), (&lab.admin, true)] {
        let id = lab.volume(actor, "web").await;
        accepted(lab.ask_snapshot(actor, id).await);
        lab.settle().await;
        let request = ItemCreate::default();
        let asked = snapshot::create(&lab.cx, actor, &id.into(), request, &change).await;
        if answer {
            accepted(asked);
        } else {
            assert_eq!(code(asked), ProblemCode::Forbidden);
        }
    }
}

#[tokio::test]
async fn a_cancelled_operation_starts_no_rest_and_leaves_no_row() {
    let lab = Lab::new().await;
    let id = lab.volume(&lab.tenant, "web").await;
    let operation = accepted(lab.ask_snapshot(&lab.tenant, id).await);
    operation::cancel(&lab.cx, &lab.tenant, operation.id, None)
        .await
        .expect("a cancel");
    lab.settle().await;
    let ended = operation::show(&lab.cx, &lab.tenant, operation.id)
        .await
        .expect("it");
    assert_eq!(ended.state, OperationState::Cancelled);
    let snapshot_id = operation.snapshot_id.expect("a snapshot");
    let gone = snapshot::show(&lab.cx, &lab.tenant, &snapshot_id.into()).await;
    assert_eq!(code(gone), ProblemCode::NotFound);
    accepted(lab.ask_snapshot(&lab.tenant, id).await);
}

#[tokio::test]
async fn caps_hold_until_an_item_is_deleted() {
    let lab = Lab::new().await;
    let id = lab.volume(&lab.tenant, "web").await;
    let mut last = None;
    for _ in 0..5 {
        last = Some(lab.snapshot(&lab.tenant, id).await);
    }
    let refusal = refused(lab.ask_snapshot(&lab.tenant, id).await);
    assert_eq!(refusal.code, ProblemCode::SnapshotLimit);
    assert_eq!(
        refusal.text,
        "Snapshot limit reached. Delete an existing snapshot first."
    );
    assert_eq!(permission(&lab, id, Action::SnapshotCreate).await, refusal);
    for _ in 0..10 {
        lab.backup(&lab.tenant, id).await;
    }
    assert_eq!(
        code(lab.ask_backup(&lab.tenant, id).await),
        ProblemCode::BackupLimit
    );
    let view = lab.show(&lab.tenant, id).await;
    assert_eq!((view.snapshots, view.backups), (5, 10));
    let last = last.expect("a snapshot");
    let shown = snapshot::show(&lab.cx, &lab.tenant, &last.into())
        .await
        .expect("it");
    let typed = shown.snapshot.name.as_str();
    let change = Change::default();
    accepted(snapshot::delete(&lab.cx, &lab.tenant, &last.into(), Some(typed), &change).await);
    lab.settle().await;
    accepted(lab.ask_snapshot(&lab.tenant, id).await);
}

#[tokio::test]
async fn three_operations_are_in_flight_at_most_and_deletes_do_not_count() {
    let lab = Lab::new().await;
    let spare = lab.volume(&lab.tenant, "spare").await;
    for text in ["a", "b", "c"] {
        accepted(lab.ask_volume(&lab.tenant, text, &Change::default()).await);
    }
    let refusal = refused(lab.ask_volume(&lab.tenant, "d", &Change::default()).await);
    assert_eq!(refusal.code, ProblemCode::InflightLimit);
    let options = volume::options(&lab.cx, &lab.tenant)
        .await
        .expect("options");
    assert_eq!(options.permissions[0].answer, Err(refusal));
    let change = Change::default();
    let typed = Some("spare");
    accepted(volume::delete(&lab.cx, &lab.tenant, &spare.into(), typed, &change).await);
    accepted(lab.ask_volume(&lab.other, "d", &Change::default()).await);
}

#[tokio::test]
async fn a_running_instance_keeps_its_volume() {
    let lab = Lab::new().await;
    let id = lab.volume(&lab.tenant, "web").await;
    let taken = lab.snapshot(&lab.tenant, id).await;
    let attachment = Attachment::reported(name("vm"), AttachedState::Running);
    let change = Change::default();
    let by = &lab.tenant;
    let asked = Some(attachment.clone());
    let asked = volume::set_attachment(&lab.cx, by, &id.into(), asked, &change).await;
    assert_eq!(code(asked), ProblemCode::Forbidden);
    let view = volume::set_attachment(&lab.cx, &lab.admin, &id.into(), Some(attachment), &change)
        .await
        .expect("attached");
    assert_eq!(view.volume.state, VolumeState::InUse);
    let asked = restore::create(&lab.cx, &lab.tenant, in_place(taken, Some("web")), &change).await;
    let refusal = refused(asked);
    assert_eq!(refusal.code, ProblemCode::AttachedRunning);
    assert!(refusal.ways_out.contains(&WayOut::DetachVolume(None)));
    assert!(refusal.ways_out.contains(&WayOut::RestoreToNewVolume));
    assert_eq!(
        code(lab.ask_snapshot(&lab.tenant, id).await),
        ProblemCode::AttachedRunning
    );
    let to_new = RestoreCreate {
        mode: RestoreMode::NewVolume {
            name: None,
            pool: None,
            instant: false,
        },
        ..in_place(taken, None)
    };
    accepted(restore::create(&lab.cx, &lab.tenant, to_new, &change).await);
}

#[tokio::test]
async fn what_somebody_elses_machine_has_open_is_not_captured_by_a_pool_that_could() {
    let lab = Lab::new().await;
    let mut now = installation(true);
    now.pool.live_capture = true;
    let installed = stillpoint_control::bootstrap::ensure_installation(&lab.cx, &now).await;
    installed.expect("installed");
    let id = lab.volume(&lab.tenant, "web").await;
    let attachment = Attachment::reported(name("vm"), AttachedState::Running);
    let change = Change::default();
    volume::set_attachment(&lab.cx, &lab.admin, &id.into(), Some(attachment), &change)
        .await
        .expect("attached");
    assert_eq!(
        code(lab.ask_snapshot(&lab.tenant, id).await),
        ProblemCode::AttachedRunning
    );
}

#[tokio::test]
async fn no_instance_starts_while_an_operation_holds_its_volume() {
    let lab = Lab::new().await;
    let id = lab.volume(&lab.tenant, "web").await;
    accepted(lab.ask_snapshot(&lab.tenant, id).await);
    let attach = async |state| {
        let attachment = Some(Attachment::reported(name("vm"), state));
        let change = Change::default();
        volume::set_attachment(&lab.cx, &lab.admin, &id.into(), attachment, &change).await
    };
    assert_eq!(
        code(attach(AttachedState::Running).await),
        ProblemCode::VolumeBusy
    );
    attach(AttachedState::Stopped).await.expect("attached");
    lab.settle().await;
    attach(AttachedState::Running).await.expect("started");
}

#[tokio::test]
async fn a_roll_back_wants_the_name_and_leaves_a_safety_snapshot() {
    let lab = Lab::new().await;
    let id = lab.volume(&lab.tenant, "web").await;
    let taken = lab.snapshot(&lab.tenant, id).await;
    let change = Change::default();
    for wrong in [None, Some("Web"), Some("")] {
        let asked = restore::create(&lab.cx, &lab.tenant, in_place(taken, wrong), &change).await;
        assert_eq!(refused(asked).pointer.as_deref(), Some("/confirm"));
    }
    accepted(restore::create(&lab.cx, &lab.tenant, in_place(taken, Some("web")), &change).await);
    lab.settle().await;
    let query = ItemQuery {
        volume: Some(id.into()),
        ..Default::default()
    };
    let items = snapshot::list(&lab.cx, &lab.tenant, &query)
        .await
        .expect("a list")
        .items;
    assert_eq!(items.len(), 2);
    let view = lab.show(&lab.tenant, id).await;
    assert_eq!((view.snapshots, view.volume.active_operation), (1, None));
    assert_eq!(
        permission(&lab, id, Action::SnapshotCreate).await.code,
        ProblemCode::Cooldown
    );
}

#[tokio::test]
async fn a_node_without_a_target_makes_no_backups_but_snapshots() {
    let lab = Lab::with(plan(), false).await;
    let id = lab.volume(&lab.tenant, "web").await;
    let refusal = refused(lab.ask_backup(&lab.tenant, id).await);
    assert_eq!(refusal.code, ProblemCode::NoBackupTarget);
    assert_eq!(refusal.text, "Hypervisor has no backup storage configured.");
    accepted(lab.ask_snapshot(&lab.tenant, id).await);
}

#[tokio::test]
async fn a_silent_node_is_offline() {
    let lab = Lab::new().await;
    let id = lab.volume(&lab.tenant, "web").await;
    lab.env.advance(Duration::from_secs(61));
    assert_eq!(
        code(lab.ask_snapshot(&lab.tenant, id).await),
        ProblemCode::NodeOffline
    );
    assert_eq!(
        permission(&lab, id, Action::SnapshotCreate).await.code,
        ProblemCode::NodeOffline
    );
}

#[tokio::test]
async fn a_protected_item_stays() {
    let lab = Lab::new().await;
    let id = lab.volume(&lab.tenant, "web").await;
    let taken = lab.backup(&lab.tenant, id).await;
    let change = Change::default();
    let update = ItemUpdate {
        protected: Some(true),
        ..ItemUpdate::default()
    };
    let view = backup::update(&lab.cx, &lab.tenant, &taken.into(), update, &change)
        .await
        .expect("an update");
    let typed = Some(view.backup.name.as_str());
    let asked = backup::delete(&lab.cx, &lab.tenant, &taken.into(), typed, &change).await;
    assert_eq!(code(asked), ProblemCode::Protected);
}

#[tokio::test]
async fn a_backup_that_was_promised_stays_until_its_time_whoever_asks() {
    let promising = Plan {
        keep_backups_s: Some(KeepFor::try_from(30 * 24 * 3600).expect("a promise")),
        ..plan()
    };
    let lab = Lab::with(promising, true).await;
    let id = lab.volume(&lab.tenant, "web").await;
    let taken = lab.backup(&lab.tenant, id).await;
    let view = backup::show(&lab.cx, &lab.tenant, &taken.into())
        .await
        .expect("a backup");
    let until = view.backup.keep_until.expect("a promise");
    let kept = until.duration_since(view.backup.created_at);
    assert_eq!(kept, Duration::from_secs(30 * 24 * 3600));
    let name = Some(view.backup.name.as_str());
    let change = Change::default();
    let asked = backup::delete(&lab.cx, &lab.tenant, &taken.into(), name, &change).await;
    let refusal = refused(asked);
    assert_eq!(refusal.code, ProblemCode::BackupLocked);
    assert!(
        refusal.text.contains(&until.to_string()),
        "{}",
        refusal.text
    );
    lab.advance(kept).await;
    let asked = backup::delete(&lab.cx, &lab.tenant, &taken.into(), name, &change).await;
    asked.expect("its time is over");
}

#[tokio::test]
async fn without_a_promise_a_backup_can_go_at_once() {
    let lab = Lab::new().await;
    let id = lab.volume(&lab.tenant, "web").await;
    let taken = lab.backup(&lab.tenant, id).await;
    let view = backup::show(&lab.cx, &lab.tenant, &taken.into())
        .await
        .expect("a backup");
    assert_eq!(view.backup.keep_until, None);
}

#[tokio::test]
async fn an_item_that_is_read_cannot_be_deleted() {
    let lab = Lab::new().await;
    let id = lab.volume(&lab.tenant, "web").await;
    let taken = lab.snapshot(&lab.tenant, id).await;
    let change = Change::default();
    let to_new = RestoreCreate {
        mode: RestoreMode::NewVolume {
            name: None,
            pool: None,
            instant: false,
        },
        ..in_place(taken, None)
    };
    accepted(restore::create(&lab.cx, &lab.tenant, to_new, &change).await);
    let view = snapshot::show(&lab.cx, &lab.tenant, &taken.into())
        .await
        .expect("it");
    let typed = Some(view.snapshot.name.as_str());
    let asked = snapshot::delete(&lab.cx, &lab.tenant, &taken.into(), typed, &change).await;
    assert_eq!(code(asked), ProblemCode::VolumeBusy);
    assert!(view.active_operation.is_some());
}

#[tokio::test]
async fn what_is_filled_from_a_backup_waits_and_the_backup_stays() {
    let lab = Lab::new().await;
    let web = lab.volume(&lab.tenant, "web").await;
    let taken = lab.backup(&lab.tenant, web).await;
    let change = Change::default();
    let at_once = RestoreCreate {
        source: RestorePointRef {
            kind: ItemKind::Backup,
            item: taken.into(),
        },
        mode: RestoreMode::NewVolume {
            name: Some(name("copy")),
            pool: None,
            instant: true,
        },
    };
    let asked = restore::create(&lab.cx, &lab.tenant, at_once, &change).await;
    let copy = accepted(asked).volume_id.expect("a volume");
    lab.settle().await;
    let view = volume::show(&lab.cx, &lab.tenant, &copy.into())
        .await
        .expect("it");
    assert_eq!(view.volume.state, VolumeState::Available);
    assert_eq!(view.volume.filling, Some(taken));
    let refusal = permission(&lab, copy, Action::SnapshotCreate).await;
    assert_eq!(refusal.code, ProblemCode::VolumeFilling);
    let asked = lab.ask_snapshot(&lab.tenant, copy).await;
    assert_eq!(code(asked), ProblemCode::VolumeFilling);
    let backup = backup::show(&lab.cx, &lab.tenant, &taken.into())
        .await
        .expect("it");
    let typed = Some(backup.backup.name.as_str());
    let reference = taken.into();
    let deletion = || backup::delete(&lab.cx, &lab.tenant, &reference, typed, &change);
    assert_eq!(code(deletion().await), ProblemCode::VolumeFilling);

    let shown = &backup.permissions;
    let may = shown.iter().find(|p| p.action == Action::BackupDelete);
    let refused = may
        .expect("it is shown")
        .answer
        .clone()
        .expect_err("refused");
    assert_eq!(refused.ways_out, [WayOut::ShowVolume(copy)]);

    volume_fill::offer_due(&lab.cx).await.expect("offered");
    lab.settle().await;
    accepted(lab.ask_snapshot(&lab.tenant, copy).await);
    accepted(deletion().await);
}

#[tokio::test]
async fn names_are_checked_as_the_plan_says() {
    let lab = Lab::new().await;
    let (web, db) = (
        lab.volume(&lab.tenant, "web").await,
        lab.volume(&lab.tenant, "db").await,
    );
    let change = Change::default();
    let named = |text: &str| ItemCreate {
        name: Some(name(text)),
        ..ItemCreate::default()
    };
    let ask = async |id: stillpoint_model::id::VolumeId, text: &str| {
        snapshot::create(&lab.cx, &lab.tenant, &id.into(), named(text), &change).await
    };
    assert_eq!(
        code(ask(web, &"n".repeat(51)).await),
        ProblemCode::NameInvalid
    );
    accepted(ask(web, "before").await);
    lab.settle().await;
    lab.rest().await;
    let refusal = refused(ask(web, "before").await);
    assert_eq!(
        (refusal.code, refusal.pointer.as_deref()),
        (ProblemCode::NameTaken, Some("/name"))
    );
    accepted(ask(web, "Before").await);
    accepted(ask(db, "before").await);
    assert_eq!(
        code(lab.ask_volume(&lab.tenant, "web", &change).await),
        ProblemCode::NameTaken
    );
    accepted(lab.ask_volume(&lab.other, "web", &change).await);
}

#[tokio::test]
async fn a_generated_name_is_free_in_the_account() {
    let lab = Lab::new().await;
    let (web, db) = (
        lab.volume(&lab.tenant, "web").await,
        lab.volume(&lab.tenant, "db").await,
    );
    let mut names = Vec::new();
    for id in [web, db] {
        let operation = accepted(lab.ask_snapshot(&lab.tenant, id).await);
        let id = operation.snapshot_id.expect("a snapshot");
        let view = snapshot::show(&lab.cx, &lab.tenant, &id.into())
            .await
            .expect("it");
        names.push(String::from(view.snapshot.name));
    }
    assert_eq!(
        names,
        ["snapshot-2026-01-01-000000", "snapshot-2026-01-01-000000-2"]
    );
}

#[tokio::test]
async fn a_stale_version_changes_nothing() {
    let lab = Lab::new().await;
    let id = lab.volume(&lab.tenant, "web").await;
    let version = lab.show(&lab.tenant, id).await.volume.version;
    let stale = Change {
        if_match: Some(version - 1),
        ..Change::default()
    };
    let fresh = Change {
        if_match: Some(version),
        ..Change::default()
    };
    let ask = async |change: &Change| {
        volume::rename(&lab.cx, &lab.tenant, &id.into(), name("www"), change).await
    };
    assert_eq!(code(ask(&stale).await), ProblemCode::PreconditionFailed);
    assert_eq!(ask(&fresh).await.expect("renamed").volume.name, name("www"));
}

#[tokio::test]
async fn a_dry_run_answers_and_leaves_nothing() {
    let lab = Lab::new().await;
    let id = lab.volume(&lab.tenant, "web").await;
    let dry = Change {
        dry_run: true,
        idempotency_key: Some("k".into()),
        ..Change::default()
    };
    let before = lab.show(&lab.tenant, id).await;
    let asked = snapshot::create(
        &lab.cx,
        &lab.tenant,
        &id.into(),
        ItemCreate::default(),
        &dry,
    )
    .await;
    assert!(matches!(asked, Ok(Answer::Preview(_))));
    let renamed = volume::rename(&lab.cx, &lab.tenant, &id.into(), name("www"), &dry).await;
    assert!(renamed.is_ok());
    let after = lab.show(&lab.tenant, id).await;
    assert_eq!(before.volume, after.volume);
    assert_eq!(after.snapshots, 0);
}

#[tokio::test]
async fn wrong_sizes_and_texts_are_refused() {
    let lab = Lab::new().await;
    let id = lab.volume(&lab.tenant, "web").await;
    let change = Change::default();
    for bytes in [0, 1, (1 << 30) + 1, 1 << 30, 1 << 60] {
        let size = ByteCount::new(bytes);
        let asked = volume::resize(&lab.cx, &lab.tenant, &id.into(), size, &change).await;
        assert_eq!(
            refused(asked).pointer.as_deref(),
            Some("/size_bytes"),
            "{bytes}"
        );
    }
    let many: BTreeMap<_, _> = (0..65).map(|n| (n.to_string(), String::new())).collect();
    let request = ItemCreate {
        labels: many,
        ..ItemCreate::default()
    };
    let asked = snapshot::create(&lab.cx, &lab.tenant, &id.into(), request, &change).await;
    assert_eq!(refused(asked).pointer.as_deref(), Some("/labels"));
}

#[tokio::test]
async fn an_operator_releases_and_retries_with_a_reason() {
    let lab = Lab::new().await;
    let id = lab.volume(&lab.tenant, "web").await;
    let operation = accepted(lab.ask_snapshot(&lab.tenant, id).await);
    let by_tenant = operation::release(&lab.cx, &lab.tenant, operation.id, "stuck", None).await;
    assert_eq!(code(by_tenant), ProblemCode::Forbidden);
    let without = operation::release(&lab.cx, &lab.admin, operation.id, " ", None).await;
    assert_eq!(refused(without).pointer.as_deref(), Some("/reason"));
    operation::release(&lab.cx, &lab.admin, operation.id, "stuck", None)
        .await
        .expect("released");
    lab.settle().await;
    let ended = operation::show(&lab.cx, &lab.tenant, operation.id)
        .await
        .expect("it");
    assert_eq!(ended.state, OperationState::Failed);
    let again = operation::retry(&lab.cx, &lab.admin, operation.id, "fixed", None)
        .await
        .expect("again");
    assert_eq!(again.account_id, lab.tenant.account_id);
    lab.settle().await;
    let taken = again.snapshot_id.expect("a snapshot");
    let view = snapshot::show(&lab.cx, &lab.tenant, &taken.into())
        .await
        .expect("it");
    assert_eq!(view.snapshot.state, ItemState::Available);
    assert_eq!(lab.show(&lab.tenant, id).await.snapshots, 1);
}

#[tokio::test]
async fn what_outlives_its_volume_restores_to_a_new_one_only() {
    let lab = Lab::new().await;
    let id = lab.volume(&lab.tenant, "web").await;
    let taken = lab.snapshot(&lab.tenant, id).await;
    let change = Change::default();
    accepted(volume::delete(&lab.cx, &lab.tenant, &id.into(), Some("web"), &change).await);
    lab.settle().await;
    let view = snapshot::show(&lab.cx, &lab.tenant, &taken.into())
        .await
        .expect("it");
    assert!(!view.source_exists);
    let asked = restore::create(&lab.cx, &lab.tenant, in_place(taken, Some("web")), &change).await;
    assert!(
        refused(asked)
            .ways_out
            .contains(&WayOut::RestoreToNewVolume)
    );
    let to_new = RestoreCreate {
        mode: RestoreMode::NewVolume {
            name: Some(name("web")),
            pool: None,
            instant: false,
        },
        ..in_place(taken, None)
    };
    accepted(restore::create(&lab.cx, &lab.tenant, to_new, &change).await);
}

#[tokio::test]
async fn an_installation_is_made_once() {
    let lab = Lab::new().await;
    let again = stillpoint_control::bootstrap::ensure_installation(&lab.cx, &installation(true))
        .await
        .expect("again");
    assert!(!again.administrator.created);
    assert_eq!(again.pool_id, lab.installed.pool_id);
    assert_eq!(again.target_id, lab.installed.target_id);
}
