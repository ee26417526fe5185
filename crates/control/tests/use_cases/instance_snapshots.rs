//! Instance snapshots: taken, shown, restored both ways, deleted.

use stillpoint_control::instance::{self, InstanceOfSnapshot};
use stillpoint_control::instance_snapshot::{
    self, InstanceSnapshotCreate, InstanceSnapshotQuery, InstanceSnapshotView,
};
use stillpoint_control::item::{ItemCreate, ItemQuery, ItemUpdate};
use stillpoint_control::restore::{RestoreCreate, RestoreMode, RestorePointRef};
use stillpoint_control::{Change, restore, snapshot};
use stillpoint_model::account::Actor;
use stillpoint_model::guard::Action;
use stillpoint_model::id::{InstanceId, InstanceSnapshotId};
use stillpoint_model::instance::{InstanceState, Power, StopMode};
use stillpoint_model::item::{ItemKind, ItemState};
use stillpoint_model::refusal::ProblemCode;

use crate::instances::instance_of;
use crate::lab::{Lab, accepted, code, name, refused};

/// A snapshot of an instance, which is stopped for it: the pool of these tests captures nothing that
/// is open. Taken, and at rest.
pub async fn captured(lab: &Lab, actor: &Actor, id: InstanceId, text: &str) -> InstanceSnapshotId {
    let request = ItemCreate {
        name: Some(name(text)),
        ..ItemCreate::default()
    };
    let (change, mode) = (Change::default(), StopMode::Forced);
    accepted(instance::stop(&lab.cx, actor, &id.into(), mode, &change).await);
    lab.settle().await;
    let asked = instance_snapshot::create(&lab.cx, actor, &id.into(), request, &change).await;
    let operation = accepted(asked);
    lab.settle().await;
    lab.rest().await;
    operation.instance_snapshot_id.expect("its id")
}

async fn show(lab: &Lab, id: InstanceSnapshotId) -> InstanceSnapshotView {
    let shown = instance_snapshot::show(&lab.cx, &lab.tenant, &id.into()).await;
    shown.expect("the instance snapshot")
}

async fn stop(lab: &Lab, id: InstanceId) {
    let (change, mode) = (Change::default(), StopMode::Forced);
    accepted(instance::stop(&lab.cx, &lab.tenant, &id.into(), mode, &change).await);
    lab.settle().await;
}

fn may(view: &InstanceSnapshotView, action: Action) -> bool {
    let found = view.permissions.iter().find(|p| p.action == action);
    found.expect("the permission").answer.is_ok()
}

#[tokio::test]
async fn the_whole_is_listed_with_its_parts() {
    let lab = Lab::new().await;
    let web = instance_of(&lab, &lab.tenant, "web").await;
    let id = captured(&lab, &lab.tenant, web, "before").await;
    let view = show(&lab, id).await;
    let whole = &view.instance_snapshot;
    assert_eq!(whole.state, ItemState::Available);
    assert_eq!(whole.consistency, Some(Lab::REACHED));
    assert_eq!(whole.config.volumes.len(), 1);
    let parts = snapshot::list(&lab.cx, &lab.tenant, &ItemQuery::default()).await;
    let parts = parts.expect("a page").items;
    assert_eq!(parts.len(), 1);
    assert_eq!(parts[0].snapshot.instance_snapshot_id, Some(id));
    assert_eq!(parts[0].snapshot.name, name("before-root"));
    assert_eq!(parts[0].snapshot.state, ItemState::Available);
    let query = InstanceSnapshotQuery {
        instance: Some(web.into()),
        ..InstanceSnapshotQuery::default()
    };
    let listed = instance_snapshot::list(&lab.cx, &lab.tenant, &query).await;
    assert_eq!(listed.expect("a page").items.len(), 1);
}

#[tokio::test]
async fn volumes_rest_after_their_instance_was_captured() {
    let lab = Lab::new().await;
    let web = instance_of(&lab, &lab.tenant, "web").await;
    stop(&lab, web).await;
    let reference = web.into();
    accepted(ask_again(&lab, &reference).await);
    assert_eq!(
        code(ask_again(&lab, &reference).await),
        ProblemCode::InstanceBusy
    );
    lab.settle().await;
    assert_eq!(
        code(ask_again(&lab, &reference).await),
        ProblemCode::Cooldown
    );
}

async fn ask_again(
    lab: &Lab,
    web: &stillpoint_control::Reference,
) -> Result<stillpoint_control::Answer, stillpoint_control::Error> {
    let (request, change) = (ItemCreate::default(), Change::default());
    instance_snapshot::create(&lab.cx, &lab.tenant, web, request, &change).await
}

#[tokio::test]
async fn a_part_is_restored_alone_and_goes_only_with_the_whole() {
    let lab = Lab::new().await;
    let web = instance_of(&lab, &lab.tenant, "web").await;
    let id = captured(&lab, &lab.tenant, web, "before").await;
    let (cx, me, change) = (&lab.cx, &lab.tenant, Change::default());
    let part = show(&lab, id).await.instance_snapshot.config.volumes[0].snapshot_id;
    let alone = snapshot::delete(cx, me, &part.into(), Some("before-root"), &change).await;
    assert_eq!(code(alone), ProblemCode::Protected);
    let request = RestoreCreate {
        source: RestorePointRef {
            kind: ItemKind::Snapshot,
            item: part.into(),
        },
        mode: RestoreMode::NewVolume {
            name: Some(name("copy")),
            pool: None,
            instant: false,
        },
    };
    accepted(restore::create(cx, me, request, &change).await);
    // While something reads a part, the whole stays.
    let deletion =
        || async { instance_snapshot::delete(cx, me, &id.into(), Some("before"), &change).await };
    assert_eq!(code(deletion().await), ProblemCode::VolumeBusy);
    lab.settle().await;
    accepted(deletion().await);
    lab.settle().await;
    assert_eq!(
        code(instance_snapshot::show(cx, me, &id.into()).await),
        ProblemCode::NotFound
    );
    assert_eq!(
        code(snapshot::show(cx, me, &part.into()).await),
        ProblemCode::NotFound
    );
}

