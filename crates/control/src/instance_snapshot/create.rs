//! How a snapshot of an instance is asked for: all its volumes at one instant.

use serde::Serialize;
use stillpoint_model::account::Actor;
use stillpoint_model::guard::{Action, Member, can_capture_memory};
use stillpoint_model::id::{AccountId, ImageId, InstanceId, InstanceSnapshotId, SnapshotId};
use stillpoint_model::image::ImageOrigin;
use stillpoint_model::instance::Instance;
use stillpoint_model::instance_snapshot::{CapturedVolume, InstanceConfig, InstanceSnapshot};
use stillpoint_model::item::{ItemSizes, ItemState, Trigger};
use stillpoint_model::name::Name;
use stillpoint_model::naming::{check_item_name, check_texts, first_free, generated, name_taken};
use stillpoint_model::operation::Operation;
use stillpoint_model::plan::{Naming, UniqueWithin};
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::saga::Request;
use stillpoint_model::snapshot::Snapshot;
use stillpoint_model::task::SealPoint;
use stillpoint_model::volume::Volume;
use stillpoint_store::Conn;
use stillpoint_store::instance::instance_update;
use stillpoint_store::instance_snapshot::{
    instance_snapshot_by_id, instance_snapshot_delete, instance_snapshot_insert,
    instance_snapshot_name_exists, instance_snapshot_names_like,
};
use stillpoint_store::snapshot::{snapshot_insert, snapshot_names_like};
use stillpoint_store::volume::{CountedVolume, volume_counted_of_instance};

use crate::admission::{Accepted, Ask, Desk, Draft};
use crate::error::Result;
use crate::image::{Beside, admit_beside, make_way, root_of};
use crate::instance::plans_of;
use crate::item::ItemCreate;
use crate::item::name::no_generated;
use crate::reference::own_instance;
use crate::{Answer, Change, Context, Reference};

/// A request for a snapshot of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InstanceSnapshotCreate {
    /// Name, description and labels.
    pub item: ItemCreate,
    /// Whether what its machine's memory holds is captured, too.
    pub with_memory: bool,
    /// The name of an image that its root volume becomes at once: there are both in the end, or
    /// neither.
    pub image: Option<Name>,
}

impl From<ItemCreate> for InstanceSnapshotCreate {
    /// One of disks alone.
    fn from(item: ItemCreate) -> Self {
        Self {
            item,
            ..Self::default()
        }
    }
}

/// Takes a snapshot of an instance.
pub async fn create(
    cx: &Context,
    actor: &Actor,
    instance: &Reference,
    request: impl Into<InstanceSnapshotCreate>,
    change: &Change,
) -> Result<Answer> {
    let request: InstanceSnapshotCreate = request.into();
    check_texts(&request.item.description, &request.item.labels)?;
    let asked = (instance, &request);
    let ask = Ask::new(cx, actor, change, "instance_snapshot_create", &asked)?;
    let instance = instance.clone();
    ask.admit(move |desk| Box::pin(admit_create(desk, instance, request)))
        .await
}

