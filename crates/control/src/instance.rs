//! Instances: how they are listed and shown, started and stopped, renamed and deleted. How they are
//! made is in [`create`], what is attached to them in [`crate::volume::attach`].
//!
//! What the edges need to know:
//! - [`create`], [`start`], [`stop`], [`pause`], [`resume`], [`delete`] and
//!   [`crate::volume::attach`], [`crate::volume::detach`] are work: they answer an
//!   [`Answer`] (an operation, or a preview). [`rename`] is done at once.
//! - An operation about an instance carries `instance_id` and `instance_name`; its `volume_id` is
//!   set only when it attaches or detaches. Events of kind `instance` carry no volume.
//! - `InstanceView::permissions` has what a page's buttons ask: start, stop, pause, resume, rename,
//!   delete, attach: whether it can have one more volume. A certain volume has its own answer, too.
//! - What a volume is attached to is `Volume::attachment`; its `own` is set for instances of ours.
//!   What the provider's orchestrator reports (`PUT /v1/volumes/{id}/attachment`) stays for
//!   instances that are not (decision 0025).
//! - `state` is what the customer reads; `power` tells a paused instance from a running one.
//! - `Instance::failure` is set, too, for a `stopped` instance whose machine ended by itself.

use stillpoint_model::Timestamp;
use stillpoint_model::account::Actor;
use stillpoint_model::event::EventKind;
use stillpoint_model::guard::{Action, Allowed, Facts, can};
use stillpoint_model::id::{InstanceId, VolumeId};
use stillpoint_model::instance::{
    Flavor, Instance, InstanceState, MachineDisk, MachineOrder, StopMode, hostname,
};
use stillpoint_model::name::Name;
use stillpoint_model::naming::{check_confirmation, name_taken};
use stillpoint_model::operation::Operation;
use stillpoint_model::place::Pool;
use stillpoint_model::plan::Confirmations;
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::saga::Request;
use stillpoint_model::volume::{Volume, VolumeState};
use stillpoint_store::event::{NewEvent, event_insert};
use stillpoint_store::instance::{
    instance_by_id, instance_by_name, instance_list, instance_update,
};
use stillpoint_store::operation::operation_by_id;
use stillpoint_store::volume::{
    CountedVolume, volume_counted_of_instance, volume_list_of_instance, volume_list_of_instances,
    volume_update,
};
use stillpoint_store::{Conn, Tx};

use crate::admission::{Accepted, Ask, Desk, Draft, active_facts, check_version, instance_facts};
use crate::audit::{self, Entry};
use crate::change::edit;
use crate::error::Result;
use crate::reference::{own_instance, own_volume};
use crate::view::Surroundings;
use crate::{Answer, Change, Context, Cursor, ListQuery, Page, Permission, Reference};

mod create;
mod of_snapshot;
mod view;

use view::view;
pub(crate) use view::{members_of, plans_of};

pub(crate) use create::check_same_node;
pub use create::{DiskRequest, InstanceCreate, create};
pub use of_snapshot::{InstanceOfSnapshot, create_of_snapshot};

/// What may be done with an instance.
const ACTIONS: [Action; 7] = [
    Action::InstanceStart,
    Action::InstanceStop,
    Action::InstancePause,
    Action::InstanceResume,
    Action::InstanceRename,
    Action::InstanceDelete,
    Action::VolumeAttach,
];

/// An instance, and what goes with it.
#[derive(Clone, Debug)]
pub struct InstanceView {
    /// The instance.
    pub instance: Instance,
    /// Its volumes, the root first.
    pub volumes: Vec<Volume>,
    /// What holds it.
    pub active_operation: Option<Operation>,
    /// What a person does before something is lost.
    pub confirm: Confirmations,
    /// The name of the pool that its new volumes go to.
    pub pool_name: Name,
    /// The name of the node that runs it.
    pub node_name: Name,
    /// The name of its region.
    pub region_name: Name,
    /// What may be done with it now.
    pub permissions: Vec<Permission>,
    /// The time of the view.
    pub now: Timestamp,
}

/// Which instances.
#[derive(Clone, Debug, Default)]
pub struct InstanceQuery {
    /// Which page.
    pub page: ListQuery,
}

/// What may be chosen for a new instance.
#[derive(Clone, Debug)]
pub struct InstanceOptions {
    /// What it can be made of; the first is taken when none is named.
    pub flavors: Vec<Flavor>,
    /// The pools to choose from; the first is taken when none is named.
    pub pools: Vec<Pool>,
    /// Whether any node of the installation runs instances.
    pub runs_instances: bool,
    /// Whether an instance may be made now.
    pub permissions: Vec<Permission>,
}

