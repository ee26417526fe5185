//! How an instance is made: what is asked for, and the rows that admission writes.
//!
//! Its volumes may be made for it (empty, or from an image, a snapshot or a backup) or exist already. All of
//! them are in the pool of the instance, except that existing ones may be in any pool of its node.
//! One of them may come from an image or a restore point: that is what the operation keeps from being deleted.

use serde::Serialize;
use stillpoint_model::ByteCount;
use stillpoint_model::account::Actor;
use stillpoint_model::guard::{Action, ItemFacts};
use stillpoint_model::id::{InstanceId, VolumeId};
use stillpoint_model::image::Image;
use stillpoint_model::instance::{Instance, InstanceState, MAX_VOLUMES, Power};
use stillpoint_model::name::Name;
use stillpoint_model::naming::{check_volume_size, first_free, generated, name_taken};
use stillpoint_model::place::Pool;
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::saga::{DiskSource, NewDisk, Request};
use stillpoint_model::volume::{Attachment, Volume, VolumeOrigin, VolumeRole, VolumeState};
use stillpoint_store::instance::{instance_by_name, instance_insert, instance_names_like};
use stillpoint_store::volume::{volume_insert, volume_names_like};

use super::machine;
use crate::admission::{Accepted, Ask, Desk, Draft};
use crate::error::{Error, Result};
use crate::image::{pool_of, size_of};
use crate::item::name::no_generated;
use crate::reference::{own_image, own_volume, pool_for};
use crate::restore::{RestorePoint, RestorePointRef};
use crate::volume::NewVolume;
use crate::{Answer, Change, Context, Reference};

/// A volume of a new instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskRequest {
    /// An empty one.
    Empty {
        /// Its name; made of the instance's when absent.
        name: Option<Name>,
        /// Its size: whole MiB.
        size: ByteCount,
    },
    /// One that exists and is attached to nothing.
    Volume(Reference),
    /// One that starts as a copy of a snapshot or a backup. One of an instance's volumes at most.
    RestorePoint {
        /// Its name; made of the instance's when absent.
        name: Option<Name>,
        /// What it starts as.
        source: RestorePointRef,
        /// Whether it is used before all of a backup is there. One of a snapshot always is.
        instant: bool,
    },
    /// One that starts as an image. It counts as the one that is a copy.
    Image {
        /// Its name; made of the instance's when absent.
        name: Option<Name>,
        /// The image.
        image: Reference,
        /// Its size: whole MiB, not less than the image's, which it is when absent.
        size: Option<ByteCount>,
    },
}

/// A request for an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstanceCreate {
    /// Its name; generated when absent.
    pub name: Option<Name>,
    /// Its flavor; the first one when absent.
    pub flavor: Option<Name>,
    /// Its pool. When absent that of the root's source, or the first one.
    pub pool: Option<Reference>,
    /// What it boots from.
    pub root: DiskRequest,
    /// Its other volumes.
    pub data: Vec<DiskRequest>,
    /// Whether it is started, too.
    pub start: bool,
}

/// Makes an instance.
pub async fn create(
    cx: &Context,
    actor: &Actor,
    request: InstanceCreate,
    change: &Change,
) -> Result<Answer> {
    check(cx, &request)?;
    let ask = Ask::new(cx, actor, change, "instance_create", &request)?;
    ask.admit(move |desk| Box::pin(admit_create(desk, request)))
        .await
}

/// Where a request says what the volume in this place is.
fn pointer(place: usize) -> String {
    match place {
        0 => "/root".to_owned(),
        _ => format!("/data/{}", place - 1),
    }
}

/// Refuses what could never be made.
fn check(cx: &Context, request: &InstanceCreate) -> Result<()> {
    let invalid = |text: String| Refusal::new(ProblemCode::InvalidRequest, text);
    if request.data.len() >= MAX_VOLUMES {
        let text = format!("An instance has at most {MAX_VOLUMES} volumes.");
        return Err(invalid(text).at("/data").into());
    }
    let disks = || std::iter::once(&request.root).chain(&request.data);
    for (place, disk) in disks().enumerate() {
        if let DiskRequest::Empty { size, .. } = disk {
            check_volume_size(*size, cx.settings().max_volume_size)
                .map_err(|refusal| Error::from(refusal).under(&pointer(place)))?;
        }
    }
    let copies = disks().filter(|disk| {
        matches!(
            disk,
            DiskRequest::RestorePoint { .. } | DiskRequest::Image { .. }
        )
    });
    if copies.count() > 1 {
        let text = "One volume of a new instance comes from an image, a snapshot or a backup at \
                    most. Make the others first, and attach them.";
        return Err(invalid(text.to_owned()).at("/data").into());
    }
    Ok(())
}

/// A disk that was looked up.
pub(super) enum Disk {
    New {
        name: Option<Name>,
        size: ByteCount,
        from: DiskSource,
        origin: Option<VolumeOrigin>,
    },
    Existing(Volume),
}

