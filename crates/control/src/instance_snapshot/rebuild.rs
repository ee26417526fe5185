//! How an instance is put back to a snapshot of it: every volume that the snapshot holds. Volumes
//! that were attached since stay as they are.

use stillpoint_model::account::Actor;
use stillpoint_model::guard::{Action, can_go_on_from, can_go_on_with};
use stillpoint_model::id::SnapshotId;
use stillpoint_model::instance::InstanceState;
use stillpoint_model::instance_snapshot::{CapturedVolume, InstanceSnapshot};
use stillpoint_model::naming::check_confirmation;
use stillpoint_model::refusal::{ProblemCode, Refusal, WayOut};
use stillpoint_model::saga::{PutBack, Request};
use stillpoint_store::instance::instance_update;
use stillpoint_store::volume::{CountedVolume, volume_counted_of_instance};

use super::own_instance_snapshot;
use crate::admission::{Accepted, Ask, Desk, Draft};
use crate::error::Result;
use crate::instance::{machine, plans_of};
use crate::reference::own_instance;
use crate::{Answer, Change, Context, Reference};

/// Puts an instance back to a snapshot of it. `confirm` is the instance's name, typed, where the
/// plan asks for that. `with_memory` has it go on from the memory that the snapshot holds.
pub async fn rebuild(
    cx: &Context,
    actor: &Actor,
    instance: &Reference,
    snapshot: &Reference,
    (confirm, with_memory): (Option<&str>, bool),
    change: &Change,
) -> Result<Answer> {
    let asked = (instance, snapshot, confirm, with_memory);
    let ask = Ask::new(cx, actor, change, "instance_rebuild", &asked)?;
    let (instance, snapshot) = (instance.clone(), snapshot.clone());
    let confirm = confirm.map(str::to_owned);
    let confirmed = (confirm, with_memory);
    ask.admit(move |desk| Box::pin(admit_rebuild(desk, instance, snapshot, confirmed)))
        .await
}

/// Decides on putting an instance back.
pub(crate) async fn admit_rebuild(
    mut desk: Desk<'_>,
    instance: Reference,
    snapshot: Reference,
    (confirm, with_memory): (Option<String>, bool),
) -> Result<Accepted> {
    let mut instance = own_instance(desk.tx, &desk.actor, &instance).await?;
    desk.check_version(instance.version)?;
    let found = own_instance_snapshot(desk.tx, &desk.actor, &snapshot).await;
    let whole = found.map_err(|error| error.at("/instance_snapshot"))?;
    if whole.instance_id != instance.id {
        return Err(of_another().into());
    }
    let all = volume_counted_of_instance(desk.tx, instance.id).await?;
    let held = held_volumes(&whole, &all)?;
    let plans = plans_of(&desk.cx, desk.tx, &held).await?;
    let members = desk.members(&held, &plans).await?;
    let all: Vec<_> = all.into_iter().map(|(volume, _)| volume).collect();
    let facts = desk.instance_facts(&instance, &all).await?;
    let now = facts.volumes.clone();
    let first = held.first().map(|(volume, _)| volume);
    let (plan, places) = (desk.plan(first).await?, desk.cx.places());
    let (action, rules) = (
        Action::InstanceRebuild,
        (&plan.plan, places.pool(whole.pool_id)?),
    );
    let item = desk.whole_facts(&whole).await?;
    let allowed = desk
        .can_together(action, rules, facts, Some(item), &members)
        .await?;
    if !desk.change.dry_run || confirm.is_some() {
        let asked = plan.plan.confirm.restore_in_place;
        check_confirmation(asked, &instance.name, confirm.as_deref())?;
    }
    if with_memory {
        can_go_on_from(&whole, &instance.flavor, true)?;
        can_go_on_with(&whole.config.volumes, &now)?;
    }
    let go_on = with_memory.then(|| machine(&instance, &all));
    let put_back = |captured: &CapturedVolume| PutBack {
        volume_id: captured.volume_id,
        snapshot_id: captured.snapshot_id,
        safety_id: SnapshotId::generate(desk.cx.env()),
    };
    let request = Request::InstanceRebuild {
        put_back: whole.config.volumes.iter().map(put_back).collect(),
        go_on,
    };
    drop(members);
    for (volume, _) in held {
        desk.lock(volume).await?;
    }
    instance.state = InstanceState::Rebuilding;
    instance.active_operation = Some(desk.operation_id);
    instance.version += 1;
    instance_update(desk.tx, &instance).await?;
    let draft = Draft {
        action,
        request,
        pool_id: whole.pool_id,
        project_id: instance.project_id,
        volume: None,
        snapshot_id: None,
        backup_id: None,
        instance: Some((instance.id, instance.name)),
        image: None,
        instance_snapshot_id: Some(whole.id),
    };
    desk.accept(draft, &plan.plan, allowed).await
}

/// The volumes of an instance that a snapshot of it holds: each must still be there.
pub(super) fn held_volumes(
    whole: &InstanceSnapshot,
    volumes: &[CountedVolume],
) -> Result<Vec<CountedVolume>, Refusal> {
    let held = |captured: &CapturedVolume| {
        let found = volumes.iter().find(|(v, _)| v.id == captured.volume_id);
        found.cloned().ok_or_else(|| {
            let text = format!(
                "The snapshot holds the volume {}, which the instance does not have any more.",
                captured.name
            );
            Refusal::new(ProblemCode::NotEligible, text).or(WayOut::RestoreToNewInstance)
        })
    };
    whole.config.volumes.iter().map(held).collect()
}

/// The instance that a snapshot was taken of does not exist any more.
pub(super) fn instance_is_gone() -> Refusal {
    let text = "The instance it was taken of is gone. Make a new instance of it instead.";
    Refusal::new(ProblemCode::NotEligible, text).or(WayOut::RestoreToNewInstance)
}

fn of_another() -> Refusal {
    let text = "The snapshot is of another instance. Make a new instance of it instead.";
    Refusal::new(ProblemCode::InvalidRequest, text)
        .at("/instance_snapshot")
        .or(WayOut::RestoreToNewInstance)
}