/// Which volumes go with an instance that is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeleteVolumes {
    /// None: they are detached and stay.
    #[default]
    Keep,
    /// All of them.
    All,
    /// These; the others stay.
    These(Vec<Reference>),
}

/// A page of the account's instances, newest first.
pub async fn list(
    cx: &Context,
    actor: &Actor,
    query: &InstanceQuery,
) -> Result<Page<InstanceView>> {
    let mut conn = cx.db().read().await?;
    let key = query.page.key();
    let (account_id, project_id) = (actor.account_id, actor.project_id);
    let rows = instance_list(&mut conn, account_id, project_id, &key).await?;
    let volumes = volume_list_of_instances(&mut conn, account_id, project_id, &key).await?;
    let around = Surroundings::of_account(cx, &mut conn, account_id).await?;
    let page = Page::of(rows, &query.page, |row| {
        Cursor::after(row.created_at, row.id.as_uuid())
    });
    let of = |id: InstanceId| {
        let own = |(v, _): &&CountedVolume| v.own_instance().is_some_and(|own| own.id == id);
        volumes.iter().filter(own).cloned().collect()
    };
    let mut items = Vec::with_capacity(page.items.len());
    for row in page.items {
        let volumes = of(row.id);
        items.push(view(cx, &mut conn, &around, row, volumes).await?);
    }
    Ok(Page {
        items,
        next: page.next,
    })
}

/// One instance.
pub async fn show(cx: &Context, actor: &Actor, instance: &Reference) -> Result<InstanceView> {
    let mut conn = cx.db().read().await?;
    let instance = own_instance(&mut conn, actor, instance).await?;
    show_row(cx, &mut conn, instance).await
}

async fn show_row(cx: &Context, conn: &mut Conn, instance: Instance) -> Result<InstanceView> {
    let volumes = volume_counted_of_instance(conn, instance.id).await?;
    let around = Surroundings::of_instance(cx, conn, &instance, &volumes).await?;
    view(cx, conn, &around, instance, volumes).await
}

/// What may be chosen for a new instance.
pub async fn options(cx: &Context, actor: &Actor) -> Result<InstanceOptions> {
    let mut conn = cx.db().read().await?;
    let around = Surroundings::of_one(cx, &mut conn, actor.account_id, None, None).await?;
    let (plan, places) = (cx.default_plan(), cx.places());
    let (pool, actions) = (places.pools.first().map(|p| p.id), [Action::InstanceCreate]);
    Ok(InstanceOptions {
        flavors: cx.settings().flavors.flavors.clone(),
        pools: places.pools.clone(),
        runs_instances: around.runs_instances(),
        permissions: around.permissions(cx, &actions, &plan.plan, pool, None, None),
    })
}

/// Renames an instance. Its guest keeps its host name until it starts again.
pub async fn rename(
    cx: &Context,
    actor: &Actor,
    instance: &Reference,
    name: Name,
    change: &Change,
) -> Result<InstanceView> {
    let (handle, actor, change) = (cx.clone(), actor.clone(), change.clone());
    let (reference, now) = (instance.clone(), cx.now());
    let id = edit(cx, change.dry_run, move |tx| {
        Box::pin(async move {
            let mut instance = own_instance(tx, &actor, &reference).await?;
            check_version(&change, instance.version)?;
            let plan = handle.default_plan();
            let facts = Facts {
                now,
                plan: &plan.plan,
                volume: None,
                item: None,
                instance: Some(instance_facts(&handle, &instance, &[], |_| None)?),
                runs_instances: true,
                images: 0,
                in_flight: 0,
                node_online: true,
                override_cooldown: false,
            };
            can(Action::InstanceRename, &facts)?;
            let other = instance_by_name(tx, instance.project_id, &name).await?;
            if instance.name != name && other.is_some() {
                return Err(name_taken("instance", &name).into());
            }
            let detail = format!("{} -> {name}", instance.name);
            instance.name = name;
            save(tx, &mut instance, now).await?;
            let entry = Entry::new(&actor, "instance_rename", instance.id.as_uuid());
            audit::record(tx, entry.detail(detail), now).await?;
            Ok(instance.id)
        })
    })
    .await?;
    let mut conn = cx.db().read().await?;
    let row = instance_by_id(&mut conn, id)
        .await?
        .ok_or_else(|| Refusal::not_found("instance"))?;
    show_row(cx, &mut conn, row).await
}

