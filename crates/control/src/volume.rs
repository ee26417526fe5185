//! Volumes.

use serde::Serialize;
use stillpoint_model::account::Actor;
use stillpoint_model::compression::CompressionLevel;
use stillpoint_model::guard::{Action, Allowed};
use stillpoint_model::id::{ImageId, VolumeId};
use stillpoint_model::keep_for::KeepFor;
use stillpoint_model::name::Name;
use stillpoint_model::naming::{
    check_confirmation, check_volume_size, first_free, generated, name_taken,
};
use stillpoint_model::operation::Operation;
use stillpoint_model::place::Pool;
use stillpoint_model::plan::{Caps, Confirmations, PlanVersion};
use stillpoint_model::refusal::{ProblemCode, Refusal};
use stillpoint_model::saga::Request;
use stillpoint_model::task::ImageFormat;
use stillpoint_model::volume::{Fill, Volume, VolumeOrigin, VolumeRole, VolumeState};
use stillpoint_model::{ByteCount, Timestamp};
use stillpoint_store::Conn;
use stillpoint_store::upload::{upload_by_id, upload_update_operation};
use stillpoint_store::volume::{
    CountedVolume, volume_by_name, volume_insert, volume_list, volume_names_like,
};
use uuid::Uuid;

use crate::admission::{Accepted, Ask, Desk, Draft};
use crate::error::Result;
use crate::item::name::no_generated;
use crate::reference::{own_volume, own_volume_counted, pool_for};
use crate::view::Surroundings;
use crate::{Answer, Change, Context, Cursor, ListQuery, Page, Permission, Reference};

mod attach;
mod clone;
mod edit;
mod from_image;
mod options;

pub(crate) use attach::{admit_attach, admit_detach};
pub use attach::{attach, detach};
pub(crate) use clone::admit_clone;
pub use clone::clone;
pub use edit::{rename, set_attachment};
pub(crate) use from_image::admit_from_image;
pub use from_image::{VolumeFromImage, create_from_image};
pub use options::{VolumeOptions, options};

/// What may be done with a volume.
const ACTIONS: [Action; 9] = [
    Action::SnapshotCreate,
    Action::BackupCreate,
    Action::RestoreInPlace,
    Action::VolumeClone,
    Action::VolumeResize,
    Action::VolumeRename,
    Action::VolumeDelete,
    Action::VolumeAttach,
    Action::VolumeDetach,
];

/// A volume, and what goes with it.
#[derive(Clone, Debug)]
pub struct VolumeView {
    /// The volume.
    pub volume: Volume,
    /// How the filling of it is; none when it is whole.
    pub fill: Option<Fill>,
    /// What holds it.
    pub active_operation: Option<Operation>,
    /// Snapshots that count toward the cap.
    pub snapshots: u32,
    /// Backups that count toward the cap.
    pub backups: u32,
    /// How many may be kept.
    pub caps: Caps,
    /// What a person does before something is lost.
    pub confirm: Confirmations,
    /// The name of its plan.
    pub plan_name: String,
    /// How hard its backups are compressed.
    pub compression_level: CompressionLevel,
    /// For how long its backups cannot be deleted; none promises nothing.
    pub keep_backups: Option<KeepFor>,
    /// The name of its pool.
    pub pool_name: Name,
    /// The name of its region.
    pub region_name: Name,
    /// What may be done with it now.
    pub permissions: Vec<Permission>,
    /// The time of the view.
    pub now: Timestamp,
}

/// Which volumes.
#[derive(Clone, Debug, Default)]
pub struct VolumeQuery {
    /// Which page.
    pub page: ListQuery,
}

/// A request for an empty volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeCreate {
    /// Its name.
    pub name: Name,
    /// Its size: whole MiB.
    pub size: ByteCount,
    /// Root or data.
    pub role: VolumeRole,
    /// Its pool; the first one when absent.
    pub pool: Option<Reference>,
}

/// A request for a volume made of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeImport {
    /// Its name.
    pub name: Name,
    /// Root or data.
    pub role: VolumeRole,
    /// The upload, which must be the account's own, complete and unused.
    pub upload: Uuid,
    /// What it is. It is never guessed.
    pub format: ImageFormat,
    /// Its pool; the first one when absent.
    pub pool: Option<Reference>,
}

