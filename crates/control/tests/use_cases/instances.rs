//! Instances: made, used, deleted; and rows that follow machines.

use std::time::Duration;

use stillpoint_control::instance::{
    self, DeleteVolumes, DiskRequest, InstanceCreate, InstanceView,
};
use stillpoint_control::restore::RestorePointRef;
use stillpoint_control::{Change, Error, Reference, operation, volume};
use stillpoint_model::ByteCount;
use stillpoint_model::Env;
use stillpoint_model::account::Actor;
use stillpoint_model::id::InstanceId;
use stillpoint_model::instance::{BOOT_GRACE, InstanceState, Load, Power, Sight, StopMode};
use stillpoint_model::item::ItemKind;
use stillpoint_model::refusal::ProblemCode;
use stillpoint_model::task::TaskSpec;
use stillpoint_model::volume::{AttachedState, Attachment, VolumeState};

use crate::lab::{Lab, accepted, by_name, code, name, refused};

/// An instance with an empty root, started.
pub fn ask_instance(text: &str) -> InstanceCreate {
    InstanceCreate {
        name: Some(name(text)),
        flavor: None,
        pool: None,
        root: DiskRequest::Empty {
            name: None,
            size: ByteCount::from_gib(1),
        },
        data: Vec::new(),
        start: true,
    }
}

/// An instance that runs.
pub async fn instance_of(lab: &Lab, actor: &Actor, text: &str) -> InstanceId {
    made(lab, actor, ask_instance(text)).await
}

async fn made(lab: &Lab, actor: &Actor, request: InstanceCreate) -> InstanceId {
    let asked = instance::create(&lab.cx, actor, request, &Change::default()).await;
    let operation = accepted(asked);
    lab.settle().await;
    operation.instance_id.expect("an instance")
}

async fn show(lab: &Lab, id: InstanceId) -> InstanceView {
    let shown = instance::show(&lab.cx, &lab.tenant, &id.into()).await;
    shown.expect("the instance")
}

async fn stopped(lab: &Lab, id: InstanceId) {
    let (change, mode) = (Change::default(), StopMode::Forced);
    accepted(instance::stop(&lab.cx, &lab.tenant, &id.into(), mode, &change).await);
    lab.settle().await;
}

fn sight(id: InstanceId, power: Power) -> Sight {
    Sight {
        instance_id: id,
        power,
        crashed: false,
        storage_full: Vec::new(),
        agent_answered: false,
        load: Some(Load::percent(40)),
    }
}

async fn sighted(lab: &Lab, sights: Vec<Sight>) {
    let said = lab.board.sighted(lab.installed.node_id, sights);
    said.await.expect("heard");
}

#[tokio::test]
async fn a_new_instance_runs_with_its_volumes() {
    let lab = Lab::new().await;
    let data = lab.volume(&lab.tenant, "data").await;
    let request = InstanceCreate {
        data: vec![DiskRequest::Volume(data.into())],
        ..ask_instance("web")
    };
    let id = made(&lab, &lab.tenant, request).await;
    let view = show(&lab, id).await;
    assert_eq!(view.instance.state, InstanceState::Active);
    assert_eq!(view.instance.flavor.name, name("tiny"));
    let volumes: Vec<_> = view.volumes.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(volumes, ["web-root", "data"]);
    for volume in &view.volumes {
        assert_eq!(volume.state, VolumeState::InUse);
        assert!(volume.is_attached_running(), "{}", volume.name);
    }
}

#[tokio::test]
async fn an_instance_boots_from_a_snapshot() {
    let lab = Lab::new().await;
    let id = lab.volume(&lab.tenant, "disk").await;
    let snapshot = lab.snapshot(&lab.tenant, id).await;
    let request = InstanceCreate {
        root: DiskRequest::RestorePoint {
            name: None,
            source: RestorePointRef {
                kind: ItemKind::Snapshot,
                item: snapshot.into(),
            },
            instant: false,
        },
        ..ask_instance("copy")
    };
    let view = show(&lab, made(&lab, &lab.tenant, request).await).await;
    assert_eq!(view.instance.state, InstanceState::Active);
    assert!(view.volumes[0].origin.is_some());
}