/// Decides on a snapshot of an instance.
async fn admit_create(
    mut desk: Desk<'_>,
    instance: Reference,
    request: InstanceSnapshotCreate,
) -> Result<Accepted> {
    let InstanceSnapshotCreate {
        item: request,
        with_memory,
        image,
    } = request;
    let mut instance = own_instance(desk.tx, &desk.actor, &instance).await?;
    desk.check_version(instance.version)?;
    let counted = volume_counted_of_instance(desk.tx, instance.id).await?;
    let plans = plans_of(&desk.cx, desk.tx, &counted).await?;
    let members = desk.members(&counted, &plans).await?;
    let volumes: Vec<_> = counted.iter().map(|(volume, _)| volume.clone()).collect();
    let facts = desk.instance_facts(&instance, &volumes).await?;
    let (plan, places) = (desk.plan(volumes.first()).await?, desk.cx.places());
    // The guard has them all in one pool, which need not be that of new volumes.
    let pool_id = volumes.first().map_or(instance.pool_id, |v| v.pool_id);
    let (action, rules) = (
        Action::InstanceSnapshotCreate,
        (&plan.plan, places.pool(pool_id)?),
    );
    let allowed = desk
        .can_together(action, rules, facts, None, &members)
        .await?;
    let freeze = plans.iter().map(|plan| plan.plan.freeze).max();
    let freeze = freeze.unwrap_or_default();
    if with_memory {
        can_capture_memory(instance.power, freeze)?;
    }
    let name = choose_name(
        &mut desk,
        &plan.plan.naming,
        &instance,
        request.name.clone(),
    )
    .await?;
    let whole = pending(&desk, &instance, &volumes, (name, request));
    instance_snapshot_insert(desk.tx, &whole).await?;
    for volume in &volumes {
        write_part(&mut desk, &whole, volume).await?;
    }
    let image = match image {
        Some(name) => Some(admit_image(&mut desk, &whole, name).await?),
        None => None,
    };
    for volume in volumes {
        desk.lock(volume).await?;
    }
    instance.active_operation = Some(desk.operation_id);
    instance.version += 1;
    instance_update(desk.tx, &instance).await?;
    let draft = Draft {
        action,
        request: Request::InstanceSnapshotCreate {
            points: points(&whole),
            freeze,
            memory: with_memory,
        },
        pool_id,
        project_id: whole.project_id,
        volume: None,
        snapshot_id: None,
        backup_id: None,
        instance: Some((instance.id, instance.name)),
        image,
        instance_snapshot_id: Some(whole.id),
    };
    desk.accept(draft, &plan.plan, allowed).await
}

/// Asks again for one that failed, under the same name.
pub(crate) async fn admit_again(
    mut desk: Desk<'_>,
    failed: &Operation,
    with_memory: bool,
) -> Result<Accepted> {
    let gone = || Refusal::not_found("instance snapshot");
    let id = failed.instance_snapshot_id.ok_or_else(gone)?;
    let row = instance_snapshot_by_id(desk.tx, id)
        .await?
        .ok_or_else(gone)?;
    if row.state != ItemState::Failed || row.consistency.is_some() {
        let text = format!("The item is {}; there is nothing to retry.", row.state);
        return Err(Refusal::new(ProblemCode::NotEligible, text).into());
    }
    instance_snapshot_delete(desk.tx, id).await?;
    let image = match failed.image_id {
        Some(image) => Some(make_way(&mut desk, image).await?.name),
        None => None,
    };
    let item = ItemCreate {
        name: Some(row.name),
        description: row.description,
        labels: row.labels,
    };
    let request = InstanceSnapshotCreate {
        item,
        with_memory,
        image,
    };
    admit_create(desk, row.instance_id.into(), request).await
}

/// Decides on the image that the root of a new instance snapshot becomes at once.
async fn admit_image(
    desk: &mut Desk<'_>,
    whole: &InstanceSnapshot,
    name: Name,
) -> Result<(ImageId, Name)> {
    let root = root_of(whole).map_err(|refusal| refusal.at("/image"))?;
    let beside = Beside {
        origin: ImageOrigin::InstanceSnapshot(whole.id),
        origin_name: whole.name.clone(),
        pool_id: whole.pool_id,
        size: root.size,
    };
    admit_beside(desk, beside, name).await
}

fn points(whole: &InstanceSnapshot) -> Vec<SealPoint> {
    let volumes = whole.config.volumes.iter();
    volumes
        .map(|captured| SealPoint {
            volume_id: captured.volume_id,
            snapshot_id: captured.snapshot_id,
        })
        .collect()
}

/// Refuses a name that the plan does not allow, or that another has.
pub(super) async fn check_name(
    conn: &mut Conn,
    naming: &Naming,
    (account_id, instance_id): (AccountId, InstanceId),
    name: &Name,
) -> Result<()> {
    check_item_name(naming, Some(name))?;
    let within = match naming.unique_within {
        UniqueWithin::None => return Ok(()),
        UniqueWithin::Volume => Some(instance_id),
        UniqueWithin::Account => None,
    };
    if instance_snapshot_name_exists(conn, account_id, within, name).await? {
        return Err(name_taken("instance snapshot", name).into());
    }
    Ok(())
}

/// The given name, checked, or a generated one that is free in the whole account.
async fn choose_name(
    desk: &mut Desk<'_>,
    naming: &Naming,
    instance: &Instance,
    given: Option<Name>,
) -> Result<Name> {
    let account_id = instance.account_id;
    if let Some(name) = given {
        check_name(desk.tx, naming, (account_id, instance.id), &name).await?;
        return Ok(name);
    }
    check_item_name(naming, None)?;
    let first = generated("instance-snapshot", desk.now).ok_or_else(no_generated)?;
    let taken = instance_snapshot_names_like(desk.tx, account_id, &first).await?;
    first_free(first, &taken).ok_or_else(no_generated)
}