async fn view(
    cx: &Context,
    conn: &mut Conn,
    around: &Surroundings,
    (volume, counts): CountedVolume,
) -> Result<VolumeView> {
    let plan = cx.plan(conn, volume.plan_id).await?;
    let places = cx.places();
    let pool = places.pool(volume.pool_id)?;
    let facts = around.volume_facts(cx, &volume, counts)?;
    let permissions =
        around.permissions(cx, &ACTIONS, &plan.plan, Some(pool.id), Some(&facts), None);
    Ok(VolumeView {
        fill: around.fill_of(&volume).cloned(),
        active_operation: around.on_volume(&volume).cloned(),
        snapshots: counts.0,
        backups: counts.1,
        caps: plan.plan.caps,
        confirm: plan.plan.confirm,
        plan_name: plan.plan.name.clone(),
        compression_level: plan.plan.compression_level,
        keep_backups: plan.plan.keep_backups_s,
        pool_name: pool.name.clone(),
        region_name: places.region_of(pool)?.name.clone(),
        permissions,
        now: around.now,
        volume,
    })
}

/// A page of the account's volumes, newest first.
pub async fn list(cx: &Context, actor: &Actor, query: &VolumeQuery) -> Result<Page<VolumeView>> {
    let mut conn = cx.db().read().await?;
    let page = query.page.key();
    let rows = volume_list(&mut conn, actor.account_id, actor.project_id, &page).await?;
    let around = Surroundings::of_account(cx, &mut conn, actor.account_id).await?;
    let page = Page::of(rows, &query.page, |(volume, _)| {
        Cursor::after(volume.created_at, volume.id.as_uuid())
    });
    let mut items = Vec::with_capacity(page.items.len());
    for row in page.items {
        items.push(view(cx, &mut conn, &around, row).await?);
    }
    Ok(Page {
        items,
        next: page.next,
    })
}

/// One volume.
pub async fn show(cx: &Context, actor: &Actor, volume: &Reference) -> Result<VolumeView> {
    let mut conn = cx.db().read().await?;
    let counted = own_volume_counted(&mut conn, actor, volume).await?;
    show_row(cx, &mut conn, counted).await
}

async fn show_row(cx: &Context, conn: &mut Conn, counted: CountedVolume) -> Result<VolumeView> {
    let volume = &counted.0;
    let around = Surroundings::of_one(cx, conn, volume.account_id, Some(volume), None).await?;
    view(cx, conn, &around, counted).await
}

/// A volume that is to be made.
pub(crate) struct NewVolume {
    pub(crate) id: VolumeId,
    pub(crate) name: Name,
    pub(crate) size: ByteCount,
    pub(crate) role: VolumeRole,
    pub(crate) origin: Option<VolumeOrigin>,
}

impl Desk<'_> {
    /// The given name, if it is free among the project's volumes, or a generated one that is.
    pub(crate) async fn volume_name(&mut self, given: Option<Name>, prefix: &str) -> Result<Name> {
        let project_id = self.actor.project_id;
        if let Some(name) = given {
            return if volume_by_name(self.tx, project_id, &name).await?.is_none() {
                Ok(name)
            } else {
                Err(name_taken("volume", &name).into())
            };
        }
        let first = generated(prefix, self.now).ok_or_else(no_generated)?;
        let taken = volume_names_like(self.tx, project_id, &first).await?;
        first_free(first, &taken).ok_or_else(no_generated)
    }

    /// Writes the row of a volume that is to be made, locked by its operation, and accepts.
    pub(crate) async fn accept_new_volume(
        self,
        action: Action,
        new: NewVolume,
        pool: &Pool,
        plan: &PlanVersion,
        draft: (Request, Allowed),
    ) -> Result<Accepted> {
        self.accept_volume(action, new, (pool, plan), draft, None)
            .await
    }

    /// The same of a volume that may start as an image.
    async fn accept_volume(
        self,
        action: Action,
        new: NewVolume,
        (pool, plan): (&Pool, &PlanVersion),
        draft: (Request, Allowed),
        image: Option<(ImageId, Name)>,
    ) -> Result<Accepted> {
        let volume = self.new_volume(new, pool, plan);
        volume_insert(self.tx, &volume).await?;
        let (snapshot_id, backup_id) = draft.0.reads();
        let project_id = self.actor.project_id;
        let accepted = Draft {
            action,
            request: draft.0,
            pool_id: pool.id,
            project_id,
            volume: Some((volume.id, volume.name)),
            snapshot_id,
            backup_id,
            instance: None,
            image,
            instance_snapshot_id: None,
        };
        self.accept(accepted, &plan.plan, draft.1).await
    }

    /// The row of a volume that is to be made, held by this operation.
    pub(crate) fn new_volume(&self, new: NewVolume, pool: &Pool, plan: &PlanVersion) -> Volume {
        Volume {
            id: new.id,
            account_id: self.actor.account_id,
            project_id: self.actor.project_id,
            pool_id: pool.id,
            plan_id: plan.id,
            name: new.name,
            role: new.role,
            size: new.size,
            state: VolumeState::Creating,
            attachment: None,
            origin: new.origin,
            filling: None,
            active_operation: Some(self.operation_id),
            cooldown_until: None,
            tip: None,
            used: ByteCount::ZERO,
            failure: None,
            created_at: self.now,
            version: 1,
        }
    }
}