#[tokio::test]
async fn what_cannot_be_made_leaves_a_reason_and_no_volume() {
    let lab = Lab::new().await;
    let data = lab.volume(&lab.tenant, "data").await;
    let request = InstanceCreate {
        data: vec![DiskRequest::Volume(data.into())],
        ..ask_instance("web")
    };
    let asked = instance::create(&lab.cx, &lab.tenant, request, &Change::default()).await;
    let asked = accepted(asked);
    let released = operation::release(&lab.cx, &lab.admin, asked.id, "stuck", None);
    released.await.expect("released");
    lab.settle().await;
    let view = show(&lab, asked.instance_id.expect("an instance")).await;
    assert_eq!(view.instance.state, InstanceState::Failed);
    assert!(view.instance.failure.is_some());
    assert!(view.volumes.is_empty());
    let data = lab.show(&lab.tenant, data).await.volume;
    assert_eq!(data.state, VolumeState::Available);
}

#[tokio::test]
async fn a_volume_is_in_one_place_of_an_instance() {
    let lab = Lab::new().await;
    let data = lab.volume(&lab.tenant, "data").await;
    let request = InstanceCreate {
        data: vec![
            DiskRequest::Volume(data.into()),
            DiskRequest::Volume(Reference::parse("data", "volume").expect("a name")),
        ],
        ..ask_instance("web")
    };
    let asked = instance::create(&lab.cx, &lab.tenant, request, &Change::default()).await;
    let refusal = refused(asked);
    assert_eq!(refusal.code, ProblemCode::InvalidRequest);
    assert_eq!(refusal.pointer.as_deref(), Some("/data/1/volume"));
}

#[tokio::test]
async fn volumes_go_with_their_instance_or_stay() {
    let lab = Lab::new().await;
    let data = lab.volume(&lab.tenant, "data").await;
    let request = InstanceCreate {
        data: vec![DiskRequest::Volume(data.into())],
        ..ask_instance("web")
    };
    let id = made(&lab, &lab.tenant, request).await;
    let root = show(&lab, id).await.volumes[0].id;
    let (change, go) = (Change::default(), DeleteVolumes::These(vec![root.into()]));
    let (cx, me) = (&lab.cx, &lab.tenant);
    let unconfirmed = instance::delete(cx, me, &id.into(), go.clone(), None, &change).await;
    assert_eq!(code(unconfirmed), ProblemCode::InvalidRequest);
    accepted(instance::delete(cx, me, &id.into(), go, Some("web"), &change).await);
    lab.settle().await;
    let gone = instance::show(cx, me, &id.into()).await;
    assert_eq!(code(gone), ProblemCode::NotFound);
    let gone = volume::show(cx, me, &root.into()).await;
    assert_eq!(code(gone), ProblemCode::NotFound);
    let kept = lab.show(me, data).await.volume;
    assert_eq!(
        (kept.state, kept.attachment),
        (VolumeState::Available, None)
    );
}

#[tokio::test]
async fn a_volume_is_attached_by_us_or_by_the_orchestrator() {
    let lab = Lab::new().await;
    let (cx, me, change) = (&lab.cx, &lab.tenant, Change::default());
    let id = instance_of(&lab, me, "web").await;
    let data = Reference::from(lab.volume(me, "data").await);
    let reported = || Some(Attachment::reported(name("vm"), AttachedState::Stopped));
    let said = volume::set_attachment(cx, &lab.admin, &data, reported(), &change).await;
    said.expect("reported");
    let taken = volume::attach(cx, me, &data, &id.into(), &change).await;
    assert_eq!(code(taken), ProblemCode::NotEligible);
    let said = volume::set_attachment(cx, &lab.admin, &data, None, &change).await;
    said.expect("reported");
    accepted(volume::attach(cx, me, &data, &id.into(), &change).await);
    lab.settle().await;
    let said = volume::set_attachment(cx, &lab.admin, &data, reported(), &change).await;
    assert_eq!(code(said), ProblemCode::NotEligible);
    accepted(volume::detach(cx, me, &data, &change).await);
    lab.settle().await;
    let free = volume::detach(cx, me, &data, &change).await;
    assert_eq!(code(free), ProblemCode::NotEligible);
}

