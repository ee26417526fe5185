//! Restores: to a new volume, or back in place.

use serde::Serialize;
use stillpoint_model::ByteCount;
use stillpoint_model::account::Actor;
use stillpoint_model::backup::Backup;
use stillpoint_model::guard::{Action, ItemFacts};
use stillpoint_model::id::{PoolId, SnapshotId, TargetId, VolumeId};
use stillpoint_model::item::{ItemKind, RestorePointId};
use stillpoint_model::name::Name;
use stillpoint_model::naming::check_confirmation;
use stillpoint_model::place::Pool;
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::saga::{Request, RestoreSource};
use stillpoint_model::snapshot::Snapshot;
use stillpoint_model::volume::{Volume, VolumeOrigin, VolumeRole};
use stillpoint_store::volume::volume_by_id;

use crate::admission::{Accepted, Ask, Desk, Draft};
use crate::backup::vault_of_backup;
use crate::context::Places;
use crate::error::Result;
use crate::item::kind::Item;
use crate::reference::{own_item, pool_for};
use crate::volume::NewVolume;
use crate::{Answer, Change, Context, Reference};

/// A snapshot or a backup, by id or name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestorePointRef {
    /// Which of the two.
    pub kind: ItemKind,
    /// Its id or name.
    pub item: Reference,
}

/// Where a restore goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreMode {
    /// A new volume; the source stays as it is.
    NewVolume {
        /// Its name; generated when absent.
        name: Option<Name>,
        /// Its pool; that of the source when absent.
        pool: Option<Reference>,
        /// Whether it is used before all of a backup is there. One of a snapshot always is.
        instant: bool,
    },
    /// The volume that the restore point was made of is put back.
    InPlace {
        /// The volume's name, typed, where the plan asks for that.
        confirm: Option<String>,
    },
}

/// A request for a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestoreCreate {
    /// What to restore.
    pub source: RestorePointRef,
    /// Where to.
    pub mode: RestoreMode,
}

/// Restores a snapshot or a backup.
pub async fn create(
    cx: &Context,
    actor: &Actor,
    request: RestoreCreate,
    change: &Change,
) -> Result<Answer> {
    let ask = Ask::new(cx, actor, change, "restore_create", &request)?;
    ask.admit(move |desk| Box::pin(admit_create(desk, request)))
        .await
}

/// Decides on a restore.
pub(crate) async fn admit_create(mut desk: Desk<'_>, request: RestoreCreate) -> Result<Accepted> {
    let point = RestorePoint::find(&mut desk, &request.source).await?;
    match request.mode {
        RestoreMode::NewVolume {
            name,
            pool,
            instant,
        } => new_volume(desk, point, (name, pool), instant).await,
        RestoreMode::InPlace { confirm } => in_place(desk, point, confirm).await,
    }
}

/// A snapshot or a backup that is to be restored.
pub(crate) struct RestorePoint {
    pub(crate) id: RestorePointId,
    pub(crate) source: RestoreSource,
    pub(crate) size: ByteCount,
    pub(crate) item: ItemFacts,
    /// Its name.
    pub(crate) name: Name,
    /// The volume it was made of, if it still exists.
    pub(crate) volume: Option<Volume>,
    place: Place,
}

/// Where a restore point is.
enum Place {
    Pool(PoolId),
    Target(TargetId),
}

impl RestorePoint {
    pub(crate) async fn find(desk: &mut Desk<'_>, reference: &RestorePointRef) -> Result<Self> {
        match reference.kind {
            ItemKind::Snapshot => Self::snapshot(desk, &reference.item).await,
            ItemKind::Backup => Self::backup(desk, &reference.item).await,
        }
    }

    async fn snapshot(desk: &mut Desk<'_>, reference: &Reference) -> Result<Self> {
        let found = own_item::<Snapshot>(desk.tx, &desk.actor, reference).await;
        let snapshot = found.map_err(|error| error.at("/source/item"))?;
        desk.check_version(snapshot.version)?;
        Ok(Self {
            id: RestorePointId::Snapshot(snapshot.id),
            source: RestoreSource::Snapshot {
                snapshot_id: snapshot.id,
            },
            size: snapshot.sizes.provisioned,
            name: snapshot.name.clone(),
            item: desk.item_facts(&snapshot.head()).await?,
            volume: volume_by_id(desk.tx, snapshot.volume_id).await?,
            place: Place::Pool(snapshot.pool_id),
        })
    }