async fn save(tx: &mut Tx, instance: &mut Instance, now: Timestamp) -> Result<()> {
    instance.version += 1;
    instance_update(tx, instance).await?;
    let event = NewEvent {
        account_id: instance.account_id,
        kind: EventKind::Instance,
        resource_id: instance.id.as_uuid(),
        volume_id: None,
        operation_id: None,
        at: now,
    };
    Ok(event_insert(tx, &[event]).await?)
}

/// Starts an instance.
pub async fn start(
    cx: &Context,
    actor: &Actor,
    instance: &Reference,
    change: &Change,
) -> Result<Answer> {
    let ask = Ask::new(cx, actor, change, "instance_start", instance)?;
    let instance = instance.clone();
    ask.admit(move |desk| Box::pin(admit_power(desk, instance, Action::InstanceStart, None)))
        .await
}

/// Stops an instance.
pub async fn stop(
    cx: &Context,
    actor: &Actor,
    instance: &Reference,
    mode: StopMode,
    change: &Change,
) -> Result<Answer> {
    mode.check()?;
    let ask = Ask::new(cx, actor, change, "instance_stop", &(instance, mode))?;
    let (instance, action) = (instance.clone(), Action::InstanceStop);
    ask.admit(move |desk| Box::pin(admit_power(desk, instance, action, Some(mode))))
        .await
}

/// Has an instance stand still, with its memory kept.
pub async fn pause(
    cx: &Context,
    actor: &Actor,
    instance: &Reference,
    change: &Change,
) -> Result<Answer> {
    let ask = Ask::new(cx, actor, change, "instance_pause", instance)?;
    let instance = instance.clone();
    ask.admit(move |desk| Box::pin(admit_power(desk, instance, Action::InstancePause, None)))
        .await
}

/// Has a paused instance go on.
pub async fn resume(
    cx: &Context,
    actor: &Actor,
    instance: &Reference,
    change: &Change,
) -> Result<Answer> {
    let ask = Ask::new(cx, actor, change, "instance_resume", instance)?;
    let instance = instance.clone();
    ask.admit(move |desk| Box::pin(admit_power(desk, instance, Action::InstanceResume, None)))
        .await
}

/// Decides on what an instance's machine is to do.
pub(crate) async fn admit_power(
    mut desk: Desk<'_>,
    instance: Reference,
    action: Action,
    mode: Option<StopMode>,
) -> Result<Accepted> {
    let instance = own_instance(desk.tx, &desk.actor, &instance).await?;
    let (allowed, volumes) = decide(&mut desk, action, &instance).await?;
    let request = match action {
        Action::InstanceStart => Request::InstanceStart {
            machine: machine(&instance, &volumes),
        },
        Action::InstancePause => Request::InstancePause,
        Action::InstanceResume => Request::InstanceResume,
        _ => Request::InstanceStop {
            mode: mode.unwrap_or(StopMode::USUAL),
        },
    };
    accept(desk, action, instance, None, (request, allowed)).await
}

/// What the machine of an instance with these volumes is made of.
pub(crate) fn machine(instance: &Instance, volumes: &[Volume]) -> MachineOrder {
    MachineOrder {
        hostname: hostname(&instance.name),
        vcpus: instance.flavor.vcpus,
        memory: instance.flavor.memory_bytes,
        disks: volumes
            .iter()
            .map(|volume| MachineDisk {
                volume_id: volume.id,
                pool_id: volume.pool_id,
                place: volume.own_instance().map_or(0, |own| own.place),
            })
            .collect(),
    }
}

/// What the guard says of a change of an instance; and its volumes.
async fn decide(
    desk: &mut Desk<'_>,
    action: Action,
    instance: &Instance,
) -> Result<(Allowed, Vec<Volume>)> {
    desk.check_version(instance.version)?;
    let volumes = volume_list_of_instance(desk.tx, instance.id).await?;
    let facts = desk.instance_facts(instance, &volumes).await?;
    let (plan, places) = (desk.cx.default_plan(), desk.cx.places());
    let pool = places.pool(instance.pool_id)?;
    let allowed = desk
        .can_beside(action, &plan.plan, pool, (None, None), Some(facts))
        .await?;
    Ok((allowed, volumes))
}