#[tokio::test]
async fn two_instances_never_have_one_name() {
    let lab = Lab::new().await;
    let (cx, me, change) = (&lab.cx, &lab.tenant, Change::default());
    instance_of(&lab, me, "web").await;
    let twice = instance::create(cx, me, ask_instance("web"), &change).await;
    assert_eq!(code(twice), ProblemCode::NameTaken);
    let other = instance_of(&lab, me, "db").await;
    let renamed = instance::rename(cx, me, &other.into(), name("web"), &change).await;
    assert_eq!(code(renamed), ProblemCode::NameTaken);
    assert_eq!(show(&lab, other).await.instance.name, name("db"));
}

#[tokio::test]
async fn a_volume_of_a_running_instance_is_not_rolled_back() {
    let lab = Lab::new().await;
    let id = instance_of(&lab, &lab.tenant, "web").await;
    let view = lab
        .show(&lab.tenant, show(&lab, id).await.volumes[0].id)
        .await;
    let rolled = view
        .permissions
        .iter()
        .find(|p| p.action == stillpoint_model::guard::Action::RestoreInPlace)
        .expect("asked");
    let refusal = rolled.answer.as_ref().expect_err("refused");
    assert_eq!(refusal.code, ProblemCode::AttachedRunning);
}

#[tokio::test]
async fn a_machine_that_is_gone_twice_is_stopped() {
    let lab = Lab::new().await;
    let id = instance_of(&lab, &lab.tenant, "web").await;
    sighted(&lab, Vec::new()).await;
    assert_eq!(show(&lab, id).await.instance.state, InstanceState::Active);
    sighted(&lab, Vec::new()).await;
    let instance = show(&lab, id).await.instance;
    assert_eq!(
        (instance.state, instance.power),
        (InstanceState::Stopped, Power::Off)
    );
    assert!(instance.failure.is_some(), "nobody said why");
}

#[tokio::test]
async fn a_guest_that_shut_itself_down_is_stopped_without_a_reason() {
    let lab = Lab::new().await;
    let id = instance_of(&lab, &lab.tenant, "web").await;
    for _ in 0..2 {
        sighted(&lab, vec![sight(id, Power::Off)]).await;
    }
    let instance = show(&lab, id).await.instance;
    assert_eq!(instance.state, InstanceState::Stopped);
    assert_eq!(instance.failure, None);
}

#[tokio::test]
async fn a_sight_from_before_an_operation_changes_nothing() {
    let lab = Lab::new().await;
    let id = instance_of(&lab, &lab.tenant, "web").await;
    let early = vec![sight(id, Power::Running)];
    sighted(&lab, Vec::new()).await;
    stopped(&lab, id).await;
    // What was seen before the stop arrives after it; the next look sees nothing.
    sighted(&lab, early).await;
    sighted(&lab, Vec::new()).await;
    let instance = show(&lab, id).await.instance;
    assert_eq!(instance.state, InstanceState::Stopped);
    assert_eq!(instance.failure, None);
}

#[tokio::test]
async fn a_machine_that_waits_for_room_says_so_until_it_goes_on() {
    let lab = Lab::new().await;
    let id = instance_of(&lab, &lab.tenant, "web").await;
    let root = show(&lab, id).await.volumes[0].id;
    let full = Sight {
        storage_full: vec![root],
        ..sight(id, Power::Paused)
    };
    let reason = async || show(&lab, id).await.instance.failure;
    for _ in 0..2 {
        sighted(&lab, vec![full.clone()]).await;
    }
    let said = reason().await.expect("a reason");
    assert!(
        said.contains("no room left where web-root is stored"),
        "{said}"
    );
    // Resumed with as little room as before, it says so again.
    let change = Change::default();
    accepted(instance::resume(&lab.cx, &lab.tenant, &id.into(), &change).await);
    lab.settle().await;
    assert_eq!(reason().await, None);
    for _ in 0..2 {
        sighted(&lab, vec![full.clone()]).await;
    }
    assert_eq!(reason().await, Some(said));
    for _ in 0..2 {
        sighted(&lab, vec![sight(id, Power::Running)]).await;
    }
    assert_eq!(reason().await, None);
}