/// Makes an empty volume.
pub async fn create(
    cx: &Context,
    actor: &Actor,
    request: VolumeCreate,
    change: &Change,
) -> Result<Answer> {
    check_volume_size(request.size, cx.settings().max_volume_size)?;
    let ask = Ask::new(cx, actor, change, "volume_create", &request)?;
    ask.admit(move |desk| Box::pin(admit_create(desk, request)))
        .await
}

/// Decides on an empty volume.
pub(crate) async fn admit_create(mut desk: Desk<'_>, request: VolumeCreate) -> Result<Accepted> {
    let places = desk.cx.places();
    let pool = pool_for(&places, request.pool.as_ref())?;
    let plan = desk.plan(None).await?;
    let allowed = desk
        .can(Action::VolumeCreate, &plan.plan, pool, None, None)
        .await?;
    let new = NewVolume {
        id: VolumeId::generate(desk.cx.env()),
        name: desk.volume_name(Some(request.name), "volume").await?,
        size: request.size,
        role: request.role,
        origin: None,
    };
    let work = Request::VolumeCreate { size: request.size };
    desk.accept_new_volume(Action::VolumeCreate, new, pool, &plan, (work, allowed))
        .await
}

/// Makes a volume from an upload.
pub async fn import(
    cx: &Context,
    actor: &Actor,
    request: VolumeImport,
    change: &Change,
) -> Result<Answer> {
    let ask = Ask::new(cx, actor, change, "volume_import", &request)?;
    ask.admit(move |desk| Box::pin(admit_import(desk, request)))
        .await
}

/// Decides on a volume made of an upload.
pub(crate) async fn admit_import(mut desk: Desk<'_>, request: VolumeImport) -> Result<Accepted> {
    let places = desk.cx.places();
    let pool = pool_for(&places, request.pool.as_ref())?;
    check_upload(&mut desk, request.upload).await?;
    let plan = desk.plan(None).await?;
    let allowed = desk
        .can(Action::VolumeImport, &plan.plan, pool, None, None)
        .await?;
    let new = NewVolume {
        id: VolumeId::generate(desk.cx.env()),
        name: desk.volume_name(Some(request.name), "volume").await?,
        // Known once the image was read.
        size: ByteCount::ZERO,
        role: request.role,
        origin: Some(VolumeOrigin::Upload),
    };
    let work = Request::VolumeImport {
        upload: request.upload,
        format: request.format,
        max_size: desk.cx.settings().max_volume_size,
    };
    upload_update_operation(desk.tx, request.upload, desk.operation_id).await?;
    desk.accept_new_volume(Action::VolumeImport, new, pool, &plan, (work, allowed))
        .await
}