/// Holds an instance for what was decided about it, and accepts.
pub(crate) async fn accept(
    mut desk: Desk<'_>,
    action: Action,
    mut instance: Instance,
    volume: Option<(VolumeId, Name)>,
    (request, allowed): (Request, Allowed),
) -> Result<Accepted> {
    let draft = Draft {
        action,
        request,
        pool_id: instance.pool_id,
        project_id: instance.project_id,
        volume,
        snapshot_id: None,
        backup_id: None,
        instance: Some((instance.id, instance.name.clone())),
        image: None,
        instance_snapshot_id: None,
    };
    let plan = desk.plan(None).await?;
    instance.active_operation = Some(desk.operation_id);
    instance.version += 1;
    instance_update(desk.tx, &instance).await?;
    desk.accept(draft, &plan.plan, allowed).await
}

/// Deletes an instance, and those of its volumes that are named. `confirm` is its name, typed, where
/// the plan asks for that.
pub async fn delete(
    cx: &Context,
    actor: &Actor,
    instance: &Reference,
    volumes: DeleteVolumes,
    confirm: Option<&str>,
    change: &Change,
) -> Result<Answer> {
    let asked = (instance, &volumes, confirm);
    let ask = Ask::new(cx, actor, change, "instance_delete", &asked)?;
    let (instance, confirm) = (instance.clone(), confirm.map(str::to_owned));
    ask.admit(move |desk| Box::pin(admit_delete(desk, instance, volumes, confirm)))
        .await
}

/// Decides on the end of an instance.
pub(crate) async fn admit_delete(
    mut desk: Desk<'_>,
    instance: Reference,
    delete: DeleteVolumes,
    confirm: Option<String>,
) -> Result<Accepted> {
    let mut instance = own_instance(desk.tx, &desk.actor, &instance).await?;
    let (allowed, volumes) = decide(&mut desk, Action::InstanceDelete, &instance).await?;
    let plan = desk.plan(None).await?;
    if !desk.change.dry_run || confirm.is_some() {
        check_confirmation(plan.plan.confirm.delete, &instance.name, confirm.as_deref())?;
    }
    let doomed = doomed(&mut desk, &instance, &volumes, delete).await?;
    let (delete, keep) = volumes
        .iter()
        .map(|v| v.id)
        .partition(|id| doomed.contains(id));
    for mut volume in volumes {
        if doomed.contains(&volume.id) {
            volume.state = VolumeState::Deleting;
        }
        desk.lock(volume).await?;
    }
    let was = instance.state;
    instance.state = InstanceState::Deleting;
    let request = Request::InstanceDelete { was, keep, delete };
    accept(
        desk,
        Action::InstanceDelete,
        instance,
        None,
        (request, allowed),
    )
    .await
}

/// The volumes that go with an instance.
async fn doomed(
    desk: &mut Desk<'_>,
    instance: &Instance,
    volumes: &[Volume],
    delete: DeleteVolumes,
) -> Result<Vec<VolumeId>> {
    let named = match delete {
        DeleteVolumes::Keep => return Ok(Vec::new()),
        DeleteVolumes::All => return Ok(volumes.iter().map(|v| v.id).collect()),
        DeleteVolumes::These(named) => named,
    };
    let mut doomed = Vec::with_capacity(named.len());
    for reference in named {
        let found = own_volume(desk.tx, &desk.actor, &reference).await;
        let volume = found.map_err(|error| error.at("/delete_volumes"))?;
        if volume.own_instance().map(|own| own.id) != Some(instance.id) {
            let text = format!(
                "The volume {} is not attached to this instance.",
                volume.name
            );
            let refusal = Refusal::new(ProblemCode::InvalidRequest, text);
            return Err(refusal.at("/delete_volumes").into());
        }
        doomed.push(volume.id);
    }
    Ok(doomed)
}

impl Desk<'_> {
    /// What the guard needs to know of an instance with these volumes.
    pub(crate) async fn instance_facts(
        &mut self,
        instance: &Instance,
        volumes: &[Volume],
    ) -> Result<stillpoint_model::guard::InstanceFacts> {
        let mut active = std::collections::HashMap::new();
        let held = volumes.iter().filter_map(|v| v.active_operation);
        for id in held.chain(instance.active_operation) {
            if let Some(operation) = operation_by_id(self.tx, id).await? {
                active.insert(id, active_facts(&operation));
            }
        }
        instance_facts(&self.cx, instance, volumes, |id| active.get(&id?).copied())
    }

    /// Writes a volume that another row changed beside it.
    pub(crate) async fn save_volume(&mut self, volume: &Volume) -> Result<()> {
        Ok(volume_update(self.tx, volume).await?)
    }
}