    async fn backup(desk: &mut Desk<'_>, reference: &Reference) -> Result<Self> {
        let found = own_item::<Backup>(desk.tx, &desk.actor, reference).await;
        let backup = found.map_err(|error| error.at("/source/item"))?;
        desk.check_version(backup.version)?;
        Ok(Self {
            id: RestorePointId::Backup(backup.id),
            source: RestoreSource::Backup {
                backup_id: backup.id,
                source_volume_id: backup.volume_id,
                vault: vault_of_backup(desk, &backup).await?,
            },
            size: backup.sizes.provisioned,
            name: backup.name.clone(),
            item: desk.item_facts(&backup.head()).await?,
            volume: volume_by_id(desk.tx, backup.volume_id).await?,
            place: Place::Target(backup.target_id),
        })
    }

    /// The pool that a new volume goes to: the chosen one, else the source's.
    pub(crate) fn pool<'p>(
        &self,
        places: &'p Places,
        chosen: Option<&Reference>,
    ) -> Result<&'p Pool, Refusal> {
        let near = match (chosen, &self.place, &self.volume) {
            (Some(_), ..) => Some(pool_for(places, chosen)?),
            (None, Place::Pool(id), _) => places.pools.iter().find(|p| p.id == *id),
            (None, _, Some(volume)) => places.pools.iter().find(|p| p.id == volume.pool_id),
            (None, Place::Target(target), None) => places.pool_near(*target),
        };
        let pool = near.ok_or_else(|| Refusal::not_found("pool").at("/pool"))?;
        let reachable = match self.place {
            Place::Pool(id) => pool.id == id,
            Place::Target(target) => places.target_of(pool).is_some_and(|t| t.id == target),
        };
        if reachable {
            return Ok(pool);
        }
        let text = match self.place {
            Place::Pool(_) => {
                "A snapshot is restored on its own storage. To go elsewhere, restore a backup."
            }
            Place::Target(_) => "That pool's node does not reach the backup's target.",
        };
        Err(Refusal::new(ProblemCode::IncompatibleTarget, text).at("/pool"))
    }
}

async fn new_volume(
    mut desk: Desk<'_>,
    point: RestorePoint,
    (name, pool): (Option<Name>, Option<Reference>),
    instant: bool,
) -> Result<Accepted> {
    let places = desk.cx.places();
    let pool = point.pool(&places, pool.as_ref())?;
    let plan = desk.plan(point.volume.as_ref()).await?;
    let facts = desk.source_facts(point.volume.as_ref()).await?;
    let allowed = desk
        .can(
            Action::RestoreNew,
            &plan.plan,
            pool,
            facts,
            Some(point.item),
        )
        .await?;
    let new = NewVolume {
        id: VolumeId::generate(desk.cx.env()),
        name: desk.volume_name(name, "restore").await?,
        size: point.size,
        role: point
            .volume
            .as_ref()
            .map_or(VolumeRole::Data, |volume| volume.role),
        origin: Some(VolumeOrigin::RestorePoint(point.id)),
    };
    let work = Request::RestoreNew {
        source: point.source,
        instant,
    };
    desk.accept_new_volume(Action::RestoreNew, new, pool, &plan, (work, allowed))
        .await
}

async fn in_place(
    mut desk: Desk<'_>,
    point: RestorePoint,
    confirm: Option<String>,
) -> Result<Accepted> {
    let places = desk.cx.places();
    let plan = desk.plan(point.volume.as_ref()).await?;
    let facts = desk.source_facts(point.volume.as_ref()).await?;
    let pool = match &point.volume {
        Some(volume) => places.pool(volume.pool_id)?,
        None => point.pool(&places, None)?,
    };
    let allowed = desk
        .can(
            Action::RestoreInPlace,
            &plan.plan,
            pool,
            facts,
            Some(point.item),
        )
        .await?;
    // The guard has seen that there is one.
    let volume = point.volume.ok_or_else(|| Refusal::not_found("volume"))?;
    if !desk.change.dry_run || confirm.is_some() {
        let typed = confirm.as_deref();
        check_confirmation(plan.plan.confirm.restore_in_place, &volume.name, typed)?;
    }
    let work = Request::RestoreInPlace {
        source: point.source,
        safety_id: SnapshotId::generate(desk.cx.env()),
        staged_id: VolumeId::generate(desk.cx.env()),
    };
    let (snapshot_id, backup_id) = work.reads();
    let draft = Draft {
        action: Action::RestoreInPlace,
        request: work,
        pool_id: volume.pool_id,
        project_id: volume.project_id,
        volume: Some((volume.id, volume.name.clone())),
        snapshot_id,
        backup_id,
        instance: None,
        image: None,
        instance_snapshot_id: None,
    };
    desk.lock(volume).await?;
    desk.accept(draft, &plan.plan, allowed).await
}