#[tokio::test]
async fn a_machine_that_somebody_paused_needs_no_reason() {
    let lab = Lab::new().await;
    let id = instance_of(&lab, &lab.tenant, "web").await;
    let change = Change::default();
    accepted(instance::pause(&lab.cx, &lab.tenant, &id.into(), &change).await);
    lab.settle().await;
    sighted(&lab, vec![sight(id, Power::Paused)]).await;
    assert_eq!(show(&lab, id).await.instance.failure, None);
}

#[tokio::test]
async fn a_machine_that_runs_after_all_is_active() {
    let lab = Lab::new().await;
    let id = instance_of(&lab, &lab.tenant, "web").await;
    stopped(&lab, id).await;
    for _ in 0..2 {
        sighted(&lab, vec![sight(id, Power::Running)]).await;
    }
    let instance = show(&lab, id).await.instance;
    assert_eq!(instance.state, InstanceState::Active);
    assert_eq!(instance.load.map(Load::as_percent), Some(40));
}

#[tokio::test]
async fn a_guest_is_ready_once_its_agent_answered_or_after_its_grace() {
    let lab = Lab::new().await;
    let with_agent = instance_of(&lab, &lab.tenant, "agent").await;
    let without = instance_of(&lab, &lab.tenant, "plain").await;
    let look = async || {
        let answers = Sight {
            agent_answered: true,
            ..sight(with_agent, Power::Running)
        };
        sighted(&lab, vec![answers, sight(without, Power::Running)]).await;
        let ready = async |id| show(&lab, id).await.instance.ready;
        (ready(with_agent).await, ready(without).await)
    };
    assert_eq!(look().await, (true, false));
    lab.advance(BOOT_GRACE + Duration::from_secs(1)).await;
    assert_eq!(look().await, (true, true));
}

#[tokio::test]
async fn what_a_deletion_left_is_removed_and_what_nobody_knows_is_left_alone() {
    let lab = Lab::new().await;
    let id = instance_of(&lab, &lab.tenant, "web").await;
    let (change, all) = (Change::default(), DeleteVolumes::All);
    let (cx, me) = (&lab.cx, &lab.tenant);
    accepted(instance::delete(cx, me, &id.into(), all, Some("web"), &change).await);
    lab.settle().await;
    let unknown = InstanceId::generate(&*lab.env as &dyn Env);
    sighted(
        &lab,
        vec![sight(id, Power::Running), sight(unknown, Power::Running)],
    )
    .await;
    let node = lab.installed.node_id;
    let task = lab.board.take(node).await.expect("the board");
    let wanted = TaskSpec::InstanceRemove { instance_id: id };
    assert_eq!(task.map(|task| task.spec), Some(wanted));
    let another = lab.board.take(node).await.expect("the board");
    let removes = |spec: &TaskSpec| matches!(spec, TaskSpec::InstanceRemove { .. });
    assert!(!another.is_some_and(|task| removes(&task.spec)));
}

#[tokio::test]
async fn what_runs_is_not_started_again() {
    let lab = Lab::new().await;
    let id = instance_of(&lab, &lab.tenant, "web").await;
    let (cx, me, change) = (&lab.cx, &lab.tenant, Change::default());
    let unknown: Result<_, Error> = instance::start(cx, me, &by_name("other"), &change)
        .await
        .map(drop);
    assert_eq!(code(unknown), ProblemCode::NotFound);
    let twice = instance::start(cx, me, &id.into(), &change).await;
    assert_eq!(code(twice), ProblemCode::NotEligible);
}