#[tokio::test]
async fn one_that_is_protected_stays() {
    let lab = Lab::new().await;
    let web = instance_of(&lab, &lab.tenant, "web").await;
    let id = captured(&lab, &lab.tenant, web, "before").await;
    let (cx, me, change) = (&lab.cx, &lab.tenant, Change::default());
    let protect = ItemUpdate {
        protected: Some(true),
        ..ItemUpdate::default()
    };
    let view = instance_snapshot::update(cx, me, &id.into(), protect, &change).await;
    assert!(!may(
        &view.expect("updated"),
        Action::InstanceSnapshotDelete
    ));
    let asked = instance_snapshot::delete(cx, me, &id.into(), Some("before"), &change).await;
    assert_eq!(code(asked), ProblemCode::Protected);
}

#[tokio::test]
async fn a_new_instance_outlives_and_is_like_the_one_that_was_captured() {
    let lab = Lab::new().await;
    let web = instance_of(&lab, &lab.tenant, "web").await;
    let id = captured(&lab, &lab.tenant, web, "before").await;
    let (cx, me, change) = (&lab.cx, &lab.tenant, Change::default());
    let all = instance::DeleteVolumes::All;
    accepted(instance::delete(cx, me, &web.into(), all, Some("web"), &change).await);
    lab.settle().await;
    let view = show(&lab, id).await;
    assert!(!view.source_exists && !may(&view, Action::InstanceRebuild));
    let request = InstanceOfSnapshot {
        source: id.into(),
        name: Some(name("again")),
        flavor: None,
        start: true,
        with_memory: false,
    };
    let made = accepted(instance::create_of_snapshot(cx, me, request, &change).await);
    lab.settle().await;
    let again = made.instance_id.expect("an instance");
    let view = instance::show(cx, me, &again.into()).await.expect("it");
    assert_eq!(view.instance.state, InstanceState::Active);
    assert_eq!(view.volumes.len(), 1);
    assert_eq!(view.volumes[0].name, name("again-root"));
    assert!(view.volumes[0].origin.is_some());
}

#[tokio::test]
async fn an_instance_goes_back_while_it_is_off_and_keeps_what_was_there() {
    let lab = Lab::new().await;
    let web = instance_of(&lab, &lab.tenant, "web").await;
    let id = captured(&lab, &lab.tenant, web, "before").await;
    let (cx, me, change) = (&lab.cx, &lab.tenant, Change::default());
    let rebuild = |confirm| {
        let (web, id) = (web.into(), id.into());
        let change = &change;
        async move { instance_snapshot::rebuild(cx, me, &web, &id, (confirm, false), change).await }
    };
    accepted(instance::start(cx, me, &web.into(), &change).await);
    lab.settle().await;
    let running = refused(rebuild(Some("web")).await);
    assert_eq!(running.code, ProblemCode::AttachedRunning);
    stop(&lab, web).await;
    assert_eq!(code(rebuild(None).await), ProblemCode::InvalidRequest);
    let asked = accepted(rebuild(Some("web")).await);
    assert_eq!(asked.instance_snapshot_id, Some(id));
    lab.settle().await;
    let view = instance::show(cx, me, &web.into()).await.expect("it");
    assert_eq!(
        (view.instance.state, view.instance.power),
        (InstanceState::Stopped, Power::Off)
    );
    let all = snapshot::list(cx, me, &ItemQuery::default()).await;
    let safeties: Vec<_> = all.expect("a page").items;
    let safety = safeties.iter().filter(|s| s.snapshot.expires_at.is_some());
    assert_eq!(safety.count(), 1);
}

#[tokio::test]
async fn an_instance_does_not_go_back_to_what_another_was() {
    let lab = Lab::new().await;
    let web = instance_of(&lab, &lab.tenant, "web").await;
    let other = instance_of(&lab, &lab.tenant, "other").await;
    let id = captured(&lab, &lab.tenant, web, "before").await;
    stop(&lab, other).await;
    let (cx, me, change) = (&lab.cx, &lab.tenant, Change::default());
    let asked = instance_snapshot::rebuild(
        cx,
        me,
        &other.into(),
        &id.into(),
        (Some("other"), false),
        &change,
    )
    .await;
    let refusal = refused(asked);
    assert_eq!(refusal.code, ProblemCode::InvalidRequest);
    assert_eq!(refusal.pointer.as_deref(), Some("/instance_snapshot"));
}

#[tokio::test]
async fn there_is_no_memory_of_an_instance_that_is_off() {
    let lab = Lab::new().await;
    let web = instance_of(&lab, &lab.tenant, "web").await;
    let (cx, me, change) = (&lab.cx, &lab.tenant, Change::default());
    let cold = captured(&lab, me, web, "cold").await;
    assert_eq!(show(&lab, cold).await.instance_snapshot.memory, None);
    let request = InstanceSnapshotCreate {
        with_memory: true,
        ..InstanceSnapshotCreate::default()
    };
    let asked = instance_snapshot::create(cx, me, &web.into(), request, &change).await;
    assert_eq!(code(asked), ProblemCode::NotEligible);
    let request = InstanceOfSnapshot {
        source: cold.into(),
        name: None,
        flavor: None,
        start: true,
        with_memory: true,
    };
    let asked = instance::create_of_snapshot(cx, me, request, &change).await;
    assert_eq!(code(asked), ProblemCode::NotEligible);
}