/// Whether an upload is the account's own, complete and unused.
pub(crate) async fn check_upload(desk: &mut Desk<'_>, id: Uuid) -> Result<()> {
    let account_id = desk.actor.account_id;
    let found = upload_by_id(desk.tx, id)
        .await?
        .filter(|u| u.account_id == account_id);
    let Some(upload) = found else {
        return Err(Refusal::not_found("upload").at("/upload/id").into());
    };
    let text = match (upload.size, upload.operation_id) {
        (Some(_), None) => return Ok(()),
        (None, _) => "The upload did not arrive whole yet.",
        (_, Some(_)) => "The upload was used already. Send it again.",
    };
    Err(Refusal::new(ProblemCode::InvalidRequest, text)
        .at("/upload/id")
        .into())
}

/// Makes a volume larger.
pub async fn resize(
    cx: &Context,
    actor: &Actor,
    volume: &Reference,
    size: ByteCount,
    change: &Change,
) -> Result<Answer> {
    check_volume_size(size, cx.settings().max_volume_size)?;
    let ask = Ask::new(cx, actor, change, "volume_resize", &(volume, size))?;
    let volume = volume.clone();
    ask.admit(move |desk| Box::pin(admit_resize(desk, volume, size)))
        .await
}

/// Decides on a larger size.
pub(crate) async fn admit_resize(
    mut desk: Desk<'_>,
    volume: Reference,
    size: ByteCount,
) -> Result<Accepted> {
    let volume = own_volume(desk.tx, &desk.actor, &volume).await?;
    let (plan, allowed) = decide(&mut desk, Action::VolumeResize, &volume).await?;
    if size <= volume.size {
        let text = format!("A volume only grows; this one has {}.", volume.size);
        let refusal = Refusal::new(ProblemCode::InvalidRequest, text);
        return Err(refusal.at("/size_bytes").into());
    }
    let work = Request::VolumeResize { size };
    accept_change(desk, Action::VolumeResize, volume, &plan, (work, allowed)).await
}

/// Deletes a volume. `confirm` is its name, typed, where the plan asks for that.
pub async fn delete(
    cx: &Context,
    actor: &Actor,
    volume: &Reference,
    confirm: Option<&str>,
    change: &Change,
) -> Result<Answer> {
    let ask = Ask::new(cx, actor, change, "volume_delete", &(volume, confirm))?;
    let (volume, confirm) = (volume.clone(), confirm.map(str::to_owned));
    ask.admit(move |desk| Box::pin(admit_delete(desk, volume, confirm)))
        .await
}

/// Decides on the end of a volume.
pub(crate) async fn admit_delete(
    mut desk: Desk<'_>,
    volume: Reference,
    confirm: Option<String>,
) -> Result<Accepted> {
    let mut volume = own_volume(desk.tx, &desk.actor, &volume).await?;
    let (plan, allowed) = decide(&mut desk, Action::VolumeDelete, &volume).await?;
    if !desk.change.dry_run || confirm.is_some() {
        check_confirmation(plan.plan.confirm.delete, &volume.name, confirm.as_deref())?;
    }
    volume.state = VolumeState::Deleting;
    let draft = (Request::VolumeDelete, allowed);
    accept_change(desk, Action::VolumeDelete, volume, &plan, draft).await
}

/// What the guard says of a change of a volume.
async fn decide(
    desk: &mut Desk<'_>,
    action: Action,
    volume: &Volume,
) -> Result<(std::sync::Arc<PlanVersion>, Allowed)> {
    desk.check_version(volume.version)?;
    let (plan, places) = (desk.plan(Some(volume)).await?, desk.cx.places());
    let facts = desk.volume_facts(volume).await?;
    let pool = places.pool(volume.pool_id)?;
    let allowed = desk
        .can(action, &plan.plan, pool, Some(facts), None)
        .await?;
    Ok((plan, allowed))
}

/// Locks a volume for what was decided about it, and accepts.
async fn accept_change(
    mut desk: Desk<'_>,
    action: Action,
    volume: Volume,
    plan: &PlanVersion,
    (request, allowed): (Request, Allowed),
) -> Result<Accepted> {
    let draft = Draft {
        action,
        request,
        pool_id: volume.pool_id,
        project_id: volume.project_id,
        volume: Some((volume.id, volume.name.clone())),
        snapshot_id: None,
        backup_id: None,
        instance: None,
        image: None,
        instance_snapshot_id: None,
    };
    desk.lock(volume).await?;
    desk.accept(draft, &plan.plan, allowed).await
}
