//! What is changed about a volume at once: its name, and what has it.

use stillpoint_model::Timestamp;
use stillpoint_model::account::Actor;
use stillpoint_model::event::EventKind;
use stillpoint_model::guard::{Action, Facts, can, can_start};
use stillpoint_model::id::VolumeId;
use stillpoint_model::name::Name;
use stillpoint_model::naming::name_taken;
use stillpoint_model::refusal::{ProblemCode, Refusal, WayOut};
use stillpoint_model::volume::{AttachedState, Attachment, Volume, VolumeState};
use stillpoint_store::Tx;
use stillpoint_store::event::{NewEvent, event_insert};
use stillpoint_store::operation::operation_by_id;
use stillpoint_store::volume::{volume_by_id, volume_by_name, volume_counted_by_id, volume_update};

use super::{VolumeView, show_row};
use crate::admission::{active_facts, check_version, volume_facts};
use crate::audit::{self, Entry};
use crate::change::edit;
use crate::error::Result;
use crate::reference::{own_volume, own_volume_counted};
use crate::{Change, Context, Reference};

/// Renames a volume.
pub async fn rename(
    cx: &Context,
    actor: &Actor,
    volume: &Reference,
    name: Name,
    change: &Change,
) -> Result<VolumeView> {
    let (handle, actor, change) = (cx.clone(), actor.clone(), change.clone());
    let (reference, now) = (volume.clone(), cx.now());
    let id = edit(cx, change.dry_run, move |tx| {
        Box::pin(async move {
            let (mut volume, counts) = own_volume_counted(tx, &actor, &reference).await?;
            check_version(&change, volume.version)?;
            let plan = handle.plan(tx, volume.plan_id).await?;
            let facts = Facts {
                now,
                plan: &plan.plan,
                volume: Some(volume_facts(&handle, &volume, counts, None, None)?),
                item: None,
                instance: None,
                runs_instances: false,
                images: 0,
                in_flight: 0,
                node_online: true,
                override_cooldown: false,
            };
            can(Action::VolumeRename, &facts)?;
            if volume.name != name
                && volume_by_name(tx, volume.project_id, &name)
                    .await?
                    .is_some()
            {
                return Err(name_taken("volume", &name).into());
            }
            let detail = format!("{} -> {name}", volume.name);
            volume.name = name;
            save(tx, &mut volume, now).await?;
            let entry = Entry::new(&actor, "volume_rename", volume.id.as_uuid());
            audit::record(tx, entry.detail(detail), now).await?;
            Ok(volume.id)
        })
    })
    .await?;
    let mut conn = cx.db().read().await?;
    let row = volume_counted_by_id(&mut conn, id).await?;
    let row = row.ok_or_else(|| Refusal::not_found("volume"))?;
    show_row(cx, &mut conn, row).await
}

/// Records which instance has a volume, and whether it runs: the word of the provider's
/// orchestrator, so for administrators alone, and for volumes of any account by id.
pub async fn set_attachment(
    cx: &Context,
    actor: &Actor,
    volume: &Reference,
    attachment: Option<Attachment>,
    change: &Change,
) -> Result<VolumeView> {
    if !actor.is_administrator() {
        let text = "Only an administrator says what a volume is attached to.";
        return Err(Refusal::new(ProblemCode::Forbidden, text).into());
    }
    let (actor, change) = (actor.clone(), change.clone());
    let (reference, now) = (volume.clone(), cx.now());
    let id = edit(cx, change.dry_run, move |tx| {
        Box::pin(async move {
            let mut volume = match &reference {
                Reference::Id(id) => volume_by_id(tx, VolumeId::from_uuid(*id))
                    .await?
                    .ok_or_else(|| Refusal::not_found("volume"))?,
                Reference::Name(_) => own_volume(tx, &actor, &reference).await?,
            };
            check_version(&change, volume.version)?;
            if volume.own_instance().is_some() {
                let text = "The volume is attached to an instance of this installation, which \
                            alone says what it does. Detach the volume first.";
                let refusal = Refusal::new(ProblemCode::NotEligible, text);
                return Err(refusal.or(WayOut::DetachVolume(Some(volume.id))).into());
            }
            let starts = attachment
                .as_ref()
                .is_some_and(|a| a.state == AttachedState::Running);
            if let Some(id) = volume.active_operation.filter(|_| starts) {
                can_start(operation_by_id(tx, id).await?.as_ref().map(active_facts))?;
            }
            volume.state = attached_state(&volume, attachment.is_some())?;
            let detail = attachment.as_ref().map_or_else(
                || "detached".to_owned(),
                |a| format!("{} {}", a.instance, a.state),
            );
            volume.attachment = attachment;
            save(tx, &mut volume, now).await?;
            let entry = Entry::new(&actor, "volume_attach", volume.id.as_uuid());
            let entry = entry.account(volume.account_id).detail(detail);
            audit::record(tx, entry, now).await?;
            Ok(volume.id)
        })
    })
    .await?;
    let mut conn = cx.db().read().await?;
    let row = volume_counted_by_id(&mut conn, id).await?;
    let row = row.ok_or_else(|| Refusal::not_found("volume"))?;
    show_row(cx, &mut conn, row).await
}

/// What a volume is once it is attached or detached. Only one that works can change hands.
fn attached_state(volume: &Volume, attached: bool) -> Result<VolumeState, Refusal> {
    match volume.state {
        VolumeState::Available | VolumeState::InUse if attached => Ok(VolumeState::InUse),
        VolumeState::Available | VolumeState::InUse => Ok(VolumeState::Available),
        VolumeState::Failed if !attached => Ok(VolumeState::Failed),
        state => Err(Refusal::new(
            ProblemCode::NotEligible,
            format!("The volume is {state}."),
        )),
    }
}

async fn save(tx: &mut Tx, volume: &mut Volume, now: Timestamp) -> Result<()> {
    volume.version += 1;
    volume_update(tx, volume).await?;
    let event = NewEvent {
        account_id: volume.account_id,
        kind: EventKind::Volume,
        resource_id: volume.id.as_uuid(),
        volume_id: Some(volume.id),
        operation_id: None,
        at: now,
    };
    Ok(event_insert(tx, &[event]).await?)
}