/// What was looked up for a new instance.
struct Looked {
    disks: Vec<Disk>,
    point: Option<RestorePoint>,
    image: Option<Image>,
    item: Option<ItemFacts>,
}

impl Looked {
    /// Refuses a volume that was named before: the machine would open it twice.
    fn check_new(&self, volume: &Volume) -> Result<(), Refusal> {
        let is_it = |disk: &Disk| matches!(disk, Disk::Existing(other) if other.id == volume.id);
        if !self.disks.iter().any(is_it) {
            return Ok(());
        }
        let text = format!("The volume {} is named twice.", volume.name);
        Err(Refusal::new(ProblemCode::InvalidRequest, text).at("/volume"))
    }
}

/// Decides on an instance.
async fn admit_create(mut desk: Desk<'_>, request: InstanceCreate) -> Result<Accepted> {
    let places = desk.cx.places();
    let looked = look(&mut desk, &request).await?;
    let existing = looked.disks.iter().find_map(|disk| match disk {
        Disk::Existing(volume) => Some(Reference::from(volume.pool_id)),
        Disk::New { .. } => None,
    });
    let pool = match (&request.pool, &looked.point) {
        (chosen, Some(point)) => point.pool(&places, chosen.as_ref())?,
        (chosen, None) if let Some(image) = &looked.image => {
            pool_of(image, &places, chosen.as_ref())?
        }
        (chosen, None) => pool_for(&places, chosen.as_ref().or(existing.as_ref()))?,
    };
    let settings = desk.cx.settings();
    let flavor = settings.flavors.find(request.flavor.as_ref())?.clone();
    let plan = desk.plan(None).await?;
    let allowed = desk
        .can(Action::InstanceCreate, &plan.plan, pool, None, looked.item)
        .await?;
    let count = u32::try_from(looked.disks.len()).unwrap_or(u32::MAX);
    let instance = Instance {
        id: InstanceId::generate(desk.cx.env()),
        account_id: desk.actor.account_id,
        project_id: desk.actor.project_id,
        pool_id: pool.id,
        name: desk.instance_name(request.name).await?,
        flavor,
        state: InstanceState::Provisioning,
        power: Power::Off,
        ready: false,
        load: None,
        next_place: count,
        active_operation: Some(desk.operation_id),
        failure: None,
        created_at: desk.now,
        started_at: None,
        version: 1,
    };
    instance_insert(desk.tx, &instance).await?;
    let disks = (0..).zip(looked.disks).collect();
    let (volumes, make) = write_volumes(&mut desk, &instance, pool, disks).await?;
    let work = Request::InstanceCreate {
        machine: machine(&instance, &volumes),
        make,
        start: request.start,
        memory: None,
    };
    let (snapshot_id, backup_id) = work.reads();
    let image = looked.image.map(|image| (image.id, image.name));
    let draft = Draft {
        action: Action::InstanceCreate,
        request: work,
        pool_id: pool.id,
        project_id: instance.project_id,
        volume: None,
        snapshot_id,
        backup_id,
        instance: Some((instance.id, instance.name)),
        image,
        instance_snapshot_id: None,
    };
    desk.accept(draft, &plan.plan, allowed).await
}

/// Looks up what the volumes of a new instance come from.
async fn look(desk: &mut Desk<'_>, request: &InstanceCreate) -> Result<Looked> {
    let mut looked = Looked {
        disks: Vec::new(),
        point: None,
        image: None,
        item: None,
    };
    let disks = std::iter::once(&request.root).chain(&request.data);
    for (place, disk) in disks.enumerate() {
        let below = |error: Error| error.under(&pointer(place));
        let disk = match disk {
            DiskRequest::Empty { name, size } => Disk::New {
                name: name.clone(),
                size: *size,
                from: DiskSource::Empty { size: *size },
                origin: None,
            },
            DiskRequest::Volume(reference) => {
                let found = own_volume(desk.tx, &desk.actor, reference).await;
                let volume = found.map_err(|error| below(error.at("/volume")))?;
                looked.check_new(&volume).map_err(|r| below(r.into()))?;
                Disk::Existing(volume)
            }
            DiskRequest::RestorePoint {
                name,
                source,
                instant,
            } => {
                let point = RestorePoint::find(desk, source).await.map_err(below)?;
                let disk = Disk::New {
                    name: name.clone(),
                    size: point.size,
                    from: DiskSource::RestorePoint {
                        source: point.source,
                        instant: *instant,
                    },
                    origin: Some(VolumeOrigin::RestorePoint(point.id)),
                };
                looked.item = Some(point.item);
                looked.point = Some(point);
                disk
            }
            DiskRequest::Image { name, image, size } => {
                let found = own_image(desk.tx, &desk.actor, image).await;
                let image = found.map_err(|error| below(error.at("/image")))?;
                looked.item = Some(desk.image_facts(&image).await?);
                let disk = of_image(&desk.cx, name.clone(), &image, *size);
                looked.image = Some(image);
                disk.map_err(|refusal| below(refusal.into()))?
            }
        };
        looked.disks.push(disk);
    }
    Ok(looked)
}

