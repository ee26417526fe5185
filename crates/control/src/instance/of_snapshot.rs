//! A new instance of an instance snapshot: each of its parts cloned, in the place it had.

use serde::Serialize;
use stillpoint_model::account::Actor;
use stillpoint_model::guard::{Action, can_go_on_from};
use stillpoint_model::id::InstanceId;
use stillpoint_model::instance::{Flavor, Instance, InstanceState, Power};
use stillpoint_model::instance_snapshot::{CapturedVolume, InstanceSnapshot};
use stillpoint_model::item::RestorePointId;
use stillpoint_model::name::Name;
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::saga::{DiskSource, Request, RestoreSource};
use stillpoint_model::volume::VolumeOrigin;
use stillpoint_store::instance::instance_insert;

use super::create::{Disk, write_volumes};
use super::machine;
use crate::admission::{Accepted, Ask, Desk, Draft};
use crate::error::Result;
use crate::instance_snapshot::own_instance_snapshot;
use crate::{Answer, Change, Context, Reference};

/// A request for an instance of an instance snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstanceOfSnapshot {
    /// The instance snapshot.
    pub source: Reference,
    /// The new instance's name; generated when absent.
    pub name: Option<Name>,
    /// Its flavor; that of the snapshot when absent.
    pub flavor: Option<Name>,
    /// Whether it is started, too.
    pub start: bool,
    /// Whether it goes on from the memory that the snapshot holds.
    pub with_memory: bool,
}

/// Makes an instance of an instance snapshot. The instance it was taken of stays as it is.
pub async fn create_of_snapshot(
    cx: &Context,
    actor: &Actor,
    request: InstanceOfSnapshot,
    change: &Change,
) -> Result<Answer> {
    let ask = Ask::new(cx, actor, change, "instance_create", &request)?;
    ask.admit(move |desk| Box::pin(admit_from_snapshot(desk, request)))
        .await
}

/// Decides on an instance of an instance snapshot.
async fn admit_from_snapshot(mut desk: Desk<'_>, request: InstanceOfSnapshot) -> Result<Accepted> {
    let found = own_instance_snapshot(desk.tx, &desk.actor, &request.source).await;
    let source = found.map_err(|error| error.at("/instance_snapshot"))?;
    let (plan, places) = (desk.plan(None).await?, desk.cx.places());
    let pool = places.pool(source.pool_id)?;
    let item = desk.whole_facts(&source).await?;
    let allowed = desk
        .can(Action::InstanceCreate, &plan.plan, pool, None, Some(item))
        .await?;
    check_root(&source, request.start)?;
    let flavor = match &request.flavor {
        Some(name) => desk.cx.settings().flavors.find(Some(name))?.clone(),
        None => source.config.flavor.clone(),
    };
    if request.with_memory {
        can_go_on_from(&source, &flavor, request.start)?;
    }
    let instance = new_row(&mut desk, &source, flavor, request.name).await?;
    instance_insert(desk.tx, &instance).await?;
    let disks = source.config.volumes.iter().map(disk).collect();
    let (volumes, make) = write_volumes(&mut desk, &instance, pool, disks).await?;
    let draft = Draft {
        action: Action::InstanceCreate,
        request: Request::InstanceCreate {
            machine: machine(&instance, &volumes),
            make,
            start: request.start,
            memory: request.with_memory.then_some(source.id),
        },
        pool_id: pool.id,
        project_id: instance.project_id,
        volume: None,
        snapshot_id: None,
        backup_id: None,
        instance: Some((instance.id, instance.name)),
        image: None,
        instance_snapshot_id: Some(source.id),
    };
    desk.accept(draft, &plan.plan, allowed).await
}

/// Whether there is something to boot from, when it is to boot.
fn check_root(source: &InstanceSnapshot, start: bool) -> Result<(), Refusal> {
    if !start || source.root().is_some() {
        return Ok(());
    }
    let text = "The snapshot holds no root volume. Make the instance without starting it.";
    Err(Refusal::new(ProblemCode::NotEligible, text).at("/start"))
}

async fn new_row(
    desk: &mut Desk<'_>,
    source: &InstanceSnapshot,
    flavor: Flavor,
    name: Option<Name>,
) -> Result<Instance> {
    let last = source.config.volumes.iter().map(|v| v.place).max();
    Ok(Instance {
        id: InstanceId::generate(desk.cx.env()),
        account_id: desk.actor.account_id,
        project_id: desk.actor.project_id,
        pool_id: source.pool_id,
        name: desk.instance_name(name).await?,
        flavor,
        state: InstanceState::Provisioning,
        power: Power::Off,
        ready: false,
        load: None,
        next_place: last.map_or(0, |place| place + 1),
        active_operation: Some(desk.operation_id),
        failure: None,
        created_at: desk.now,
        started_at: None,
        version: 1,
    })
}

fn disk(captured: &CapturedVolume) -> (u32, Disk) {
    let snapshot_id = captured.snapshot_id;
    let disk = Disk::New {
        name: None,
        size: captured.size,
        from: DiskSource::RestorePoint {
            source: RestoreSource::Snapshot { snapshot_id },
            instant: false,
        },
        origin: Some(VolumeOrigin::RestorePoint(RestorePointId::Snapshot(
            snapshot_id,
        ))),
    };
    (captured.place, disk)
}