/// The row of an instance snapshot that was just asked for.
fn pending(
    desk: &Desk<'_>,
    instance: &Instance,
    volumes: &[Volume],
    (name, request): (Name, ItemCreate),
) -> InstanceSnapshot {
    let captured = |volume: &Volume| CapturedVolume {
        volume_id: volume.id,
        name: volume.name.clone(),
        role: volume.role,
        place: volume.own_instance().map_or(0, |own| own.place),
        size: volume.size,
        snapshot_id: SnapshotId::generate(desk.cx.env()),
    };
    let config = InstanceConfig {
        flavor: instance.flavor.clone(),
        volumes: volumes.iter().map(captured).collect(),
    };
    InstanceSnapshot {
        id: InstanceSnapshotId::generate(desk.cx.env()),
        account_id: instance.account_id,
        project_id: instance.project_id,
        pool_id: volumes.first().map_or(instance.pool_id, |v| v.pool_id),
        instance_id: instance.id,
        instance_name: instance.name.clone(),
        name,
        description: request.description,
        labels: request.labels,
        state: ItemState::Pending,
        consistency: None,
        trigger: Trigger::Manual,
        sizes: ItemSizes {
            provisioned: volumes.iter().map(|v| v.size).sum(),
            ..ItemSizes::default()
        },
        config,
        duration_ms: None,
        protected: false,
        failure: None,
        operation_id: Some(desk.operation_id),
        created_at: desk.now,
        version: 1,
        memory: None,
    }
}

/// Writes the row of a part.
async fn write_part(desk: &mut Desk<'_>, whole: &InstanceSnapshot, volume: &Volume) -> Result<()> {
    let captured = whole.config.volumes.iter();
    for captured in captured.filter(|captured| captured.volume_id == volume.id) {
        let part = Snapshot {
            id: captured.snapshot_id,
            account_id: whole.account_id,
            project_id: whole.project_id,
            pool_id: volume.pool_id,
            volume_id: volume.id,
            volume_name: volume.name.clone(),
            instance_snapshot_id: Some(whole.id),
            name: part_name(desk, whole, captured.place).await?,
            description: String::new(),
            labels: whole.labels.clone(),
            state: ItemState::Pending,
            consistency: None,
            trigger: whole.trigger,
            sizes: ItemSizes {
                provisioned: volume.size,
                ..ItemSizes::default()
            },
            layer: None,
            duration_ms: None,
            protected: false,
            failure: None,
            operation_id: whole.operation_id,
            created_at: whole.created_at,
            expires_at: None,
            version: 1,
        };
        snapshot_insert(desk.tx, &part).await?;
    }
    Ok(())
}

/// A name for a part, made of the whole's, that is free in the account.
async fn part_name(desk: &mut Desk<'_>, whole: &InstanceSnapshot, place: u32) -> Result<Name> {
    let of_whole = match place {
        0 => format!("{}-root", whole.name),
        _ => format!("{}-data-{place}", whole.name),
    };
    // A long name leaves no room for more.
    let first = match of_whole.parse::<Name>() {
        Ok(name) => name,
        Err(_) => generated("snapshot", desk.now).ok_or_else(no_generated)?,
    };
    let taken = snapshot_names_like(desk.tx, whole.account_id, &first).await?;
    first_free(first, &taken).ok_or_else(no_generated)
}

impl Desk<'_> {
    /// What the guard needs to know of these volumes, each with its own plan.
    pub(super) async fn members<'v>(
        &mut self,
        volumes: &'v [CountedVolume],
        plans: &'v [std::sync::Arc<stillpoint_model::plan::PlanVersion>],
    ) -> Result<Vec<Member<'v>>> {
        let mut members = Vec::with_capacity(volumes.len());
        for ((volume, counts), plan) in volumes.iter().zip(plans) {
            members.push(Member {
                name: volume.name.as_str(),
                plan: &plan.plan,
                volume: self.counted_facts(volume, *counts).await?,
            });
        }
        Ok(members)
    }
}