/// A new volume that starts as an image.
fn of_image(
    cx: &Context,
    name: Option<Name>,
    image: &Image,
    asked: Option<ByteCount>,
) -> Result<Disk, Refusal> {
    let size = size_of(cx, image, asked)?;
    Ok(Disk::New {
        name,
        size,
        from: DiskSource::Image {
            image_id: image.id,
            size,
        },
        origin: Some(VolumeOrigin::Image(image.id)),
    })
}

/// Writes the rows of an instance's volumes, attached and held; answers them, and those that are to
/// be made.
pub(super) async fn write_volumes(
    desk: &mut Desk<'_>,
    instance: &Instance,
    pool: &Pool,
    disks: Vec<(u32, Disk)>,
) -> Result<(Vec<Volume>, Vec<NewDisk>)> {
    let (mut volumes, mut make) = (Vec::new(), Vec::new());
    for (n, (place, disk)) in disks.into_iter().enumerate() {
        let below = |error: Error| error.under(&pointer(n));
        let attachment = Some(Attachment::to(instance, place));
        let volume = match disk {
            Disk::Existing(volume) => {
                let checked = check_existing(desk, &volume, pool).await;
                checked.map_err(|error| below(error.at("/volume")))?;
                let volume = Volume {
                    attachment,
                    state: VolumeState::InUse,
                    active_operation: Some(desk.operation_id),
                    version: volume.version + 1,
                    ..volume
                };
                desk.save_volume(&volume).await?;
                volume
            }
            Disk::New {
                name,
                size,
                from,
                origin,
            } => {
                let role = if place == 0 {
                    VolumeRole::Root
                } else {
                    VolumeRole::Data
                };
                let name = desk.disk_name(name, &instance.name, place).await;
                let new = NewVolume {
                    id: VolumeId::generate(desk.cx.env()),
                    name: name.map_err(below)?,
                    size,
                    role,
                    origin,
                };
                make.push(NewDisk {
                    volume_id: new.id,
                    from,
                });
                let plan = desk.plan(None).await?;
                let volume = Volume {
                    attachment,
                    ..desk.new_volume(new, pool, &plan)
                };
                volume_insert(desk.tx, &volume).await?;
                volume
            }
        };
        volumes.push(volume);
    }
    Ok((volumes, make))
}

/// Whether a volume that exists may be given to a new instance of this pool's node.
async fn check_existing(desk: &mut Desk<'_>, volume: &Volume, pool: &Pool) -> Result<()> {
    let places = desk.cx.places();
    let home = places.pool(volume.pool_id)?;
    check_same_node(home, pool)?;
    let plan = desk.plan(Some(volume)).await?;
    let facts = desk.volume_facts(volume).await?;
    desk.can(Action::VolumeAttach, &plan.plan, home, Some(facts), None)
        .await?;
    Ok(())
}

/// Whether an instance of one pool's node can open volumes of the other.
pub(crate) fn check_same_node(volume: &Pool, instance: &Pool) -> Result<(), Refusal> {
    if volume.node_id == instance.node_id {
        return Ok(());
    }
    let text = "The volume is on another node than the instance.";
    Err(Refusal::new(ProblemCode::IncompatibleTarget, text))
}

impl Desk<'_> {
    /// The given name, if it is free among the project's instances, or a generated one that is.
    pub(super) async fn instance_name(&mut self, given: Option<Name>) -> Result<Name> {
        let project_id = self.actor.project_id;
        if let Some(name) = given {
            let other = instance_by_name(self.tx, project_id, &name).await?;
            return match other {
                None => Ok(name),
                Some(_) => Err(name_taken("instance", &name).into()),
            };
        }
        let first = generated("instance", self.now).ok_or_else(no_generated)?;
        let taken = instance_names_like(self.tx, project_id, &first).await?;
        first_free(first, &taken).ok_or_else(no_generated)
    }

    /// The given name of a volume, if it is free, or one made of the instance's that is.
    async fn disk_name(&mut self, given: Option<Name>, of: &Name, place: u32) -> Result<Name> {
        if given.is_some() {
            return self.volume_name(given, "volume").await;
        }
        let made = match place {
            0 => format!("{of}-root"),
            _ => format!("{of}-data-{place}"),
        };
        // A long name leaves no room for more.
        let Ok(first) = made.parse::<Name>() else {
            return self.volume_name(None, "volume").await;
        };
        let taken = volume_names_like(self.tx, self.actor.project_id, &first).await?;
        match first_free(first, &taken) {
            Some(name) => Ok(name),
            None => self.volume_name(None, "volume").await,
        }
    }
}
